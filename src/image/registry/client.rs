//! HTTP to registries: redirects, retries and timeouts of our own, over ureq's connections.

use super::tls::{self, Tls};
use super::url::{Server, Url};
use super::words::{self, Failed};
use crate::model::node::RegistryServer;
use crate::sys::{Deadline, Error, Result};
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hasher};
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use ureq::http::{self, HeaderMap};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, TcpConnector};
use ureq::{Agent, Body};

/// Redirects of one request.
const REDIRECTS_MAX: usize = 10;
/// Headers of an answer, in bytes.
const HEADERS_MAX: usize = 64 << 10;
/// Bytes of an answer that reports an error.
const COMPLAINT_MAX: u64 = 64 << 10;
/// The longest pause that we make by ourselves.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// The longest that a server may ask for: beyond it, whoever waits should know.
const ASKED_MAX: Duration = Duration::from_secs(120);

/// A pause that people notice.
const NOTICED: Duration = Duration::from_secs(2);
/// How often a long pause is reported.
const SAID_EVERY: Duration = Duration::from_secs(30);

/// How long a client waits, and how often.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For a connection, TLS included.
    pub connect: Duration,
    /// Between two bytes.
    pub silence: Duration,
    /// Before the second try; it grows with each.
    pub pause: Duration,
    /// Tries of one request.
    pub tries: u32,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            connect: Duration::from_secs(10),
            silence: Duration::from_secs(30),
            pause: Duration::from_millis(250),
            tries: 5,
        }
    }
}

/// What agents differ in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Trust {
    https: bool,
    pub ca: Option<PathBuf>,
    /// Whether any certificate will do.
    pub any: bool,
    /// A client certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    direct: bool,
}

/// Connections, kept for the next request.
pub(super) struct Client {
    /// What it is for, for messages.
    image: String,
    registries: BTreeMap<String, RegistryServer>,
    agents: Mutex<HashMap<Trust, Agent>>,
    pub patience: Patience,
}

/// What is asked.
#[derive(Clone)]
pub(super) struct Request {
    pub method: http::Method,
    pub url: Url,
    pub headers: Vec<(&'static str, String)>,
    /// For this server only: it does not follow a redirect to another one.
    pub authorization: Option<String>,
    /// A form to send, for POST.
    pub form: Option<String>,
    /// Whether to try once only: there is somebody else to ask.
    pub hurry: bool,
}

/// What is answered.
pub(super) struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Body,
    /// The server that answered, after redirects.
    pub server: Server,
    /// The `Authorization` that was sent to it: no message repeats it.
    sent: Option<String>,
}

impl Answer {
    /// A header, where there is one and it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The bytes of its body as they come.
    pub fn reader(self, silence: Duration) -> impl Read + Send + 'static {
        words::Told { inner: self.body.into_reader(), silence }
    }

    /// The code and the message of an answer that reports an error.
    pub fn complaint(self, silence: Duration) -> (String, String) {
        let sent = self.sent.clone();
        let bytes = self.bytes("", COMPLAINT_MAX, silence).unwrap_or_default();
        words::complaint(&bytes, sent.as_deref())
    }

    /// The whole body, which is refused beyond `limit` bytes.
    pub fn bytes(self, object: &str, limit: u64, silence: Duration) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut reader = self.reader(silence).take(limit + 1);
        reader.read_to_end(&mut bytes).map_err(|e| Error::busy(object, e.to_string()))?;
        if bytes.len() as u64 > limit {
            return Err(Error::refused(object, format!("the answer is larger than {limit} bytes")));
        }
        Ok(bytes)
    }
}

impl Client {
    pub fn new(image: String, registries: BTreeMap<String, RegistryServer>, patience: Patience) -> Client {
        Client { image, registries, agents: Mutex::default(), patience }
    }

    /// What the node config says of a server.
    pub fn configured(&self, host: &str) -> Option<&RegistryServer> {
        self.registries.iter().find(|(key, _)| key.eq_ignore_ascii_case(host)).map(|(_, server)| server)
    }

    fn config(&self, server: &Server) -> Option<&RegistryServer> {
        let named = if server.host == super::DOCKER_SERVER { "docker.io".into() } else { server.authority() };
        self.configured(&named).or_else(|| self.configured(&format!("{}:{}", server.host, server.port)))
    }

    /// Whether `to` may be spoken to because `from` says so. In the clear only where that is allowed for `to` itself.
    pub fn may_lead(&self, from: &Server, to: &Server) -> bool {
        to.https || !from.https && from.is_loopback() && to.is_loopback() || self.config(to).is_some_and(|c| c.insecure)
    }

    /// Asks, follows redirects, and asks again where that may help: after 429, 500, 502, 503 and 504 and after trouble
    /// with the connection, with growing pauses or when the server says.
    pub fn send(&self, request: &Request, deadline: Deadline) -> Result<Answer> {
        let mut pause = self.patience.pause;
        let mut tries = if request.hurry { 1 } else { self.patience.tries };
        loop {
            let (error, asked, answer) = match self.follow(request, deadline) {
                Ok(answer) if matches!(answer.status, 429 | 500 | 502 | 503 | 504) => {
                    let after = retry_after(answer.header("retry-after"), SystemTime::now());
                    (words::status(&answer.server, answer.status, ""), after, Some(answer))
                }
                Ok(answer) => return Ok(answer),
                Err(Failed::Final(e)) => return Err(e),
                Err(Failed::Refused(e)) => {
                    // Nobody listens: it may be starting, but that is no reason to wait long.
                    tries = tries.min(3);
                    (e, None, None)
                }
                Err(Failed::Passing(e)) => (e, None, None),
            };
            tries = tries.saturating_sub(1);
            let wait = asked.unwrap_or(Duration::ZERO).max(jitter(pause));
            if tries == 0 || wait >= deadline.left() || wait > ASKED_MAX {
                let error = match answer {
                    Some(answer) => {
                        let (server, status) = (answer.server.clone(), answer.status);
                        words::status(&server, status, &self.complaint(request, answer, deadline).1)
                    }
                    None => error,
                };
                return Err(match asked {
                    Some(asked) => words::wait(error, asked),
                    None => error,
                });
            }
            rest(wait, &self.image, &error);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// The code and the message of an answer that reports an error. The answer to HEAD has no body: GET is sent for it.
    pub fn complaint(&self, request: &Request, answer: Answer, deadline: Deadline) -> (String, String) {
        let answer = match request.method {
            http::Method::HEAD => {
                let get = Request { method: http::Method::GET, ..request.clone() };
                match self.follow(&get, deadline) {
                    Ok(other) if other.status == answer.status => other,
                    _ => return Default::default(),
                }
            }
            _ => answer,
        };
        answer.complaint(self.patience.silence)
    }

    fn follow(&self, request: &Request, deadline: Deadline) -> std::result::Result<Answer, Failed> {
        let mut request = request.clone();
        for _ in 0..=REDIRECTS_MAX {
            let answer = self.once(&request, deadline)?;
            if !matches!(answer.status, 301 | 302 | 303 | 307 | 308) {
                return Ok(answer);
            }
            let here = &request.url.server;
            let refused = |reason: String| Failed::Final(Error::refused(here.authority(), reason));
            let Some(location) = answer.header("location") else {
                return Err(refused(format!("answers {} without saying where to", answer.status)));
            };
            let Some(to) = request.url.join(location) else {
                return Err(refused("redirects to what is no http or https address".into()));
            };
            if !self.may_lead(here, &to.server) {
                let to = to.server.authority();
                return Err(refused(format!(
                    "redirects to {to} without TLS; to allow that, set insecure = true in [registry.\"{to}\"]"
                )));
            }
            if to.server != *here {
                request.authorization = None;
            }
            if request.form.is_some() {
                return Err(refused("redirects what is sent to it".into()));
            }
            request.url = to;
        }
        let server = request.url.server.authority();
        Err(Failed::Final(Error::refused(server, format!("redirects more than {REDIRECTS_MAX} times"))))
    }

    fn once(&self, request: &Request, deadline: Deadline) -> std::result::Result<Answer, Failed> {
        let server = &request.url.server;
        let agent = self.agent(server).map_err(Failed::Final)?;
        let mut builder = http::Request::builder().method(request.method.clone()).uri(request.url.to_string());
        for (name, value) in &request.headers {
            builder = builder.header(*name, value);
        }
        if let Some(authorization) = &request.authorization {
            builder = builder.header("Authorization", authorization);
        }
        if deadline.passed() {
            return Err(Failed::Final(Error::busy(server.authority(), "the time for it is over")));
        }
        let built = |e: http::Error| {
            log::debug!("{e}");
            Failed::Final(Error::refused(server.authority(), "a request that can't be written"))
        };
        let left = Some(deadline.left());
        let ask = self.patience;
        let sent = match &request.form {
            Some(form) => {
                let builder = builder.header("Content-Type", "application/x-www-form-urlencoded");
                let request = builder.body(form.clone()).map_err(built)?;
                let request = agent.configure_request(request).timeout_global(left);
                let request = request.timeout_connect(Some(ask.connect)).timeout_per_read(Some(ask.silence));
                agent.run(request.build())
            }
            None => {
                let request = builder.body(()).map_err(built)?;
                let request = agent.configure_request(request).timeout_global(left);
                let request = request.timeout_connect(Some(ask.connect)).timeout_per_read(Some(ask.silence));
                agent.run(request.build())
            }
        };
        // Without the query, which is a signature where blobs are kept elsewhere.
        let path = request.url.path.split('?').next().unwrap_or_default();
        let response = match sent {
            Ok(response) => response,
            Err(e) => {
                log::debug!("{} {}{path}: {e}", request.method, server.authority());
                return Err(words::failed(server, e, &ask));
            }
        };
        log::debug!("{} {}{path}: {}", request.method, server.authority(), response.status().as_u16());
        let (parts, body) = response.into_parts();
        let (server, sent) = (server.clone(), request.authorization.clone());
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body, server, sent })
    }

    fn agent(&self, server: &Server) -> Result<Agent> {
        let direct = server.is_loopback();
        let said = self.config(server).filter(|_| server.https).cloned().unwrap_or_default();
        let identity = said.cert.zip(said.key);
        let trust = Trust { https: server.https, ca: said.ca, any: said.insecure, identity, direct };
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = agents.get(&trust) {
            return Ok(agent.clone());
        }
        if let Some(e) = words::unusable_proxy(server) {
            return Err(e);
        }
        let agent = agent(&trust)?;
        agents.insert(trust, agent.clone());
        Ok(agent)
    }
}

fn agent(trust: &Trust) -> Result<Agent> {
    let mut config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .max_response_header_size(HEADERS_MAX)
        .user_agent(concat!("mcp/", env!("CARGO_PKG_VERSION")))
        // A proxy on the way that packs what is packed would change the bytes.
        .accept_encoding("identity");
    if trust.direct {
        config = config.proxy(None);
    }
    // As ureq's own chain, but for TLS.
    let chain = ().chain(ConnectProxyConnector::default()).chain(TcpConnector::default());
    Ok(match trust.https {
        true => Agent::with_parts(config.build(), chain.chain(Tls(tls::configure(trust)?)), DefaultResolver::default()),
        false => Agent::with_parts(config.build(), chain, DefaultResolver::default()),
    })
}

/// Waits, and says so before it and every [`SAID_EVERY`], where the wait is one that people notice.
fn rest(wait: Duration, image: &str, error: &Error) {
    let level = if wait >= NOTICED { log::Level::Warn } else { log::Level::Info };
    let end = Deadline::after(wait);
    while !end.passed() {
        log::log!(level, "{image}: {error}; again in {:.1?}", end.left());
        std::thread::sleep(end.left().min(SAID_EVERY));
    }
}

/// A quarter more or less, so that those who were sent away together don't come back together.
fn jitter(pause: Duration) -> Duration {
    let random = std::hash::RandomState::new().build_hasher().finish() % 1024;
    pause.mul_f64(0.75 + random as f64 / 2048.0)
}

/// `Retry-After`: seconds, or a date as HTTP writes it (RFC 9110, 10.2.3).
fn retry_after(text: Option<&str>, now: SystemTime) -> Option<Duration> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let text = text?.trim();
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    let mut words = text.split_once(", ")?.1.split(' ');
    let (day, month, year, time) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let month = MONTHS.iter().position(|m| *m == month)? + 1;
    let at = humantime::parse_rfc3339(&format!("{year}-{month:02}-{day}T{time}Z")).ok()?;
    Some(at.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn when_to_come_back() {
        let now = humantime::parse_rfc3339("2015-10-21T07:27:30Z").unwrap();
        for (text, seconds) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Wed, 21 Oct 2015 07:28:00 GMT", Some(30)),
            ("Wed, 21 Oct 2014 07:28:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
            ("Wed, 99 Oct 2015 07:28:00 GMT", None),
            ("99999999999", None),
        ] {
            assert_eq!(retry_after(Some(text), now), seconds.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn in_the_clear_only_where_allowed() {
        let insecure = RegistryServer { insecure: true, ..RegistryServer::default() };
        let client =
            Client::new("a.b/c".into(), [("Open.example:80".to_string(), insecure)].into(), Patience::default());
        let server = |text: &str| Url::parse(text).unwrap().server;
        for (from, to, may) in [
            ("https://a.b", "https://127.0.0.1", true),
            ("https://a.b", "http://c.d", false),
            ("https://a.b", "http://localhost:5000", false),
            ("http://localhost:5000", "http://127.0.0.1:9000", true),
            ("http://localhost:5000", "http://c.d", false),
            ("https://a.b", "http://open.example", true),
        ] {
            assert_eq!(client.may_lead(&server(from), &server(to)), may, "{from} {to}");
        }
    }
}
