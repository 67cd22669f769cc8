//! `supervisor.log`: standard error of a detached supervisor, rotated as a console is. What QEMU complains of is in it too,
//! so a guest can make it grow.
//!
//! The supervisor rotates it after a write. The previous supervisor may still write its last lines: a writer that finds
//! another file under the name goes on with that file.

use super::Series;
use crate::model::node::Log;
use crate::sys::paths::ComponentPaths;
use crate::sys::{Error, Result, file};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// How often another supervisor may take the number that is next.
const TRIES: u32 = 10;

/// The log that standard error is; `None`: it is something else.
static LOG: Mutex<Option<OwnLog>> = Mutex::new(None);

/// A component's supervisor.log, opened, and its limits.
#[derive(Debug)]
pub struct OwnLog {
    series: Series,
    path: PathBuf,
    limits: Log,
    file: File,
    /// The descriptor that is to be this log: standard error.
    number: RawFd,
}

impl OwnLog {
    /// Opens it.
    pub fn open(files: &ComponentPaths, limits: &Log) -> Result<OwnLog> {
        file::create_dirs(&files.log)?;
        let path = files.supervisor_log();
        let number = libc::STDERR_FILENO;
        Ok(OwnLog { series: Series::supervisor(files), file: open(&path)?, path, limits: limits.clone(), number })
    }

    /// Makes it standard error of this process.
    pub fn begin(self) -> Result<()> {
        self.replace(&self.file)?;
        *LOG.lock().unwrap_or_else(PoisonError::into_inner) = Some(self);
        rotate_if_full();
        Ok(())
    }

    fn rotate(&mut self) -> Result<()> {
        let failed = |action| Error::path(action, &self.path);
        let own = self.file.metadata().map_err(failed("stat"))?;
        if own.len() < self.limits.max_size {
            return Ok(());
        }
        let is_own = |there: &fs::Metadata| (there.dev(), there.ino()) == (own.dev(), own.ino());
        for _ in 0..TRIES {
            if !fs::symlink_metadata(&self.path).is_ok_and(|there| is_own(&there)) {
                break;
            }
            let rotated = self.series.log_path(Some(self.series.next_number()?));
            match renameat2(AT_FDCWD, &self.path, AT_FDCWD, &rotated, RenameFlags::RENAME_NOREPLACE) {
                Ok(()) | Err(Errno::ENOENT) => break,
                Err(Errno::EEXIST) => {}
                Err(e) => return Err(failed("rename")(e.into())),
            }
        }
        let next = open(&self.path)?;
        self.replace(&next)?;
        self.file = next;
        self.series.expired(self.limits.keep)?.iter().try_for_each(|path| file::remove_if_there(path))
    }

    fn replace(&self, with: &File) -> Result<()> {
        // SAFETY: standard error is ours to replace.
        let replaced = unsafe { libc::dup2(with.as_raw_fd(), self.number) };
        Errno::result(replaced).map(drop).map_err(Error::os("replace", "standard error"))
    }

    /// Rotates it if it is full. One that can't be rotated is cut off: the disk must not fill.
    fn keep(&mut self) {
        let Err(e) = self.rotate() else { return };
        let is_over = |file: &File| file.metadata().is_ok_and(|m| m.len() >= self.limits.max_size.saturating_mul(2));
        if is_over(&self.file) && self.file.set_len(0).is_ok() {
            // Not by the logger, which has called us.
            let _ = writeln!(std::io::stderr(), "{}: cut off, as it can't be rotated: {e}", self.path.display());
        }
    }
}

fn open(path: &std::path::Path) -> Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
        .map_err(Error::path("open", path))
}

/// Rotates standard error if it is a supervisor's log, and full. To be called after a write.
pub fn rotate_if_full() {
    if let Some(log) = &mut *LOG.lock().unwrap_or_else(PoisonError::into_inner) {
        log.keep();
    }
}

/// Standard error, for the logger.
#[derive(Debug)]
pub struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = std::io::stderr().write(bytes);
        rotate_if_full();
        written
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::sys::paths::Paths;
    use std::path::Path;

    const MAX: u64 = 1000;

    fn files(name: &str) -> (PathBuf, ComponentPaths) {
        let root = std::env::temp_dir().join(format!("mcp-own-{name}-{}", std::process::id()));
        (root.clone(), Paths::under(&root).component("a", "b"))
    }

    /// A supervisor that writes `lines` lines.
    fn supervisor(files: &ComponentPaths, name: &str, lines: u32, keep: u32) {
        let mut log = OwnLog::open(files, &Log { max_size: MAX, keep }).unwrap();
        let mut stderr = log.file.try_clone().unwrap();
        log.number = stderr.as_raw_fd();
        for number in 0..lines {
            stderr.write_all(format!("{name} {number}\n").as_bytes()).unwrap();
            log.keep();
        }
    }

    fn sizes(dir: &Path) -> Vec<u64> {
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).collect()
    }

    #[test]
    fn supervisors_that_write_at_once_lose_and_double_no_line() {
        let (root, files) = files("two");
        const LINES: u32 = 2000;
        std::thread::scope(|scope| {
            for name in ["one", "other"] {
                let files = &files;
                scope.spawn(move || supervisor(files, name, LINES, 1000));
            }
        });
        let mut text = String::new();
        for log in Series::supervisor(&files).open().unwrap() {
            text.push_str(&fs::read_to_string(log.path).unwrap());
        }
        for name in ["one", "other"] {
            let of: Vec<u32> = text.lines().filter_map(|l| l.strip_prefix(name)?.trim().parse().ok()).collect();
            assert!((0..LINES).all(|n| of.iter().filter(|of| **of == n).count() == 1), "{name}");
        }
        assert!(sizes(&files.log).into_iter().all(|size| size < MAX + 50), "{:?}", sizes(&files.log));
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn only_the_newest_are_kept_and_a_killed_rotation_does_no_harm() {
        let (root, files) = files("kept");
        supervisor(&files, "first", 1000, 2);
        assert_eq!(sizes(&files.log).len(), 3);
        // Killed after it gave the log another name.
        let rotated = Series::supervisor(&files).log_path(Some(999_999));
        fs::rename(files.supervisor_log(), &rotated).unwrap();
        supervisor(&files, "second", 1, 2);
        assert_eq!(fs::read_to_string(files.supervisor_log()).unwrap(), "second 0\n");
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn one_that_can_not_be_rotated_is_cut_off() {
        let (root, files) = files("cut");
        let keep = |log: &mut OwnLog| {
            (&log.file).write_all(&[b'x'; 600]).unwrap();
            log.keep();
            log.file.metadata().unwrap().len()
        };
        let mut log = OwnLog::open(&files, &Log { max_size: MAX, keep: 2 }).unwrap();
        // No directory, so no other name and no other file.
        fs::remove_dir_all(&root).unwrap();
        fs::write(&root, "").unwrap();
        assert_eq!([keep(&mut log), keep(&mut log), keep(&mut log), keep(&mut log)], [600, 1200, 1800, 0]);
        fs::remove_file(root).unwrap();
    }
}
