//! The one error of this crate's value functions.

use std::borrow::Cow;
use std::fmt;

/// A value, literal or key that is not what its type demands. Always the client's fault (an
/// `Invalid` answer) when the bytes came from a client; corruption when they came from the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueError {
    message: Cow<'static, str>,
}

impl ValueError {
    /// An error with a text that can be shown to the client.
    pub fn new(message: impl Into<Cow<'static, str>>) -> ValueError {
        ValueError { message: message.into() }
    }
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ValueError {}
