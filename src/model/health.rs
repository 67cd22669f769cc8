//! How to tell whether a component is healthy.

use super::{Component, Protocol};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// The kinds of health check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthKind {
    /// A TCP connection that the program itself accepts.
    Tcp,
    /// An HTTP GET answered with 2xx or 3xx.
    Http,
    /// `grpc.health.v1.Health/Check` answered with SERVING.
    Grpc,
    /// No check at all.
    None,
}

/// A component's `[components.health]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// What is asked; `None`: the stage's kind, else tcp.
    pub kind: Option<HealthKind>,
    /// A guest port; `None`: the first tcp one.
    pub port: Option<u16>,
    /// The gRPC service name; empty for the server as a whole.
    pub service: String,
    /// The HTTP path.
    pub path: String,
    /// HTTP and gRPC: the Host header, or `:authority`, instead of the address that is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// HTTP and gRPC: header fields to send along.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Whether the check speaks TLS.
    pub tls: bool,
    /// Whether the certificate must be good.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub tls_verify: bool,
    /// Certificates to trust instead of the system's: a PEM file.
    pub ca: Option<PathBuf>,
    /// The name that the certificate must have.
    pub server_name: Option<String>,
    /// What is shown to a server that wants a certificate: a PEM file. There is a key then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    /// Its private key: a PEM file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// Pause between checks.
    #[serde(with = "super::duration")]
    pub interval: Duration,
    /// How long one check may take.
    #[serde(with = "super::duration")]
    pub timeout: Duration,
    /// How many good ones in a row make it healthy.
    pub successes: u32,
    /// How many bad ones in a row make it unhealthy.
    pub failures: u32,
}

fn yes() -> bool {
    true
}

impl Default for Health {
    fn default() -> Health {
        Health {
            kind: None,
            port: None,
            service: String::new(),
            path: "/".into(),
            host: None,
            headers: BTreeMap::new(),
            tls: false,
            tls_verify: true,
            ca: None,
            server_name: None,
            cert: None,
            key: None,
            interval: Duration::from_millis(500),
            timeout: Duration::from_secs(2),
            successes: 1,
            failures: 3,
        }
    }
}

impl Component {
    /// The check that applies: the component's own, with `stage`'s kind where it names none, and tcp where nobody
    /// names one. `None` when its kind is `none`, there is no tcp port to ask or it is a one-shot.
    pub fn effective_health(&self, stage: Option<HealthKind>) -> Option<Health> {
        // Its end is the answer.
        if self.oneshot {
            return None;
        }
        let mut health = self.health.clone().unwrap_or_default();
        let kind = health.kind.or(stage).unwrap_or(HealthKind::Tcp);
        let port = health.port.or_else(|| self.ports.iter().find(|p| p.protocol == Protocol::Tcp).map(|p| p.guest))?;
        health.kind = Some(kind);
        health.port = Some(port);
        (kind != HealthKind::None).then_some(health)
    }
}
