//! Learns from the kernel when something happens below the log folder.

use crate::sys::{Deadline, Error, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// So many reads of the event queue, then the files get their turn.
const READS: usize = 64;

/// Between two looks where the kernel tells nothing.
const LOOK_PAUSE: Duration = Duration::from_millis(250);

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
    /// `None`: others of this user have taken all 128 that it may have.
    inotify: Option<Inotify>,
    dirs: HashMap<WatchDescriptor, PathBuf>,
}

impl Watch {
    /// Watches nothing yet.
    pub fn new() -> Result<Watch> {
        let inotify = match Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK) {
            Ok(inotify) => Some(inotify),
            Err(Errno::EMFILE) => {
                log::info!(
                    "no inotify left for this user: looks four times a second; sysctl fs.inotify.max_user_instances"
                );
                None
            }
            Err(e) => return Err(Error::os("start", "inotify")(e)),
        };
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
        let Some(inotify) = &self.inotify else { return Ok(dir.is_dir()) };
        match inotify.add_watch(dir, flags) {
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
        let deadline = match &self.inotify {
            Some(_) => deadline,
            None => Some(deadline.unwrap_or(Deadline::after(LOOK_PAUSE)).min(Deadline::after(LOOK_PAUSE))),
        };
        loop {
            let mut fds = vec![PollFd::new(out, PollFlags::empty())];
            fds.extend(self.inotify.iter().map(|i| PollFd::new(i.as_fd(), PollFlags::POLLIN)));
            match poll(&mut fds, deadline.map_or(PollTimeout::NONE, |d| d.poll_timeout())) {
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(e) => return Err(Error::os("wait for", "inotify")(e)),
            }
            if fds.first().and_then(PollFd::any).unwrap_or(false) {
                return Ok(None);
            }
            return self.read().map(Some);
        }
    }

    fn read(&mut self) -> Result<Happened> {
        let Some(inotify) = &self.inotify else { return Ok(Happened { names: true, gone: Vec::new() }) };
        let mut happened = Happened::default();
        for _ in 0..READS {
            let events = match inotify.read_events() {
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
                    let _ = inotify.rm_watch(event.wd);
                }
                if event.mask.contains(AddWatchFlags::IN_IGNORED) {
                    happened.gone.extend(self.dirs.remove(&event.wd));
                }
            }
        }
        Ok(happened)
    }
}
