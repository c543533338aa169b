//! Whether a node may join the cluster: decided by the leader of the metadata group, from what the
//! node says of itself and the ring as it is.
//!
//! A node that asks again, since the answer was lost or it was killed before it had it, is told the
//! same: who is in the ring already, or comes by a plan, goes on with the tokens it was given. One
//! node joins at a time. Where there are keyspaces it comes by a plan, and is in the ring when it
//! holds its part (docs/decisions/0014-the-ring-changes-by-a-plan.md). One that takes the place of a
//! dead node gets its tokens.
//!
//! A pure function. Names of clusters, their ids and the version of what is said between nodes are
//! compared earlier, when a connection is introduced (`peer`).

use crate::consensus::MEMBERS_MAX;
use crate::ring::{HostId, Node, Ring};
use std::fmt;
use std::net::SocketAddr;

/// How far a node's clock may be from the leader's, in microseconds. Timestamps further ahead than
/// this are treated as from the future, and those behind would lose against older writes.
pub const CLOCK_DIFFERENCE_MICROS_MAX: u64 = 5_000_000;

/// Most tokens a node may ask for.
pub const TOKENS_PER_NODE_MAX: usize = 1_024;

/// What a node that asks says of itself. Its record in the ring has no tokens yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applicant {
    /// Its record, without tokens.
    pub node: Node,
    /// How its keys become tokens.
    pub partitioner: String,
    /// How many tokens it wants.
    pub token_count: usize,
    /// What its clock shows, in microseconds since 1970.
    pub clock_micros: i64,
    /// The dead node whose place it takes.
    pub replaces: Option<HostId>,
}

/// What the leader knows.
#[derive(Clone, Copy, Debug)]
pub struct Cluster<'a> {
    /// The nodes that are members.
    pub ring: &'a Ring,
    /// How keys become tokens here.
    pub partitioner: &'a str,
    /// The node that is joining now, or comes or goes by a plan.
    pub changing: Option<HostId>,
    /// What the leader's clock shows, in microseconds since 1970.
    pub clock_micros: i64,
    /// Whether the node answers whose place is to be taken.
    pub is_replaced_live: bool,
    /// A keyspace some range of which has no majority of live replicas, if there is one: nobody
    /// leads such a range, so a dead replica of it cannot be replaced.
    pub leaderless: Option<&'a str>,
}

/// A node that may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// It gets tokens and joins.
    Joins,
    /// It is a member: it was given its tokens before.
    IsMember,
}

/// Why a node may not join. The text goes to its operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its keys become other tokens.
    Partitioner {
        /// The cluster's.
        ours: String,
        /// The node's.
        theirs: String,
    },
    /// Its clock is wrong, or the leader's is.
    Clock {
        /// How far it is ahead of the leader's; negative when it is behind.
        ahead_micros: i64,
    },
    /// Another member has one of its addresses.
    AddressInUse {
        /// The address.
        address: SocketAddr,
        /// Whose it is.
        holder: HostId,
    },
    /// Nobody could connect to one of its addresses.
    AddressOpen(SocketAddr),
    /// It asks for no tokens, or for too many.
    TokenCount(usize),
    /// Another node is joining, or leaving.
    Busy(HostId),
    /// The node whose place it is to take is no member.
    NotMember(HostId),
    /// The node whose place it is to take lives.
    Alive(HostId),
    /// It stands elsewhere than the node whose place it is to take, whose copies would then be in
    /// another rack or data centre.
    OtherPlace {
        /// The rack of the node that it is to replace.
        rack: String,
        /// The data centre of that.
        data_centre: String,
    },
    /// A range of the keyspace has no majority of live replicas, which alone could fill another.
    NoMajority(String),
    /// All members take part in the metadata, and there are as many as may.
    Full,
}

impl Refusal {
    /// Whether the node is to wait and ask again. That no majority lives may be news of a moment: of
    /// nodes that were cut off or have just been started.
    pub fn is_passing(&self) -> bool {
        matches!(self, Refusal::Busy(_) | Refusal::NoMajority(_))
    }
}

/// Decides about a node that asks to join.
pub fn judge(applicant: &Applicant, cluster: &Cluster) -> Result<Admitted, Refusal> {
    judge_alone(applicant, cluster)?;
    let us = applicant.node.host_id;
    // Who takes the place of a dead node may have its addresses.
    let others = cluster
        .ring
        .nodes()
        .iter()
        .filter(|other| other.host_id != us && applicant.replaces != Some(other.host_id));
    for other in others {
        for (theirs, holds) in [
            (applicant.node.internode_address, other.internode_address),
            (applicant.node.cql_address, other.cql_address),
        ] {
            if theirs == holds {
                return Err(Refusal::AddressInUse { address: theirs, holder: other.host_id });
            }
        }
    }
    if cluster.ring.index_of(us).is_some() {
        return Ok(Admitted::IsMember);
    }
    if cluster.ring.nodes().len() >= MEMBERS_MAX {
        return Err(Refusal::Full);
    }
    if let Some(other) = cluster.changing.filter(|other| *other != us) {
        return Err(Refusal::Busy(other));
    }
    if let Some(dead) = applicant.replaces {
        judge_replacement(applicant, dead, cluster)?;
    }
    Ok(Admitted::Joins)
}

/// What speaks against taking the place of that node.
fn judge_replacement(
    applicant: &Applicant,
    dead: HostId,
    cluster: &Cluster,
) -> Result<(), Refusal> {
    let mut members = cluster.ring.members();
    let known = members.find(|node| node.host_id == dead).ok_or(Refusal::NotMember(dead))?;
    if cluster.is_replaced_live {
        return Err(Refusal::Alive(dead));
    }
    if (&known.rack, &known.data_centre) != (&applicant.node.rack, &applicant.node.data_centre) {
        let (rack, data_centre) = (known.rack.to_string(), known.data_centre.to_string());
        return Err(Refusal::OtherPlace { rack, data_centre });
    }
    match cluster.leaderless {
        Some(keyspace) => Err(Refusal::NoMajority(keyspace.to_owned())),
        None => Ok(()),
    }
}

/// What speaks against a node whoever else there is.
fn judge_alone(applicant: &Applicant, cluster: &Cluster) -> Result<(), Refusal> {
    if applicant.partitioner != cluster.partitioner {
        let (ours, theirs) = (cluster.partitioner.to_owned(), applicant.partitioner.clone());
        return Err(Refusal::Partitioner { ours, theirs });
    }
    let ahead_micros = applicant.clock_micros.saturating_sub(cluster.clock_micros);
    if ahead_micros.unsigned_abs() > CLOCK_DIFFERENCE_MICROS_MAX {
        return Err(Refusal::Clock { ahead_micros });
    }
    for address in [applicant.node.internode_address, applicant.node.cql_address] {
        if address.ip().is_unspecified() || address.port() == 0 {
            return Err(Refusal::AddressOpen(address));
        }
    }
    if applicant.token_count == 0 || applicant.token_count > TOKENS_PER_NODE_MAX {
        return Err(Refusal::TokenCount(applicant.token_count));
    }
    Ok(())
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Partitioner { ours, theirs } => {
                write!(f, "the cluster's partitioner is {ours}, not {theirs}")
            }
            Refusal::Clock { ahead_micros } => {
                let seconds = ahead_micros.unsigned_abs() / 1_000_000;
                let side = if *ahead_micros > 0 { "ahead of" } else { "behind" };
                write!(f, "the node's clock is {seconds} s {side} the cluster's")
            }
            Refusal::AddressInUse { address, holder } => {
                write!(
                    f,
                    "address {address} is that of the node {holder}: if that is dead, this one takes its \
                     place with `--replace {holder}`"
                )
            }
            Refusal::AddressOpen(address) => {
                write!(f, "nobody can connect to {address}: the node must say where it is")
            }
            Refusal::TokenCount(count) => {
                write!(f, "a node has 1 to {TOKENS_PER_NODE_MAX} tokens, not {count}")
            }
            Refusal::Busy(other) => write!(f, "the node {other} is joining or leaving"),
            Refusal::NotMember(dead) => {
                write!(f, "there is no node {dead} whose place it could take")
            }
            Refusal::Alive(dead) => {
                write!(f, "the node {dead} lives, and its place cannot be taken: stop it first")
            }
            Refusal::OtherPlace { rack, data_centre } => write!(
                f,
                "the node whose place it is to take is in rack {rack} of data centre {data_centre}, \
                 and it has to be there as well"
            ),
            Refusal::NoMajority(keyspace) => write!(
                f,
                "keyspace {keyspace} has data of whose replicas no majority lives: bring their nodes \
                 back first"
            ),
            Refusal::Full => {
                write!(f, "the cluster has {MEMBERS_MAX} nodes, and this version takes no more")
            }
        }
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::{self, Command, Interpreter};
    use crate::ring::tests::node;

    /// A cluster: `member HOST`, which is at 127.0.0.HOST, `changing HOST`,
    /// `leaderless KEYSPACE`, `alive HOST`, and a node that asks: `ask HOST [partitioner=…]
    /// [clock=SECONDS] [tokens=N] [address=…] [cql=…] [rack=…] [replaces=HOST]`.
    #[derive(Default)]
    struct JoinScript {
        members: Vec<Node>,
        changing: Option<HostId>,
        alive: Option<HostId>,
        leaderless: Option<String>,
    }

    const NOW_MICROS: i64 = 1_800_000_000_000_000;

    impl JoinScript {
        fn ask(&self, command: &Command) -> Result<String, String> {
            let rack = command.get("rack").unwrap_or("r1");
            let mut asking = node(command.word(0)?, "dc1", rack, &[]);
            let replaces = command.get("replaces").map(str::parse).transpose();
            let replaces = replaces.map_err(|_| "no host".to_owned())?.map(HostId);
            let address = |name: &str, default: SocketAddr| match command.get(name) {
                Some(text) => text.parse().map_err(|_| format!("{text} is no address")),
                None => Ok(default),
            };
            asking.internode_address = address("address", asking.internode_address)?;
            asking.cql_address = address("cql", asking.cql_address)?;
            let number = |name: &str, default: i64| match command.get(name) {
                Some(text) => text.parse::<i64>().map_err(|error| error.to_string()),
                None => Ok(default),
            };
            let applicant = Applicant {
                node: asking,
                partitioner: command.get("partitioner").unwrap_or("Murmur3").to_owned(),
                token_count: number("tokens", 16)? as usize,
                clock_micros: NOW_MICROS
                    .saturating_add(number("clock", 0)?.saturating_mul(1_000_000)),
                replaces,
            };
            let cluster = Cluster {
                ring: &Ring::new(self.members.clone()).map_err(|error| error.to_string())?,
                partitioner: "Murmur3",
                changing: self.changing,
                clock_micros: NOW_MICROS,
                is_replaced_live: replaces.is_some() && replaces == self.alive,
                leaderless: self.leaderless.as_deref(),
            };
            Ok(match judge(&applicant, &cluster) {
                Ok(admitted) => format!("{admitted:?}"),
                Err(refusal) if refusal.is_passing() => format!("{refusal}; ask again"),
                Err(refusal) => refusal.to_string(),
            })
        }
    }

    impl Interpreter for JoinScript {
        fn run(&mut self, command: &Command) -> Result<String, String> {
            match command.name {
                "member" => {
                    let host = command.word::<u128>(0)?;
                    self.members.push(node(host, "dc1", "r1", &[host as i64]));
                }
                "changing" => self.changing = Some(HostId(command.word(0)?)),
                "alive" => self.alive = Some(HostId(command.word(0)?)),
                "leaderless" => self.leaderless = Some(command.word(0)?),
                "ask" => return self.ask(command),
                other => return Err(format!("{other} is no command")),
            }
            Ok(String::new())
        }
    }

    #[test]
    fn nodes_join_one_at_a_time_or_hear_why_not() {
        golden::run_folder("joining", JoinScript::default);
    }
}
