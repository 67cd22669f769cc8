//! How a server's certificate is judged.

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};
use std::fmt;
use std::sync::Arc;

/// A certificate that nobody but itself has issued, and that is not trusted.
#[derive(Debug)]
pub(super) struct SelfSigned;

impl fmt::Display for SelfSigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("self-signed")
    }
}

impl std::error::Error for SelfSigned {}

/// Takes certificates that lead to one that is trusted, as rustls does by itself, and tells when one is self-signed.
#[derive(Debug)]
pub(super) struct Trusted {
    by_rustls: Arc<WebPkiServerVerifier>,
    /// The names of those that are trusted.
    subjects: Vec<Vec<u8>>,
}

impl Trusted {
    /// Trusts `roots`, of which there is at least one.
    pub fn new(roots: RootCertStore, provider: Arc<CryptoProvider>) -> Result<Trusted, String> {
        let subjects = roots.subjects().into_iter().map(|name| name.as_ref().to_vec()).collect();
        let by_rustls = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        Ok(Trusted { by_rustls: by_rustls.map_err(|e| e.to_string())?, subjects })
    }

    /// Whether `certificate` names itself as its issuer, and nobody trusted has that name.
    fn is_own(&self, certificate: &[u8]) -> bool {
        issuer_and_subject(certificate)
            .is_some_and(|(issuer, subject)| issuer == subject && !self.subjects.iter().any(|s| s == subject))
    }
}

impl ServerCertVerifier for Trusted {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.by_rustls.verify_server_cert(certificate, more, name, ocsp, now).map_err(|e| match e {
            // What it says of a CA's own certificate is one of "other" errors.
            Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::Other(_))
                if self.is_own(certificate) =>
            {
                Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(SelfSigned))))
            }
            e => e,
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_rustls.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_rustls.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_rustls.supported_verify_schemes()
    }
}

/// Takes any certificate; only that its owner is at the other end is still checked.
#[derive(Debug)]
pub(super) struct Anybody(pub Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Both names in a certificate (RFC 5280, section 4.1), each whole with its tag and length; `None`: it is damaged.
fn issuer_and_subject(certificate: &[u8]) -> Option<(&[u8], &[u8])> {
    const SEQUENCE: u8 = 0x30;
    const VERSION: u8 = 0xa0;
    let (_, signed, _) = element(certificate).filter(|(tag, ..)| *tag == SEQUENCE)?;
    let (_, fields, _) = element(signed)?;
    let mut rest = fields;
    let mut next = || {
        let all = rest;
        let (tag, _, after) = element(rest)?;
        rest = after;
        Some((tag, all.get(..all.len() - after.len())?))
    };
    // The version may be left out. Then come serial number and algorithm.
    if next()?.0 == VERSION {
        next()?;
    }
    next()?;
    let (_, issuer) = next()?;
    next()?;
    let (_, subject) = next()?;
    Some((issuer, subject))
}

/// The DER element at the beginning of `bytes`: its tag, its content, and what comes after it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = bytes.split_first_chunk::<2>()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 | 0x82 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit)), rest)
        }
        // No certificate has 64 KiB.
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_a_certificate() {
        let of = |tag: u8, content: &[u8]| [&[tag, content.len() as u8], content].concat();
        let names = [of(0x30, b"issuer"), of(0x30, b"subject")];
        let make = |version: &[u8]| {
            let fields = [version, &of(2, b"1"), &of(0x30, b""), &names[0], &of(0x30, b"when"), &names[1], b"\x03\0"];
            of(0x30, &[of(0x30, &fields.concat()), of(0x30, b"")].concat())
        };
        for version in [&b"\xa0\x01\x02"[..], b""] {
            let certificate = make(version);
            assert_eq!(issuer_and_subject(&certificate), Some((&names[0][..], &names[1][..])));
            for end in 0..certificate.len() {
                assert_eq!(issuer_and_subject(certificate.get(..end).unwrap_or_default()), None);
            }
        }
        assert_eq!(element(b"\x30\x82\x00\x01ab"), Some((0x30, &b"a"[..], &b"b"[..])));
        assert_eq!(element(b"\x30\x84\0\0\0\x01a"), None);
    }
}
