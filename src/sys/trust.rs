//! Certificates of authorities: where the system has them, and how a file of them is read.

use super::{Error, Result, file};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
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
