//! A sink in memory, for tests: it keeps what it acknowledged, and fails when it is told to.
//!
//! What a real destination may have received without acknowledging it is kept too: after a failed
//! call `received` is ahead of what the caller knows, as it would be after a broken connection.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;

use super::{Message, Sending, Sink, SinkError};

/// The sink's end; clones are the same destination.
#[derive(Clone, Debug, Default)]
pub struct MemorySink {
    shared: Rc<RefCell<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    received: Vec<Message>,
    marks: Vec<(usize, Bytes)>,
    calls: u64,
    plan: VecDeque<Answer>,
}

/// What the destination does with one call.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Takes all messages and says so.
    Acknowledge,
    /// Takes the first `received` messages, and fails as `error` says.
    Fail {
        /// How many messages arrive all the same; at least `error.acknowledged`.
        received: usize,
        /// What the caller hears.
        error: SinkError,
    },
    /// Takes nothing and never answers.
    Hang,
}

impl MemorySink {
    /// A destination that acknowledges everything.
    pub fn new() -> MemorySink {
        MemorySink::default()
    }

    /// Decides the answer of a call to come, behind those that are decided already. Calls beyond
    /// the plan are acknowledged.
    pub fn plan(&self, answer: Answer) {
        self.shared.borrow_mut().plan.push_back(answer);
    }

    /// Everything that arrived, in order, repeats included.
    pub fn received(&self) -> Vec<Message> {
        self.shared.borrow().received.clone()
    }

    /// The marks, each with the count of messages that had arrived before it.
    pub fn marks(&self) -> Vec<(usize, Bytes)> {
        self.shared.borrow().marks.clone()
    }

    /// How often something was sent.
    pub fn call_count(&self) -> u64 {
        self.shared.borrow().calls
    }
}

impl Sink for MemorySink {
    fn open(&mut self) -> Sending<'_> {
        Box::pin(async { Ok(()) })
    }

    fn send<'a>(&'a mut self, batch: &'a [Message]) -> Sending<'a> {
        Box::pin(async move {
            let answer = {
                let mut shared = self.shared.borrow_mut();
                shared.calls += 1;
                shared.plan.pop_front().unwrap_or(Answer::Acknowledge)
            };
            match answer {
                Answer::Acknowledge => {
                    self.shared.borrow_mut().received.extend_from_slice(batch);
                    Ok(())
                }
                Answer::Fail { received, mut error } => {
                    let received = received.min(batch.len());
                    error.acknowledged = error.acknowledged.min(received);
                    self.shared.borrow_mut().received.extend_from_slice(&batch[..received]);
                    Err(error)
                }
                Answer::Hang => std::future::pending().await,
            }
        })
    }

    fn mark<'a>(&'a mut self, text: &'a Bytes) -> Sending<'a> {
        Box::pin(async move {
            let mut shared = self.shared.borrow_mut();
            let count = shared.received.len();
            shared.marks.push((count, text.clone()));
            Ok(())
        })
    }
}
