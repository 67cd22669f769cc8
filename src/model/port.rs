//! Forwarded ports: `[bind:]host:guest[/proto]`.

use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

/// The transport of a forwarded port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// One forwarded port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Port {
    /// The node's address that is listened on.
    pub bind: IpAddr,
    /// The node's port.
    pub host: u16,
    /// The guest's port.
    pub guest: u16,
    /// The transport.
    pub protocol: Protocol,
}

impl Port {
    /// The node's side as a socket address.
    pub fn host_addr(&self) -> SocketAddr {
        SocketAddr::new(self.bind, self.host)
    }
}
