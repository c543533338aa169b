//! The URL of a webhook, read once: what is connected to, and what is asked for there.

use http::Uri;
use http::uri::PathAndQuery;

use super::address::AddressPolicy;

/// The refusal of plain HTTP.
const HTTPS_ONLY: &str =
    "the configuration of this server allows webhooks by https only (webhook_allow_http)";
/// URLs beyond this length are mistakes; many receivers refuse them earlier.
const URL_BYTES_MAX: usize = 2048;

/// Where requests go.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    /// Whether by TLS.
    pub(super) is_https: bool,
    /// A name, or an address without brackets.
    pub(super) host: String,
    /// 443 or 80 where the URL names none.
    pub(super) port: u16,
    /// The value of the header `host`.
    pub(super) authority: String,
    /// What is asked for; may hold a secret.
    pub(super) path: PathAndQuery,
}

impl Target {
    /// Reads a URL and refuses what cannot be sent to, or may not be by the policy. Errors name
    /// nothing but the scheme and the host.
    pub fn parse(url: &str, policy: AddressPolicy) -> Result<Target, String> {
        if url.len() > URL_BYTES_MAX {
            return Err(format!("the URL of a webhook has at most {URL_BYTES_MAX} bytes"));
        }
        let without_scheme = || "the URL of a webhook begins with https://".to_owned();
        if !url.contains("://") {
            return Err(without_scheme());
        }
        let uri: Uri = url.parse().map_err(|error| format!("the URL is not valid: {error}"))?;
        let is_https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if policy.allow_http => false,
            Some("http") => {
                return Err(HTTPS_ONLY.into());
            }
            Some(other) => return Err(format!("a webhook cannot be reached by {other}://")),
            None => return Err(without_scheme()),
        };
        let authority = uri.authority().ok_or("the URL names no host")?;
        if authority.as_str().contains('@') {
            return Err("credentials do not belong into the URL: use the option `headers`".into());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err("the URL names no host".into());
        }
        let default_port = if is_https { 443 } else { 80 };
        let port = match port_text(authority.as_str()) {
            None | Some("") => default_port,
            Some(digits) => {
                digits.parse().ok().filter(|port| *port > 0).ok_or("the port is not one")?
            }
        };
        let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let path = path.parse().map_err(|error| format!("the URL is not valid: {error}"))?;
        Ok(Target {
            is_https,
            host: host.to_owned(),
            port,
            authority: authority.as_str().to_owned(),
            path,
        })
    }

    /// Refuses a host that is written as an address which the policy does not allow, before anything
    /// is sent. Names are judged whenever they are resolved.
    pub fn judge_number(&self, policy: AddressPolicy) -> Result<(), String> {
        let Ok(address) = self.host.parse() else { return Ok(()) };
        policy.judge(address).map_err(|kind| self.refusal(kind))
    }

    /// Why an address of this kind is not reached.
    pub(super) fn refusal(&self, kind: &str) -> String {
        format!(
            "{self} is {kind}, which the configuration of this server does not allow \
             (webhook_allow_private_addresses)"
        )
    }
}

/// What follows the last colon that is not inside an IPv6 address.
fn port_text(authority: &str) -> Option<&str> {
    let behind_host = authority.rsplit_once(']').map_or(authority, |(_, behind)| behind);
    behind_host.rsplit_once(':').map(|(_, digits)| digits)
}

/// Without path and query, so that it may be shown.
impl std::fmt::Display for Target {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.is_https { "https" } else { "http" };
        write!(formatter, "{scheme}://{}", self.authority)
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Target({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::{AddressPolicy, Target};

    fn parse(url: &str) -> Result<Target, String> {
        Target::parse(url, AddressPolicy { allow_http: true, allow_private: false })
    }

    #[test]
    fn urls_are_taken_apart() {
        for (url, host, port, path) in [
            ("https://api.example.com/hook", "api.example.com", 443, "/hook"),
            ("https://api.example.com", "api.example.com", 443, "/"),
            ("https://api.example.com?a=1", "api.example.com", 443, "/?a=1"),
            ("http://api.example.com:8080/a/b?c=d#e", "api.example.com", 8080, "/a/b?c=d"),
            ("http://[::1]:99/", "::1", 99, "/"),
            ("https://[::1]/", "::1", 443, "/"),
            ("https://example.com:/", "example.com", 443, "/"),
        ] {
            let target = parse(url).expect(url);
            assert_eq!((target.host.as_str(), target.port), (host, port), "{url}");
            assert_eq!(target.path.as_str(), path, "{url}");
        }
    }

    #[test]
    fn what_cannot_be_sent_to_is_refused_without_repeating_it() {
        for (url, reason) in [
            ("api.example.com/hook", "the URL of a webhook begins with https://"),
            ("/hook", "the URL of a webhook begins with https://"),
            ("ftp://example.com/", "a webhook cannot be reached by ftp://"),
            ("https://ada:secret@example.com/", "credentials do not belong into the URL"),
            ("https:///hook", "the URL is not valid"),
            ("https://exa mple.com/", "the URL is not valid"),
            ("https://example.com:0/", "the port is not one"),
            ("https://example.com:99999/", "the port is not one"),
        ] {
            let error = parse(url).expect_err(url);
            assert!(error.starts_with(reason), "{url}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
        assert!(parse(&format!("https://example.com/{}", "x".repeat(3000))).is_err());
        let shown = format!("{:?}", parse("https://example.com/token?k=v").expect("a target"));
        assert_eq!(shown, "Target(https://example.com)");
    }

    #[test]
    fn an_address_is_judged_as_it_is_written() {
        let judge = |url, allow_private| {
            let policy = AddressPolicy { allow_http: true, allow_private };
            Target::parse(url, policy).expect("a URL").judge_number(policy)
        };
        for url in ["https://127.0.0.1/hook", "https://[::ffff:10.0.0.1]:8443/", "http://0.0.0.0/"]
        {
            let error = judge(url, false).expect_err(url);
            assert!(error.contains("configuration of this server does not allow"), "{error}");
        }
        assert_eq!(judge("https://127.0.0.1/hook", true), Ok(()));
        assert_eq!(judge("https://1.1.1.1/", false), Ok(()));
        assert_eq!(judge("https://localhost/", false), Ok(()), "a name is judged later");
    }

    #[test]
    fn http_needs_leave() {
        let error = Target::parse("http://example.com/", AddressPolicy::default()).unwrap_err();
        assert_eq!(error, super::HTTPS_ONLY);
    }
}
