//! Certificates: where the system has those of authorities, how files of them and of keys are read, and how a server's is
//! judged.

mod verify;

pub use verify::{Anybody, SelfSigned, Trusted, alert_words, certificate_fault, is_about_client, tls_fault};

use super::{Error, Result, file};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::path::{Path, PathBuf};

/// The system's trusted certificates where the common distributions keep them.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// No bundle comes near this many bytes.
const BUNDLE_MAX: u64 = 16 << 20;

/// No key comes near this many bytes.
const KEY_MAX: u64 = 1 << 20;

/// The file of certificates that this system trusts; `instead` is what else can be named when there is none.
pub fn system(instead: &str) -> Result<PathBuf> {
    if let Some(file) = std::env::var_os("SSL_CERT_FILE").filter(|v| !v.is_empty()) {
        return Ok(file.into());
    }
    BUNDLES.iter().map(PathBuf::from).find(|p| p.exists()).ok_or_else(|| {
        let reason = format!("not there: install the package ca-certificates, or name a CA with {instead}");
        Error::refused(BUNDLES[0], reason)
    })
}

/// The certificates in the PEM file `file`; that there is none is an error.
pub fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let bytes = file::read_bounded(file, BUNDLE_MAX)?
        .ok_or_else(|| Error::refused(file.display(), "no such file of trusted certificates"))?;
    let all = CertificateDer::pem_slice_iter(&bytes).collect::<std::result::Result<Vec<_>, _>>();
    let all = all.map_err(|_| Error::refused(file.display(), "damaged PEM"))?;
    if all.is_empty() {
        Err(Error::refused(file.display(), "no usable certificate in it; it must be PEM"))
    } else {
        Ok(all)
    }
}

/// The certificate in the PEM file `cert`, with those of its issuers after it, and its private key in the PEM file `key`.
pub fn identity(cert: &Path, key: &Path, provider: &CryptoProvider) -> Result<CertifiedKey> {
    if !cert.exists() {
        return Err(Error::refused(cert.display(), "no such file of a certificate"));
    }
    let certificates = certificates(cert)?;
    let private = private_key(key)?;
    CertifiedKey::from_der(certificates, private, provider).map_err(|e| {
        let reason = match e {
            rustls::Error::InconsistentKeys(_) => "not the key of that certificate".into(),
            rustls::Error::InvalidCertificate(_) => {
                "a certificate that can't be used; it must be X.509 version 3".into()
            }
            e => e.to_string(),
        };
        Error::refused(key.display(), format!("with {}: {reason}", cert.display()))
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
