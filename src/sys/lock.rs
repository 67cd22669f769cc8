//! Locks whose holding is liveness: the kernel drops one when the last process that has it is gone.
//!
//! They are open-file-description locks of `fcntl`: inherited across `exec` like those of `flock`, but whether one is
//! held can be asked without taking it, so a status query never makes a start fail.

use super::alarm::Alarm;
use super::{Deadline, Error, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// How often a folder may be removed under our hands before that is an error.
const REMOVALS_MAX: u32 = 10;
/// How often the file may be replaced under our hands before that is an error. Each holder before us replaces it once.
const REPLACEMENTS_MAX: u32 = 10_000;

/// A held lock. Dropping it gives it up, unless a child inherited the descriptor.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
}

/// Who wrote the lock file: a hint for people and, with the start time checked, for signals. Never liveness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Process id, in the pid namespace of the holder.
    pub pid: i32,
    /// Start time of that process in clock ticks since boot, as in /proc/PID/stat.
    pub start_time: u64,
    /// Name of the program.
    pub program: String,
}

fn whole_file() -> libc::flock {
    // SAFETY: all-zero is a valid flock: from 0, to the end, relative to the start.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    range.l_type = libc::F_WRLCK as libc::c_short;
    range.l_whence = libc::SEEK_SET as libc::c_short;
    range
}

impl Lock {
    /// Takes the lock at `path`, creating the file (0600) and its folder (0700) if need be. `None` when another process
    /// holds it.
    pub fn try_take(path: &Path) -> Result<Option<Lock>> {
        take(path, |file| match fcntl(file, FcntlArg::F_OFD_SETLK(&whole_file())) {
            Ok(_) => Ok(true),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
            Err(e) => Err(e),
        })
    }

    /// The same, waiting for the holder until `deadline`; `None` when it is still held then. The kernel wakes the waiters
    /// in the order in which they came.
    pub fn wait(path: &Path, deadline: Deadline) -> Result<Option<Lock>> {
        if let Some(lock) = Lock::try_take(path)? {
            return Ok(Some(lock));
        }
        let _alarm = Alarm::at(deadline)?;
        take(path, |file| {
            loop {
                match fcntl(file, FcntlArg::F_OFD_SETLKW(&whole_file())) {
                    Ok(_) => return Ok(true),
                    Err(Errno::EINTR) if deadline.passed() => return Ok(false),
                    Err(Errno::EINTR) => {}
                    Err(e) => return Err(e),
                }
            }
        })
    }

    /// Writes who we are into the lock file.
    pub fn sign(&mut self, program: &str) -> Result<()> {
        let pid = std::process::id();
        let line = format!("{pid} {} {program}\n", start_time(pid as i32).unwrap_or(0));
        let mut write = || {
            self.file.set_len(0)?;
            self.file.seek(SeekFrom::Start(0))?;
            self.file.write_all(line.as_bytes())
        };
        write().map_err(Error::path("write", &self.path))
    }

    /// The locked file.
    pub(super) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Removes the file while holding the lock, then gives it up. A waiter sees the removal and makes a new one.
    pub fn remove(self) -> Result<()> {
        super::file::remove_if_there(&self.path)
    }
}

/// Takes the lock at `path` by `lock`, which says whether it has locked the file.
fn take(path: &Path, lock: impl Fn(&File) -> nix::Result<bool>) -> Result<Option<Lock>> {
    for _ in 0..REPLACEMENTS_MAX {
        let file = open(path)?;
        if !lock(&file).map_err(Error::path("lock", path))? {
            return Ok(None);
        }
        // The holder before us may have removed the file between our open and our lock.
        let ours = file.metadata().map_err(Error::path("stat", path))?;
        match std::fs::metadata(path) {
            Ok(there) if there.ino() == ours.ino() && there.dev() == ours.dev() => {
                return Ok(Some(Lock { file, path: path.to_path_buf() }));
            }
            Ok(_) => {}
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => {}
            Err(e) => return Err(Error::path("stat", path)(e)),
        }
    }
    Err(Error::busy(path.display(), "replaced again and again while it was locked; try again"))
}

/// Opens the file at `path`, creating it and its folder if need be.
fn open(path: &Path) -> Result<File> {
    let mut tries = 0..REMOVALS_MAX;
    loop {
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path);
        match opened {
            // No folder yet, or an mcp-rm that has just removed it.
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) && tries.next().is_some() => {
                if let Some(folder) = path.parent() {
                    super::file::create_dirs(folder)?;
                }
            }
            opened => return opened.map_err(Error::path("open", path)),
        }
    }
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Whether anybody holds the lock at `path`. Takes nothing and writes nothing.
pub fn is_held(path: &Path) -> Result<bool> {
    // For reading alone: a lock that can't be taken, since the file system is read-only, may be held all the same.
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path) {
        Ok(f) => f,
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => return Ok(false),
        Err(e) => return Err(Error::path("open", path)(e)),
    };
    let mut range = whole_file();
    fcntl(&file, FcntlArg::F_OFD_GETLK(&mut range)).map_err(Error::path("query lock", path))?;
    Ok(range.l_type != libc::F_UNLCK as libc::c_short)
}

/// Who signed the lock file at `path`, if that can be read.
pub fn holder(path: &Path) -> Option<Holder> {
    let mut text = String::new();
    File::open(path).ok()?.take(256).read_to_string(&mut text).ok()?;
    let mut words = text.split_whitespace();
    Some(Holder {
        pid: words.next()?.parse().ok()?,
        start_time: words.next()?.parse().ok()?,
        program: words.next()?.to_string(),
    })
}

/// Start time of process `pid` in clock ticks since boot; `None` when there is no such process.
pub fn start_time(pid: i32) -> Option<u64> {
    start_time_in(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The same from what such a file says.
pub(super) fn start_time_in(stat: &str) -> Option<u64> {
    // The second field is the command in parentheses, which may hold anything.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// Whether process `pid` has been killed with SIGKILL, or is on its way out: on a busy node that takes a while, and it
/// keeps its locks meanwhile.
pub fn is_dying(pid: i32) -> bool {
    const PF_EXITING: u64 = 4;
    let read = |name| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let flags = |stat: String| stat.rsplit_once(')')?.1.split_whitespace().nth(6)?.parse::<u64>().ok();
    let is_killed = |line: &str| {
        let pending = line.strip_prefix("SigPnd:").or_else(|| line.strip_prefix("ShdPnd:"));
        pending
            .and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
            .is_some_and(|set| set >> (libc::SIGKILL - 1) & 1 == 1)
    };
    flags(read("stat")).is_some_and(|flags| flags & PF_EXITING != 0) || read("status").lines().any(is_killed)
}

impl AsRawFd for Lock {
    fn as_raw_fd(&self) -> i32 {
        self.file.as_raw_fd()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use nix::sys::resource::{UsageWho, getrusage};
    use std::time::Duration;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("mcp-lock-{name}-{}", std::process::id()))
    }

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(30))
    }

    #[test]
    fn a_waiter_sleeps_until_its_deadline() {
        let path = path("deadline");
        let held = Lock::try_take(&path).unwrap().unwrap();
        let slept = || getrusage(UsageWho::RUSAGE_THREAD).unwrap().voluntary_context_switches();
        let before = slept();
        let deadline = Deadline::after(Duration::from_millis(300));
        assert!(Lock::wait(&path, deadline).unwrap().is_none());
        assert!(deadline.passed());
        let woken = slept() - before;
        assert!(woken < 8, "woken {woken} times");
        assert!(Lock::wait(&path, Deadline::after(Duration::ZERO)).unwrap().is_none());
        held.remove().unwrap();
    }

    #[test]
    fn waiters_get_it_one_after_the_other_though_each_replaces_the_file() {
        let path = path("replaced");
        let held = Lock::try_take(&path).unwrap().unwrap();
        let (inside, most) = (std::sync::atomic::AtomicU32::new(0), std::sync::atomic::AtomicU32::new(0));
        use std::sync::atomic::Ordering::SeqCst;
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| {
                    let lock = Lock::wait(&path, soon()).unwrap().unwrap();
                    most.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
                    inside.fetch_sub(1, SeqCst);
                    lock.remove().unwrap();
                });
            }
            held.remove().unwrap();
        });
        assert_eq!(most.into_inner(), 1);
        assert!(!path.exists());
    }

    #[test]
    fn a_killed_holder_gives_it_to_the_waiter_and_an_heir_keeps_it() {
        let path = path("killed");
        let lock = Lock::try_take(&path).unwrap().unwrap();
        // As a QEMU does: its standard input is the lock.
        let file = lock.file.try_clone().unwrap();
        let mut heir = std::process::Command::new("sleep").arg("60").stdin(file).spawn().unwrap();
        drop(lock);
        assert!(Lock::wait(&path, Deadline::after(Duration::from_millis(50))).unwrap().is_none());
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| Lock::wait(&path, soon()).unwrap());
            heir.kill().unwrap();
            waits.join().unwrap().unwrap().remove().unwrap();
        });
        heir.wait().unwrap();
    }

    #[test]
    fn who_is_killed_is_seen_to_die() {
        let mut stopped = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = stopped.id() as i32;
        assert!(!is_dying(pid) && !is_dying(std::process::id() as i32));
        stopped.kill().unwrap();
        // Pending, on its way out, or a zombie: we have not waited for it.
        let deadline = soon();
        while !is_dying(pid) && !deadline.passed() {}
        assert!(is_dying(pid));
        stopped.wait().unwrap();
        assert!(!is_dying(pid));
    }
}
