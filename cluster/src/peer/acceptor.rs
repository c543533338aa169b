//! Introductions over a socket: the node's one acceptor, and the dialling end's part.
//!
//! The acceptor reads what a connection says first, refuses what may not come in, and hands the
//! rest to the shard that it is for. The shard answers, so that an answer means that the shard
//! runs. Everything before that is bounded: introductions at a time, their bytes, their time.

use super::hello::{BODY_BYTES_MAX, encode_refusal};
use super::hello::{HEAD_BYTES, Head, Hello, Identity, Purpose, Said};
use super::introduction::{IntroductionError, RefusalCode};
use super::limits::{DIAL_TIME_MAX, INTRODUCTION_TIME_MAX, INTRODUCTIONS_MAX};
use super::registry::{Admission, Registry};
use super::wait::within;
use env::net::{DetachedStream, TcpListener, TcpStream};
use env::{Clock, Env};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

/// How long to wait after an accept that failed for want of files or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a refused end may still have sent, read so that closing does not destroy the refusal.
const UNREAD_BYTES_MAX: usize = 64 * 1024;

/// A connection of a node that was let in, on its way to its shard.
#[derive(Debug)]
pub struct Accepted(Box<Parts>);

#[derive(Debug)]
struct Parts {
    socket: DetachedStream,
    hello: Hello,
    admission: Admission,
}

impl Accepted {
    /// The shard of this node that it is for.
    pub fn to_shard(&self) -> u16 {
        self.0.hello.to_shard
    }

    /// Who it is from.
    pub fn from(&self) -> &Identity {
        &self.0.hello.identity
    }

    pub(super) fn purpose(&self) -> Purpose {
        self.0.hello.purpose
    }

    pub(super) fn into_parts(self) -> (DetachedStream, Hello, Admission) {
        let Parts { socket, hello, admission } = *self.0;
        (socket, hello, admission)
    }
}

/// Accepts connections of other nodes until it is dropped, and hands each to `hand_over`, which
/// gives it back if its shard has no room for it. `report` hears of each that was not let in.
/// Needs a `LocalSet`.
pub async fn accept_peers(
    env: &Env,
    registry: &Registry,
    listener: TcpListener,
    hand_over: impl Fn(Accepted) -> Result<(), Accepted> + 'static,
    report: impl Fn(SocketAddr, IntroductionError) + 'static,
) {
    let shared = Rc::new((env.clock.clone(), registry.clone(), hand_over, report));
    let mut introductions = JoinSet::new();
    loop {
        let Ok((socket, from)) = listener.accept().await else {
            env.clock.sleep(ACCEPT_PAUSE).await;
            continue;
        };
        while introductions.try_join_next().is_some() {}
        if introductions.len() >= INTRODUCTIONS_MAX {
            (shared.3)(from, IntroductionError::Busy);
            continue;
        }
        let shared = shared.clone();
        introductions.spawn_local(async move {
            let (clock, registry, hand_over, report) = &*shared;
            let introduction = meet(clock, registry, socket, hand_over);
            let met = within(clock, INTRODUCTION_TIME_MAX, introduction).await;
            let met = met.unwrap_or(Err(IntroductionError::Stalled(INTRODUCTION_TIME_MAX)));
            if let Err(error) = met {
                report(from, error);
            }
        });
    }
}

/// Hears one connection out, and hands it over or refuses it.
async fn meet(
    clock: &Clock,
    registry: &Registry,
    mut socket: TcpStream,
    hand_over: &impl Fn(Accepted) -> Result<(), Accepted>,
) -> Result<(), IntroductionError> {
    let admitted = match read(&mut socket).await {
        Ok(Said::Hello(hello)) => registry.admit(&hello).map(|admission| (hello, admission)),
        Ok(Said::Refusal(..)) => Err(IntroductionError::Garbled("a refusal comes second")),
        Err(error) => Err(error),
    };
    let (hello, admission) = match admitted {
        Ok(admitted) => admitted,
        Err(error) => {
            refuse(clock, &mut socket, &error).await;
            return Err(error);
        }
    };
    if hello.purpose == Purpose::Introduction {
        return welcome(&mut socket, registry, &hello).await;
    }
    let accepted = Accepted(Box::new(Parts { socket: socket.detach()?, hello, admission }));
    if let Err(accepted) = hand_over(accepted) {
        let mut socket = accepted.0.socket.attach()?;
        refuse(clock, &mut socket, &IntroductionError::Busy).await;
        return Err(IntroductionError::Busy);
    }
    Ok(())
}

/// Answers an introduction with this node's own.
pub(super) async fn welcome(
    socket: &mut TcpStream,
    registry: &Registry,
    hello: &Hello,
) -> Result<(), IntroductionError> {
    let answer = Hello {
        identity: registry.us(),
        purpose: hello.purpose,
        // An introduction alone may name any shard; what is said must be one that exists.
        from_shard: if hello.purpose == Purpose::Introduction { 0 } else { hello.to_shard },
        to_shard: hello.from_shard,
        remembered: registry.remembered(hello.identity.host_id),
    };
    Ok(socket.write_all(&answer.encode()).await?)
}

/// Tells the other end why it is not let in, if it is a node.
pub(super) async fn refuse(clock: &Clock, socket: &mut TcpStream, error: &IntroductionError) {
    let Some(code) = error.refusal() else { return };
    let tell = async {
        socket.write_all(&encode_refusal(code, &error.to_string())).await.ok()?;
        socket.shutdown().await.ok()?;
        let mut unread = [0; 1024];
        let mut unread_bytes = 0;
        while unread_bytes < UNREAD_BYTES_MAX {
            match socket.read(&mut unread).await {
                Ok(count) if count > 0 => unread_bytes += count,
                _ => break,
            }
        }
        Some(())
    };
    within(clock, INTRODUCTION_TIME_MAX / 2, tell).await;
}

/// Calls an address, and introduces both ends: the socket, the other's introduction, and its
/// admission here. `expected` is who should be there, if that is known.
pub(super) async fn dial(
    env: &Env,
    registry: &Registry,
    address: SocketAddr,
    hello: &Hello,
    expected: Option<crate::ring::HostId>,
) -> Result<(TcpStream, Hello, Admission), IntroductionError> {
    let call = async {
        let mut socket = env.net.connect(address).await?;
        socket.set_nodelay(true)?;
        socket.write_all(&hello.encode()).await?;
        let answer = match read(&mut socket).await? {
            Said::Hello(answer) => answer,
            Said::Refusal(RefusalCode::Itself, _) => return Err(IntroductionError::Itself),
            Said::Refusal(code, text) => return Err(IntroductionError::Refused { code, text }),
        };
        let found = answer.identity.host_id;
        if let Some(expected) = expected
            && found != expected
        {
            return Err(IntroductionError::AnotherHost { expected, found });
        }
        let is_answer = answer.purpose == hello.purpose
            && answer.to_shard == hello.from_shard
            && (answer.from_shard == hello.to_shard || hello.purpose == Purpose::Introduction);
        if !is_answer {
            return Err(IntroductionError::Garbled("the answer is to another question"));
        }
        let admission = registry.admit(&answer)?;
        Ok((socket, answer, admission))
    };
    within(&env.clock, DIAL_TIME_MAX, call)
        .await
        .unwrap_or(Err(IntroductionError::Stalled(DIAL_TIME_MAX)))
}

/// Asks who is at an address, as of a seed, of which nothing else is known;
/// [`IntroductionError::Itself`] when it is this node.
pub async fn introduce(
    env: &Env,
    registry: &Registry,
    address: SocketAddr,
) -> Result<Identity, IntroductionError> {
    let identity = registry.us();
    let purpose = Purpose::Introduction;
    let hello = Hello { identity, purpose, from_shard: 0, to_shard: 0, remembered: None };
    let (_, answer, _) = dial(env, registry, address, &hello, None).await?;
    Ok(answer.identity)
}

/// Reads what is said first. The buffer is as large as a body may be, whatever the head says.
async fn read(socket: &mut TcpStream) -> Result<Said, IntroductionError> {
    let mut head = [0; HEAD_BYTES];
    socket.read_exact(&mut head).await?;
    let head = Head::decode(head)?;
    let mut body = [0; BODY_BYTES_MAX];
    let body = &mut body[..head.body_bytes];
    socket.read_exact(body).await?;
    Said::decode(head, body)
}
