//! What went wrong on the way to a registry, in words and by whether trying again may help. Nothing that was sent is
//! repeated in them.

use super::client::Patience;
use super::url::Server;
use crate::sys::Error;
use crate::sys::error::os_reason;
use crate::sys::trust::{self, SelfSigned};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::CertificateError;
use serde_json::Value;
use std::io::{self, ErrorKind, Read};
use std::time::Duration;
use ureq::Timeout;

/// Why there is no answer.
pub(super) enum Failed {
    /// Trying again is of no use, now at least.
    Final(Error),
    /// Nobody listens.
    Refused(Error),
    /// Trying again may help.
    Passing(Error),
}

/// No answer came.
pub(super) fn failed(server: &Server, e: ureq::Error, patience: &Patience) -> Failed {
    let busy = |reason: String| Error::busy(server.authority(), reason);
    match e {
        ureq::Error::Timeout(t @ (Timeout::Connect | Timeout::Resolve)) => {
            Failed::Passing(busy(format!("{}{}", timeout(t, patience), by_way_of(server))))
        }
        ureq::Error::Timeout(t) => Failed::Passing(busy(timeout(t, patience))),
        ureq::Error::HostNotFound => Failed::Final(busy(format!("no such host{}", by_way_of(server)))),
        ureq::Error::Rustls(e) => tls(server, &e),
        ureq::Error::Io(e) => match e.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(e) => tls(server, e),
            None if e.kind() == ErrorKind::ConnectionRefused => {
                Failed::Refused(busy(format!("{}{}", os_reason(&e), by_way_of(server))))
            }
            // The library's words for what the resolver says.
            None if e.raw_os_error().is_none() && e.to_string().contains("Name or service not known") => {
                Failed::Final(busy(format!("no such host{}", by_way_of(server))))
            }
            None if e.kind() == ErrorKind::UnexpectedEof => {
                Failed::Passing(busy("closed the connection without an answer".into()))
            }
            None => Failed::Passing(busy(os_reason(&e))),
        },
        ureq::Error::ConnectProxyFailed(told) => Failed::Final(refusal_of_proxy(server, &told)),
        ureq::Error::LargeResponseHeader(..) => {
            Failed::Final(Error::refused(server.authority(), "the headers of its answer are too large"))
        }
        ureq::Error::Protocol(_) => Failed::Final(busy("what it answers is not HTTP".into())),
        other => Failed::Final(busy(short(&other.to_string()))),
    }
}

/// The proxy that requests to `server` take by the environment.
pub(super) fn proxy(server: &Server) -> Option<ureq::Proxy> {
    let url = format!("https://{}/", server.authority()).parse().ok()?;
    ureq::Proxy::try_from_env().filter(|proxy| !server.is_loopback() && !proxy.is_no_proxy(&url))
}

/// `HOST:PORT`, without the credentials that may stand before it.
fn address(proxy: &ureq::Proxy) -> String {
    format!("{}:{}", proxy.host(), proxy.port())
}

/// The server that was really spoken to.
fn by_way_of(server: &Server) -> String {
    proxy(server)
        .map(|proxy| format!(" (by way of the proxy {} of the environment)", address(&proxy)))
        .unwrap_or_default()
}

/// A proxy that does not connect; `told` is ureq's sentence, in which the status stands.
fn refusal_of_proxy(server: &Server, told: &str) -> Error {
    let name = proxy(server).map_or_else(|| "the proxy".into(), |proxy| format!("the proxy {}", address(&proxy)));
    let status = told.split(|c: char| !c.is_ascii_digit()).find(|digits| digits.len() == 3);
    match status {
        Some("407") => {
            let reason = format!(
                "{name} answers 407: it wants a login; put it into the environment, as in \
                 https_proxy=http://USER:PASSWORD@HOST:PORT"
            );
            Error::refused(server.authority(), reason)
        }
        Some(status) => Error::busy(server.authority(), format!("{name} answers {status} instead of connecting to it")),
        None => Error::busy(server.authority(), format!("{name} does not answer")),
    }
}

/// The error of a proxy of the environment that can't be used.
pub(super) fn unusable_proxy(server: &Server) -> Option<Error> {
    use ureq::ProxyProtocol::{Http, Https};
    let proxy = proxy(server).filter(|proxy| !matches!(proxy.protocol(), Http | Https))?;
    let reason = format!(
        "the environment names {} as a SOCKS proxy, and only HTTP proxies are supported; set https_proxy to one, or \
         no_proxy={}",
        address(&proxy),
        server.host
    );
    Some(Error::refused(server.authority(), reason))
}

fn timeout(t: Timeout, patience: &Patience) -> String {
    match t {
        Timeout::PerRead => format!("silent for {:?}", patience.silence),
        Timeout::Connect | Timeout::Resolve => format!("no connection within {:?}", patience.connect),
        _ => "the time for it is over".into(),
    }
}

fn tls(server: &Server, e: &rustls::Error) -> Failed {
    let host = server.authority();
    let refused = |reason: &str| Failed::Final(Error::refused(&host, reason));
    match e {
        rustls::Error::InvalidCertificate(c) => match c {
            CertificateError::Other(other) if other.0.is::<SelfSigned>() => refused(&format!(
                "its certificate is self-signed, and this node does not trust it; name that certificate: ca in \
                 [registry.\"{host}\"]"
            )),
            // A bad signature: a CA of the same name, renewed or another.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => refused(&format!(
                "nobody whom this node trusts has issued its certificate; name its CA: ca in [registry.\"{host}\"]"
            )),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                refused("its certificate has expired")
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                refused("its certificate is not valid yet; is this node's clock right?")
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                refused("its certificate is for other names")
            }
            other => refused(&format!("its certificate is not good: {}", trust::certificate_fault(other))),
        },
        rustls::Error::InvalidMessage(_) => {
            refused(&format!("doesn't speak TLS; to use it without, set insecure = true in [registry.\"{host}\"]"))
        }
        rustls::Error::AlertReceived(alert) if trust::is_about_client(*alert) => refused(&format!(
            "wants a client certificate, or another one (alert {}); name it: cert and key in [registry.\"{host}\"]",
            trust::alert_words(*alert)
        )),
        other => refused(&format!("TLS: {}", short(&trust::tls_fault(other)))),
    }
}

/// The code and the message of the first error in an answer (distribution-spec, "Error codes"), or the message of a
/// server that has its own form. A message that repeats something of `sent`, the `Authorization` of the request, is left
/// out.
pub(super) fn complaint(answer: &[u8], sent: Option<&str>) -> (String, String) {
    let all: Value = serde_json::from_slice(answer).unwrap_or_default();
    let text = |path: &str| all.pointer(path).and_then(Value::as_str).map(str::trim).filter(|t| !t.is_empty());
    let places = ["/errors/0/message", "/message", "/error_description", "/details"];
    let message = places.iter().find_map(|place| text(place)).unwrap_or_default();
    let secret = sent.and_then(|s| s.split_once(' ')).map(|(_, secret)| secret).unwrap_or_default();
    let pair = STANDARD.decode(secret).ok().and_then(|pair| String::from_utf8(pair).ok());
    let password = pair.as_deref().and_then(|pair| pair.split_once(':')).map(|(_, password)| password);
    let is_told = [secret, password.unwrap_or_default()].iter().any(|s| !s.is_empty() && message.contains(s));
    let message = if is_told { String::new() } else { short(message) };
    (text("/errors/0/code").map(short).unwrap_or_default(), message)
}

/// What a server says, for the end of a sentence: ` ("…")`, or nothing.
pub(super) fn in_brackets(told: &str) -> String {
    if told.is_empty() { String::new() } else { format!(" (\"{told}\")") }
}

/// A status that is an answer to nothing that was asked; `told` is the server's message.
pub(super) fn status(server: &Server, status: u16, told: &str) -> Error {
    let more = in_brackets(told);
    let told = match status {
        429 => format!("answers 429: too many requests{more}"),
        500..=599 => format!("answers {status}: it has trouble of its own{more}"),
        _ => format!("answers {status}{more}"),
    };
    if status >= 500 || status == 429 {
        Error::busy(server.authority(), told)
    } else {
        Error::refused(server.authority(), told)
    }
}

/// `error`, with the pause that the server asks for.
pub(super) fn wait(error: Error, asked: Duration) -> Error {
    match error {
        Error::Busy { object, reason } => {
            Error::Busy { object, reason: format!("{reason}; it asks to wait {} s", asked.as_secs()) }
        }
        other => other,
    }
}

/// Printable and of bounded length: nothing that moves a cursor or turns the direction of writing.
pub(super) fn short(text: &str) -> String {
    let is_hidden =
        |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    let plain = text.chars().map(|c| if c.is_whitespace() { ' ' } else { c });
    plain.filter(|c| !c.is_control() && !is_hidden(*c)).take(160).collect()
}

/// A body whose errors are told in words.
pub(super) struct Told<R> {
    pub inner: R,
    pub silence: Duration,
}

impl<R: Read> Read for Told<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.inner.read(into).map_err(|e| {
            let ureq = e.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>());
            match ureq {
                Some(ureq::Error::Timeout(Timeout::PerRead)) => {
                    io::Error::new(ErrorKind::TimedOut, format!("no byte came for {:?}", self.silence))
                }
                Some(ureq::Error::Timeout(_)) => io::Error::new(ErrorKind::TimedOut, "the time for it is over"),
                Some(other) => io::Error::other(short(&other.to_string())),
                None if e.kind() == ErrorKind::UnexpectedEof => {
                    io::Error::new(ErrorKind::UnexpectedEof, "the connection was closed before the end")
                }
                None => e,
            }
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_servers_say_and_no_secret() {
        for (answer, sent, code, message) in [
            (r#"{"errors":[{"code":"DENIED","message":"no quota"}]}"#, None, "DENIED", "no quota"),
            (r#"{"message":"403 Forbidden"}"#, None, "", "403 Forbidden"),
            (r#"{"errors":[{"code":7,"message":["x"]}],"details":" try later\u202e "}"#, None, "", "try later"),
            (r#"{"errors":[{"code":"DENIED","message":"me:pass"}]}"#, Some("Basic bWU6cGFzcw=="), "DENIED", ""),
            (r#"{"errors":[{"message":"bad token abc"}]}"#, Some("Bearer abc"), "", ""),
            ("<html>", None, "", ""),
            ("", Some("Basic"), "", ""),
        ] {
            assert_eq!(complaint(answer.as_bytes(), sent), (code.to_string(), message.to_string()), "{answer}");
        }
    }

    #[test]
    fn what_went_wrong() {
        let server = Server::new(true, "a.example:5000").unwrap();
        let patience = Patience::default();
        let of = |e: ureq::Error| match failed(&server, e, &patience) {
            Failed::Final(e) => (0, e),
            Failed::Refused(e) => (1, e),
            Failed::Passing(e) => (2, e),
        };
        let certificate = |c| ureq::Error::Rustls(rustls::Error::InvalidCertificate(c));
        let reset = io::Error::from_raw_os_error(libc::ECONNRESET);
        let nowhere = io::Error::other("failed to lookup address information: Name or service not known");
        let inside =
            io::Error::new(ErrorKind::InvalidData, rustls::Error::InvalidCertificate(CertificateError::Expired));
        for (error, kind, code, words) in [
            (ureq::Error::Io(reset), 2, 111, "Connection reset by peer"),
            (ureq::Error::Io(nowhere), 0, 111, "no such host"),
            (ureq::Error::Io(inside), 0, 100, "has expired"),
            (ureq::Error::Io(ErrorKind::UnexpectedEof.into()), 2, 111, "closed the connection without an answer"),
            (ureq::Error::Timeout(Timeout::PerRead), 2, 111, "silent for 30s"),
            (ureq::Error::Timeout(Timeout::Connect), 2, 111, "no connection within 10s"),
            (ureq::Error::Timeout(Timeout::Global), 2, 111, "the time for it is over"),
            (certificate(CertificateError::NotValidForName), 0, 100, "for other names"),
            (certificate(CertificateError::UnknownIssuer), 0, 100, "ca in [registry.\"a.example:5000\"]"),
            (certificate(CertificateError::NotValidYet), 0, 100, "clock"),
        ] {
            let (got, error) = of(error);
            let told = error.to_string();
            assert!(told.contains(words) && told.starts_with("a.example:5000: "), "{told}");
            assert_eq!((got, error.exit_code()), (kind, code), "{told}");
        }
    }
}
