//! Signatures after Standard Webhooks 1.0, the symmetric scheme `v1`.
//!
//! Signed is `id.timestamp.body`, by HMAC-SHA256; the header carries `v1,` and the MAC in base64.
//! A receiver that knows the secret sees that the body came from here, unchanged, and when.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// How secrets of Standard Webhooks begin; base64 follows.
const PREFIX: &str = "whsec_";
/// Keys that HMAC-SHA256 would hash first gain nothing by their length; a limit against mistakes.
const KEY_BYTES_MAX: usize = 4096;

/// The key of a feed's signatures. Its `Debug` shows nothing.
#[derive(Clone)]
pub struct SigningKey {
    key: Vec<u8>,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("SigningKey(…)")
    }
}

impl SigningKey {
    /// Reads a secret: `whsec_` and base64, as Standard Webhooks' tools print it, or any other
    /// text, whose bytes are the key. Errors do not repeat the text.
    pub fn parse(text: &str) -> Result<SigningKey, &'static str> {
        let key = match text.strip_prefix(PREFIX) {
            Some(encoded) => {
                STANDARD.decode(encoded).map_err(|_| "what follows whsec_ is not base64")?
            }
            None => text.as_bytes().to_vec(),
        };
        match key.len() {
            0 => Err("a secret must not be empty"),
            length if length > KEY_BYTES_MAX => Err("a secret has at most 4096 bytes"),
            _ => Ok(SigningKey { key }),
        }
    }

    /// The value of `webhook-signature`. `timestamp` is in seconds since 1970.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&self.key)
            .expect("HMAC takes keys of every length");
        mac.update(id.as_bytes());
        mac.update(b".");
        mac.update(timestamp.to_string().as_bytes());
        mac.update(b".");
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::SigningKey;

    /// The vector that Standard Webhooks' own libraries are tested with.
    #[test]
    fn the_published_vector_is_reproduced() {
        let secret = SigningKey::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a secret");
        let signature =
            secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn every_part_is_signed() {
        let secret = SigningKey::parse("a plain text").expect("a secret");
        let signature = secret.sign("id", 1, b"body");
        assert_ne!(signature, secret.sign("ie", 1, b"body"));
        assert_ne!(signature, secret.sign("id", 2, b"body"));
        assert_ne!(signature, secret.sign("id", 1, b"bodz"));
        assert_ne!(
            signature,
            SigningKey::parse("another").expect("a secret").sign("id", 1, b"body")
        );
    }

    #[test]
    fn secrets_that_cannot_be_meant_are_refused_and_none_is_shown() {
        assert_eq!(SigningKey::parse("whsec_%%").unwrap_err(), "what follows whsec_ is not base64");
        assert_eq!(SigningKey::parse("whsec_").unwrap_err(), "a secret must not be empty");
        assert_eq!(SigningKey::parse("").unwrap_err(), "a secret must not be empty");
        assert!(SigningKey::parse(&"x".repeat(4097)).is_err());
        assert_eq!(
            format!("{:?}", SigningKey::parse("hidden").expect("a secret")),
            "SigningKey(…)"
        );
    }
}
