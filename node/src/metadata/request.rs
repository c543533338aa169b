//! A change of the metadata that a client of this node asks for, on the way to the node that leads
//! the metadata's group: this one, or another over [`message`].
//!
//! Who does not lead says who does, as far as it knows, and is asked no more for a moment. What was
//! sent and not answered may have been done: then only a statement is sent again that may be done
//! twice. When too few of the nodes that decide live, it waits for them a while ([`Minority`]); then
//! that is said, and nothing was done.

use super::change::{DdlAnswer, LIFE_PAUSE, Minority};
use super::message::{change_bytes, read_change};
use super::{DdlError, DdlResult, MetadataRequest, NodeRecord};
use crate::remote::{Answer, Deadline, Pause};
use crate::ring_change::RingRequest;
use crate::shard::{Shard, WriteError};
use bytes::Bytes;
use cluster::HostId;
use cluster::peer::{AskError, Class, Peer, Responder, SendError};
use cql::syntax::ast::{ChangefeedStatement, Statement};
use std::rc::Rc;
use std::time::Duration;

/// How long a change may take.
const CHANGE_TIME_MAX: Duration = Duration::from_secs(10);
/// What the leader is given less, so that its answer comes in time.
const ANSWER_TIME: Duration = Duration::from_millis(300);
/// How long a node waits before it says again how it is configured.
const RECORD_PAUSE: Duration = Duration::from_secs(1);

/// Why a request was not carried out by the node that was asked.
enum Attempt {
    /// Nothing was done there; somebody else may lead.
    Elsewhere(Option<HostId>),
    /// It may have been.
    Unknown,
    Ended(DdlResult),
}

impl Shard {
    /// Makes a change, wherever it is decided; on shard 0. On return this node and all others that
    /// live act by it.
    pub(crate) async fn change_metadata(self: &Rc<Self>, request: MetadataRequest) -> DdlResult {
        let deadline = Deadline::after(self, CHANGE_TIME_MAX);
        let mut minority = Minority::default();
        let mut pause = Pause::default();
        let mut hint = None;
        loop {
            let leader = hint.take().or_else(|| self.metadata_leader());
            let attempt = if self.leads_metadata() {
                Attempt::of(self.change_here(&request, deadline).await)
            } else if let Some(leader) = leader {
                self.ask_for_change(leader, &request, deadline).await
            } else {
                Attempt::Elsewhere(None)
            };
            match attempt {
                Attempt::Ended(Ok(outcome)) => {
                    // What is read here next is by the change.
                    let adopted = self.wait_until_adopted(outcome.index);
                    tokio::time::timeout(deadline.time_left(self), adopted).await.ok();
                    return Ok(outcome);
                }
                Attempt::Ended(Err(error)) => return Err(error),
                Attempt::Unknown if !request.may_be_repeated() => {
                    let reason = "the node that decides on the schema has not answered: the change \
                                  may have been made";
                    return Err(WriteError::Unknown(reason.to_owned()).into());
                }
                Attempt::Unknown => {}
                Attempt::Elsewhere(leader) => {
                    hint = leader.filter(|leader| *leader != self.shared.host_id);
                }
            }
            let (alive, required) = self.metadata_voters();
            if minority.lasts(self) || !pause.wait(self, deadline).await {
                return Err(DdlError::NoMajority { alive, required });
            }
        }
    }

    /// Sees to it that the cluster knows this node as it is configured now; on shard 0.
    pub(crate) async fn tell_own_record(self: Rc<Self>) {
        loop {
            let metadata = &self.view().metadata;
            let Some(known) = metadata.known_node(self.shared.host_id.0) else { return };
            let record = NodeRecord::of_this_node(&self.shared, known.tokens.clone());
            if *known == record {
                return;
            }
            let told = self.change_metadata(MetadataRequest::Node(Box::new(record))).await;
            match told {
                Ok(_) => return,
                Err(DdlError::Write(WriteError::Invalid(reason))) => {
                    tracing::error!(
                        "the cluster does not take over how this node is set: {reason}"
                    );
                    return;
                }
                Err(error) => {
                    tracing::warn!("the cluster does not know this node as it is: {error}");
                }
            }
            self.shared.env.clock.sleep(RECORD_PAUSE).await;
        }
    }

    /// Returns when somebody else leads than that node.
    async fn is_replaced(&self, leader: HostId) {
        while !self.leads_metadata() && self.metadata_leader().is_none_or(|now| now == leader) {
            self.shared.env.clock.sleep(LIFE_PAUSE).await;
        }
    }

    /// Asks another node for a change, once.
    async fn ask_for_change(
        &self,
        leader: HostId,
        request: &MetadataRequest,
        deadline: Deadline,
    ) -> Attempt {
        if !self.is_live(leader) {
            return Attempt::Elsewhere(None);
        }
        let bytes = change_bytes(request);
        let peer = Peer { host_id: leader, shard: 0 };
        let asking = self.peers.ask(peer, Class::Bulk, &[&bytes], deadline.time_left(self));
        let answer = tokio::select! {
            answer = asking => answer,
            () = self.is_replaced(leader) => return Attempt::Unknown,
        };
        match answer {
            Ok(answer) => match DdlAnswer::from_bytes(&answer) {
                Ok(answer) => Attempt::of(answer),
                Err(error) => {
                    let reason = format!("the answer of the leader cannot be read: {error}");
                    Attempt::Ended(Err(WriteError::Unknown(reason).into()))
                }
            },
            Err(AskError::NotSent(SendError::TooLarge)) => {
                let reason = "the statement is too large to be sent to another node".to_owned();
                Attempt::Ended(Err(WriteError::Invalid(reason).into()))
            }
            Err(AskError::NotSent(_) | AskError::Refused) => Attempt::Elsewhere(None),
            Err(AskError::Unknown(_)) => Attempt::Unknown,
        }
    }
}

impl Attempt {
    fn of(answer: DdlAnswer) -> Attempt {
        match answer {
            Answer::Done(outcome) => Attempt::Ended(Ok(outcome)),
            Answer::Failed(error) => Attempt::Ended(Err(error)),
            Answer::NotLeader { hint } => Attempt::Elsewhere(hint),
            // Nobody plans a change but its leader.
            Answer::Outdated { .. } => Attempt::Elsewhere(None),
        }
    }
}

impl MetadataRequest {
    /// Whether doing it twice is as good as once.
    fn may_be_repeated(&self) -> bool {
        match self {
            MetadataRequest::Statement { text, .. } => {
                cql::syntax::parse(text).is_ok_and(|parsed| match parsed.statement {
                    Statement::CreateKeyspace(create) => create.if_not_exists,
                    Statement::CreateTable(create) => create.if_not_exists,
                    Statement::CreateType(create) => create.if_not_exists,
                    Statement::DropKeyspace(drop) => drop.if_exists,
                    Statement::DropTable(drop) | Statement::DropType(drop) => drop.if_exists,
                    Statement::Changefeed(ChangefeedStatement::Create(create)) => {
                        create.if_not_exists
                    }
                    Statement::Changefeed(ChangefeedStatement::Drop(drop)) => drop.if_exists,
                    Statement::Changefeed(ChangefeedStatement::Resume(resume)) => {
                        resume.from.is_none()
                    }
                    Statement::Changefeed(_) => true,
                    _ => false,
                })
            }
            MetadataRequest::Generation { .. } => false,
            MetadataRequest::Node(_)
            | MetadataRequest::Index
            | MetadataRequest::Ring(_)
            | MetadataRequest::Feeds { .. } => true,
        }
    }
}

/// Makes a change for another node, if this one leads.
pub(crate) async fn serve_change(shard: Rc<Shard>, from: Peer, body: Bytes, responder: Responder) {
    let request = match read_change(&body) {
        Ok(request) => request,
        Err(error) => {
            tracing::warn!("a change of the metadata of another node is refused: {error}");
            return responder.refuse();
        }
    };
    let is_own = match &request {
        MetadataRequest::Node(record) => record.host_id == from.host_id.0,
        MetadataRequest::Ring(RingRequest::Leave { host_id }) => *host_id == from.host_id.0,
        MetadataRequest::Feeds { node, .. } => *node == from.host_id.0,
        _ => true,
    };
    if shard.index != 0 || !is_own {
        return responder.refuse();
    }
    let deadline = Deadline::after(&shard, responder.time_left().saturating_sub(ANSWER_TIME));
    let answer = shard.change_here(&request, deadline).await;
    if let Err(error) = responder.answer(Class::Bulk, &[&answer.to_bytes()]) {
        tracing::debug!("the outcome of a change was not sent: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_so_may_be_done_twice() {
        let may = |text: &str| {
            MetadataRequest::Statement { text: text.into(), keyspace: None }.may_be_repeated()
        };
        for text in [
            "CREATE TABLE IF NOT EXISTS t (k int PRIMARY KEY)",
            "CREATE TYPE IF NOT EXISTS u (a int)",
            "DROP TABLE IF EXISTS t",
            "DROP KEYSPACE IF EXISTS k",
        ] {
            assert!(may(text), "{text}");
        }
        for text in
            ["CREATE TABLE t (k int PRIMARY KEY)", "DROP TYPE u", "ALTER TABLE t ADD c int", "no"]
        {
            assert!(!may(text), "{text}");
        }
    }
}
