//! What a probe found, in words that tell the causes apart.

use super::GrpcTrouble;
use std::fmt;
use std::time::Duration;

/// The answer of one probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Healthy.
    Healthy {
        /// What was asked and what came back: `tcp 127.0.0.1:8080`, `http 127.0.0.1:8080/ 200`,
        /// `grpc 127.0.0.1:50051/a.B SERVING`.
        detail: String,
        /// How long the probe took.
        elapsed: Duration,
    },
    /// Not healthy, or not proven to be.
    Unhealthy(Reason),
}

impl Verdict {
    /// Whether it is a yes.
    pub fn is_healthy(&self) -> bool {
        matches!(self, Verdict::Healthy { .. })
    }
}

/// Why something is not healthy. Displays as a few words without the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Nobody listens.
    Refused,
    /// The deadline passed while doing this: `connecting`, `waiting for the HTTP answer`.
    TimedOut(&'static str),
    /// The name has no address.
    NoSuchName(String),
    /// The name could not be looked up; what the resolver said.
    NameService(String),
    /// No way there; what the kernel said.
    Unreachable(String),
    /// TLS did not come about.
    Tls(TlsTrouble),
    /// Something came back that is not HTTP; what is wrong with it.
    NotHttp(&'static str),
    /// An HTTP answer other than 2xx or 3xx.
    HttpStatus {
        /// The status code.
        code: u16,
        /// Its phrase, printable and short.
        phrase: String,
    },
    /// A gRPC server that is not healthy, or none.
    Grpc(GrpcTrouble),
    /// The peer closed or reset the connection and said nothing.
    Closed,
    /// Accepted by the port forward; the guest has not answered on this port of its.
    GuestSilent(u16),
    /// Accepted by the port forward; the guest refuses on this port of its.
    GuestRefuses(u16),
    /// Accepted by the port forward, and whether by the guest can't be found out, for this reason.
    Unproven(String),
    /// The guest answers, and its host ports open as soon as its supervisor has found it ready.
    NotOpen,
    /// There is nothing to ask.
    NotRunning,
    /// The check itself could not be made, for this reason.
    Broken(String),
    /// We were told to end.
    Cancelled,
}

/// What is wrong with TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsTrouble {
    /// The certificate's time is over.
    Expired,
    /// The certificate's time has not come.
    NotYetValid,
    /// Nobody that we trust has issued it.
    UnknownIssuer,
    /// It was issued by nobody but itself, and is not the one that is named.
    SelfSigned,
    /// It is for other names than this one.
    WrongName(String),
    /// What came back is not TLS.
    NotTls,
    /// The peer hung up in the handshake.
    ClosedInHandshake,
    /// The peer wants a certificate of ours.
    WantsCertificate,
    /// The peer refuses the certificate that we have, with this alert.
    RefusesCertificate(String),
    /// No version or cipher in common.
    NothingInCommon,
    /// The peer sent this alert.
    Alert(String),
    /// Something else is wrong with the certificate.
    Certificate(String),
    /// Something else.
    Other(String),
}

impl Reason {
    /// A stable name for programs.
    pub fn name(&self) -> &'static str {
        match self {
            Reason::Refused => "refused",
            Reason::TimedOut(_) => "timed-out",
            Reason::NoSuchName(_) => "no-such-name",
            Reason::NameService(_) => "name-service",
            Reason::Unreachable(_) => "unreachable",
            Reason::Tls(_) => "tls",
            Reason::NotHttp(_) => "not-http",
            Reason::HttpStatus { .. } => "http-status",
            Reason::Grpc(trouble) => trouble.name(),
            Reason::Closed => "closed",
            Reason::GuestSilent(_) => "guest-silent",
            Reason::GuestRefuses(_) => "guest-refuses",
            Reason::Unproven(_) => "unproven",
            Reason::NotOpen => "not-open",
            Reason::NotRunning => "not-running",
            Reason::Broken(_) => "broken",
            Reason::Cancelled => "cancelled",
        }
    }
}

const FORWARD: &str = "accepted by the port forward but not by the guest";

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Refused => f.write_str("connection refused"),
            Reason::TimedOut(doing) => write!(f, "timed out {doing}"),
            Reason::NoSuchName(name) => write!(f, "no such name: {name}"),
            Reason::NameService(why) => write!(f, "name lookup failed: {why}"),
            Reason::Unreachable(why) => write!(f, "unreachable: {why}"),
            Reason::Tls(trouble) => write!(f, "TLS: {trouble}"),
            Reason::NotHttp(what) => write!(f, "not HTTP: {what}"),
            Reason::HttpStatus { code, phrase } if phrase.is_empty() => write!(f, "HTTP status {code}"),
            Reason::HttpStatus { code, phrase } => write!(f, "HTTP status {code} {phrase}"),
            Reason::Grpc(trouble) => trouble.fmt(f),
            Reason::Closed => f.write_str("closed without an answer"),
            Reason::GuestSilent(port) => write!(f, "{FORWARD}: it does not answer on port {port} yet"),
            Reason::GuestRefuses(port) => write!(f, "{FORWARD}: it refuses on port {port}"),
            Reason::Unproven(why) => write!(f, "accepted by the port forward; whether by the guest is unknown: {why}"),
            Reason::NotOpen => f.write_str("starting: its ports open when its supervisor has found it ready"),
            Reason::NotRunning => f.write_str("not running"),
            Reason::Broken(why) => f.write_str(why),
            Reason::Cancelled => f.write_str("cancelled"),
        }
    }
}

impl fmt::Display for TlsTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsTrouble::Expired => f.write_str("certificate has expired"),
            TlsTrouble::NotYetValid => f.write_str("certificate is not valid yet"),
            TlsTrouble::UnknownIssuer => {
                f.write_str("certificate of an unknown issuer; name its CA (--ca, or ca in the definition)")
            }
            TlsTrouble::SelfSigned => f.write_str(
                "self-signed certificate that is not trusted; name it itself (--ca, or ca in the definition)",
            ),
            TlsTrouble::WrongName(name) => {
                write!(f, "certificate is not for {name}; name the right one (--server-name, or server_name)")
            }
            TlsTrouble::NotTls => f.write_str("the peer does not speak TLS"),
            TlsTrouble::ClosedInHandshake => f.write_str("closed in the handshake; does it speak TLS?"),
            TlsTrouble::WantsCertificate => {
                f.write_str("the peer wants a client certificate; give it one (--cert and --key)")
            }
            TlsTrouble::RefusesCertificate(alert) => {
                write!(f, "the peer refuses our client certificate: {alert}")
            }
            TlsTrouble::NothingInCommon => f.write_str("no protocol version or cipher in common"),
            TlsTrouble::Alert(what) => write!(f, "the peer sent the alert {what}"),
            TlsTrouble::Certificate(what) => write!(f, "bad certificate: {what}"),
            TlsTrouble::Other(what) => f.write_str(what),
        }
    }
}
