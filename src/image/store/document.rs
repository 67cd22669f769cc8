//! Manifests and configs, kept with the blobs: the same one is not asked for again.

use super::{SHORT_TURN, Store};
use crate::image::limits::DOCUMENT_MAX;
use crate::model::Digest;
use crate::sys::{Deadline, Error, Result, file};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

impl Store {
    /// The document, where it is there and whole. It is small: its digest is checked each time.
    pub fn document(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let bytes = match self.regular(&self.blob_path(digest))? {
            Some(_) => file::read_regular(&self.blob_path(digest), DOCUMENT_MAX)?,
            None => None,
        };
        Ok(bytes.filter(|b| Digest::of(b) == *digest))
    }

    /// Keeps a document whose digest was checked. As it is checked again at each use, the disk is not waited for.
    pub fn keep_document(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        let name = format!("document-{}", digest.hex());
        let lock = self.lock(&name, Deadline::after(SHORT_TURN))?;
        let temporary = self.paths.tmp().join(&name);
        let target = self.blob_path(digest);
        let write = || {
            let mut options = std::fs::OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
            options.open(&temporary)?.write_all(bytes)?;
            std::fs::rename(&temporary, &target)
        };
        let written = write().map_err(Error::path("write", &target));
        if written.is_err() {
            file::remove_if_there(&temporary)?;
        }
        lock.remove()?;
        written
    }
}
