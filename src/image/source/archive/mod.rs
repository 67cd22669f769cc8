//! `docker-archive:FILE`: a tar as `podman save` and `docker save` make it, with a `manifest.json`, or with an OCI
//! layout as newer ones do. It is read where it lies; standard input is spooled first.
//!
//! A layout has its manifest. The older kind has none: one is made here, the same bytes for the same archive, with the
//! digests that the layers turn out to have.

mod entries;
mod spool;
#[cfg(test)]
mod tests;

use super::layout::{self, Version};
use super::{Blob, Source};
use crate::image::limits::{DOCUMENT_MAX, LAYERS_MAX};
use crate::image::oci::{Descriptor, Document, OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST};
use crate::model::{Digest, Reference};
use crate::sys::paths::Paths;
use crate::sys::{Deadline, Error, Result};
use entries::{Entries, Part};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of a `manifest.json`: names of [`LAYERS_MAX`] layers, and many tags.
const SAVED_MAX: u64 = 256 << 10;

/// Bytes that are hashed at once.
const CHUNK: usize = 256 << 10;

/// An image in an archive.
#[derive(Clone)]
pub(super) struct Archive {
    object: String,
    /// `None`: standard input.
    path: Option<PathBuf>,
    paths: Paths,
    open: Option<Arc<Open>>,
}

/// An archive whose headers have been read.
struct Open {
    file: Arc<File>,
    entries: Entries,
    /// What the archive has no name for: documents that were made, and parts by their digests.
    documents: HashMap<Digest, Vec<u8>>,
    parts: HashMap<Digest, Part>,
    top: Descriptor,
}

/// An image in `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    layers: Option<Vec<String>>,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
}

/// The manifest that is made.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Made<'a> {
    schema_version: u32,
    media_type: &'a str,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

impl Archive {
    pub fn new(path: Option<&Path>, paths: &Paths) -> Archive {
        let path = path.map(Path::to_path_buf);
        let object = Reference::Archive(path.clone()).to_string();
        Archive { object, path, paths: paths.clone(), open: None }
    }

    fn open(&mut self, deadline: Deadline) -> Result<&Open> {
        let made = match self.open.take() {
            Some(open) => open,
            None => {
                let file = spool::open(&self.object, self.path.as_deref(), &self.paths, deadline)?;
                Arc::new(Reading { object: &self.object, file, deadline }.all()?)
            }
        };
        Ok(self.open.insert(made))
    }

    fn missing(&self, digest: &Digest) -> Error {
        Error::refused(&self.object, format!("it names {digest}, which is not in it"))
    }
}

struct Reading<'a> {
    object: &'a str,
    file: File,
    deadline: Deadline,
}

impl Reading<'_> {
    fn refused<T>(&self, reason: impl Into<String>) -> Result<T> {
        Err(Error::refused(self.object, reason))
    }

    fn all(self) -> Result<Open> {
        let entries = Entries::scan(self.object, &self.file, self.deadline)?;
        let (mut documents, mut parts) = (HashMap::new(), HashMap::new());
        let index = entries.get("index.json").filter(|_| entries.get("oci-layout").is_some());
        let top = match (index, entries.get("manifest.json")) {
            (Some(index), _) => {
                let version = self.document(entries.get("oci-layout").unwrap_or(index), "oci-layout", 4096)?;
                Version::check(self.object, &version)?;
                let bytes = self.document(index, "index.json", DOCUMENT_MAX)?;
                let Document::Index(all) = Document::read(self.object, OCI_INDEX, &bytes)? else {
                    return self.refused("its index.json is no index");
                };
                match layout::choose(self.object, all, None)? {
                    Some(found) => found,
                    None => keep(&mut documents, OCI_INDEX, bytes),
                }
            }
            (None, Some(saved)) => {
                let saved = self.saved(&self.document(saved, "manifest.json", SAVED_MAX)?)?;
                let manifest = self.manifest(&entries, &saved, &mut parts)?;
                keep(&mut documents, OCI_MANIFEST, manifest)
            }
            (None, None) => {
                return self.refused("no archive of images: it has neither a manifest.json nor an index.json");
            }
        };
        Ok(Open { file: Arc::new(self.file), entries, documents, parts, top })
    }

    fn document(&self, part: Part, name: &str, limit: u64) -> Result<Vec<u8>> {
        if part.size > limit {
            return self.refused(format!("its {name} is larger than {limit} bytes"));
        }
        read(self.object, &self.file, part)
    }

    /// The one image of `manifest.json`.
    fn saved(&self, bytes: &[u8]) -> Result<Saved> {
        let damaged = || Error::refused(self.object, "its manifest.json is damaged");
        let mut all: Vec<Saved> = serde_json::from_slice(bytes).map_err(|_| damaged())?;
        match (all.pop(), all.is_empty()) {
            (Some(one), true) => Ok(one),
            (None, _) => self.refused("holds no image"),
            (Some(last), false) => {
                let name = last.repo_tags.and_then(|t| t.into_iter().next()).unwrap_or_else(|| "NAME".into());
                let name: String = name.chars().filter(|c| !c.is_control()).take(80).collect();
                self.refused(format!("holds {} images; save one alone: podman save {name}", all.len() + 1))
            }
        }
    }

    fn part(&self, entries: &Entries, name: &str) -> Result<Part> {
        let shown: String = name.chars().filter(|c| !c.is_control()).take(120).collect();
        let missing = || Error::refused(self.object, format!("its manifest.json names {shown}, which is not in it"));
        entries.get(name).ok_or_else(missing)
    }

    /// Makes a manifest for what was saved without one.
    fn manifest(&self, entries: &Entries, saved: &Saved, parts: &mut HashMap<Digest, Part>) -> Result<Vec<u8>> {
        let layers = saved.layers.as_deref().unwrap_or_default();
        if layers.len() > LAYERS_MAX {
            return self.refused(format!("its image has more than {LAYERS_MAX} layers"));
        }
        let part = self.part(entries, &saved.config)?;
        let config = self.document(part, "config", DOCUMENT_MAX)?;
        let config = described(OCI_CONFIG, Digest::of(&config), part.size);
        parts.insert(config.digest, part);
        let mut known: Vec<(Part, Descriptor)> = Vec::new();
        let mut all = Vec::new();
        for name in layers {
            let part = self.part(entries, name)?;
            // Layers that are the same are links to one file.
            let layer = match known.iter().find(|(k, _)| *k == part) {
                Some((_, layer)) => layer.clone(),
                None => {
                    let layer = self.layer(part)?;
                    parts.insert(layer.digest, part);
                    known.push((part, layer.clone()));
                    layer
                }
            };
            all.push(layer);
        }
        let made = Made { schema_version: 2, media_type: OCI_MANIFEST, config, layers: all };
        serde_json::to_vec(&made).or_else(|_| self.refused("its manifest can't be written"))
    }

    /// Reads a layer once, for its digest and for how it is packed.
    fn layer(&self, part: Part) -> Result<Descriptor> {
        let mut hasher = sha2::Sha256::new();
        let mut section = Section { file: &self.file, part };
        let mut buffer = vec![0; CHUNK];
        let mut packing = None;
        loop {
            if self.deadline.passed() {
                return Err(Error::busy(self.object, "reading it took too long"));
            }
            let n = section.read(&mut buffer).map_err(Error::os("read", self.object))?;
            let bytes = buffer.get(..n).unwrap_or_default();
            if n == 0 {
                break;
            }
            packing.get_or_insert(match bytes {
                [0x1f, 0x8b, ..] => "+gzip",
                [0x28, 0xb5, 0x2f, 0xfd, ..] => "+zstd",
                _ => "",
            });
            hasher.update(bytes);
        }
        let media_type = format!("{OCI_LAYER}{}", packing.unwrap_or_default());
        Ok(described(&media_type, Digest::finish(hasher), part.size))
    }
}

fn described(media_type: &str, digest: Digest, size: u64) -> Descriptor {
    Descriptor { media_type: media_type.into(), digest, size, platform: None, annotations: Default::default() }
}

fn keep(documents: &mut HashMap<Digest, Vec<u8>>, media_type: &str, bytes: Vec<u8>) -> Descriptor {
    let top = described(media_type, Digest::of(&bytes), bytes.len() as u64);
    documents.insert(top.digest, bytes);
    top
}

fn read(object: &str, file: &File, part: Part) -> Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(part.size).unwrap_or(0)];
    file.read_exact_at(&mut bytes, part.at).map_err(Error::os("read", object))?;
    Ok(bytes)
}

impl Open {
    fn part(&self, digest: &Digest) -> Option<Part> {
        self.parts.get(digest).copied().or_else(|| self.entries.get(&format!("blobs/sha256/{}", digest.hex())))
    }
}

/// Part of a file as a stream.
struct Section<F> {
    file: F,
    part: Part,
}

impl<F: AsFile> Read for Section<F> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.part.size).unwrap_or(usize::MAX).min(into.len());
        let n = self.file.file().read_at(into.get_mut(..most).unwrap_or_default(), self.part.at)?;
        if n == 0 && most > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive has become shorter"));
        }
        self.part = Part { at: self.part.at + n as u64, size: self.part.size - n as u64 };
        Ok(n)
    }
}

/// A file, borrowed or shared.
trait AsFile {
    fn file(&self) -> &File;
}

impl AsFile for &File {
    fn file(&self) -> &File {
        self
    }
}

impl AsFile for Arc<File> {
    fn file(&self) -> &File {
        self
    }
}

impl Source for Archive {
    fn resolve(&mut self, deadline: Deadline) -> Result<Descriptor> {
        Ok(self.open(deadline)?.top.clone())
    }

    fn document(&mut self, what: &Descriptor, deadline: Deadline) -> Result<Vec<u8>> {
        let object = self.object.clone();
        let open = self.open(deadline)?;
        if let Some(bytes) = open.documents.get(&what.digest) {
            return Ok(bytes.clone());
        }
        match open.part(&what.digest) {
            Some(part) if part.size <= DOCUMENT_MAX => read(&object, &open.file, part),
            Some(_) => Err(Error::refused(object, format!("{} is larger than {DOCUMENT_MAX} bytes", what.digest))),
            None => Err(self.missing(&what.digest)),
        }
    }

    fn blob(&mut self, what: &Descriptor, from: u64, deadline: Deadline) -> Result<Blob> {
        let object = self.object.clone();
        let open = self.open(deadline)?;
        let Some(part) = open.part(&what.digest) else { return Err(self.missing(&what.digest)) };
        if what.size != 0 && part.size != what.size {
            let reason = format!("{} has {} bytes, and its manifest says {}", what.digest, part.size, what.size);
            return Err(Error::refused(object, reason));
        }
        let from = from.min(part.size);
        let part = Part { at: part.at + from, size: part.size - from };
        Ok(Blob { from, reader: Box::new(Section { file: open.file.clone(), part }) })
    }

    fn again(&self) -> Option<Box<dyn Source + Send>> {
        // Before it has been read once, each would read all of it.
        self.open.is_some().then(|| Box::new(self.clone()) as _)
    }
}
