//! The delivering half: batches into the sink, repeated until they are acknowledged, and what that
//! means for the feed's position.
//!
//! # A message that is refused for what it says
//!
//! A sink may know only that one of several messages is to blame. Then they are sent again in halves,
//! until one that is alone fails: that one is left out, if the feed's policies say so, and all others
//! arrive. Halves keep the order; what had arrived of a refused call arrives again, as after any
//! failure.
//!
//! ```text
//! failure     suspects   skips_refused              else
//! too large   many       halves                     halves
//! too large   one        left out, or with          the feed fails
//!                        skips_too_large
//! permanent   any        halves, then left out      the feed fails
//! transient   any        repeated; after retry_max  repeated; after retry_max the feed fails
//!                        halves, then left out
//! any         none       repeated if transient, until retry_max; else the feed fails
//! ```

use std::sync::Arc;

use env::Clock;
use env::planted::{Bug, is_planted};
use env::tasks::give_way;

use super::buffer::{Advance, Buffer, Taken};
use super::{Backoff, End, Host, MarkOf, Pace, Resolved, Status, Stop};
use crate::scan::Scanned;
use crate::sink::{Failure, Message, Reached, Sink, SinkError};

/// Of the key of a message that was left out, so much is shown.
const KEY_BYTES_SHOWN_MAX: usize = 200;

/// What a failed call comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It is repeated later, or ends the feed.
    Stay,
    /// Half of the suspects are sent, to find the one.
    Halve,
    /// The first message that is not acknowledged is left out.
    Skip,
}

pub(super) struct Deliver<H> {
    sink: Box<dyn Sink>,
    host: H,
    pace: Pace,
    stop: Stop,
    clock: Clock,
    backoff: Backoff,
    mark_of: MarkOf,
    status: Status,
    /// The last mark, and when it was sent.
    marked: Option<(Resolved, u64)>,
}

impl<H: Host> Deliver<H> {
    pub(super) fn new(
        sink: Box<dyn Sink>,
        host: H,
        pace: Pace,
        stop: Stop,
        clock: Clock,
        backoff: Backoff,
        mark_of: MarkOf,
    ) -> Deliver<H> {
        let status = Status::default();
        Deliver { sink, host, pace, stop, clock, backoff, mark_of, status, marked: None }
    }

    /// From where the feed's scan has come to, if it began with one.
    pub(super) fn after(mut self, scanned: Option<Arc<Scanned>>) -> Deliver<H> {
        self.status.scanned = scanned;
        self
    }

    /// Delivers what comes until something ends the feed.
    pub(super) async fn run(&mut self, buffer: &Buffer) -> End {
        match self.run_to_error(buffer).await {
            Ok(end) | Err(end) => end,
        }
    }

    async fn run_to_error(&mut self, buffer: &Buffer) -> Result<End, End> {
        self.open().await?;
        let size = self.pace.batch_size;
        let size_max = self.sink.messages_per_send_max(size);
        loop {
            let taken = buffer.take(size, size_max, self.pace.flush_interval, &self.stop).await;
            let Taken { lead, messages, advances, end, held_bytes } = taken;
            self.advance([lead]);
            self.send(&messages, &advances).await?;
            drop((messages, advances));
            buffer.settle(held_bytes);
            if let Some(end) = end {
                return Ok(end);
            }
            self.mark().await?;
        }
    }

    async fn open(&mut self) -> Result<(), End> {
        loop {
            self.check_permit()?;
            match self.sink.open().await {
                Ok(()) => break,
                Err(error) => self.fail(error).await?,
            }
        }
        self.succeed();
        Ok(())
    }

    /// Sends messages until all are acknowledged or left out.
    async fn send(&mut self, messages: &[Message], advances: &[Advance]) -> Result<(), End> {
        assert_eq!(messages.len(), advances.len(), "each message has an advance");
        let mut done = 0;
        // One of the messages before this was refused.
        let mut suspects_end = 0;
        while done < messages.len() {
            self.check_permit()?;
            let is_searching = suspects_end > done;
            let end = if is_searching {
                done + (suspects_end - done).div_ceil(2)
            } else {
                messages.len()
            };
            if is_planted(Bug::SavesBeforeDelivery) {
                self.advance(advances[done..end].iter().cloned());
            }
            // Many feeds send at the same moment, and writers may share their core.
            give_way();
            let sent = match self.sink.transactional() {
                None => self.sink.send(&messages[done..end]).await,
                Some(sink) => {
                    let reached = reached(&advances[done..end], &self.status);
                    sink.commit(&messages[done..end], reached).await
                }
            };
            let acknowledged = match &sent {
                Ok(()) => end - done,
                Err(error) => error.acknowledged,
            };
            assert!(acknowledged <= end - done, "no more is acknowledged than was sent");
            if acknowledged > 0 {
                let now_done = done + acknowledged;
                self.acknowledge(&messages[done..now_done], &advances[done..now_done]);
                done = now_done;
            }
            let Err(error) = sent else { continue };
            assert!(error.suspects <= end - done, "what is suspected was sent");
            match self.verdict(&error, is_searching) {
                Verdict::Stay => self.fail(error).await?,
                Verdict::Halve => {
                    suspects_end = done + error.suspects;
                    self.repeat_at_once(error.text);
                }
                Verdict::Skip => {
                    self.skip(&messages[done], &advances[done], &error.text);
                    done += 1;
                    suspects_end = done;
                }
            }
        }
        Ok(())
    }

    /// What a failure of a call comes to. `is_searching`: the call was made to find out which
    /// message is refused.
    fn verdict(&self, error: &SinkError, is_searching: bool) -> Verdict {
        let skips = match error.failure {
            Failure::TooLarge if error.suspects > 1 => true,
            Failure::TooLarge => self.pace.skips_too_large || self.pace.skips_refused,
            Failure::Permanent => self.pace.skips_refused,
            Failure::Overtaken => false,
            Failure::Transient => {
                let is_worth_a_repeat = !(is_searching && error.suspects > 1);
                self.pace.skips_refused && !(is_worth_a_repeat && self.may_repeat())
            }
        };
        match error.suspects {
            1 if skips => Verdict::Skip,
            2.. if skips => Verdict::Halve,
            _ => Verdict::Stay,
        }
    }

    fn may_repeat(&self) -> bool {
        self.pace.retry_max.is_none_or(|retry_max| self.backoff.attempts() < retry_max)
    }

    /// A call failed that is made again with fewer messages, each of which has all its retries.
    fn repeat_at_once(&mut self, text: String) {
        self.backoff.reset();
        self.status.retries += 1;
        self.status.last_error = Some(text);
        self.host.report(&self.status);
    }

    /// Leaves a message out.
    fn skip(&mut self, message: &Message, advance: &Advance, reason: &str) {
        self.backoff.reset();
        let mut advance = advance.clone();
        if message.value.is_some() {
            let key = String::from_utf8_lossy(&message.key);
            let key = &key[..key.floor_char_boundary(KEY_BYTES_SHOWN_MAX)];
            advance.skipped.add(format!("{key}: {reason}"));
        }
        self.advance([advance]);
    }

    /// Sends a mark if it is time, and time has passed in the log. There are none during a scan: the
    /// rows that it has yet to send are as of later times, but some were so before.
    async fn mark(&mut self) -> Result<(), End> {
        if self.status.scanned.as_ref().is_some_and(|scanned| !scanned.is_complete) {
            return Ok(());
        }
        let (Some(interval), Some(resolved)) = (self.pace.mark_interval, self.status.resolved)
        else {
            return Ok(());
        };
        let now = self.clock.monotonic_nanos();
        if let Some((marked, when)) = self.marked
            && (marked >= resolved || u128::from(now - when) < interval.as_nanos())
        {
            return Ok(());
        }
        let text = (self.mark_of)(resolved);
        loop {
            self.check_permit()?;
            match self.sink.mark(&text).await {
                // A mark that is refused is left out: the next says more.
                Err(error) if self.verdict(&error, false) == Verdict::Skip => break,
                Ok(()) => break,
                Err(error) => self.fail(error).await?,
            }
        }
        self.marked = Some((resolved, now));
        self.succeed();
        Ok(())
    }

    fn check_permit(&self) -> Result<(), End> {
        if self.host.may_send() { Ok(()) } else { Err(End::Lost) }
    }

    /// Messages were acknowledged.
    fn acknowledge(&mut self, messages: &[Message], advances: &[Advance]) {
        // A tombstone is the second message of an event.
        let events = messages.iter().filter(|message| message.value.is_some()).count();
        self.status.events_delivered += events as u64;
        self.backoff.reset();
        self.status.last_error = None;
        self.advance(advances.iter().cloned());
    }

    fn succeed(&mut self) {
        self.backoff.reset();
        if self.status.last_error.take().is_some() {
            self.host.report(&self.status);
        }
    }

    /// The feed has come further; says so if that is news.
    fn advance(&mut self, advances: impl IntoIterator<Item = Advance>) {
        let sum = advances.into_iter().fold(Advance::default(), Advance::then);
        if sum.is_nothing() {
            return;
        }
        if let Some(position) = sum.position {
            assert!(self.status.position <= Some(position), "a feed's position never goes back");
            self.status.position = Some(position);
        }
        if let Some(resolved) = sum.resolved {
            assert!(self.status.resolved <= Some(resolved), "a closed time never goes back");
            self.status.resolved = Some(resolved);
        }
        self.status.skipped = std::mem::take(&mut self.status.skipped).then(sum.skipped);
        self.status.scanned = sum.scanned.or(self.status.scanned.take());
        self.host.report(&self.status);
    }

    /// Waits for the time to repeat a call, or ends the feed.
    async fn fail(&mut self, error: SinkError) -> Result<(), End> {
        let is_out_of_retries = !self.may_repeat();
        self.status.last_error = Some(error.text.clone());
        self.host.report(&self.status);
        match error.failure {
            Failure::Transient if is_out_of_retries => {
                let repeats = self.backoff.attempts();
                let text = format!("{} (given up after {repeats} retries)", error.text);
                return Err(End::Failed(text));
            }
            Failure::Transient => {}
            Failure::Permanent | Failure::TooLarge => return Err(End::Failed(error.text)),
            Failure::Overtaken => return Err(End::Lost),
        }
        let pause = self.backoff.next(error.retry_after);
        tokio::select! {
            biased;
            () = self.stop.requested() => return Err(End::Stopped),
            () = self.clock.sleep(pause) => {}
        }
        self.status.retries += 1;
        Ok(())
    }
}

/// How far a feed is that has come so far, and then goes these steps, behind whole groups of rows.
fn reached(steps: &[Advance], before: &Status) -> Reached {
    let position = steps.last().and_then(|last| last.position);
    let scanned = steps.iter().rev().find_map(|step| step.scanned.clone());
    Reached {
        position: position.expect("such a sink is sent whole groups of rows"),
        scanned: scanned.or_else(|| before.scanned.clone()),
    }
}
