//! Statements about changefeeds on the node that leads the metadata.
//!
//! A feed needs the logs of its tables, with the images that it tells of, or that its scan needs. So CREATE and ALTER take
//! two commands: the logs first, until every node logs so and every range has closed what it placed
//! before; then the feed, which begins at that moment. DROP takes them the other way round. Should
//! the leader die in between, a table has a log that nobody needs: [`Shard::drop_idle_logs`] finds it,
//! and images that only a scan needed which is complete.
//!
//! A statement is answered when what it says is so: a feed that begins has closed the time before it,
//! so that whatever is written afterwards is told of; one that is paused has settled what it had
//! begun to send. Both are the owner's to report, and waited for without holding up other changes.

use super::ownership::owner_for_one_more;
use super::sink;
use super::statement::{self, Circumstances, FeedChange};
use crate::metadata::{
    Command, DdlError, DdlOutcome, DdlResult, FeedNews, FeedRecord, FeedState, Metadata,
};
use crate::remote::Deadline;
use crate::shard::{Change, Shard, WriteError, WriteRequest};
use crate::view::View;
use changefeed::Cursor;
use cluster::{GroupId, HostId};
use cql::plan::PlanError;
use cql::plan::ddl::{SchemaChange, set_feed_logs};
use cql::syntax::ast::ChangefeedStatement;
use model::TimestampMicros;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// How often it is looked whether an owner has done what a statement waits for.
const REPORT_PAUSE: Duration = Duration::from_millis(5);
/// How long a feed that begins may take to close the time before it. If it takes longer, its sink or
/// its tables are in the way, and the feed waits for them by itself.
const START_TIME_MAX: Duration = Duration::from_secs(3);

/// What a statement waits for once its command is made.
#[derive(Clone, Debug)]
pub(crate) struct FeedWait {
    name: Arc<str>,
    epoch: u64,
    goal: Goal,
}

#[derive(Clone, Copy, Debug)]
enum Goal {
    /// The owner has let go of the feed.
    Settled,
    /// The owner has seen all there will be up to that time.
    Closed(i64),
}

impl Shard {
    /// Does what a statement asks, and says what is to be waited for then. To be called when this
    /// node decides on the metadata.
    pub(crate) async fn change_feeds(
        self: &Rc<Self>,
        statement: &ChangefeedStatement,
        keyspace: Option<&str>,
        deadline: Deadline,
    ) -> Result<(DdlOutcome, Option<FeedWait>), DdlError> {
        // Where logs are as the feed needs them, it may be by a statement that failed when it told the
        // tables' ranges of it, so they are told once more.
        let mut are_told =
            !matches!(statement, ChangefeedStatement::Create(_) | ChangefeedStatement::Alter(_));
        let change = loop {
            let view = self.view();
            let now_micros = self.micros_to_decide_by()?;
            let change = match self.decide_feeds(statement, &view, keyspace, now_micros) {
                Ok(change) => change,
                Err(error) => return self.found(Err(error.into())).map(|outcome| (outcome, None)),
            };
            let FeedChange::Put(feed) = &change else { break change };
            // What is there now is needed until the command is made.
            let mut feeds = self.feeds_with_logs();
            feeds.push((**feed).clone());
            if are_told && self.plan_logs(&view, &feeds)?.put.is_empty() {
                break change;
            }
            let plan = |view: &View| {
                let mut change = self.plan_logs(view, &feeds)?;
                change.logs_switched.extend(feed.definition.tables.iter().map(|table| table.id));
                Ok(change)
            };
            self.make_schema_change(plan, deadline).await?;
            self.decide_again(deadline).await?;
            are_told = true;
        };
        let (command, wait, is_drop) = match change {
            FeedChange::Nothing => {
                let unseen = DdlOutcome::unseen(self.view().index());
                return self.found(Ok(unseen)).map(|outcome| (outcome, None));
            }
            FeedChange::Put(feed) => {
                let wait = FeedWait::after(&feed);
                (Command::ChangeFeeds { put: vec![*feed], remove: Vec::new() }, wait, false)
            }
            FeedChange::Remove(name) => {
                (Command::ChangeFeeds { put: Vec::new(), remove: vec![name] }, None, true)
            }
        };
        let index = self.propose_command(&command, deadline).await?;
        let mut warnings = self.wait_for_nodes(index, deadline).await;
        if is_drop || matches!(statement, ChangefeedStatement::Alter(_)) {
            warnings.extend(self.drop_idle_logs(deadline).await);
        }
        Ok((DdlOutcome { index, events: Vec::new(), warnings }, wait))
    }

    /// Turns off what no feed needs of any log. What goes wrong is done again later.
    pub(super) async fn drop_idle_logs(self: &Rc<Self>, deadline: Deadline) -> Option<String> {
        let plan = |view: &View| self.plan_logs(view, &self.feeds_with_logs());
        let result = match self.decide_again(deadline).await {
            Ok(()) if self.has_idle_logs() => {
                self.make_schema_change(plan, deadline).await.map(|_| ())
            }
            Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        };
        result.err().map(|error| format!("the logs of tables are as before for now: {error}"))
    }

    /// Whether any table has a log for feeds that they do not need.
    pub(super) fn has_idle_logs(&self) -> bool {
        let change = self.plan_logs(&self.view(), &self.feeds_with_logs());
        change.is_ok_and(|change| !change.put.is_empty())
    }

    /// The feeds that need logs; a view may not know yet that one has finished, or its scan.
    fn feeds_with_logs(&self) -> Vec<FeedRecord> {
        self.with_metadata(|metadata| {
            metadata.feeds.values().filter(|feed| feed.needs_logs()).cloned().collect()
        })
    }

    /// Waits until the owner of a feed has done what a statement asked for. Says what it has not when
    /// the time is over.
    pub(crate) async fn wait_for_feed(&self, wait: FeedWait, deadline: Deadline) -> Option<String> {
        let limit = match wait.goal {
            Goal::Settled => deadline.time_left(self),
            Goal::Closed(_) => deadline.time_left(self).min(START_TIME_MAX),
        };
        let until = Deadline::after(self, limit.saturating_sub(REPORT_PAUSE));
        while !self.with_metadata(|metadata| wait.is_over(metadata)) {
            if until.time_left(self).is_zero() || !self.leads_metadata() {
                let name = &wait.name;
                return Some(match wait.goal {
                    Goal::Settled => format!(
                        "changefeed '{name}' is paused; what it was sending has not been settled yet"
                    ),
                    Goal::Closed(_) => {
                        format!("changefeed '{name}' is there and has not begun to deliver yet")
                    }
                });
            }
            self.shared.env.clock.sleep(REPORT_PAUSE).await;
        }
        None
    }

    /// Notes what a node says of its feeds, if this node leads the metadata.
    pub(crate) async fn note_feeds(self: &Rc<Self>, node: u128, news: FeedNews) -> DdlResult {
        if !self.leads_metadata() {
            return Err(WriteError::NotLeader { hint: self.metadata_leader() }.into());
        }
        let FeedNews { reports, mut claims, overfull, is_unfit } = news;
        if is_unfit {
            self.shared.wall_clock.note_unfit(HostId(node));
        }
        claims.retain(|claim| claim.owner == Some(node));
        if !overfull.is_empty() {
            self.release_feeds(&overfull).await;
        }
        let mut commands = Vec::new();
        if !reports.is_empty() {
            commands.push(Command::FeedProgress { node, feeds: reports });
        }
        if !claims.is_empty() {
            commands.push(Command::AssignFeeds { assignments: claims });
        }
        for command in commands {
            let change = Change::Metadata(command.to_bytes());
            self.write(WriteRequest::new(GroupId::METADATA, change)).await?;
        }
        Ok(DdlOutcome::unseen(self.with_metadata(|metadata| metadata.index)))
    }

    fn decide_feeds(
        &self,
        statement: &ChangefeedStatement,
        view: &View,
        keyspace_in_use: Option<&str>,
        now_micros: TimestampMicros,
    ) -> Result<FeedChange, PlanError> {
        self.with_metadata(|metadata| {
            let circumstances = Circumstances {
                metadata,
                schema: &view.schema,
                keyspace_in_use,
                now_micros,
                owner: owner_for_one_more(metadata, |node| self.may_own_feeds(node)),
            };
            let change = statement::decide(statement, &circumstances)?;
            if let FeedChange::Put(feed) = &change {
                sink::check(&self.shared, &feed.definition).map_err(PlanError::invalid)?;
            }
            Ok(change)
        })
    }

    fn plan_logs(&self, view: &View, feeds: &[FeedRecord]) -> Result<SchemaChange, PlanError> {
        let needed = statement::logs_needed(feeds.iter(), &view.schema);
        self.with_ddl_context(view, |context| set_feed_logs(&needed, &view.schema, context))
    }
}

impl FeedWait {
    /// What a statement that leaves a feed like this waits for.
    fn after(feed: &FeedRecord) -> Option<FeedWait> {
        let goal = match (feed.state, feed.progress.cursor) {
            (FeedState::Paused, _) => Some(Goal::Settled),
            (FeedState::Running, Cursor::Time(micros)) => Some(Goal::Closed(micros)),
            _ => None,
        };
        let (name, epoch) = (feed.definition.name.clone(), feed.epoch);
        Some(FeedWait { name, epoch, goal: goal.filter(|_| feed.owner.is_some())? })
    }

    fn is_over(&self, metadata: &Metadata) -> bool {
        let Some(feed) = metadata.feeds.get(&self.name) else { return true };
        // Whoever owns it later waits for what is closed just the same.
        match self.goal {
            Goal::Settled => feed.epoch != self.epoch || feed.owner.is_none(),
            Goal::Closed(micros) => {
                feed.state != FeedState::Running
                    || feed.progress.closed_micros.is_some_and(|closed| closed >= micros)
            }
        }
    }
}
