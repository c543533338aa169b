//! The links of one shard: what each holds, and how connections come to stand and go.
//!
//! A link is one pair of shards, whether connected or not. What is sent while it is being dialled
//! waits in the link and moves into the connection; what is sent while it is down is refused.

use super::ask::Asks;
use super::batch::Kind;
use super::feed::{Feed, FeedError, Sent};
use super::inbox::{Event, InboxSender};
use super::introduction::IntroductionError;
use super::limits::{BACKOFF_MAX, DIAL_TIME_MAX};
use super::link::{Backoff, Crossing, Standing, meets, replaces};
use super::outbox::{Class, Outbox, Place};
use super::peers::{Figures, Peer, SendError};
use super::registry::{Registry, address_of};
use super::session::{Cause, Established, Session};
use super::throttle::Throttle;
use super::transport::OwnedTasks;
use crate::ring::HostId;
use env::{Entropy, Env};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

/// What all links of a shard share. Its tasks hold it, so its owner ends them: [`Inner::close`].
pub(super) struct Inner {
    pub(super) env: Env,
    pub(super) registry: Registry,
    pub(super) shard: u16,
    pub(super) inbox: InboxSender,
    pub(super) throttle: Rc<RefCell<Throttle>>,
    entropy: RefCell<Entropy>,
    links: RefCell<BTreeMap<Peer, Rc<Link>>>,
    addresses: RefCell<BTreeMap<HostId, SocketAddr>>,
    /// Connections that came in and do not stand yet, and streams that are received.
    accepting: RefCell<BTreeMap<u64, Accepting>>,
    next_number: Cell<u64>,
}

/// A connection that is served and belongs to no link.
pub(super) struct Accepting {
    pub(super) is_stream: bool,
    pub(super) tasks: OwnedTasks,
    /// Whose link it is about to be the connection of.
    pub(super) welcomed: Option<Peer>,
}

/// A dial that is under way. Dropping it gives it up.
pub(super) struct Dial {
    pub(super) since_nanos: u64,
    pub(super) _end: oneshot::Sender<()>,
}

/// One pair of shards.
///
/// Invariant: `waiting` is empty unless the link is being dialled and not connected.
pub(super) struct Link {
    pub(super) peer: Peer,
    pub(super) asks: Asks,
    /// The connection came or went, or the peer has another address.
    pub(super) changed: Notify,
    session: RefCell<Option<Session>>,
    waiting: RefCell<Outbox>,
    /// What is sent waits.
    is_dialling: Cell<bool>,
    dial: RefCell<Option<Dial>>,
    backoff: RefCell<Backoff>,
    dialler: RefCell<Option<OwnedTasks>>,
    last_error: RefCell<Option<IntroductionError>>,
    figures: Cell<Figures>,
}

impl Inner {
    pub(super) fn new(env: &Env, registry: Registry, shard: u16, inbox: InboxSender) -> Inner {
        let entropy = env.entropy.generator(&format!("peers of shard {shard}"));
        Inner {
            env: env.clone(),
            registry,
            shard,
            inbox,
            throttle: Rc::new(RefCell::new(Throttle::new(0))),
            entropy: RefCell::new(entropy),
            links: RefCell::default(),
            addresses: RefCell::default(),
            accepting: RefCell::default(),
            next_number: Cell::new(0),
        }
    }

    pub(super) fn set_address(&self, host_id: HostId, address: SocketAddr) {
        let before = self.addresses.borrow_mut().insert(host_id, address);
        if before != Some(address) {
            let links = self.links.borrow();
            let of_host = links.values().filter(|link| link.peer.host_id == host_id);
            of_host.for_each(|link| link.changed.notify_one());
        }
    }

    /// Where to dial a node: where it is known to be, else where it said it is.
    pub(super) fn address(&self, host_id: HostId) -> Option<SocketAddr> {
        let known = self.addresses.borrow().get(&host_id).copied();
        known.or_else(|| address_of(&self.registry, host_id))
    }

    pub(super) fn link(&self, peer: Peer) -> Option<Rc<Link>> {
        self.links.borrow().get(&peer).cloned()
    }

    pub(super) fn links(&self) -> Vec<Rc<Link>> {
        self.links.borrow().values().cloned().collect()
    }

    pub(super) fn link_or_new(&self, peer: Peer) -> Rc<Link> {
        let mut links = self.links.borrow_mut();
        links.entry(peer).or_insert_with(|| Rc::new(Link::new(peer))).clone()
    }

    pub(super) fn number(&self) -> u64 {
        let number = self.next_number.get();
        self.next_number.set(number + 1);
        number
    }

    /// A pause after a failure.
    pub(super) fn pause(&self, link: &Link) -> Duration {
        link.backoff.borrow_mut().failed(&mut self.entropy.borrow_mut())
    }

    pub(super) fn keep_accepting(&self, number: u64, accepting: Accepting) {
        self.accepting.borrow_mut().insert(number, accepting);
    }

    pub(super) fn take_accepting(&self, number: u64) -> Option<Accepting> {
        let taken = self.accepting.borrow_mut().remove(&number);
        if let Some(peer) = taken.as_ref().and_then(|accepting| accepting.welcomed)
            && let Some(link) = self.link(peer)
        {
            link.changed.notify_one();
        }
        taken
    }

    /// Whether the peer was let in with a connection that does not stand yet.
    pub(super) fn is_welcomed(&self, peer: Peer) -> bool {
        self.accepting.borrow().values().any(|accepting| accepting.welcomed == Some(peer))
    }

    /// Lets the peer in with a connection that is to be its link's, unless a dial of ours is to be.
    pub(super) fn welcome(
        &self,
        peer: Peer,
        number: u64,
        standing: Standing,
    ) -> Result<(), IntroductionError> {
        self.judge(peer, standing)?;
        if let Some(link) = self.link(peer) {
            link.meet_dial(standing.since_nanos, self.registry.us().host_id)?;
        }
        if let Some(accepting) = self.accepting.borrow_mut().get_mut(&number) {
            accepting.welcomed = Some(peer);
        }
        Ok(())
    }

    /// Runs a task of a connection that is served, for as long as that is.
    pub(super) fn spawn_for(&self, number: u64, task: impl Future<Output = ()> + 'static) {
        if let Some(accepting) = self.accepting.borrow().get(&number) {
            accepting.tasks.0.spawn(task);
        }
    }

    /// Ends a connection that is served, after time enough for what was said last.
    pub(super) fn end_soon(self: &Rc<Inner>, number: u64) {
        let inner = self.clone();
        self.spawn_for(number, async move {
            inner.env.clock.sleep(DIAL_TIME_MAX).await;
            drop(inner.take_accepting(number));
        });
    }

    /// Connections that were accepted and stand for nothing yet, and bulk streams that come in.
    pub(super) fn accepting_counts(&self) -> (usize, usize) {
        let accepting = self.accepting.borrow();
        let stream_count = accepting.values().filter(|accepting| accepting.is_stream).count();
        (accepting.len() - stream_count, stream_count)
    }

    /// Whether a connection that begins now could stand.
    fn judge(&self, peer: Peer, standing: Standing) -> Result<(), IntroductionError> {
        let Some(link) = self.link(peer) else { return Ok(()) };
        let session = link.session.borrow();
        let us = self.registry.us().host_id;
        match &*session {
            Some(session) if !replaces(standing, session.standing, peer.host_id, us) => {
                Err(IntroductionError::AlreadyConnected)
            }
            _ => Ok(()),
        }
    }

    /// Lets a connection stand, in place of the one that did.
    pub(super) fn adopt(
        self: &Rc<Inner>,
        link: &Rc<Link>,
        new: Established,
    ) -> Result<(), IntroductionError> {
        self.judge(link.peer, new.standing)?;
        if let Some(session) = link.session.take() {
            self.ended(link, &session, Cause::Replaced);
        }
        let identity = new.identity.clone();
        new.feed.open_with(link.waiting.replace(Outbox::new()));
        let session = Session::begin(self, link, self.number(), new);
        link.session.replace(Some(session));
        link.is_dialling.set(false);
        link.last_error.replace(None);
        link.count(|figures| figures.connections += 1);
        self.inbox.notify(Event::Connected { peer: link.peer, identity });
        link.changed.notify_one();
        Ok(())
    }

    /// A connection's reader came to its end.
    pub(super) fn session_ended(&self, link: &Rc<Link>, number: u64, cause: Cause) {
        let is_current = link.session.borrow().as_ref().is_some_and(|s| s.number == number);
        if is_current && let Some(session) = link.session.take() {
            self.ended(link, &session, cause);
            link.changed.notify_one();
        }
    }

    /// Tells everybody that a connection is gone.
    fn ended(&self, link: &Link, session: &Session, cause: Cause) {
        let lived_nanos =
            self.env.clock.monotonic_nanos().saturating_sub(session.standing.since_nanos);
        // One that breaks as soon as it stands is no success.
        if u128::from(lived_nanos) >= BACKOFF_MAX.as_nanos() {
            link.backoff.borrow_mut().succeeded();
        }
        session.feed.close();
        link.asks.end_all(|place| session.feed.is_taken(place));
        link.add_sent(session.feed.sent());
        self.inbox.notify(Event::Disconnected { peer: link.peer, cause });
    }

    /// A dial was in vain: what waited for it is lost.
    pub(super) fn dial_failed(&self, link: &Link, error: IntroductionError) {
        if link.is_connected() {
            return;
        }
        link.is_dialling.set(false);
        link.waiting.replace(Outbox::new());
        link.asks.end_all(|_| false);
        if link.last_error.borrow().as_ref() != Some(&error) {
            link.last_error.replace(Some(error.clone()));
            self.inbox.notify(Event::Unreachable { peer: link.peer, error });
        }
    }

    /// Ends everything between this shard and a node.
    pub(super) fn forget(&self, host_id: HostId) {
        self.addresses.borrow_mut().remove(&host_id);
        let mut links = self.links.borrow_mut();
        let peers: Vec<Peer> =
            links.keys().filter(|peer| peer.host_id == host_id).copied().collect();
        let links: Vec<Rc<Link>> = peers.iter().filter_map(|peer| links.remove(peer)).collect();
        for link in links {
            link.dialler.replace(None);
            link.is_dialling.set(false);
            link.asks.end_all(|place| {
                link.session.borrow().as_ref().is_some_and(|session| session.feed.is_taken(place))
            });
            if let Some(session) = link.session.take() {
                self.ended(&link, &session, Cause::Forgotten);
            }
        }
    }

    /// Ends all tasks. The links hold tasks that hold this, so nothing is freed before.
    pub(super) fn close(&self) {
        let links = std::mem::take(&mut *self.links.borrow_mut());
        for link in links.into_values() {
            link.dialler.replace(None);
            link.session.replace(None);
        }
        let accepting = std::mem::take(&mut *self.accepting.borrow_mut());
        drop(accepting);
    }
}

impl Link {
    fn new(peer: Peer) -> Link {
        Link {
            peer,
            asks: Asks::default(),
            changed: Notify::new(),
            session: RefCell::new(None),
            waiting: RefCell::new(Outbox::new()),
            is_dialling: Cell::new(false),
            dial: RefCell::new(None),
            backoff: RefCell::default(),
            dialler: RefCell::new(None),
            last_error: RefCell::new(None),
            figures: Cell::default(),
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.session.borrow().is_some()
    }

    /// From here on what is sent waits.
    pub(super) fn begin_dial(&self) {
        self.is_dialling.set(true);
    }

    /// Takes note of a dial, or that there is none.
    pub(super) fn set_dial(&self, dial: Option<Dial>) {
        self.dial.replace(dial);
    }

    /// The peer has dialled; a dial of ours that is under way may have to give way to it.
    fn meet_dial(&self, now_nanos: u64, us: HostId) -> Result<(), IntroductionError> {
        let since_nanos = self.dial.borrow().as_ref().map(|dial| dial.since_nanos);
        let Some(since_nanos) = since_nanos else { return Ok(()) };
        match meets(now_nanos.saturating_sub(since_nanos), self.peer.host_id, us) {
            Crossing::OursStays => return Err(IntroductionError::AlreadyConnected),
            Crossing::OursGoes => self.set_dial(None),
            Crossing::NotOurs => {}
        }
        Ok(())
    }

    pub(super) fn has_dialler(&self) -> bool {
        self.dialler.borrow().is_some()
    }

    pub(super) fn set_dialler(&self, tasks: OwnedTasks) {
        self.dialler.replace(Some(tasks));
    }

    /// Adds a message to what goes out.
    pub(super) fn push(
        &self,
        class: Class,
        kind: Kind,
        head: &[u8],
        parts: &[&[u8]],
    ) -> Result<Place, SendError> {
        let pushed = match &*self.session.borrow() {
            Some(session) => session.feed.push(class, kind, head, parts),
            None if self.is_dialling.get() => {
                let mut waiting = self.waiting.borrow_mut();
                waiting.push(class, kind, head, parts).map_err(FeedError::Outbox)
            }
            None => Err(FeedError::Closed),
        };
        pushed.map_err(|error| {
            let error = SendError::from(error);
            self.count(|figures| match error {
                SendError::Full | SendError::TooLarge => figures.refused_full += 1,
                SendError::NotConnected | SendError::UnknownHost => figures.refused_down += 1,
            });
            error
        })
    }

    fn count(&self, change: impl FnOnce(&mut Figures)) {
        let mut figures = self.figures.get();
        change(&mut figures);
        self.figures.set(figures);
    }

    pub(super) fn count_received(&self, bytes: usize) {
        self.count(|figures| {
            figures.received_batches += 1;
            figures.received_bytes += bytes as u64;
        });
    }

    pub(super) fn count_messages(&self, count: usize) {
        self.count(|figures| figures.received_messages += count as u64);
    }

    fn add_sent(&self, sent: Sent) {
        self.count(|figures| figures.add_sent(sent));
    }

    /// The figures so far, those of the connection that stands included.
    pub(super) fn figures(&self) -> Figures {
        let mut figures = self.figures.get();
        figures.waiting_bytes = self.waiting.borrow().bytes() as u64;
        if let Some(session) = &*self.session.borrow() {
            let feed: &Arc<Feed> = &session.feed;
            figures.add_sent(feed.sent());
            figures.is_connected = true;
            figures.waiting_bytes += feed.waiting_bytes() as u64;
        }
        figures
    }
}
