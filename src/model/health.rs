//! How to tell whether a component is healthy.

use super::{Component, Protocol};
use serde::{Deserialize, Serialize};
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
    /// Whether the check speaks TLS.
    pub tls: bool,
    /// Certificates to trust instead of the system's: a PEM file.
    pub ca: Option<PathBuf>,
    /// The name that the certificate must have.
    pub server_name: Option<String>,
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

impl Default for Health {
    fn default() -> Health {
        Health {
            kind: None,
            port: None,
            service: String::new(),
            path: "/".into(),
            tls: false,
            ca: None,
            server_name: None,
            interval: Duration::from_millis(500),
            timeout: Duration::from_secs(2),
            successes: 1,
            failures: 3,
        }
    }
}

impl Component {
    /// The check that applies: the component's own, with `stage`'s kind where it names none, and tcp where nobody
    /// names one. `None` when its kind is `none` or there is no tcp port to ask.
    pub fn effective_health(&self, stage: Option<HealthKind>) -> Option<Health> {
        let mut health = self.health.clone().unwrap_or_default();
        let kind = health.kind.or(stage).unwrap_or(HealthKind::Tcp);
        let port = health.port.or_else(|| self.ports.iter().find(|p| p.protocol == Protocol::Tcp).map(|p| p.guest))?;
        health.kind = Some(kind);
        health.port = Some(port);
        (kind != HealthKind::None).then_some(health)
    }

    /// Why the kind of check that a boot stage names can't be made of this component, which names none of its own: there
    /// is no tcp port to ask. `None`: it can. A stage's tcp, the default, only means that nothing is checked then.
    pub fn stage_trouble(&self, stage: HealthKind) -> Option<String> {
        let word = match stage {
            HealthKind::Http => "http",
            HealthKind::Grpc => "grpc",
            HealthKind::Tcp | HealthKind::None => return None,
        };
        let own = self.health.as_ref().is_some_and(|h| h.kind.is_some());
        (!own && self.effective_health(Some(stage)).is_none()).then(|| {
            format!(
                "its stage's health is \"{word}\", and there is no tcp port to ask: add one to ports, or set kind = \"none\" \
                 in its [components.health]"
            )
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::{Port, Runtime, Source};

    #[test]
    fn what_a_stage_asks_wants_a_port() {
        let mut component = Component::new("api", Runtime::Container, Source::Rootfs { rootfs: "/x".into() });
        let told = component.stage_trouble(HealthKind::Grpc).unwrap();
        assert!(told.starts_with("its stage's health is \"grpc\", and there is no tcp port to ask: "), "{told}");
        assert_eq!(component.stage_trouble(HealthKind::Tcp), None);
        component.ports = vec![Port::parse("5353:53/udp").unwrap()];
        assert!(component.stage_trouble(HealthKind::Http).is_some());
        component.health = Some(Health { kind: Some(HealthKind::None), ..Health::default() });
        assert_eq!(component.stage_trouble(HealthKind::Grpc), None);
        component.health = Some(Health { port: Some(50051), ..Health::default() });
        assert_eq!(component.stage_trouble(HealthKind::Grpc), None);
        component.health = None;
        component.ports.push(Port::parse("50051:50051").unwrap());
        assert_eq!(component.stage_trouble(HealthKind::Grpc), None);
    }
}
