//! Whether a node may leave the cluster or be removed from it: decided by the leader of the metadata
//! group, from the ring as it is and what is known of who lives.
//!
//! Who lives leaves by itself, and goes on answering until others hold what it held. Who is dead is
//! removed, on an operator's word that it does not come back. Either is a plan whose target is the
//! ring without the node; one plan is carried out at a time. What is refused here would
//! end with fewer copies than a keyspace wants, or with two nodes that both think they are right.
//!
//! A pure function; what a plan is: `docs/decisions/0014-the-ring-changes-by-a-plan.md`.

use crate::ring::{HostId, Node, Ring};
use model::schema::Replication;
use std::fmt;

/// What the leader knows.
#[derive(Clone, Copy, Debug)]
pub struct Cluster<'a> {
    /// The nodes that are members.
    pub ring: &'a Ring,
    /// The node that comes or goes now by a plan, if there is one.
    pub changing: Option<HostId>,
    /// The users' keyspaces and how they are copied, in the order of the names.
    pub keyspaces: &'a [(&'a str, &'a Replication)],
    /// A keyspace some range of which has no majority of live replicas, if there is one: nobody
    /// leads such a range, so it cannot move.
    pub leaderless: Option<&'a str>,
}

/// Why a node goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// It lives, and was told to.
    Leaves,
    /// It is said to be dead.
    IsRemoved {
        /// It answers all the same.
        is_live: bool,
    },
}

/// Why a node may not go. The text goes to the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such member.
    NotMember(HostId),
    /// It lives, and has to leave by itself.
    Alive(HostId),
    /// It is the only one.
    LastNode,
    /// Another node comes or goes.
    Busy(HostId),
    /// A range of the keyspace has no majority of live replicas, which alone could move it.
    NoMajority {
        /// The keyspace.
        keyspace: String,
    },
    /// A keyspace would have fewer copies than it wants.
    TooFewLeft {
        /// The keyspace.
        keyspace: String,
        /// The data centre, if the setting names its own number for each.
        data_centre: Option<String>,
        /// How many copies it wants.
        wanted: u32,
        /// How many nodes would be left for them.
        left: u32,
    },
}

impl Refusal {
    /// Whether it is worth asking again without anybody changing something.
    pub fn is_passing(&self) -> bool {
        matches!(self, Refusal::Busy(_))
    }
}

/// Decides whether a node may go. Asking again while it goes is answered as the first time.
pub fn judge(host: HostId, departure: Departure, cluster: &Cluster) -> Result<(), Refusal> {
    let index = cluster.ring.index_of(host).ok_or(Refusal::NotMember(host))?;
    if departure == (Departure::IsRemoved { is_live: true }) {
        return Err(Refusal::Alive(host));
    }
    if cluster.ring.members().count() == 1 {
        return Err(Refusal::LastNode);
    }
    if let Some(other) = cluster.changing.filter(|other| *other != host) {
        return Err(Refusal::Busy(other));
    }
    let leaving = cluster.ring.node(index);
    for (keyspace, replication) in cluster.keyspaces {
        judge_keyspace(keyspace, replication, leaving, cluster.ring)?;
    }
    if let Some(keyspace) = cluster.leaderless.filter(|_| cluster.changing != Some(host)) {
        return Err(Refusal::NoMajority { keyspace: keyspace.to_owned() });
    }
    Ok(())
}

/// Whether enough nodes are left for a keyspace's copies. Copies in data centres that lose no node
/// are as they were.
fn judge_keyspace(
    keyspace: &str,
    replication: &Replication,
    leaving: &Node,
    ring: &Ring,
) -> Result<(), Refusal> {
    let (data_centre, wanted) = match replication {
        Replication::Local => return Ok(()),
        Replication::Simple { factor } => (None, *factor),
        Replication::NetworkTopology { factors } => {
            let centre = &*leaving.data_centre;
            (Some(centre), factors.get(centre).copied().unwrap_or(0))
        }
    };
    let stays = |node: &&Node| {
        node.host_id != leaving.host_id
            && data_centre.is_none_or(|centre| *node.data_centre == *centre)
    };
    let left = ring.members().filter(stays).count() as u32;
    if left >= wanted {
        return Ok(());
    }
    let (keyspace, data_centre) = (keyspace.to_owned(), data_centre.map(str::to_owned));
    Err(Refusal::TooFewLeft { keyspace, data_centre, wanted, left })
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NotMember(host) => write!(f, "there is no node {host}"),
            Refusal::Alive(host) => {
                write!(
                    f,
                    "the node {host} lives: have it leave by `tethys decommission`, or stop it first"
                )
            }
            Refusal::LastNode => f.write_str("the last node cannot go: stop it instead"),
            Refusal::Busy(other) => write!(f, "the node {other} is joining or leaving"),
            Refusal::NoMajority { keyspace } => write!(
                f,
                "keyspace {keyspace} has data of whose replicas no majority lives: bring their nodes \
                 back first"
            ),
            Refusal::TooFewLeft { keyspace, data_centre, wanted, left } => {
                let place = data_centre.as_ref().map(|centre| format!(" in data centre {centre}"));
                write!(
                    f,
                    "keyspace {keyspace} wants {wanted} copies{}, and {left} of its nodes would stay: \
                     add a node first",
                    place.unwrap_or_default()
                )
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
    use std::collections::BTreeMap;

    /// `node HOST dc=…` adds a node, `keyspace NAME simple=N | CENTRE=N …` a keyspace, `changing
    /// HOST` says that a plan is under way, `leaderless NAME` that a keyspace has too few live
    /// replicas; `leave HOST` and `remove HOST [alive]` ask.
    #[derive(Default)]
    struct Script {
        members: Vec<Node>,
        keyspaces: BTreeMap<String, Replication>,
        changing: Option<HostId>,
        leaderless: Option<String>,
    }

    impl Script {
        fn ask(&self, host: u128, departure: Departure) -> Result<String, String> {
            let ring = Ring::new(self.members.clone()).map_err(|error| error.to_string())?;
            let keyspaces: Vec<(&str, &Replication)> =
                self.keyspaces.iter().map(|(name, replication)| (&**name, replication)).collect();
            let cluster = Cluster {
                ring: &ring,
                changing: self.changing,
                keyspaces: &keyspaces,
                leaderless: self.leaderless.as_deref(),
            };
            Ok(match judge(HostId(host), departure, &cluster) {
                Ok(()) => "it may go".to_owned(),
                Err(refusal) if refusal.is_passing() => format!("{refusal}; ask again"),
                Err(refusal) => refusal.to_string(),
            })
        }
    }

    fn replication(command: &Command) -> Result<Replication, String> {
        let count = |text: &str| text.parse().map_err(|_| format!("{text} is no number"));
        if let Some(factor) = command.get("simple") {
            return Ok(Replication::Simple { factor: count(factor)? });
        }
        let mut factors = BTreeMap::new();
        for centre in ["dc1", "dc2"] {
            if let Some(factor) = command.get(centre) {
                factors.insert(centre.into(), count(factor)?);
            }
        }
        Ok(Replication::NetworkTopology { factors })
    }

    impl Interpreter for Script {
        fn run(&mut self, command: &Command) -> Result<String, String> {
            match command.name {
                "node" => {
                    let host = command.word::<u128>(0)?;
                    let centre = command.get("dc").unwrap_or("dc1");
                    self.members.push(node(host, centre, "r1", &[host as i64]));
                }
                "keyspace" => {
                    self.keyspaces.insert(command.word(0)?, replication(command)?);
                }
                "leaderless" => self.leaderless = Some(command.word(0)?),
                "changing" => self.changing = Some(HostId(command.word(0)?)),
                "leave" => return self.ask(command.word(0)?, Departure::Leaves),
                "remove" => {
                    let is_live = command.words.contains(&"alive");
                    return self.ask(command.word(0)?, Departure::IsRemoved { is_live });
                }
                other => return Err(format!("{other} is no command")),
            }
            Ok(String::new())
        }
    }

    #[test]
    fn nodes_go_one_at_a_time_and_leave_enough_behind() {
        golden::run_folder("leaving", Script::default);
    }
}
