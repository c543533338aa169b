//! The protocol's primitive types, read from the front of a frame's body.
//!
//! Every read checks the bytes left first; nothing allocates. [`Cursor::finish`] rejects trailing
//! bytes, so that a body is understood as a whole or refused.

use super::error::WireError;
use model::Consistency;

/// A position in a body.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'f> {
    rest: &'f [u8],
    body_bytes: usize,
}

/// A `[bytes]` or `[value]` whose length was read, in the three shapes it can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RawValue<'f> {
    Set(&'f [u8]),
    Null,
    Unset,
}

impl<'f> Cursor<'f> {
    pub(crate) fn new(body: &'f [u8]) -> Self {
        Cursor { rest: body, body_bytes: body.len() }
    }

    /// Bytes read so far.
    pub(crate) fn position(&self) -> usize {
        self.body_bytes - self.rest.len()
    }

    /// Bytes not yet read.
    pub(crate) fn bytes_left(&self) -> usize {
        self.rest.len()
    }

    /// Ends the reading; an error if anything is left.
    pub(crate) fn finish(self) -> Result<(), WireError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(WireError::frame(format!("{left} bytes after the end of the message"))),
        }
    }

    pub(crate) fn take(&mut self, count: usize, what: &str) -> Result<&'f [u8], WireError> {
        let Some((head, tail)) = self.rest.split_at_checked(count) else {
            return Err(self.truncated(count, what));
        };
        self.rest = tail;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], WireError> {
        let Some((head, tail)) = self.rest.split_first_chunk::<N>() else {
            return Err(self.truncated(N, what));
        };
        self.rest = tail;
        Ok(*head)
    }

    #[cold]
    fn truncated(&self, count: usize, what: &str) -> WireError {
        let left = self.rest.len();
        WireError::frame(format!("the {what} needs {count} bytes, {left} are left"))
    }

    /// `[byte]`.
    pub(crate) fn byte(&mut self, what: &str) -> Result<u8, WireError> {
        let [byte] = self.array(what)?;
        Ok(byte)
    }

    /// `[short]`.
    pub(crate) fn short(&mut self, what: &str) -> Result<u16, WireError> {
        Ok(u16::from_be_bytes(self.array(what)?))
    }

    /// `[int]`.
    pub(crate) fn int(&mut self, what: &str) -> Result<i32, WireError> {
        Ok(i32::from_be_bytes(self.array(what)?))
    }

    /// `[long]`.
    pub(crate) fn long(&mut self, what: &str) -> Result<i64, WireError> {
        Ok(i64::from_be_bytes(self.array(what)?))
    }

    /// `[consistency]`.
    pub(crate) fn consistency(&mut self) -> Result<Consistency, WireError> {
        let code = self.short("consistency level")?;
        Consistency::from_code(code)
            .ok_or_else(|| WireError::frame(format!("Unknown code {code} for a consistency level")))
    }

    /// `[string]`: UTF-8 after a short length.
    pub(crate) fn string(&mut self, what: &str) -> Result<&'f str, WireError> {
        let length = self.short(what)?;
        text(self.take(usize::from(length), what)?, what)
    }

    /// `[long string]`: UTF-8 after an int length.
    pub(crate) fn long_string(&mut self, what: &str) -> Result<&'f str, WireError> {
        let length = self.int(what)?;
        let length = usize::try_from(length).map_err(|_| negative(length, what))?;
        text(self.take(length, what)?, what)
    }

    /// `[short bytes]`.
    pub(crate) fn short_bytes(&mut self, what: &str) -> Result<&'f [u8], WireError> {
        let length = self.short(what)?;
        self.take(usize::from(length), what)
    }

    /// `[bytes]`: `None` is null (-1); any other negative length is an error.
    pub(crate) fn bytes(&mut self, what: &str) -> Result<Option<&'f [u8]>, WireError> {
        match self.int(what)? {
            -1 => Ok(None),
            length => {
                let length = usize::try_from(length).map_err(|_| negative(length, what))?;
                self.take(length, what).map(Some)
            }
        }
    }

    /// `[value]`: as `[bytes]`, and -2 means unset.
    pub(crate) fn value(&mut self) -> Result<RawValue<'f>, WireError> {
        match self.int("value length")? {
            -1 => Ok(RawValue::Null),
            -2 => Ok(RawValue::Unset),
            length => {
                let length = usize::try_from(length).map_err(|_| negative(length, "value"))?;
                self.take(length, "value").map(RawValue::Set)
            }
        }
    }

    /// A `[short]` count of items that take at least `item_bytes_min` each; more than can be left
    /// is an error, so that the count may size an allocation.
    pub(crate) fn count(&mut self, item_bytes_min: usize, what: &str) -> Result<usize, WireError> {
        let count = usize::from(self.short(what)?);
        let left = self.bytes_left();
        if count * item_bytes_min > left {
            return Err(WireError::frame(format!("{what} says {count} items in {left} bytes")));
        }
        Ok(count)
    }

    /// Reads over a `[bytes map]`, checking its form.
    pub(crate) fn skip_bytes_map(&mut self, what: &str) -> Result<(), WireError> {
        for _ in 0..self.count(BYTES_MAP_ENTRY_BYTES_MIN, what)? {
            self.string(what)?;
            self.bytes(what)?;
        }
        Ok(())
    }
}

/// An empty key (2) and a null value (4).
const BYTES_MAP_ENTRY_BYTES_MIN: usize = 6;

fn text<'f>(bytes: &'f [u8], what: &str) -> Result<&'f str, WireError> {
    std::str::from_utf8(bytes)
        .map_err(|error| WireError::frame(format!("the {what} is not UTF-8: {error}")))
}

#[cold]
fn negative(length: i32, what: &str) -> WireError {
    WireError::frame(format!("the {what} has the length {length}"))
}
