//! Where a feed begins whose sink keeps its position: asked before anything is read.

use env::Clock;

use super::{Backoff, End, Host, Status, Stop};
use crate::sink::{Failure, Reached, Sink, SinkError};

/// How far the feed has come as the sink's destination has it, if it keeps that; from here on nobody else sends for
/// the feed. Waits for a destination that is away, without end, and tells the host.
pub async fn recover(
    sink: &mut dyn Sink,
    host: &impl Host,
    stop: &Stop,
    clock: &Clock,
    backoff: &mut Backoff,
) -> Result<Option<Reached>, End> {
    if sink.transactional().is_none() {
        return Ok(None);
    }
    loop {
        if !host.may_send() {
            return Err(End::Lost);
        }
        let SinkError { failure, text, retry_after, .. } = match attempt(sink).await {
            Ok(reached) => {
                backoff.reset();
                return Ok(reached);
            }
            Err(error) => error,
        };
        let last_error = Some(text.clone());
        host.report(&Status { last_error, ..Status::default() });
        match failure {
            Failure::Transient => {}
            Failure::Overtaken => return Err(End::Lost),
            Failure::Permanent | Failure::TooLarge => return Err(End::Failed(text)),
        }
        tokio::select! {
            biased;
            () = stop.requested() => return Err(End::Stopped),
            () = clock.sleep(backoff.next(retry_after)) => {}
        }
    }
}

async fn attempt(sink: &mut dyn Sink) -> Result<Option<Reached>, SinkError> {
    sink.open().await?;
    match sink.transactional() {
        Some(sink) => sink.recover().await,
        None => Ok(None),
    }
}
