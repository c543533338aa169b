//! Logged batches over several partitions that change lists by index: as a whole or not at all,
//! and never two of them at the same element, whatever crashes.
//!
//! Clients take elements off the fronts of lists, of two at once by a batch or of one alone, and
//! count. Were a look at a list not followed by its change before the next one looks, two clients
//! would take the same element; were a batch made twice after a crash, it would take two.

use crate::client::{Client, Dialect, Home};
use crate::clients::HasClients;
use crate::seeds;
use crate::statements::Statement;
use crate::world::World;
use cql::wire::BatchKind;
use env::EntropySource;
use env::disk::Survival;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

const CLIENTS: u64 = 6;
/// Partitions; a batch takes from two of them.
const LISTS: u64 = 3;
const ELEMENTS: u64 = 200;
const TAKES: u64 = 25;
/// Steps of the world between two power cuts.
const TICKS_BETWEEN_CUTS: u64 = 60;
const CUTS: u64 = 4;
/// How long the rest of a batch may take after the last start.
const BATCH_PATIENCE: Duration = Duration::from_secs(30);

/// How many elements were taken off each list.
type Counts = [u64; LISTS as usize];

/// What clients know.
#[derive(Clone, Debug, Default)]
struct Taken {
    surely: Counts,
    /// Attempts without an answer: the lists of each.
    perhaps: Vec<Vec<u64>>,
}

impl Taken {
    /// Whether some of the unanswered attempts, each as a whole, explain what is missing.
    fn explains(&self, missing: &Counts) -> bool {
        let mut possible = BTreeSet::from([self.surely]);
        for lists in &self.perhaps {
            let made: Vec<Counts> = possible
                .iter()
                .map(|counts| {
                    let mut counts = *counts;
                    for list in lists {
                        counts[*list as usize] += 1;
                    }
                    counts
                })
                .collect();
            possible.extend(made);
        }
        possible.contains(missing)
    }
}

async fn make_lists(home: Home, cdc: &'static str) {
    let mut client = Client::connect(&home, "schema", Dialect::of(1)).await;
    let keyspace = "CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', \
                    'replication_factor': 1}";
    client.query(keyspace).await.unwrap();
    let table = format!("CREATE TABLE ks.t (p int PRIMARY KEY, l list<int>){cdc}");
    client.query(&table).await.unwrap();
    let elements: Vec<String> = (0..ELEMENTS).map(|number| number.to_string()).collect();
    for list in 0..LISTS {
        let elements = elements.join(", ");
        let insert = format!("INSERT INTO ks.t (p, l) VALUES ({list}, [{elements}])");
        client.query(&insert).await.unwrap();
    }
}

/// Takes elements until all are taken, over as many connections as it needs.
async fn take(home: Home, number: u64, seed: u64, boots: Rc<Cell<u64>>) -> Taken {
    let name = format!("taker {number}");
    let mut entropy = EntropySource::simulated(seed).generator(&name);
    let mut client = Client::connect(&home, &name, Dialect::of(number)).await;
    let mut taken = Taken::default();
    for _ in 0..TAKES {
        let first = entropy.below(LISTS);
        let second = (first + 1 + entropy.below(LISTS - 1)) % LISTS;
        let lists = if entropy.below(2) == 0 { vec![first] } else { vec![first, second] };
        let delete = |list: &u64| format!("DELETE l[0] FROM ks.t WHERE p = {list}");
        let statements: Vec<Statement> =
            lists.iter().map(|list| Statement::of_text(&delete(list))).collect();
        let boot = boots.get();
        let result = match statements.as_slice() {
            [single] => client.run(single).await,
            several => client.batch(BatchKind::Logged, several, None).await,
        };
        match &result {
            Ok(_) => lists.iter().for_each(|list| taken.surely[*list as usize] += 1),
            Err(error) if error.is_not_applied() => continue,
            Err(_) => taken.perhaps.push(lists),
        }
        if result.is_err() {
            // A node whose disk is gone says so until it is gone too.
            while boots.get() == boot {
                home.clock.sleep(Duration::from_millis(5)).await;
            }
            client = Client::connect(&home, &name, Dialect::of(entropy.u64())).await;
        }
    }
    taken
}

/// How many elements each list has lost; every one must be from the front.
async fn missing(client: &mut Client) -> Counts {
    let mut missing = [0; LISTS as usize];
    for (list, missing) in missing.iter_mut().enumerate() {
        let select = format!("SELECT l FROM ks.t WHERE p = {list}");
        let page = client.query(&select).await.unwrap();
        let bytes = page.rows[0][0].as_deref().expect("elements are left");
        let elements: Vec<u64> = model::value::ListView::list(bytes)
            .unwrap()
            .map(|element| u64::from(u32::from_be_bytes(element.unwrap().try_into().unwrap())))
            .collect();
        *missing = ELEMENTS - elements.len() as u64;
        assert!(elements.iter().copied().eq(*missing..ELEMENTS), "list {list}: {elements:?}");
    }
    missing
}

async fn check(home: Home, taken: Taken) {
    let mut client = Client::connect(&home, "checker", Dialect::of(0)).await;
    let deadline = home.clock.now_micros() + BATCH_PATIENCE.as_micros() as i64;
    loop {
        let found = missing(&mut client).await;
        if taken.explains(&found) {
            return;
        }
        assert!(home.clock.now_micros() < deadline, "{found:?} are missing, taken: {taken:?}");
        home.clock.sleep(Duration::from_millis(50)).await;
    }
}

fn run(seed: u64, cuts: u64) {
    let mut world = World::new(seed);
    let home = world.home().clone();
    let cdc = if seed.is_multiple_of(2) { "" } else { " WITH cdc = {'enabled': true}" };
    world.run(make_lists(home.clone(), cdc));
    let boots = Rc::new(Cell::new(world.boots()));
    let takers: Vec<_> = (0..CLIENTS)
        .map(|number| world.start(take(home.clone(), number, seed, boots.clone())))
        .collect();
    let mut ticks = 0;
    while takers.iter().any(|taker| taker.borrow().is_none()) {
        world.step();
        boots.set(world.boots());
        ticks += u64::from(world.is_serving());
        if ticks.is_multiple_of(TICKS_BETWEEN_CUTS) && ticks / TICKS_BETWEEN_CUTS <= cuts {
            ticks += 1;
            if world.is_serving() {
                world.cut_power(Survival::SyncedOnly);
            }
        }
    }
    let mut taken = Taken::default();
    for taker in &takers {
        let one = taker.borrow_mut().take().expect("it has ended");
        (0..LISTS as usize).for_each(|list| taken.surely[list] += one.surely[list]);
        taken.perhaps.extend(one.perhaps);
    }
    assert!(taken.surely.iter().all(|count| *count > 0), "seed {seed}: {taken:?}");
    assert!(cuts > 0 || taken.perhaps.is_empty(), "seed {seed}: {taken:?}");
    world.run(check(home, taken));
}

#[test]
fn clients_never_take_the_same_element() {
    seeds(4).for_each(|seed| run(seed, 0));
}

#[test]
fn batches_on_lists_survive_power_cuts_once() {
    seeds(6).for_each(|seed| run(seed, CUTS));
}
