//! What happens to a simulated cluster: every seed is a cluster with a temper of its own.

use super::network::Weather;
use super::node::host;
use super::world::World;
use crate::consensus::Change;
use crate::placement::GroupId;
use crate::random::Random;
use crate::rules::{Rule, is_kept, is_noticed};

/// Steps with faults, and steps after them.
const STEPS: u64 = 1_200;
const CALM_STEPS: u64 = 1_600;

/// The least that a log takes at once: an entry, with the vote that may come before it.
const LOG_BYTES_MIN: u64 = 300;

/// In how many steps a log without room has room again, once nothing goes wrong.
const ROOM_STEPS_MAX: u64 = 50;

/// What sets one schedule apart from another.
#[expect(clippy::struct_excessive_bools, reason = "each fault is there or not")]
struct Temper {
    /// Faults of nodes and links in a thousand steps.
    wildness: u64,
    weather: Weather,
    has_pauses: bool,
    has_crashes: bool,
    has_changes: bool,
    has_transfers: bool,
    has_cuts: bool,
    flushes: u64,
    operations: u64,
    /// What may wait for a disk, if that is limited.
    log_bytes_max: Option<u64>,
}

impl Temper {
    fn new(random: &mut Random) -> Temper {
        let mut often = |bound: u64| if random.below(2) == 0 { 0 } else { random.below(bound) };
        let weather = Weather { lost: often(80), doubled: often(80), straggling: often(40) };
        Temper {
            weather,
            wildness: 2 + random.below(25),
            has_pauses: random.below(2) == 0,
            has_crashes: random.below(3) > 0,
            has_changes: random.below(2) == 0,
            has_transfers: random.below(3) == 0,
            has_cuts: random.below(3) > 0,
            flushes: random.below(30),
            operations: 1 + random.below(4),
            log_bytes_max: (random.below(2) == 0).then(|| LOG_BYTES_MIN + random.below(2_000)),
        }
    }
}

/// Runs one seed; how often each thing happened.
fn run(seed: u64) -> World {
    let mut random = Random(seed ^ 0x5EED);
    let node_count = 3 + random.below(3);
    let voter_count = if random.below(3) == 0 { node_count } else { 3 };
    let group_count = [1, 1, 2, 4, 20][random.below(5) as usize];
    let mut world = World::new(seed, node_count, group_count, voter_count);
    let temper = Temper::new(&mut random);
    world.network.weather = temper.weather;
    world.disk_speed = 5 + random.below(96);
    if let Some(bytes_max) = temper.log_bytes_max {
        world.nodes.values_mut().for_each(|node| node.limit_log(bytes_max as usize));
    }
    if !is_kept(Rule::MissedEndsTheSession) {
        // What is missed would be made good all the same, a second late. Replicas that are made anew
        // need that (rule 72); nothing else does, as long as the links lose nothing unnoticed.
        world.nodes.values_mut().for_each(|node| node.looks_after_followers = temper.has_changes);
    }
    for step in 0..STEPS {
        let nanos = if random.below(20) == 0 { 100_000_000 } else { 12_000_000 };
        world.pass(random.below(nanos));
        if random.happens(temper.wildness) {
            disturb(&mut world, &mut random, &temper);
        }
        for _ in 0..temper.operations {
            operate(&mut world, &mut random, &temper);
        }
        if step % 25 == 0 {
            world.check_logs();
        }
    }
    calm(&mut world);
    world
}

fn any_group(world: &World, random: &mut Random) -> GroupId {
    world.groups[random.below(world.groups.len() as u64) as usize]
}

fn disturb(world: &mut World, random: &mut Random, temper: &Temper) {
    let count = world.nodes.len() as u64;
    let id = 1 + random.below(count);
    let other = 1 + random.below(count);
    let any = any_group(world, random);
    match random.below(9) {
        0 | 1 if temper.has_crashes => {
            let node = world.nodes.get_mut(&id).unwrap();
            let unsynced = node.up.as_ref().map_or(0, |up| up.log.writes.len()) as u64;
            node.crash(random.below(unsynced + 1) as usize);
        }
        2 if temper.has_pauses => {
            let nanos = random.below(3_000_000_000);
            world.nodes.get_mut(&id).unwrap().paused_until = world.nanos + nanos;
        }
        3 if temper.has_cuts => {
            world.network.cuts.insert((id, other));
        }
        4 if temper.has_cuts => {
            for peer in (1..=count).filter(|&peer| peer != id) {
                world.network.cuts.extend([(id, peer), (peer, id)]);
            }
        }
        5 if temper.has_cuts => {
            for (one, two) in (1..=count).flat_map(|a| (1..=count).map(move |b| (a, b))) {
                if (one <= id) != (two <= id) {
                    world.network.cuts.insert((one, two));
                }
            }
        }
        6 => world.network.cuts.clear(),
        7 => world.with(id, |node, context| node.campaign(any, context)),
        _ => {
            let hours = random.below(3) as i64 - 1;
            let offset = hours * 3_600_000_000 + random.below(400_000) as i64;
            world.nodes.get_mut(&id).unwrap().wall_offset = offset;
        }
    }
}

fn operate(world: &mut World, random: &mut Random, temper: &Temper) {
    let id = 1 + random.below(world.nodes.len() as u64);
    let group = any_group(world, random);
    if world.nodes[&id].up.is_none() {
        if random.below(30) == 0 {
            world.start(id);
        }
        return;
    }
    if random.happens(temper.flushes) {
        world.with(id, |node, _| node.flush(group));
    }
    match random.below(10) {
        0..=3 => {
            let value = world.next_value();
            let lag = random.below(300_000) as i64 - 20_000;
            world.with(id, |node, context| node.propose(group, value, lag, context));
        }
        4..=6 => world.request_read(id, group),
        7 => world.with(id, |node, context| node.beat(group, context)),
        8 if temper.has_transfers && random.below(10) == 0 => {
            let to = 1 + random.below(world.nodes.len() as u64);
            if world.with(id, |node, context| node.transfer(group, to, context)) {
                world.oracle.count("transfers");
            }
        }
        9 if temper.has_changes => {
            let other = host(1 + random.below(world.nodes.len() as u64));
            let changes =
                [Change::AddLearner(other), Change::Promote(other), Change::Remove(other)];
            let change = changes[random.below(3) as usize];
            world.with(id, |node, context| node.change(group, change, context));
            if random.below(2) == 0 {
                let id = 1 + random.below(world.nodes.len() as u64);
                move_away_and_back(world, group, id);
            }
        }
        _ => {}
    }
}

/// The ring has taken the group from a node, if its leader says so, and gives it back: the replica is
/// made anew.
fn move_away_and_back(world: &mut World, group: GroupId, id: u64) {
    let Some(members) = world.oracle.members(group) else { return };
    if world.nodes.values().any(|node| node.leads_for(group, &members)) {
        let peers: Vec<u64> = world.nodes.keys().copied().collect();
        world.with(id, |node, context| node.make_anew(group, members, &peers, context));
    }
}

/// With everybody up and nothing lost, every group has a leader with a lease, whose writes reach all.
fn calm(world: &mut World) {
    world.network.weather = Weather::default();
    world.network.cuts.clear();
    world.disk_speed = 100;
    let ids: Vec<u64> = world.nodes.keys().copied().collect();
    for &id in &ids {
        world.nodes.get_mut(&id).unwrap().paused_until = 0;
        if world.nodes[&id].up.is_none() {
            world.start(id);
        }
    }
    for step in 0..CALM_STEPS {
        world.pass(5_000_000);
        // A last write to each group, once everything has come to rest.
        if step == CALM_STEPS * 3 / 4 {
            world.groups.clone().into_iter().for_each(|group| write_last(world, group, &ids));
        }
    }
    world.check_logs();
    for group in world.groups.clone() {
        // One that was removed, and has not heard of it, may believe that it leads an older term.
        let terms = ids.iter().filter_map(|&id| {
            let (group, _) = world.nodes[&id].up.as_ref().unwrap().replicas.cores(group);
            group.is_leader().then(|| (group.term(), id))
        });
        let leader = terms.max().map(|(_, id)| id);
        let leader = leader.unwrap_or_else(|| panic!("no leader\n{}", status(world, group)));
        assert!(
            world.with(leader, |node, context| node.begin_read(group, context)),
            "no reads at {leader}\n{}",
            status(world, group)
        );
        let (core, _) = world.nodes[&leader].up.as_ref().unwrap().replicas.cores(group);
        let last = core.last().index;
        for host in core.members().members() {
            let up = world.nodes[&(host.0 as u64)].up.as_ref().unwrap();
            let applied = up.replicas.applied(group);
            assert_eq!(applied, last, "{host:?} lags\n{}", status(world, group));
        }
    }
}

/// Writes to a group once more, as soon as there is room.
fn write_last(world: &mut World, group: GroupId, ids: &[u64]) {
    let value = world.next_value();
    for _ in 0..ROOM_STEPS_MAX {
        if ids.iter().any(|id| world.with(*id, |n, c| n.propose(group, value, 0, c))) {
            return;
        }
        world.pass(5_000_000);
    }
    panic!("{group:?} has no leader\n{}", status(world, group));
}

fn status(world: &World, group: GroupId) -> String {
    let line = |(id, node): (&u64, &super::node::Node)| {
        let up = node.up.as_ref()?;
        let (g, leadership) = up.replicas.cores(group);
        let (term, leader, last, commit) = (g.term(), g.leader(), g.last(), g.commit());
        let (fence, next) = (leadership.fence(), leadership.next_tick());
        let now = node.clock(world.nanos);
        Some(format!(
            "{id}: {term:?} leader {leader:?} last {last} commit {commit:?} members {:?} fence {fence:?} next {next:?} now {now:?} serves {}\n",
            g.members(),
            leadership.may_serve(g, &up.liveness, now),
        ))
    };
    world.nodes.iter().filter_map(line).collect()
}

fn run_seeds(seeds: std::ops::Range<u64>) -> std::collections::BTreeMap<&'static str, u64> {
    let mut counts = std::collections::BTreeMap::new();
    for seed in seeds {
        let world = std::panic::catch_unwind(|| run(seed)).unwrap_or_else(|panic| {
            println!("seed {seed}");
            std::panic::resume_unwind(panic)
        });
        for (what, count) in world.oracle.counts {
            *counts.entry(what).or_default() += count;
        }
    }
    counts
}

/// The seeds to run: a few by default, thousands with `SEEDS=5000` or `SEEDS=5000..6000` in the
/// environment.
fn seeds() -> std::ops::Range<u64> {
    let Ok(asked) = std::env::var("SEEDS") else { return 0..120 };
    let (first, end) = asked.split_once("..").unwrap_or(("0", &asked));
    let number = |text: &str| text.parse().expect("SEEDS is COUNT or FIRST..END");
    number(first)..number(end)
}

#[test]
fn clusters_keep_their_promises() {
    let counts = run_seeds(seeds());
    println!("{counts:?}");
    for what in ["leaders", "entries", "writes", "reads", "moments under a lease", "closed times"] {
        assert!(counts.contains_key(what), "nothing was proved about {what}");
    }
    for what in [
        "snapshots installed",
        "transfers",
        "log reads",
        "reads in vain",
        "replicas made anew",
        "refusals of the log",
    ] {
        assert!(counts.contains_key(what), "there were no {what}");
    }
}

#[test]
fn a_seed_always_gives_the_same_run() {
    for seed in 0..4 {
        assert_eq!(run(seed).oracle.counts, run(seed).oracle.counts, "seed {seed}");
    }
}

#[test]
fn each_rule_broken_is_noticed() {
    let rules = [
        Rule::WithdrawnIsOver,
        Rule::LeaseNeedsFences,
        Rule::LeaseOfAMajority,
        Rule::ReleaseEndsTheLease,
        Rule::ReadsAreSettled,
        Rule::ClockAfterRead,
        Rule::NewLeaderStartsAbove,
        Rule::BeatsCloseWhatIsReserved,
        Rule::BelievedWhenApplied,
        Rule::MissedEndsTheSession,
        Rule::EntriesAreSynced,
        Rule::CommitsByMajority,
        Rule::AppliesCommitted,
        Rule::SupportIsKept,
        Rule::CompleteLogsOnly,
        Rule::WritesVoidTheTail,
        Rule::SnapshotReplacesTheLog,
        Rule::FormerLogsCount,
    ];
    // Some rules matter only when several things go wrong together.
    let tries = 0..seeds().end.max(1_000);
    let is_missed = |rule: &Rule| !is_noticed(*rule, tries.clone(), |seed| drop(run(seed)));
    let missed: Vec<Rule> = rules.into_iter().filter(is_missed).collect();
    assert!(missed.is_empty(), "broken, and nothing noticed: {missed:?}");
}
