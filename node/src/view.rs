//! What every part of the node reads and nobody changes: schema, ring and placements, as one
//! immutable snapshot per metadata index.
//!
//! A new snapshot replaces the old one as a whole ([`Views::publish`]). A shard keeps the one it
//! has seen last and looks at one atomic number to learn that there is a newer one, so the read
//! and write paths touch no lock.

use crate::metadata::Metadata;
use cdc::LogLayout;
use cdc::stream::Generations;
use cluster::{GroupId, HostId, NodeIndex, Placement, RangeIndex, Ranges, Ring};
use model::Token;
use model::schema::{KeyspaceDef, Replication, Schema, TableDef, TableId};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use storage::TokenInterval;

/// The cluster as this node knows it at one metadata index.
#[derive(Debug)]
pub(crate) struct View {
    /// What it was made from.
    pub metadata: Metadata,
    /// The users' keyspaces and the system's.
    pub schema: Arc<Schema>,
    pub ring: Ring,
    pub ranges: Arc<Ranges>,
    /// This node on the ring.
    pub local: NodeIndex,
    pub generations: Arc<Generations>,
    tables: HashMap<TableId, Arc<TableDef>>,
    virtual_tables: HashSet<TableId>,
    placements: BTreeMap<Replication, Arc<Placement>>,
    /// By base table with CDC on.
    log_layouts: HashMap<TableId, Arc<LogLayout>>,
}

/// Where a partition's range is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Location {
    pub range: RangeIndex,
    pub group: GroupId,
    /// The shard of this node that holds the range's replica.
    pub shard: u16,
}

impl View {
    /// Makes the snapshot; `system` are the keyspaces of the program itself.
    pub(crate) fn new(
        metadata: Metadata,
        system: &[Arc<KeyspaceDef>],
        host_id: HostId,
    ) -> Result<View, cluster::RingError> {
        let ring = metadata.ring()?;
        let ranges = Arc::new(ring.ranges());
        let local = ring.index_of(host_id).unwrap_or(NodeIndex(0));
        let mut schema = metadata.schema.clone();
        schema.keyspaces.extend(system.iter().map(|k| (k.name.clone(), k.clone())));
        let mut tables = HashMap::new();
        let virtual_tables =
            system.iter().flat_map(|k| k.tables.values()).map(|table| table.id).collect();
        let mut placements = BTreeMap::new();
        for keyspace in schema.keyspaces.values() {
            tables.extend(keyspace.tables.values().map(|table| (table.id, table.clone())));
            placements.entry(keyspace.replication.clone()).or_insert_with(|| {
                Arc::new(Placement::new(&ring, &ranges, &keyspace.replication, local))
            });
        }
        let log_layouts = log_layouts(&tables);
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
            virtual_tables,
            placements,
            log_layouts,
        })
    }

    /// The index of the metadata log that made it.
    pub(crate) fn index(&self) -> u64 {
        self.metadata.index
    }

    /// Whether any log holds images in one of the views and not in the other.
    pub(crate) fn images_differ(&self, other: &View) -> bool {
        let with_images = |view: &View| -> BTreeSet<TableId> {
            let layouts = view.log_layouts.iter().filter(|(_, layout)| layout.has_images());
            layouts.map(|(id, _)| *id).collect()
        };
        with_images(self) != with_images(other)
    }

    /// The table of that id.
    pub(crate) fn table(&self, id: TableId) -> Option<&Arc<TableDef>> {
        self.tables.get(&id)
    }

    /// How changes of a table are logged; `None` when they are not.
    pub(crate) fn log_layout(&self, base: TableId) -> Option<&Arc<LogLayout>> {
        self.log_layouts.get(&base)
    }

    /// The placement of a keyspace's data.
    pub(crate) fn placement(&self, keyspace: &str) -> Option<&Arc<Placement>> {
        self.placements.get(&self.schema.keyspace(keyspace)?.replication)
    }

    /// Where the partition with that token is.
    pub(crate) fn locate(&self, placement: &Placement, token: Token, shard_count: u16) -> Location {
        let range = self.ranges.range_of(token);
        let shard = self.ranges.shard_of_range(range, shard_count);
        Location { range, group: placement.group(range), shard }
    }

    /// The token of a partition key of a table.
    pub(crate) fn token(table: &TableDef, key: &[u8]) -> Token {
        model::token::token_of(table.partitioner, key)
    }

    /// Whether a table's rows are made up by the node when they are read: the system's own.
    pub(crate) fn is_virtual(&self, table: TableId) -> bool {
        self.virtual_tables.contains(&table)
    }

    /// The tables whose rows are in the engine.
    pub(crate) fn stored_tables(&self) -> impl Iterator<Item = &Arc<TableDef>> {
        self.tables.values().filter(|table| !self.is_virtual(table.id))
    }

    /// The tokens that a shard of this node holds; none when first is above last.
    pub(crate) fn tokens_of_shard(&self, shard: u16, shard_count: u16) -> TokenInterval {
        let mut interval = TokenInterval { first: i64::MAX, last: i64::MIN };
        for range in self.ranges.iter() {
            if self.ranges.shard_of_range(range, shard_count) == shard {
                interval.first = interval.first.min(self.ranges.first_token(range).0);
                interval.last = interval.last.max(self.ranges.end_token(range).0);
            }
        }
        interval
    }

    /// Every group of which a shard of this node holds a replica, with its tokens.
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
                    && placement.replicas(range).contains(&self.local);
                if is_here {
                    let first = self.ranges.first_token(range).0;
                    let last = self.ranges.end_token(range).0;
                    groups.insert(placement.group(range), TokenInterval { first, last });
                }
            }
        }
        groups
    }

    /// Every group that holds a part of a keyspace, with its shard on this node.
    pub(crate) fn groups_of_keyspace(
        &self,
        keyspace: &str,
        shard_count: u16,
    ) -> Vec<(GroupId, u16)> {
        let Some(placement) = self.placement(keyspace) else { return Vec::new() };
        let place =
            |range| (placement.group(range), self.ranges.shard_of_range(range, shard_count));
        self.ranges.iter().map(place).collect()
    }
}

fn log_layouts(tables: &HashMap<TableId, Arc<TableDef>>) -> HashMap<TableId, Arc<LogLayout>> {
    let mut layouts = HashMap::new();
    for base in tables.values().filter(|table| table.cdc_enabled().is_some()) {
        let Some(log) = base.cdc_log.and_then(|id| tables.get(&id)) else { continue };
        match LogLayout::new(base.clone(), log.clone()) {
            Ok(layout) => {
                layouts.insert(base.id, Arc::new(layout));
            }
            Err(error) => {
                tracing::error!("{}.{} has no usable log: {error}", base.keyspace, base.name);
            }
        }
    }
    layouts
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
