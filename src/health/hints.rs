//! Hints that something has happened to a component: files changed under some directories (inotify).

use crate::sys::{Error, Result};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

/// Watches directories, also those that are not there yet: then the nearest parent that is.
#[derive(Debug)]
pub struct Hints {
    inotify: Inotify,
    directories: Vec<(PathBuf, AddWatchFlags)>,
}

impl Hints {
    /// Hints when files in `names` come, go or are replaced, or when files in `contents` are written to.
    pub fn new(names: Vec<PathBuf>, contents: Vec<PathBuf>) -> Result<Hints> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
            .map_err(Error::os("start", "inotify; is fs.inotify.max_user_instances reached?"))?;
        let names = names.into_iter().map(|d| (d, AddWatchFlags::empty()));
        let contents = contents.into_iter().map(|d| (d, AddWatchFlags::IN_MODIFY));
        let hints = Hints { inotify, directories: names.chain(contents).collect() };
        hints.watch();
        Ok(hints)
    }

    /// Takes what has come, and watches directories that have appeared.
    pub fn drain(&self) {
        // The kernel's queue is bounded; a fast writer must not keep us here.
        for _ in 0..64 {
            if !self.inotify.read_events().is_ok_and(|e| !e.is_empty()) {
                break;
            }
        }
        self.watch();
    }

    fn watch(&self) {
        let entries = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_ONLYDIR
            // One directory may be watched for two reasons.
            | AddWatchFlags::from_bits_retain(libc::IN_MASK_ADD);
        for (directory, more) in &self.directories {
            let mut flags = entries | *more;
            for directory in directory.ancestors() {
                // It may appear in its parent between the two calls; then the next pause ends the wait instead.
                if self.inotify.add_watch(directory, flags).is_ok() {
                    break;
                }
                flags = entries;
            }
        }
    }
}

impl AsFd for Hints {
    /// Readable when there is a hint.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}
