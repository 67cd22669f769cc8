//! Learns from the kernel when something happens below the log folder.

use crate::sys::{Deadline, Error, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

/// So many reads of the event queue, then the files get their turn.
const READS: usize = 64;

/// What happened.
#[derive(Debug, Default)]
pub struct Happened {
    /// Files or folders came or went, or events were lost: look at the folders again.
    pub names: bool,
    /// These folders are gone.
    pub gone: Vec<PathBuf>,
}

/// The watches.
#[derive(Debug)]
pub struct Watch {
    inotify: Inotify,
    dirs: HashMap<WatchDescriptor, PathBuf>,
}

impl Watch {
    /// Watches nothing yet.
    pub fn new() -> Result<Watch> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(|e| match e {
            Errno::EMFILE => {
                Error::busy("inotify", "this user has no instance left; raise fs.inotify.max_user_instances")
            }
            e => Error::os("start", "inotify")(e),
        })?;
        Ok(Watch { inotify, dirs: HashMap::new() })
    }

    /// Watches `dir`, for files that come and go, and with `writes` for writes to them too. Whether it is there; if not,
    /// the nearest folder above it is watched. Once more on the same folder does no harm.
    pub fn add(&mut self, dir: &Path, writes: bool) -> Result<bool> {
        let flags = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        if self.add_one(dir, flags | if writes { AddWatchFlags::IN_MODIFY } else { AddWatchFlags::empty() })? {
            return Ok(true);
        }
        for above in dir.ancestors().skip(1) {
            if !self.add_one(above, flags)? {
                continue;
            }
            // Made while we looked?
            return match dir.is_dir() {
                true => self.add(dir, writes),
                false => Ok(false),
            };
        }
        Ok(false)
    }

    fn add_one(&mut self, dir: &Path, flags: AddWatchFlags) -> Result<bool> {
        match self.inotify.add_watch(dir, flags) {
            Ok(watch) => {
                self.dirs.insert(watch, dir.to_path_buf());
                Ok(true)
            }
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(false),
            Err(Errno::ENOSPC) => {
                Err(Error::busy(dir.display(), "no inotify watch left; raise fs.inotify.max_user_watches"))
            }
            Err(e) => Err(Error::path("watch", dir)(e)),
        }
    }

    /// Waits until something happens, `deadline` passes or the reader of `out` has gone. `None`: it has gone.
    pub fn wait(&mut self, out: BorrowedFd<'_>, deadline: Option<Deadline>) -> Result<Option<Happened>> {
        loop {
            let mut fds = [PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN), PollFd::new(out, PollFlags::empty())];
            match poll(&mut fds, deadline.map_or(PollTimeout::NONE, |d| d.poll_timeout())) {
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(e) => return Err(Error::os("wait for", "inotify")(e)),
            }
            let [_, out] = &fds;
            if out.any().unwrap_or(false) {
                return Ok(None);
            }
            return self.read().map(Some);
        }
    }

    fn read(&mut self) -> Result<Happened> {
        let mut happened = Happened::default();
        for _ in 0..READS {
            let events = match self.inotify.read_events() {
                Ok(events) => events,
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => continue,
                Err(e) => return Err(Error::os("read", "inotify")(e)),
            };
            for event in events {
                if event.mask != AddWatchFlags::IN_MODIFY {
                    happened.names = true;
                }
                if event.mask.contains(AddWatchFlags::IN_MOVE_SELF) {
                    // It is another folder now; what this brings is IN_IGNORED.
                    let _ = self.inotify.rm_watch(event.wd);
                }
                if event.mask.contains(AddWatchFlags::IN_IGNORED) {
                    happened.gone.extend(self.dirs.remove(&event.wd));
                }
            }
        }
        Ok(happened)
    }
}
