//! One place that may have the image: the registry, or a mirror of it.

use super::challenge::{Asker, challenges};
use super::client::{Answer, Client, Request};
use super::credentials::{self, Credentials};
use super::url::{Server, Url};
use super::{DOCKER_SERVER, words};
use crate::image::oci::ACCEPT;
use crate::model::reference::Named;
use crate::sys::{Deadline, Error, Result};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use ureq::http::Method;

/// What is asked of a place.
pub(super) struct Ask<'a> {
    pub method: Method,
    /// `manifests` or `blobs`.
    pub kind: &'a str,
    /// A tag or a digest.
    pub what: &'a str,
    /// Whether to say what manifests are understood.
    pub accept: bool,
    /// The byte to begin with.
    pub from: u64,
}

/// A registry or a mirror.
pub(super) struct Place {
    /// The image, as this place has it.
    named: Named,
    /// `HOST[:PORT]`, of a mirror with its path, as the node config names it.
    called: String,
    mirror: bool,
    /// Whether it is not to be asked again.
    failed: AtomicBool,
    insecure: bool,
    /// Whether the node config names certificates.
    tls: bool,
    auth_file: Option<PathBuf>,
    /// Found out at the first request.
    server: Mutex<Option<Server>>,
    /// Read when they are first asked for.
    credentials: Mutex<Option<Option<Arc<Credentials>>>>,
    /// What the last challenge was answered with.
    authorization: Mutex<Option<String>>,
}

impl Place {
    /// `called` is `HOST[:PORT][/PATH]`; images are below the path.
    pub fn new(client: &Client, named: &Named, called: &str, mirror: bool) -> Place {
        let (host, name) = match called.split_once('/') {
            Some((host, path)) => (host, format!("{path}/{}", named.name)),
            None => (called, named.name.clone()),
        };
        let config = client.configured(host).cloned().unwrap_or_default();
        Place {
            named: Named { host: host.to_ascii_lowercase(), name, ..named.clone() },
            called: called.to_string(),
            mirror,
            failed: AtomicBool::new(false),
            insecure: config.insecure,
            tls: config.ca.is_some() || config.cert.is_some(),
            auth_file: config.auth_file,
            server: Mutex::default(),
            credentials: Mutex::default(),
            authorization: Mutex::default(),
        }
    }

    pub fn host(&self) -> &str {
        &self.named.host
    }

    /// As the node config names it.
    pub fn called(&self) -> &str {
        &self.called
    }

    /// Whether it is not to be asked again.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Notes that this mirror has failed of `error`, and warns of it once.
    pub fn fails(&self, error: &Error) {
        if !self.failed.swap(true, Ordering::Relaxed) {
            // Of one image once, though podman's pull asks after ours.
            static WARNED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
            let mut warned = WARNED.lock().unwrap_or_else(PoisonError::into_inner);
            let level = if warned.insert(self.named.to_string()) { log::Level::Warn } else { log::Level::Info };
            let (image, told) = (self.named.to_string(), error.to_string());
            let told = if told.contains(&image) { told } else { format!("{image}: {told}") };
            log::log!(level, "mirror {}: {told}; asking elsewhere", self.called);
        }
    }

    pub fn is_mirror(&self) -> bool {
        self.mirror
    }

    /// Whom to speak to, and whether over TLS: always, but for this machine itself and where the node config allows it
    /// otherwise. There it is tried first.
    fn server(&self, client: &Client, deadline: Deadline) -> Result<Server> {
        let mut known = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = &*known {
            return Ok(server.clone());
        }
        let host = if self.named.host == "docker.io" { DOCKER_SERVER } else { &self.named.host };
        let bad = || Error::refused(&self.named, "its host is no host");
        let https = Server::new(true, host).ok_or_else(bad)?;
        let plain = Server::new(false, host).ok_or_else(bad)?;
        let maybe_plain = !self.tls && (self.insecure || https.is_loopback());
        let tls = !maybe_plain || self.speaks_tls(client, &https, &plain, deadline)?;
        let server = if tls { https } else { plain };
        *known = Some(server.clone());
        Ok(server)
    }

    /// Asks more than once where nobody listens: it may be starting, and what it will speak is not known.
    fn speaks_tls(&self, client: &Client, https: &Server, plain: &Server, deadline: Deadline) -> Result<bool> {
        let mut pause = client.patience.pause;
        for left in (0..if self.mirror { 1 } else { 3 }).rev() {
            match https.speaks_tls(deadline) {
                Ok(speaks) => return Ok(speaks),
                // Without a port in its name it has two.
                Err(_) if plain.port != https.port => return Ok(false),
                Err(e) if left == 0 || pause >= deadline.left() => return Err(e),
                Err(e) => log::info!("{e}; again in {pause:.1?}"),
            }
            std::thread::sleep(pause);
            pause *= 2;
        }
        Ok(true)
    }

    fn credentials(&self, deadline: Deadline) -> Result<Option<Arc<Credentials>>> {
        let mut known = self.credentials.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &*known {
            return Ok(known.clone());
        }
        let found = credentials::find(&self.named, self.auth_file.as_deref(), deadline)?.map(Arc::new);
        *known = Some(found.clone());
        Ok(found)
    }

    /// Asks, with a login where that is wanted. The answer's status may be anything but 401.
    pub fn ask(&self, client: &Client, ask: &Ask<'_>, deadline: Deadline) -> Result<Answer> {
        let server = self.server(client, deadline)?;
        let path = format!("/v2/{}/{}/{}", self.named.name, ask.kind, ask.what);
        let mut headers = Vec::new();
        if ask.accept {
            headers.push(("Accept", ACCEPT.join(", ")));
        }
        if ask.from > 0 {
            headers.push(("Range", format!("bytes={}-", ask.from)));
        }
        let before = self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut request = Request {
            method: ask.method.clone(),
            url: Url { server: server.clone(), path },
            headers,
            authorization: before.clone(),
            form: None,
            // The next place is as good.
            hurry: self.mirror,
        };
        let answer = client.send(&request, deadline)?;
        if answer.status != 401 {
            return Ok(answer);
        }
        let credentials = self.credentials(deadline)?;
        let asker = Asker { client, named: &self.named, server: &server, credentials: credentials.as_deref() };
        if answer.server != server {
            return Err(Error::refused(&self.named, format!("{} wants a login of its own", answer.server.authority())));
        }
        let wanted = challenges(&answer.headers);
        drop(answer);
        let authorization = {
            let mut known = self.authorization.lock().unwrap_or_else(PoisonError::into_inner);
            match &*known {
                // Somebody else has got one meanwhile.
                Some(newer) if known.as_ref() != before.as_ref() => newer.clone(),
                _ => known.insert(asker.answer(&wanted, deadline)?).clone(),
            }
        };
        request.authorization = Some(authorization);
        let answer = client.send(&request, deadline)?;
        if answer.status == 401 {
            *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = None;
            let told = client.complaint(&request, answer, deadline).1;
            return Err(asker.login(&told));
        }
        Ok(answer)
    }

    /// The error, with the image in it and the server at fault.
    pub fn about(&self, error: Error) -> Error {
        let image = self.named.to_string();
        error.map_object(|object| match object.starts_with(&image) {
            true => object,
            false => format!("{image}: {object}"),
        })
    }

    /// The error that an answer to `ask` means which is not what was asked for.
    pub fn refusal(&self, client: &Client, answer: Answer, ask: &Ask<'_>) -> Error {
        let host = &self.named.host;
        let refused = |reason: String| Error::refused(&self.named, reason);
        let (status, server) = (answer.status, answer.server.clone());
        let known = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        // Registries keep blobs elsewhere. What is wrong there has nothing to do with the login.
        let away = known.as_ref().is_some_and(|registry| *registry != server);
        drop(known);
        let there = server.authority();
        let (code, told) = answer.complaint(client.patience.silence);
        let more = words::in_brackets(&told);
        match status {
            200..=299 => refused(format!("{there} answers {status}, which is no answer to what was asked")),
            _ if away && status < 500 && status != 429 => refused(format!(
                "{there}, to which {host} redirects, answers {status}{more}; try again, or push the image again"
            )),
            403 => {
                refused(format!("{host} denies access to it{more}; run podman login {host} as a user who may pull it"))
            }
            404 => {
                let what = match (code.as_str(), ask.kind) {
                    ("NAME_UNKNOWN", _) => "image",
                    (_, "blobs") => return refused(format!("{host} has no blob {}; push the image again", ask.what)),
                    ("MANIFEST_UNKNOWN", _) if ask.what.contains(':') => "manifest",
                    ("MANIFEST_UNKNOWN", _) => "tag",
                    _ => "image or tag",
                };
                refused(format!("{host} has no such {what}; push it, or name another"))
            }
            _ => self.about(words::status(&server, status, &told)),
        }
    }
}
