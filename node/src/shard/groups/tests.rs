//! What a start makes of a log whose groups have other members, and of entries that are ahead of the
//! metadata.

use super::*;
use crate::metadata::{test_metadata, test_schema};
use crate::shard::decide::{Attempt, Proposal};
use crate::shard::recovery::{OpenOptions, Opened};
use crate::shard::{Change, WriteError, WriteRequest};
use crate::view::View;
use cluster::consensus::Term;
use cluster::liveness::Incarnation;
use env::Env;
use env::disk::Disk;
use model::TableId;
use model::entry::{Placement, WriteEntryWriter, write_switch};
use model::mutation::MutationWriter;
use std::path::Path;
use storage::FlushReason;
use storage::commitlog::{CommitLog, FormerEnd, HardState, LogOptions, LogStart};
use storage::{Engine, EngineOptions};

const ME: HostId = HostId(1);
const KEYSPACE: &str =
    "CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}";
const TABLE: &str = "CREATE TABLE t (p int PRIMARY KEY)";
const LATE: &str = "CREATE TABLE late (p int PRIMARY KEY)";
const LOG: &str = "/log";
const TABLES: &str = "/tables";

/// What three nodes know after these statements.
fn view(statements: &[&str]) -> Arc<View> {
    let mut metadata = test_metadata(&[(1, 10), (2, 20), (3, 30)]);
    metadata.schema = test_schema(statements);
    Arc::new(View::new(metadata, &[], ME).expect("there is a ring"))
}

fn table(view: &View, name: &str) -> TableId {
    view.schema.keyspace("k").expect("it was made").tables[name].id
}

/// A write to a table, placed at that time.
fn write_to(table: TableId, placed: i64) -> Vec<u8> {
    let mut payload = Vec::new();
    let mut entry = WriteEntryWriter::new(&mut payload);
    entry.mutation(|out| {
        MutationWriter::new(out, table, 1, &[0, 0, 0, 1]);
    });
    entry.finish(&Placement { closed: placed - 10, placed, ..Placement::START }, placed);
    payload
}

/// Says that a log was switched by the metadata of that index.
fn switch_at(index: u64) -> Vec<u8> {
    let mut payload = Vec::new();
    write_switch(&mut payload, &Placement { switched_at: index, ..Placement::START }, 1);
    payload
}

/// A disk whose log holds these entries of a group, of which the first few are noted as committed.
fn disk_with(group: GroupId, hosts: &[HostId], payloads: &[Vec<u8>], committed: u64) -> Disk {
    let (disk, _) = Disk::simulated(3);
    let options = LogOptions::new(0, 5);
    let (mut log, _) = CommitLog::open(&disk, Path::new(LOG), options).expect("a new log");
    let mut members = Vec::new();
    Membership::of_voters(hosts.iter().copied()).encode(&mut members);
    if hosts != [ME] {
        log.append_start(group.0, LogStart::default(), &members).expect("there is room");
    }
    for (index, payload) in (1..).zip(payloads) {
        log.append_entry(group.0, 1, index, &[payload]).expect("there is room");
    }
    if committed > 0 {
        log.append_committed(group.0, committed).expect("there is room");
    }
    log.submit().expect("the disk works");
    disk
}

/// The shard as it starts from a disk, by a view.
fn start(disk: &Disk, view: &Arc<View>) -> ShardState {
    let env = Env { disk: disk.clone(), ..Env::real() };
    let options = OpenOptions {
        shard: 0,
        host_id: ME,
        incarnation: Incarnation(2),
        log_directory: Path::new(LOG),
        table_directory: Path::new(TABLES),
        log: LogOptions::new(0, 6),
        log_bytes_max: 1 << 30,
        engine: EngineOptions::default(),
        clock: Arc::default(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let opened = Opened::open(&env, &options, None).expect("the log is whole");
    runtime.block_on(opened.recover_data(view, 0, ME, 1)).expect("it recovers")
}

fn group_of(view: &View) -> GroupId {
    view.groups_of_keyspace("k")[0]
}

const HOSTS: [HostId; 3] = [ME, HostId(2), HostId(3)];

#[test]
fn a_start_applies_what_is_noted_as_committed_and_keeps_the_rest_for_a_leader() {
    let view = view(&[KEYSPACE, TABLE]);
    let (group, table) = (group_of(&view), table(&view, "t"));
    let payloads: Vec<_> = [100, 200, 300, 400].map(|placed| write_to(table, placed)).to_vec();
    let state = start(&disk_with(group, &HOSTS, &payloads, 2), &view);
    let replicas = &state.replicas;
    assert_eq!(replicas.members(group).map(|m| m.voters.clone()), Some(HOSTS.to_vec()));
    assert_eq!((replicas.applied(group), replicas.last_index(group)), (LogIndex(2), LogIndex(4)));
    assert_eq!(replicas.leader(group), None, "others have to be asked");
    assert_eq!(state.engine.placement(group.0).placed, 200);
    let times = state.leader_times(group);
    assert_eq!(
        (times.placement.placed, times.placement.closed),
        (400, 400),
        "a leader begins above all that was placed"
    );
    assert_eq!(times.placed_at_start, 400);
    assert!(state.leads_all(), "it does not wait for groups that others belong to");
}

#[test]
fn an_entry_that_is_ahead_of_the_metadata_waits_for_it() {
    let both = view(&[KEYSPACE, TABLE, LATE]);
    let (group, known, late) = (group_of(&both), table(&both, "t"), table(&both, "late"));
    let payloads = [write_to(known, 100), write_to(late, 200), write_to(known, 300)];
    let before = view(&[KEYSPACE, TABLE]);
    // Noted or not: what cannot be applied now is applied later, and what comes behind it too.
    let state = start(&disk_with(group, &HOSTS, &payloads, 3), &before);
    assert_eq!(state.replicas.applied(group), LogIndex(1));
    assert_eq!(state.replicas.last_index(group), LogIndex(3));

    let disk = disk_with(group, &[ME], &payloads, 0);
    let mut state = start(&disk, &before);
    assert_eq!(
        state.replicas.commit(group),
        LogIndex(4),
        "it leads alone, with an entry of its own"
    );
    assert_eq!(state.replicas.applied(group), LogIndex(1));
    assert!(state.replicas.is_held_back(group));
    state.adopt_tables(&both);
    assert_eq!(state.replicas.applied(group), LogIndex(4));
    assert_eq!(state.engine.placement(group.0).placed, 300);

    let mut metadata = before.metadata.clone();
    metadata.dropped_tables.push_back(late);
    let dropped = View::new(metadata, &[], ME).expect("there is a ring");
    let state = start(&disk, &Arc::new(dropped));
    assert_eq!(state.engine.placement(group.0).placed, 300, "nobody waits for what was dropped");
}

#[test]
fn a_group_without_a_keyspace_takes_part_in_nothing_until_there_is_one() {
    let with = view(&[KEYSPACE, TABLE]);
    let group = group_of(&with);
    let payloads = [write_to(table(&with, "t"), 100)];
    let mut metadata = with.metadata.clone();
    metadata.dropped_tables.push_back(table(&with, "t"));
    metadata.schema.keyspaces.clear();
    let without = Arc::new(View::new(metadata, &[], ME).expect("there is a ring"));
    for hosts in [&HOSTS[..], &HOSTS[..1]] {
        let mut state = start(&disk_with(group, hosts, &payloads, 1), &without);
        assert!(state.dormant.contains(&group) && state.replicas.contains(group));
        assert_eq!(state.replicas.leader(group), None);
        let now = MonotonicNanos(u64::MAX / 2);
        state.advance_log(now).expect("the disk works");
        assert_eq!(state.replicas.leader(group), None, "nor later");
        assert!(beginning(&state.replicas, group, LogIndex(1)).is_some(), "its segments may go");

        state.adopt_tables(&with);
        state.adopt_groups(0, 1, now).expect("there is room");
        assert!(state.dormant.is_empty());
        assert!(!state.replicas.is_leader(group), "a vote has to be durable first");
        assert_eq!(state.replicas.last_index(group), LogIndex(1), "it goes on where it was");
    }
}

#[test]
fn what_is_made_anew_is_found_again_with_its_members() {
    let view = view(&[KEYSPACE, TABLE]);
    let (disk, _) = Disk::simulated(3);
    let made = start(&disk, &view);
    let group = group_of(&view);
    assert_eq!(made.replicas.members(group).map(|m| m.voters.len()), Some(3));
    drop(made);
    let found = start(&disk, &view);
    let members = found.replicas.members(group).expect("it is there");
    let placed = view.replicas_of_group(group).expect("it is placed here");
    assert_eq!(members.voters, placed.hosts, "in the order of the placement");
}

/// Has the log of a node say that a group was removed, whose last entry that was.
fn remove(disk: &Disk, group: GroupId, vote: HardState, end: FormerEnd) {
    let options = LogOptions::new(0, 7);
    let (mut log, replay) = CommitLog::open(disk, Path::new(LOG), options).expect("it is whole");
    drop(replay);
    log.append_hard_state(group.0, vote).expect("there is room");
    log.append_remove(group.0, end).expect("there is room");
    log.submit().expect("the disk works");
}

#[test]
fn what_is_made_anew_votes_as_the_one_before_it() {
    let view = view(&[KEYSPACE, TABLE]);
    let (group, table) = (group_of(&view), table(&view, "t"));
    let disk = disk_with(group, &HOSTS, &[write_to(table, 100)], 0);
    let vote = HardState { term: 4, vote: Some(HOSTS[2].0) };
    remove(&disk, group, vote, FormerEnd { term: 4, index: 9 });
    for life in ["that made it", "after that"] {
        let state = start(&disk, &view);
        assert_eq!(state.replicas.last_index(group), LogIndex(0), "it is empty in the life {life}");
        let kept = state.replicas.hard_state(group).expect("it is durable");
        assert_eq!((kept.term, kept.voted_for), (Term(4), Some(HOSTS[2])), "in the life {life}");
    }
    // No vote was saved in the term of the last entry.
    let (disk, _) = Disk::simulated(3);
    remove(&disk, group, vote, FormerEnd { term: 5, index: 9 });
    for life in ["that made it", "after that"] {
        let state = start(&disk, &view);
        assert_eq!(state.replicas.term(group), Term(5), "it knows the end in the life {life}");
    }
}

/// Runs what the engine has to do until nothing is due.
fn run_jobs(state: &mut ShardState, disk: &Disk, group: GroupId) {
    let reason = FlushReason::Log { group: group.0 };
    while let Some(job) = state.engine.flush_job(reason).or_else(|| state.engine.manifest_job()) {
        state.engine.finish(job.run(disk)).expect("the disk works");
    }
}

#[test]
fn a_removal_that_the_tables_have_not_heard_of_goes_on_before_a_group_is_made_anew() {
    let view = view(&[KEYSPACE, TABLE]);
    let (group, table) = (group_of(&view), table(&view, "t"));
    let payloads = [100, 200].map(|placed| write_to(table, placed));
    let disk = disk_with(group, &HOSTS, &payloads, 2);
    let mut state = start(&disk, &view);
    run_jobs(&mut state, &disk, group);
    assert!(state.engine.flushed_indexes().contains_key(&group.0), "its rows are in a file");
    drop(state);
    remove(&disk, group, HardState::default(), FormerEnd { term: 1, index: 2 });

    let mut state = start(&disk, &view);
    assert!(!state.replicas.contains(group), "what was there before has not gone yet");
    let mut turns = 0;
    while !state.end_departures() {
        run_jobs(&mut state, &disk, group);
        turns += 1;
        assert!(turns < 10, "it does not go");
    }
    assert!(!state.engine.flushed_indexes().contains_key(&group.0));
    state.adopt_groups(0, 1, MonotonicNanos(1)).expect("there is room");
    assert_eq!(state.replicas.last_index(group), LogIndex(0), "it is made anew");
    assert_eq!(state.replicas.term(group), Term(1));
}

#[test]
fn a_group_keeps_which_metadata_its_leader_has_to_know() {
    let view = view(&[KEYSPACE, TABLE]);
    let (group, table) = (group_of(&view), table(&view, "t"));
    let payloads =
        [write_to(table, 100), switch_at(7), switch_at(6), write_to(table, 200), switch_at(9)];
    let disk = disk_with(group, &HOSTS, &payloads, 4);
    let mut state = start(&disk, &view);
    assert_eq!(state.engine.placement(group.0).switched_at, 7);
    let times = state.leader_times(group);
    assert_eq!(times.placement.switched_at, 9, "what is undecided counts for a leader");
    assert!(!state.engine.keeps_placements(), "the log alone has it");
    run_jobs(&mut state, &disk, group);
    assert!(state.engine.keeps_placements());
    drop(state);
    let engine = Engine::open(disk, Path::new(TABLES), EngineOptions::default());
    let kept = engine.expect("the manifest is whole").placement(group.0);
    assert_eq!(kept.switched_at, 7, "the manifest has it");
}

#[test]
fn a_leader_that_lacks_a_log_decides_nothing() {
    let view = view(&[KEYSPACE, TABLE]);
    let (group, table) = (group_of(&view), table(&view, "t"));
    let mut state = start(&disk_with(group, &[ME], &[switch_at(7)], 0), &view);
    let clock = Env::real().clock;
    let mut is_decided = |index, change| {
        let mut metadata = view.metadata.clone();
        metadata.index = index;
        let view = View::new(metadata, &[], ME).expect("there is a ring");
        let mut request = WriteRequest::new(group, change);
        match state.decide(&view, &mut request, 1_000_000, &clock) {
            Ok((proposal, _)) => {
                let Proposal { times, .. } = proposal.expect("it has an entry");
                Some(times.placement.switched_at)
            }
            Err(Attempt::Failed(WriteError::NotLeader { hint: None })) => None,
            Err(error) => panic!("{error:?}"),
        }
    };
    assert_eq!(is_decided(6, Change::Truncate(table)), None);
    assert_eq!(is_decided(7, Change::Truncate(table)), Some(7));
    assert_eq!(is_decided(8, Change::Switch(9)), None, "it has to know what it says");
    assert_eq!(is_decided(9, Change::Switch(9)), Some(9));
    assert_eq!(is_decided(9, Change::Switch(5)), Some(7), "an older one takes nothing back");
}

#[test]
fn what_the_metadata_decide_by_a_wrong_clock_moves_no_timestamp() {
    const NOW: i64 = 1_000_000;
    let view = view(&[KEYSPACE, TABLE]);
    let mut state = start(&disk_with(GroupId::METADATA, &[ME], &[], 0), &view);
    let clock = Env::real().clock;
    let mut request = WriteRequest::new(GroupId::METADATA, Change::Metadata(Vec::new()));
    let decided = state.decide(&view, &mut request, NOW + 3_600_000_000, &clock);
    assert!(matches!(decided, Ok((Some(_), None))));
    assert_eq!(state.clock.next(NOW, None), NOW);
}
