//! The bytes with which two nodes introduce themselves, before anything else is said.
//!
//! A head of fixed length, whose layout no version may change, then a body whose length the head
//! gives and [`BODY_BYTES_MAX`] bounds. `docs/formats/peer.md` has the layout. Nothing here is
//! allocated from a length that a peer sent before it was checked.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

use super::introduction::{IntroductionError, RefusalCode};
use super::limits::CLUSTER_NAME_BYTES_MAX;
use super::starts::Start;
use crate::ring::HostId;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The version of everything that is said between nodes.
pub const VERSION: u16 = 4;

/// How a connection between nodes begins.
const MAGIC: [u8; 8] = *b"TETHYSNN";

/// Bytes of the head.
pub(super) const HEAD_BYTES: usize = 14;

/// Bytes of the largest body.
pub(super) const BODY_BYTES_MAX: usize = 512;

const KIND_HELLO: u8 = 1;
const KIND_REFUSAL: u8 = 2;
/// Bytes of a refusal's text; longer ones are cut.
const REFUSAL_TEXT_BYTES_MAX: usize = 400;
const CHECKSUM_BYTES: usize = 4;

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's name, at most [`CLUSTER_NAME_BYTES_MAX`] bytes; all nodes have the same.
    pub cluster_name: String,
    /// Which of the clusters of that name, once the node is a member of one.
    pub cluster_id: Option<u128>,
    /// The node.
    pub host_id: HostId,
    /// Where others reach it.
    pub address: SocketAddr,
    /// How many shards it has, at least 1.
    pub shard_count: u16,
    /// Rises with every start of the node.
    pub incarnation: u64,
    /// Drawn at random at every start of the node.
    pub mark: u64,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To learn who is there; it ends after the introduction.
    Introduction,
    /// Messages between two shards, both ways, for as long as both live.
    Messages,
    /// One bulk stream.
    Stream,
}

/// The first thing that each end says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    /// Who speaks.
    pub(super) identity: Identity,
    /// What for; the answer repeats it.
    pub(super) purpose: Purpose,
    /// The shard that speaks.
    pub(super) from_shard: u16,
    /// The shard it wants to speak with.
    pub(super) to_shard: u16,
    /// Who the other end is taken for, and its newest start that is remembered, if there is one. Another
    /// node may have the address by now, so it says whose start it is.
    pub(super) remembered: Option<(HostId, Start)>,
}

/// What the other end said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Hello(Hello),
    Refusal(RefusalCode, String),
}

/// The head: what kind of body follows, in which version, and how long it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    kind: u8,
    purpose: u8,
    /// Bytes of the body, at most [`BODY_BYTES_MAX`].
    pub(super) body_bytes: usize,
}

impl Hello {
    /// The bytes of head and body.
    pub(super) fn encode(&self) -> Vec<u8> {
        let identity = &self.identity;
        let name = identity.cluster_name.as_bytes();
        assert!(name.len() <= CLUSTER_NAME_BYTES_MAX, "the cluster's name is checked at the start");
        let mut body = Vec::with_capacity(BODY_BYTES_MAX);
        body.extend_from_slice(&identity.host_id.0.to_le_bytes());
        body.extend_from_slice(&identity.cluster_id.unwrap_or(0).to_le_bytes());
        body.extend_from_slice(&identity.incarnation.to_le_bytes());
        body.extend_from_slice(&identity.mark.to_le_bytes());
        let nobody = (HostId(0), Start { incarnation: 0, mark: 0 });
        let (whose, start) = self.remembered.unwrap_or(nobody);
        body.extend_from_slice(&whose.0.to_le_bytes());
        body.extend_from_slice(&start.incarnation.to_le_bytes());
        body.extend_from_slice(&start.mark.to_le_bytes());
        for number in [identity.shard_count, self.from_shard, self.to_shard] {
            body.extend_from_slice(&number.to_le_bytes());
        }
        match identity.address.ip() {
            IpAddr::V4(ip) => {
                body.push(4);
                body.extend_from_slice(&ip.octets());
            }
            IpAddr::V6(ip) => {
                body.push(6);
                body.extend_from_slice(&ip.octets());
            }
        }
        body.extend_from_slice(&identity.address.port().to_le_bytes());
        body.extend_from_slice(name);
        frame(KIND_HELLO, self.purpose.byte(), body)
    }

    fn decode(purpose: u8, body: &[u8]) -> Result<Hello, IntroductionError> {
        let mut cursor = Cursor(body);
        let host_id = HostId(u128::from_le_bytes(cursor.array()?));
        let cluster_id = u128::from_le_bytes(cursor.array()?);
        let incarnation = u64::from_le_bytes(cursor.array()?);
        let mark = u64::from_le_bytes(cursor.array()?);
        let whose = HostId(u128::from_le_bytes(cursor.array()?));
        let start = Start {
            incarnation: u64::from_le_bytes(cursor.array()?),
            mark: u64::from_le_bytes(cursor.array()?),
        };
        let shard_count = u16::from_le_bytes(cursor.array()?);
        let from_shard = u16::from_le_bytes(cursor.array()?);
        let to_shard = u16::from_le_bytes(cursor.array()?);
        let ip = match cursor.array::<1>()? {
            [4] => IpAddr::V4(Ipv4Addr::from(cursor.array::<4>()?)),
            [6] => IpAddr::V6(Ipv6Addr::from(cursor.array::<16>()?)),
            _ => return Err(IntroductionError::Garbled("the address is of no known family")),
        };
        let address = SocketAddr::new(ip, u16::from_le_bytes(cursor.array()?));
        // The name is all that is left, so there are no trailing bytes to reject.
        if cursor.0.len() > CLUSTER_NAME_BYTES_MAX {
            return Err(IntroductionError::Garbled("the cluster's name is too long"));
        }
        let Ok(cluster_name) = std::str::from_utf8(cursor.0) else {
            return Err(IntroductionError::Garbled("the cluster's name is not UTF-8"));
        };
        if from_shard >= shard_count {
            return Err(IntroductionError::Garbled("the shard is not one of its node's"));
        }
        let identity = Identity {
            cluster_name: cluster_name.to_owned(),
            cluster_id: (cluster_id != 0).then_some(cluster_id),
            host_id,
            address,
            shard_count,
            incarnation,
            mark,
        };
        let purpose = Purpose::from_byte(purpose)?;
        let remembered = (start.incarnation != 0).then_some((whose, start));
        Ok(Hello { identity, purpose, from_shard, to_shard, remembered })
    }
}

impl Purpose {
    fn byte(self) -> u8 {
        match self {
            Purpose::Introduction => 0,
            Purpose::Messages => 1,
            Purpose::Stream => 2,
        }
    }

    fn from_byte(byte: u8) -> Result<Purpose, IntroductionError> {
        [Purpose::Introduction, Purpose::Messages, Purpose::Stream]
            .into_iter()
            .find(|purpose| purpose.byte() == byte)
            .ok_or(IntroductionError::Garbled("the connection is for no known purpose"))
    }
}

impl Head {
    /// Reads a head. Another version is an error here, before its body is looked at.
    pub(super) fn decode(bytes: [u8; HEAD_BYTES]) -> Result<Head, IntroductionError> {
        let mut cursor = Cursor(&bytes);
        if cursor.array()? != MAGIC {
            return Err(IntroductionError::NotAPeer);
        }
        let [kind] = cursor.array()?;
        let [purpose] = cursor.array()?;
        let version = u16::from_le_bytes(cursor.array()?);
        let body_bytes = usize::from(u16::from_le_bytes(cursor.array()?));
        // A refusal is understood whatever version it comes from: it says why there is no other.
        if version != VERSION && kind != KIND_REFUSAL {
            return Err(IntroductionError::Version { ours: VERSION, theirs: version });
        }
        if body_bytes > BODY_BYTES_MAX {
            return Err(IntroductionError::Oversized { bytes: body_bytes });
        }
        Ok(Head { kind, purpose, body_bytes })
    }
}

impl Said {
    /// Reads the body that came with a head.
    pub(super) fn decode(head: Head, body: &[u8]) -> Result<Said, IntroductionError> {
        let Some((content, checksum)) = body.split_last_chunk::<CHECKSUM_BYTES>() else {
            return Err(IntroductionError::Garbled("the body is too short"));
        };
        if crc32fast::hash(content) != u32::from_le_bytes(*checksum) {
            return Err(IntroductionError::Garbled("the checksum is wrong"));
        }
        match head.kind {
            KIND_HELLO => Hello::decode(head.purpose, content).map(Said::Hello),
            KIND_REFUSAL => {
                let [code, text @ ..] = content else {
                    return Err(IntroductionError::Garbled("the refusal gives no reason"));
                };
                let text = String::from_utf8_lossy(text).into_owned();
                Ok(Said::Refusal(RefusalCode::from_byte(*code), text))
            }
            _ => Err(IntroductionError::Garbled("neither an introduction nor a refusal")),
        }
    }
}

/// The bytes of a refusal: a code for the program and words for its operator.
pub(super) fn encode_refusal(code: RefusalCode, text: &str) -> Vec<u8> {
    let cut = text.floor_char_boundary(REFUSAL_TEXT_BYTES_MAX);
    let (text, _) = text.split_at(cut);
    let mut body = vec![code.byte()];
    body.extend_from_slice(text.as_bytes());
    frame(KIND_REFUSAL, 0, body)
}

fn frame(kind: u8, purpose: u8, mut body: Vec<u8>) -> Vec<u8> {
    body.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
    let body_bytes = u16::try_from(body.len()).expect("a body has at most 512 bytes");
    assert!(usize::from(body_bytes) <= BODY_BYTES_MAX, "names and texts are bounded");
    let mut bytes = Vec::with_capacity(HEAD_BYTES + body.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&[kind, purpose]);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&body_bytes.to_le_bytes());
    bytes.append(&mut body);
    bytes
}

/// What is left of the bytes.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], IntroductionError> {
        let (array, rest) = self
            .0
            .split_first_chunk::<N>()
            .ok_or(IntroductionError::Garbled("the body is too short"))?;
        self.0 = rest;
        Ok(*array)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "tests")]

    use super::*;

    fn hello(name: &str, address: &str) -> Hello {
        let identity = Identity {
            cluster_name: name.into(),
            cluster_id: Some(7),
            host_id: HostId(0x0102),
            address: address.parse().unwrap(),
            shard_count: 4,
            incarnation: 9,
            mark: 10,
        };
        let remembered = Some((HostId(13), Start { incarnation: 11, mark: 12 }));
        Hello { identity, purpose: Purpose::Messages, from_shard: 3, to_shard: 1, remembered }
    }

    fn decode(bytes: &[u8]) -> Result<Said, IntroductionError> {
        let (head, body) = bytes.split_first_chunk().ok_or(IntroductionError::Cut)?;
        let head = Head::decode(*head)?;
        if body.len() != head.body_bytes {
            return Err(IntroductionError::Cut);
        }
        Said::decode(head, body)
    }

    #[test]
    fn what_was_said_is_understood() {
        for (name, address) in
            [("a", "127.0.0.1:7000"), ("", "[::1]:1"), (&"é".repeat(64), "1.2.3.4:65535")]
        {
            let hello = hello(name, address);
            assert_eq!(decode(&hello.encode()), Ok(Said::Hello(hello.clone())));
            let stranger = Hello { remembered: None, ..hello };
            assert_eq!(decode(&stranger.encode()), Ok(Said::Hello(stranger)));
        }
        let refusal = encode_refusal(RefusalCode::ClusterName, &"é".repeat(300));
        let said = decode(&refusal).unwrap();
        assert_eq!(said, Said::Refusal(RefusalCode::ClusterName, "é".repeat(200)));
    }

    /// Pins `docs/formats/peer.md`.
    #[test]
    fn an_introduction_has_the_bytes_of_version_4() {
        let bytes = hello("ab", "127.0.0.1:7000").encode();
        assert_eq!(&bytes[..14], b"TETHYSNN\x01\x01\x04\x00\x63\x00");
        assert_eq!(&bytes[14..18], [2, 1, 0, 0]);
        assert_eq!(bytes[30], 7);
        assert_eq!([bytes[46], bytes[54], bytes[62], bytes[78], bytes[86]], [9, 10, 13, 11, 12]);
        assert_eq!(&bytes[94..100], [4, 0, 3, 0, 1, 0]);
        assert_eq!(&bytes[100..109], [4, 127, 0, 0, 1, 0x58, 0x1b, b'a', b'b']);
        assert_eq!(&bytes[109..], crc32fast::hash(&bytes[14..109]).to_le_bytes());
    }

    #[test]
    fn every_damaged_or_cut_introduction_is_an_error() {
        let bytes = hello("cluster", "127.0.0.1:7000").encode();
        for at in 0..bytes.len() {
            assert!(decode(&bytes[..at]).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                // The head has no checksum of its own; its purpose is the one thing that can
                // turn into another that is known.
                let is_purpose = at == 9;
                assert!(is_purpose || decode(&damaged).is_err(), "byte {at}, bit {bit}");
            }
        }
    }

    #[test]
    fn each_fault_has_its_name() {
        let bytes = hello("c", "127.0.0.1:7000").encode();
        let with = |at: usize, value: u8| {
            let mut changed = bytes.clone();
            changed[at] = value;
            decode(&changed).unwrap_err()
        };
        assert_eq!(with(0, b'X'), IntroductionError::NotAPeer);
        assert_eq!(with(10, 1), IntroductionError::Version { ours: 4, theirs: 1 });
        assert_eq!(with(13, 0xff), IntroductionError::Oversized { bytes: 0xff00 + 98 });
        assert_eq!(with(20, 0xff), IntroductionError::Garbled("the checksum is wrong"));
        let mut shards = hello("c", "127.0.0.1:7000");
        shards.from_shard = 4;
        assert_eq!(
            decode(&shards.encode()),
            Err(IntroductionError::Garbled("the shard is not one of its node's"))
        );
        let long = vec![b'x'; BODY_BYTES_MAX];
        let head = Head::decode(*frame(KIND_HELLO, 1, vec![]).first_chunk().unwrap()).unwrap();
        assert!(Said::decode(head, &long).is_err());
        // Random bodies under a right checksum reach the body's own checks.
        let mut state = 1_u64;
        for length in 0..200 {
            let body = (0..length).map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) as u8
            });
            decode(&frame(KIND_HELLO, 1, body.collect())).ok();
        }
    }
}
