//! How connections of a shard come about: dialled by a task per link, or accepted.

use super::acceptor::{Accepted, dial, refuse, welcome};
use super::feed::{Feed, Outbound};
use super::hello::{Hello, Purpose};
use super::hub::{Accepting, Dial, Inner, Link};
use super::introduction::{IntroductionError, RefusalCode};
use super::limits::{DIAL_TIME_MAX, INCOMING_STREAMS_MAX, INTRODUCTIONS_MAX};
use super::link::Standing;
use super::outbox::Outbox;
use super::peers::Peer;
use super::registry::Admission;
use super::session::Established;
use super::stream;
use super::transport::{LocalTasks, OwnedTasks, call, serve};
use super::wait::within;
use bytes::Bytes;
use env::net::TcpStream;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use tokio::sync::oneshot;
use tonic::{Status, Streaming};

impl Inner {
    /// Dials the link from here on whenever it is not connected.
    pub(super) fn keep_connected(self: &Rc<Inner>, link: &Rc<Link>) {
        if link.has_dialler() {
            return;
        }
        if !link.is_connected() {
            // What is sent next waits for the first dial; the task has not run yet.
            link.begin_dial();
        }
        let tasks = LocalTasks::default();
        tasks.spawn(keep_connected(self.clone(), link.clone()));
        link.set_dialler(OwnedTasks(tasks));
    }

    /// This shard's introduction to another.
    pub(super) fn hello(&self, to: Peer, purpose: Purpose) -> Hello {
        let identity = self.registry.us();
        let remembered = self.registry.remembered(to.host_id);
        Hello { identity, purpose, from_shard: self.shard, to_shard: to.shard, remembered }
    }

    /// Serves a connection that the acceptor let in.
    pub(super) fn accept(self: &Rc<Inner>, accepted: Accepted) {
        let number = self.number();
        let tasks = LocalTasks::default();
        let is_stream = accepted.purpose() == Purpose::Stream;
        let inner = self.clone();
        let own_tasks = tasks.clone();
        tasks.spawn(async move {
            serve_accepted(&inner, accepted, number, &own_tasks).await;
            // Of a connection that stands the link has the tasks; this ends what does not.
            drop(inner.take_accepting(number));
        });
        self.keep_accepting(
            number,
            Accepting { is_stream, tasks: OwnedTasks(tasks), welcomed: None },
        );
    }
}

async fn keep_connected(inner: Rc<Inner>, link: Rc<Link>) {
    let mut must_pause = false;
    loop {
        if link.is_connected() {
            link.changed.notified().await;
            must_pause = true;
            continue;
        }
        if must_pause {
            let pause = inner.pause(&link);
            // Another address, or a connection that came in, ends the pause.
            within(&inner.env.clock, pause, link.changed.notified()).await;
            must_pause = false;
            continue;
        }
        must_pause = true;
        if !inner.inbox.has_room() {
            continue;
        }
        link.begin_dial();
        if inner.is_welcomed(link.peer) {
            link.changed.notified().await;
            must_pause = false;
            continue;
        }
        let connected = match connect_unless_given_up(&inner, &link).await {
            Ok(established) => inner.adopt(&link, established),
            Err(error) => Err(error),
        };
        match connected {
            Ok(()) => {}
            // The connection that the peer made instead is there or about to be.
            Err(
                IntroductionError::AlreadyConnected
                | IntroductionError::Refused { code: RefusalCode::AlreadyConnected, .. },
            ) => {}
            Err(error) => inner.dial_failed(&link, error),
        }
    }
}

/// Dials a link once, unless the peer's connection comes first.
async fn connect_unless_given_up(
    inner: &Rc<Inner>,
    link: &Link,
) -> Result<Established, IntroductionError> {
    let (end, given_up) = oneshot::channel();
    link.set_dial(Some(Dial { since_nanos: inner.env.clock.monotonic_nanos(), _end: end }));
    let connected = tokio::select! {
        biased;
        connected = connect(inner, link.peer) => connected,
        _ = given_up => Err(IntroductionError::AlreadyConnected),
    };
    link.set_dial(None);
    connected
}

/// Dials a peer once, and speaks first.
async fn connect(inner: &Rc<Inner>, peer: Peer) -> Result<Established, IntroductionError> {
    let (socket, hello, admission) = call_peer(inner, peer, Purpose::Messages).await?;
    let (tasks, feed) = (OwnedTasks(LocalTasks::default()), Feed::new(Outbox::new()));
    let call = call(socket, &tasks.0, feed.outbound());
    let batches = within(&inner.env.clock, DIAL_TIME_MAX, call)
        .await
        .ok_or(IntroductionError::Stalled(DIAL_TIME_MAX))?
        .map_err(|status| from_status(&status))?;
    let standing = Standing {
        dialled_by: inner.registry.us().host_id,
        incarnation: admission.incarnation(),
        since_nanos: inner.env.clock.monotonic_nanos(),
    };
    Ok(Established { standing, identity: hello.identity, admission, feed, batches, tasks })
}

/// A socket to a peer, introduced, whose start is remembered: that it answered says that it has all
/// starts that were remembered of it.
pub(super) async fn call_peer(
    inner: &Inner,
    peer: Peer,
    purpose: Purpose,
) -> Result<(TcpStream, Hello, Admission), IntroductionError> {
    let Some(address) = inner.address(peer.host_id) else {
        return Err(IntroductionError::Network("the node's address is not known".into()));
    };
    let hello = inner.hello(peer, purpose);
    let dialled = dial(&inner.env, &inner.registry, address, &hello, Some(peer.host_id)).await?;
    let remembering = inner.registry.remember(&dialled.1.identity);
    within(&inner.env.clock, DIAL_TIME_MAX, remembering)
        .await
        .unwrap_or(Err(IntroductionError::Stalled(DIAL_TIME_MAX)))?;
    Ok(dialled)
}

/// What a peer said over HTTP/2 instead of accepting a stream.
pub(super) fn from_status(status: &Status) -> IntroductionError {
    match status.code() {
        tonic::Code::AlreadyExists => IntroductionError::AlreadyConnected,
        _ => IntroductionError::Network(status.message().to_owned()),
    }
}

async fn serve_accepted(inner: &Rc<Inner>, accepted: Accepted, number: u64, tasks: &LocalTasks) {
    let (socket, hello, admission) = accepted.into_parts();
    let Ok(mut socket) = socket.attach() else { return };
    if socket.set_nodelay(true).is_err() {
        return;
    }
    let peer = Peer { host_id: hello.identity.host_id, shard: hello.from_shard };
    let standing = Standing {
        dialled_by: peer.host_id,
        incarnation: admission.incarnation(),
        since_nanos: inner.env.clock.monotonic_nanos(),
    };
    if let Err(error) = may_begin(inner, &hello, peer, number, standing) {
        refuse(&inner.env.clock, &mut socket, &error).await;
        return;
    }
    if welcome(&mut socket, &inner.registry, &hello).await.is_err() {
        return;
    }
    let (began, begun) = oneshot::channel();
    let inner_of_stream = inner.clone();
    let purpose = hello.purpose;
    let on_stream = async move |batches: Streaming<Bytes>| {
        began.send(()).ok();
        // It speaks, so it has all starts that were remembered of it.
        let remembered = inner_of_stream.registry.remember(&hello.identity).await;
        remembered.map_err(|error| Status::failed_precondition(error.to_string()))?;
        match purpose {
            Purpose::Stream => {
                Ok(stream::receive(&inner_of_stream, peer, number, admission, batches))
            }
            _ => stand(&inner_of_stream, peer, number, standing, (hello, admission, batches)),
        }
    };
    let connection = serve(socket, tasks, on_stream);
    serve_until_silent(inner, connection, begun).await;
}

/// Drives a connection to its end. One on which the peer does not begin is given up.
async fn serve_until_silent(
    inner: &Inner,
    connection: impl Future<Output = Result<(), hyper::Error>>,
    begun: oneshot::Receiver<()>,
) {
    let mut connection = pin!(connection);
    let mut begun = pin!(begun);
    let began = within(&inner.env.clock, DIAL_TIME_MAX, async {
        poll_fn(|context| {
            if connection.as_mut().poll(context).is_ready() {
                return Poll::Ready(false);
            }
            begun.as_mut().poll(context).map(|begun| begun.is_ok())
        })
        .await
    });
    if began.await == Some(true) {
        // How it ends is told by the stream that it carries.
        connection.await.ok();
    }
}

/// Whether a connection may begin, before it is answered.
fn may_begin(
    inner: &Inner,
    hello: &Hello,
    peer: Peer,
    number: u64,
    standing: Standing,
) -> Result<(), IntroductionError> {
    let (connection_count, stream_count) = inner.accepting_counts();
    let is_busy = match hello.purpose {
        Purpose::Stream => stream_count > INCOMING_STREAMS_MAX,
        _ => connection_count > INTRODUCTIONS_MAX,
    };
    if is_busy || !inner.inbox.has_room() {
        return Err(IntroductionError::Busy);
    }
    if hello.purpose == Purpose::Messages { inner.welcome(peer, number, standing) } else { Ok(()) }
}

/// Makes a connection that came in the one of its link.
fn stand(
    inner: &Rc<Inner>,
    peer: Peer,
    number: u64,
    standing: Standing,
    (hello, admission, batches): (Hello, Admission, Streaming<Bytes>),
) -> Result<Outbound, Status> {
    let Some(accepting) = inner.take_accepting(number) else {
        return Err(Status::unavailable("the connection was given up"));
    };
    let feed = Feed::new(Outbox::new());
    let outbound = feed.outbound();
    let tasks = accepting.tasks;
    let identity = hello.identity;
    let established = Established { standing, identity, admission, feed, batches, tasks };
    let link = inner.link_or_new(peer);
    match inner.adopt(&link, established) {
        Ok(()) => Ok(outbound),
        Err(error) => Err(Status::already_exists(error.to_string())),
    }
}
