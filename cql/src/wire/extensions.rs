//! Extensions of the protocol that ScyllaDB's drivers negotiate.
//!
//! The server offers them in SUPPORTED ([`Extensions::SUPPORTED`]); a client that knows one names
//! it in STARTUP ([`Extensions::from_startup`]). The keys about shards are not here: they tell
//! where the server's threads are, and nothing on the wire changes with them.

use super::frame::Version;
use super::request::Startup;

const KEY_METADATA_ID: &str = "SCYLLA_USE_METADATA_ID";
const KEY_LWT_MARK: &str = "SCYLLA_LWT_ADD_METADATA_MARK";
const KEY_RATE_LIMIT: &str = "SCYLLA_RATE_LIMIT_ERROR";

/// The flag of markers' metadata that says a statement is conditional.
const LWT_FLAG: u32 = 0x8000_0000;
/// The code of the error for a reached limit of requests.
const RATE_LIMIT_CODE: i32 = 0xF000;

/// What client and server agreed on beyond the version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// `SCYLLA_USE_METADATA_ID`: result metadata ids as in v5, also in v4.
    pub result_metadata_id: bool,
    /// `SCYLLA_LWT_ADD_METADATA_MARK`: PREPARED says which statements are conditional, so that
    /// the driver sends them to the partition's first replica.
    pub lwt_mark: bool,
    /// `SCYLLA_RATE_LIMIT_ERROR`: a reached limit of requests has an error of its own.
    pub rate_limit_error: bool,
}

impl Extensions {
    /// Keys and values for SUPPORTED.
    pub const SUPPORTED: [(&str, &str); 3] = [
        (KEY_METADATA_ID, ""),
        (KEY_LWT_MARK, "LWT_OPTIMIZATION_META_BIT_MASK=2147483648"),
        (KEY_RATE_LIMIT, "ERROR_CODE=61440"),
    ];

    /// What a client asks for; the keys count, drivers differ in the values.
    pub fn from_startup(startup: &Startup<'_>) -> Self {
        Extensions {
            result_metadata_id: startup.get(KEY_METADATA_ID).is_some(),
            lwt_mark: startup.get(KEY_LWT_MARK).is_some(),
            rate_limit_error: startup.get(KEY_RATE_LIMIT).is_some(),
        }
    }

    /// Whether EXECUTE and PREPARED carry the id of the result's metadata.
    pub fn has_result_metadata_id(self, version: Version) -> bool {
        version >= Version::V5 || self.result_metadata_id
    }

    /// The bits for [`super::Prepared::bind_flags`].
    pub fn bind_flags(self, is_conditional: bool) -> u32 {
        if self.lwt_mark && is_conditional { LWT_FLAG } else { 0 }
    }

    /// The code for [`super::ErrorBody::RateLimit`].
    pub fn rate_limit_code(self) -> Option<i32> {
        self.rate_limit_error.then_some(RATE_LIMIT_CODE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_offered_is_understood_and_agrees_with_the_bits_and_codes() {
        let offered = Startup { options: Extensions::SUPPORTED.to_vec() };
        let agreed = Extensions::from_startup(&offered);
        let all = Extensions { result_metadata_id: true, lwt_mark: true, rate_limit_error: true };
        assert_eq!(agreed, all);
        assert!(agreed.has_result_metadata_id(Version::V4));
        let values = Extensions::SUPPORTED.map(|(_, value)| value.to_owned());
        assert!(values[1].ends_with(&agreed.bind_flags(true).to_string()));
        assert!(values[2].ends_with(&agreed.rate_limit_code().unwrap().to_string()));
        assert_eq!(agreed.bind_flags(false), 0);
    }

    #[test]
    fn nothing_is_used_that_was_not_asked_for() {
        let startup = Startup { options: vec![("CQL_VERSION", "3.0.0")] };
        let agreed = Extensions::from_startup(&startup);
        assert_eq!(agreed, Extensions::default());
        assert!(!agreed.has_result_metadata_id(Version::V4));
        assert!(agreed.has_result_metadata_id(Version::V5));
        assert_eq!((agreed.bind_flags(true), agreed.rate_limit_code()), (0, None));
    }
}
