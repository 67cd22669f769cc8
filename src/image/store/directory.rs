//! Whole directories: an image or a build, made in `tmp/` and renamed.

use super::{Store, sync};
use crate::sys::file::remove_tree;
use crate::sys::lock::Lock;
use crate::sys::{Deadline, Error, Result, file};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// With more files than this the whole file system is synced at once, which is then cheaper.
const SYNC_EACH_MAX: usize = 16;

/// What kind of directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What `mcp-pull` makes.
    Image,
    /// What `mcp-build` makes.
    Build,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Image => "image",
            Kind::Build => "build",
        }
    }
}

/// A turn at a directory: whoever has it may look whether it is there, and make it. It ends when this is dropped, and
/// what was not finished then is gone.
#[derive(Debug)]
pub struct Making {
    lock: Option<Lock>,
    temporary: PathBuf,
    target: PathBuf,
}

impl Store {
    /// Where the directory of that kind with that key is, or will be.
    pub fn directory(&self, kind: Kind, key: &str) -> PathBuf {
        match kind {
            Kind::Image => self.paths.images().join(key),
            Kind::Build => self.paths.builds().join(key),
        }
    }

    /// Waits for the turn at it.
    pub fn make(&self, kind: Kind, key: &str, deadline: Deadline) -> Result<Making> {
        let name = format!("{}-{key}", kind.name());
        let lock = Some(self.lock(&name, deadline)?);
        Ok(Making { lock, temporary: self.paths.tmp().join(name), target: self.directory(kind, key) })
    }

    /// Removes it, whole: who looks sees all of it or nothing. False where somebody works on it.
    pub fn discard(&self, kind: Kind, key: &str) -> Result<bool> {
        let name = format!("{}-{key}", kind.name());
        let Some(lock) = self.try_lock(&name)? else { return Ok(false) };
        let temporary = self.paths.tmp().join(name);
        let target = self.directory(kind, key);
        remove_tree(&temporary)?;
        match fs::rename(&target, &temporary) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(Error::path("remove", &target)(e)),
            _ => remove_tree(&temporary)?,
        }
        lock.remove()?;
        Ok(true)
    }
}

impl Making {
    /// Where it will be.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Makes the empty directory (0700) to fill, and returns it.
    pub fn begin(&self) -> Result<&Path> {
        // What a killed maker left, or a first attempt of ours.
        remove_tree(&self.temporary)?;
        file::create_dirs(&self.temporary)?;
        Ok(&self.temporary)
    }

    /// A further name in `tmp/` that is ours while we have the turn.
    pub fn aside(&self, what: &str) -> PathBuf {
        let mut name = self.temporary.clone().into_os_string();
        name.push(".");
        name.push(what);
        name.into()
    }

    /// Gives what was made its place, once the disk has all of it. One that is there already is replaced.
    pub fn finish(&mut self) -> Result<PathBuf> {
        sync_tree(&self.temporary)?;
        let replaced = match renameat2(AT_FDCWD, &self.temporary, AT_FDCWD, &self.target, RenameFlags::RENAME_NOREPLACE)
        {
            Ok(()) => false,
            Err(nix::errno::Errno::EEXIST) => {
                let exchange = RenameFlags::RENAME_EXCHANGE;
                renameat2(AT_FDCWD, &self.temporary, AT_FDCWD, &self.target, exchange)
                    .map_err(Error::path("replace", &self.target))?;
                true
            }
            // A file system that can't say it that way.
            Err(nix::errno::Errno::EINVAL) => {
                remove_tree(&self.target)?;
                fs::rename(&self.temporary, &self.target).map_err(Error::path("rename to", &self.target))?;
                false
            }
            Err(e) => return Err(Error::path("rename to", &self.target)(e)),
        };
        if let Some(parent) = self.target.parent() {
            sync(parent)?;
        }
        if replaced {
            remove_tree(&self.temporary)?;
        }
        Ok(self.target.clone())
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        let Some(lock) = self.lock.take() else { return };
        if let Err(e) = remove_tree(&self.temporary).and_then(|()| lock.remove()) {
            log::warn!("{e}");
        }
    }
}

/// Waits until the disk has all that is in `dir`.
fn sync_tree(dir: &Path) -> Result<()> {
    let (mut files, mut folders, mut open) = (Vec::new(), Vec::new(), vec![dir.to_path_buf()]);
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).map_err(Error::path("read directory", &folder))? {
            let entry = entry.map_err(Error::path("read directory", &folder))?;
            let kind = entry.file_type().map_err(Error::path("stat", &entry.path()))?;
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
        folders.push(folder);
        if files.len() + folders.len() > SYNC_EACH_MAX {
            let root = File::open(dir).map_err(Error::path("open", dir))?;
            // SAFETY: a descriptor that is open.
            return match unsafe { libc::syncfs(root.as_raw_fd()) } {
                0 => Ok(()),
                _ => Err(Error::path("sync", dir)(std::io::Error::last_os_error())),
            };
        }
    }
    for path in files.iter().chain(folders.iter().rev()) {
        sync(path)?;
    }
    Ok(())
}
