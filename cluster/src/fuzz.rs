//! The fuzz entry for what nodes send each other: envelopes of links, and messages about support.
//!
//! Hostile bytes give an error, or something that encodes to the same bytes again; never a panic.
//! Its corpus, which also pins the bytes, is in `corpus/messages/`; a unit test runs it with
//! mutations.

use crate::link::{EntryView, Envelope, Item};
use crate::liveness;

/// Reads `data` as a message about support if its first byte is 1, and as an envelope if that is 2;
/// says whether it was one.
///
/// Panics when what was read does not encode to the bytes that it was read from.
pub fn fuzz_message(data: &[u8]) -> bool {
    let mut bytes = Vec::new();
    match data.split_first() {
        Some((1, data)) => {
            let Ok(message) = liveness::Message::decode(data) else { return false };
            message.encode(&mut bytes);
            assert_eq!(bytes, data, "{message:?}");
        }
        Some((2, data)) => {
            let Ok(received) = Envelope::decode(data) else { return false };
            encode(&received.envelope, &received.entries, &mut bytes);
            assert_eq!(bytes, data, "{received:?}");
            for (_, item) in &received.envelope.items {
                if let Item::Append { previous, last, .. } = item {
                    assert!(*last >= previous.index, "an append goes forward");
                }
            }
        }
        _ => return false,
    }
    true
}

/// Encodes an envelope with the entries of its appends, one after the other.
fn encode(envelope: &Envelope, entries: &[EntryView<'_>], out: &mut Vec<u8>) {
    let mut rest = entries.iter();
    envelope.encode(out, |_, _| rest.next().expect("as many as the appends say").clone());
    assert!(rest.next().is_none(), "every entry belongs to an append");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::{self, EntryId, Header, Kind, LogIndex, Membership, Term};
    use crate::leadership;
    use crate::link::Progress;
    use crate::liveness::{Epoch, Incarnation, MonotonicNanos};
    use crate::placement::GroupId;
    use crate::random::Random;
    use crate::ring::HostId;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    const MUTATIONS_PER_FILE: u64 = 2_000;

    fn id(index: u64, term: u64) -> EntryId {
        EntryId { index: LogIndex(index), term: Term(term) }
    }

    /// One item of every kind.
    fn items() -> Vec<Item> {
        let (term, last) = (Term(7), id(20, 6));
        let (commit, epoch) = (LogIndex(9), Epoch { incarnation: Incarnation(3), round: 2 });
        let leader = HostId(0x1122_3344_5566_7788_99AA_BBCC_DDEE_FF00);
        let consensus = [
            consensus::Message::VoteRequest { term, last },
            consensus::Message::VoteReply { term, is_granted: true },
            consensus::Message::AppendAccepted { term, matched: LogIndex(12) },
            consensus::Message::AppendRejected { term, previous: LogIndex(13), hint: id(11, 5) },
            consensus::Message::Commit { term, commit: LogIndex(14) },
        ];
        let leadership = [
            leadership::Message::PreVoteRequest { attempt: 4, last },
            leadership::Message::PreVoteReply { attempt: 4, is_granted: false },
            leadership::Message::Fortify { term },
            leadership::Message::Fortified { term, epoch },
            leadership::Message::LeadershipQuery { term },
            leadership::Message::Released { leader, term },
            leadership::Message::TakeOver { term },
        ];
        let append = Item::Append { term, previous: id(10, 5), last: LogIndex(13), commit };
        let probe = Item::Append { term, previous: id(13, 7), last: LogIndex(13), commit };
        let closed = Item::Closed { entry: id(13, 7), closed: -5 };
        let consensus = consensus.into_iter().map(Item::Consensus);
        let leadership = leadership.into_iter().map(Item::Leadership);
        [append, probe, closed].into_iter().chain(consensus).chain(leadership).collect()
    }

    fn envelope(items: Vec<(GroupId, Item)>) -> Envelope {
        let sent = Progress { session: (3 << 32) + 1, count: 5 };
        let taken = Progress { session: (2 << 32) + 4, count: 77 };
        Envelope { sent, taken, is_refused: false, wants_answer: true, items }
    }

    /// What the files of the corpus hold.
    fn seeds() -> BTreeMap<String, Vec<u8>> {
        let members = Membership { voters: vec![HostId(1), HostId(2)], learners: vec![HostId(3)] };
        let kinds = [Kind::NoOp, Kind::Data, Kind::Membership(Arc::new(members))];
        let payloads: [&[u8]; 3] = [b"", b"a bundle", b"x"];
        let entries = kinds.into_iter().zip(payloads);
        let entries: Vec<EntryView<'_>> = entries
            .map(|(kind, payload)| EntryView { header: Header { term: Term(7), kind }, payload })
            .collect();
        let items = (1..).map(GroupId).zip(items()).collect();
        let (mut full, mut empty) = (vec![2], vec![2]);
        encode(&envelope(items), &entries, &mut full);
        encode(&Envelope { is_refused: true, ..envelope(Vec::new()) }, &[], &mut empty);
        let epoch = Epoch { incarnation: Incarnation(3), round: 2 };
        let (supporter, sent) = (Incarnation(9), MonotonicNanos(123_456_789));
        let about_support = [
            ("request", liveness::Message::Request { epoch, supporter, sent, hears: true }),
            ("granted", liveness::Message::Granted { epoch, supporter, sent }),
            ("refused", liveness::Message::Refused { epoch, supporter }),
        ];
        let about_support = about_support.map(|(name, message)| {
            let mut bytes = vec![1];
            message.encode(&mut bytes);
            (name, bytes)
        });
        let envelopes = [("envelope", full), ("envelope_empty", empty)];
        let all = envelopes.into_iter().chain(about_support);
        all.map(|(name, bytes)| (name.to_owned(), bytes)).collect()
    }

    /// The files of the corpus; the seeds stand there as they are built.
    fn corpus() -> BTreeMap<String, Vec<u8>> {
        model::golden::check_corpus("corpus/messages", &seeds())
    }

    #[test]
    fn messages_of_the_corpus_are_read_back() {
        for (name, bytes) in seeds() {
            assert!(fuzz_message(&bytes), "{name} is read back");
        }
    }

    #[test]
    fn the_corpus_and_mutations_of_it_never_panic() {
        for data in corpus().into_values() {
            for length in 0..data.len() {
                assert!(!fuzz_message(&data[..length]), "cut at {length}");
            }
            for seed in 0..MUTATIONS_PER_FILE {
                let mut random = Random(seed);
                let mut bytes = data.clone();
                for _ in 0..=random.below(4) {
                    let position = random.below(bytes.len() as u64) as usize;
                    match random.below(4) {
                        0 => bytes[position] = [0, 1, 0x7F, 0xFF][random.below(4) as usize],
                        1 => bytes[position] ^= 1 << random.below(8),
                        2 => bytes.truncate(position + 1),
                        _ => bytes.push(random.below(256) as u8),
                    }
                }
                fuzz_message(&bytes);
            }
        }
    }

    #[test]
    fn any_envelope_reads_back_as_it_was() {
        for seed in 0..500 {
            let mut random = Random(seed);
            let pool = items();
            let (mut items, mut payloads) = (Vec::new(), Vec::new());
            for _ in 0..random.below(40) {
                let mut item = pool[random.below(pool.len() as u64) as usize].clone();
                if let Item::Append { previous, last, .. } = &mut item {
                    let count = random.below(6);
                    *last = LogIndex(previous.index.0 + count);
                    payloads.extend((0..count).map(|_| vec![7_u8; random.below(300) as usize]));
                }
                items.push((GroupId(random.below(1 << 60)), item));
            }
            let header = Header { term: Term(random.below(9)), kind: Kind::Data };
            let view = |payload| EntryView { header: header.clone(), payload };
            let entries: Vec<_> = payloads.iter().map(|payload| view(payload)).collect();
            let envelope = envelope(items);
            let mut bytes = Vec::new();
            encode(&envelope, &entries, &mut bytes);
            let received = Envelope::decode(&bytes).unwrap();
            assert_eq!((received.envelope, received.entries), (envelope, entries), "seed {seed}");
        }
    }
}
