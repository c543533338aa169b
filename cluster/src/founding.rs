//! Whether a node that belongs to no cluster founds one, joins one, or waits: decided from what its
//! seeds say of themselves.
//!
//! All nodes are given the same list of seeds, and the first of the list founds, so that nodes
//! which start at the same moment found one cluster between them. Nobody founds as long as a seed
//! belongs to a cluster already. Who loses its data and is the first seed while no other seed
//! answers founds a second cluster of the same name; that the two never mix is seen to by the
//! cluster's id, which every introduction carries.
//!
//! A pure function: who asks the seeds, and how long it waits in between, is its caller's.

use std::time::Duration;

/// How long a seed may say that this node's address or id is in use before it is believed: it may
/// mean this node's own former life, which others forget within
/// [`SILENCE_TIME_MAX`](crate::peer::limits::SILENCE_TIME_MAX).
pub const TAKEN_TIME_MAX: Duration = Duration::from_secs(6);

const _: () = assert!(TAKEN_TIME_MAX.as_secs() > crate::peer::limits::SILENCE_TIME_MAX.as_secs());

/// What a seed says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeedState {
    /// It is this very node.
    Itself,
    /// It belongs to a cluster of this node's cluster name.
    Member {
        /// Which one.
        cluster_id: u128,
    },
    /// It runs and belongs to no cluster either.
    Alone,
    /// It does not answer, or not as a node would.
    Silent,
    /// It and this node can never be in one cluster: their versions or clusters' names differ, or
    /// this node was removed.
    Foreign,
    /// Another node has this node's id or address.
    Taken,
}

/// What to do; seeds are named by their positions in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Found a cluster.
    Found,
    /// Join the cluster of this seed.
    Join(usize),
    /// Ask again in a moment.
    Wait,
    /// Give up: what this seed says does not change by waiting.
    Stop(usize),
    /// Give up: these two seeds belong to different clusters.
    Torn(usize, usize),
}

/// Decides, of the seeds in the order of the list. `waited` is the time since they were first asked.
pub fn decide(seeds: &[SeedState], waited: Duration) -> Decision {
    let position = |wanted: SeedState| seeds.iter().position(|seed| *seed == wanted);
    if let Some(taken) = position(SeedState::Taken) {
        return if waited < TAKEN_TIME_MAX { Decision::Wait } else { Decision::Stop(taken) };
    }
    let mut members = seeds.iter().enumerate().filter_map(|(position, seed)| match seed {
        SeedState::Member { cluster_id } => Some((position, *cluster_id)),
        _ => None,
    });
    if let Some((first, cluster_id)) = members.next() {
        let other = members.find(|(_, other)| *other != cluster_id);
        return other.map_or(Decision::Join(first), |(other, _)| Decision::Torn(first, other));
    }
    if let Some(foreign) = position(SeedState::Foreign) {
        return Decision::Stop(foreign);
    }
    if seeds.first().is_none_or(|first| *first == SeedState::Itself) {
        return Decision::Found;
    }
    Decision::Wait
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::{self, Command, Interpreter};

    /// `decide [waited=SECONDS] SEED …`, where a seed is `itself`, `member:ID`, `alone`, `silent`,
    /// `foreign` or `taken`.
    struct Decide;

    impl Interpreter for Decide {
        fn run(&mut self, command: &Command) -> Result<String, String> {
            let waited = command.get("waited").unwrap_or("0").parse().map_err(|_| "not seconds")?;
            let seeds: Result<Vec<SeedState>, String> =
                command.words.iter().map(|word| seed(word)).collect();
            Ok(format!("{:?}", decide(&seeds?, Duration::from_secs(waited))))
        }
    }

    fn seed(word: &str) -> Result<SeedState, String> {
        Ok(match word.split_once(':') {
            Some(("member", id)) => {
                SeedState::Member { cluster_id: id.parse().map_err(|_| "not an id")? }
            }
            None if word == "itself" => SeedState::Itself,
            None if word == "alone" => SeedState::Alone,
            None if word == "silent" => SeedState::Silent,
            None if word == "foreign" => SeedState::Foreign,
            None if word == "taken" => SeedState::Taken,
            _ => return Err(format!("{word} is no seed")),
        })
    }

    #[test]
    fn clusters_are_founded_once_and_found_again() {
        golden::run_folder("founding", || Decide);
    }
}
