//! A log that was turned on or off, or whose images were: told to every range of its table.
//!
//! The nodes that the decider hears act by a change of the metadata before it is answered
//! ([`Shard::wait_for_nodes`]). A node that is cut off from the decider alone may still lead ranges
//! by the support of their other replicas, and would decide writes as if nothing had changed. So the
//! statement is finished by an entry in every group of the table, which a leader decides only if it
//! acts by the change, and behind which no leader decides anything that does not
//! (docs/log-time.md, 26).

use crate::remote::{Deadline, WriteTerms};
use crate::shard::{Change, Shard, WriteError};
use crate::view::View;
use cluster::GroupId;
use env::planted::{Bug, is_planted};
use model::TableId;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Ranges that are told at a time.
const AT_ONCE_MAX: usize = 64;

impl Shard {
    /// Has every range of these tables say that their logs were switched by the metadata of that
    /// index: from there on nobody decides in it who does not know (docs/log-time.md, 26).
    ///
    /// A node that no majority of a range's replicas follows need not be heard; one that they do
    /// follow, and that does not hear of the change, hands over after a while, which may be longer
    /// than a statement waits.
    pub(super) async fn tell_of_switches(
        self: &Rc<Self>,
        tables: &[TableId],
        index: u64,
        deadline: Deadline,
    ) -> Result<(), WriteError> {
        if tables.is_empty() || is_planted(Bug::LogsTurnedOnUnheard) {
            return Ok(());
        }
        let adopted = self.wait_until_adopted(index);
        tokio::time::timeout(deadline.time_left(self), adopted).await.ok();
        let view = self.view();
        let keyspaces: BTreeSet<&str> =
            tables.iter().filter_map(|id| Some(&*view.table(*id)?.keyspace)).collect();
        let groups: BTreeSet<GroupId> =
            keyspaces.into_iter().flat_map(|name| view.groups_of_keyspace(name)).collect();
        let count = groups.len();
        let (mut groups, mut telling) = (groups.into_iter(), JoinSet::new());
        let mut unheard = Vec::new();
        loop {
            let room = AT_ONCE_MAX - telling.len();
            for group in groups.by_ref().take(room) {
                let shard = self.clone();
                telling.spawn_local(async move {
                    let change = Change::Switch(index);
                    let deadline = deadline.to_report();
                    let terms = WriteTerms { deadline, ..WriteTerms::own(&shard, Duration::ZERO) };
                    let told = shard.write_to_group(group, change, terms).await;
                    told.err().map(|error| (group, error))
                });
            }
            match telling.join_next().await {
                Some(told) => unheard.extend(told.ok().flatten()),
                None => break,
            }
        }
        // Of a keyspace that was dropped since there is nothing to log.
        let view = self.view();
        unheard.retain(|(group, _)| view.place_of(*group).is_some());
        match unheard.first() {
            Some((group, error)) => {
                Err(WriteError::Unknown(say_unheard(&view, *group, error, unheard.len(), count)))
            }
            None => Ok(()),
        }
    }
}

/// What is to be said when some ranges have not heard that a log was switched.
fn say_unheard(
    view: &View,
    group: GroupId,
    error: &WriteError,
    unheard: usize,
    count: usize,
) -> String {
    let (first, last) = view.place_of(group).map_or((i64::MIN, i64::MAX), |(_, range)| {
        let tokens = view.tokens_of_range(range);
        (tokens.first, tokens.last)
    });
    format!(
        "the log is switched, but {unheard} of {count} ranges have not heard of it in time, one of \
         them that of the tokens {first} to {last} ({error}): what is written there may be logged \
         as before, or not at all, until they have; the same statement waits for them again"
    )
}
