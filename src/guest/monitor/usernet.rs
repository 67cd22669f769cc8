//! QEMU's user-mode network, as the human monitor's `info usernet` shows it.
//!
//! The text is libslirp's (`slirp_connection_info`), one row a connection. A forwarded connection shows the address
//! that QEMU listens on as its source and the guest's as its destination; the client's is not in it, so whose it is
//! can be told only by the descriptor (see [`crate::guest::monitor::handshake`]).

use crate::model::Protocol;
use std::net::{Ipv4Addr, SocketAddrV4};

/// More rows than QEMU can have descriptors by default.
const ROWS_MAX: usize = 4096;

/// What state a row is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It listens for the node's clients.
    HostForward,
    /// The guest was sent a SYN and has not answered.
    SynSent,
    /// The guest has completed the connection, and may have closed its side since; the node's side is open.
    Connected,
    /// The node's side has closed its half; the guest may still send.
    HalfClosed,
    /// Both sides are closed.
    Closing,
    /// All else: a UDP flow.
    Other,
}

/// One connection, or one listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The transport. ICMP rows are left out.
    pub protocol: Protocol,
    /// How far it is.
    pub state: State,
    /// The descriptor in QEMU.
    pub fd: i32,
    /// Where it comes from. Of a forward: what QEMU listens on.
    pub source: SocketAddrV4,
    /// Where it goes to. Of a forward: the guest.
    pub destination: SocketAddrV4,
}

/// Reads the rows. Lines that are none are left out.
pub fn parse(text: &str) -> Vec<Row> {
    text.lines().filter_map(row).take(ROWS_MAX).collect()
}

/// The listener of the forward of the node's port `port`.
pub fn forward_of(rows: &[Row], protocol: Protocol, port: u16) -> Option<&Row> {
    rows.iter().find(|r| r.state == State::HostForward && r.protocol == protocol && r.source.port() == port)
}

fn row(line: &str) -> Option<Row> {
    // The state of a UDP flow has a blank in it: "UDP[12 sec]".
    let (kind, fields) = line.split_once(']')?;
    let (protocol, state) = kind.trim_start().split_once('[')?;
    let protocol = match protocol {
        "TCP" => Protocol::Tcp,
        "UDP" => Protocol::Udp,
        _ => return None,
    };
    let state = match (protocol, state) {
        (_, "HOST_FORWARD") => State::HostForward,
        (Protocol::Tcp, "SYN_SENT") => State::SynSent,
        (Protocol::Tcp, "ESTABLISHED" | "CLOSE_WAIT") => State::Connected,
        (Protocol::Tcp, "FIN_WAIT_1" | "FIN_WAIT_2") => State::HalfClosed,
        (Protocol::Tcp, "CLOSED" | "CLOSING" | "LAST_ACK" | "TIME_WAIT") => State::Closing,
        _ => State::Other,
    };
    let mut words = fields.split_whitespace();
    let fd = words.next()?.parse().ok()?;
    let mut address = || -> Option<SocketAddrV4> {
        let ip = match words.next()? {
            "*" => Ipv4Addr::UNSPECIFIED,
            ip => ip.parse().ok()?,
        };
        Some(SocketAddrV4::new(ip, words.next()?.parse().ok()?))
    };
    Some(Row { protocol, state, fd, source: address()?, destination: address()? })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Of QEMU 7.2.22 with a Nanos guest: forwards on one address and on all, a browser that waits, an abandoned try.
    const REAL: &str = include_str!("usernet.txt");

    #[test]
    fn real_text() {
        let rows = parse(REAL);
        let count = |s: State| rows.iter().filter(|r| r.state == s).count();
        assert_eq!(rows.len(), REAL.lines().filter(|l| l.contains("TCP[") || l.contains("UDP[")).count());
        assert_eq!(count(State::HostForward), 3);
        assert!(count(State::SynSent) >= 1 && count(State::Connected) >= 1);
        let tcp = forward_of(&rows, Protocol::Tcp, 18080).unwrap();
        assert_eq!(tcp.source, "127.0.0.1:18080".parse().unwrap());
        assert_eq!(tcp.destination, "10.0.2.15:8080".parse().unwrap());
        let everywhere = forward_of(&rows, Protocol::Tcp, 18081).unwrap();
        assert_eq!(everywhere.source, "0.0.0.0:18081".parse().unwrap());
        assert!(forward_of(&rows, Protocol::Udp, 18080).is_none());
        assert_eq!(forward_of(&rows, Protocol::Udp, 18053).unwrap().destination.port(), 53);
    }

    #[test]
    fn states() {
        let state = |name: &str| row(&format!("  {name}   13  127.0.0.1 1 10.0.2.15 2 0 0")).map(|r| r.state);
        assert_eq!(state("TCP[CLOSE_WAIT]"), Some(State::Connected));
        assert_eq!(state("TCP[SYN_SENT]"), Some(State::SynSent));
        assert_eq!(state("TCP[CLOSED]"), Some(State::Closing));
        assert_eq!(state("TCP[TIME_WAIT]"), Some(State::Closing));
        assert_eq!(state("UDP[236 sec]"), Some(State::Other));
        assert_eq!(state("UDP[SYN_SENT]"), Some(State::Other));
        assert_eq!(state("ICMP[5 sec]"), None);
    }

    #[test]
    fn junk_gives_no_rows() {
        for text in ["", "]", "TCP[", "TCP[]", "TCP[X] a", "TCP[X] 1 2 3", "TCP[X] 99999999999 * 1 * 2", "\0]\n[\n"] {
            assert!(parse(text).is_empty(), "{text:?}");
        }
        for cut in 0..REAL.len() {
            parse(&REAL[..cut]);
        }
        assert_eq!(parse(&"TCP[X] 1 * 1 * 2\n".repeat(10_000)).len(), ROWS_MAX);
    }
}
