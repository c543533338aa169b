//! A webhook: one POST per batch, a JSON array of events, signed after Standard Webhooks.
//!
//! ```text
//! POST /hook HTTP/1.1
//! content-type: application/json
//! webhook-id: msg_2b7f…          the same when the batch is sent again
//! webhook-timestamp: 1763731114  seconds, of this attempt
//! webhook-signature: v1,…        with a secret only
//!
//! [{"sequence":…},{"sequence":…}]
//! ```
//!
//! A 2xx acknowledges the whole batch, whatever follows the status. 408, 425, 429, 5xx and every
//! failure of the network may pass; anything else, redirects included, stays until somebody acts
//! (`answer`, which also tells what may be an event's fault). What may be connected to is judged in `address`, and the connection is kept between
//! batches in `connection`; time limits are on the whole of an attempt, name resolution included.
//!
//! Messages without a value (tombstones of a log-compacted topic) mean nothing here and are left
//! out. There is no proxy, no cookie, no compression.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use env::{Clock, Env};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use sha2::{Digest, Sha256};

mod address;
mod answer;
mod connection;
mod signature;
mod target;
#[cfg(test)]
mod tests;
mod tls;

pub use address::{AddressPolicy, Reach, reach};
pub use answer::RETRY_AFTER_MAX;
pub use signature::SigningKey;
pub use target::Target;
pub use tls::Tls;

use super::{Message, Sending, Sink, SinkError};

use connection::{Connection, Dialer, broken, within};

/// Headers that a feed may add.
const HEADER_COUNT_MAX: usize = 32;
/// And how long a value may be.
const HEADER_BYTES_MAX: usize = 8 << 10;
/// For the rest of an answer whose status was read; after it the connection is given up.
const DRAIN_TIME_MAX: Duration = Duration::from_millis(100);
/// The fixed name of a batch's content, before the hash of it.
const ID_PREFIX: &str = "msg_";

/// What a feed's definition says of its webhook, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The feed's name: two feeds that say the same in one moment still say it twice.
    pub feed: String,
    /// Where to.
    pub target: Target,
    /// What may be reached.
    pub policy: AddressPolicy,
    /// Signs, if there is one.
    pub secret: Option<SigningKey>,
    /// The feed's own headers, from [`headers`].
    pub headers: HeaderMap,
    /// What the body is: `application/json`, or CloudEvents' batch.
    pub content_type: &'static str,
    /// For a whole attempt.
    pub timeout: Duration,
}

/// Checks the headers that a feed wants to add. Errors name the header, and never its value.
pub fn headers<'a>(
    wanted: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in wanted {
        let Ok(known) = HeaderName::from_bytes(name.as_bytes()) else {
            return Err(format!("{name:?} is not the name of a header"));
        };
        if is_ours(&known) {
            return Err(format!("the header {known} is set by the server"));
        }
        if value.len() > HEADER_BYTES_MAX {
            return Err(format!("the header {known} has more than {HEADER_BYTES_MAX} bytes"));
        }
        let Ok(mut value) = HeaderValue::from_str(value) else {
            return Err(format!("the value of {known} is not one of a header"));
        };
        value.set_sensitive(true);
        headers.insert(known, value);
        if headers.len() > HEADER_COUNT_MAX {
            return Err(format!("more than {HEADER_COUNT_MAX} headers"));
        }
    }
    Ok(headers)
}

/// Whether a header is decided by the protocol or by this module.
fn is_ours(name: &HeaderName) -> bool {
    let of_the_protocol = [
        header::HOST,
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::CONTENT_ENCODING,
        header::TRANSFER_ENCODING,
        header::CONNECTION,
        header::UPGRADE,
        header::EXPECT,
        header::TE,
        header::TRAILER,
    ];
    of_the_protocol.contains(name) || name.as_str().starts_with("webhook-")
}

/// A receiver of webhooks.
pub struct WebhookSink {
    settings: Settings,
    dialer: Dialer,
    clock: Clock,
    connection: Option<Connection>,
}

impl WebhookSink {
    /// Connects to nothing yet. `tls` is made once for all feeds.
    pub fn new(env: &Env, tls: &Tls, settings: Settings) -> WebhookSink {
        let dialer = Dialer {
            net: env.net,
            clock: env.clock.clone(),
            policy: settings.policy,
            tls: Arc::clone(&tls.config),
        };
        WebhookSink { settings, dialer, clock: env.clock.clone(), connection: None }
    }

    /// Sends one body, of so many messages, until it is answered or the time is over.
    async fn post(&mut self, body: Bytes, message_count: usize) -> Result<(), SinkError> {
        let limit = self.settings.timeout;
        let clock = self.clock.clone();
        let Some(answered) = within(&clock, limit, self.exchange(body)).await else {
            // The connection went with the request that was under way on it.
            let target = &self.settings.target;
            let text = format!("{target} did not answer within {} ms", limit.as_millis());
            return Err(SinkError::transient(text));
        };
        let (mut connection, answer) = answered?;
        let (head, rest) = answer.into_parts();
        // The batch is settled by the status: a slow or endless body must not undo it.
        if within(&clock, DRAIN_TIME_MAX, connection.drain(rest)).await == Some(true) {
            self.connection = Some(connection);
        }
        let (target, now_seconds) = (&self.settings.target, clock.now_seconds());
        answer::judge(target, head.status, &head.headers, now_seconds, message_count)
    }

    /// The head of the receiver's answer, and the connection that the rest comes by.
    async fn exchange(
        &mut self,
        body: Bytes,
    ) -> Result<(Connection, Response<Incoming>), SinkError> {
        let request = self.request(body);
        loop {
            let mut connection = self.connect().await?;
            let was_used = connection.is_used;
            match connection.exchange(request.clone()).await {
                Ok(answer) => return Ok((connection, answer)),
                // The receiver was about to close an idle connection: that is no failure yet. It
                // may have taken the batch; sent again, it has the same id.
                Err(_) if was_used => {}
                Err(error) => return Err(broken(&self.settings.target, &error)),
            }
        }
    }

    /// The connection that is there, if it still is, else a new one.
    async fn connect(&mut self) -> Result<Connection, SinkError> {
        if let Some(mut connection) = self.connection.take()
            && connection.is_open().await
        {
            return Ok(connection);
        }
        self.dialer.dial(&self.settings.target, self.settings.timeout).await
    }

    fn request(&self, body: Bytes) -> Request<Full<Bytes>> {
        let settings = &self.settings;
        let id = batch_id(&settings.feed, &body);
        let timestamp = self.clock.now_seconds();
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from(settings.target.path.clone());
        let headers = request.headers_mut();
        headers.extend(settings.headers.clone());
        let ascii = |text: &str| {
            HeaderValue::from_str(text).expect("hex, digits, base64 and hosts are visible ASCII")
        };
        headers.insert(header::HOST, ascii(&settings.target.authority));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(settings.content_type));
        if !headers.contains_key(header::USER_AGENT) {
            let agent = concat!("tethys/", env!("CARGO_PKG_VERSION"));
            headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
        }
        headers.insert("webhook-id", ascii(&id));
        headers.insert("webhook-timestamp", ascii(&timestamp.to_string()));
        if let Some(secret) = &settings.secret {
            let signature = secret.sign(&id, timestamp, &body);
            headers.insert("webhook-signature", ascii(&signature));
        }
        *request.body_mut() = Full::new(body);
        request
    }
}

/// The name of a batch: what it says decides, so that it stays the same whoever sends it again.
fn batch_id(feed: &str, body: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update((feed.len() as u64).to_be_bytes());
    hash.update(feed.as_bytes());
    hash.update(body);
    let digest = hash.finalize();
    let half = digest.first_chunk().expect("SHA-256 has 32 bytes");
    format!("{ID_PREFIX}{:032x}", u128::from_be_bytes(*half))
}

/// A JSON array of what is JSON each; none if nothing has a value.
fn array_of<'a>(values: impl Iterator<Item = &'a Bytes> + Clone) -> Option<Bytes> {
    let length: usize = values.clone().map(|value| value.len() + 1).sum();
    if length == 0 {
        return None;
    }
    let mut body = BytesMut::with_capacity(length + 1);
    for value in values {
        body.extend_from_slice(if body.is_empty() { b"[" } else { b"," });
        body.extend_from_slice(value);
    }
    body.extend_from_slice(b"]");
    Some(body.freeze())
}

impl Sink for WebhookSink {
    /// Looks at nothing: the receiver is asked by the first batch.
    fn open(&mut self) -> Sending<'_> {
        Box::pin(async { Ok(()) })
    }

    fn send<'a>(&'a mut self, batch: &'a [Message]) -> Sending<'a> {
        Box::pin(async move {
            match array_of(batch.iter().filter_map(|message| message.value.as_ref())) {
                Some(body) => self.post(body, batch.len()).await,
                None => Ok(()),
            }
        })
    }

    fn mark<'a>(&'a mut self, text: &'a Bytes) -> Sending<'a> {
        Box::pin(async move {
            let body = array_of(std::iter::once(text)).expect("one value makes an array");
            self.post(body, 1).await
        })
    }
}
