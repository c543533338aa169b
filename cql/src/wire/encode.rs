//! The protocol's primitive types, appended to an output buffer.
//!
//! Lengths that the protocol cannot express do not come up: texts beyond 65 535 bytes are cut at a
//! character, lists beyond 65 535 items at that item. Only messages for people can be that long.

use std::net::IpAddr;

/// Longest `[string]` and longest list, as the protocol counts them.
const SHORT_MAX: usize = u16::MAX as usize;

pub(crate) fn put_short(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

pub(crate) fn put_int(out: &mut Vec<u8>, value: i32) {
    out.extend_from_slice(&value.to_be_bytes());
}

pub(crate) fn put_flags(out: &mut Vec<u8>, flags: u32) {
    out.extend_from_slice(&flags.to_be_bytes());
}

/// An `[int]` that says how many; frames are smaller than 2 GiB, so what they hold is fewer.
pub(crate) fn put_count(out: &mut Vec<u8>, count: usize) {
    put_int(out, i32::try_from(count).unwrap_or(i32::MAX));
}

/// `[string]`.
pub(crate) fn put_string(out: &mut Vec<u8>, text: &str) {
    let mut end = text.len().min(SHORT_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    put_short_bytes(out, text.as_bytes().get(..end).unwrap_or_default());
}

/// `[string list]`.
pub(crate) fn put_string_list<S: AsRef<str>>(out: &mut Vec<u8>, texts: &[S]) {
    put_short(out, short(texts.len()));
    for text in texts.iter().take(SHORT_MAX) {
        put_string(out, text.as_ref());
    }
}

/// `[short bytes]`.
pub(crate) fn put_short_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = short(bytes.len());
    put_short(out, length);
    out.extend_from_slice(bytes.get(..usize::from(length)).unwrap_or_default());
}

/// `[bytes]`; `None` is null.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => put_int(out, -1),
        Some(bytes) => {
            put_count(out, bytes.len());
            out.extend_from_slice(bytes);
        }
    }
}

/// `[inetaddr]`.
pub(crate) fn put_inet_address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => {
            out.push(4);
            out.extend_from_slice(&v4.octets());
        }
        IpAddr::V6(v6) => {
            out.push(16);
            out.extend_from_slice(&v6.octets());
        }
    }
}

/// Overwrites four bytes written before.
pub(crate) fn patch_int(out: &mut [u8], at: usize, value: u32) {
    let target = out.get_mut(at..at + 4).expect("the place was written before it is patched");
    target.copy_from_slice(&value.to_be_bytes());
}

fn short(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}
