//! A blob on its way into the store: hashed while it is written, visible once its digest is right and the disk has it.

use super::Store;
use crate::image::layer::index::Reader;
use crate::image::oci::Layer;
use crate::model::Digest;
use crate::sys::lock::Lock;
use crate::sys::{Deadline, Error, Result, file};
use sha2::Digest as _;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// After so many bytes the disk is told to begin writing, so that little is left to wait for at the end.
const WRITE_BACK: u64 = 8 << 20;

/// What a turn at a blob gives.
#[derive(Debug)]
pub enum BlobTurn {
    /// It is there; perhaps somebody else has just brought it.
    There(File),
    /// It is ours to write.
    Write(Box<BlobWriter>),
}

/// A blob that is being written. Dropped before [`BlobWriter::publish`], what has come stays for the next who tries.
#[derive(Debug)]
pub struct BlobWriter {
    store: Store,
    digest: Digest,
    size: u64,
    /// `None` once it has been given up.
    lock: Option<Lock>,
    path: PathBuf,
    file: File,
    hasher: sha2::Sha256,
    at: u64,
    written_back: u64,
    synced: u64,
    resumed: bool,
}

impl Store {
    /// Whether the blob is in the store and its contents are what its name says. Reads all of it.
    pub fn is_sound(&self, digest: &Digest, size: u64) -> Result<bool> {
        let Some(mut file) = self.blob(digest, size)? else { return Ok(false) };
        let mut hasher = sha2::Sha256::new();
        let path = self.blob_path(digest);
        hash(&mut file, &mut hasher, u64::MAX).map_err(Error::path("read", &path))?;
        Ok(Digest::finish(hasher) == *digest)
    }

    /// Waits for the turn at a blob. Two who want the same one fetch it once: the second finds it there.
    pub fn blob_turn(&self, digest: &Digest, size: u64, deadline: Deadline) -> Result<BlobTurn> {
        if let Some(file) = self.blob(digest, size)? {
            // Nothing tells of this use before the image is whole: who makes room must see it.
            self.touch(&self.blob_path(digest));
            return Ok(BlobTurn::There(file));
        }
        let lock = self.lock(&format!("blob-{}", digest.hex()), deadline)?;
        match self.blob(digest, size)? {
            Some(file) => {
                lock.remove()?;
                Ok(BlobTurn::There(file))
            }
            None => BlobWriter::begin(self.clone(), *digest, size, lock).map(|w| BlobTurn::Write(Box::new(w))),
        }
    }

    /// Removes a blob that proved to be damaged.
    pub fn drop_blob(&self, digest: &Digest) -> Result<()> {
        file::remove_if_there(&self.blob_path(digest))
    }

    /// For when a worker could not make anything of `layers`: removes those that are damaged, and their indexes, so that
    /// the next pull brings them again. False: they are what their digests say, and the image is to blame. Reads all.
    pub fn doubt(&self, layers: &[Layer]) -> Result<bool> {
        let mut damaged = false;
        for layer in layers {
            if !self.is_sound(&layer.blob, layer.size)? {
                damaged = true;
                self.drop_blob(&layer.blob)?;
            }
            let index = self.index(&layer.blob)?.map(Reader::new);
            let reads = || -> Result<()> {
                if let Some(index) = index {
                    let mut index = index?;
                    while index.entry()?.is_some() {}
                }
                Ok(())
            };
            if reads().is_err() {
                damaged = true;
                file::remove_if_there(&self.index_path(&layer.blob))?;
            }
        }
        Ok(damaged)
    }
}

impl BlobWriter {
    fn begin(store: Store, digest: Digest, size: u64, lock: Lock) -> Result<BlobWriter> {
        let path = store.paths.tmp().join(format!("blob-{}", digest.hex()));
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
            .map_err(Error::path("create", &path));
        let file = match opened {
            Ok(file) => file,
            Err(e) => {
                lock.remove()?;
                return Err(e);
            }
        };
        let hasher = sha2::Sha256::new();
        let lock = Some(lock);
        let mut writer = BlobWriter {
            store,
            digest,
            size,
            lock,
            path,
            file,
            hasher,
            at: 0,
            written_back: 0,
            synced: 0,
            resumed: false,
        };
        writer.take_up()?;
        writer.check_space()?;
        Ok(writer)
    }

    /// Takes up what a pull before us has left. Nothing is believed of it: it is hashed with the rest.
    fn take_up(&mut self) -> Result<()> {
        let there = self.file.metadata().map_err(Error::path("stat", &self.path))?.len();
        if there == 0 {
            return Ok(());
        }
        if there > self.size {
            return self.restart();
        }
        self.at = hash(&mut self.file, &mut self.hasher, there).map_err(Error::path("read", &self.path))?;
        self.resumed = true;
        Ok(())
    }

    /// Says at the start that the rest won't fit, instead of filling the disk first.
    fn check_space(&mut self) -> Result<()> {
        let Ok(space) = nix::sys::statvfs::fstatvfs(&self.file) else { return Ok(()) };
        let free = space.blocks_available() * space.fragment_size();
        let needed = self.size - self.at;
        if free >= needed {
            return Ok(());
        }
        let reason = format!("{needed} bytes more are needed, and {free} are free; make room with mcp-build --gc");
        let object = self.path.display().to_string();
        self.discard();
        Err(Error::busy(object, reason))
    }

    /// How many bytes are there: where the rest begins.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// Whether it began with what an earlier pull had left.
    pub fn resumed(&self) -> bool {
        self.resumed
    }

    /// The file, to read what is there already, and for a worker, which must not be able to write to it.
    pub fn reader(&self) -> Result<File> {
        File::open(&self.path).map_err(Error::path("open", &self.path))
    }

    /// Throws away what is there and begins at 0.
    pub fn restart(&mut self) -> Result<()> {
        self.file.set_len(0).map_err(Error::path("truncate", &self.path))?;
        self.file.seek(SeekFrom::Start(0)).map_err(Error::path("seek in", &self.path))?;
        (self.at, self.written_back, self.synced, self.resumed) = (0, 0, 0, false);
        self.hasher = sha2::Sha256::new();
        Ok(())
    }

    /// Adds `bytes`. More than the size that was told is refused. Where the disk is full the space is given back.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.len() as u64 > self.size - self.at {
            let reason = format!("longer than the {} bytes that the manifest tells", self.size);
            let digest = self.digest;
            self.discard();
            return Err(Error::refused(digest, reason));
        }
        self.hasher.update(bytes);
        if let Err(e) = self.file.write_all(bytes) {
            let error = Error::path("write", &self.path)(e);
            self.discard();
            return Err(error);
        }
        self.at += bytes.len() as u64;
        if self.at - self.written_back >= WRITE_BACK {
            let (from, length) = (self.written_back as i64, (self.at - self.written_back) as i64);
            // SAFETY: a descriptor that is open. A hint: that it fails is no harm.
            unsafe { libc::sync_file_range(self.file.as_raw_fd(), from, length, libc::SYNC_FILE_RANGE_WRITE) };
            self.written_back = self.at;
        }
        Ok(())
    }

    /// Waits until the disk has what was written.
    pub fn sync(&mut self) -> Result<()> {
        if let Err(e) = self.file.sync_data() {
            let error = Error::path("sync", &self.path)(e);
            self.discard();
            return Err(error);
        }
        self.synced = self.at;
        Ok(())
    }

    /// Whether all has come and is what was promised.
    pub fn is_right(&self) -> bool {
        self.at == self.size && Digest::finish(self.hasher.clone()) == self.digest
    }

    /// Gives it its place in the store, once the disk has its contents. Whether the disk has its name too, only
    /// [`Store::settle`] tells.
    pub fn publish(mut self) -> Result<File> {
        if !self.is_right() {
            let digest = self.digest;
            self.discard();
            return Err(Error::refused(digest, "what came has another digest"));
        }
        let target = self.store.blob_path(&self.digest);
        if self.synced != self.at || self.at == 0 {
            self.sync()?;
        }
        std::fs::rename(&self.path, &target).map_err(Error::path("rename to", &target))?;
        let file = self.store.regular(&target)?;
        self.unlock();
        file.ok_or_else(|| Error::busy(target.display(), "was removed as soon as it was there"))
    }

    /// Removes what has come, and gives up the turn.
    pub fn discard(&mut self) {
        // Only who has the lock may remove it: the name may be another's by now.
        if self.lock.is_some() {
            let _ = file::remove_if_there(&self.path);
        }
        self.unlock();
    }

    fn unlock(&mut self) {
        if let Some(lock) = self.lock.take()
            && let Err(e) = lock.remove()
        {
            log::warn!("{e}");
        }
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if self.lock.is_some() && self.at == 0 {
            self.discard();
        }
        self.unlock();
    }
}

/// Reads `file` from its start, at most `limit` bytes, into `hasher`, and leaves it there; how many bytes it was.
fn hash(file: &mut File, hasher: &mut sha2::Sha256, limit: u64) -> std::io::Result<u64> {
    file.seek(SeekFrom::Start(0))?;
    let mut buffer = vec![0; 256 << 10];
    let mut done = 0;
    while done < limit {
        let wanted = buffer.len().min(usize::try_from(limit - done).unwrap_or(usize::MAX));
        match file.read(buffer.get_mut(..wanted).unwrap_or_default()) {
            Ok(0) => break,
            Ok(n) => {
                hasher.update(buffer.get(..n).unwrap_or_default());
                done += n as u64;
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}
