//! The nodes by which a node finds its cluster: `HOST` or `HOST:PORT`, names or addresses.
//!
//! They are looked up when they are asked, each time anew: in a container a name may come to exist
//! after the node that asks for it.

use super::{ConfigError, text};
use serde_json::Value;
use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};

/// Seeds that are read: more would only be asked one after the other in vain.
const SEEDS_MAX: usize = 64;

/// A node that may know the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seed {
    /// Its name or its address.
    pub host: String,
    /// Its port for other nodes; `None`: the same as this node's.
    pub port: Option<u16>,
}

impl Seed {
    /// Whether it is, without asking anybody, the node at that address.
    pub(crate) fn is_at(&self, address: SocketAddr) -> bool {
        let is_port = self.port.is_none_or(|port| port == address.port());
        is_port && self.host.parse() == Ok(address.ip())
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) if self.host.contains(':') => write!(f, "[{}]:{port}", self.host),
            Some(port) => write!(f, "{}:{port}", self.host),
            None => f.write_str(&self.host),
        }
    }
}

/// Seeds with commas between.
pub(super) fn parse_list(key: &str, list: &str) -> Result<Vec<Seed>, ConfigError> {
    let words = list.split(',').map(str::trim).filter(|word| !word.is_empty());
    let seeds: Vec<Seed> = words.map(|word| parse(key, word)).collect::<Result<_, _>>()?;
    if seeds.len() > SEEDS_MAX {
        return Err(ConfigError(format!("{key}: {} seeds are above {SEEDS_MAX}", seeds.len())));
    }
    Ok(seeds)
}

/// The key `seeds`: one text with commas, or a list.
pub(super) fn from_value(key: &str, value: &Value) -> Result<Vec<Seed>, ConfigError> {
    match value {
        Value::Array(list) => {
            let texts: Result<Vec<_>, _> = list.iter().map(|value| text(key, value)).collect();
            parse_list(key, &texts?.join(","))
        }
        value => parse_list(key, &text(key, value)?),
    }
}

/// The key `seed_provider` as cassandra.yaml has it: a class, of which only the parameter matters.
pub(super) fn from_provider(key: &str, value: &Value) -> Result<Vec<Seed>, ConfigError> {
    let first = |value: &Value| match value {
        Value::Array(list) => list.first().cloned(),
        other => Some(other.clone()),
    };
    let seeds = first(value)
        .and_then(|provider| first(provider.get("parameters")?))
        .and_then(|parameters| parameters.get("seeds").cloned())
        .ok_or_else(|| {
            ConfigError(format!("{key}: expected `parameters` with `seeds`, as in cassandra.yaml"))
        })?;
    from_value(key, &seeds)
}

fn parse(key: &str, word: &str) -> Result<Seed, ConfigError> {
    if let Ok(ip) = word.parse::<Ipv6Addr>() {
        return Ok(Seed { host: ip.to_string(), port: None });
    }
    if let Ok(SocketAddr::V6(address)) = word.parse() {
        return Ok(Seed { host: address.ip().to_string(), port: Some(address.port()) });
    }
    let error = || ConfigError(format!("{key}: `{word}` is not a HOST or HOST:PORT"));
    let (host, port) = match word.split_once(':') {
        Some((host, port)) => (host, Some(port.parse().map_err(|_| error())?)),
        None => (word, None),
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if host.is_empty() || !host.chars().all(is_name) || port == Some(0) {
        return Err(error());
    }
    Ok(Seed { host: host.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_written_as_they_are_read() {
        for list in ["", "a", "a:1,10.0.0.2,node-3.example:7000", "[::1]:7000,fe80::2"] {
            let seeds = parse_list("seeds", list).unwrap();
            let written: Vec<String> = seeds.iter().map(Seed::to_string).collect();
            assert_eq!(written.join(","), list);
        }
        let blanks = parse_list("seeds", " a , ,b:2 ").unwrap();
        assert_eq!(blanks.len(), 2);
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for word in ["a b", ":7000", "a:", "a:0", "a:99999", "a:b:c", "[::1]", "http://a"] {
            assert!(parse_list("seeds", word).is_err(), "{word}");
        }
        assert!(parse_list("seeds", &"a,".repeat(65)).is_err());
    }
}
