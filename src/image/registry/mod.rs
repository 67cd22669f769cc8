//! Images in a registry (distribution-spec): mirrors first, then the registry itself, each with its own credentials.
//!
//! What comes is checked against its digest by whoever takes it, so that a mirror need not be trusted. A mirror that fails
//! in any way is not asked again by the same pull: nothing that it does keeps the registry from being asked.

mod challenge;
mod client;
mod credentials;
mod helper;
mod mirror;
mod place;
mod tls;
mod url;
mod words;

pub use client::Patience;

use crate::image::limits::DOCUMENT_MAX;
use crate::image::oci::{Descriptor, Document, OCI_MANIFEST, is_manifest};
use crate::image::source::{Blob, Source};
use crate::model::reference::Named;
use crate::model::{Digest, Node};
use crate::sys::{Deadline, Error, Result};
use client::{Answer, Client};
use place::{Ask, Place};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use ureq::http::Method;

/// Where docker.io is served.
const DOCKER_SERVER: &str = "registry-1.docker.io";

/// A manifest or a config that takes longer is on no way that a layer could come.
const DOCUMENT_LIMIT: Duration = Duration::from_secs(120);

/// What a mirror may take for a document.
const MIRROR_LIMIT: Duration = Duration::from_secs(20);

/// Times that a document is begun.
const DOCUMENT_TRIES: u32 = 3;

/// Whether nobody else can listen on the way to `HOST[:PORT]`.
pub fn is_loopback(host: &str) -> bool {
    url::Server::new(true, host).is_some_and(|server| server.is_loopback())
}

/// One image in a registry. Copies share connections and tokens.
#[derive(Clone)]
pub struct Registry(Arc<Shared>);

struct Shared {
    named: Named,
    client: Client,
    /// Asked first, in order.
    mirrors: Vec<Place>,
    registry: Place,
    /// A document that was fetched to know its digest.
    kept: Mutex<Option<(Digest, Vec<u8>)>>,
}

impl Registry {
    /// The image `named`, with what the node config says of its registry. Nothing is sent yet.
    pub fn new(named: &Named, node: &Node, patience: Patience) -> Registry {
        let client = Client::new(named.to_string(), node.registries.clone(), patience);
        let mirrors = client.configured(&named.host).map(|c| c.mirrors.clone()).unwrap_or_default();
        let mirrors = mirrors.iter().map(|mirror| Place::new(&client, named, mirror, true)).collect();
        let registry = Place::new(&client, named, &named.host, false);
        Registry(Arc::new(Shared { named: named.clone(), client, mirrors, registry, kept: Mutex::default() }))
    }

    /// Asks one place after the other until one has it. Half of what is left of the time is for a mirror, and no more than
    /// `limit`.
    fn anywhere<T>(
        &self,
        deadline: Deadline,
        limit: Duration,
        ask: impl Fn(&Place, Deadline) -> Result<T>,
    ) -> Result<T> {
        for mirror in self.0.mirrors.iter().filter(|mirror| !mirror.has_failed()) {
            match ask(mirror, Deadline::after(limit.min(deadline.left() / 2))) {
                Ok(answer) => return Ok(answer),
                Err(e) => mirror.fails(&e),
            }
        }
        ask(&self.0.registry, deadline).map_err(|e| self.0.registry.about(e))
    }

    /// The mirrors that give `manifest` and the first blobs that it names, in order, each `HOST[:PORT][/PATH]`: for podman,
    /// which would wait for a mirror that asks it to.
    pub fn good_mirrors(&self, manifest: Digest, deadline: Deadline) -> Vec<String> {
        let (media_type, annotations) = (OCI_MANIFEST.to_string(), Default::default());
        let what = Descriptor { media_type, digest: manifest, size: 0, platform: None, annotations };
        let gives = |mirror: &Place| -> Result<()> {
            let deadline = Deadline::after(MIRROR_LIMIT.min(deadline.left() / 2));
            let object = self.0.named.to_string();
            let bytes = self.document_at(mirror, &what, deadline)?;
            let Document::Manifest(parts) = Document::read(&object, "", &bytes)? else {
                return Err(Error::refused(object, "its manifest is an index"));
            };
            let layer = parts.layers.first().map(|(layer, _)| layer);
            [Some(&parts.config), layer]
                .into_iter()
                .flatten()
                .try_for_each(|blob| self.blob_at(mirror, blob, 0, deadline).map(drop))
        };
        let good = |mirror: &&Place| gives(mirror).map_err(|e| mirror.fails(&e)).is_ok();
        self.0.mirrors.iter().filter(good).map(|mirror| mirror.called().to_string()).collect()
    }

    fn tag(&self) -> &str {
        self.0.named.tag.as_deref().unwrap_or("latest")
    }

    fn resolve_at(&self, place: &Place, deadline: Deadline) -> Result<Descriptor> {
        let shared = &*self.0;
        let mut ask = Ask { method: Method::HEAD, kind: "manifests", what: self.tag(), accept: true, from: 0 };
        let answer = place.ask(&shared.client, &ask, deadline)?;
        let described = |answer: &Answer, digest: Digest, size: u64| Descriptor {
            // Of a server of mere files it says nothing.
            media_type: answer.header("content-type").filter(|t| is_manifest(t)).unwrap_or_default().to_string(),
            digest,
            size,
            platform: None,
            annotations: Default::default(),
        };
        if answer.status == 200
            && let Some(digest) = answer.header("docker-content-digest").and_then(|d| Digest::parse(d.trim()).ok())
        {
            // Its length is nothing to go by: to HEAD some servers tell another.
            return Ok(described(&answer, digest, 0));
        }
        // Some servers know no HEAD, some no digest. And why there is nothing is only told to a GET.
        ask.method = Method::GET;
        let answer = place.ask(&shared.client, &ask, deadline)?;
        if answer.status != 200 {
            return Err(place.refusal(&shared.client, answer, &ask));
        }
        let mut found = described(&answer, Digest::of(b""), 0);
        let bytes = answer.bytes(&shared.named.to_string(), DOCUMENT_MAX, shared.client.patience.silence)?;
        if place.is_mirror() {
            // What is no manifest the registry may have better.
            Document::read(&shared.named.to_string(), &found.media_type, &bytes)?;
        }
        (found.digest, found.size) = (Digest::of(&bytes), bytes.len() as u64);
        *shared.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some((found.digest, bytes));
        Ok(found)
    }

    fn document_at(&self, place: &Place, what: &Descriptor, deadline: Deadline) -> Result<Vec<u8>> {
        let (client, object) = (&self.0.client, self.0.named.to_string());
        let digest = what.digest.to_string();
        // Of what has no type it is not known what it is: mostly a manifest, in some images the config.
        let untyped = what.media_type.is_empty();
        let kinds = match is_manifest(&what.media_type) {
            _ if untyped => &["manifests", "blobs"][..],
            true => &["manifests"],
            false => &["blobs"],
        };
        for kind in kinds {
            let ask = Ask { method: Method::GET, kind, what: &digest, accept: *kind == "manifests", from: 0 };
            let mut tries = 1;
            loop {
                let answer = place.ask(client, &ask, deadline)?;
                if answer.status == 404 && untyped {
                    break;
                }
                if answer.status != 200 {
                    return Err(place.refusal(client, answer, &ask));
                }
                lie(&object, what, length(&answer))?;
                match answer.bytes(&object, DOCUMENT_MAX, client.patience.silence) {
                    Ok(bytes) if place.is_mirror() && Digest::of(&bytes) != what.digest => {
                        return Err(Error::refused(&object, format!("what it has as {digest} is something else")));
                    }
                    Err(Error::Busy { .. }) if tries < DOCUMENT_TRIES && !deadline.passed() => tries += 1,
                    result => return result,
                }
            }
        }
        Err(Error::refused(object, format!("{} has no such manifest; push it, or name another", place.host())))
    }

    fn blob_at(&self, place: &Place, what: &Descriptor, from: u64, deadline: Deadline) -> Result<Blob> {
        let (client, object) = (&self.0.client, self.0.named.to_string());
        let digest = what.digest.to_string();
        // From the start where it can't be gone on with.
        let mut starts = vec![from, 0];
        starts.dedup();
        for from in &starts {
            let ask = Ask { method: Method::GET, kind: "blobs", what: &digest, accept: false, from: *from };
            let answer = place.ask(client, &ask, deadline)?;
            let first = match answer.status {
                200 => {
                    lie(&object, what, length(&answer))?;
                    0
                }
                206 if *from > 0 => match content_range(answer.header("content-range").unwrap_or_default()) {
                    Some((first, total)) if first == *from => {
                        lie(&object, what, total)?;
                        first
                    }
                    // Some other part: from the start, then.
                    _ => continue,
                },
                416 if *from > 0 => continue,
                _ => return Err(place.refusal(client, answer, &ask)),
            };
            return Ok(Blob { from: first, reader: Box::new(answer.reader(client.patience.silence)) });
        }
        Err(Error::busy(object, format!("{} does not give {digest}", place.host())))
    }
}

impl Source for Registry {
    fn resolve(&mut self, deadline: Deadline) -> Result<Descriptor> {
        if let Some(digest) = self.0.named.digest {
            let media_type = String::new();
            return Ok(Descriptor { media_type, digest, size: 0, platform: None, annotations: Default::default() });
        }
        let deadline = deadline.min(Deadline::after(DOCUMENT_LIMIT));
        self.anywhere(deadline, MIRROR_LIMIT, |place, deadline| self.resolve_at(place, deadline))
    }

    fn document(&mut self, what: &Descriptor, deadline: Deadline) -> Result<Vec<u8>> {
        let kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner).take_if(|(d, _)| *d == what.digest);
        if let Some((_, bytes)) = kept {
            return Ok(bytes);
        }
        let deadline = deadline.min(Deadline::after(DOCUMENT_LIMIT));
        self.anywhere(deadline, MIRROR_LIMIT, |place, deadline| self.document_at(place, what, deadline))
    }

    fn blob(&mut self, what: &Descriptor, from: u64, deadline: Deadline) -> Result<Blob> {
        self.anywhere(deadline, Duration::MAX, |place, deadline| {
            let blob = self.blob_at(place, what, from, deadline)?;
            let Some(mirror) = self.0.mirrors.iter().position(|mirror| std::ptr::eq(mirror, place)) else {
                return Ok(blob);
            };
            let rest = what.size.saturating_sub(blob.from);
            Ok(Blob { from: blob.from, reader: Box::new(mirror::Body::new(self.clone(), mirror, blob.reader, rest)) })
        })
    }

    fn distrust(&self) -> bool {
        let used = self.0.mirrors.iter().filter(|mirror| !mirror.has_failed());
        used.map(|mirror| mirror.fails(&Error::refused(&self.0.named, "what it gives is something else"))).count() > 0
    }

    fn again(&self) -> Option<Box<dyn Source + Send>> {
        Some(Box::new(self.clone()))
    }
}

/// Refuses a size that is not the one that a manifest gives, before anything is read.
fn lie(object: &str, what: &Descriptor, told: Option<u64>) -> Result<()> {
    match told {
        Some(told) if what.size != 0 && told != what.size => Err(Error::refused(
            object,
            format!("{} has {} bytes, and its server is about to send {told}", what.digest, what.size),
        )),
        _ => Ok(()),
    }
}

fn length(answer: &Answer) -> Option<u64> {
    answer.header("content-length")?.trim().parse().ok()
}

/// First byte and total of `bytes FIRST-LAST/TOTAL`.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.trim().parse::<u64>().ok()?, last.trim().parse::<u64>().ok()?);
    let total = if total == "*" { None } else { Some(total.trim().parse().ok()?) };
    // A part that ends early is no lie, but it is no rest either.
    (first <= last && total.is_none_or(|t| last.checked_add(1) == Some(t))).then_some((first, total))
}

#[cfg(test)]
mod tests {
    use super::content_range;

    #[test]
    fn ranges() {
        for (text, told) in [
            ("bytes 5-9/10", Some((5, Some(10)))),
            ("bytes 5-9/*", Some((5, None))),
            ("bytes 5-8/10", None),
            ("bytes 9-5/10", None),
            ("bytes 5-9/", None),
            ("items 5-9/10", None),
            ("bytes 5-18446744073709551615/10", None),
            ("", None),
        ] {
            assert_eq!(content_range(text), told, "{text}");
        }
    }
}
