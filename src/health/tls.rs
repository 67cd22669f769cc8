//! TLS over a [`Peer`]: whom we trust, the handshake, and its troubles in words.

use super::peer::Peer;
use super::{Check, Reason, Tls, TlsTrouble};
use crate::sys::{Error, Result, trust};
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// A connection that speaks TLS.
pub(super) type TlsPeer<'a> = StreamOwned<ClientConnection, Peer<'a>>;

/// What a check trusts, read once.
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
        let config = Arc::new(configure(&bundle(tls)?)?);
        *kept = Some(config.clone());
        Ok(config)
    }

    /// Reads the files anew next time: a CA that was renewed is then seen.
    pub fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn server_name(check: &Check) -> Result<ServerName<'static>> {
    let name = check.server_name();
    ServerName::try_from(name.to_string())
        .map_err(|_| Error::Usage { what: format!("{name:?}: not a name that a certificate can have") })
}

fn bundle(tls: &Tls) -> Result<PathBuf> {
    match &tls.ca {
        Some(ca) => Ok(ca.clone()),
        None => trust::system("--ca"),
    }
}

fn configure(file: &Path) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in trust::certificates(file)? {
        // A system's bundle may hold ancient ones that can't be used.
        let _ = roots.add(certificate);
    }
    if roots.is_empty() {
        return Err(Error::refused(file.display(), "no usable certificate in it; it must be PEM"));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::refused("TLS", e.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Makes the handshake.
pub(super) fn handshake<'a>(mut peer: Peer<'a>, check: &Check, tls: &Tls) -> std::result::Result<TlsPeer<'a>, Reason> {
    let broken = |e: Error| Reason::Broken(e.to_string());
    let mut config = check.trust.load(check, tls).map_err(broken)?;
    if check.kind == super::Kind::Tcp {
        // Whatever it speaks inside.
        Arc::make_mut(&mut config).alpn_protocols.clear();
    }
    let name = server_name(check).map_err(broken)?;
    let mut session = ClientConnection::new(config, name).map_err(|e| Reason::Tls(TlsTrouble::Other(e.to_string())))?;
    while session.is_handshaking() {
        if let Err(e) = session.complete_io(&mut peer) {
            check.trust.forget();
            return Err(match e.kind() {
                ErrorKind::TimedOut => Reason::TimedOut("in the TLS handshake"),
                ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                    Reason::Tls(TlsTrouble::ClosedInHandshake)
                }
                _ => Reason::Tls(
                    trouble(&e, check).unwrap_or_else(|| TlsTrouble::Other(crate::sys::error::os_reason(&e))),
                ),
            });
        }
    }
    Ok(StreamOwned::new(session, peer))
}

/// The TLS trouble inside an I/O error, if there is one.
pub(super) fn trouble(e: &io::Error, check: &Check) -> Option<TlsTrouble> {
    use rustls::{AlertDescription as Alert, Error as E};
    let e = e.get_ref()?.downcast_ref::<E>()?;
    Some(match e {
        E::InvalidCertificate(c) => match c {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => TlsTrouble::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => TlsTrouble::NotYetValid,
            CertificateError::UnknownIssuer => TlsTrouble::UnknownIssuer,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                TlsTrouble::WrongName(check.server_name().to_string())
            }
            CertificateError::BadSignature => TlsTrouble::Certificate("its signature is wrong".into()),
            CertificateError::Revoked => TlsTrouble::Certificate("revoked".into()),
            other if format!("{other:?}").contains("CaUsedAsEndEntity") => {
                TlsTrouble::Certificate("it is a CA's own; the server needs one that its CA has issued".into())
            }
            other => TlsTrouble::Certificate(short(&other.to_string())),
        },
        E::InvalidMessage(_) | E::InappropriateMessage { .. } | E::InappropriateHandshakeMessage { .. } => {
            TlsTrouble::NotTls
        }
        E::AlertReceived(Alert::CertificateRequired) => TlsTrouble::WantsCertificate,
        E::AlertReceived(Alert::ProtocolVersion | Alert::HandshakeFailure | Alert::InsufficientSecurity)
        | E::PeerIncompatible(_) => TlsTrouble::NothingInCommon,
        E::AlertReceived(alert) => TlsTrouble::Alert(short(&format!("{alert:?}"))),
        other => TlsTrouble::Other(short(&other.to_string())),
    })
}

/// Printable and of bounded length: some of it comes from the peer.
fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(120).collect()
}
