//! What a consistency level asks of replicas, and whether those that live can give it.
//!
//! Two things must hold for a statement to be tried:
//!
//! - *The level.* As many live replicas as it names, counted as in Cassandra: of the replication
//!   factor, even where there are fewer nodes than the factor; of one data centre where the level is
//!   local; of each where it is EACH_QUORUM.
//! - *The group.* Writes are committed, and reads at QUORUM and above answered, by the leader of
//!   the range, whom a majority of the replicas that exist must support. So a write at ONE needs a
//!   majority too. This is the price of having a log (docs/decisions/0001-log-per-range.md).
//!
//! It counts and nothing else: which nodes are alive is told, and acknowledgements are awaited by
//! the coordinator.

use model::Consistency;
use model::schema::Replication;
use std::fmt;

/// What a statement does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Looks at data.
    Read,
    /// Changes data.
    Write,
}

/// A replica of the range in question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replica<'a> {
    /// The data centre it stands in.
    pub data_centre: &'a str,
    /// Whether this node believes it to be up.
    pub is_alive: bool,
    /// The ring changes, and this one shall hold the range: it may do so already.
    pub is_coming: bool,
}

/// A statement that was not tried, since too few replicas live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unavailable {
    /// The level that was asked for.
    pub consistency: Consistency,
    /// How many live replicas it takes.
    pub required: u32,
    /// How many of the replicas that count are alive.
    pub alive: u32,
}

/// How many replicas must answer at `level`: the number that drivers are told as well.
pub fn required(level: Consistency, replication: &Replication, local_centre: &str) -> u32 {
    match level {
        Consistency::Any | Consistency::One | Consistency::LocalOne => 1,
        Consistency::Two => 2,
        Consistency::Three => 3,
        Consistency::All => factor(replication),
        Consistency::Quorum | Consistency::Serial => majority(factor(replication)),
        Consistency::LocalQuorum | Consistency::LocalSerial => match replication {
            Replication::NetworkTopology { factors } => {
                majority(factors.get(local_centre).copied().unwrap_or(0))
            }
            _ => majority(factor(replication)),
        },
        Consistency::EachQuorum => match replication {
            Replication::NetworkTopology { factors } => factors
                .values()
                .filter(|&&factor| factor > 0)
                .fold(0, |sum, &factor| sum.saturating_add(majority(factor))),
            _ => majority(factor(replication)),
        },
    }
}

/// Whether the live ones among `replicas`, all those that exist of one range, suffice. While the
/// ring changes only the leader knows who votes, so one that comes counts as one that is there, if
/// it lives: whoever is judged too well here is told by a timeout.
pub fn judge<'a>(
    access: Access,
    consistency: Consistency,
    replication: &Replication,
    local_centre: &str,
    replicas: impl Iterator<Item = Replica<'a>> + Clone,
) -> Result<(), Unavailable> {
    let check = |required: u32, alive: u32| {
        if alive < required {
            return Err(Unavailable { consistency, required, alive });
        }
        Ok(())
    };
    let alive = replicas.clone().filter(|replica| replica.is_alive);
    let alive_in = |centre: &str| alive.clone().filter(|r| r.data_centre == centre).count() as u32;
    let alive_count = alive.clone().count() as u32;

    let each = consistency == Consistency::EachQuorum;
    if let (true, Replication::NetworkTopology { factors }) = (each, replication) {
        for (centre, &factor) in factors.iter().filter(|&(_, &factor)| factor > 0) {
            check(majority(factor), alive_in(centre))?;
        }
    } else {
        let counted = if consistency.is_local() { alive_in(local_centre) } else { alive_count };
        check(required(consistency, replication, local_centre), counted)?;
    }
    if !is_answered_by_leader(access, consistency) {
        return Ok(());
    }
    let there_count = replicas.filter(|replica| !replica.is_coming).count();
    check(majority(there_count as u32), alive_count)
}

/// Whether the leader of the range alone may answer. Every write is its own to propose; of reads,
/// those at ONE and LOCAL_ONE are served by any replica.
pub fn is_answered_by_leader(access: Access, level: Consistency) -> bool {
    access == Access::Write
        || !matches!(level, Consistency::Any | Consistency::One | Consistency::LocalOne)
}

/// Whether a write at this level waits for more than its commit: for as many replicas as the level
/// names to have applied it. The other levels are content with the majority that committed it.
pub fn waits_for_replicas(level: Consistency) -> bool {
    matches!(
        level,
        Consistency::Two | Consistency::Three | Consistency::All | Consistency::EachQuorum
    )
}

/// Whether the replicas that have applied a write, by their data centres, are those that `level`
/// waits for.
pub fn is_reached<'a>(
    level: Consistency,
    replication: &Replication,
    local_centre: &str,
    applied: impl Iterator<Item = &'a str> + Clone,
) -> bool {
    let each = level == Consistency::EachQuorum;
    if let (true, Replication::NetworkTopology { factors }) = (each, replication) {
        return factors.iter().filter(|&(_, &factor)| factor > 0).all(|(centre, &factor)| {
            applied.clone().filter(|of| of == centre).count() as u32 >= majority(factor)
        });
    }
    applied.count() as u32 >= required(level, replication, local_centre)
}

/// More than half.
fn majority(count: u32) -> u32 {
    count / 2 + 1
}

/// How many copies there should be, over all data centres.
fn factor(replication: &Replication) -> u32 {
    match replication {
        Replication::Local => 1,
        Replication::Simple { factor } => *factor,
        Replication::NetworkTopology { factors } => {
            factors.values().fold(0, |sum, &factor| sum.saturating_add(factor))
        }
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Cannot achieve consistency level {}: {} replicas required, {} alive",
            self.consistency, self.required, self.alive
        )
    }
}

impl std::error::Error for Unavailable {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::{self, Command, Interpreter};
    use std::collections::BTreeMap;

    /// `judge LEVEL [simple=N] [CENTRE=N …] up=CENTRE,… [down=CENTRE,…] [coming=CENTRE,…]`, as read
    /// and as write, by a coordinator in data centre `dc1`.
    struct Judge;

    impl Interpreter for Judge {
        fn run(&mut self, command: &Command) -> Result<String, String> {
            let level: String = command.word(0)?;
            let level = Consistency::from_name(&level).ok_or("no such level")?;
            let mut replication = Replication::Local;
            let mut factors = BTreeMap::new();
            let mut replicas = Vec::new();
            for &(name, value) in command.named() {
                let number = value.parse::<u32>();
                match (name, number) {
                    ("up" | "down" | "coming", _) => {
                        let (is_alive, is_coming) = (name != "down", name == "coming");
                        let replica = |data_centre| Replica { data_centre, is_alive, is_coming };
                        replicas.extend(value.split(',').map(replica));
                    }
                    ("simple", Ok(factor)) => replication = Replication::Simple { factor },
                    (centre, Ok(factor)) => {
                        factors.insert(centre.to_owned(), factor);
                        replication = Replication::NetworkTopology { factors: factors.clone() };
                    }
                    _ => return Err(format!("{name} cannot be read")),
                }
            }
            let verdict = |access| {
                let live = replicas.iter().copied();
                match judge(access, level, &replication, "dc1", live) {
                    Ok(()) => "ok".to_owned(),
                    Err(error) => format!("needs {} has {}", error.required, error.alive),
                }
            };
            let blocks_for = required(level, &replication, "dc1");
            let (read, write) = (verdict(Access::Read), verdict(Access::Write));
            Ok(format!("{level} of {blocks_for}: read {read}, write {write}"))
        }
    }

    #[test]
    fn replicas_are_counted_as_the_level_names_them() {
        let simple = Replication::Simple { factor: 3 };
        let reached = |level, setting: &Replication, applied: &[&str]| {
            is_reached(level, setting, "dc1", applied.iter().copied())
        };
        assert!(!reached(Consistency::Two, &simple, &["dc1"]));
        assert!(reached(Consistency::Two, &simple, &["dc1", "dc1"]));
        assert!(!reached(Consistency::All, &simple, &["dc1", "dc1"]));
        assert!(reached(Consistency::All, &simple, &["dc1", "dc1", "dc1"]));
        let factors = BTreeMap::from([("dc1".to_owned(), 3), ("dc2".into(), 1), ("dc3".into(), 0)]);
        let centres = Replication::NetworkTopology { factors };
        let each = Consistency::EachQuorum;
        assert!(!reached(each, &centres, &["dc1", "dc1", "dc1"]), "three, but none in dc2");
        assert!(reached(each, &centres, &["dc1", "dc2", "dc1"]));
        let waiting = Consistency::LEVELS.into_iter().filter(|level| waits_for_replicas(*level));
        let names: Vec<_> = waiting.map(Consistency::name).collect();
        assert_eq!(names, ["TWO", "THREE", "ALL", "EACH_QUORUM"]);
    }

    #[test]
    fn levels_are_judged_by_true_figures() {
        golden::run_folder("consistency", || Judge);
    }
}
