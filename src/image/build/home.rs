//! The private home of one build: all that `ops` sees, and the two folders that it may write to.
//!
//! ```text
//! HOME/.ops/latest.txt, VERSION/                        Nanos
//! HOME/.ops/local_packages/amd64/app/package.manifest   the program and its arguments
//! HOME/.ops/local_packages/amd64/app/sysroot/           the image's files, as hard links
//! HOME/.ops/images/, volumes/                           writable: what it makes
//! HOME/config/config.json                               the rest, secrets among it
//! HOME/default.json, tmp/
//! ```

use super::parts::Parts;
use super::sysroot;
use crate::sys::file::{copy_data, remove_tree};
use crate::sys::{Error, Result};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The package's name in it.
pub const PACKAGE: &str = "app";

/// A home that is laid out. Dropping it removes it.
#[derive(Debug)]
pub struct Home {
    dir: PathBuf,
    user: Option<u32>,
}

impl Home {
    /// Lays one out at `dir`, for `ops` running as `user` if that is not ourselves. `kernel` is a copy of Nanos's
    /// kernel that this user may read.
    pub fn new(dir: &Path, parts: &Parts, kernel: &Path, user: Option<u32>) -> Result<Home> {
        remove_tree(dir)?;
        let home = Home { dir: dir.to_path_buf(), user };
        home.folder("", false)?;
        home.folder(".ops", false)?;
        for name in [".ops/images", ".ops/volumes", "tmp"] {
            home.folder(name, true)?;
        }
        home.folder("config", false)?;
        home.file("default.json", b"{}", false)?;
        home.file(".ops/latest.txt", parts.version.as_bytes(), false)?;
        let version = Path::new(".ops").join(&parts.version);
        home.folder(&version, false)?;
        let linked = dir.join(&version).join("kernel.img");
        fs::hard_link(kernel, &linked).map_err(Error::path("link", &linked))?;
        copy(&parts.folder.join("boot.img"), &dir.join(&version).join("boot.img"))?;
        home.klibs(&parts.folder.join("klibs"), &version.join("klibs"))?;
        Ok(home)
    }

    /// Modules that Nanos's kernel may load: few and small where there are any.
    fn klibs(&self, from: &Path, to: &Path) -> Result<()> {
        self.folder(to, false)?;
        for entry in fs::read_dir(from).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_file()) {
                copy(&entry.path(), &self.dir.join(to).join(entry.file_name()))?;
            }
        }
        Ok(())
    }

    /// Takes the files of `rootfs` in, for the program that `manifest` describes.
    pub fn package(&self, rootfs: &Path, manifest: &[u8]) -> Result<sysroot::Staged> {
        let package = Path::new(".ops/local_packages/amd64").join(PACKAGE);
        for dir in [".ops/local_packages", ".ops/local_packages/amd64"].map(Path::new).into_iter().chain([&*package]) {
            self.folder(dir, false)?;
        }
        self.file(package.join("package.manifest"), manifest, true)?;
        let to = self.dir.join(package).join("sysroot");
        sysroot::stage(rootfs, &to, self.user.is_some())
    }

    /// Writes the config file: only `ops` can read it.
    pub fn config(&self, config: &[u8]) -> Result<()> {
        self.file("config/config.json", config, true)
    }

    /// Opens it, to be handed to `ops`.
    pub fn open(&self) -> Result<OwnedFd> {
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
        let opened = OpenOptions::new().read(true).custom_flags(flags).open(&self.dir);
        opened.map(OwnedFd::from).map_err(Error::path("open", &self.dir))
    }

    /// Where the image `name` is to appear.
    pub fn image(&self, name: &str) -> PathBuf {
        self.dir.join(".ops/images").join(name)
    }

    /// The one file that `ops volume create` made of `name`.
    pub fn volume(&self, name: &str) -> Option<PathBuf> {
        let dir = self.dir.join(".ops/volumes");
        let made =
            |file: &str| file.strip_prefix(name).is_some_and(|rest| rest.starts_with(':') && rest.ends_with(".raw"));
        let entries = fs::read_dir(&dir).ok()?.flatten();
        let mut found = entries.filter(|e| e.file_name().to_str().is_some_and(made)).map(|e| e.path());
        match (found.next(), found.next()) {
            (Some(only), None) => Some(only),
            _ => None,
        }
    }

    /// Makes what `ops` made at `from` ours alone, at `to`. It must be a regular file with no other name: whoever made
    /// it may be mistaken, but gets nothing of ours renamed or opened to it.
    pub fn adopt(&self, from: &Path, to: &Path) -> Result<()> {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(from).map_err(Error::path("open", from))?;
        let about = file.metadata().map_err(Error::path("stat", from))?;
        if !about.is_file() || about.nlink() != 1 {
            return Err(Error::refused(from.display(), "not a file of its own; is this ops?"));
        }
        if self.user.is_some() {
            let ours = (Some(nix::unistd::geteuid()), Some(nix::unistd::getegid()));
            nix::unistd::fchown(file.as_fd(), ours.0, ours.1).map_err(Error::path("change owner of", from))?;
        }
        file.set_permissions(fs::Permissions::from_mode(0o600)).map_err(Error::path("change mode of", from))?;
        fs::rename(from, to).map_err(Error::path("rename", from))?;
        let there = fs::symlink_metadata(to).map_err(Error::path("stat", to))?;
        if (there.dev(), there.ino()) != (about.dev(), about.ino()) {
            return Err(Error::refused(to.display(), "was exchanged while it was taken"));
        }
        Ok(())
    }

    /// A folder in it: that `ops` may read, or write to as well.
    fn folder(&self, name: impl AsRef<Path>, writable: bool) -> Result<()> {
        let path = self.dir.join(name);
        // Whoever can see it was let in by name or by descriptor: the folders above are closed.
        let mode = if writable { 0o700 } else { 0o755 };
        DirBuilder::new().mode(mode).create(&path).map_err(Error::path("create directory", &path))?;
        // Whatever umask we were started with.
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(Error::path("change mode of", &path))?;
        if let (true, Some(user)) = (writable, self.user) {
            std::os::unix::fs::chown(&path, Some(user), Some(user)).map_err(Error::path("change owner of", &path))?;
        }
        Ok(())
    }

    fn file(&self, name: impl AsRef<Path>, bytes: &[u8], secret: bool) -> Result<()> {
        let path = self.dir.join(name);
        let mode = if secret { 0o600 } else { 0o644 };
        let write = || {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path)?;
            if let (true, Some(user)) = (secret, self.user) {
                nix::unistd::fchown(file.as_fd(), Some(user.into()), Some(user.into()))?;
            }
            file.set_permissions(fs::Permissions::from_mode(mode))?;
            file.write_all(bytes)
        };
        write().map_err(Error::path("write", &path))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Err(e) = remove_tree(&self.dir) {
            log::warn!("{e}");
        }
    }
}

/// A copy that anybody may read who gets there.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    copy_of(File::open(from).map_err(Error::path("open", from))?, to)
}

/// The same of an open file.
pub fn copy_of(source: File, to: &Path) -> Result<()> {
    let write = || {
        let target = OpenOptions::new().write(true).create_new(true).mode(0o644).open(to)?;
        target.set_permissions(fs::Permissions::from_mode(0o644))?;
        copy_data(&source, &target)
    };
    write().map_err(Error::path("copy to", to))
}
