//! Which server a key belongs to: the first replica on the ring, as drivers choose it.

use crate::client::{Client, ClientError};
use model::Token;
use model::token::murmur3_token;
use std::net::SocketAddr;

/// The tokens of the servers, or none if any server will do.
#[derive(Clone, Debug, Default)]
pub struct Owners {
    /// Ascending, with the position of the server that has it.
    tokens: Vec<(Token, usize)>,
}

impl Owners {
    /// Every server may be asked for every key.
    pub fn any() -> Self {
        Owners::default()
    }

    /// Asks each server for its tokens.
    pub fn ask(addresses: &[SocketAddr]) -> Result<Self, ClientError> {
        let mut tokens = Vec::new();
        for (server, address) in addresses.iter().enumerate() {
            let cell = Client::connect(*address)?.cell("SELECT tokens FROM system.local")?;
            let texts = texts(&cell).ok_or_else(|| {
                ClientError(format!("{address}: tokens of system.local are no set of texts"))
            })?;
            for text in texts {
                let token = text.parse().map_err(|_| ClientError(format!("`{text}`: a token?")))?;
                tokens.push((Token(token), server));
            }
        }
        tokens.sort_unstable();
        Ok(Owners { tokens })
    }

    /// Whether a server is the one to ask for a key.
    pub fn may_serve(&self, server: usize, key: &[u8]) -> bool {
        if self.tokens.is_empty() {
            return true;
        }
        let token = murmur3_token(key);
        let at = self.tokens.partition_point(|(end, _)| *end < token) % self.tokens.len();
        self.tokens[at].1 == server
    }
}

/// The elements of a set of texts.
fn texts(cell: &[u8]) -> Option<Vec<String>> {
    let (mut length, mut rest) = split_length(cell)?;
    let mut texts = Vec::new();
    while length > 0 {
        let (bytes, behind) = split_length(rest)?;
        let (text, behind) = behind.split_at_checked(bytes)?;
        texts.push(String::from_utf8(text.to_vec()).ok()?);
        (length, rest) = (length - 1, behind);
    }
    rest.is_empty().then_some(texts)
}

fn split_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    Some((usize::try_from(i32::from_be_bytes(*length)).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_belongs_to_the_next_token_around_the_ring() {
        let key = b"key";
        let token = murmur3_token(key).0;
        let at = |tokens: &[(i64, usize)]| Owners {
            tokens: tokens.iter().map(|(token, server)| (Token(*token), *server)).collect(),
        };
        assert!(at(&[(token - 1, 0), (token, 1)]).may_serve(1, key), "a token ends its range");
        assert!(at(&[(token - 2, 0), (token - 1, 1)]).may_serve(0, key), "beyond the last");
        assert!(!at(&[(token - 2, 0), (token - 1, 1)]).may_serve(1, key));
        assert!(Owners::any().may_serve(7, key));
    }

    #[test]
    fn a_set_is_read_whole_or_not_at_all() {
        let cell = [0, 0, 0, 2, 0, 0, 0, 1, b'1', 0, 0, 0, 2, b'-', b'2'];
        assert_eq!(texts(&cell), Some(vec!["1".to_owned(), "-2".to_owned()]));
        for end in 0..cell.len() {
            assert_eq!(texts(&cell[..end]), None, "cut at {end}");
        }
    }
}
