//! What waits to be sent to one peer: two classes, in batches that are ready for the wire.
//!
//! Messages are written into the batch at the back of their class while earlier ones are on their
//! way, so batches grow with the load, up to [`BATCH_BYTES_MAX`], and a single message goes out
//! alone. Urgent batches leave first; within a class the order is kept. A message that does not
//! fit into what the class may hold is refused, and nothing of it is kept.

use super::batch::{CHECKSUM_BYTES, FRAME_HEAD_BYTES, Kind, MORE};
use super::limits::{
    BATCH_BYTES_MAX, BULK_QUEUE_BYTES_MAX, MESSAGE_BYTES_MAX, URGENT_MESSAGE_BYTES_MAX,
    URGENT_QUEUE_BYTES_MAX,
};
use bytes::{BufMut, BytesMut};
use std::collections::VecDeque;

/// What a batch is given before the first message, so that the small ones of a quiet connection
/// allocate little.
const BATCH_BYTES_FIRST: usize = 512;

/// Which messages overtake which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Small and awaited: votes, beats, acknowledgements. At most [`URGENT_MESSAGE_BYTES_MAX`].
    Urgent,
    /// The rest, at most [`MESSAGE_BYTES_MAX`].
    Bulk,
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OutboxError {
    /// Its class holds as much as it may.
    Full,
    /// It is larger than its class allows, ever.
    TooLarge,
}

/// Where in the outbox the end of a message lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    class: Class,
    batch: u64,
}

/// A batch on its way: the bytes for the wire, and how many messages end in it.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) bytes: BytesMut,
    pub(super) message_count: u32,
}

/// Invariants: a queue's `bytes` is the sum of its batches' lengths; every batch has a frame.
#[derive(Debug)]
pub(super) struct Outbox {
    urgent: Queue,
    bulk: Queue,
}

#[derive(Debug)]
struct Queue {
    batches: VecDeque<Batch>,
    bytes: usize,
    bytes_max: usize,
    message_bytes_max: usize,
    /// Batches that were ever taken; the first one that waits has this number.
    taken_count: u64,
    /// How long the last batch was that was taken: a guess at the next.
    last_bytes: usize,
}

impl Outbox {
    pub(super) fn new() -> Outbox {
        let queue = |bytes_max, message_bytes_max| Queue {
            batches: VecDeque::new(),
            bytes: 0,
            bytes_max,
            message_bytes_max,
            taken_count: 0,
            last_bytes: 0,
        };
        Outbox {
            urgent: queue(URGENT_QUEUE_BYTES_MAX, URGENT_MESSAGE_BYTES_MAX),
            bulk: queue(BULK_QUEUE_BYTES_MAX, MESSAGE_BYTES_MAX),
        }
    }

    /// Adds a message that is `head` and then `parts`, or nothing.
    pub(super) fn push(
        &mut self,
        class: Class,
        kind: Kind,
        head: &[u8],
        parts: &[&[u8]],
    ) -> Result<Place, OutboxError> {
        let queue = match class {
            Class::Urgent => &mut self.urgent,
            Class::Bulk => &mut self.bulk,
        };
        let batch = queue.push(kind, head, parts)?;
        Ok(Place { class, batch })
    }

    /// Takes the next batch, with its checksum.
    pub(super) fn take(&mut self) -> Option<Batch> {
        let mut batch = self.urgent.take().or_else(|| self.bulk.take())?;
        let (checksum, frames) = batch.bytes.split_at_mut(CHECKSUM_BYTES);
        checksum.copy_from_slice(&crc32fast::hash(frames).to_le_bytes());
        Some(batch)
    }

    /// Whether all of a message has been taken; what has not cannot have reached the peer.
    pub(super) fn is_taken(&self, place: Place) -> bool {
        let queue = match place.class {
            Class::Urgent => &self.urgent,
            Class::Bulk => &self.bulk,
        };
        place.batch < queue.taken_count
    }

    pub(super) fn is_empty(&self) -> bool {
        self.urgent.batches.is_empty() && self.bulk.batches.is_empty()
    }

    /// Bytes that wait, both classes.
    pub(super) fn bytes(&self) -> usize {
        self.urgent.bytes + self.bulk.bytes
    }
}

impl Queue {
    fn push(&mut self, kind: Kind, head: &[u8], parts: &[&[u8]]) -> Result<u64, OutboxError> {
        let content_bytes = head.len() + parts.iter().map(|part| part.len()).sum::<usize>();
        if content_bytes > self.message_bytes_max {
            return Err(OutboxError::TooLarge);
        }
        if self.bytes > 0 && self.bytes + FRAME_HEAD_BYTES + content_bytes > self.bytes_max {
            return Err(OutboxError::Full);
        }
        if CHECKSUM_BYTES + FRAME_HEAD_BYTES + content_bytes <= BATCH_BYTES_MAX {
            let batch = self.batch_with_room(FRAME_HEAD_BYTES + content_bytes);
            put_head(&mut batch.bytes, kind as u8, content_bytes);
            batch.bytes.put_slice(head);
            for part in parts {
                batch.bytes.put_slice(part);
            }
            batch.message_count += 1;
            self.bytes += FRAME_HEAD_BYTES + content_bytes;
        } else {
            self.push_in_pieces(kind, content_bytes, std::iter::once(&head).chain(parts));
        }
        Ok(self.taken_count + self.batches.len() as u64 - 1)
    }

    /// A large message begins a batch and fills as many as it needs.
    fn push_in_pieces<'a>(
        &mut self,
        kind: Kind,
        content_bytes: usize,
        parts: impl Iterator<Item = &'a &'a [u8]>,
    ) {
        const PIECE_BYTES_MAX: usize = BATCH_BYTES_MAX - CHECKSUM_BYTES - FRAME_HEAD_BYTES;
        let mut left = content_bytes;
        let mut piece_room = 0;
        let mut kind = kind as u8;
        for part in parts {
            let mut part = *part;
            while !part.is_empty() {
                if piece_room == 0 {
                    piece_room = left.min(PIECE_BYTES_MAX);
                    let more = if left > piece_room { MORE } else { 0 };
                    let batch = self.batch_with_room(FRAME_HEAD_BYTES + piece_room);
                    put_head(&mut batch.bytes, kind | more, piece_room);
                    self.bytes += FRAME_HEAD_BYTES + piece_room;
                    kind = Kind::Continuation as u8;
                }
                let count = part.len().min(piece_room);
                let (now, later) = part.split_at(count);
                let batch = self.batches.back_mut().expect("a piece has begun in it");
                batch.bytes.put_slice(now);
                piece_room -= count;
                left -= count;
                part = later;
            }
        }
        assert!(left == 0, "the parts of a message are as long as they were");
        self.batches.back_mut().expect("it has the last piece").message_count += 1;
    }

    /// The batch at the back, or a new one if that has no room for a frame.
    fn batch_with_room(&mut self, frame_bytes: usize) -> &mut Batch {
        let has_room = self
            .batches
            .back()
            .is_some_and(|batch| batch.bytes.len() + frame_bytes <= BATCH_BYTES_MAX);
        if !has_room {
            let guess = self.last_bytes.clamp(BATCH_BYTES_FIRST, BATCH_BYTES_MAX);
            let mut bytes = BytesMut::with_capacity(guess.max(CHECKSUM_BYTES + frame_bytes));
            bytes.put_bytes(0, CHECKSUM_BYTES);
            self.bytes += CHECKSUM_BYTES;
            self.batches.push_back(Batch { bytes, message_count: 0 });
        }
        self.batches.back_mut().expect("it was there or was made")
    }

    fn take(&mut self) -> Option<Batch> {
        let batch = self.batches.pop_front()?;
        self.taken_count += 1;
        self.bytes -= batch.bytes.len();
        self.last_bytes = batch.bytes.len();
        if self.batches.is_empty() {
            assert!(self.bytes == 0, "an empty queue holds no bytes");
        }
        Some(batch)
    }
}

fn put_head(out: &mut BytesMut, kind: u8, content_bytes: usize) {
    out.put_u32_le((content_bytes as u32) << 8 | u32::from(kind));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::batch::{AskId, BatchError, Decoder, Frame, ask_head};
    use bytes::Bytes;
    use std::time::Duration;

    /// Takes all batches and decodes them.
    fn drain(outbox: &mut Outbox) -> Vec<Frame> {
        let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
        while let Some(batch) = outbox.take() {
            assert!(batch.bytes.len() <= BATCH_BYTES_MAX);
            decoder.decode(batch.bytes.freeze(), &mut frames).unwrap();
        }
        assert_eq!(outbox.bytes(), 0);
        frames
    }

    fn message(fill: u8, count: usize) -> Frame {
        Frame::Message(Bytes::from(vec![fill; count]))
    }

    #[test]
    fn messages_arrive_whole_and_in_order() {
        let mut outbox = Outbox::new();
        let sizes = [0, 1, 300, BATCH_BYTES_MAX - 9, BATCH_BYTES_MAX - 8, BATCH_BYTES_MAX - 7];
        let sizes = sizes.into_iter().chain([BATCH_BYTES_MAX, 1_000_000, 5, 300_000, 0]);
        let sizes: Vec<usize> = sizes.collect();
        for (fill, size) in (0_u8..).zip(&sizes) {
            let bytes = vec![fill; *size];
            let (first, second) = bytes.split_at(size / 3);
            outbox.push(Class::Bulk, Kind::Message, &[], &[first, &[], second]).unwrap();
        }
        let expected: Vec<Frame> =
            (0_u8..).zip(&sizes).map(|(f, size)| message(f, *size)).collect();
        assert!(drain(&mut outbox) == expected);
    }

    #[test]
    fn urgent_ones_overtake_between_the_pieces_of_a_large_one() {
        let mut outbox = Outbox::new();
        outbox.push(Class::Bulk, Kind::Message, &[], &[&vec![1; 500_000]]).unwrap();
        let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
        decoder.decode(outbox.take().unwrap().bytes.freeze(), &mut frames).unwrap();
        outbox.push(Class::Urgent, Kind::Message, &[], &[&[2; 10]]).unwrap();
        decoder.decode(outbox.take().unwrap().bytes.freeze(), &mut frames).unwrap();
        assert_eq!(frames, [message(2, 10)]);
        while let Some(batch) = outbox.take() {
            decoder.decode(batch.bytes.freeze(), &mut frames).unwrap();
        }
        assert!(frames == [message(2, 10), message(1, 500_000)]);
    }

    #[test]
    fn what_does_not_fit_is_refused_and_leaves_nothing() {
        let mut outbox = Outbox::new();
        let large = vec![0; URGENT_MESSAGE_BYTES_MAX + 1];
        let push = |outbox: &mut Outbox, class, bytes: &[u8]| {
            outbox.push(class, Kind::Message, &[], &[bytes]).map(|_| ())
        };
        assert_eq!(push(&mut outbox, Class::Urgent, &large), Err(OutboxError::TooLarge));
        // One that is larger than the queue is taken, alone.
        let larger_than_all = vec![0; BULK_QUEUE_BYTES_MAX + 1];
        push(&mut outbox, Class::Bulk, &larger_than_all).unwrap();
        assert_eq!(push(&mut outbox, Class::Bulk, &[1]), Err(OutboxError::Full));
        push(&mut outbox, Class::Urgent, &[1]).unwrap();
        assert_eq!(drain(&mut outbox).len(), 2);
        let mut count = 0;
        while push(&mut outbox, Class::Bulk, &[0; 300]).is_ok() {
            count += 1;
        }
        assert!(outbox.bytes() <= BULK_QUEUE_BYTES_MAX + 2 * BATCH_BYTES_MAX);
        assert_eq!(drain(&mut outbox).len(), count);
    }

    #[test]
    fn it_is_known_what_was_taken() {
        let mut outbox = Outbox::new();
        let first = outbox.push(Class::Bulk, Kind::Message, &[], &[b"a"]).unwrap();
        let large = outbox.push(Class::Bulk, Kind::Message, &[], &[&vec![0; 100_000]]).unwrap();
        let last = outbox.push(Class::Bulk, Kind::Message, &[], &[b"b"]).unwrap();
        let taken = |outbox: &Outbox| [first, large, last].map(|place| outbox.is_taken(place));
        assert_eq!(taken(&outbox), [false, false, false]);
        outbox.take().unwrap();
        assert_eq!(taken(&outbox), [true, false, false]);
        outbox.take().unwrap();
        assert_eq!(taken(&outbox), [true, false, false]);
        outbox.take().unwrap();
        assert_eq!(taken(&outbox), [true, true, true]);
    }

    fn batch_of_every_kind() -> Bytes {
        let mut outbox = Outbox::new();
        let id = AskId(7);
        let head = ask_head(id, Duration::from_millis(1500));
        let number = id.0.to_le_bytes();
        outbox.push(Class::Bulk, Kind::Message, &[], &[b"m"]).unwrap();
        outbox.push(Class::Bulk, Kind::Ask, &head, &[b"q"]).unwrap();
        outbox.push(Class::Bulk, Kind::Answer, &number, &[b"a"]).unwrap();
        outbox.push(Class::Bulk, Kind::Refused, &number, &[]).unwrap();
        outbox.push(Class::Bulk, Kind::Abandoned, &number, &[]).unwrap();
        outbox.push(Class::Bulk, Kind::Ping, &[], &[]).unwrap();
        outbox.push(Class::Bulk, Kind::End, &[], &[]).unwrap();
        outbox.take().unwrap().bytes.freeze()
    }

    /// Pins `docs/formats/peer.md`.
    #[test]
    fn a_batch_has_the_bytes_of_version_2() {
        let bytes = batch_of_every_kind();
        let expected: [&[u8]; 7] = [
            b"\x01\x01\0\0m",
            b"\x02\x0d\0\0\x07\0\0\0\0\0\0\0\xdc\x05\0\0q",
            b"\x03\x09\0\0\x07\0\0\0\0\0\0\0a",
            b"\x04\x08\0\0\x07\0\0\0\0\0\0\0",
            b"\x05\x08\0\0\x07\0\0\0\0\0\0\0",
            b"\x06\0\0\0",
            b"\x08\0\0\0",
        ];
        assert_eq!(bytes[4..], expected.concat());
        assert_eq!(bytes[..4], crc32fast::hash(&bytes[4..]).to_le_bytes());
        let mut frames = Vec::new();
        Decoder::default().decode(bytes, &mut frames).unwrap();
        let id = AskId(7);
        let body = |bytes: &'static [u8]| Bytes::from_static(bytes);
        let ask = Frame::Ask { id, time_left: Duration::from_millis(1500), body: body(b"q") };
        let answer = Frame::Answer { id, body: body(b"a") };
        let frames_expected = [
            Frame::Message(body(b"m")),
            ask,
            answer,
            Frame::Refused(id),
            Frame::Abandoned(id),
            Frame::Ping,
            Frame::End,
        ];
        assert_eq!(frames, frames_expected);
    }

    fn sealed(frames: &[u8]) -> Bytes {
        [&crc32fast::hash(frames).to_le_bytes(), frames].concat().into()
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic() {
        let bytes = batch_of_every_kind();
        let decode = |bytes: Bytes| Decoder::default().decode(bytes, &mut Vec::new());
        for at in 0..bytes.len() {
            assert!(decode(bytes.slice(..at)).is_err());
            for bit in 0..8 {
                let mut damaged = bytes.to_vec();
                damaged[at] ^= 1 << bit;
                assert_eq!(decode(damaged.into()), Err(BatchError::Checksum));
            }
            // A peer that lies has its checksums right.
            decode(sealed(&bytes[at..])).ok();
        }
        assert_eq!(decode(sealed(b"\x01\xff\xff\xff")), Err(BatchError::Cut));
        assert_eq!(decode(sealed(b"\x01\0\0")), Err(BatchError::Cut));
        assert_eq!(decode(sealed(b"\x09\0\0\0")), Err(BatchError::UnknownKind(9)));
        assert_eq!(decode(sealed(b"\x04\x01\0\0a")), Err(BatchError::Length));
        assert_eq!(decode(sealed(b"\x06\x01\0\0a")), Err(BatchError::Length));
        assert_eq!(decode(sealed(b"\x07\x01\0\0a")), Err(BatchError::Order));
        assert_eq!(decode(sealed(b"\x81\x01\0\0a\x81\x01\0\0a")), Err(BatchError::Order));
    }

    #[test]
    fn a_message_in_pieces_without_end_is_cut_off() {
        let piece = vec![0; BATCH_BYTES_MAX];
        let mut first = vec![Kind::Message as u8 | MORE, 0, 0, 1];
        first.extend_from_slice(&piece);
        let mut next = first.clone();
        next[0] = Kind::Continuation as u8 | MORE;
        let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
        decoder.decode(sealed(&first), &mut frames).unwrap();
        let next = sealed(&next);
        let mut count = 1;
        while decoder.decode(next.clone(), &mut frames).is_ok() {
            count += 1;
        }
        assert_eq!(count, MESSAGE_BYTES_MAX / BATCH_BYTES_MAX);
        assert!(frames.is_empty());
    }
}
