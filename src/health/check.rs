//! What is asked of whom.

use super::trust::Trust;
use super::{Call, Metadata};
use crate::model::{Health, HealthKind};
use crate::sys::{Error, Result};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// What counts as healthy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A connection (and a TLS handshake, where TLS is asked for).
    Tcp,
    /// A GET answered with 2xx or 3xx.
    Http(Get),
    /// `grpc.health.v1.Health/Check` answered with SERVING.
    Grpc(Call),
}

/// One GET.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Get {
    /// Path and query, visible ASCII, starting with a slash.
    pub path: String,
    /// The Host header, visible ASCII; `None`: the host that is asked.
    pub host: Option<String>,
    /// Header fields to send along: a name, and a value of visible ASCII and spaces.
    pub headers: Vec<(String, String)>,
}

impl Get {
    /// One of `path` alone.
    pub fn of(path: String) -> Get {
        Get { path, host: None, headers: Vec::new() }
    }
}

/// How TLS is spoken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// Certificates to trust instead of the system's: a PEM file.
    pub ca: Option<PathBuf>,
    /// The name that the certificate must have; `None`: the host that is asked.
    pub server_name: Option<String>,
    /// Take any certificate, for any name.
    pub no_verify: bool,
    /// What we show a server that asks who we are.
    pub identity: Option<Identity>,
}

/// A certificate of ours. Both files are PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, and those that lead from it to its CA.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// One check.
#[derive(Debug)]
pub struct Check {
    /// What counts as healthy.
    pub kind: Kind,
    /// Name or address of the host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The guest's port, for words about a forwarded one.
    pub guest_port: u16,
    /// TLS, where it is spoken.
    pub tls: Option<Tls>,
    /// How long one probe may take in all.
    pub timeout: Duration,
    /// Whether the host ports are not open yet: then no answer of the guest makes it healthy to its clients.
    pub closed: bool,
    /// Host and port that the definition names, where the check connects to others: a server hears these, and its
    /// certificate must be for them.
    pub named: Option<(String, u16)>,
    pub(super) trust: Trust,
}

impl Check {
    /// A check without TLS.
    pub fn new(kind: Kind, host: &str, port: u16, timeout: Duration) -> Check {
        let (host, trust) = (host.to_string(), Trust::default());
        Check { kind, host, port, guest_port: port, tls: None, timeout, closed: false, named: None, trust }
    }

    /// The check that `health` asks for, of the node's address `at`. `object` is the component, for errors.
    /// `health` is what `Component::effective_health` gave: kind and port are filled in.
    pub fn of_health(object: &dyn fmt::Display, health: &Health, at: SocketAddr) -> Result<Check> {
        let kind = match health.kind.unwrap_or(HealthKind::Tcp) {
            HealthKind::Tcp => Kind::Tcp,
            HealthKind::Http if is_path(&health.path) => Kind::Http(Get {
                path: health.path.clone(),
                host: health.host.clone(),
                headers: health.headers.clone().into_iter().collect(),
            }),
            HealthKind::Http => {
                return Err(Error::refused(
                    object,
                    format!("health path {:?}: not a slash and visible ASCII after it", health.path),
                ));
            }
            HealthKind::Grpc => Kind::Grpc(Call {
                service: health.service.clone(),
                authority: health.host.clone(),
                metadata: metadata(object, &health.headers)?,
            }),
            HealthKind::None => return Err(Error::refused(object, "no check")),
        };
        // What listens everywhere is asked at home.
        let ip = match at.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
            ip => ip,
        };
        let mut check = Check::new(kind, &ip.to_string(), at.port(), health.timeout);
        check.guest_port = health.port.unwrap_or(at.port());
        check.tls = health.tls.then(|| Tls {
            ca: health.ca.clone(),
            server_name: health.server_name.clone(),
            identity: health.cert.clone().zip(health.key.clone()).map(|(cert, key)| Identity { cert, key }),
            no_verify: !health.tls_verify,
        });
        Ok(check)
    }

    /// Reads what the check needs from files (certificates), so that what is wrong there is an error now
    /// and not a verdict later.
    pub fn prepare(&self) -> Result<()> {
        match &self.tls {
            Some(tls) => self.trust.load(self, tls).map(drop),
            None => Ok(()),
        }
    }

    /// The name in the certificate and in the Host header.
    pub(super) fn server_name(&self) -> &str {
        let named = self.named.as_ref().map_or(self.host.as_str(), |(host, _)| host);
        self.tls.as_ref().and_then(|t| t.server_name.as_deref()).unwrap_or(named)
    }

    /// The port in the Host header.
    pub(super) fn server_port(&self) -> u16 {
        self.named.as_ref().map_or(self.port, |(_, port)| *port)
    }

    /// `HOST:PORT`, an IPv6 address in brackets.
    pub fn authority(&self) -> String {
        authority(&self.host, self.port)
    }
}

/// `HOST:PORT`, an IPv6 address in brackets.
pub(super) fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Header fields as gRPC sends them.
fn metadata(object: &dyn fmt::Display, headers: &BTreeMap<String, String>) -> Result<Vec<Metadata>> {
    let read = |(name, value): (&String, &String)| Metadata::parse(&format!("{name}: {value}"));
    let read: std::result::Result<_, String> = headers.iter().map(read).collect();
    read.map_err(|reason| Error::refused(object, format!("health headers: {reason}")))
}

/// Whether `path` can stand in a request line.
pub(super) fn is_path(path: &str) -> bool {
    path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic())
}

impl fmt::Display for Check {
    /// `tcp 127.0.0.1:8080`, `https example.org:443/healthz`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What people know is the address of the definition.
        let (host, port) = self.named.as_ref().map_or((self.host.as_str(), self.port), |(host, port)| (host, *port));
        let at = authority(host, port);
        match (&self.kind, &self.tls) {
            (Kind::Tcp, None) => write!(f, "tcp {at}"),
            (Kind::Tcp, Some(_)) => write!(f, "tls {at}"),
            (Kind::Http(get), None) => write!(f, "http {at}{}", get.path),
            (Kind::Http(get), Some(_)) => write!(f, "https {at}{}", get.path),
            (Kind::Grpc(call), tls) => {
                let (word, slash) =
                    (if tls.is_some() { "grpcs" } else { "grpc" }, if call.service.is_empty() { "" } else { "/" });
                write!(f, "{word} {at}{slash}{}", call.service)
            }
        }
    }
}
