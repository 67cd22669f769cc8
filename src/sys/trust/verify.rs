//! How a server's certificate is judged, and what is wrong with one, in words.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    AlertDescription, CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};
use std::fmt;
use std::sync::Arc;

/// A certificate that nobody but itself has issued, and that is not trusted.
#[derive(Debug)]
pub struct SelfSigned;

impl fmt::Display for SelfSigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("self-signed")
    }
}

impl std::error::Error for SelfSigned {}

/// Accepts certificates that lead to a trusted one, as rustls does by itself, and the certificates that the operator
/// names, each for itself: what `openssl req -x509` makes is its own CA, which rustls accepts from no server.
#[derive(Debug)]
pub struct Trusted {
    by_rustls: Arc<WebPkiServerVerifier>,
    named: Vec<CertificateDer<'static>>,
}

impl Trusted {
    /// Trusts the authorities `named` by the operator and those of the `system`. `None`: none of them is usable.
    pub fn new(
        named: Vec<CertificateDer<'static>>,
        system: Vec<CertificateDer<'static>>,
        provider: Arc<CryptoProvider>,
    ) -> Option<Trusted> {
        let mut roots = RootCertStore::empty();
        // A system's bundle may hold ancient ones that can't be used.
        roots.add_parsable_certificates(named.iter().cloned().chain(system));
        let by_rustls = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().ok()?;
        Some(Trusted { by_rustls, named })
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
        let judged = self.by_rustls.verify_server_cert(certificate, more, name, ocsp, now);
        // The dates come first in rustls: these are of what is valid now. A CA's own certificate is one of "other" errors.
        let Err(Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature | CertificateError::Other(_),
        )) = judged
        else {
            return judged;
        };
        if self.named.iter().any(|named| named == certificate) {
            verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
            return Ok(ServerCertVerified::assertion());
        }
        match issuer_and_subject(certificate) {
            Some((issuer, subject)) if issuer == subject => {
                Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(SelfSigned)))))
            }
            _ => judged,
        }
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
pub struct Anybody(pub Arc<CryptoProvider>);

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

/// What is wrong with a certificate of which there is no more to say than that.
pub fn certificate_fault(fault: &CertificateError) -> &'static str {
    match fault {
        CertificateError::BadEncoding => "it is damaged, or not X.509 version 3",
        CertificateError::BadSignature => "its signature is wrong",
        CertificateError::Revoked => "it is revoked",
        CertificateError::UnhandledCriticalExtension => "it has a critical extension that is not known here",
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => "it is not for a server",
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "its signature is of a kind that is not supported"
        }
        CertificateError::Other(_) => "it is a CA's own; the server needs one that its CA has issued",
        _ => "it can't be used for a server",
    }
}

/// Why a TLS connection failed, of what is not about certificates.
pub fn tls_fault(fault: &Error) -> String {
    match fault {
        Error::AlertReceived(alert) => format!("it ended the handshake with the alert {}", alert_words(*alert)),
        Error::PeerIncompatible(_) => "it has no protocol version or cipher in common with this node".into(),
        Error::PeerMisbehaved(_) => "it breaks the rules of the protocol".into(),
        other => other.to_string(),
    }
}

/// Whether a server sends `alert` about nothing but a client's certificate: a bad one, or that there is none.
pub fn is_about_client(alert: AlertDescription) -> bool {
    use AlertDescription as Alert;
    matches!(
        alert,
        Alert::CertificateRequired
            | Alert::NoCertificate
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
    )
}

/// The alert's name as RFC 8446 writes it, `handshake_failure`, or its number.
pub fn alert_words(alert: AlertDescription) -> String {
    if let AlertDescription::Unknown(number) = alert {
        return number.to_string();
    }
    let (mut words, mut before) = (String::new(), ' ');
    for c in format!("{alert:?}").chars() {
        if c.is_ascii_uppercase() && before.is_ascii_lowercase() {
            words.push('_');
        }
        words.push(c.to_ascii_lowercase());
        before = c;
    }
    words
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
    fn alerts_have_the_names_of_the_standard() {
        for (alert, name) in [
            (AlertDescription::HandshakeFailure, "handshake_failure"),
            (AlertDescription::UnknownCA, "unknown_ca"),
            (AlertDescription::Unknown(200), "200"),
        ] {
            assert_eq!(alert_words(alert), name);
        }
    }

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
