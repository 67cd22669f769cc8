//! One GET, as little HTTP/1.1 as tells a healthy server (RFC 9112).

use super::check::authority;
use super::{Check, Get, Reason};
use std::io::{self, ErrorKind, Read, Write};

/// The status line and the header fields may have this many bytes in all.
const HEAD_MAX: usize = 64 << 10;
/// In this many bytes it shows whether it is HTTP at all.
const STATUS_LINE: usize = 16;
/// And this many fields.
const FIELDS_MAX: usize = 128;

const WAITING: Reason = Reason::TimedOut("waiting for the HTTP answer");

/// Sends the request and reads the answer's head. Gives the status if it is 2xx or 3xx.
pub(super) fn ask(stream: &mut (impl Read + Write), check: &Check, get: &Get) -> Result<u16, Reason> {
    // A peer that answers and closes before it has read the request makes this fail; its answer counts all the same.
    let sent = stream.write_all(request(check, get).as_bytes()).and_then(|()| stream.flush());
    let mut head = Vec::new();
    let mut skipped = 0;
    loop {
        let mut chunk = [0; 4096];
        let n = match stream.read(&mut chunk) {
            Ok(n) => n,
            // TLS without its closing alert.
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => 0,
            Err(e) => return Err(failed(&e, check)),
        };
        if n == 0 {
            return Err(match sent {
                _ if !head.is_empty() => Reason::NotHttp("closed in the middle of the header"),
                Err(e) => failed(&e, check),
                Ok(()) => Reason::Closed,
            });
        }
        head.extend_from_slice(&chunk[..n]);
        // Only a newline can complete it, so a peer that drips a long line doesn't have it read again and again.
        let news = chunk[..n].contains(&b'\n') || head.len() <= STATUS_LINE;
        while let Some((length, code, phrase)) = if news { parse(&head)? } else { None } {
            if !(100..200).contains(&code) {
                return match code {
                    200..400 => Ok(code),
                    _ => Err(Reason::HttpStatus { code, phrase }),
                };
            }
            // 100 Continue and the like come before the answer.
            skipped += length;
            head.drain(..length);
        }
        if head.len() + skipped > HEAD_MAX {
            return Err(Reason::NotHttp("a header of more than 64 KiB"));
        }
    }
}

fn request(check: &Check, get: &Get) -> String {
    let default = if check.tls.is_some() { 443 } else { 80 };
    let mut host = authority(check.server_name(), check.server_port());
    if check.server_port() == default {
        host.truncate(host.len() - format!(":{default}").len());
    }
    let (path, host) = (&get.path, get.host.as_ref().unwrap_or(&host));
    let mut request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n");
    let agent = format!("mcp-health/{}", env!("CARGO_PKG_VERSION"));
    let own = [("User-Agent", agent.as_str()), ("Accept", "*/*")];
    let given = |name: &str| get.headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
    let own = own.into_iter().filter(|(name, _)| !given(name));
    for (name, value) in own.chain(get.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()))) {
        request += &format!("{name}: {value}\r\n");
    }
    request + "Connection: close\r\n\r\n"
}

/// A whole head: its length, status and phrase; `None` while it is not whole.
fn parse(head: &[u8]) -> Result<Option<(usize, u16, String)>, Reason> {
    match head {
        [] => return Ok(None),
        // An alert or a handshake record.
        [0x15 | 0x16, ..] => return Err(Reason::NotHttp("the peer speaks TLS; use https")),
        _ => {}
    }
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut answer = httparse::Response::new(&mut fields);
    match answer.parse(head) {
        Ok(httparse::Status::Complete(length)) => {
            let phrase = answer.reason.unwrap_or_default().chars().filter(|c| !c.is_control()).take(60).collect();
            Ok(Some((length, answer.code.unwrap_or_default(), phrase)))
        }
        Ok(httparse::Status::Partial) => Ok(None),
        Err(httparse::Error::TooManyHeaders) => Err(Reason::NotHttp("more than 128 header fields")),
        Err(httparse::Error::Version | httparse::Error::Status) => Err(Reason::NotHttp("no HTTP/1 status line")),
        Err(_) => Err(Reason::NotHttp("damaged header")),
    }
}

fn failed(e: &io::Error, check: &Check) -> Reason {
    match e.kind() {
        ErrorKind::TimedOut => WAITING,
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => Reason::Closed,
        _ => match super::tls::trouble(e, check) {
            Some(trouble) => Reason::Tls(trouble),
            None => Reason::Broken(crate::sys::error::os_reason(e)),
        },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{Kind, Tls};
    use super::*;
    use std::io::Cursor;
    use std::time::Duration;

    /// A peer that has said it all and takes everything.
    struct Said(Cursor<Vec<u8>>);

    impl Read for Said {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            // In small pieces, so that every boundary is met.
            let n = buffer.len().min(3);
            self.0.read(&mut buffer[..n])
        }
    }

    impl Write for Said {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn check() -> Check {
        Check::new(Kind::Http(Get::of("/".into())), "h", 80, Duration::from_secs(1))
    }

    fn answer(said: &[u8]) -> Result<u16, Reason> {
        ask(&mut Said(Cursor::new(said.to_vec())), &check(), &Get::of("/".into()))
    }

    #[test]
    fn statuses() {
        assert_eq!(answer(b"HTTP/1.1 200 OK\r\n\r\n"), Ok(200));
        assert_eq!(answer(b"HTTP/1.0 301\r\nLocation: /x\r\n\r\nbody"), Ok(301));
        assert_eq!(answer(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n"), Ok(204));
        assert_eq!(
            answer(b"HTTP/1.1 503 Try Later\r\n\r\n"),
            Err(Reason::HttpStatus { code: 503, phrase: "Try Later".into() })
        );
        assert!(matches!(answer(b"HTTP/1.1 600 x\r\n\r\n"), Err(Reason::HttpStatus { code: 600, .. })));
    }

    #[test]
    fn what_is_not_http() {
        assert_eq!(answer(b""), Err(Reason::Closed));
        assert_eq!(answer(b"SSH-2.0-x\r\n"), Err(Reason::NotHttp("no HTTP/1 status line")));
        assert_eq!(answer(b"\x15\x03\x03\0\x02\x02F"), Err(Reason::NotHttp("the peer speaks TLS; use https")));
        assert_eq!(answer(b"HTTP/1.1 200 OK\r\nA: b"), Err(Reason::NotHttp("closed in the middle of the header")));
        let fields = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(200));
        assert_eq!(answer(fields.as_bytes()), Err(Reason::NotHttp("more than 128 header fields")));
        let endless = format!("HTTP/1.1 200 OK\r\nA: {}", "x".repeat(70_000));
        assert_eq!(answer(endless.as_bytes()), Err(Reason::NotHttp("a header of more than 64 KiB")));
        let hints = "HTTP/1.1 103 x\r\n\r\n".repeat(10_000);
        assert_eq!(answer(hints.as_bytes()), Err(Reason::NotHttp("a header of more than 64 KiB")));
    }

    #[test]
    fn header_fields_of_a_definition() {
        let get = Get {
            path: "/".into(),
            host: Some("shop.example".into()),
            headers: vec![("accept".into(), "text/html".into()), ("X-Token".into(), "a b".into())],
        };
        let agent = format!("User-Agent: mcp-health/{}", env!("CARGO_PKG_VERSION"));
        let lines =
            ["GET / HTTP/1.1", "Host: shop.example", &agent, "accept: text/html", "X-Token: a b", "Connection: close"];
        assert_eq!(request(&check(), &get), lines.join("\r\n") + "\r\n\r\n");
    }

    #[test]
    fn the_host_field() {
        let host = |check: &Check| request(check, &Get::of("/".into())).lines().nth(1).map(str::to_string);
        let mut check = check();
        assert_eq!(host(&check).as_deref(), Some("Host: h"));
        check.port = 8080;
        assert_eq!(host(&check).as_deref(), Some("Host: h:8080"));
        // A VM that is not ready is asked at another address; its server hears that of the definition.
        check.named = Some(("h2".into(), 80));
        assert_eq!(host(&check).as_deref(), Some("Host: h2"));
        check.named = None;
        check.host = "::1".into();
        assert_eq!(host(&check).as_deref(), Some("Host: [::1]:8080"));
        check.tls = Some(Tls { server_name: Some("api.example".into()), ..Tls::default() });
        check.port = 443;
        assert_eq!(host(&check).as_deref(), Some("Host: api.example"));
    }
}
