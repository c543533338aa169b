//! The state machine of one node: what it asks of every other, and what it has promised them.

use crate::ring::HostId;
use crate::rules::{Rule, is_kept};
use std::collections::BTreeMap;

/// How long a supporter keeps a promise, by its own clock and from receipt.
///
/// A leader that dies is replaced after this time, and a pause of its node that is shorter goes
/// unnoticed.
pub const SUPPORT_NANOS: u64 = 1_000_000_000;

/// How often support is asked for: a promise outlives the loss of three requests in a row.
pub const REQUEST_NANOS: u64 = 200_000_000;

/// How far a clock may run from true time, in millionths. Crystals stay below 100, and a clock that
/// is slewed towards network time below 600.
pub const DRIFT_PPM: u64 = 1_000;

/// How long a requester relies on a promise, by its own clock and from sending: shorter than the
/// promise by the drift of two clocks.
pub const RELIANCE_NANOS: u64 = SUPPORT_NANOS / (1_000_000 + DRIFT_PPM) * (1_000_000 - DRIFT_PPM);

/// How long after its last promise a node is down for those who ask whether enough replicas live. A
/// busy machine lets a promise run out now and then, and a node that has just been met has given none
/// yet: until then a request waits for it within its own time.
pub const DOWN_AFTER_NANOS: u64 = 2_000_000_000;

/// Nodes that are asked and supported: each costs a message per [`REQUEST_NANOS`].
pub const PEERS_MAX: usize = 1_024;

/// How long a supporter prolongs its promise to a requester that does not hear its answers: some may
/// be lost. One that hears nobody could lead, and would be of no use.
const UNHEARD_NANOS: u64 = 2 * REQUEST_NANOS;

const _: () = assert!(RELIANCE_NANOS < SUPPORT_NANOS, "a promise outlives the reliance on it");
const _: () = assert!(REQUEST_NANOS * 3 < RELIANCE_NANOS, "lost requests are made up for in time");

/// A moment of a node's own clock that never goes back and counts suspended time, in nanoseconds
/// from an arbitrary start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct MonotonicNanos(pub u64);

impl MonotonicNanos {
    /// The moment `nanos` later.
    #[must_use]
    pub fn after(self, nanos: u64) -> MonotonicNanos {
        MonotonicNanos(self.0.saturating_add(nanos))
    }
}

/// How many times a node was started; each start is a life of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Incarnation(pub u64);

/// One stretch of support from one node for another; later ones are greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch {
    /// The requester's life.
    pub incarnation: Incarnation,
    /// How often it had to begin anew with this supporter.
    pub round: u64,
}

/// What nodes tell each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// A node asks for support.
    Request {
        /// The stretch it asks for.
        epoch: Epoch,
        /// The life of the supporter that is asked; 0 when it is not known.
        supporter: Incarnation,
        /// When it asked, by its own clock: to be sent back as it is.
        sent: MonotonicNanos,
        /// Whether it relies on support in this epoch now, so that answers do reach it.
        hears: bool,
    },
    /// It is supported for [`SUPPORT_NANOS`] from when the request came.
    Granted {
        /// The epoch asked for.
        epoch: Epoch,
        /// The supporter's life.
        supporter: Incarnation,
        /// The request's.
        sent: MonotonicNanos,
    },
    /// That epoch is over, or was meant for another life of the supporter.
    Refused {
        /// The epoch asked for.
        epoch: Epoch,
        /// The supporter's life.
        supporter: Incarnation,
    },
}

/// What the shell must do, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Make this durable, then call [`Liveness::incarnation_saved`].
    SaveIncarnation(Incarnation),
    /// Send a message; it may be lost, repeated, delayed and reordered.
    Send {
        /// To whom.
        to: HostId,
        /// What.
        message: Message,
    },
    /// This node no longer supports another: groups led there may campaign.
    Withdrawn {
        /// The node.
        from: HostId,
        /// The epoch that is over.
        epoch: Epoch,
    },
    /// Another node supports this one in an epoch that is new: leaders here have to be acknowledged
    /// under it before they count on it.
    Gained {
        /// The supporter.
        by: HostId,
        /// The epoch.
        epoch: Epoch,
    },
}

/// Support that another node has promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Support {
    /// In which epoch.
    pub epoch: Epoch,
    /// Until when it may be relied on, by this node's clock; more of the same epoch may follow.
    pub until: MonotonicNanos,
}

/// One node's promises, given and received.
#[derive(Clone, Debug)]
pub struct Liveness {
    incarnation: Incarnation,
    is_incarnation_saved: bool,
    /// Before this moment promises of a former life may last; none after a first start.
    votes_from: Option<MonotonicNanos>,
    peers: BTreeMap<HostId, Peer>,
}

#[derive(Clone, Debug)]
struct Peer {
    asked: Asked,
    given: Given,
    /// Whether promises to it are not renewed.
    is_declined: bool,
}

/// What this node asks of a peer.
#[derive(Clone, Debug)]
struct Asked {
    epoch: Epoch,
    supporter: Incarnation,
    /// Until when a promise in `epoch` is relied on; none was given at first.
    until: Option<MonotonicNanos>,
    /// Until when one was, in whatever epoch; at first when the peer was added.
    heard_until: MonotonicNanos,
    next_request: MonotonicNanos,
}

/// What this node has promised a peer.
#[derive(Clone, Debug, Default)]
struct Given {
    /// The latest epoch heard of.
    epoch: Epoch,
    /// Until when it is promised; nothing once withdrawn.
    until: Option<MonotonicNanos>,
    /// When the requester last said that it hears the answers, or the epoch began.
    heard_at: MonotonicNanos,
}

impl Liveness {
    /// A node as it starts, with the incarnation that it finds on its disk; nothing on a node that
    /// never ran. It asks and promises nothing before its new incarnation is saved.
    pub fn start(
        found: Option<Incarnation>,
        now: MonotonicNanos,
        effects: &mut Vec<Effect>,
    ) -> Liveness {
        let is_new_life = u64::from(is_kept(Rule::RestartBeginsAnEpoch));
        let incarnation = Incarnation(found.map_or(1, |former| former.0 + is_new_life));
        effects.push(Effect::SaveIncarnation(incarnation));
        Liveness {
            incarnation,
            is_incarnation_saved: false,
            votes_from: found
                .filter(|_| is_kept(Rule::RestartWaits))
                .map(|_| now.after(SUPPORT_NANOS)),
            peers: BTreeMap::new(),
        }
    }

    /// The incarnation is durable.
    pub fn incarnation_saved(&mut self) {
        self.is_incarnation_saved = true;
    }

    /// This node's life.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Adds another node, to be asked from now on. Whether there was room.
    pub fn add_peer(&mut self, peer: HostId, now: MonotonicNanos) -> bool {
        let is_known = self.peers.contains_key(&peer);
        if !is_known && self.peers.len() < PEERS_MAX {
            let epoch = Epoch { incarnation: self.incarnation, round: 1 };
            let supporter = Incarnation::default();
            let asked =
                Asked { epoch, supporter, until: None, heard_until: now, next_request: now };
            let given = Given::default();
            self.peers.insert(peer, Peer { asked, given, is_declined: false });
        }
        self.peers.contains_key(&peer)
    }

    /// The other nodes.
    pub fn peers(&self) -> impl Iterator<Item = HostId> {
        self.peers.keys().copied()
    }

    /// Forgets a node that has left for good. Its id is never used again.
    pub fn remove_peer(&mut self, peer: HostId, effects: &mut Vec<Effect>) {
        if let Some(Peer { given: Given { epoch, until: Some(_), .. }, .. }) =
            self.peers.remove(&peer)
        {
            effects.push(Effect::Withdrawn { from: peer, epoch });
        }
    }

    /// Renews no promise to a node from now on, or does so again. What was promised is kept.
    pub fn set_declined(&mut self, peer: HostId, is_declined: bool) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.is_declined = is_declined;
        }
    }

    /// Lets time pass: withdraws promises that have run out, and asks again.
    pub fn tick(&mut self, now: MonotonicNanos, effects: &mut Vec<Effect>) {
        if self.votes_from.is_some_and(|moment| moment <= now) {
            self.votes_from = None;
        }
        let withdrawn_at =
            if is_kept(Rule::SupportIsKept) { now } else { now.after(SUPPORT_NANOS / 2) };
        for (&host, peer) in &mut self.peers {
            if peer.given.until.take_if(|until| *until <= withdrawn_at).is_some() {
                effects.push(Effect::Withdrawn { from: host, epoch: peer.given.epoch });
            }
            if self.is_incarnation_saved && peer.asked.next_request <= now {
                peer.asked.request(host, now, effects);
            }
        }
    }

    /// When [`Liveness::tick`] has something to do next.
    pub fn next_tick(&self) -> Option<MonotonicNanos> {
        let requests = self.peers.values().map(|peer| peer.asked.next_request);
        let requests = requests.filter(|_| self.is_incarnation_saved);
        let promises = self.peers.values().filter_map(|peer| peer.given.until);
        requests.chain(promises).chain(self.votes_from).min()
    }

    /// Takes a message; one from a node that is no peer is ignored.
    pub fn receive(
        &mut self,
        from: HostId,
        message: Message,
        now: MonotonicNanos,
        effects: &mut Vec<Effect>,
    ) {
        let Some(peer) = self.peers.get_mut(&from).filter(|_| self.is_incarnation_saved) else {
            return;
        };
        match message {
            Message::Request { epoch, supporter, sent, hears } => {
                let is_meant = supporter == self.incarnation || !is_kept(Rule::RequestNamesALife);
                if peer.is_declined || epoch < peer.given.epoch {
                    return;
                }
                let supporter = self.incarnation;
                if !is_meant || peer.given.is_over(epoch) {
                    let message = Message::Refused { epoch, supporter };
                    effects.push(Effect::Send { to: from, message });
                } else if peer.given.extend(from, epoch, hears, now, effects) {
                    let message = Message::Granted { epoch, supporter, sent };
                    effects.push(Effect::Send { to: from, message });
                }
            }
            Message::Granted { epoch, supporter, sent } => {
                let asked = &mut peer.asked;
                if epoch != asked.epoch || supporter != asked.supporter || sent > now {
                    return;
                }
                if asked.until.is_none() {
                    effects.push(Effect::Gained { by: from, epoch });
                }
                let start = if is_kept(Rule::FromSending) { sent } else { now };
                let nanos = if is_kept(Rule::Margin) { RELIANCE_NANOS } else { SUPPORT_NANOS };
                asked.until = asked.until.max(Some(start.after(nanos)));
                asked.heard_until = asked.heard_until.max(start.after(nanos));
            }
            Message::Refused { epoch, supporter } => {
                if epoch == peer.asked.epoch && supporter >= peer.asked.supporter {
                    peer.asked.begin_anew(supporter);
                    peer.asked.request(from, now, effects);
                }
            }
        }
    }

    /// The epoch in which this node supports another: until it is withdrawn, whatever a clock says.
    pub fn supports(&self, peer: HostId) -> Option<Epoch> {
        let given = &self.peers.get(&peer)?.given;
        given.until.map(|_| given.epoch)
    }

    /// What another node has promised this one, in the epoch that is asked for now. Whether it can
    /// still be relied on is for the caller to see, by looking at the clock last of all.
    pub fn support_from(&self, peer: HostId) -> Option<Support> {
        let asked = &self.peers.get(&peer)?.asked;
        asked.until.map(|until| Support { epoch: asked.epoch, until })
    }

    /// Until when the last promise of another node was relied on, or when that node was added if it
    /// has given none.
    pub fn heard_until(&self, peer: HostId) -> Option<MonotonicNanos> {
        self.peers.get(&peer).map(|peer| peer.asked.heard_until)
    }

    /// Whether nothing that a former life of this node has promised can still be relied on. Until
    /// then none of its members votes or campaigns.
    pub fn may_vote(&self) -> bool {
        self.is_incarnation_saved && self.votes_from.is_none()
    }
}

impl Asked {
    fn request(&mut self, to: HostId, now: MonotonicNanos, effects: &mut Vec<Effect>) {
        let Asked { epoch, supporter, until, .. } = *self;
        let hears = until.is_some_and(|until| until > now);
        let message = Message::Request { epoch, supporter, sent: now, hears };
        effects.push(Effect::Send { to, message });
        // At a multiple, so that all nodes are asked at once, and the thread that does it is woken
        // together with what else happens at such multiples.
        self.next_request =
            MonotonicNanos(now.after(REQUEST_NANOS).0 / REQUEST_NANOS * REQUEST_NANOS);
    }

    fn begin_anew(&mut self, supporter: Incarnation) {
        self.epoch.round += 1;
        self.supporter = supporter;
        self.until = None;
    }
}

impl Given {
    /// Whether an epoch was withdrawn.
    fn is_over(&self, epoch: Epoch) -> bool {
        epoch == self.epoch && self.until.is_none() && is_kept(Rule::WithdrawnIsOver)
    }

    /// Promises support in an epoch that is not over, or more of it. Whether it did.
    fn extend(
        &mut self,
        to: HostId,
        epoch: Epoch,
        hears: bool,
        now: MonotonicNanos,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let is_new = epoch > self.epoch;
        if is_new {
            // The requester has given up the epoch before.
            if self.until.take().is_some() {
                effects.push(Effect::Withdrawn { from: to, epoch: self.epoch });
            }
            self.epoch = epoch;
        }
        if is_new || hears {
            self.heard_at = now;
        }
        let is_heard = now <= self.heard_at.after(UNHEARD_NANOS);
        if is_heard {
            self.until = self.until.max(Some(now.after(SUPPORT_NANOS)));
        }
        is_heard
    }
}
