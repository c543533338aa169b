//! The generations of CDC streams as clients see them: every node shows the same ones, as far as it
//! has heard of them, and whatever a log tells of stands in a stream of the generation that operated
//! at its time.

use crate::client::{Client, Home};
use cdc::fold::LogRow;
use env::EntropySource;
use model::value::ListView;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

const STARTS: &str = "SELECT time FROM system_distributed.cdc_generation_timestamps \
                      WHERE key = 'timestamps'";
const STREAMS: &str = "SELECT time, streams FROM system_distributed.cdc_streams_descriptions_v2";
const PAUSE: Duration = Duration::from_millis(400);
/// Rows of a page.
const PAGE_ROWS: u32 = 500;

/// All streams of each generation, by its start in milliseconds.
#[derive(Debug)]
pub(crate) struct Generations(BTreeMap<i64, BTreeSet<Vec<u8>>>);

impl Generations {
    /// Whether every row of a log is in a stream of its time.
    pub(crate) fn check(&self, log: &[LogRow]) -> Result<(), String> {
        for row in log {
            let millis = row.micros().div_euclid(1_000);
            let operating = self.0.range(..=millis).next_back();
            let Some((start, streams)) = operating else {
                return Err(format!("before the first generation: {row:?}"));
            };
            if !streams.contains(&row.stream) {
                return Err(format!("not in the generation of {start}: {row:?}"));
            }
        }
        Ok(())
    }
}

/// Everything that a node shows of generations.
pub(crate) async fn read(home: Home) -> Generations {
    let mut entropy = EntropySource::simulated(0).generator("generations");
    let mut client = Client::connect_to_any(&[home], "generations", &mut entropy).await;
    let mut all = BTreeMap::new();
    for start in starts(&client.read_all(STARTS, PAGE_ROWS).await.expect("nothing is wrong").rows) {
        all.insert(start, BTreeSet::new());
    }
    for row in client.read_all(STREAMS, PAGE_ROWS).await.expect("nothing is wrong").rows {
        let set = row[1].as_deref().expect("streams");
        let streams = ListView::set(set).unwrap().map(|stream| stream.unwrap().to_vec());
        let of_generation = all.get_mut(&starts(std::slice::from_ref(&row))[0]);
        of_generation.expect("a generation with streams is shown").extend(streams);
    }
    Generations(all)
}

/// Looks at the generations by way of any node until it is told to end: what one shows is the
/// beginning of what another does.
pub(crate) async fn watch(homes: Vec<Home>, seed: u64, is_to_end: Rc<Cell<bool>>) {
    let mut entropy = EntropySource::simulated(seed).generator("generations");
    let mut longest = Vec::new();
    while !is_to_end.get() {
        let mut client = Client::connect_to_any(&homes, "generations", &mut entropy).await;
        if let Ok(page) = client.query(STARTS).await {
            let mut shown = starts(&page.rows);
            shown.sort_unstable();
            let common = shown.len().min(longest.len());
            assert_eq!(shown[..common], longest[..common], "seed {seed}: other generations");
            if shown.len() > longest.len() {
                longest = shown;
            }
        }
        homes[0].clock.sleep(PAUSE).await;
    }
}

/// The first column of rows, which is a time.
fn starts(rows: &[Vec<Option<Vec<u8>>>]) -> Vec<i64> {
    let millis = |cell: &Option<Vec<u8>>| {
        let bytes = cell.as_deref().and_then(|bytes| bytes.try_into().ok());
        i64::from_be_bytes(bytes.expect("a time"))
    };
    rows.iter().map(|row| millis(&row[0])).collect()
}
