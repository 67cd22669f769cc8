//! What went wrong on the way to a registry, in words and by whether trying again may help. Nothing that was sent is
//! repeated in them.

use super::client::Patience;
use super::url::Server;
use crate::sys::Error;
use crate::sys::error::os_reason;
use rustls::CertificateError;
use std::io::{self, ErrorKind, Read};
use std::time::Duration;
use ureq::Timeout;

/// Why there is no answer.
pub(super) enum Failed {
    /// Trying again is of no use, now at least.
    Final(Error),
    /// Nobody listens.
    Refused(Error),
    /// Trying again may help.
    Passing(Error),
}

/// No answer came.
pub(super) fn failed(server: &Server, e: ureq::Error, patience: &Patience) -> Failed {
    let busy = |reason: String| Error::busy(server.authority(), reason);
    match e {
        ureq::Error::Timeout(t) => Failed::Passing(busy(timeout(t, patience))),
        ureq::Error::HostNotFound => Failed::Final(busy("no such host".into())),
        ureq::Error::Rustls(e) => tls(server, &e),
        ureq::Error::Io(e) => match e.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(e) => tls(server, e),
            None if e.kind() == ErrorKind::ConnectionRefused => Failed::Refused(busy(os_reason(&e))),
            None if e.kind() == ErrorKind::UnexpectedEof => {
                Failed::Passing(busy("closed the connection without an answer".into()))
            }
            None => Failed::Passing(busy(os_reason(&e))),
        },
        ureq::Error::ConnectProxyFailed(_) => {
            Failed::Final(busy("the proxy of HTTPS_PROXY refuses to lead there".into()))
        }
        ureq::Error::LargeResponseHeader(..) => {
            Failed::Final(Error::refused(server.authority(), "the headers of its answer are too large"))
        }
        ureq::Error::Protocol(_) => Failed::Final(busy("what it answers is not HTTP".into())),
        other => Failed::Final(busy(short(&other.to_string()))),
    }
}

fn timeout(t: Timeout, patience: &Patience) -> String {
    match t {
        Timeout::PerRead => format!("silent for {:?}", patience.silence),
        Timeout::Connect | Timeout::Resolve => format!("no connection within {:?}", patience.connect),
        _ => "the time for it is over".into(),
    }
}

fn tls(server: &Server, e: &rustls::Error) -> Failed {
    let host = server.authority();
    let refused = |reason: &str| Failed::Final(Error::refused(&host, reason));
    match e {
        rustls::Error::InvalidCertificate(c) => match c {
            // A bad signature: a CA of the same name, renewed or another.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => refused(&format!(
                "nobody whom this node trusts has issued its certificate; name its CA: ca in [registry.\"{host}\"]"
            )),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                refused("its certificate has expired")
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                refused("its certificate is not valid yet; is this node's clock right?")
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                refused("its certificate is for other names")
            }
            other => refused(&format!("its certificate is not good: {}", short(&other.to_string()))),
        },
        rustls::Error::InvalidMessage(_) => {
            refused(&format!("doesn't speak TLS; to use it without, set insecure = true in [registry.\"{host}\"]"))
        }
        rustls::Error::AlertReceived(alert) => refused(&format!("ended the TLS handshake: {alert:?}")),
        other => refused(&format!("TLS: {}", short(&other.to_string()))),
    }
}

/// A status that is an answer to nothing that was asked.
pub(super) fn status(server: &Server, status: u16) -> Error {
    let told = match status {
        429 => "answers 429: too many requests".into(),
        500..=599 => format!("answers {status}: it has trouble of its own"),
        _ => format!("answers {status}"),
    };
    if status >= 500 || status == 429 {
        Error::busy(server.authority(), told)
    } else {
        Error::refused(server.authority(), told)
    }
}

/// `error`, with the pause that the server asks for.
pub(super) fn wait(error: Error, asked: Duration) -> Error {
    match error {
        Error::Busy { object, reason } => {
            Error::Busy { object, reason: format!("{reason}; it asks to wait {} s", asked.as_secs()) }
        }
        other => other,
    }
}

/// Printable and of bounded length.
pub(super) fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(160).collect()
}

/// A body whose errors are told in words.
pub(super) struct Told<R> {
    pub inner: R,
    pub silence: Duration,
}

impl<R: Read> Read for Told<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.inner.read(into).map_err(|e| {
            let ureq = e.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>());
            match ureq {
                Some(ureq::Error::Timeout(Timeout::PerRead)) => {
                    io::Error::new(ErrorKind::TimedOut, format!("no byte came for {:?}", self.silence))
                }
                Some(ureq::Error::Timeout(_)) => io::Error::new(ErrorKind::TimedOut, "the time for it is over"),
                Some(other) => io::Error::other(short(&other.to_string())),
                None if e.kind() == ErrorKind::UnexpectedEof => {
                    io::Error::new(ErrorKind::UnexpectedEof, "the connection was closed before the end")
                }
                None => e,
            }
        })
    }
}
