//! conmon: podman's own process beside each container, which writes its log and lives as long as it does.

use crate::console::rotate::Writer;
use crate::model::state::Process;
use crate::sys::pidfd::PidFd;
use crate::sys::{Deadline, Error, Result};
use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
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
    /// Whether it was ordered to go on with a new file, and has not done so yet.
    is_asked: bool,
}

impl Conmon {
    /// That process, which takes its orders at `control`.
    pub fn open(process: Process, control: PathBuf) -> Conmon {
        Conmon { process, control, handle: process.open(), is_asked: false }
    }

    /// Readable when it has ended; `None`: it has.
    pub fn pollable(&self) -> Option<BorrowedFd<'_>> {
        self.handle.as_ref().map(AsFd::as_fd)
    }

    /// Whether it ends before the deadline.
    pub fn wait(&self, deadline: Deadline) -> Result<bool> {
        self.handle.as_ref().map_or(Ok(true), |handle| handle.wait(deadline))
    }

    /// Whether it is known to have ended.
    pub fn has_ended(&self) -> bool {
        self.handle.as_ref().is_none_or(PidFd::has_ended)
    }

    /// Whether it has `file` open.
    fn writes_to(&self, file: &Metadata) -> bool {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.process.pid)).into_iter().flatten().flatten();
        open.filter_map(|entry| std::fs::metadata(entry.path()).ok())
            .any(|m| m.is_file() && m.ino() == file.ino() && m.dev() == file.dev())
    }

    /// The file that it writes to, if that is called `path`; after its end the one that has the name.
    fn live(&self, path: &Path, has_ended: bool) -> Option<File> {
        // As it has it open itself: a link in that place is none of its.
        let file = OpenOptions::new().read(true).append(true).custom_flags(libc::O_NOFOLLOW).open(path).ok()?;
        let about = file.metadata().ok()?;
        (has_ended || self.writes_to(&about)).then_some(file)
    }

    fn go_on(&mut self, path: &Path) -> Result<File> {
        let deadline = Deadline::after(REOPEN);
        loop {
            let has_ended = self.has_ended();
            if let Some(live) = self.live(path, has_ended) {
                self.is_asked = false;
                // It makes it for its group too.
                let _ = live.set_permissions(Permissions::from_mode(0o600));
                return Ok(live);
            }
            if has_ended {
                return Err(Error::refused(path.display(), "conmon has ended"));
            }
            if !self.is_asked {
                self.order(REOPEN_LOGS)?;
                self.is_asked = true;
            }
            if deadline.passed() {
                return Err(Error::busy(path.display(), "conmon does not go on with it yet"));
            }
            // It tells nobody when it has done it.
            self.wait(Deadline::after(LOOK_PAUSE))?;
        }
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
        // Of two orders the second would throw away what has come since the first. One that waits was given by a
        // supervisor before us.
        if waiting(&fifo).map_err(Error::path("query", &self.control))? == 0 {
            fifo.write_all(order).map_err(Error::path("write", &self.control))?;
        }
        Ok(())
    }
}

/// Bytes that wait in a FIFO.
fn waiting(fifo: &File) -> nix::Result<i32> {
    let mut count: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int, into a place of ours.
    let r = unsafe { libc::ioctl(fifo.as_raw_fd(), libc::FIONREAD, &mut count) };
    nix::errno::Errno::result(r).map(|_| count)
}

impl Writer for Conmon {
    fn point_at(&mut self, _file: &File, path: &Path) -> Result<()> {
        Err(Error::refused(path.display(), "conmon makes its files itself"))
    }

    /// conmon makes the new file under another name and renames it, so nothing may be called `path` that is of use.
    fn make_next(&mut self, path: &Path) -> Option<Result<File>> {
        Some(self.go_on(path))
    }
}
