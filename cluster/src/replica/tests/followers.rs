//! What a leader sends to a follower that got nothing, or refuses what it got.

use super::super::lagging::STANDSTILL_NANOS;
use super::*;

const GROUP: GroupId = GroupId(1);
const OTHER: HostId = HostId(9);
const TO: Peer = Peer { host_id: OTHER, shard: 0 };

/// This node has the only vote in a group, and leads it; the other learns.
fn leader(shards: Vec<(HostId, u16)>) -> (Replicas<u32>, Shard) {
    let mut replicas = Replicas::new(ME, Incarnation(1));
    let mut shard = Shard::default();
    let members = Membership { voters: vec![ME], learners: vec![OTHER] };
    let memberships = vec![(LogIndex(0), Arc::new(members))];
    let recovered = Recovered { memberships, ..Recovered::default() };
    let new = NewReplica { recovered, shards, ..NewReplica::default() };
    replicas.add(GROUP, new, MonotonicNanos(5)).unwrap();
    replicas.campaign(GROUP, &mut shard.local()).unwrap();
    shard.sync_all(&mut replicas);
    (replicas, shard)
}

fn propose(replicas: &mut Replicas<u32>, shard: &mut Shard) -> LogIndex {
    let mask = PartitionMask(1);
    replicas.propose(GROUP, vec![1], mask, || 1, &mut shard.local()).unwrap()
}

/// The appends that leave, by what comes before them and their last, each entry read from the log.
fn appends(replicas: &mut Replicas<u32>) -> Vec<(u64, u64)> {
    let mut appends = Vec::new();
    loop {
        let mut bytes = Vec::new();
        if replicas.take_outgoing(MonotonicNanos(6), &mut bytes).is_some() {
            let items = Envelope::decode(&bytes).unwrap().envelope.items;
            appends.extend(items.iter().filter_map(|(_, item)| match item {
                Item::Append { previous, last, .. } => Some((previous.index.0, last.0)),
                _ => None,
            }));
        } else if let Some(request) = replicas.take_log_request() {
            let held = HeldEntry { term: Term(1), kind: Kind::Data, payload: vec![1] };
            let entries = (request.first.0..=request.last.0).map(|_| held.clone()).collect();
            replicas.read(&request, entries, MonotonicNanos(6));
        } else {
            return appends;
        }
    }
}

/// A leader that started by an old view knew a member of its group, and not where it is: the member
/// was there already when the view came that says it, and nothing else would have reached it.
#[test]
fn a_member_whose_place_becomes_known_is_sent_what_it_lacks() {
    let (mut replicas, mut shard) = leader(Vec::new());
    replicas.connected(TO, &mut shard.local()).unwrap();
    let mut sent = Vec::new();
    assert_eq!(replicas.take_outgoing(MonotonicNanos(6), &mut sent), None, "nobody knows where");
    assert!(replicas.take_log_request().is_none());
    replicas.set_shards(GROUP, vec![(OTHER, 0)], &mut shard.local()).unwrap();
    // The leader has applied its entry and forgotten it, so it has to be read for the other.
    assert_eq!(replicas.take_outgoing(MonotonicNanos(7), &mut sent), None);
    let request = replicas.take_log_request().expect("the other lacks the leader's entry");
    assert_eq!((request.group, request.to, request.first), (GROUP, OTHER, LogIndex(1)));
}

/// A leader that began anew twice before anything left, the second time behind the end of what it had
/// asked about first: both probes left as one, and the refusal of it was taken for one of the first.
/// The follower stood still for good.
#[test]
fn the_refusal_of_two_probes_that_left_as_one_counts() {
    let (mut replicas, mut shard) = leader(vec![(OTHER, 0)]);
    while propose(&mut replicas, &mut shard) < LogIndex(40) {}
    shard.sync_all(&mut replicas);
    assert_eq!(propose(&mut replicas, &mut shard), LogIndex(41));
    replicas.connected(TO, &mut shard.local()).unwrap();
    shard.sync_all(&mut replicas);
    assert_eq!(propose(&mut replicas, &mut shard), LogIndex(42));
    replicas.snapshot_sent(GROUP, OTHER, &mut shard.local()).unwrap();
    assert_eq!(appends(&mut replicas), [(40, 42)], "both probes, from 40 and from 41 on");
    // The follower has a snapshot as of some entry before.
    let hint = EntryId { index: LogIndex(39), term: Term(1) };
    let refusal = Message::AppendRejected { term: Term(1), previous: LogIndex(40), hint };
    let bytes = envelope(1, vec![(GROUP, Item::Consensus(refusal))], |_, _| b"");
    replicas.receive(TO, &bytes, &mut shard.local()).unwrap();
    assert_eq!(appends(&mut replicas), [(39, 41)], "as much as one append carries");
    replicas.check_invariants();
}

/// The other node lives, or not.
struct Other {
    lives: bool,
}

impl Support for Other {
    fn supports(&self, node: HostId) -> Option<Epoch> {
        (self.lives && node == OTHER).then_some(Epoch { incarnation: Incarnation(1), round: 0 })
    }

    fn support_from(&self, _: HostId) -> Option<liveness::Support> {
        None
    }

    fn may_vote(&self) -> bool {
        true
    }
}

/// What a follower is sent may come to nothing without a word: when its node does not know of the group
/// yet, or installs a snapshot.
#[test]
fn a_follower_that_gets_nothing_is_begun_anew_with_once_in_a_while() {
    let (mut replicas, mut shard) = leader(vec![(OTHER, 0)]);
    let look = |replicas: &mut Replicas<u32>, shard: &mut Shard, lives, millis: u64| {
        let Shard { log, state } = shard;
        let (support, now) = (&Other { lives }, MonotonicNanos(millis * 1_000_000));
        let is_any = replicas.look_after_followers(&mut Local { log, state, support, now });
        (is_any.unwrap(), replicas.standing_still(now).count())
    };
    let nothing = (false, 0);
    assert_eq!(look(&mut replicas, &mut shard, true, 0), nothing);
    assert_eq!(look(&mut replicas, &mut shard, true, 5_000), nothing, "it is not connected");
    replicas.connected(TO, &mut shard.local()).unwrap();
    let mut sent = Vec::new();
    assert_eq!(replicas.take_outgoing(MonotonicNanos(6), &mut sent), None);
    assert_eq!(look(&mut replicas, &mut shard, true, 6_500), nothing, "its entry is to be read");
    assert_eq!(appends(&mut replicas), [(0, 1)]);
    assert_eq!(look(&mut replicas, &mut shard, true, 7_400), nothing, "not for long enough");
    assert_eq!(look(&mut replicas, &mut shard, true, 7_500), (true, 0));
    assert_eq!(appends(&mut replicas), [(0, 1)], "again");
    assert_eq!(look(&mut replicas, &mut shard, true, 8_400), nothing, "that was just done");
    assert_eq!(look(&mut replicas, &mut shard, true, STANDSTILL_NANOS / 1_000_000), (true, 1));
    assert_eq!(look(&mut replicas, &mut shard, false, 11_100), nothing, "its node is away");
    assert_eq!(look(&mut replicas, &mut shard, true, 12_000), nothing, "it is back just now");
    appends(&mut replicas);
    let accepted = Message::AppendAccepted { term: Term(1), matched: LogIndex(1) };
    let bytes = envelope(1, vec![(GROUP, Item::Consensus(accepted))], |_, _| b"");
    replicas.receive(TO, &bytes, &mut shard.local()).unwrap();
    assert_eq!(look(&mut replicas, &mut shard, true, 60_000), nothing, "it has everything");
    propose(&mut replicas, &mut shard);
    shard.sync_all(&mut replicas);
    assert_eq!(look(&mut replicas, &mut shard, true, 61_000), nothing, "it lacks one for no time");
    assert_eq!(look(&mut replicas, &mut shard, true, 62_000), (true, 0));
}
