//! What every part of the node reads and nobody changes: schema, ring and placements, as one
//! immutable snapshot per metadata index.
//!
//! A new snapshot replaces the old one as a whole ([`Views::publish`]). A shard keeps the one it
//! has seen last and looks at one atomic number to learn that there is a newer one, so the read
//! and write paths touch no lock.
//!
//! While the ring changes, placements know where each range is and where it goes; nodes that come
//! are in [`View::ring`] as guests.

use crate::metadata::{MadeRings, Metadata};
use cdc::LogLayout;
use cdc::stream::Generations;
use cluster::peer::Peer;
use cluster::{GroupId, HostId, NodeIndex, Placement, RangeIndex, Ranges, Ring, Rings};
use model::schema::{KeyspaceDef, Replication, Schema, TableDef, TableId};
use model::{IdMap, Token};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use storage::TokenInterval;

/// A shard's hold on a view, counted by the shard alone: a count that all shards share would be
/// fought over with every request.
pub(crate) type SeenView = Rc<Arc<View>>;

/// The cluster as this node knows it at one metadata index.
#[derive(Debug)]
pub(crate) struct View {
    /// What it was made from.
    pub metadata: Metadata,
    /// The users' keyspaces and the system's.
    pub schema: Arc<Schema>,
    /// The ring as it is; those that come are guests.
    pub ring: Ring,
    pub ranges: Arc<Ranges>,
    /// This node on the ring.
    pub local: NodeIndex,
    pub generations: Arc<Generations>,
    tables: IdMap<TableId, PlacedTable>,
    placements: BTreeMap<Replication, Arc<Placement>>,
    /// Where each group of the users' data lies.
    groups: IdMap<GroupId, (Arc<Setting>, RangeIndex)>,
    /// How many shards each node of the ring has, in the ring's order.
    shard_counts: Vec<u16>,
}

/// A table with all that requests ask of it, so that one look finds it.
#[derive(Debug)]
pub(crate) struct PlacedTable {
    pub definition: Arc<TableDef>,
    pub replication: Replication,
    /// Where its keyspace's data lies.
    pub placement: Arc<Placement>,
    /// Its rows are made up by the node when they are read: the system's own.
    pub is_virtual: bool,
    /// How its changes are logged, when they are.
    pub log_layout: Option<Arc<LogLayout>>,
}

impl PlacedTable {
    fn new(
        definition: &Arc<TableDef>,
        (replication, placement): &(Replication, Arc<Placement>),
        is_virtual: bool,
    ) -> PlacedTable {
        PlacedTable {
            definition: definition.clone(),
            replication: replication.clone(),
            placement: placement.clone(),
            is_virtual,
            log_layout: None,
        }
    }
}

/// A replication setting, and where data lies by it.
#[derive(Debug)]
pub(crate) struct Setting {
    pub replication: Replication,
    pub placement: Arc<Placement>,
}

/// Who holds a group that this node has a replica of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupReplicas {
    /// All of them by the ring as it is, the preferred leader first. A node that comes is not among
    /// them.
    pub hosts: Vec<HostId>,
    /// Those that shall hold it, the preferred leader first.
    pub wanted: Vec<HostId>,
    /// How many are preferred to this node as leader.
    pub rank: u32,
    /// The others, those that come included, and on which of its shards each has its replica.
    pub others: Vec<Peer>,
}

/// Where a partition's range is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Location {
    pub range: RangeIndex,
    pub group: GroupId,
    /// The shard of this node that holds the range's replica, if the node has one.
    pub shard: u16,
    /// This node alone holds it.
    pub is_sole: bool,
    /// This node holds it, perhaps with others, and goes on to.
    pub is_local: bool,
}

impl View {
    /// Makes the snapshot; `system` are the keyspaces of the program itself.
    pub(crate) fn new(
        metadata: Metadata,
        system: &[Arc<KeyspaceDef>],
        host_id: HostId,
    ) -> Result<View, cluster::RingError> {
        let MadeRings { ring, target } = metadata.rings(host_id)?;
        let is_back = metadata.plan.as_ref().is_some_and(|plan| plan.is_withdrawn);
        let rings = Rings { ring: &ring, target: target.as_ref(), is_back };
        let ranges = Arc::new(ring.ranges());
        let local = ring.index_of(host_id).unwrap_or(NodeIndex(0));
        let mut schema = metadata.schema.clone();
        schema.keyspaces.extend(system.iter().map(|k| (k.name.clone(), k.clone())));
        let mut placements: BTreeMap<Replication, Arc<Placement>> = BTreeMap::new();
        let mut tables = IdMap::default();
        let mut place = |replication: &Replication| {
            let placement = placements.entry(replication.clone()).or_insert_with(|| {
                let setting = (replication, metadata.used_since(replication));
                Arc::new(Placement::new(rings, &ranges, setting, local))
            });
            (replication.clone(), placement.clone())
        };
        for keyspace in schema.keyspaces.values() {
            let placed = place(&keyspace.replication);
            let is_virtual = system.iter().any(|own| own.name == keyspace.name);
            let of_keyspace = keyspace.tables.values();
            tables.extend(of_keyspace.map(|t| (t.id, PlacedTable::new(t, &placed, is_virtual))));
        }
        for retired in &metadata.retired {
            let (log, placed) = (&retired.log, place(&retired.replication));
            tables.insert(log.id, PlacedTable::new(log, &placed, false));
        }
        add_log_layouts(&mut tables);
        let mut groups = IdMap::default();
        for (replication, placement) in &placements {
            if *replication == Replication::Local {
                continue;
            }
            let setting = Arc::new(Setting {
                replication: replication.clone(),
                placement: placement.clone(),
            });
            let places = ranges.iter().map(|range| (placement.group(range), range));
            groups.extend(places.map(|(group, range)| (group, (setting.clone(), range))));
        }
        let count = |node: &cluster::Node| {
            metadata.known_node(node.host_id.0).map_or(1, |record| record.shard_count.max(1))
        };
        let shard_counts = ring.nodes().iter().map(count).collect();
        let generations = Arc::new(metadata.cdc_generations());
        let schema = Arc::new(schema);
        Ok(View {
            metadata,
            schema,
            ring,
            ranges,
            local,
            generations,
            tables,
            placements,
            groups,
            shard_counts,
        })
    }

    /// The index of the metadata log that made it.
    pub(crate) fn index(&self) -> u64 {
        self.metadata.index
    }

    /// Whether any log holds images in one of the views and not in the other.
    pub(crate) fn images_differ(&self, other: &View) -> bool {
        let with_images = |view: &View| -> BTreeSet<TableId> {
            let has_images =
                |table: &&PlacedTable| table.log_layout.as_ref().is_some_and(|l| l.has_images());
            view.tables.values().filter(has_images).map(|table| table.definition.id).collect()
        };
        with_images(self) != with_images(other)
    }

    /// The table of that id.
    pub(crate) fn table(&self, id: TableId) -> Option<&Arc<TableDef>> {
        self.tables.get(&id).map(|table| &table.definition)
    }

    /// The table of that id, and where its data lies.
    #[inline]
    pub(crate) fn placed_table(&self, id: TableId) -> Option<&PlacedTable> {
        self.tables.get(&id)
    }

    /// A table that a changefeed is on, dropped or not, and its log.
    pub(crate) fn followed_table(&self, id: TableId) -> Option<(&Arc<TableDef>, &PlacedTable)> {
        let retired = || self.metadata.retired_table(id).map(|retired| &retired.base);
        let base = self.table(id).or_else(retired)?;
        Some((base, self.placed_table(base.cdc_log?)?))
    }

    /// How changes of a table are logged; `None` when they are not.
    pub(crate) fn log_layout(&self, base: TableId) -> Option<&Arc<LogLayout>> {
        self.tables.get(&base)?.log_layout.as_ref()
    }

    /// The placement of a keyspace's data.
    pub(crate) fn placement(&self, keyspace: &str) -> Option<&Arc<Placement>> {
        self.placements.get(&self.schema.keyspace(keyspace)?.replication)
    }

    /// Where the partition with that token is.
    pub(crate) fn locate(&self, placement: &Placement, token: Token, shard_count: u16) -> Location {
        let range = self.ranges.range_of(token);
        let shard = self.ranges.shard_of_range(range, shard_count);
        Location {
            range,
            group: placement.group(range),
            shard,
            is_sole: placement.all(range) == [self.local],
            is_local: placement.stays(range, self.local),
        }
    }

    /// The setting and the range of a group of the users' data.
    pub(crate) fn place_of(&self, group: GroupId) -> Option<(&Arc<Setting>, RangeIndex)> {
        self.groups.get(&group).map(|(setting, range)| (setting, *range))
    }

    /// Who holds a group; nothing if this node has no part in it, or the group is not known.
    pub(crate) fn replicas_of_group(&self, group: GroupId) -> Option<GroupReplicas> {
        let (setting, range) = self.place_of(group)?;
        let placement = &setting.placement;
        let (all, wanted) = (placement.all(range), placement.wanted(range));
        if !all.contains(&self.local) {
            return None;
        }
        let rank = wanted.iter().position(|node| *node == self.local).unwrap_or(wanted.len());
        let host_of = |node: &NodeIndex| self.ring.node(*node).host_id;
        let others = all.iter().filter(|node| **node != self.local);
        let others =
            others.map(|node| Peer { host_id: host_of(node), shard: self.shard_on(*node, range) });
        Some(GroupReplicas {
            hosts: placement.replicas(range).iter().map(host_of).collect(),
            wanted: wanted.iter().map(host_of).collect(),
            rank: rank as u32,
            others: others.collect(),
        })
    }

    /// Whether no other group holds the same range, under another setting.
    pub(crate) fn is_only_group_of_range(&self, group: GroupId) -> bool {
        let Some((_, range)) = self.place_of(group) else { return false };
        self.groups.values().filter(|(_, other)| *other == range).count() == 1
    }

    /// The tables of which a group holds a part, in any order.
    pub(crate) fn tables_of_group(&self, group: GroupId) -> Vec<TableId> {
        let Some((setting, _)) = self.place_of(group) else { return Vec::new() };
        let is_of_setting =
            |table: &&PlacedTable| !table.is_virtual && table.replication == setting.replication;
        self.tables.values().filter(is_of_setting).map(|table| table.definition.id).collect()
    }

    /// The shard that holds a range on a node of the ring.
    pub(crate) fn shard_on(&self, node: NodeIndex, range: RangeIndex) -> u16 {
        let count = self.shard_counts.get(usize::from(node.0)).copied().unwrap_or(1);
        self.ranges.shard_of_range(range, count)
    }

    /// The shard of another node that the shard `shard` of this one is first connected with.
    pub(crate) fn counterpart(&self, node: NodeIndex, shard: u16) -> Peer {
        let count = self.shard_counts.get(usize::from(node.0)).copied().unwrap_or(1);
        Peer { host_id: self.ring.node(node).host_id, shard: shard % count }
    }

    /// The ranges that have tokens in `[first, last]`.
    pub(crate) fn ranges_between(
        &self,
        first: Token,
        last: Token,
    ) -> impl Iterator<Item = RangeIndex> + use<> {
        (self.ranges.range_of(first).0..=self.ranges.range_of(last).0).map(RangeIndex)
    }

    /// The token of a partition key of a table.
    pub(crate) fn token(table: &TableDef, key: &[u8]) -> Token {
        model::token::token_of(table.partitioner, key)
    }

    /// Whether a table's rows are made up by the node when they are read: the system's own.
    pub(crate) fn is_virtual(&self, table: TableId) -> bool {
        self.tables.get(&table).is_some_and(|table| table.is_virtual)
    }

    /// The tables whose rows are in the engine.
    pub(crate) fn stored_tables(&self) -> impl Iterator<Item = &Arc<TableDef>> {
        self.tables.values().filter(|table| !table.is_virtual).map(|table| &table.definition)
    }

    /// Every group of which a shard of this node holds a replica, or may while the ring changes, with
    /// its tokens.
    pub(crate) fn groups_of_shard(
        &self,
        shard: u16,
        shard_count: u16,
    ) -> BTreeMap<GroupId, TokenInterval> {
        let mut groups = BTreeMap::new();
        for (replication, placement) in &self.placements {
            if *replication == Replication::Local {
                continue;
            }
            for range in self.ranges.iter() {
                let is_here = self.ranges.shard_of_range(range, shard_count) == shard
                    && placement.all(range).contains(&self.local);
                if is_here {
                    groups.insert(placement.group(range), self.tokens_of_range(range));
                }
            }
        }
        groups
    }

    /// The tokens of a range.
    pub(crate) fn tokens_of_range(&self, range: RangeIndex) -> TokenInterval {
        let first = self.ranges.first_token(range).0;
        TokenInterval { first, last: self.ranges.end_token(range).0 }
    }

    /// The groups that get other replicas by the plan, if there is one.
    pub(crate) fn moving_groups(&self) -> impl Iterator<Item = GroupId> {
        let of_users = self.placements.iter().filter(|(r, _)| **r != Replication::Local);
        of_users.flat_map(|(_, placement)| {
            let moving = self.ranges.iter().filter(|range| placement.is_moving(*range));
            moving.map(|range| placement.group(range))
        })
    }

    /// Every group that holds a part of a keyspace.
    pub(crate) fn groups_of_keyspace(&self, keyspace: &str) -> Vec<GroupId> {
        let Some(placement) = self.placement(keyspace) else { return Vec::new() };
        self.ranges.iter().map(|range| placement.group(range)).collect()
    }
}

fn add_log_layouts(tables: &mut IdMap<TableId, PlacedTable>) {
    let log_of = |base: &PlacedTable| Some((base.definition.id, base.definition.cdc_log?));
    let logs: Vec<_> = tables
        .values()
        .filter(|table| table.definition.cdc_enabled().is_some())
        .filter_map(log_of)
        .collect();
    for (base, log) in logs {
        let Some(log) = tables.get(&log).map(|log| log.definition.clone()) else { continue };
        let Some(base) = tables.get_mut(&base) else { continue };
        match LogLayout::new(base.definition.clone(), log) {
            Ok(layout) => base.log_layout = Some(Arc::new(layout)),
            Err(error) => {
                let TableDef { keyspace, name, .. } = &*base.definition;
                tracing::error!("{keyspace}.{name} has no usable log: {error}");
            }
        }
    }
}

/// The newest snapshot, for all threads.
#[derive(Debug)]
pub(crate) struct Views {
    index: AtomicU64,
    newest: Mutex<Arc<View>>,
}

impl Views {
    /// Begins with a snapshot.
    pub(crate) fn new(view: View) -> Self {
        Views { index: AtomicU64::new(view.index()), newest: Mutex::new(Arc::new(view)) }
    }

    /// Replaces the snapshot by a newer one.
    pub(crate) fn publish(&self, view: Arc<View>) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(view.index() > newest.index(), "views are published in order");
        self.index.store(view.index(), Ordering::Release);
        *newest = view;
    }

    /// The newest snapshot.
    pub(crate) fn newest(&self) -> Arc<View> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether there is a newer snapshot than the one a thread has seen.
    pub(crate) fn is_newer(&self, seen: &View) -> bool {
        self.index.load(Ordering::Acquire) != seen.index()
    }
}
