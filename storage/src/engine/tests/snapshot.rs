//! Snapshots between two engines that both go on working, against a model; and streams that are torn,
//! altered or somebody else's.

use super::*;
use crate::snapshot::{Import, ImportError, SnapshotBase, SnapshotHead, SnapshotPart};

pub(crate) const STREAMS: TableId = TableId(8);
pub(crate) const GROUP: u64 = 1;
pub(crate) const OTHERS: u64 = 2;
const KEYS: u64 = 24;

/// Two tables, one of them with tokens in its keys.
pub(crate) fn engine_of_two_tables(disk: &Disk) -> Engine {
    let mut engine = new_engine(disk, TableOptions::default());
    let mut streams = table_def(STREAMS, TableOptions::default());
    streams.partitioner = Partitioner::CdcStream;
    engine.configure_table(&streams);
    for state in engine.tables.values_mut() {
        state.config.writer.block_bytes = 300;
    }
    engine
}

/// A mutation of either table, and the token of its key.
pub(crate) fn mutation_of_two_tables(random: &mut Random) -> (Token, Vec<u8>) {
    let bytes = random_mutation(random, KEYS);
    let view = MutationView::check(&bytes).unwrap();
    if random.one_in(2) {
        return (model::token::murmur3_token(view.key()), bytes);
    }
    let number = random.below(KEYS);
    let token = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) as i64;
    let key = [token.to_be_bytes(), number.to_be_bytes()].concat();
    let mut content = Partition::default();
    content.apply(&view);
    let mut out = Vec::new();
    content.write(&mut MutationWriter::new(&mut out, STREAMS, 1, &key));
    (Token(token), out)
}

/// What entries add up to, by table, token and key.
#[derive(Clone, Default)]
pub(crate) struct Tables(BTreeMap<(TableId, Token, Vec<u8>), Partition>);

impl Tables {
    pub(crate) fn apply(&mut self, token: Token, bytes: &[u8]) {
        let mutation = MutationView::check(bytes).unwrap();
        if !mutation.is_empty() {
            let place = (mutation.table(), token, mutation.key().to_vec());
            self.0.entry(place).or_default().apply(&mutation);
        }
    }

    /// Compares every partition of a universe with what the engine has, also those that are not in
    /// this.
    pub(crate) fn check(&self, engine: &mut Engine, universe: &Tables) {
        let nothing = Partition::default();
        for place @ (table, token, key) in universe.0.keys() {
            let expected = self.0.get(place).unwrap_or(&nothing);
            check_partition(engine, *table, *token, key, expected);
        }
    }
}

pub(crate) fn parts(tokens: TokenInterval) -> [SnapshotPart; 2] {
    [TABLE, STREAMS].map(|table| SnapshotPart { table, tokens })
}

pub(crate) fn base(index: u64) -> SnapshotBase {
    SnapshotBase { index, term: 3, members_index: 0, members: vec![1, 0, 9] }
}

fn random_interval(random: &mut Random) -> TokenInterval {
    let (a, b) = (random.below(u64::MAX) as i64, random.below(u64::MAX) as i64);
    TokenInterval { first: a.min(b), last: a.max(b) }
}

/// One of the two engines, with the entries it applied.
struct Node {
    engine: Engine,
    tables: Tables,
    /// The last entry of the group.
    index: u64,
    others_index: u64,
}

impl Node {
    fn new(disk: &Disk) -> Node {
        let engine = engine_of_two_tables(disk);
        Node { engine, tables: Tables::default(), index: 0, others_index: 0 }
    }

    fn apply(&mut self, group: u64, token: Token, bytes: &[u8]) {
        let index = if group == GROUP { &mut self.index } else { &mut self.others_index };
        *index += 1;
        self.engine.apply(group, *index, &MutationView::check(bytes).unwrap());
        self.tables.apply(token, bytes);
    }

    /// Flushes, merges, or gathers rows; now and then.
    fn work(&mut self, random: &mut Random) {
        match random.below(6) {
            0 => run_jobs(&mut self.engine, FlushReason::Everything),
            1 => run_compactions(&mut self.engine, NOW),
            2 => major_compaction(&mut self.engine, i64::MIN),
            3 => {
                let engine = &mut self.engine;
                for (table, token, key) in self.tables.0.keys() {
                    let clustering = random_clustering(random);
                    retry(engine, |e| e.gather_row(*table, *token, key, &clustering)).unwrap();
                }
            }
            _ => {}
        }
    }
}

/// Entries by token: those of the group, and those beside it.
fn entry_of(random: &mut Random, tokens: TokenInterval, group: u64) -> (Token, Vec<u8>) {
    loop {
        let (token, bytes) = mutation_of_two_tables(random);
        if tokens.contains(token) == (group == GROUP) {
            return (token, bytes);
        }
    }
}

#[test]
pub(super) fn a_snapshot_replaces_a_range_exactly_while_both_sides_go_on() {
    for seed in 1..13 {
        let mut random = Random(seed * 0x9e37_79b9);
        let tokens = TokenInterval { first: i64::MIN / 2, last: i64::MAX / 3 };
        let (leader_disk, _control) = Disk::simulated(seed);
        let (follower_disk, _control) = Disk::simulated(seed + 1_000);
        let (mut leader, mut follower) = (Node::new(&leader_disk), Node::new(&follower_disk));
        let behind_at = random.below(30);
        for index in 0..80 {
            let (token, bytes) = entry_of(&mut random, tokens, GROUP);
            leader.apply(GROUP, token, &bytes);
            if index < behind_at {
                follower.apply(GROUP, token, &bytes);
            }
            let (token, bytes) = entry_of(&mut random, tokens, OTHERS);
            follower.apply(OTHERS, token, &bytes);
            leader.work(&mut random);
            follower.work(&mut random);
        }
        let placement = Placement { closed: 5, placed: 6, far: 7, reserved: 8, switched_at: 9 };
        leader.engine.raise_placement(GROUP, &placement);
        let at_base = leader.tables.clone();
        let later = copy(&mut leader, &mut follower, tokens, &mut random);
        assert_eq!(follower.engine.placement(GROUP), placement);
        assert_eq!(follower.engine.snapshot_base(GROUP), Some(&base(80)));
        follower.tables.0.retain(|(_, token, _), _| !tokens.contains(*token));
        follower.tables.0.extend(at_base.0.clone());
        follower.index = 80;
        check_follower(&mut follower, &leader.tables);
        for (token, bytes) in &later {
            follower.apply(GROUP, *token, bytes);
            follower.work(&mut random);
        }
        check_follower(&mut follower, &leader.tables);
        run_jobs(&mut follower.engine, FlushReason::Everything);
        assert!(follower.engine.is_installed(GROUP) && follower.engine.needed_indexes().is_empty());
        drop(follower.engine);
        follower.engine = engine_of_two_tables(&follower_disk);
        assert!(follower.engine.is_installed(GROUP));
        assert_eq!(follower.engine.snapshot_base(GROUP), Some(&base(80)));
        check_follower(&mut follower, &leader.tables);
    }
}

fn check_follower(follower: &mut Node, universe: &Tables) {
    let mut places = follower.tables.clone();
    places.0.extend(universe.0.clone());
    follower.tables.clone().check(&mut follower.engine, &places);
}

/// Sends the leader's state to the follower, and gives the entries that the leader took meanwhile.
fn copy(
    leader: &mut Node,
    follower: &mut Node,
    tokens: TokenInterval,
    random: &mut Random,
) -> Vec<(Token, Vec<u8>)> {
    let mut export = leader.engine.export(GROUP, base(leader.index), &parts(tokens));
    let mut import = follower.engine.import(GROUP, &parts(tokens));
    let mut later = Vec::new();
    let mut stream = Vec::new();
    while let Some(chunk) = export.next_chunk().unwrap() {
        stream.extend(chunk);
        let (token, bytes) = entry_of(random, tokens, GROUP);
        leader.apply(GROUP, token, &bytes);
        later.push((token, bytes));
        leader.work(random);
        let (token, bytes) = entry_of(random, tokens, OTHERS);
        follower.apply(OTHERS, token, &bytes);
        follower.work(random);
        let cut = random.below(stream.len() as u64 + 1) as usize;
        import.feed(&stream[..cut]).unwrap();
        stream.drain(..cut);
    }
    import.feed(&stream).unwrap();
    let imported = import.finish().unwrap();
    assert_eq!(imported.head(), export.head());
    // A merge that began before and ends behind.
    let disk = follower.engine.disk().clone();
    let merge = follower.engine.major_compaction_job(TABLE, i64::MIN).filter(|_| random.one_in(2));
    let result = merge.map(|merge| merge.run(&disk));
    follower.engine.install(imported).unwrap();
    assert!(!follower.engine.is_installed(GROUP), "nothing is durable yet");
    if let Some(result) = result {
        follower.engine.finish(result).unwrap();
    }
    later
}

/// Rows that were kept in memory as whole are of the old state: what came replaces them.
#[test]
fn a_row_gathered_before_a_snapshot_is_not_believed_after_it() {
    let (disk, _control) = Disk::simulated(1);
    let (other_disk, _control) = Disk::simulated(2);
    let (mut leader, mut follower) = (Node::new(&disk), Node::new(&other_disk));
    let write = |timestamp: i64| {
        let mut bytes = Vec::new();
        let marker = Some(Marker { timestamp, expiry: None });
        MutationWriter::new(&mut bytes, TABLE, 1, b"key").row(
            b"c",
            timestamp,
            RowHead { marker, tombstone: None },
            |_| (),
        );
        bytes
    };
    let token = model::token::murmur3_token(b"key");
    follower.apply(GROUP, token, &write(1));
    run_jobs(&mut follower.engine, FlushReason::Everything);
    assert!(retry(&mut follower.engine, |e| e.gather_row(TABLE, token, b"key", b"c")).unwrap());
    for timestamp in 1..4 {
        leader.apply(GROUP, token, &write(timestamp));
    }
    let tokens = TokenInterval::ALL;
    let mut export = leader.engine.export(GROUP, base(leader.index), &parts(tokens));
    let mut import = follower.engine.import(GROUP, &parts(tokens));
    while let Some(chunk) = export.next_chunk().unwrap() {
        import.feed(&chunk).unwrap();
    }
    follower.engine.install(import.finish().unwrap()).unwrap();
    assert_eq!(
        follower.engine.row_in_place(TABLE, token, b"key", b"c"),
        RowInPlace::InPieces,
        "it lies in the file that came"
    );
    assert_eq!(follower.engine.newest_timestamp(TABLE, token, b"key"), Some(3));
}

/// A stream of a few chunks, of a wide partition and small ones.
fn stream_of(random: &mut Random, tokens: TokenInterval) -> (Vec<Vec<u8>>, Tables) {
    let (disk, _control) = Disk::simulated(7);
    let mut leader = Node::new(&disk);
    for _ in 0..60 {
        let (token, bytes) = entry_of(random, tokens, GROUP);
        leader.apply(GROUP, token, &bytes);
    }
    let wide = model::token::murmur3_token(b"wide");
    for row in 0..6_u32 {
        let mut bytes = Vec::new();
        let value: Vec<u8> = (0..100_000).map(|_| random.below(256) as u8).collect();
        let content = CellContent::Live { value: &value, expiry: None };
        MutationWriter::new(&mut bytes, TABLE, 1, b"wide").row(
            &row.to_be_bytes(),
            9,
            NOTHING,
            |cells| cells.cell(&Cell { column: 1, path: None, timestamp: 9, content }),
        );
        leader.apply(GROUP, wide, &bytes);
    }
    let mut export = leader.engine.export(GROUP, base(leader.index), &parts(tokens));
    let mut chunks = Vec::new();
    while let Some(chunk) = export.next_chunk().unwrap() {
        chunks.push(chunk);
    }
    assert!(chunks.len() > 4, "a partition goes over several chunks");
    (chunks, leader.tables)
}

fn receive(import: &mut Import, stream: &[u8]) -> Result<(), ImportError> {
    stream.chunks(50_000).try_for_each(|piece| import.feed(piece))
}

fn file_count(disk: &Disk) -> usize {
    let names = disk.list(Path::new("/shard")).unwrap();
    names.iter().filter(|name| name.ends_with(TABLE_SUFFIX)).count()
}

#[test]
fn a_stream_that_is_torn_altered_or_out_of_order_leaves_nothing() {
    let mut random = Random(77);
    let tokens = TokenInterval::ALL;
    let (chunks, tables) = stream_of(&mut random, tokens);
    let whole = chunks.concat();
    let (disk, _control) = Disk::simulated(1);
    let mut engine = engine_of_two_tables(&disk);
    for _ in 0..60 {
        let cut = random.below(whole.len() as u64) as usize;
        let mut import = engine.import(GROUP, &parts(tokens));
        receive(&mut import, &whole[..cut]).unwrap();
        assert!(matches!(import.finish(), Err(ImportError::Torn)), "cut at {cut}");
        let mut altered = whole.clone();
        altered[cut] ^= 1 << random.below(8);
        let mut import = engine.import(GROUP, &parts(tokens));
        let result = receive(&mut import, &altered);
        assert!(result.is_err() || import.finish().is_err(), "altered at {cut}");
        assert_eq!(file_count(&disk), 0);
    }
    let mut long = engine.import(GROUP, &parts(tokens));
    assert!(receive(&mut long, &[&whole[..], b"x"].concat()).is_err(), "something follows");
    let mut other = engine.import(OTHERS, &parts(tokens));
    assert!(matches!(receive(&mut other, &whole), Err(ImportError::Other)));
    let mut fewer = engine.import(GROUP, &parts(tokens)[..1]);
    assert!(matches!(receive(&mut fewer, &whole), Err(ImportError::UnknownPart(_))));
    let elsewhere = random_interval(&mut random);
    let mut elsewhere = engine.import(GROUP, &parts(elsewhere));
    assert!(matches!(receive(&mut elsewhere, &whole), Err(ImportError::UnknownPart(_))));
    assert_eq!(file_count(&disk), 0);
    let mut given_up = engine.import(GROUP, &parts(tokens));
    receive(&mut given_up, &whole).unwrap();
    assert_eq!(file_count(&disk), 2);
    given_up.discard();
    assert_eq!(file_count(&disk), 0);
    let mut import = engine.import(GROUP, &parts(tokens));
    receive(&mut import, &whole).unwrap();
    engine.install(import.finish().unwrap()).unwrap();
    run_jobs(&mut engine, FlushReason::Everything);
    tables.check(&mut engine, &tables);
}

/// A peer that means ill makes its own checksums.
#[test]
fn mutations_that_do_not_belong_are_refused_whatever_their_checksums() {
    use crate::snapshot::stream_of_mutations;
    let row = |key: &[u8], rows: &[&[u8]]| {
        let mut bytes = Vec::new();
        let mut writer = MutationWriter::new(&mut bytes, TABLE, 0, key);
        for clustering in rows {
            let marker = Some(Marker { timestamp: 1, expiry: None });
            writer.row(clustering, 1, RowHead { marker, tombstone: None }, |_| ());
        }
        bytes
    };
    let tombstone = |key: &[u8]| {
        let mut bytes = Vec::new();
        let deletion = Deletion { timestamp: 1, deleted_at: 1 };
        MutationWriter::new(&mut bytes, TABLE, 0, key).partition_tombstone(deletion);
        bytes
    };
    let token = |key: &[u8]| model::token::murmur3_token(key).0;
    let (low, high) = if token(b"a") < token(b"b") { (b"a", b"b") } else { (b"b", b"a") };
    let tokens = TokenInterval { first: token(low), last: token(high) };
    let outside = (0..=u8::MAX).find(|key| !tokens.contains(Token(token(&[*key])))).unwrap();
    let mut other_table = row(low, &[b"1"]);
    other_table[..16].copy_from_slice(&TableId(99).0.to_le_bytes());
    let (disk, _control) = Disk::simulated(1);
    let mut engine = engine_of_two_tables(&disk);
    let head = SnapshotHead {
        group: GROUP,
        base: base(5),
        placement: Placement::START,
        parts: parts(tokens).to_vec(),
    };
    let mut accepts = |mutations: &[Vec<u8>]| {
        let mut import = engine.import(GROUP, &parts(tokens));
        let stream = stream_of_mutations(&head, mutations);
        let is_taken = import.feed(&stream).is_ok() && import.is_whole();
        import.discard();
        assert_eq!(file_count(&disk), 0);
        is_taken
    };
    let (first, second) = (row(low, &[b"1"]), row(high, &[b"1"]));
    assert!(accepts(&[first.clone(), second.clone()]));
    assert!(accepts(&[first.clone(), row(low, &[b"2"]), second.clone()]), "a partition goes on");
    assert!(accepts(&[tombstone(low), row(low, &[b"2"])]));
    assert!(!accepts(&[second.clone(), first.clone()]), "partitions out of order");
    assert!(!accepts(&[first.clone(), first.clone()]), "a row twice");
    assert!(!accepts(&[row(low, &[b"2"]), first.clone()]), "rows out of order");
    assert!(!accepts(&[first.clone(), tombstone(low)]), "a partition that begins twice");
    assert!(!accepts(&[tombstone(low), tombstone(low)]), "a tombstone that would be lost");
    assert!(!accepts(&[row(low, &[])]), "nothing in it");
    assert!(!accepts(&[row(&[outside], &[b"1"])]), "outside of the interval");
    assert!(!accepts(&[other_table]), "of a table that was not announced");
    assert!(!accepts(&[first[..first.len() - 1].to_vec()]), "no mutation");
}
