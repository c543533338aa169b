//! What two shards of different nodes tell each other: the messages of all their groups in one stream.
//!
//! A [`Link`] is one end. Groups put [`Item`]s into its outbox; the shell takes [`Envelope`]s out when
//! the stream can carry one, and gives those that arrive to the other end:
//!
//! ```text
//!   group 1 --\                                              /--> group 1
//!   group 2 ---+--> outbox --> Envelope, Envelope, … --> Link ---> group 2
//!   group 7 --/     (ranges of entries, no bytes)            \--> group 7
//! ```
//!
//! **Batching.** While an envelope is on its way, items gather: appends that continue each other
//! become one, and of acknowledgements of a group only the last counts. So under load an envelope
//! carries many groups and many entries, and without load the first item leaves at once.
//!
//! **Flow control by bytes.** An outbox holds *ranges* of entries; their bytes are fetched when an
//! envelope is filled, and no more than [`BYTES_IN_FLIGHT_MAX`] is filled before the other end has
//! taken what came earlier. A slow peer costs a few words per group, and none of the others anything.
//!
//! **Losses.** The stream below may break, and be opened anew. Nothing is sent twice: envelopes are
//! numbered, and whoever misses one ends the *session*. Both ends then report [`Event::Reset`], and
//! leaders begin anew with their followers at the other end. A lost last envelope is noticed since
//! the sender repeats how many it has sent until that is acknowledged. Every envelope acknowledges what
//! came before it; one for that alone is sent only when it is asked for, by a repetition or since much
//! is under way. A link over which everything was taken is silent.
//!
//! **Refusals.** A session also ends when its receiver has no room for what came. Whoever was refused
//! rests for [`REST_NANOS`] before it sends items again; what it gathers meanwhile is not lost.

mod codec;
mod envelope;
mod outbox;
mod stream;

#[cfg(test)]
mod tests;

pub use codec::{ENTRY_HEAD_BYTES, EntryView, Received};
pub use envelope::{Envelope, Item, Progress};
pub use outbox::{BYTES_PER_ENVELOPE_MAX, EntryBytes, ITEMS_PER_ENVELOPE_MAX};
pub use stream::{BYTES_IN_FLIGHT_MAX, Event, Link, REPEAT_NANOS, REST_NANOS};
