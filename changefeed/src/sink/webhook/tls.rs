//! TLS for webhooks: rustls with ring, and whom it trusts.
//!
//! Trusted are Mozilla's authorities, compiled in so that a bare container needs no files, and
//! those of the server's configuration, for receivers in one's own network.

use std::sync::Arc;

use env::Clock;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore};

/// The settings of TLS, made once for all feeds. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tls {
    pub(super) config: Arc<ClientConfig>,
}

impl Tls {
    /// `authorities` holds certificates as PEM, one after the other; it may be empty.
    pub fn new(clock: &Clock, authorities: &[u8]) -> Result<Tls, String> {
        let mut roots = RootCertStore::empty();
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        for certificate in CertificateDer::pem_slice_iter(authorities) {
            let certificate =
                certificate.map_err(|error| format!("not a certificate in PEM: {error}"))?;
            roots.add(certificate).map_err(|error| format!("not an authority: {error}"))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let time = Arc::new(WallClock(clock.clone()));
        let mut config = ClientConfig::builder_with_details(provider, time)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Tls { config: Arc::new(config) })
    }
}

/// By which certificates are in force or not.
#[derive(Debug)]
struct WallClock(Clock);

impl TimeProvider for WallClock {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now_seconds()).ok()?;
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)))
    }
}
