//! What the log knows of a group while it runs: where its entries end, and what has to stand at the
//! start of a segment for it.

use std::sync::Arc;

use super::format::Index;
use super::replay::{FormerEnd, GroupReplay, HardState, LogStart};

/// What has to stand at the start of a segment for a group, and where its log ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tracked {
    pub(super) hard_state: HardState,
    pub(super) former_end: FormerEnd,
    /// The group is not here any more.
    pub(super) is_removed: bool,
    pub(super) start: LogStart,
    /// The members at the start, if they were named.
    pub(super) members: Option<Arc<[u8]>>,
}

/// What an append looks at fits into a line of the cache; the rest, seldom touched, lies apart.
#[derive(Clone, Debug, Default)]
pub(super) struct GroupState {
    pub(super) last_index: Option<Index>,
    /// The highest index in the forming batch; 0 when there is none.
    pub(super) forming_highest: Index,
    /// The highest index in the active segment, but for the forming batch, voided ones included; 0
    /// when there is none.
    pub(super) active_highest: Index,
    /// The group is here, and all that is tracked of it was submitted: entries change nothing of that.
    pub(super) is_settled: bool,
    pub(super) tracked: Box<TrackedStates>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct TrackedStates {
    /// With everything appended.
    pub(super) latest: Tracked,
    /// With everything submitted: what a new segment begins with, so that what it says is never
    /// ahead of the batches before it. Nothing before the group's first batch.
    pub(super) submitted: Option<Tracked>,
}

impl GroupState {
    /// A group as a start finds it.
    pub(super) fn found(group: &GroupReplay, is_removed: bool) -> GroupState {
        let latest = Tracked {
            hard_state: group.hard_state,
            former_end: group.former_end,
            is_removed,
            start: group.start,
            members: group.start_members.clone(),
        };
        let tracked = TrackedStates { submitted: Some(latest.clone()), latest };
        GroupState {
            last_index: group.last_index,
            forming_highest: 0,
            active_highest: 0,
            is_settled: !is_removed,
            tracked: Box::new(tracked),
        }
    }

    /// The group is here, from now on at least.
    #[inline]
    pub(super) fn set_present(&mut self) {
        if !self.is_settled {
            self.tracked.latest.is_removed = false;
        }
    }

    /// What is tracked of a group that is here from now on, to be changed.
    pub(super) fn present(&mut self) -> &mut Tracked {
        let tracked = self.changed();
        tracked.is_removed = false;
        tracked
    }

    /// What is tracked of the group, to be changed.
    pub(super) fn changed(&mut self) -> &mut Tracked {
        self.is_settled = false;
        &mut self.tracked.latest
    }

    /// The forming batch goes to the active segment.
    #[inline]
    pub(super) fn submit(&mut self) {
        self.active_highest = self.active_highest.max(self.forming_highest);
        self.forming_highest = 0;
        if !self.is_settled {
            let TrackedStates { latest, submitted } = &mut *self.tracked;
            *submitted = Some(latest.clone());
            self.is_settled = !latest.is_removed;
        }
    }
}
