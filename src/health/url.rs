//! Targets by URL: `tcp://HOST:PORT`, `http(s)://HOST[:PORT][/PATH]`, `grpc(s)://HOST:PORT[/SERVICE]`.

use super::Get;
use super::check::{Check, Kind, Tls};
use super::grpc::{self, Call};
use crate::sys::{Error, Result};
use std::net::Ipv6Addr;
use std::time::Duration;

impl Check {
    /// Reads a URL target; `None` when `text` is no URL (it is a name then). `tls` is used where the scheme asks for
    /// TLS.
    pub fn parse_url(text: &str, tls: &Tls, timeout: Duration) -> Result<Option<Check>> {
        let Some((scheme, rest)) = text.split_once("://") else { return Ok(None) };
        let wrong = |why: &str| Error::Usage { what: format!("{text:?}: {why}") };
        if !rest.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(wrong("only visible ASCII can stand in a URL; percent-encode the rest"));
        }
        let (secure, default_port) = match scheme {
            "tcp" => (false, None),
            "http" => (false, Some(80)),
            "https" => (true, Some(443)),
            "grpc" => (false, None),
            "grpcs" => (true, None),
            _ => return Err(wrong("unknown scheme; there are tcp://, http://, https://, grpc:// and grpcs://")),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(end);
        if authority.contains('@') {
            return Err(wrong("a user or password can't be given: others see the command line"));
        }
        let (host, port) = split_port(authority).ok_or_else(|| wrong("not HOST:PORT"))?;
        let port = match port {
            Some(digits) => digits
                .parse::<u16>()
                .ok()
                .filter(|p| *p > 0 && digits.bytes().all(|b| b.is_ascii_digit()))
                .ok_or_else(|| wrong("a port is 1 to 65535"))?,
            None => default_port.ok_or_else(|| wrong(&format!("the port is missing: {scheme}://HOST:PORT")))?,
        };
        let kind = match scheme {
            "tcp" if !matches!(tail, "" | "/") => return Err(wrong("a tcp check has no path")),
            "tcp" => Kind::Tcp,
            "grpc" | "grpcs" => Kind::Grpc(Call { service: service(tail).map_err(wrong)?, ..Call::default() }),
            _ => {
                // What follows # stays with the client.
                let tail = tail.split('#').next().unwrap_or_default();
                Kind::Http(Get::of(if tail.starts_with('/') { tail.to_string() } else { format!("/{tail}") }))
            }
        };
        let mut check = Check::new(kind, host, port, timeout);
        check.tls = secure.then(|| tls.clone());
        Ok(Some(check))
    }
}

/// The name of the service after the slash of a gRPC target.
fn service(tail: &str) -> std::result::Result<String, &'static str> {
    if tail.contains(['?', '#']) {
        return Err("a gRPC target has a service and nothing after it");
    }
    let name = grpc::percent_decoded(tail.strip_prefix('/').unwrap_or(tail).as_bytes());
    match String::from_utf8(name) {
        Ok(name) if name.len() <= grpc::SERVICE_MAX && !name.contains(char::is_control) => Ok(name),
        _ => Err("not the name of a gRPC service"),
    }
}

/// Host without brackets, and the digits after the colon.
fn split_port(authority: &str) -> Option<(&str, Option<&str>)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            (host, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':');
    (!host.is_empty() && host.len() <= 253 && host.bytes().all(plain)).then_some((host, port))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<Check>> {
        Check::parse_url(text, &Tls::default(), Duration::from_secs(2))
    }

    #[test]
    fn urls_that_are_read() {
        for (url, shown) in [
            ("tcp://127.0.0.1:80", "tcp 127.0.0.1:80"),
            ("tcp://[::1]:80/", "tcp [::1]:80"),
            ("http://example.org", "http example.org:80/"),
            ("http://example.org?x=1", "http example.org:80/?x=1"),
            ("http://example.org/a/b?c#d", "http example.org:80/a/b?c"),
            ("https://example.org", "https example.org:443/"),
            ("https://[fe80::1]:8443/healthz", "https [fe80::1]:8443/healthz"),
            ("grpc://localhost:50051", "grpc localhost:50051"),
            ("grpc://localhost:50051/", "grpc localhost:50051"),
            ("grpcs://[::1]:50051/a.B", "grpcs [::1]:50051/a.B"),
            ("grpc://h:1/a/%62%3f", "grpc h:1/a/b?"),
        ] {
            assert_eq!(parse(url).unwrap().unwrap().to_string(), shown, "{url}");
        }
    }

    #[test]
    fn names_are_not_urls() {
        assert!(parse("demo").unwrap().is_none());
        assert!(parse("demo/api").unwrap().is_none());
    }

    #[test]
    fn urls_that_are_refused() {
        for url in [
            "tcp://host",
            "tcp://:80",
            "tcp://host:0",
            "tcp://host:+1",
            "tcp://host:99999",
            "tcp://host:1:2",
            "tcp://host:80/path",
            "tcp://[::1",
            "tcp://[host]:80",
            "tcp://[::1]80",
            "http://",
            "http:///x",
            "http://user:secret@host/",
            "http://host/a b",
            "http://host/\r\nX: y",
            "http://hö.de/",
            "grpc://host",
            "grpc://host:1?x",
            "grpcs://host:1/a#b",
            "grpc://host:1/%00",
            "grpc://host:1/%ff",
            "ftp://host/",
            "://host",
        ] {
            assert!(matches!(parse(url), Err(Error::Usage { .. })), "{url}");
        }
    }
}
