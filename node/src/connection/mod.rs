//! One client's connection: bytes in, frames to the statement layer, answers out.
//!
//! A connection is one task of its shard. Each turn it reads what the socket holds, executes every
//! complete frame of it, and writes all answers that are there in one call. Requests that have to
//! wait (for the log, another shard, the disk) put their answer into the [`Outbox`] later and wake
//! the task, so answers go out in the order in which they are ready.
//!
//! Promises: an idle connection holds no buffer; a client that does not read is not read from
//! either ([`OUTBOX_BYTES_MAX`]); a client that sends more requests than it waits for answers is
//! paused ([`REQUESTS_IN_FLIGHT_MAX`]); a frame that never ends closes the connection; all
//! connections of a shard together hold what [`memory`] says.

mod memory;
mod outbox;
mod session;

pub(crate) use memory::{AnswerKind, ConnectionMemory, Held, ROOM_WAIT};
pub(crate) use outbox::Outbox;
pub(crate) use session::{ClientInfo, Session};

use crate::shard::Shard;
use crate::statement::{self, FRAMES_AHEAD_MAX};
use cql::wire::{
    ErrorBody, ErrorResponse, ErrorScope, Frame, FrameDecoder, ResponseHead, WireError,
};
use env::net::{DetachedStream, TcpStream};
use memory::Place;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Answers that wait for the client beyond this stop the reading of its requests.
pub(crate) const OUTBOX_BYTES_MAX: usize = 4 << 20;
/// Requests that wait for something beyond this stop the reading of more.
pub(crate) const REQUESTS_IN_FLIGHT_MAX: usize = 4096;
/// How long a client may take from connecting to the end of its first frame.
pub(crate) const FIRST_FRAME_SECONDS_MAX: u64 = 10;
/// How long a client may take to finish a frame that it began, and to take an answer.
pub(crate) const STALL_SECONDS_MAX: u64 = 30;
/// How long it may take to take an answer while others want the memory that it holds.
pub(crate) const UNREAD_SECONDS_MAX_WHEN_WANTED: u64 = 1;
/// Buffers that grew beyond this are given back when they are empty.
const IDLE_BUFFER_BYTES_MAX: usize = 64 << 10;

/// Serves a connection until either side ends it.
pub(crate) async fn serve(shard: Rc<Shard>, stream: DetachedStream, peer: SocketAddr) {
    let Ok(stream) = stream.attach() else { return };
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let session = Session::open(&shard, peer);
    let mut connection = Connection {
        stream,
        decoder: FrameDecoder::for_requests(),
        session: session.clone(),
        sending: Vec::new(),
        sent_bytes: 0,
        is_ended: false,
        has_waiting_frames: false,
        waiting: VecDeque::new(),
        held: shard.memory.account(),
        place: Rc::default(),
        waits_for_turn: false,
    };
    poll_fn(|context| connection.poll(context)).await;
    session.close();
}

/// A frame, or what is wrong with it.
pub(crate) type DecodedFrame = Result<Frame, WireError>;

struct Connection {
    stream: TcpStream,
    decoder: FrameDecoder,
    session: Rc<Session>,
    /// Bytes on their way to the socket, in the connection's framing.
    sending: Vec<u8>,
    sent_bytes: usize,
    /// Nothing is read any more; what is in the outbox is still sent.
    is_ended: bool,
    /// There may be whole frames, decoded or not, left because the client was paused.
    has_waiting_frames: bool,
    /// The decoded ones of them; empty while the client is not paused.
    waiting: VecDeque<DecodedFrame>,
    /// What it holds of the shard's memory, as of its last turn.
    held: Held,
    place: Rc<Place>,
    /// It was not heard because the shard's memory is full.
    waits_for_turn: bool,
}

impl Connection {
    /// One turn: read, execute, write. Ends when the connection is over.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.session.outbox().set_waker(context.waker());
        let was_paused = self.is_paused();
        let has_read = match self.poll_read(context) {
            Ok(has_read) => has_read,
            Err(Closed) => return Poll::Ready(()),
        };
        if self.poll_write(context).is_err() {
            return Poll::Ready(());
        }
        let has_its_turn = self.account();
        let is_flushed = self.sending.is_empty() && self.session.outbox().is_empty();
        if self.session.is_killed() || (self.is_ended && is_flushed && self.session.is_quiet()) {
            return Poll::Ready(());
        }
        if has_read || has_its_turn || (was_paused && !self.is_paused()) {
            // There may be more; other connections of the shard come first. After a pause nobody
            // else wakes this task: the socket was not asked.
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Whether the client has to take answers before it is heard again. Answers that are still
    /// being made count as what this client's answers have been lately: a thousand small requests
    /// may be a gigabyte of rows.
    fn is_paused(&self) -> bool {
        let in_flight = self.session.requests_in_flight();
        let expected_bytes = self.session.outbox().expected_bytes(in_flight);
        expected_bytes + self.sending.len() > OUTBOX_BYTES_MAX
            || in_flight >= REQUESTS_IN_FLIGHT_MAX
    }

    /// Whether it has to wait until the shard's connections hold less. One that holds nothing is
    /// heard in any case.
    fn is_held_up(&mut self, context: &Context<'_>) -> bool {
        let memory = &self.session.shard().memory;
        let may_go_on = self.held.bytes() == 0 || memory.may_go_on(&self.place, context.waker());
        self.waits_for_turn = !may_go_on;
        self.waits_for_turn
    }

    /// Reports what it holds. Says whether it is to be heard again at once, since it waited for a
    /// turn and holds nothing any more.
    fn account(&mut self) -> bool {
        let unsent = self.sending.len() - self.sent_bytes + self.session.outbox().len();
        let waiting = self.waiting.iter().flatten().map(|frame| frame.body.len());
        let bytes = unsent + waiting.sum::<usize>() + self.decoder.bytes_buffered();
        if bytes != self.held.bytes() {
            self.held.resize(bytes);
        }
        if bytes > 0 {
            return false;
        }
        self.session.shard().memory.end_turn(&self.place);
        std::mem::take(&mut self.waits_for_turn)
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Result<bool, Closed> {
        if self.is_ended || self.is_paused() || self.is_held_up(context) {
            return Ok(false);
        }
        let shard = self.session.shard().clone();
        if self.has_waiting_frames {
            shard.take_turn(|| self.execute_frames());
            return Ok(true);
        }
        let mut scratch = shard.read_buffer.borrow_mut();
        let mut buffer = ReadBuf::new(&mut scratch);
        match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
            Poll::Pending => {
                // The rest of a frame may be held back until its beginning is acknowledged. What
                // is wrong with the socket shows when it is used.
                if self.decoder.bytes_buffered() > 0 {
                    self.stream.acknowledge().ok();
                }
                Ok(false)
            }
            Poll::Ready(Err(_)) => Err(Closed),
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                self.is_ended = true;
                if self.session.is_quiet() { Err(Closed) } else { Ok(false) }
            }
            Poll::Ready(Ok(())) => {
                self.decoder.feed(buffer.filled());
                drop(scratch);
                shard.take_turn(|| self.execute_frames());
                Ok(true)
            }
        }
    }

    /// Executes what the decoder holds, until the client has to be paused: one read may bring a
    /// thousand small requests with large answers.
    fn execute_frames(&mut self) {
        self.has_waiting_frames = false;
        let shard = self.session.shard().clone();
        let mut frames = if self.waiting.is_empty() {
            shard.frames.take()
        } else {
            std::mem::take(&mut self.waiting)
        };
        loop {
            if self.is_paused() {
                self.has_waiting_frames = true;
                break;
            }
            if frames.is_empty() {
                self.decode_frames(&mut frames);
            }
            match frames.pop_front() {
                Some(Ok(frame)) => {
                    self.session.note_frame();
                    if self.is_overloaded() {
                        self.refuse_overloaded(&frame);
                        continue;
                    }
                    if let Some(started) = statement::dispatch(&self.session, &frame) {
                        let (version, framing) = (started.version, started.framing);
                        self.decoder.started(version, framing, started.frame_bytes_max);
                    }
                }
                Some(Err(error)) => {
                    self.refuse(&error);
                    if error.scope == ErrorScope::Connection {
                        self.is_ended = true;
                        break;
                    }
                }
                None => break,
            }
        }
        if frames.is_empty() {
            shard.frames.replace(frames);
        } else {
            self.waiting = frames;
        }
        let is_partial = !self.has_waiting_frames && self.decoder.bytes_buffered() > 0;
        self.session.note_partial_frame(is_partial);
    }

    /// Takes the next frames from the decoder and looks ahead at them. Before STARTUP is answered
    /// only one: how the next is to be read depends on it.
    fn decode_frames(&mut self, frames: &mut VecDeque<DecodedFrame>) {
        let count_max = if self.session.is_started.get() { FRAMES_AHEAD_MAX } else { 1 };
        while frames.len() < count_max
            && let Some(frame) = self.decoder.next_frame().transpose()
        {
            let is_last = matches!(&frame, Err(error) if error.scope == ErrorScope::Connection);
            frames.push_back(frame);
            if is_last {
                break;
            }
        }
        if frames.len() > 1 {
            statement::look_ahead(&self.session, frames.iter().flatten());
        }
    }

    fn is_overloaded(&self) -> bool {
        self.session.shard().memory.is_overloaded() && self.session.is_started.get()
    }

    /// Answers a request that was not looked at.
    fn refuse_overloaded(&mut self, frame: &Frame) {
        let head = ResponseHead::new(self.session.version.get(), frame.header.stream);
        let message = "this node's connections hold too much memory";
        let response = ErrorResponse::new(ErrorBody::Overloaded, message);
        self.session.outbox().write(|out| response.write(out, &head));
    }

    /// Answers bytes that are no request.
    fn refuse(&mut self, error: &WireError) {
        let head = ResponseHead::new(self.decoder.answer_version(), error.stream);
        let response = ErrorResponse::new(ErrorBody::Protocol, error.message.clone());
        self.session.outbox().write(|out| response.write(out, &head));
    }

    fn poll_write(&mut self, context: &mut Context<'_>) -> Result<(), Closed> {
        loop {
            if self.sending.is_empty() {
                self.session.outbox().take(&mut self.sending);
                self.sent_bytes = 0;
                if self.sending.is_empty() {
                    if self.sending.capacity() > IDLE_BUFFER_BYTES_MAX {
                        self.sending = Vec::new();
                    }
                    return Ok(());
                }
            }
            let rest = &self.sending[self.sent_bytes..];
            match Pin::new(&mut self.stream).poll_write(context, rest) {
                Poll::Pending => {
                    self.session.note_stalled_write();
                    return Ok(());
                }
                Poll::Ready(Ok(0) | Err(_)) => return Err(Closed),
                Poll::Ready(Ok(count)) => {
                    self.session.note_write();
                    self.sent_bytes += count;
                    if self.sent_bytes == self.sending.len() {
                        self.sending.clear();
                        self.sent_bytes = 0;
                    }
                }
            }
        }
    }
}

/// The other side is gone.
struct Closed;
