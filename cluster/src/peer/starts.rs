//! Whether a node still is who it was: the marks of its starts, and what others remember of them.
//!
//! A data directory that was put back from an older copy as a whole looks like that of a node that was
//! away; but it has forgotten votes and entries, and counts as a copy of what it does not have. So each
//! start of a node has a number and a random mark, and whoever connects with it remembers both before
//! it takes anything from it ([`Memory`]). In its introduction a node says which start of the other
//! it remembers. The other knows the marks of its former starts: if it knows none of that number, or
//! another mark, it is such a copy ([`OwnStarts::has`]). It judges itself; the other cannot, since it
//! has not heard of the starts in between.
//!
//! The order makes it safe. Whoever calls says what it remembers, and is answered by none but a node
//! that has that start; whoever is called answers with what it remembers, and is spoken to by none
//! but a node that has that start. So only what was judged is remembered in place of what was, and
//! only what is remembered, durably, is listened to.

use super::hello::Identity;
use super::introduction::IntroductionError;
use super::limits::REMEMBERED_MAX;
use crate::ring::HostId;
use std::collections::BTreeMap;
use std::fmt;
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};

/// One start of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// How many there were, this one included; never 0.
    pub incarnation: u64,
    /// Drawn at random. A copy of a data directory counts on from where the original did; this tells
    /// their starts apart.
    pub mark: u64,
}

/// This node's starts, as far back as their marks are kept.
#[derive(Clone, Debug)]
pub(super) struct OwnStarts {
    present: Start,
    /// Those of the starts before it, the latest last.
    former_marks: Vec<u64>,
}

impl OwnStarts {
    pub(super) fn new(present: Start, former_marks: Vec<u64>) -> OwnStarts {
        OwnStarts { present, former_marks }
    }

    /// Whether that is a start of this node, as far as it can be known: of one that is too long ago
    /// only the number is.
    pub(super) fn has(&self, start: Start) -> bool {
        let Some(back) = self.present.incarnation.checked_sub(start.incarnation) else {
            return false;
        };
        let mut marks = std::iter::once(&self.present.mark).chain(self.former_marks.iter().rev());
        let back = usize::try_from(back).unwrap_or(usize::MAX);
        marks.nth(back).is_none_or(|mark| *mark == start.mark)
    }
}

/// The newest start of each node that was listened to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RememberedStarts(BTreeMap<HostId, Start>);

impl RememberedStarts {
    /// Those that were remembered.
    pub fn new(starts: impl IntoIterator<Item = (HostId, Start)>) -> RememberedStarts {
        RememberedStarts(starts.into_iter().collect())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (HostId, Start)> {
        self.0.iter().map(|(host_id, start)| (*host_id, *start))
    }

    /// The newest start of a node.
    pub fn newest(&self, host_id: HostId) -> Option<Start> {
        self.0.get(&host_id).copied()
    }

    /// Whether a node may be listened to in that start: at once, or (`false`) when it is remembered.
    /// It may not if a later start is known.
    pub fn judge(&self, host_id: HostId, start: Start) -> Result<bool, IntroductionError> {
        match self.newest(host_id) {
            Some(newest) if newest == start => Ok(true),
            Some(newest) if newest.incarnation >= start.incarnation => {
                let (newest, announced) = (newest.incarnation, start.incarnation);
                Err(IntroductionError::Outdated { newest, announced })
            }
            None if self.0.len() >= REMEMBERED_MAX => {
                let reason = format!("the starts of {REMEMBERED_MAX} nodes are remembered already");
                Err(IntroductionError::NotRemembered(reason))
            }
            _ => Ok(false),
        }
    }

    /// The same with that start.
    #[must_use]
    pub fn with(&self, host_id: HostId, start: Start) -> RememberedStarts {
        let mut starts = self.0.clone();
        starts.insert(host_id, start);
        RememberedStarts(starts)
    }

    /// Forgets a node that was removed.
    pub fn forget(&mut self, host_id: HostId) {
        self.0.remove(&host_id);
    }
}

/// What comes of remembering a start.
pub type Remembering = Pin<Box<dyn Future<Output = Result<(), IntroductionError>>>>;

/// Where the starts of other nodes are remembered, for all shards of this one.
pub trait Memory: fmt::Debug + Send + Sync {
    /// The newest start of a node that is remembered for good.
    fn newest(&self, host_id: HostId) -> Option<Start>;

    /// Remembers a start for good, unless [`RememberedStarts::judge`] speaks against it.
    fn remember(&self, host_id: HostId, start: Start) -> Remembering;

    /// Forgets a node that was removed, sooner or later.
    fn forget(&self, host_id: HostId);
}

/// A memory as long as the process's, for whoever votes for nothing.
#[derive(Debug, Default)]
pub(super) struct Volatile(Mutex<RememberedStarts>);

impl Memory for Volatile {
    fn newest(&self, host_id: HostId) -> Option<Start> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).newest(host_id)
    }

    fn remember(&self, host_id: HostId, start: Start) -> Remembering {
        let mut starts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let judged = starts.judge(host_id, start);
        if judged == Ok(false) {
            *starts = starts.with(host_id, start);
        }
        Box::pin(ready(judged.map(drop)))
    }

    fn forget(&self, host_id: HostId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).forget(host_id);
    }
}

/// Another node remembers a start of this one that this one never had: the data directory is an
/// older copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overtaken {
    /// Who remembers it.
    pub by: HostId,
    /// The number of that start.
    pub incarnation: u64,
}

impl Identity {
    /// The start in which the node is.
    pub fn start(&self) -> Start {
        Start { incarnation: self.incarnation, mark: self.mark }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: HostId = HostId(7);

    fn start(incarnation: u64, mark: u64) -> Start {
        Start { incarnation, mark }
    }

    #[test]
    fn a_node_knows_its_starts_by_their_marks_and_older_ones_by_their_number() {
        let own = OwnStarts::new(start(5, 50), vec![30, 40]);
        for had in [start(5, 50), start(4, 40), start(3, 30), start(2, 99), start(1, 0)] {
            assert!(own.has(had), "{had:?}");
        }
        for another in [start(6, 60), start(u64::MAX, 0), start(5, 40), start(4, 41), start(3, 0)] {
            assert!(!own.has(another), "{another:?}");
        }
        assert!(OwnStarts::new(start(u64::MAX, 1), Vec::new()).has(start(1, 9)));
    }

    #[test]
    fn only_later_starts_take_the_place_of_what_is_remembered() {
        let starts = RememberedStarts::default();
        assert_eq!(starts.judge(HOST, start(3, 30)), Ok(false));
        let starts = starts.with(HOST, start(3, 30));
        assert_eq!(starts.newest(HOST), Some(start(3, 30)));
        assert_eq!(starts.judge(HOST, start(3, 30)), Ok(true));
        assert_eq!(starts.judge(HOST, start(9, 90)), Ok(false));
        for older in [start(3, 31), start(2, 20)] {
            let announced = older.incarnation;
            let error = IntroductionError::Outdated { newest: 3, announced };
            assert_eq!(starts.judge(HOST, older), Err(error));
        }
        assert_eq!(starts, RememberedStarts::new(starts.iter()));
        let mut forgetful = starts;
        forgetful.forget(HOST);
        assert_eq!(forgetful, RememberedStarts::default());
    }

    #[test]
    fn no_more_than_so_many_nodes_are_remembered() {
        let hosts = (0..REMEMBERED_MAX as u128).map(|host| (HostId(host), start(1, 1)));
        let full = RememberedStarts::new(hosts);
        assert_eq!(full.judge(HOST, start(2, 2)), Ok(false), "one that is known");
        let error = full.judge(HostId(u128::MAX), start(1, 1)).unwrap_err();
        assert!(matches!(error, IntroductionError::NotRemembered(_)), "{error}");
    }
}
