//! The live console log: when its bytes came, and its rotation without losing one.
//!
//! QEMU writes the file itself. We are woken by inotify when it grew, at most 20 times a second, and never
//! while the guest is silent.

use crate::guest::console::copy::Copy;
use crate::guest::console::{IndexWriter, Series};
use crate::guest::monitor::qmp::{COMMAND_TIMEOUT, Qmp, QmpError};
use crate::model::node::Log;
use crate::sys::error::EXIT_RETRY;
use crate::sys::paths::InstancePaths;
use crate::sys::{Deadline, Error, Result, file};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use serde_json::{Value, json};
use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::time::{Duration, SystemTime};

/// How often a busy console is looked at.
const PER_SECOND: u32 = 20;
/// Pause after a rotation that failed.
const AFTER_FAILURE: Duration = Duration::from_secs(5);
/// Descriptor sets of consoles that we add; those of the command line are numbered from 1.
const FIRST_SET: u64 = 1000;
/// By this the sets of consoles are known in QEMU, whoever added them.
pub const OPAQUE: &str = "console";

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
    /// The next log, which QEMU was asked to write to and has not said that it does.
    undecided: Option<File>,
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

impl Console {
    /// Opens the log for a VM that is about to start or is adopted. `copy`: also on standard output.
    pub fn open(paths: &InstancePaths, limits: &Log, copy: bool) -> Result<Console> {
        file::create_dirs(&paths.log)?;
        Series::console(paths).settle()?;
        let live = open_live(paths)?;
        let meta = live.metadata().map_err(Error::path("stat", &paths.console()))?;
        let index = IndexWriter::open(&paths.console_index(), meta.ino())?;
        // What came after the last look of a supervisor before us was copied by nobody.
        let seen = index.last().offset.min(meta.len());
        let mut console = Console {
            paths: paths.clone(),
            limits: limits.clone(),
            copy: if copy {
                Some(Copy::start(open_again(&live, paths, OpenOptions::new().read(true))?, seen))
            } else {
                None
            },
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
    pub fn look(&mut self, qmp: &mut Qmp) {
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
            && let Err(e) = self.rotate(qmp)
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

    fn rotate(&mut self, qmp: &mut Qmp) -> Result<()> {
        let (log, index) = (self.paths.console(), self.paths.console_index());
        let series = Series::console(&self.paths);
        let next = match self.undecided.take() {
            Some(next) => next,
            None => {
                let number = Some(series.next_number()?);
                let old_log = series.log_path(number);
                let old_index = series.index_path(number).unwrap_or_default();
                fs::rename(&log, &old_log).map_err(Error::path("rename", &log))?;
                fs::rename(&index, &old_index).map_err(Error::path("rename", &index))?;
                let pointed = open_live(&self.paths).and_then(|next| match self.point_qemu_at(qmp, &next) {
                    Ok(()) => Ok(next),
                    // It may still do it: both files stay as they are, and it is asked again.
                    Err(e) if e.exit_code() == EXIT_RETRY => {
                        self.undecided = Some(next);
                        Err(e)
                    }
                    Err(e) => Err(e),
                });
                match pointed {
                    Ok(next) => return self.switch_to(next, &series),
                    Err(e) if self.undecided.is_some() => return Err(e),
                    Err(e) => {
                        // QEMU still writes to the old file: give it its name back.
                        fs::rename(&old_log, &log).map_err(Error::path("rename", &old_log))?;
                        fs::rename(&old_index, &index).map_err(Error::path("rename", &old_index))?;
                        return Err(e);
                    }
                }
            }
        };
        if let Err(e) = self.point_qemu_at(qmp, &next) {
            self.undecided = Some(next);
            return Err(e);
        }
        self.switch_to(next, &series)
    }

    /// QEMU writes to `next`, which has the live log's name.
    fn switch_to(&mut self, next: File, series: &Series) -> Result<()> {
        let (log, index) = (self.paths.console(), self.paths.console_index());
        // The old file is complete now.
        self.note();
        let inode = next.metadata().map_err(Error::path("stat", &log))?.ino();
        let new_index = IndexWriter::open(&index, inode)?;
        if let Some(copy) = &self.copy {
            copy.switch(open_again(&next, &self.paths, OpenOptions::new().read(true))?);
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
        // QEMU may have written to the new file before it was watched.
        self.note();
        for path in series.expired(self.limits.keep)? {
            file::remove_if_there(&path)?;
        }
        Ok(())
    }

    /// After an adoption: a supervisor killed in the middle of a rotation may have left QEMU with the old file.
    pub fn reattach(&mut self, qmp: &mut Qmp) -> Result<()> {
        self.point_qemu_at(qmp, &self.live)?;
        self.note();
        Ok(())
    }

    fn point_qemu_at(&self, qmp: &mut Qmp, file: &File) -> Result<()> {
        // QEMU takes from a set only a descriptor of just the access that it wants.
        let file = open_again(file, &self.paths, OpenOptions::new().append(true))?;
        let about = |e: QmpError| e.about(self.paths.console().display());
        let deadline = Deadline::after(COMMAND_TIMEOUT);
        let sets = qmp.execute("query-fdsets", Value::Null, deadline).map_err(about)?;
        let (ours, highest) = console_sets(&sets);
        let set = FIRST_SET.max(highest + 1);
        let arguments = json!({ "fdset-id": set, "opaque": OPAQUE });
        qmp.execute_with_fd("add-fd", arguments, file.as_fd(), deadline).map_err(about)?;
        let out = format!("/dev/fdset/{set}");
        let backend = json!({ "type": "file", "data": { "out": out, "append": true } });
        let changed = qmp.execute("chardev-change", json!({ "id": "serial0", "backend": backend }), deadline);
        let obsolete = match &changed {
            Ok(_) => ours,
            Err(QmpError::Refused(_)) => vec![set],
            // Whether it comes to that, nobody knows.
            Err(_) => Vec::new(),
        };
        for set in obsolete {
            // Else the old file stays open, and its space taken once it is deleted. It makes no difference to what
            // QEMU writes to, and the next rotation tries again.
            if let Err(e) = qmp.execute("remove-fd", json!({ "fdset-id": set }), deadline) {
                log::warn!("{}: {e}", self.paths.console().display());
            }
        }
        changed.map(drop).map_err(about)
    }
}

/// Another descriptor of the same file, with a position of its own: by the descriptor, for the name may already be
/// another file's.
fn open_again(file: &File, paths: &InstancePaths, how: &OpenOptions) -> Result<File> {
    use std::os::fd::AsRawFd;
    how.open(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(Error::path("open", &paths.console()))
}

/// From the answer to `query-fdsets`: the sets of consoles, and the highest number of any.
fn console_sets(answer: &Value) -> (Vec<u64>, u64) {
    let sets: &[Value] = answer.as_array().map_or(&[], Vec::as_slice);
    let id = |set: &Value| set.get("fdset-id").and_then(Value::as_u64).unwrap_or(0);
    let is_console = |set: &&Value| {
        let fds = set.get("fds").and_then(Value::as_array);
        fds.is_some_and(|fds| fds.iter().any(|fd| fd.get("opaque").and_then(Value::as_str) == Some(OPAQUE)))
    };
    (sets.iter().filter(is_console).map(id).collect(), sets.iter().map(id).max().unwrap_or(0))
}
