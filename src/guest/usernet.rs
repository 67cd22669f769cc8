//! QEMU's user-mode network, as `info usernet` shows it.

use std::net::{Ipv4Addr, SocketAddrV4};

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// `TCP` or `UDP`.
    pub protocol: String,
    /// `HOST_FORWARD`, `SYN_SENT`, `ESTABLISHED`, …
    pub state: String,
    /// QEMU's descriptor.
    pub fd: i32,
    /// Source.
    pub source: SocketAddrV4,
    /// Destination.
    pub dest: SocketAddrV4,
}

impl Row {
    /// Whether it is a forwarded port, not a connection.
    pub fn is_forward(&self) -> bool {
        self.state == "HOST_FORWARD"
    }
}

/// Reads the table.
pub fn parse(text: &str) -> Vec<Row> {
    let address = |host: &str, port: &str| {
        let host = if host == "*" { Ipv4Addr::UNSPECIFIED } else { host.parse().ok()? };
        Some(SocketAddrV4::new(host, port.parse().ok()?))
    };
    let row = |line: &str| {
        let mut words = line.split_whitespace();
        let (protocol, state) = words.next()?.strip_suffix(']')?.split_once('[')?;
        let fd = words.next()?.parse().ok()?;
        let source = address(words.next()?, words.next()?)?;
        let dest = address(words.next()?, words.next()?)?;
        Some(Row { protocol: protocol.into(), state: state.into(), fd, source, dest })
    };
    text.lines().filter_map(row).collect()
}
