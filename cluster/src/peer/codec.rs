//! The codec under tonic: a gRPC message is a batch, bytes that are ready as they are.
//!
//! No protobuf: a stream that carries nothing but batches has no fields to describe, so there is
//! no schema, no generated code, and no second encoding around our own.

use super::limits::BATCH_BYTES_MAX;
use super::outbox::Batch;
use bytes::{Buf, BufMut, Bytes};
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// What a stream holds in its buffers at first; they grow to a batch with the load.
const BUFFER_BYTES: usize = 4 * 1024;

/// One batch after another, both ways.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BatchCodec;

impl Codec for BatchCodec {
    type Encode = Batch;
    type Decode = Bytes;
    type Encoder = BatchCodec;
    type Decoder = BatchCodec;

    fn encoder(&mut self) -> BatchCodec {
        BatchCodec
    }

    fn decoder(&mut self) -> BatchCodec {
        BatchCodec
    }
}

/// A batch goes out at once, not with the next.
fn buffer_settings() -> BufferSettings {
    BufferSettings::new(BUFFER_BYTES, BATCH_BYTES_MAX / 2)
}

impl Encoder for BatchCodec {
    type Item = Batch;
    type Error = Status;

    fn encode(&mut self, batch: Batch, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.reserve(batch.bytes.len());
        out.put_slice(&batch.bytes);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        buffer_settings()
    }
}

impl Decoder for BatchCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(bytes.copy_to_bytes(bytes.remaining())))
    }

    fn buffer_settings(&self) -> BufferSettings {
        buffer_settings()
    }
}
