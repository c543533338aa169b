//! Why two nodes do not talk: the named errors of an introduction, and what of them is told.

use super::limits::INTRODUCTIONS_MAX;
use crate::ring::HostId;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// Why a connection was not made, or not let in. Each names whose fault it is; the node at fault
/// hears it as [`IntroductionError::Refused`] with the same words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IntroductionError {
    /// The network did not carry it: nobody listens, no route, the connection broke.
    Network(String),
    /// Nothing came, or not enough, for so long: a host that is cut off or frozen.
    Stalled(Duration),
    /// The connection ended in the middle of the introduction.
    Cut,
    /// What came is no introduction of a node: another program, or garbage.
    NotAPeer,
    /// The head announces more than an introduction can have.
    Oversized {
        /// As announced.
        bytes: usize,
    },
    /// The bytes are damaged, or nobody's.
    Garbled(&'static str),
    /// The other node speaks another version.
    Version {
        /// This node's.
        ours: u16,
        /// The other's.
        theirs: u16,
    },
    /// The other node belongs to a cluster of another name.
    ClusterName {
        /// This node's.
        ours: String,
        /// The other's.
        theirs: String,
    },
    /// The other node belongs to another cluster that has the same name.
    AnotherCluster {
        /// This node's.
        ours: u128,
        /// The other's.
        theirs: u128,
    },
    /// The other node is this node, as a seed that names itself.
    Itself,
    /// The other node has the host id of one that is connected, from another address.
    HostIdInUse {
        /// The host id that both claim.
        host_id: HostId,
        /// Where the one that is connected is reached.
        holder: SocketAddr,
    },
    /// The other node says that it is reached where another one is.
    AddressInUse {
        /// The address that both claim.
        address: SocketAddr,
        /// The node that is connected and has it.
        holder: HostId,
    },
    /// The other node has been started anew since this life of it began.
    Outdated {
        /// The newest start that is known.
        newest: u64,
        /// The one that was announced.
        announced: u64,
    },
    /// This node has no such start as the other remembers of it: its data directory is an older copy.
    Overtaken {
        /// The number of that start.
        remembered: u64,
    },
    /// What has to be remembered of the other node cannot be, as the text says.
    NotRemembered(String),
    /// The node was removed from the cluster.
    Removed(HostId),
    /// Another node than the one that was called is there.
    AnotherHost {
        /// Who was called.
        expected: HostId,
        /// Who answered.
        found: HostId,
    },
    /// The shard that was asked for does not exist.
    NoSuchShard {
        /// The shard.
        shard: u16,
        /// How many there are.
        shard_count: u16,
    },
    /// The two shards are connected already, or about to be by a dial of the other.
    AlreadyConnected,
    /// Too many introductions at a time, or a shard with too much to do.
    Busy,
    /// The other node let this one not in: the fault is here, or it is busy.
    Refused {
        /// Why.
        code: RefusalCode,
        /// Why, in the other node's words.
        text: String,
    },
}

/// The reason of a refusal, as it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalCode {
    /// [`IntroductionError::Version`].
    Version,
    /// [`IntroductionError::ClusterName`].
    ClusterName,
    /// [`IntroductionError::AnotherCluster`].
    AnotherCluster,
    /// [`IntroductionError::Itself`].
    Itself,
    /// [`IntroductionError::HostIdInUse`].
    HostIdInUse,
    /// [`IntroductionError::AddressInUse`].
    AddressInUse,
    /// [`IntroductionError::Outdated`].
    Outdated,
    /// [`IntroductionError::Overtaken`].
    Overtaken,
    /// [`IntroductionError::Removed`].
    Removed,
    /// [`IntroductionError::NoSuchShard`].
    NoSuchShard,
    /// [`IntroductionError::AlreadyConnected`].
    AlreadyConnected,
    /// [`IntroductionError::Busy`].
    Busy,
    /// [`IntroductionError::Garbled`], or a reason that this version does not know.
    Other,
}

impl RefusalCode {
    const ALL: [RefusalCode; 13] = [
        RefusalCode::Other,
        RefusalCode::Version,
        RefusalCode::ClusterName,
        RefusalCode::AnotherCluster,
        RefusalCode::Itself,
        RefusalCode::HostIdInUse,
        RefusalCode::AddressInUse,
        RefusalCode::Outdated,
        RefusalCode::Removed,
        RefusalCode::NoSuchShard,
        RefusalCode::AlreadyConnected,
        RefusalCode::Busy,
        RefusalCode::Overtaken,
    ];

    pub(super) fn byte(self) -> u8 {
        let position = RefusalCode::ALL.iter().position(|code| *code == self);
        u8::try_from(position.expect("all codes are listed")).expect("there are 13 codes")
    }

    pub(super) fn from_byte(byte: u8) -> RefusalCode {
        RefusalCode::ALL.get(usize::from(byte)).copied().unwrap_or(RefusalCode::Other)
    }
}

impl IntroductionError {
    /// What to tell the other end, if it is worth an answer: strangers and broken connections
    /// are not.
    pub(super) fn refusal(&self) -> Option<RefusalCode> {
        Some(match self {
            IntroductionError::Version { .. } => RefusalCode::Version,
            IntroductionError::ClusterName { .. } => RefusalCode::ClusterName,
            IntroductionError::AnotherCluster { .. } => RefusalCode::AnotherCluster,
            IntroductionError::Itself => RefusalCode::Itself,
            IntroductionError::HostIdInUse { .. } => RefusalCode::HostIdInUse,
            IntroductionError::AddressInUse { .. } => RefusalCode::AddressInUse,
            IntroductionError::Outdated { .. } => RefusalCode::Outdated,
            IntroductionError::Overtaken { .. } => RefusalCode::Overtaken,
            IntroductionError::Removed(_) => RefusalCode::Removed,
            IntroductionError::NoSuchShard { .. } => RefusalCode::NoSuchShard,
            IntroductionError::AlreadyConnected => RefusalCode::AlreadyConnected,
            IntroductionError::Busy => RefusalCode::Busy,
            IntroductionError::Garbled(_)
            | IntroductionError::Oversized { .. }
            | IntroductionError::NotRemembered(_) => RefusalCode::Other,
            IntroductionError::Network(_)
            | IntroductionError::Stalled(_)
            | IntroductionError::Cut
            | IntroductionError::NotAPeer
            | IntroductionError::AnotherHost { .. }
            | IntroductionError::Refused { .. } => return None,
        })
    }

    /// Whether trying again can help without anybody changing something: a log line for these is
    /// worth less than for the others.
    pub fn is_passing(&self) -> bool {
        match self {
            IntroductionError::Network(_)
            | IntroductionError::Stalled(_)
            | IntroductionError::Cut
            | IntroductionError::AlreadyConnected
            | IntroductionError::Busy => true,
            IntroductionError::Refused { code, .. } => {
                matches!(code, RefusalCode::AlreadyConnected | RefusalCode::Busy)
            }
            _ => false,
        }
    }
}

impl From<std::io::Error> for IntroductionError {
    fn from(error: std::io::Error) -> IntroductionError {
        match error.kind() {
            std::io::ErrorKind::UnexpectedEof => IntroductionError::Cut,
            _ => IntroductionError::Network(error.to_string()),
        }
    }
}

impl fmt::Display for IntroductionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(error) => write!(f, "{error}"),
            Self::Stalled(time) => write!(f, "no introduction within {time:?}"),
            Self::Cut => f.write_str("the connection ended in the middle of the introduction"),
            Self::NotAPeer => f.write_str("what came is not the introduction of a node"),
            Self::Oversized { bytes } => write!(f, "an introduction of {bytes} bytes is too long"),
            Self::Garbled(what) => write!(f, "the introduction is garbled: {what}"),
            Self::Version { ours, theirs } => {
                write!(f, "nodes speak version {ours} here, not version {theirs}")
            }
            Self::ClusterName { ours, theirs } => {
                write!(f, "the cluster is named '{ours}' here, not '{theirs}'")
            }
            Self::AnotherCluster { ours, theirs } => write!(
                f,
                "this is cluster {ours:032x}; the node belongs to cluster {theirs:032x}, which \
                 has the same name"
            ),
            Self::Itself => f.write_str("is this node"),
            Self::HostIdInUse { host_id, holder } => write!(
                f,
                "host id {host_id} is connected from {holder}: two nodes run on copies of one data \
                 directory"
            ),
            Self::AddressInUse { address, holder } => write!(
                f,
                "address {address} is that of the node {holder}, which is connected: two nodes \
                 announce one address"
            ),
            Self::Outdated { newest, announced } => write!(
                f,
                "the node was started again since (incarnation {newest}, not {announced})"
            ),
            Self::Overtaken { remembered } => write!(
                f,
                "the data directory of the node is an older copy, which knows nothing of start \
                 {remembered}"
            ),
            Self::NotRemembered(reason) => {
                write!(f, "the start of the node cannot be remembered: {reason}")
            }
            Self::Removed(host_id) => {
                write!(f, "the node {host_id} was removed from the cluster")
            }
            Self::AnotherHost { expected, found } => {
                write!(f, "the node {found} is there, not the node {expected}")
            }
            Self::NoSuchShard { shard, shard_count } => {
                write!(f, "there is no shard {shard}: the node has {shard_count}")
            }
            Self::AlreadyConnected => {
                f.write_str("the two shards are connected already, or about to be")
            }
            Self::Busy => write!(
                f,
                "too much to do: {INTRODUCTIONS_MAX} introductions wait, or the shard does"
            ),
            Self::Refused { text, .. } => write!(f, "refused by the other node: {text}"),
        }
    }
}

impl std::error::Error for IntroductionError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_codes_go_through_their_bytes() {
        for code in RefusalCode::ALL {
            assert_eq!(RefusalCode::from_byte(code.byte()), code);
        }
        assert_eq!(RefusalCode::from_byte(200), RefusalCode::Other);
    }
}
