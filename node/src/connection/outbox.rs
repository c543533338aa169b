//! Answers of one connection that have not gone to the socket yet.

use cql::wire::{Framing, ResponseTooLarge};
use std::task::Waker;

/// Finished frames, one behind the other, and whom to wake when there are new ones.
#[derive(Debug)]
pub(crate) struct Outbox {
    frames: Vec<u8>,
    /// How the frames behind `plain_bytes` are sent.
    framing: Framing,
    /// Frames at the front that go out plain whatever the framing: the answer to STARTUP.
    plain_bytes: usize,
    /// What the next answer may come to: the largest of late, which counts less with every answer.
    expected_bytes: usize,
    waker: Option<Waker>,
}

/// What the first answers of a connection are taken for.
const EXPECTED_BYTES_AT_FIRST: usize = 64 << 10;

impl Outbox {
    pub(crate) fn new() -> Self {
        Outbox {
            frames: Vec::new(),
            framing: Framing::Plain,
            plain_bytes: 0,
            expected_bytes: EXPECTED_BYTES_AT_FIRST,
            waker: None,
        }
    }

    /// Appends a frame. One that is too large for the protocol is dropped by its writer, and what
    /// is said instead is the writer's matter.
    pub(crate) fn write(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), ResponseTooLarge>,
    ) {
        let before = self.frames.len();
        if let Err(error) = write(&mut self.frames) {
            tracing::warn!("an answer was dropped: {error}");
        }
        let faded = self.expected_bytes - self.expected_bytes / 16;
        self.expected_bytes = faded.max(self.frames.len() - before);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Everything from here on goes out in this framing.
    pub(crate) fn set_framing(&mut self, framing: Framing) {
        self.plain_bytes = self.frames.len();
        self.framing = framing;
    }

    /// Moves all frames into `sending`, in the connection's framing.
    pub(crate) fn take(&mut self, sending: &mut Vec<u8>) {
        if self.framing == Framing::Plain && sending.is_empty() {
            std::mem::swap(&mut self.frames, sending);
        } else {
            let (plain, framed) = self.frames.split_at(self.plain_bytes);
            sending.extend_from_slice(plain);
            self.framing.pack(framed, sending);
            self.frames.clear();
            if self.frames.capacity() > super::IDLE_BUFFER_BYTES_MAX {
                self.frames = Vec::new();
            }
        }
        self.plain_bytes = 0;
    }

    pub(crate) fn set_waker(&mut self, waker: &Waker) {
        if !self.waker.as_ref().is_some_and(|old| old.will_wake(waker)) {
            self.waker = Some(waker.clone());
        }
    }

    pub(crate) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Bytes that wait here.
    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }

    /// What is here, and what this many answers that are on their way may add to it.
    pub(crate) fn expected_bytes(&self, answers_on_their_way: usize) -> usize {
        self.frames.len() + answers_on_their_way * self.expected_bytes
    }
}
