//! The links to the shards of other nodes, and which entries leave over them.

use super::member::Replica;
use crate::consensus::{EntryId, Header, LogIndex, Term};
use crate::link::{ENTRY_HEAD_BYTES, EntryBytes, EntryView, Item, Link};
use crate::liveness::{Incarnation, MonotonicNanos};
use crate::peer::Peer;
use crate::placement::GroupId;
use crate::ring::HostId;
use model::IdMap;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

/// Shards of other nodes that there are links with.
const LINKS_MAX: usize = 16_384;

/// What an entry counts besides its payload; much in tests, so that envelopes fill and links wait.
const HEAD_BYTES: usize = if cfg!(test) { 100 << 10 } else { ENTRY_HEAD_BYTES };

/// A link, and whether what it is given can leave.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) link: Link,
    pub(super) is_connected: bool,
}

/// The links of a shard.
#[derive(Debug)]
pub(super) struct Links {
    incarnation: Incarnation,
    connections: BTreeMap<Peer, Connection>,
}

impl Links {
    pub(super) fn new(incarnation: Incarnation) -> Links {
        Links { incarnation, connections: BTreeMap::new() }
    }

    /// The link with a shard; nothing if there are too many.
    pub(super) fn get(&mut self, peer: Peer) -> Option<&mut Connection> {
        if self.connections.len() >= LINKS_MAX && !self.connections.contains_key(&peer) {
            return None;
        }
        let connection = self.connections.entry(peer);
        Some(connection.or_insert_with(|| Connection {
            link: Link::new(self.incarnation),
            is_connected: false,
        }))
    }

    /// Whether what a shard is sent can leave.
    pub(super) fn is_connected(&self, peer: Peer) -> bool {
        self.connections.get(&peer).is_some_and(|connection| connection.is_connected)
    }

    /// Those that can carry something.
    pub(super) fn connected(&mut self) -> impl Iterator<Item = (Peer, &mut Link)> {
        let connected = self.connections.iter_mut().filter(|(_, c)| c.is_connected);
        connected.map(|(&peer, connection)| (peer, &mut connection.link))
    }

    /// When a link has something to say by itself.
    pub(super) fn next_tick(&self) -> Option<MonotonicNanos> {
        let connected = self.connections.values().filter(|c| c.is_connected);
        connected.filter_map(|connection| connection.link.next_tick()).min()
    }
}

/// The entries of a shard's groups as they are sent to one node.
pub(super) struct Outgoing<'a, W> {
    pub(super) groups: &'a IdMap<GroupId, Box<Replica<W>>>,
    pub(super) to: HostId,
    /// The replica that was asked about last: questions about one come one after the other.
    pub(super) last: Cell<Option<(GroupId, &'a Replica<W>)>>,
    /// What was left of appends whose entries are not at hand.
    pub(super) missing: RefCell<Vec<(GroupId, Item)>>,
}

impl<'a, W> Outgoing<'a, W> {
    fn replica(&self, group: GroupId) -> Option<&'a Replica<W>> {
        if let Some((last, replica)) = self.last.get()
            && last == group
        {
            return Some(replica);
        }
        let replica = &**self.groups.get(&group)?;
        self.last.set(Some((group, replica)));
        Some(replica)
    }

    /// An entry from memory, or one that was read for this node.
    pub(super) fn view(&self, group: GroupId, index: LogIndex) -> Option<EntryView<'a>> {
        let replica = self.replica(group)?;
        let read = || {
            let catch_up = replica.catch_ups.iter().find(|catch_up| catch_up.to == self.to)?;
            catch_up.entry(index)
        };
        let entry = replica.entry(index).or_else(read)?;
        let header = Header { term: entry.term, kind: entry.kind.clone() };
        Some(EntryView { header, payload: &entry.payload })
    }
}

impl<W> EntryBytes for Outgoing<'_, W> {
    fn commit(&self, group: GroupId, term: Term) -> Option<LogIndex> {
        let replica = self.replica(group).filter(|replica| replica.leads(term))?;
        Some(replica.group.commit())
    }

    fn entry(&self, group: GroupId, index: LogIndex) -> Option<(EntryId, usize)> {
        let view = self.view(group, index)?;
        let id = EntryId { index, term: view.header.term };
        Some((id, HEAD_BYTES + view.payload.len()))
    }

    fn missing(&self, group: GroupId, rest: Item) {
        self.missing.borrow_mut().push((group, rest));
    }
}
