//! Somebody who follows the log on each node, through its crashes, as a changefeed does: from where
//! the last batch ended.

use crate::client::{Client, Dialect, Home};
use crate::clients::HasClients;
use crate::cluster::Cluster;
use crate::workload::PATIENCE;
use changefeed::source::{Batch, Source};
use model::timeuuid::timeuuid_micros;
use node::Node;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

/// How often it is looked whether the tables are there.
const PAUSE: Duration = Duration::from_millis(50);
/// Rows of a page of the log.
const PAGE_ROWS: u32 = 100;

/// A place in the log: stream, time and number.
type Place = (Vec<u8>, Vec<u8>, i32);

/// What was followed on one node over all its lives.
#[derive(Debug, Default)]
pub(crate) struct Followed {
    /// Tables of keyspace `ks`; none: nothing is followed.
    pub tables: RefCell<Vec<&'static str>>,
    places: RefCell<Vec<Place>>,
    closed: RefCell<Option<i64>>,
}

impl Followed {
    /// Up to where everything was heard.
    pub(crate) fn closed(&self) -> i64 {
        self.closed.borrow().unwrap_or(i64::MIN)
    }

    /// Follows for as long as the node runs.
    pub(crate) async fn run(&self, node: &Node, clock: &env::Clock) {
        if self.tables.borrow().is_empty() {
            return std::future::pending().await;
        }
        let tables: Vec<_> = self.tables.borrow().iter().map(|name| ("ks", *name)).collect();
        let above = self.closed();
        let mut source = loop {
            match node.follow_log(&tables, above) {
                Ok(source) => break source,
                Err(_) => clock.sleep(PAUSE).await,
            }
        };
        loop {
            match source.next().await {
                Ok(batch) => self.note(&batch),
                Err(error) => panic!("the log cannot be followed: {error}"),
            }
        }
    }

    fn note(&self, batch: &Batch) {
        let before = self.closed();
        assert!(batch.closed > before, "time goes on");
        let is_inside = |micros: i64| before < micros && micros <= batch.closed;
        assert!(
            batch.rows.iter().all(|row| is_inside(row.key.micros())),
            "rows are in their batch"
        );
        assert!(batch.rows.is_sorted_by(|one, next| one.key < next.key), "rows ascend");
        let place = |row: &changefeed::LogRow| {
            (row.key.stream.to_vec(), row.key.time.to_vec(), row.key.batch_seq_no)
        };
        self.places.borrow_mut().extend(batch.rows.iter().map(place));
        *self.closed.borrow_mut() = Some(batch.closed);
    }

    /// Whether what was heard up to a time is what the logs hold.
    fn check(&self, log: &BTreeSet<Place>, up_to: i64) -> Result<(), String> {
        let is_meant = |place: &&Place| micros(place) <= up_to;
        let places = self.places.borrow();
        let heard: Vec<&Place> = places.iter().filter(is_meant).collect();
        let once: BTreeSet<&Place> = heard.iter().copied().collect();
        let all: BTreeSet<&Place> = log.iter().filter(is_meant).collect();
        if once.len() < heard.len() {
            return Err("a row was heard twice".to_owned());
        }
        let differences: Vec<&&Place> = all.symmetric_difference(&once).collect();
        if differences.is_empty() { Ok(()) } else { Err(format!("{differences:?}")) }
    }
}

/// The time of a place, in microseconds.
fn micros((_, time, _): &Place) -> i64 {
    timeuuid_micros(time.as_slice().try_into().expect("a time uuid"))
}

/// All places in the logs of tables, and the last time among them.
async fn read_places(home: Home, tables: Vec<&'static str>) -> (BTreeSet<Place>, i64) {
    let mut client = Client::connect(&home, "places", Dialect::of(1)).await;
    let mut places = BTreeSet::new();
    for table in tables {
        let text = format!(
            "SELECT \"cdc$stream_id\", \"cdc$time\", \"cdc$batch_seq_no\" \
             FROM ks.{table}_scylla_cdc_log"
        );
        let page = client.read_all(&text, PAGE_ROWS).await.expect("nothing is wrong any more");
        for row in page.rows {
            let [stream, time, number]: [Option<Vec<u8>>; 3] = row.try_into().expect("3 columns");
            let number = number.expect("a key").try_into().map(i32::from_be_bytes).expect("an int");
            places.insert((stream.expect("a key"), time.expect("a key"), number));
        }
    }
    let last = places.iter().map(micros).max().unwrap_or(i64::MIN);
    (places, last)
}

/// Who follows the log on that node has heard all of it once, when nothing is written any more.
pub(crate) fn check(cluster: &mut Cluster, node: usize, tables: &[&'static str]) {
    let home = cluster.home(node);
    let (places, last) = cluster.run(read_places(home, tables.to_vec()));
    // A tick is a millisecond.
    let mut ticks_left = PATIENCE.as_millis();
    while cluster.followed(node).closed() < last {
        assert!(ticks_left > 0, "seed {}: the log is not heard to its end", cluster.seed);
        ticks_left -= 1;
        cluster.step();
    }
    if let Err(why) = cluster.followed(node).check(&places, last) {
        panic!("seed {}: followed: {why}", cluster.seed);
    }
}
