//! The live console log: when its bytes came, and its rotation without losing one.
//!
//! QEMU, or conmon for a container, writes the file itself. We are woken by inotify when it grew, at most 20 times a second, and never
//! while the guest is silent.

use crate::console::copied::Copied;
use crate::console::copy::Copy;
use crate::console::{IndexWriter, Series};
use crate::model::node::Log;
use crate::sys::error::EXIT_RETRY;
use crate::sys::paths::InstancePaths;
use crate::sys::{Deadline, Error, Result, file};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// How often a busy console is looked at.
const PER_SECOND: u32 = 20;
/// Pause after a rotation that failed.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// Whoever writes the log: QEMU, or conmon for a container.
pub trait Writer {
    /// Has it write to `file`, which has the name `path`, from now on. Until it does it goes on with the file before. An
    /// error that may pass ([`EXIT_RETRY`]): it may still do so.
    fn point_at(&mut self, file: &File, path: &Path) -> Result<()>;

    /// For one that makes its files itself, as conmon does: the file that it writes to under the name `path`. Where it
    /// writes to another, it goes on with a new one, which takes the name from whatever has it. Errors are as above. `None`:
    /// it makes none.
    fn make_next(&mut self, _path: &Path) -> Option<Result<File>> {
        None
    }
}

/// The next log, which the writer was asked to go on with and has not said that it does.
#[derive(Debug)]
enum Undecided {
    /// We made it.
    Ours(File),
    /// The writer makes it.
    Its,
}

/// The console log of one instance, watched.
#[derive(Debug)]
pub struct Console {
    paths: InstancePaths,
    limits: Log,
    live: File,
    index: IndexWriter,
    size: u64,
    inotify: Option<(Inotify, WatchDescriptor)>,
    resume: Option<Deadline>,
    undecided: Option<Undecided>,
    copy: Option<Copy>,
}

fn open_live(paths: &InstancePaths) -> Result<File> {
    let path = paths.console();
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&path)
        .map_err(Error::path("open", &path))
}

/// Copies the log from where the last copy got to; where that is not known, what came after the last look of a supervisor
/// before us was copied by nobody.
fn start_copy(paths: &InstancePaths, live: &File, seen: u64) -> Result<Copy> {
    let series = Series::console(paths);
    let copied = Copied::open(&paths.console_copied())?;
    if let Some((inode, offset)) = copied.get() {
        let mut files = series.open()?.into_iter().skip_while(|f| f.inode != inode || f.length < offset);
        if let Some(first) = files.next() {
            let copy = Copy::start(first.file, offset, series.is_cri(), Some(copied))?;
            files.for_each(|next| copy.switch(next.file));
            copy.more();
            return Ok(copy);
        }
    }
    let log = open_again(live, &paths.console(), OpenOptions::new().read(true))?;
    Copy::start(log, seen, series.is_cri(), Some(copied))
}

impl Console {
    /// Opens the log for what is about to start or is adopted. `copy`: also on standard output.
    pub fn open(paths: &InstancePaths, limits: &Log, copy: bool) -> Result<Console> {
        file::create_dirs(&paths.log)?;
        Series::console(paths).settle()?;
        let live = open_live(paths)?;
        let meta = live.metadata().map_err(Error::path("stat", &paths.console()))?;
        let index = IndexWriter::open(&paths.console_index(), meta.ino())?;
        let seen = index.last().offset.min(meta.len());
        let mut console = Console {
            paths: paths.clone(),
            limits: limits.clone(),
            copy: if copy { Some(start_copy(paths, &live, seen)?) } else { None },
            live,
            index,
            size: seen,
            inotify: None,
            resume: None,
            undecided: None,
        };
        console.inotify = console.start_watching();
        Ok(console)
    }

    fn start_watching(&self) -> Option<(Inotify, WatchDescriptor)> {
        let watch = || {
            let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
            let descriptor = inotify.add_watch(&self.paths.console(), AddWatchFlags::IN_MODIFY)?;
            Ok::<_, nix::errno::Errno>((inotify, descriptor))
        };
        match watch() {
            Ok(pair) => Some(pair),
            Err(e) => {
                log::warn!(
                    "{}: can't be watched: {}; it is looked at once a second instead \
                     (raise sysctl fs.inotify.max_user_instances)",
                    self.paths.console().display(),
                    e.desc()
                );
                None
            }
        }
    }

    /// What to poll for reading, unless it is paused.
    pub fn pollable(&self) -> Option<BorrowedFd<'_>> {
        if self.resume.is_some() {
            return None;
        }
        self.inotify.as_ref().map(|(inotify, _)| inotify.as_fd())
    }

    /// When to call [`Console::look`] though nothing was polled.
    pub fn due(&self) -> Option<Deadline> {
        match (&self.inotify, self.resume) {
            (None, None) => Some(Deadline::after(Duration::from_secs(1))),
            (_, resume) => resume,
        }
    }

    /// Looks at the log: notes the time, has it copied, rotates it when it is too large.
    pub fn look(&mut self, writer: &mut impl Writer) {
        if let Some((inotify, _)) = &self.inotify {
            while inotify.read_events().is_ok_and(|events| !events.is_empty()) {}
        }
        if self.resume.is_some_and(|at| !at.passed()) {
            return;
        }
        self.resume = None;
        if !self.note() && self.undecided.is_none() {
            return;
        }
        self.resume = Some(Deadline::after(Duration::from_secs(1) / PER_SECOND));
        if (self.size >= self.limits.max_size || self.undecided.is_some())
            && let Err(e) = self.rotate(writer)
        {
            log::warn!("{}: not rotated: {e}", self.paths.console().display());
            self.resume = Some(Deadline::after(AFTER_FAILURE));
        }
    }

    /// Writes down how far the log has come; whether it has.
    pub fn note(&mut self) -> bool {
        let Ok(meta) = self.live.metadata() else { return false };
        if meta.len() == self.size {
            return false;
        }
        self.size = meta.len();
        if let Err(e) = self.index.append(self.size, SystemTime::now()) {
            log::warn!("{e}");
        }
        if let Some(copy) = &self.copy {
            copy.more();
        }
        true
    }

    fn rotate(&mut self, writer: &mut impl Writer) -> Result<()> {
        let (log, index) = (self.paths.console(), self.paths.console_index());
        let series = Series::console(&self.paths);
        let next = match self.undecided.take() {
            Some(Undecided::Ours(next)) => next,
            Some(Undecided::Its) => {
                let next = self.ask_to_go_on(writer, &log)?;
                return self.switch_to(next, &series);
            }
            None => {
                let number = Some(series.next_number()?);
                let old_log = series.log_path(number);
                let old_index = series.index_path(number).unwrap_or_default();
                fs::rename(&log, &old_log).map_err(Error::path("rename", &log))?;
                fs::rename(&index, &old_index).map_err(Error::path("rename", &index))?;
                match self.ask_to_go_on(writer, &log) {
                    Ok(next) => return self.switch_to(next, &series),
                    Err(e) if self.undecided.is_some() => return Err(e),
                    Err(e) => {
                        // The writer is still at the old file: give it its name back.
                        fs::rename(&old_log, &log).map_err(Error::path("rename", &old_log))?;
                        fs::rename(&old_index, &index).map_err(Error::path("rename", &old_index))?;
                        return Err(e);
                    }
                }
            }
        };
        if let Err(e) = writer.point_at(&next, &log) {
            self.undecided = Some(Undecided::Ours(next));
            return Err(e);
        }
        self.switch_to(next, &series)
    }

    /// Has the writer go on with a new file, which is what comes back. An error that may pass: it may still do it, both
    /// files stay as they are, and it is asked again.
    fn ask_to_go_on(&mut self, writer: &mut impl Writer, log: &Path) -> Result<File> {
        let (next, undecided) = match writer.make_next(log) {
            Some(made) => (made, Undecided::Its),
            None => {
                let next = open_live(&self.paths)?;
                match writer.point_at(&next, log) {
                    Ok(()) => return Ok(next),
                    Err(e) => (Err(e), Undecided::Ours(next)),
                }
            }
        };
        next.inspect_err(|e| {
            if e.exit_code() == EXIT_RETRY {
                self.undecided = Some(undecided);
            }
        })
    }

    /// The writer is at `next`, which has the live log's name.
    fn switch_to(&mut self, next: File, series: &Series) -> Result<()> {
        let (log, index) = (self.paths.console(), self.paths.console_index());
        // The old file is complete now.
        self.note();
        let inode = next.metadata().map_err(Error::path("stat", &log))?.ino();
        let new_index = IndexWriter::open(&index, inode)?;
        if let Some(copy) = &self.copy {
            copy.switch(open_again(&next, &log, OpenOptions::new().read(true))?);
        }
        self.live = next;
        self.index = new_index;
        self.size = 0;
        if let Some((inotify, watch)) = self.inotify.take() {
            let _ = inotify.rm_watch(watch);
            self.inotify = match inotify.add_watch(&log, AddWatchFlags::IN_MODIFY) {
                Ok(watch) => Some((inotify, watch)),
                Err(_) => self.start_watching(),
            };
        }
        // It may have been already.
        self.note();
        for path in series.expired(self.limits.keep)? {
            file::remove_if_there(&path)?;
        }
        Ok(())
    }

    /// After an adoption: a supervisor killed in the middle of a rotation may have left the writer with the old file.
    pub fn reattach(&mut self, writer: &mut impl Writer) -> Result<()> {
        let log = self.paths.console();
        match writer.make_next(&log) {
            None => writer.point_at(&self.live, &log)?,
            Some(made) => {
                let made = made?;
                let inode =
                    |file: &File| file.metadata().map(|m| (m.dev(), m.ino())).map_err(Error::path("stat", &log));
                if inode(&made)? != inode(&self.live)? {
                    return self.switch_to(made, &Series::console(&self.paths));
                }
            }
        }
        self.note();
        Ok(())
    }
}

/// Another descriptor of the same file, with a position of its own: by the descriptor, for the name may already be
/// another file's.
pub fn open_again(file: &File, path: &Path, how: &OpenOptions) -> Result<File> {
    use std::os::fd::AsRawFd;
    how.open(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(Error::path("open", path))
}
