//! Forwarded ports: `[bind:]host:guest[/proto]`.

use super::problem::quoted;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

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

impl Protocol {
    /// `tcp` or `udp`.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

impl Port {
    /// Reads `[bind:]host:guest[/proto]`; `bind` defaults to 127.0.0.1, an IPv6 one stands in brackets. The error says
    /// what is wrong and how it is written. That a VM has no IPv6 bind is for the caller to check.
    pub fn parse(text: &str) -> Result<Port, String> {
        let (numbers, protocol) = match text.rsplit_once('/') {
            None => (text, Protocol::Tcp),
            Some((rest, "tcp")) => (rest, Protocol::Tcp),
            Some((rest, "udp")) => (rest, Protocol::Udp),
            Some((_, other)) => return Err(format!("{}: protocol is {}, not tcp or udp", quoted(text), quoted(other))),
        };
        let (bind, host, guest) = match numbers.rsplit_once(':') {
            None if number(numbers).is_ok() => {
                let udp = if protocol == Protocol::Udp { "/udp" } else { "" };
                return Err(format!(
                    "{} names one port; write \"{numbers}:{numbers}{udp}\" (host:guest)",
                    quoted(text)
                ));
            }
            None => return Err(format!("{} is not [bind:]host:guest[/proto], like \"8080:80\"", quoted(text))),
            Some((rest, guest)) => match rest.rsplit_once(':') {
                Some((bind, host)) => (Some(bind), host, guest),
                None => (None, rest, guest),
            },
        };
        let about = |reason: String| format!("{}: {reason}", quoted(text));
        let bind = match bind {
            None => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Some(bind) => address(bind).map_err(about)?,
        };
        let host = number(host).map_err(|e| about(format!("host port {e}")))?;
        let guest = number(guest).map_err(|e| about(format!("guest port {e}")))?;
        Ok(Port { bind, host, guest, protocol })
    }

    /// Whether the node cannot listen for both: same protocol and port, and the same address or one of them all.
    /// IPv4 and IPv6 don't meet: nothing of ours listens on both with one socket.
    pub fn clashes(&self, other: &Port) -> bool {
        self.protocol == other.protocol
            && self.host == other.host
            && self.bind.is_ipv4() == other.bind.is_ipv4()
            && (self.bind == other.bind || self.bind.is_unspecified() || other.bind.is_unspecified())
    }

    /// The node's side as a socket address.
    pub fn host_addr(&self) -> SocketAddr {
        SocketAddr::new(self.bind, self.host)
    }

    /// Both sides, as people know it: `127.0.0.1:8443->8443/tcp`.
    pub fn forwarding(&self) -> String {
        format!("{}->{}/{}", self.host_addr(), self.guest, self.protocol.name())
    }
}

/// As [`Port::parse`] reads it.
impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host_addr(), self.guest)?;
        if self.protocol == Protocol::Udp { f.write_str("/udp") } else { Ok(()) }
    }
}

fn address(text: &str) -> Result<IpAddr, String> {
    let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    let parsed = inner.unwrap_or(text).parse::<IpAddr>();
    match parsed {
        Ok(IpAddr::V6(a)) if inner.is_none() => Err(format!("an IPv6 address stands in brackets: [{a}]")),
        Ok(IpAddr::V4(_)) if inner.is_some() => Err("only an IPv6 address stands in brackets".into()),
        Ok(a) if a.is_multicast() || a == IpAddr::V4(Ipv4Addr::BROADCAST) => {
            Err(format!("{a} is not an address to listen on"))
        }
        Ok(a) => Ok(a),
        Err(_) if text == "localhost" => Err("bind is an IP address: 127.0.0.1, not localhost".into()),
        Err(_) if text == "*" || text.is_empty() => Err("for all addresses write 0.0.0.0".into()),
        Err(_) => Err(format!("bind address {} is not an IP address", quoted(text))),
    }
}

fn number(text: &str) -> Result<u16, String> {
    if text.contains('-') && text.bytes().all(|b| b.is_ascii_digit() || b == b'-') {
        return Err(format!("{} is a range; write one entry for each port", quoted(text)));
    }
    // Rust's own parser would take "+80".
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("{} is not a number", quoted(text)));
    }
    match text.parse::<u16>() {
        Ok(n) if n > 0 => Ok(n),
        _ => Err(format!("{} is not 1 to 65535", quoted(text))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn ports_there_and_back() {
        for (text, full) in [
            ("8080:80", "127.0.0.1:8080:80"),
            ("0.0.0.0:1:65535/tcp", "0.0.0.0:1:65535"),
            ("5353:53/udp", "127.0.0.1:5353:53/udp"),
            ("[::1]:8443:443", "[::1]:8443:443"),
        ] {
            let port = Port::parse(text).unwrap();
            assert_eq!(port.to_string(), full);
            assert_eq!(Port::parse(full).unwrap(), port);
        }
    }

    #[test]
    fn mistakes_are_told_apart() {
        for (text, told) in [
            ("8080", "names one port; write \"8080:8080\""),
            ("8080/udp", "names one port; write \"8080:8080/udp\""),
            ("", "is not [bind:]host:guest"),
            ("x", "is not [bind:]host:guest"),
            ("0:80", "host port \"0\" is not 1 to 65535"),
            ("80:65536", "guest port \"65536\" is not 1 to 65535"),
            ("+80:80", "host port \"+80\" is not a number"),
            ("80: 80", "guest port \" 80\" is not a number"),
            ("8000-8001:80", "is a range"),
            ("80:80/sctp", "protocol is \"sctp\""),
            ("80:80/TCP", "protocol is \"TCP\""),
            ("localhost:80:80", "127.0.0.1, not localhost"),
            ("*:80:80", "write 0.0.0.0"),
            (":80:80", "write 0.0.0.0"),
            ("::1:80:80", "in brackets: [::1]"),
            ("[127.0.0.1]:80:80", "only an IPv6"),
            ("224.0.0.1:80:80", "not an address to listen on"),
            ("example.org:80:80", "is not an IP address"),
            ("1:2:3:4:5", "is not an IP address"),
        ] {
            let error = Port::parse(text).unwrap_err();
            assert!(error.contains(told), "{text:?}: {error}");
        }
    }

    #[test]
    fn clashes_see_the_wildcard_and_the_protocol() {
        let port = |t: &str| Port::parse(t).unwrap();
        assert!(port("80:1").clashes(&port("80:2")));
        assert!(port("0.0.0.0:80:1").clashes(&port("80:2")));
        assert!(!port("127.0.0.2:80:1").clashes(&port("80:2")));
        assert!(!port("80:1/udp").clashes(&port("80:2")));
        assert!(!port("[::]:80:1").clashes(&port("0.0.0.0:80:2")));
        assert!(port("[::]:80:1").clashes(&port("[::1]:80:2")));
    }

    #[test]
    fn ports_as_people_know_them() {
        let p = Port { bind: std::net::Ipv6Addr::LOCALHOST.into(), host: 53, guest: 5353, protocol: Protocol::Udp };
        assert_eq!(p.forwarding(), "[::1]:53->5353/udp");
    }
}
