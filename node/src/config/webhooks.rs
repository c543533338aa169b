//! What changefeeds may reach by webhooks: by default public addresses, over TLS.
//!
//! Whoever may create a changefeed chooses where this server sends requests, so everything beyond is
//! for the operator to allow.

use super::ConfigError;
use super::value::boolean;
use std::path::PathBuf;

/// The keys of the file that are set here.
pub(super) const KEYS: &[&str] =
    &["webhook_allow_http", "webhook_allow_private_addresses", "webhook_certificate_authorities"];

/// What webhooks may reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Webhooks {
    /// `http://` without TLS.
    pub allow_http: bool,
    /// Loopback, link-local, private and otherwise local addresses.
    pub allow_private_addresses: bool,
    /// A file of certificates (PEM) of authorities that are trusted beside the public ones.
    pub certificate_authorities: Option<PathBuf>,
}

impl Webhooks {
    /// Sets one of [`KEYS`].
    pub(super) fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        match key {
            "webhook_allow_http" => self.allow_http = boolean(key, value)?,
            "webhook_allow_private_addresses" => {
                self.allow_private_addresses = boolean(key, value)?;
            }
            "webhook_certificate_authorities" => {
                self.certificate_authorities = Some(PathBuf::from(value));
            }
            _ => unreachable!("{key} is no key of webhooks"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_public_addresses_over_tls_is_reached_unless_allowed() {
        let mut webhooks = Webhooks::default();
        assert!(!webhooks.allow_http && !webhooks.allow_private_addresses);
        for (key, value) in KEYS.iter().zip(["true", "yes", "/etc/authorities.pem"]) {
            webhooks.set(key, value).unwrap();
        }
        assert!(webhooks.allow_http && webhooks.allow_private_addresses);
        let authorities = PathBuf::from("/etc/authorities.pem");
        assert_eq!(webhooks.certificate_authorities, Some(authorities));
        let error = webhooks.set("webhook_allow_http", "perhaps").unwrap_err();
        assert_eq!(error.0, "webhook_allow_http: `perhaps` is neither true nor false");
    }
}
