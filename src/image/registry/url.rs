//! The part of a URL that matters here: which server, in the clear or not, and what of it.

use crate::sys::{Deadline, Error, Result};
use rustls::pki_types::ServerName;
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;
use ureq::http::Uri;

/// A server that has not answered the start of a handshake by then doesn't speak TLS.
const HELLO: Duration = Duration::from_secs(3);

/// A server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Server {
    /// Whether over TLS.
    pub https: bool,
    /// Lower case; an IPv6 address in brackets.
    pub host: String,
    /// The port, said or not.
    pub port: u16,
}

/// Something on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    /// The server.
    pub server: Server,
    /// From the first slash on, query included.
    pub path: String,
}

impl Server {
    /// From `HOST[:PORT]`.
    pub fn new(https: bool, text: &str) -> Option<Server> {
        let scheme = if https { "https" } else { "http" };
        Url::parse(&format!("{scheme}://{text}/")).map(|url| url.server)
    }

    /// `HOST[:PORT]`, as a config file names it.
    pub fn authority(&self) -> String {
        match (self.https, self.port) {
            (true, 443) | (false, 80) => self.host.clone(),
            _ => format!("{}:{}", self.host, self.port),
        }
    }

    /// Without the brackets of an IPv6 address.
    fn bare(&self) -> &str {
        self.host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(&self.host)
    }

    /// Whether nobody else can listen on the way.
    pub fn is_loopback(&self) -> bool {
        let ip = self.bare().parse::<IpAddr>();
        self.host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
    }

    /// Whether the server speaks TLS: the start of a handshake is answered in kind.
    pub fn speaks_tls(&self, deadline: Deadline) -> Result<bool> {
        let object = self.authority();
        let unreachable = |e: &std::io::Error| Error::busy(&object, crate::sys::error::os_reason(e));
        let deadline = deadline.min(Deadline::after(HELLO));
        let mut last = Error::busy(&object, "no such host");
        let addresses = (self.bare(), self.port).to_socket_addrs().map_err(|e| {
            log::debug!("{object}: {e}");
            Error::busy(&object, "no such host")
        })?;
        for address in addresses {
            // A timeout of zero is an error of its own kind.
            let left = deadline.left().max(Duration::from_millis(1));
            match TcpStream::connect_timeout(&address, left) {
                Ok(stream) => return Ok(hello(stream, self.bare(), deadline).unwrap_or(false)),
                Err(e) => last = unreachable(&e),
            }
        }
        Err(last)
    }
}

/// Says hello; `None`: no answer.
fn hello(mut stream: TcpStream, name: &str, deadline: Deadline) -> Option<bool> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    // Trusts nobody: it ends before there is anybody to trust.
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .ok()?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_string()).ok()?;
    let mut session = rustls::ClientConnection::new(Arc::new(config), name).ok()?;
    let mut bytes = Vec::new();
    session.write_tls(&mut bytes).ok()?;
    // For servers that wait for the end of a line: one that speaks TLS answers before it looks at this.
    bytes.extend_from_slice(b"\r\n\r\n");
    let left = Some(deadline.left().max(Duration::from_millis(1)));
    stream.set_write_timeout(left).ok()?;
    stream.set_read_timeout(left).ok()?;
    stream.write_all(&bytes).ok()?;
    let mut first = [0];
    loop {
        match stream.read(&mut first) {
            Ok(0) => return Some(false),
            // A handshake, or an alert about ours.
            Ok(_) => return Some(matches!(first, [0x15 | 0x16])),
            Err(e) if e.kind() == ErrorKind::Interrupted && !deadline.passed() => {}
            Err(_) => return None,
        }
    }
}

impl Url {
    /// Reads an absolute http or https URL without user or password.
    pub fn parse(text: &str) -> Option<Url> {
        let uri: Uri = text.parse().ok()?;
        let https = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let authority = uri.authority()?;
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return None;
        }
        let port = match authority.as_str().strip_prefix(authority.host())? {
            "" => None,
            port => Some(port.strip_prefix(':')?.parse::<u16>().ok().filter(|p| *p > 0)?),
        };
        let host = authority.host().to_ascii_lowercase();
        let path = uri.path_and_query().map_or("/", |p| p.as_str());
        let path = if path.starts_with('/') { path.to_string() } else { format!("/{path}") };
        let port = port.unwrap_or(if https { 443 } else { 80 });
        Some(Url { server: Server { https, host, port }, path })
    }

    /// Where a `Location` of this URL's answer leads.
    pub fn join(&self, location: &str) -> Option<Url> {
        let scheme = if self.server.https { "https" } else { "http" };
        if location.contains("://") && !location.starts_with('/') {
            return Url::parse(location);
        }
        if let Some(rest) = location.strip_prefix("//") {
            return Url::parse(&format!("{scheme}://{rest}"));
        }
        let path = self.path.split('?').next().unwrap_or_default();
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let path = match location.as_bytes().first() {
            Some(b'/') => location.to_string(),
            Some(b'?') => format!("{path}{location}"),
            _ => format!("{folder}/{location}"),
        };
        Url::parse(&format!("{scheme}://{}{path}", self.server.authority()))
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.server.https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.server.authority(), self.path)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_where_they_lead() {
        let url = Url::parse("https://Registry.example:5000/v2/a/blobs/x?y=1").unwrap();
        assert_eq!(url.to_string(), "https://registry.example:5000/v2/a/blobs/x?y=1");
        for (location, to) in [
            ("https://cdn.example/b?sig=z", "https://cdn.example/b?sig=z"),
            ("//cdn.example/b", "https://cdn.example/b"),
            ("/b?c", "https://registry.example:5000/b?c"),
            ("b", "https://registry.example:5000/v2/a/blobs/b"),
            ("?z", "https://registry.example:5000/v2/a/blobs/x?z"),
            ("/b?next=http://x", "https://registry.example:5000/b?next=http://x"),
            ("https://cdn.example:443", "https://cdn.example/"),
        ] {
            assert_eq!(url.join(location).map(|u| u.to_string()).as_deref(), Some(to));
        }
        for bad in ["file:///etc/passwd", "ftp://a/b", "https://u:p@a/b", "https://", "https://a:0/", "https://a:x/"] {
            assert_eq!(url.join(bad), None, "{bad}");
        }
    }

    #[test]
    fn loopback_is_known() {
        let loopback = |text: &str| Server::new(false, text).unwrap().is_loopback();
        assert!(loopback("localhost:5000") && loopback("127.1.2.3") && loopback("[::1]:5000"));
        assert!(!loopback("localhost.example") && !loopback("10.0.0.1:5000") && !loopback("[::2]"));
    }
}
