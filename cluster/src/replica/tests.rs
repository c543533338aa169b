//! Groups of one member: the way of an entry, without messages. Groups of several are simulated
//! (`crate::simulation`).

use super::*;
use crate::consensus::{
    Change, EntryId, HardState, Header, Kind, LogIndex, Membership, Message, Recovered, Term,
    TermRun,
};
use crate::leadership::Support;
use crate::link::{EntryView, Envelope, Item, Progress};
use crate::liveness::{self, Epoch, Incarnation, MonotonicNanos};
use crate::peer::Peer;
use crate::placement::GroupId;
use crate::ring::HostId;
use std::sync::Arc;

mod followers;

const ME: HostId = HostId(7);

/// A log in memory: positions count records, and the test says what is held.
#[derive(Default)]
struct TestLog {
    records: Vec<(GroupId, Option<LogIndex>)>,
    is_full: bool,
    /// What it takes at once, if that is limited.
    bytes_max: Option<usize>,
    /// The most of an entry, if that is limited.
    payload_bytes_max: Option<usize>,
}

impl LocalLog for TestLog {
    type Error = &'static str;

    fn admit(&self, _: GroupId, bytes: usize) -> Result<(), &'static str> {
        let is_much = self.bytes_max.is_some_and(|bytes_max| bytes > bytes_max);
        if self.is_full || is_much { Err("full") } else { Ok(()) }
    }

    fn payload_bytes_max(&self) -> usize {
        self.payload_bytes_max.unwrap_or(usize::MAX)
    }

    fn append(
        &mut self,
        group: GroupId,
        entry: EntryId,
        _: &Kind,
        _: &[u8],
    ) -> Result<LogPosition, &'static str> {
        self.records.push((group, Some(entry.index)));
        Ok(LogPosition(self.records.len() as u64))
    }

    fn save_vote(&mut self, group: GroupId, _: HardState) -> Result<LogPosition, &'static str> {
        self.records.push((group, None));
        Ok(LogPosition(self.records.len() as u64))
    }
}

/// What was applied, one element per run; and the payload that it cannot apply yet, if not 0.
#[derive(Default)]
struct TestState(Vec<(GroupId, Run)>, u8);

/// Indexes and payloads.
type Run = Vec<(u64, Vec<u8>)>;

/// A payload that can never be applied.
const BAD: &[u8] = b"bad";

impl LocalState for TestState {
    fn check(&self, _: GroupId, _: &Kind, payload: &[u8]) -> Result<(), &'static str> {
        if payload == BAD { Err("it is bad") } else { Ok(()) }
    }

    fn apply<'a>(
        &mut self,
        entries: impl Iterator<Item = Committed<'a>>,
    ) -> Vec<(GroupId, LogIndex)> {
        let mut held_back: Vec<(GroupId, LogIndex)> = Vec::new();
        for Committed { group, index, payload, .. } in entries {
            if held_back.iter().any(|(held, _)| *held == group) {
                continue;
            }
            if payload == [self.1] {
                held_back.push((group, index));
                continue;
            }
            let entry = (index.0, payload.to_vec());
            match self.0.last_mut().filter(|(last, _)| *last == group) {
                Some((_, run)) => run.push(entry),
                None => self.0.push((group, vec![entry])),
            }
        }
        held_back
    }
}

/// There is nobody else.
struct Alone;

impl Support for Alone {
    fn supports(&self, _: HostId) -> Option<Epoch> {
        None
    }

    fn support_from(&self, _: HostId) -> Option<liveness::Support> {
        None
    }

    fn may_vote(&self) -> bool {
        true
    }
}

#[derive(Default)]
struct Shard {
    log: TestLog,
    state: TestState,
}

impl Shard {
    fn local(&mut self) -> Local<'_, TestLog, TestState, Alone> {
        let Shard { log, state } = self;
        Local { log, state, support: &Alone, now: MonotonicNanos(5) }
    }

    fn sync_all(&mut self, replicas: &mut Replicas<u32>) -> Vec<u32> {
        loop {
            let position = LogPosition(self.log.records.len() as u64);
            replicas.log_synced(position, &mut self.local()).unwrap();
            if position.0 == self.log.records.len() as u64 {
                let mut decided = Decided::default();
                replicas.take_decided(&mut decided);
                return decided.applied;
            }
        }
    }
}

fn alone() -> NewReplica {
    let members = Arc::new(Membership::of_voters([ME]));
    let memberships = vec![(LogIndex(0), members)];
    NewReplica {
        recovered: Recovered { memberships, ..Recovered::default() },
        ..NewReplica::default()
    }
}

#[test]
fn an_entry_is_applied_and_answered_only_once_the_log_holds_it() {
    let (group, other) = (GroupId(1), GroupId(2));
    let mut replicas = Replicas::new(ME, Incarnation(1));
    let mut shard = Shard::default();
    for id in [group, other] {
        replicas.add(id, alone(), MonotonicNanos(5)).unwrap();
        assert_eq!(
            replicas.propose(id, vec![1], PartitionMask(1), || 0, &mut shard.local()),
            Err(ProposeError::NotLeader { hint: None })
        );
        replicas.campaign(id, &mut shard.local()).unwrap();
    }
    assert!(shard.sync_all(&mut replicas).is_empty());
    replicas.tick(&mut shard.local()).unwrap();
    assert!(replicas.may_decide(group) && replicas.may_decide(other));
    assert!(replicas.may_serve(group, &Alone, MonotonicNanos(1 << 60)), "nobody else can lead");
    shard.state.0.clear();

    let (first, second) = (PartitionMask(1), PartitionMask(2));
    for (waiter, (id, payload)) in
        (100..).zip([(group, 10), (other, 20), (group, 11), (other, 21), (group, 12)])
    {
        replicas.propose(id, vec![payload], first, || waiter, &mut shard.local()).unwrap();
    }
    let held = LogPosition(shard.log.records.len() as u64);
    replicas.propose(group, vec![13], second, || 105, &mut shard.local()).unwrap();
    assert!(shard.state.0.is_empty(), "nothing is visible before it is held");
    let seen: Vec<_> = replicas.undecided(group, first).map(<[u8]>::to_vec).collect();
    assert_eq!(
        seen,
        [vec![10], vec![11], vec![12]],
        "the overlay shows what may touch the partition"
    );

    replicas.log_synced(held, &mut shard.local()).unwrap();
    let mut decided = Decided::default();
    replicas.take_decided(&mut decided);
    assert_eq!(decided.applied, [100, 102, 104, 101, 103], "group by group, each in its order");
    let of_group = vec![(2, vec![10]), (3, vec![11]), (4, vec![12])];
    let of_other = vec![(2, vec![20]), (3, vec![21])];
    assert_eq!(shard.state.0, [(group, of_group), (other, of_other)], "one run for each group");
    assert_eq!(replicas.undecided(group, first).count(), 0);
    replicas.check_invariants();

    let mut out = Vec::new();
    assert_eq!(replicas.take_outgoing(MonotonicNanos(1 << 60), &mut out), None);
    assert_eq!(replicas.abandon(), [105]);
    assert_eq!(shard.state.0.len(), 2, "what was not held is not applied");
}

#[test]
fn a_log_without_room_leaves_no_gap() {
    let group = GroupId(1);
    let mut replicas = Replicas::new(ME, Incarnation(1));
    let mut shard = Shard::default();
    replicas.add(group, alone(), MonotonicNanos(5)).unwrap();
    replicas.campaign(group, &mut shard.local()).unwrap();
    shard.sync_all(&mut replicas);
    shard.log.is_full = true;
    assert_eq!(
        replicas.propose(group, vec![1], PartitionMask(1), || 1, &mut shard.local()),
        Err(ProposeError::Log("full"))
    );
    shard.log.is_full = false;
    let index = replicas.propose(group, vec![2], PartitionMask(1), || 2, &mut shard.local());
    assert_eq!(index, Ok(LogIndex(2)), "behind the leader's first entry");
    assert_eq!(shard.sync_all(&mut replicas), [2]);
    let unknown = replicas.propose(GroupId(9), vec![], PartitionMask(1), || 3, &mut shard.local());
    assert_eq!(unknown, Err(ProposeError::UnknownGroup));
}

#[test]
fn what_cannot_be_applied_yet_holds_back_its_group_alone() {
    let (group, other) = (GroupId(1), GroupId(2));
    let mut replicas = Replicas::new(ME, Incarnation(1));
    let mut shard = Shard::default();
    for id in [group, other] {
        replicas.add(id, alone(), MonotonicNanos(5)).unwrap();
        replicas.campaign(id, &mut shard.local()).unwrap();
    }
    shard.sync_all(&mut replicas);
    replicas.tick(&mut shard.local()).unwrap();
    shard.state.0.clear();
    shard.state.1 = 11;
    for (waiter, (id, payload)) in (100..).zip([(group, 10), (group, 11), (group, 12), (other, 20)])
    {
        let mask = PartitionMask(1);
        replicas.propose(id, vec![payload], mask, || waiter, &mut shard.local()).unwrap();
    }
    assert_eq!(shard.sync_all(&mut replicas), [100, 103], "what comes before, and other groups");
    assert_eq!(replicas.applied(group), LogIndex(2));
    assert!(replicas.is_held_back(group) && !replicas.is_held_back(other));
    assert!(!replicas.may_decide(group) && replicas.may_decide(other));
    assert!(!replicas.may_serve(group, &Alone, MonotonicNanos(5)), "it lacks what is committed");
    assert_eq!(replicas.undecided(group, PartitionMask(1)).count(), 2, "it is in the overlay");
    replicas.check_invariants();

    replicas.apply_held_back(&mut shard.state);
    assert!(shard.sync_all(&mut replicas).is_empty(), "it still cannot");
    shard.state.1 = 0;
    replicas.apply_held_back(&mut shard.state);
    assert_eq!(shard.sync_all(&mut replicas), [101, 102]);
    assert!(replicas.may_decide(group) && replicas.may_serve(group, &Alone, MonotonicNanos(5)));
    replicas.check_invariants();
}

#[test]
fn a_restarted_member_keeps_what_is_not_known_to_be_committed_until_it_is() {
    let group = GroupId(1);
    let mut replicas = Replicas::new(ME, Incarnation(2));
    let mut shard = Shard::default();
    let held = |payload| HeldEntry { term: Term(1), kind: Kind::Data, payload: vec![payload] };
    let mut new = alone();
    new.recovered.runs = vec![TermRun { first: LogIndex(1), term: Term(1) }];
    (new.recovered.last, new.recovered.commit) = (LogIndex(4), LogIndex(2));
    new.entries = vec![held(3), held(4)];
    replicas.add(group, new, MonotonicNanos(5)).unwrap();
    replicas.check_invariants();
    assert_eq!((replicas.applied(group), replicas.commit(group)), (LogIndex(2), LogIndex(2)));
    assert!(shard.state.0.is_empty());
    replicas.campaign(group, &mut shard.local()).unwrap();
    shard.sync_all(&mut replicas);
    assert_eq!(shard.state.0, [(group, vec![(3, vec![3]), (4, vec![4]), (5, vec![])])]);
}

const LEADER: HostId = HostId(8);
const FROM: Peer = Peer { host_id: LEADER, shard: 0 };

/// Groups of this node and the leader.
fn followers(ids: [GroupId; 2]) -> Replicas<u32> {
    let mut replicas = Replicas::new(ME, Incarnation(1));
    let members = Arc::new(Membership::of_voters([ME, LEADER]));
    for id in ids {
        let memberships = vec![(LogIndex(0), members.clone())];
        let recovered = Recovered { memberships, ..Recovered::default() };
        let shards = vec![(LEADER, 0)];
        let new = NewReplica { recovered, shards, ..NewReplica::default() };
        replicas.add(id, new, MonotonicNanos(5)).unwrap();
    }
    replicas
}

/// The first envelope of a session of the leader's.
fn envelope<'a>(
    session: u64,
    items: Vec<(GroupId, Item)>,
    payload: impl Fn(GroupId, LogIndex) -> &'a [u8],
) -> Vec<u8> {
    let (sent, taken) = (Progress { session, count: 1 }, Progress::default());
    let envelope = Envelope { sent, taken, is_refused: false, wants_answer: true, items };
    let mut bytes = Vec::new();
    envelope.encode(&mut bytes, |group, index| {
        let header = Header { term: Term(1), kind: Kind::Data };
        EntryView { header, payload: payload(group, index) }
    });
    bytes
}

/// Entries 1 to `last`.
fn append(group: GroupId, last: u64) -> (GroupId, Item) {
    let (previous, last) = (EntryId::default(), LogIndex(last));
    (group, Item::Append { term: Term(1), previous, last, commit: LogIndex(0) })
}

/// A broken member must not take down those that follow it.
#[test]
fn entries_that_can_never_be_applied_are_passed_over_and_other_groups_go_on() {
    let (broken, whole) = (GroupId(1), GroupId(2));
    let mut replicas = followers([broken, whole]);
    let mut shard = Shard::default();
    let bytes = envelope(1, vec![append(broken, 3), append(whole, 2)], |group, index| {
        if group == broken && index == LogIndex(2) { BAD } else { b"good" }
    });
    let received = replicas.receive(FROM, &bytes, &mut shard.local());
    let Err(ReceiveError::BadEntries(bad)) = received else { panic!("{received:?}") };
    let reason = BadReason::Damaged("it is bad");
    assert_eq!(bad, [BadEntry { group: broken, index: LogIndex(2), reason }]);
    let lasts = [broken, whole].map(|id| replicas.last_index(id).0);
    assert_eq!(lasts, [1, 2]);
    replicas.check_invariants();
}

/// A member with smaller segments than its leader refused such an entry for ever, and with it
/// everything that other groups were sent.
#[test]
fn entries_larger_than_the_log_ever_takes_are_passed_over_and_other_groups_go_on() {
    let (broken, whole) = (GroupId(1), GroupId(2));
    let mut replicas = followers([broken, whole]);
    let mut shard = Shard::default();
    replicas.connected(FROM, &mut shard.local()).unwrap();
    (shard.log.bytes_max, shard.log.payload_bytes_max) = (Some(2_000), Some(1_500));
    let items = vec![append(broken, 3), append(whole, 2)];
    let bytes = envelope(1, items, |group, index| {
        if group == broken && index == LogIndex(2) { &[7; 1_501] } else { b"small" }
    });
    let received = replicas.receive(FROM, &bytes, &mut shard.local());
    let Err(ReceiveError::BadEntries(bad)) = received else { panic!("{received:?}") };
    let reason = BadReason::TooLarge { payload_bytes: 1_501, payload_bytes_max: 1_500 };
    assert_eq!(bad, [BadEntry { group: broken, index: LogIndex(2), reason }]);
    let lasts = [broken, whole].map(|id| replicas.last_index(id).0);
    assert_eq!(lasts, [1, 2]);
    let mut answer = Vec::new();
    replicas.take_outgoing(MonotonicNanos(6), &mut answer).expect("it answers");
    let answer = Envelope::decode(&answer).unwrap().envelope;
    assert!(!answer.is_refused && answer.taken.count == 1, "it would be sent again at once");
    replicas.check_invariants();
}

/// What is sent at once may be more than a log takes at once, however empty it is. Refused as a whole
/// it would be sent again as a whole, for ever.
#[test]
fn of_an_append_that_is_more_than_the_log_takes_at_once_the_first_entries_are_taken() {
    let (large, behind) = (GroupId(1), GroupId(2));
    let mut replicas = followers([large, behind]);
    let mut shard = Shard::default();
    shard.log.bytes_max = Some(3_000);
    let mut lasts = Vec::new();
    // The leader begins a new session and sends all of it anew, until nothing is refused.
    for session in 1..=4 {
        let bytes =
            envelope(session, vec![append(large, 5), append(behind, 1)], |_, _| &[7; 1_000]);
        replicas.receive(FROM, &bytes, &mut shard.local()).unwrap();
        lasts.push([large, behind].map(|id| replicas.last_index(id).0));
        replicas.check_invariants();
    }
    assert_eq!(lasts, [[2, 1], [4, 1], [5, 1], [5, 1]]);
}

/// What was counted for it besides its payload made it larger than any log takes at once, also where
/// the leader's has the same limit.
#[test]
fn the_largest_entry_that_a_log_takes_is_taken_from_others_too() {
    let (group, other) = (GroupId(1), GroupId(2));
    let mut replicas = followers([group, other]);
    let mut shard = Shard::default();
    (shard.log.bytes_max, shard.log.payload_bytes_max) = (Some(1_500), Some(1_500));
    let lasts = [1, 2, 3].map(|session| {
        let bytes = envelope(session, vec![append(group, 2)], |_, _| &[7; 1_500]);
        replicas.receive(FROM, &bytes, &mut shard.local()).unwrap();
        replicas.check_invariants();
        (replicas.term(group), replicas.last_index(group))
    });
    // It comes with a term, which is written before it.
    assert_eq!(lasts, [0, 1, 2].map(|last| (Term(1), LogIndex(last))));
}

/// A vote that the log had no room for was decided all the same, and the shard failed for good.
#[test]
fn what_others_have_a_group_write_waits_for_room() {
    let (group, other) = (GroupId(1), GroupId(2));
    let mut replicas = followers([group, other]);
    let mut shard = Shard::default();
    let request = Message::VoteRequest { term: Term(5), last: EntryId::default() };
    let items = vec![
        (group, Item::Consensus(request.clone())),
        (group, Item::Consensus(request)),
        append(other, 0),
    ];
    shard.log.is_full = true;
    let bytes = envelope(1, items.clone(), |_, _| b"");
    replicas.receive(FROM, &bytes, &mut shard.local()).unwrap();
    assert_eq!([group, other].map(|id| replicas.term(id)), [Term(0); 2]);
    assert!(shard.log.records.is_empty());
    shard.log.is_full = false;
    let bytes = envelope(2, items, |_, _| b"");
    replicas.receive(FROM, &bytes, &mut shard.local()).unwrap();
    assert_eq!([group, other].map(|id| replicas.term(id)), [Term(5), Term(1)]);
    replicas.check_invariants();
}

/// The log had no room for the change, and the group took the next entry for one behind it.
#[test]
fn a_change_of_members_waits_for_room() {
    let group = GroupId(1);
    let mut replicas = Replicas::new(ME, Incarnation(1));
    let mut shard = Shard::default();
    replicas.add(group, alone(), MonotonicNanos(5)).unwrap();
    replicas.campaign(group, &mut shard.local()).unwrap();
    shard.sync_all(&mut replicas);
    shard.log.is_full = true;
    let change = Change::AddLearner(LEADER);
    assert_eq!(replicas.change_members(group, change, &mut shard.local()), Err("full"));
    shard.log.is_full = false;
    assert_eq!(replicas.last_index(group), LogIndex(1));
    assert_eq!(replicas.change_members(group, change, &mut shard.local()), Ok(Ok(())));
    let mask = PartitionMask(1);
    let index = replicas.propose(group, vec![2], mask, || 2, &mut shard.local());
    assert_eq!(index, Ok(LogIndex(3)));
    replicas.check_invariants();
}
