//! conmon: podman's own process beside each container, which writes its log and lives as long as it does.

use crate::console::rotate::Writer;
use crate::model::state::Process;
use crate::sys::pidfd::PidFd;
use crate::sys::{Deadline, Error, Result};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long conmon may take to go on with another file. It is a millisecond or two.
const REOPEN: Duration = Duration::from_secs(2);
/// Between two looks whether it has.
const LOOK_PAUSE: Duration = Duration::from_millis(1);
/// conmon's order to open its log again, by its name; the two numbers are of no use to it.
const REOPEN_LOGS: &[u8] = b"2 0 0\n";

/// The conmon of one container.
#[derive(Debug)]
pub struct Conmon {
    process: Process,
    control: PathBuf,
    /// `None`: it has ended.
    handle: Option<PidFd>,
}

impl Conmon {
    /// That process, which takes its orders at `control`.
    pub fn open(process: Process, control: PathBuf) -> Conmon {
        Conmon { process, control, handle: process.open() }
    }

    /// Readable when it has ended; `None`: it has.
    pub fn pollable(&self) -> Option<BorrowedFd<'_>> {
        self.handle.as_ref().map(AsFd::as_fd)
    }

    /// Whether it ends before the deadline.
    pub fn wait(&self, deadline: Deadline) -> bool {
        self.handle.as_ref().is_none_or(|handle| handle.wait(deadline))
    }

    /// Whether it has `file` open, by inode.
    fn writes_to(&self, file: &std::fs::Metadata) -> bool {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.process.pid)).into_iter().flatten().flatten();
        open.filter_map(|entry| std::fs::metadata(entry.path()).ok())
            .any(|m| m.is_file() && m.ino() == file.ino() && m.dev() == file.dev())
    }

    fn order(&self, order: &[u8]) -> Result<()> {
        let opened = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_NOCTTY)
            .open(&self.control);
        // ENXIO: nobody reads it any more.
        let mut fifo = opened.map_err(Error::path("open", &self.control))?;
        if !fifo.metadata().is_ok_and(|m| m.file_type().is_fifo()) {
            return Err(Error::refused(self.control.display(), "not a FIFO, so not conmon's"));
        }
        fifo.write_all(order).map_err(Error::path("write", &self.control))
    }
}

impl Writer for Conmon {
    fn point_at(&mut self, file: &File, path: &Path) -> Result<()> {
        let wanted = file.metadata().map_err(Error::path("stat", path))?;
        // Asked for before, and it took its time; or a supervisor before us had got so far.
        if self.writes_to(&wanted) {
            return Ok(());
        }
        if self.wait(Deadline::after(Duration::ZERO)) {
            return Err(Error::refused(path.display(), "conmon has ended"));
        }
        self.order(REOPEN_LOGS)?;
        let deadline = Deadline::after(REOPEN);
        // It tells nobody when it has done it.
        while !self.writes_to(&wanted) {
            if deadline.passed() {
                return Err(Error::busy(path.display(), "conmon does not go on with it; it is asked again"));
            }
            if self.wait(Deadline::after(LOOK_PAUSE)) {
                return Err(Error::refused(path.display(), "conmon has ended"));
            }
        }
        Ok(())
    }
}
