//! Whom TLS trusts and as whom it comes: read from files once.

use super::{Check, Identity, Kind, Tls};
use crate::sys::{Error, Result, file, trust};
use rustls::client::WantsClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// No key comes near this many bytes.
const KEY_MAX: u64 = 1 << 20;

/// What a check trusts and shows, read once.
#[derive(Debug, Default)]
pub(super) struct Trust(Mutex<Option<Arc<ClientConfig>>>);

impl Trust {
    /// The configuration, from files at the first call.
    pub fn load(&self, check: &Check, tls: &Tls) -> Result<Arc<ClientConfig>> {
        server_name(check)?;
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = &*kept {
            return Ok(config.clone());
        }
        let mut config = configure(tls)?;
        config.alpn_protocols = match check.kind {
            // Whatever it speaks inside.
            Kind::Tcp => Vec::new(),
            Kind::Http { .. } => vec![b"http/1.1".to_vec()],
            Kind::Grpc(_) => vec![b"h2".to_vec()],
        };
        let config = Arc::new(config);
        *kept = Some(config.clone());
        Ok(config)
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

fn configure(tls: &Tls) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::refused("TLS", e.to_string()))?;
    let builder = match tls.no_verify {
        true => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider))),
        false => builder.with_root_certificates(roots(tls)?),
    };
    match &tls.identity {
        None => Ok(builder.with_no_client_auth()),
        Some(identity) => identify(builder, identity),
    }
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

fn identify(builder: ConfigBuilder<ClientConfig, WantsClientCert>, identity: &Identity) -> Result<ClientConfig> {
    let certificates = trust::certificates(&identity.cert)?;
    let key = private_key(&identity.key)?;
    builder.with_client_auth_cert(certificates, key).map_err(|e| {
        let reason = match e {
            rustls::Error::InconsistentKeys(_) => "not the key of that certificate".into(),
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

/// Takes any certificate; only that its owner is at the other end is still checked.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
