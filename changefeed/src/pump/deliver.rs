//! The delivering half: batches into the sink, repeated until they are acknowledged, and what that
//! means for the feed's position.

use env::Clock;

use super::buffer::{Advance, Buffer, Taken};
use super::{Backoff, End, Host, MarkOf, Pace, Resolved, Status, Stop};
use crate::sink::{Failure, Message, Sink, SinkError};

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
            let Taken { lead, messages, advances, end } = taken;
            self.advance([lead]);
            self.send(&messages, &advances).await?;
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
        while done < messages.len() {
            self.check_permit()?;
            let sent = self.sink.send(&messages[done..]).await;
            let acknowledged = match &sent {
                Ok(()) => messages.len() - done,
                Err(error) => error.acknowledged,
            };
            let now_done = done + acknowledged;
            assert!(now_done <= messages.len(), "no more is acknowledged than was sent");
            if acknowledged > 0 {
                self.acknowledge(&messages[done..now_done], &advances[done..now_done]);
                done = now_done;
            }
            let Err(error) = sent else { continue };
            if error.failure == Failure::TooLarge && self.pace.skips_too_large {
                self.status.skipped += 1;
                self.advance([advances[done]]);
                done += 1;
            } else {
                self.fail(error).await?;
            }
        }
        Ok(())
    }

    /// Sends a mark if it is time, and time has passed in the log.
    async fn mark(&mut self) -> Result<(), End> {
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
        self.advance(advances.iter().copied());
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
        if let Some(position) = sum.position {
            assert!(self.status.position <= Some(position), "a feed's position never goes back");
            self.status.position = Some(position);
        }
        if let Some(resolved) = sum.resolved {
            assert!(self.status.resolved <= Some(resolved), "a closed time never goes back");
            self.status.resolved = Some(resolved);
        }
        if sum != Advance::default() {
            self.host.report(&self.status);
        }
    }

    /// Waits for the time to repeat a call, or ends the feed.
    async fn fail(&mut self, error: SinkError) -> Result<(), End> {
        let is_out_of_retries =
            self.pace.retry_max.is_some_and(|retry_max| self.backoff.attempts() >= retry_max);
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
