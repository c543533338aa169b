//! Where a request goes: which replicas of its range, in which order, or why nowhere.
//!
//! Writes are proposed, and reads at QUORUM and above answered, by the leader of the range; whoever
//! else is asked says who leads, as far as it knows. So the order is one of likelihood: the leader
//! that was heard of, then the replica that leadership comes home to (the first of the placement),
//! then the others. Reads at ONE are answered by any replica from what it has applied: by this node
//! itself if it can, else by one of its data centre; a level that is local asks no other centre.
//!
//! Too few live replicas for the level are [`Unavailable`], said before anything is sent. Nodes
//! that are believed dead are not asked: whoever is wrong about that hears of a new leader soon.
//!
//! A scan cuts its interval of tokens into [`Stretch`]es, each of which one answer covers.
//!
//! It decides and sends nothing; who is alive and who leads is told.

use crate::consistency::{self, Access, Replica, Unavailable};
use crate::range::{RangeIndex, Ranges};
use crate::ring::{NodeIndex, Ring};
use model::schema::Replication;
use model::{Consistency, Token};

/// The replicas of a range, as the node that coordinates a request knows them.
#[derive(Clone, Copy, Debug)]
pub struct RangeReplicas<'a> {
    /// The nodes.
    pub ring: &'a Ring,
    /// The setting of the keyspace.
    pub replication: &'a Replication,
    /// Those that hold the range, the preferred leader first.
    pub replicas: &'a [NodeIndex],
    /// The ring changes, and these shall hold the range: they may do so already.
    pub coming: &'a [NodeIndex],
    /// The node that asks.
    pub local: NodeIndex,
    /// Who was last heard to lead, right or wrong.
    pub leader: Option<NodeIndex>,
}

/// Whom to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destinations {
    /// Live replicas, none twice, the most promising first.
    pub nodes: Vec<NodeIndex>,
    /// Whether the range's leader alone may answer.
    pub by_leader: bool,
}

impl RangeReplicas<'_> {
    /// Whether enough replicas live for the level.
    pub fn judge(
        &self,
        access: Access,
        level: Consistency,
        is_alive: impl Fn(NodeIndex) -> bool,
    ) -> Result<(), Unavailable> {
        let replicas = self.all().map(|node| Replica {
            data_centre: &self.ring.node(node).data_centre,
            is_alive: is_alive(node),
            is_coming: self.coming.contains(&node),
        });
        consistency::judge(access, level, self.replication, self.local_centre(), replicas)
    }

    /// Whom to ask, in this order, until one answers.
    pub fn destinations(
        &self,
        access: Access,
        level: Consistency,
        is_alive: impl Fn(NodeIndex) -> bool,
    ) -> Result<Destinations, Unavailable> {
        self.judge(access, level, &is_alive)?;
        let alive = self.all().filter(|&node| is_alive(node));
        let by_leader = consistency::is_answered_by_leader(access, level);
        let nodes = if by_leader {
            let leader = self.leader.filter(|leader| self.all().any(|node| node == *leader));
            let leader = leader.filter(|&leader| is_alive(leader));
            leader.into_iter().chain(alive.filter(|&node| Some(node) != leader)).collect()
        } else {
            let local_centre = self.local_centre();
            let centre = |node: &NodeIndex| &*self.ring.node(*node).data_centre == local_centre;
            let is_asked = |node: &NodeIndex| !level.is_local() || centre(node);
            let mut nodes: Vec<NodeIndex> = alive.filter(is_asked).collect();
            // Stable: among equals the order of the placement stays.
            nodes.sort_by_key(|node| (*node != self.local, !centre(node)));
            nodes
        };
        Ok(Destinations { nodes, by_leader })
    }

    /// All that may hold the range, those that come last.
    fn all(&self) -> impl Iterator<Item = NodeIndex> + Clone {
        self.replicas.iter().chain(self.coming).copied()
    }

    fn local_centre(&self) -> &str {
        &self.ring.node(self.local).data_centre
    }
}

/// The course of asking for one answer: who was asked in vain since the last pause.
///
/// A replica that does not lead is asked once between two pauses, however often others name it; so
/// two replicas that each take the other for the leader are not asked in circles.
#[derive(Debug, Default)]
pub struct Tries {
    in_vain: Vec<NodeIndex>,
}

impl Tries {
    /// Whom to ask next; nobody when it is time to pause.
    pub fn next(&self, destinations: &Destinations) -> Option<NodeIndex> {
        destinations.nodes.iter().copied().find(|node| !self.in_vain.contains(node))
    }

    /// A replica gave no answer, and is not asked again before the next pause.
    pub fn note_in_vain(&mut self, node: NodeIndex) {
        self.in_vain.push(node);
    }

    /// After a pause everybody may be asked again.
    pub fn begin_again(&mut self) {
        self.in_vain.clear();
    }
}

/// An interval of tokens, both ends included, and what is the same for all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch<T> {
    /// Lowest token.
    pub first: Token,
    /// Highest token.
    pub last: Token,
    /// What all its ranges have in common.
    pub what: T,
}

/// Cuts `[first, last]` at the ends of ranges, and joins neighbours of which `of` says the same:
/// they can be read by one request. In order of tokens; none when `first` is above `last`.
pub fn stretches<T: PartialEq, E>(
    ranges: &Ranges,
    first: Token,
    last: Token,
    mut of: impl FnMut(RangeIndex) -> Result<T, E>,
) -> Result<Vec<Stretch<T>>, E> {
    let mut stretches: Vec<Stretch<T>> = Vec::new();
    if first > last {
        return Ok(stretches);
    }
    for index in ranges.range_of(first).0..=ranges.range_of(last).0 {
        let range = RangeIndex(index);
        let what = of(range)?;
        let end = ranges.end_token(range).min(last);
        if let Some(before) = stretches.last_mut().filter(|before| before.what == what) {
            before.last = end;
        } else {
            let first = ranges.first_token(range).max(first);
            stretches.push(Stretch { first, last: end, what });
        }
    }
    Ok(stretches)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::{self, Command, Interpreter};
    use crate::ring::tests::node;
    use std::collections::BTreeMap;

    /// `node HOST dc=…` adds a node, all of whose replicas are in the order of hosts;
    /// `ask ACCESS LEVEL from=HOST [leader=HOST] [down=HOST,…] [coming=HOST,…] [simple=N]
    /// [CENTRE=N …]`.
    #[derive(Default)]
    struct Script {
        centres: BTreeMap<u128, String>,
    }

    impl Script {
        fn ask(&self, command: &Command) -> Result<String, String> {
            let access = match command.word::<String>(0)?.as_str() {
                "read" => Access::Read,
                "write" => Access::Write,
                other => return Err(format!("{other} is no access")),
            };
            let level =
                Consistency::from_name(&command.word::<String>(1)?).ok_or("no such level")?;
            let nodes =
                self.centres.iter().map(|(host, centre)| node(*host, centre, "r", &[*host as i64]));
            let ring = Ring::new(nodes.collect()).map_err(|error| error.to_string())?;
            let index = |host: &str| {
                let host = host.parse().map_err(|_| format!("{host} is no host"))?;
                ring.index_of(crate::HostId(host)).ok_or(format!("{host} is unknown"))
            };
            let down = command.get("down").unwrap_or_default().split(',').filter(|h| !h.is_empty());
            let down = down.map(index).collect::<Result<Vec<_>, _>>()?;
            let replication = replication_of(command);
            // A token below all of them: the replicas are in the order of hosts.
            let local = index(command.get("from").unwrap_or("1"))?;
            let replicas = ring.replicas(&replication, Token(-1), local);
            let coming: Vec<NodeIndex> = match command.get("coming") {
                Some(hosts) => hosts.split(',').map(index).collect::<Result<_, _>>()?,
                None => Vec::new(),
            };
            let range = RangeReplicas {
                ring: &ring,
                replication: &replication,
                replicas: &replicas,
                coming: &coming,
                local,
                leader: command.get("leader").map(index).transpose()?,
            };
            Ok(match range.destinations(access, level, |node| !down.contains(&node)) {
                Ok(to) => {
                    let hosts = to.nodes.iter().map(|n| ring.node(*n).host_id.0.to_string());
                    let hosts = hosts.collect::<Vec<_>>().join(" ");
                    let who = if to.by_leader { "the leader of" } else { "any of" };
                    format!("{who} {hosts}")
                }
                Err(error) => format!("unavailable: {error}"),
            })
        }
    }

    fn replication_of(command: &Command) -> Replication {
        if let Some(factor) = command.get("simple").and_then(|factor| factor.parse().ok()) {
            return Replication::Simple { factor };
        }
        let factor = |&(name, value): &(&str, &str)| Some((name.to_owned(), value.parse().ok()?));
        let factors = command.named().iter().filter(|(name, _)| name.starts_with("dc"));
        Replication::NetworkTopology { factors: factors.filter_map(factor).collect() }
    }

    impl Interpreter for Script {
        fn run(&mut self, command: &Command) -> Result<String, String> {
            match command.name {
                "node" => {
                    let centre = command.get("dc").unwrap_or("dc1").to_owned();
                    self.centres.insert(command.word(0)?, centre);
                    Ok(String::new())
                }
                "ask" => self.ask(command),
                other => Err(format!("{other} is no command")),
            }
        }
    }

    #[test]
    fn requests_go_where_the_scripts_say() {
        golden::run_folder("routing", Script::default);
    }

    #[test]
    fn two_that_name_each_other_are_not_asked_in_circles() {
        let [a, b, c] = [NodeIndex(0), NodeIndex(1), NodeIndex(2)];
        let mut tries = Tries::default();
        let to = |nodes: &[NodeIndex]| Destinations { nodes: nodes.to_vec(), by_leader: true };
        assert_eq!(tries.next(&to(&[a, b, c])), Some(a));
        tries.note_in_vain(a);
        assert_eq!(tries.next(&to(&[b, a, c])), Some(b), "a said that b leads");
        tries.note_in_vain(b);
        assert_eq!(tries.next(&to(&[a, b, c])), Some(c), "b said that a leads");
        tries.note_in_vain(c);
        assert_eq!(tries.next(&to(&[a, b, c])), None, "time to pause");
        tries.begin_again();
        assert_eq!(tries.next(&to(&[a, b, c])), Some(a));
    }

    #[test]
    fn stretches_cover_the_interval_once_and_in_order() {
        let ranges = Ranges::new([Token(-7), Token(100), Token(i64::MAX - 3)], 64);
        let of = |range: RangeIndex| Ok::<u32, ()>(range.0 / 5);
        for (first, last) in
            [(i64::MIN, i64::MAX), (-7, -7), (-8, 101), (0, i64::MAX), (i64::MAX, i64::MAX)]
        {
            let cut = stretches(&ranges, Token(first), Token(last), of).unwrap();
            assert_eq!(cut.first().map(|s| s.first), Some(Token(first)));
            assert_eq!(cut.last().map(|s| s.last), Some(Token(last)));
            for pair in cut.windows(2) {
                assert_eq!(pair[0].last.0 + 1, pair[1].first.0, "no gap and no overlap");
                assert_ne!(pair[0].what, pair[1].what, "neighbours of one kind are joined");
            }
            for stretch in &cut {
                let (low, high) = (ranges.range_of(stretch.first), ranges.range_of(stretch.last));
                assert!((low.0..=high.0).all(|range| of(RangeIndex(range)) == Ok(stretch.what)));
            }
        }
        assert_eq!(stretches(&ranges, Token(1), Token(0), of), Ok(Vec::new()));
        let all_one = stretches(&ranges, Token::MIN, Token::MAX, |_| Ok::<(), ()>(()));
        assert_eq!(all_one.map(|s| s.len()), Ok(1), "one shard of one node reads the ring at once");
        assert_eq!(stretches(&ranges, Token(0), Token(5), |_| Err::<(), u8>(3)), Err(3));
    }
}
