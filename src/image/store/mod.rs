//! The image store: blobs by digest, what is in layers, images and builds by key, what references were pulled as.
//!
//! What is made lies in `tmp/` under the name of the lock that its maker holds (`blob-HEX`, `image-KEY`), after a dot
//! what part of it. It gets its place by a rename once it is whole and on the disk. So whoever is killed leaves a lock
//! that nobody holds and a name in `tmp/` that says so: the next to open the store clears it. A blob that is half there
//! stays for a day, and the next pull goes on from it.

mod blob;
mod clean;
mod directory;
mod document;
mod named;
mod turn;

pub use blob::{BlobTurn, BlobWriter};
pub use directory::{Kind, Making};
pub use named::Named;

use crate::image::layer::index::{Trailer, peek};
use crate::image::oci::Layer;
use crate::model::Digest;
use crate::sys::lock::Lock;
use crate::sys::paths::{Paths, StorePaths};
use crate::sys::{Deadline, Error, Result, file};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, UtimensatFlags};
use nix::sys::time::TimeSpec;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How long the turn at a small file may take to come.
const SHORT_TURN: Duration = Duration::from_secs(30);

/// The image store of this node.
#[derive(Debug, Clone)]
pub struct Store {
    paths: StorePaths,
}

impl Store {
    /// Opens it to write: makes its folders (0700) and clears what killed processes left.
    pub fn open(paths: &Paths) -> Result<Store> {
        let store = Store::look(paths);
        let at = &store.paths;
        for dir in [at.blobs(), at.layers(), at.images(), at.builds(), at.refs(), at.locks(), at.tmp()] {
            file::create_dirs(&dir)?;
        }
        clean::clean(&store)?;
        Ok(store)
    }

    /// Opens it to read: makes and clears nothing. There may be none yet.
    pub fn look(paths: &Paths) -> Store {
        Store { paths: paths.store() }
    }

    /// Where its folders are.
    pub fn paths(&self) -> &StorePaths {
        &self.paths
    }

    /// The blob's file, where it is there with this size. Damage inside shows when it is unpacked: see
    /// [`Store::is_sound`].
    pub fn blob(&self, digest: &Digest, size: u64) -> Result<Option<File>> {
        Ok(self.regular(&self.blob_path(digest))?.filter(|f| f.metadata().is_ok_and(|m| m.len() == size)))
    }

    /// Where the blob is, or will be.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.paths.blobs().join(digest.hex())
    }

    /// The index of the layer whose blob is `blob`, where it is there.
    pub fn index(&self, blob: &Digest) -> Result<Option<File>> {
        self.regular(&self.index_path(blob))
    }

    /// The index of `layer` and what closes it, where that and the blob are there.
    pub fn layer(&self, layer: &Layer) -> Result<Option<(File, Trailer)>> {
        if self.blob(&layer.blob, layer.size)?.is_none() {
            return Ok(None);
        }
        let index = self.index(&layer.blob)?;
        Ok(index.and_then(|index| peek(&index, &layer.diff_id).map(|trailer| (index, trailer))))
    }

    /// Where that index is, or will be.
    pub fn index_path(&self, blob: &Digest) -> PathBuf {
        self.paths.layers().join(blob.hex())
    }

    /// Waits for the lock `name`, which is also the name of what is made in `tmp/` under it.
    pub fn lock(&self, name: &str, deadline: Deadline) -> Result<Lock> {
        turn::wait(&self.paths.locks().join(name), deadline)
    }

    /// The lock `name`, where nobody has it.
    pub fn try_lock(&self, name: &str) -> Result<Option<Lock>> {
        Lock::try_take(&self.paths.locks().join(name))
    }

    /// Marks `path`, a thing of the store, as used now: what was used last goes last. Failing that is no harm.
    pub fn touch(&self, path: &Path) {
        let now = TimeSpec::UTIME_NOW;
        let _ = nix::sys::stat::utimensat(nix::fcntl::AT_FDCWD, path, &now, &now, UtimensatFlags::NoFollowSymlink);
    }

    /// A file without a name on the store's disk: gone with the last who has it open.
    pub fn nameless(&self) -> Result<File> {
        let dir = self.paths.tmp();
        let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
        match nix::fcntl::open(&dir, flags, Mode::S_IRUSR | Mode::S_IWUSR) {
            Ok(fd) => Ok(fd.into()),
            Err(Errno::EOPNOTSUPP | Errno::EISDIR) => {
                // A file system without O_TMPFILE: a name for as short as we can.
                static COUNT: AtomicU32 = AtomicU32::new(0);
                let number = COUNT.fetch_add(1, Ordering::Relaxed);
                let path = dir.join(format!("nameless.{}.{number}", std::process::id()));
                let mut options = OpenOptions::new();
                let opened = options.read(true).write(true).create_new(true).mode(0o600).open(&path);
                let file = opened.map_err(Error::path("create", &path))?;
                file::remove_if_there(&path)?;
                Ok(file)
            }
            Err(e) => Err(Error::path("create file in", &dir)(e)),
        }
    }

    /// Keeps `index`, from its start, as the index of the layer whose blob is `blob`.
    pub fn keep_index(&self, blob: &Digest, index: &File) -> Result<()> {
        let name = format!("index-{}", blob.hex());
        let lock = self.lock(&name, Deadline::after(SHORT_TURN))?;
        let (temporary, target) = (self.paths.tmp().join(&name), self.index_path(blob));
        let write = || {
            let mut index = index;
            index.seek(SeekFrom::Start(0))?;
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
            let mut file = options.open(&temporary)?;
            std::io::copy(&mut index, &mut file)?;
            file.sync_data()?;
            std::fs::rename(&temporary, &target)
        };
        let written = write().map_err(Error::path("write", &target));
        if written.is_err() {
            file::remove_if_there(&temporary)?;
        }
        lock.remove()?;
        written
    }

    /// Waits until the disk has the names of all blobs and indexes that were finished. Their contents it has already.
    pub fn settle(&self) -> Result<()> {
        for dir in [self.paths.blobs(), self.paths.layers()] {
            sync(&dir)?;
        }
        Ok(())
    }

    /// A regular file of ours, or `None`.
    fn regular(&self, path: &Path) -> Result<Option<File>> {
        match OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path) {
            Ok(file) => Ok(file.metadata().is_ok_and(|m| m.is_file()).then_some(file)),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(e) => Err(Error::path("open", path)(e)),
        }
    }
}

/// Waits until the disk has the file `path`, or the names in the folder `path`.
fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|d| d.sync_all()).map_err(Error::path("sync", path))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
