//! Every limit of the transport, and why it is what it is.

use std::time::Duration;

/// A batch: what one message of the HTTP/2 stream carries. An urgent message that was queued
/// behind bulk waits for at most one of these and what the socket holds.
pub const BATCH_BYTES_MAX: usize = 64 * 1024;

/// A message, in pieces over several batches if need be. Above the largest write (64 MiB) with
/// what consensus puts around it.
pub const MESSAGE_BYTES_MAX: usize = 72 * 1024 * 1024;

/// An urgent message. They overtake, so they must be small.
pub const URGENT_MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// Urgent messages that wait for one peer.
pub const URGENT_QUEUE_BYTES_MAX: usize = 256 * 1024;

/// Bulk messages that wait for one peer. A single larger one is taken when nothing else waits.
pub const BULK_QUEUE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Messages of one connection that wait for the shard. A single larger one is let in alone.
pub const INBOX_BYTES_MAX: usize = 1024 * 1024;

/// Connections that came or went and were not looked at by the shard; beyond it nothing new
/// is dialled or accepted.
pub const NOTICES_MAX: usize = 1024;

/// What a peer may send before this end has taken it: the window of the HTTP/2 stream. Enough
/// for 1 GB/s over a round trip of 1 ms.
pub const WINDOW_BYTES: u32 = 1024 * 1024;

/// What the HTTP/2 layer holds of what was taken from the queue and not yet written.
pub const SEND_BUFFER_BYTES_MAX: usize = 2 * BATCH_BYTES_MAX;

/// Requests of this shard that wait for an answer of one peer.
pub const ASKS_MAX: usize = 4096;

/// Requests of one peer that this shard has not answered; further ones are refused.
pub const OPEN_ASKS_MAX: usize = 4096;

/// From the first byte to the last of an introduction, as the accepting node sees it.
pub const INTRODUCTION_TIME_MAX: Duration = Duration::from_secs(2);

/// From the call to the peer's introduction, as the dialling shard sees it.
pub const DIAL_TIME_MAX: Duration = Duration::from_secs(3);

/// How old a dial may be so that one of the peer's has to give way to it: a few round trips to the far
/// side of the earth. An older one hangs, and gives way itself.
pub const CROSSING_TIME_MAX: Duration = Duration::from_millis(500);

/// Connections that were accepted and have not introduced themselves.
pub const INTRODUCTIONS_MAX: usize = 128;

/// How long an idle connection says nothing.
pub const PING_INTERVAL: Duration = Duration::from_secs(1);

/// A peer that says nothing for so long has lost its connection: three pings.
pub const SILENCE_TIME_MAX: Duration = Duration::from_secs(3);

/// The pause after the first failed dial; it doubles with each.
pub const BACKOFF_MIN: Duration = Duration::from_millis(50);

/// The longest pause between two dials, so that a peer that is back is found within a second.
pub const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Bulk streams that one shard receives at a time.
pub const INCOMING_STREAMS_MAX: usize = 8;

/// Bytes of the opaque head of a bulk stream, and of its answer.
pub const STREAM_HEAD_BYTES_MAX: usize = 32 * 1024;

/// A bulk stream on which nothing moves for so long is given up.
pub const STREAM_STALL_TIME_MAX: Duration = Duration::from_secs(30);

/// Nodes whose starts one node remembers.
pub const REMEMBERED_MAX: usize = 4096;

/// The name of a cluster.
pub const CLUSTER_NAME_BYTES_MAX: usize = 128;

const _: () = assert!(URGENT_MESSAGE_BYTES_MAX < BATCH_BYTES_MAX / 2);
const _: () = assert!(URGENT_MESSAGE_BYTES_MAX < URGENT_QUEUE_BYTES_MAX);
const _: () = assert!(BATCH_BYTES_MAX < 1 << 24, "a frame's length has 3 bytes");
const _: () = assert!(WINDOW_BYTES as usize >= 4 * BATCH_BYTES_MAX);
const _: () = assert!(STREAM_HEAD_BYTES_MAX <= BATCH_BYTES_MAX / 2);
