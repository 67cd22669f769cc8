//! Whom TLS trusts and as whom it comes: read from files once.

use super::{Check, Kind, Tls};
use crate::sys::trust::{self, Anybody, Trusted};
use crate::sys::{Error, Result};
use rustls::client::ResolvesClientCert;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, SignatureScheme};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What a check trusts and shows, read once.
#[derive(Debug, Default)]
pub(super) struct Trust(Mutex<Option<(Arc<ClientConfig>, Arc<Shown>)>>);

/// Our certificate, or none, and whether the last server asked for it. What a server does when it gets none that it likes
/// is as often a closed connection as an alert.
#[derive(Debug)]
struct Shown {
    certificate: Option<Arc<CertifiedKey>>,
    asked: AtomicBool,
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::SeqCst);
        self.certificate.clone()
    }

    fn has_certs(&self) -> bool {
        self.certificate.is_some()
    }
}

impl Trust {
    /// The configuration, from files at the first call.
    pub fn load(&self, check: &Check, tls: &Tls) -> Result<Arc<ClientConfig>> {
        server_name(check)?;
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((config, shown)) = &*kept {
            shown.asked.store(false, Ordering::SeqCst);
            return Ok(config.clone());
        }
        let (mut config, shown) = configure(tls)?;
        config.alpn_protocols = match check.kind {
            // Whatever it speaks inside.
            Kind::Tcp => Vec::new(),
            Kind::Http(_) => vec![b"http/1.1".to_vec()],
            Kind::Grpc(_) => vec![b"h2".to_vec()],
        };
        let config = Arc::new(config);
        *kept = Some((config.clone(), shown));
        Ok(config)
    }

    /// Whether the server of the last handshake asked who we are.
    pub fn was_asked(&self) -> bool {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.as_ref().is_some_and(|(_, shown)| shown.asked.load(Ordering::SeqCst))
    }

    /// Reads the files anew next time: a CA or a certificate that was renewed is then seen.
    pub fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// The name that the certificate must have.
pub(super) fn server_name(check: &Check) -> Result<ServerName<'static>> {
    let name = check.server_name();
    ServerName::try_from(name.to_string())
        .map_err(|_| Error::Usage { what: format!("{name:?}: not a name that a certificate can have") })
}

fn configure(tls: &Tls) -> Result<(ClientConfig, Arc<Shown>)> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let refused = |e: rustls::Error| Error::refused("TLS", e.to_string());
    let builder = ClientConfig::builder_with_provider(provider.clone());
    let builder = builder.with_safe_default_protocol_versions().map_err(refused)?.dangerous();
    let certificate = match &tls.identity {
        Some(identity) => Some(Arc::new(trust::identity(&identity.cert, &identity.key, &provider)?)),
        None => None,
    };
    let verifier: Arc<dyn ServerCertVerifier> = match tls.no_verify {
        true => Arc::new(Anybody(provider)),
        false => Arc::new(trusted(tls, provider)?),
    };
    let shown = Arc::new(Shown { certificate, asked: AtomicBool::new(false) });
    let builder = builder.with_custom_certificate_verifier(verifier);
    Ok((builder.with_client_cert_resolver(shown.clone()), shown))
}

/// What `ca` names, else what the system trusts.
fn trusted(tls: &Tls, provider: Arc<CryptoProvider>) -> Result<Trusted> {
    let (file, named, system) = match &tls.ca {
        Some(ca) => (ca.clone(), trust::certificates(ca)?, Vec::new()),
        None => {
            let file = trust::system("--ca")?;
            let all = trust::certificates(&file)?;
            (file, Vec::new(), all)
        }
    };
    let none = || Error::refused(file.display(), "no usable certificate in it; it must be PEM");
    Trusted::new(named, system, provider).ok_or_else(none)
}
