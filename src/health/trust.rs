//! Whom TLS trusts and as whom it comes: read from files once.

use super::verify::{Anybody, Trusted};
use super::{Check, Identity, Kind, Tls};
use crate::sys::{Error, Result, file, trust};
use rustls::client::ResolvesClientCert;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// No key comes near this many bytes.
const KEY_MAX: u64 = 1 << 20;

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
        Some(identity) => Some(Arc::new(identify(identity, &provider)?)),
        None => None,
    };
    let verifier: Arc<dyn ServerCertVerifier> = match tls.no_verify {
        true => Arc::new(Anybody(provider)),
        false => Arc::new(Trusted::new(roots(tls)?, provider).map_err(|e| Error::refused("TLS", e))?),
    };
    let shown = Arc::new(Shown { certificate, asked: AtomicBool::new(false) });
    let builder = builder.with_custom_certificate_verifier(verifier);
    Ok((builder.with_client_cert_resolver(shown.clone()), shown))
}

fn roots(tls: &Tls) -> Result<RootCertStore> {
    let file = match &tls.ca {
        Some(ca) => ca.clone(),
        None => trust::system("--ca")?,
    };
    let mut roots = RootCertStore::empty();
    for certificate in trust::certificates(&file)? {
        // A system's bundle may hold ancient ones that can't be used.
        let _ = roots.add(certificate);
    }
    if roots.is_empty() {
        return Err(Error::refused(file.display(), "no usable certificate in it; it must be PEM"));
    }
    Ok(roots)
}

fn identify(identity: &Identity, provider: &CryptoProvider) -> Result<CertifiedKey> {
    if !identity.cert.exists() {
        return Err(Error::refused(identity.cert.display(), "no such file of a certificate"));
    }
    let certificates = trust::certificates(&identity.cert)?;
    let key = private_key(&identity.key)?;
    CertifiedKey::from_der(certificates, key, provider).map_err(|e| {
        let reason = match e {
            rustls::Error::InconsistentKeys(_) => "not the key of that certificate".into(),
            rustls::Error::InvalidCertificate(_) => {
                "a certificate that can't be used; it must be X.509 version 3".into()
            }
            e => e.to_string(),
        };
        Error::refused(identity.key.display(), format!("with {}: {reason}", identity.cert.display()))
    })
}

/// A private key in PKCS#8, PKCS#1 or SEC1, as PEM.
fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>> {
    let bytes =
        file::read_bounded(file, KEY_MAX)?.ok_or_else(|| Error::refused(file.display(), "no such file of a key"))?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| {
        let encrypted = bytes.windows(9).any(|w| w == b"ENCRYPTED");
        Error::refused(
            file.display(),
            match encrypted {
                true => "the key is encrypted; nobody is there to give a passphrase",
                false => "no private key in it; it must be PEM",
            },
        )
    })
}
