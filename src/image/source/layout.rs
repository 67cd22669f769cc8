//! `oci:DIR[:REF]`: an image layout (image-spec image-layout.md). The directory is the operator's, its JSON may be a
//! stranger's: nothing in it becomes a path but the hex digits of digests.

use super::{Blob, Source};
use crate::image::limits::DOCUMENT_MAX;
use crate::image::oci::{Descriptor, Document, OCI_INDEX, REF_NAME};
use crate::model::problem::quoted;
use crate::model::{Digest, Reference};
use crate::sys::{Deadline, Error, Result, file};
use serde::Deserialize;
use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// An image in an OCI directory.
#[derive(Clone)]
pub(super) struct Layout {
    object: String,
    dir: PathBuf,
    wanted: Option<String>,
    /// `index.json` itself, where it is the image's index.
    index: Option<(Digest, Vec<u8>)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Version {
    image_layout_version: String,
}

impl Version {
    /// Refuses an `oci-layout` of a version that is not known.
    pub fn check(object: &str, bytes: &[u8]) -> Result<()> {
        match serde_json::from_slice::<Version>(bytes) {
            Ok(v) if v.image_layout_version.starts_with("1.") => Ok(()),
            Ok(_) => Err(Error::refused(object, "an OCI layout of an unknown version")),
            Err(_) => Err(Error::refused(object, "no OCI layout: its oci-layout is damaged")),
        }
    }
}

impl Layout {
    pub fn new(dir: &Path, wanted: Option<&str>) -> Layout {
        let wanted = wanted.map(str::to_string);
        let object = Reference::Oci { dir: dir.to_path_buf(), reference: wanted.clone() }.to_string();
        Layout { object, dir: dir.to_path_buf(), wanted, index: None }
    }

    fn refused<T>(&self, reason: impl Into<String>) -> Result<T> {
        Err(Error::refused(&self.object, reason))
    }

    fn file(&self, name: &str, limit: u64) -> Result<Vec<u8>> {
        match file::read_regular(&self.dir.join(name), limit)? {
            Some(bytes) => Ok(bytes),
            None if self.dir.exists() => self.refused(format!("no OCI directory: it has no {name}")),
            None => self.refused("no such directory"),
        }
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.dir.join("blobs/sha256").join(digest.hex())
    }

    fn missing(&self, digest: &Digest) -> Error {
        Error::refused(&self.object, format!("it names {digest}, which is not in its blobs/sha256"))
    }
}

/// The entry of an index that `wanted` names, or the only one. `None`: the index itself is the image's, with an entry
/// for each machine.
pub(super) fn choose(object: &str, entries: Vec<Descriptor>, wanted: Option<&str>) -> Result<Option<Descriptor>> {
    let refused = |reason: String| Err(Error::refused(object, reason));
    let name = |d: &Descriptor| d.annotations.get(REF_NAME).cloned();
    let names = || {
        let mut all: Vec<String> = entries.iter().filter_map(name).map(|n| quoted(&n)).collect();
        all.dedup();
        let more = all.len().saturating_sub(8);
        all.truncate(8);
        if more > 0 { format!("{} and {more} more", all.join(", ")) } else { all.join(", ") }
    };
    let mut found = entries.iter().filter(|d| wanted.is_none_or(|w| name(d).as_deref() == Some(w)));
    let first = found.next();
    // One image under several names is one.
    let second = found.find(|d| first.is_some_and(|f| f.digest != d.digest));
    match (first, second) {
        (Some(one), None) => Ok(Some(one.clone())),
        (None, _) if entries.is_empty() => refused("holds no image".into()),
        (None, _) if names().is_empty() => {
            refused("its images have no names; leave out the one after the colon".into())
        }
        (None, _) => refused(format!("holds no image of that name, only {}", names())),
        (Some(_), Some(_)) if wanted.is_some() => refused("holds two images of that name".into()),
        (Some(_), Some(_)) if names().is_empty() => Ok(None),
        (Some(_), Some(_)) => refused(format!("holds several images; name one after a colon: {}", names())),
    }
}

impl Source for Layout {
    fn resolve(&mut self, _: Deadline) -> Result<Descriptor> {
        let version = self.file("oci-layout", 4096)?;
        Version::check(&self.object, &version)?;
        let bytes = self.file("index.json", DOCUMENT_MAX)?;
        let Document::Index(entries) = Document::read(&self.object, OCI_INDEX, &bytes)? else {
            return self.refused("its index.json is no index");
        };
        if let Some(found) = choose(&self.object, entries, self.wanted.as_deref())? {
            return Ok(found);
        }
        let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
        self.index = Some((digest, bytes));
        let media_type = OCI_INDEX.to_string();
        Ok(Descriptor { media_type, digest, size, platform: None, annotations: Default::default() })
    }

    fn document(&mut self, what: &Descriptor, _: Deadline) -> Result<Vec<u8>> {
        if let Some((_, bytes)) = self.index.as_ref().filter(|(digest, _)| *digest == what.digest) {
            return Ok(bytes.clone());
        }
        file::read_regular(&self.blob_path(&what.digest), DOCUMENT_MAX)?.ok_or_else(|| self.missing(&what.digest))
    }

    fn blob(&mut self, what: &Descriptor, from: u64, _: Deadline) -> Result<Blob> {
        let path = self.blob_path(&what.digest);
        // A pipe under that name is not waited for.
        let mut file = match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(self.missing(&what.digest)),
            Err(e) => return Err(Error::path("open", &path)(e)),
        };
        let about = file.metadata().map_err(Error::path("stat", &path))?;
        if !about.is_file() {
            return Err(Error::refused(path.display(), "not a regular file"));
        }
        if what.size != 0 && about.len() != what.size {
            let reason = format!("has {} bytes, and its manifest says {}", about.len(), what.size);
            return Err(Error::refused(path.display(), reason));
        }
        file.seek(SeekFrom::Start(from)).map_err(Error::path("seek in", &path))?;
        Ok(Blob { from, reader: Box::new(file) })
    }

    fn again(&self) -> Option<Box<dyn Source + Send>> {
        Some(Box::new(self.clone()))
    }
}
