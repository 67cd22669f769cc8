//! TLS over a [`Peer`]: the handshake, and its troubles in words.

use super::peer::Peer;
use super::trust::server_name;
use super::{Check, GrpcTrouble, Kind, Reason, Tls, TlsTrouble};
use crate::sys::Error;
use crate::sys::trust::{self, SelfSigned};
use rustls::{CertificateError, ClientConnection, StreamOwned};
use std::io::{self, ErrorKind};

/// A connection that speaks TLS.
pub(super) type TlsPeer<'a> = StreamOwned<ClientConnection, Peer<'a>>;

/// Makes the handshake.
pub(super) fn handshake<'a>(mut peer: Peer<'a>, check: &Check, tls: &Tls) -> Result<TlsPeer<'a>, Reason> {
    let broken = |e: Error| Reason::Broken(e.to_string());
    let config = check.trust.load(check, tls).map_err(broken)?;
    let name = server_name(check).map_err(broken)?;
    let mut session = ClientConnection::new(config, name).map_err(|e| Reason::Tls(TlsTrouble::Other(e.to_string())))?;
    while session.is_handshaking() {
        if let Err(e) = session.complete_io(&mut peer) {
            let reason = match e.kind() {
                ErrorKind::TimedOut => Reason::TimedOut("in the TLS handshake"),
                ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                    Reason::Tls(TlsTrouble::ClosedInHandshake)
                }
                _ if is_alert(&e, rustls::AlertDescription::NoApplicationProtocol) => no_http2(),
                _ => Reason::Tls(
                    trouble(&e, check).unwrap_or_else(|| TlsTrouble::Other(crate::sys::error::os_reason(&e))),
                ),
            };
            let reason = explain(reason, check);
            // A CA that was renewed is seen the next time.
            check.trust.forget();
            return Err(reason);
        }
    }
    if matches!(check.kind, Kind::Grpc(_)) && session.alpn_protocol() != Some(b"h2") {
        return Err(no_http2());
    }
    Ok(StreamOwned::new(session, peer))
}

/// What is behind a connection that came to nothing after the peer had asked who we are.
pub(super) fn explain(reason: Reason, check: &Check) -> Reason {
    let about_us =
        matches!(reason, Reason::Closed | Reason::Tls(TlsTrouble::ClosedInHandshake | TlsTrouble::NothingInCommon));
    let Some(tls) = check.tls.as_ref().filter(|_| about_us && check.trust.was_asked()) else { return reason };
    Reason::Tls(match tls.identity {
        None => TlsTrouble::WantsCertificate,
        Some(_) => TlsTrouble::RefusesCertificate("it closed the connection".into()),
    })
}

fn no_http2() -> Reason {
    Reason::Grpc(GrpcTrouble::NotHttp2("the peer does not offer it in the TLS handshake (ALPN h2)".into()))
}

fn is_alert(e: &io::Error, alert: rustls::AlertDescription) -> bool {
    let inner = e.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::AlertReceived(a)) if *a == alert)
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
            CertificateError::Other(other) if other.0.is::<SelfSigned>() => TlsTrouble::SelfSigned,
            other => TlsTrouble::Certificate(trust::certificate_fault(other).into()),
        },
        E::InvalidMessage(_) | E::InappropriateMessage { .. } | E::InappropriateHandshakeMessage { .. } => {
            TlsTrouble::NotTls
        }
        E::AlertReceived(Alert::CertificateRequired) => TlsTrouble::WantsCertificate,
        E::AlertReceived(alert) if trust::is_about_client(*alert) => {
            match check.tls.as_ref().and_then(|tls| tls.identity.as_ref()) {
                None => TlsTrouble::WantsCertificate,
                Some(_) => TlsTrouble::RefusesCertificate(trust::alert_words(*alert)),
            }
        }
        E::AlertReceived(Alert::ProtocolVersion | Alert::HandshakeFailure | Alert::InsufficientSecurity)
        | E::PeerIncompatible(_) => TlsTrouble::NothingInCommon,
        E::AlertReceived(alert) => TlsTrouble::Alert(trust::alert_words(*alert)),
        other => TlsTrouble::Other(short(&trust::tls_fault(other))),
    })
}

/// Printable and of bounded length: some of it comes from the peer.
fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(120).collect()
}
