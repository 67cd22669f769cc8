//! Foreign programs: found, run side by side, waited for with a deadline, killed if they must be.

use crate::sys::pidfd::PidFd;
use crate::sys::sink::Sink;
use crate::sys::{Deadline, Error, Result, disk};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::fs::{File, Permissions};
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// From SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
/// The part of a program's complaints that goes into an error.
const TOLD_MAX: u64 = 2000;
/// What of them is kept, in bytes.
const COMPLAINTS_MAX: u64 = 1 << 20;

/// The program `name`, from PATH or the folders for administration, which an ordinary user's PATH lacks.
pub fn find(name: &str, package: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    let found = std::env::split_paths(&path).chain(more).map(|dir| dir.join(name)).find(|p| p.is_file());
    found.ok_or_else(|| Error::refused(name, format!("not found; apt install {package}")))
}

/// A program of ours: in the folder of this one, else on PATH.
pub fn ours(name: &str) -> PathBuf {
    let own = std::env::current_exe().ok();
    own.and_then(|exe| Some(exe.parent()?.join(name))).filter(|p| p.is_file()).unwrap_or_else(|| name.into())
}

/// A running program. Dropping it kills and reaps it.
pub struct Tool {
    name: &'static str,
    child: Child,
    complaints: Sink,
    done: bool,
}

impl Tool {
    /// Starts `command`, which messages call `name`, in a process group of its own, with its complaints collected.
    /// Standard input is what the command says, else nothing.
    pub fn start(name: &'static str, command: &mut Command) -> Result<Tool> {
        // What it makes is of no use to anybody else when we are killed.
        let end_with_us = || nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).map_err(Into::into);
        // SAFETY: one system call, and nothing that allocates.
        unsafe { command.pre_exec(end_with_us) };
        Tool::spawn(name, command)
    }

    /// The same for a program that must come to its end though we are killed: half of what it does is worse than all or
    /// nothing. It writes into `sign` what process it is, before it begins: see [`signed`].
    pub fn start_lasting(name: &'static str, command: &mut Command, sign: File) -> Result<Tool> {
        let sign_it = move || write_own_stat(&sign);
        // SAFETY: system calls alone, on the stack.
        unsafe { command.pre_exec(sign_it) };
        Tool::spawn(name, command)
    }

    fn spawn(name: &'static str, command: &mut Command) -> Result<Tool> {
        let complaints = Sink::new("mcp-complaints", COMPLAINTS_MAX)?;
        let child = command
            .stderr(complaints.stdio()?)
            .env("LC_ALL", "C")
            .process_group(0)
            .spawn()
            .map_err(Error::os("start", command.get_program().to_string_lossy()))?;
        Ok(Tool { name, child, complaints, done: false })
    }

    /// Its standard output, when that was a pipe; once.
    pub fn take_output(&mut self) -> Option<Stdio> {
        self.child.stdout.take().map(Stdio::from)
    }

    /// Waits for its end until `deadline`.
    pub fn wait(&mut self, deadline: Deadline) -> Result<ExitStatus> {
        if let Some(handle) = PidFd::open(self.child.id() as i32) {
            handle.wait(deadline)?;
        }
        match self.child.try_wait().map_err(Error::os("wait for", self.name))? {
            Some(status) => {
                self.done = true;
                Ok(status)
            }
            None => Err(Error::busy(self.name, "took too long, stopped")),
        }
    }

    /// Ends it where it still runs: it is asked to, and killed when it doesn't within two seconds.
    pub fn end(&mut self) {
        if self.done {
            return;
        }
        let _ = killpg(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
        let _ = self.wait(Deadline::after(GRACE));
    }

    /// What it complained about, in one line; empty when it didn't.
    pub fn complaints(&self) -> String {
        in_one_line(&self.complaints.read(TOLD_MAX).unwrap_or_default())
    }

    /// Waits as [`Tool::wait`] does; anything but success is an error about `object`. It writes to `place`: where that is
    /// full, it may be tried again.
    pub fn succeed(&mut self, object: &str, place: &Path, deadline: Deadline) -> Result<()> {
        let status = self.wait(deadline)?;
        if status.success() {
            return Ok(());
        }
        let told = self.complaints();
        let (name, how) = (self.name, describe(status));
        let reason = if told.is_empty() { format!("{name} {how}") } else { format!("{name} {how}: {told}") };
        // What these programs fail of is mostly a full disk; not all of them say so.
        Err(match disk::full(place) {
            Some(full) => Error::busy(object, format!("{full} ({reason})")),
            None => Error::refused(object, reason),
        })
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        if !self.done {
            // What it has started, too.
            let _ = killpg(Pid::from_raw(self.child.id() as i32), Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

/// What /proc/self/stat says, into `file`: between fork and exec.
fn write_own_stat(file: &File) -> std::io::Result<()> {
    let mut stat = [0_u8; 1024];
    // SAFETY: a constant string, a buffer of its own length, and a descriptor that is closed right here.
    let length = unsafe {
        let fd = libc::open(c"/proc/self/stat".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        if fd < 0 {
            return Err(std::io::Error::last_os_error());
        }
        let length = libc::read(fd, stat.as_mut_ptr().cast(), stat.len());
        libc::close(fd);
        length
    };
    let told = usize::try_from(length).ok().and_then(|length| stat.get(..length));
    let Some(told) = told else { return Err(std::io::Error::last_os_error()) };
    std::io::Write::write_all(&mut &*file, told)
}

/// The process that [`Tool::start_lasting`] has begun with `path` as its `sign`: its number and start time. `None`: none
/// was begun.
pub fn signed(path: &Path) -> Result<Option<(i32, u64)>> {
    let Some(text) = super::file::read_regular(path, 4096)? else { return Ok(None) };
    let text = String::from_utf8_lossy(&text);
    Ok(text.split_whitespace().next().and_then(|pid| pid.parse().ok()).zip(super::lock::start_time_in(&text)))
}

/// What a program that ended wrote to the file that was its standard error, in one line. Of what programs of ours say,
/// which end with the error, that is all.
pub fn complaints(file: &mut File) -> String {
    let mut told = Vec::new();
    if file.seek(SeekFrom::Start(0)).is_ok() {
        let _ = file.take(TOLD_MAX).read_to_end(&mut told);
    }
    let text = String::from_utf8_lossy(&told);
    let ours = |line: &str| {
        let (program, rest) = line.split_once(": ")?;
        let is_name = |c: char| c.is_ascii_lowercase() || c == '-';
        (program.starts_with("mcp-") && program.chars().all(is_name)).then(|| in_one_line(rest.as_bytes()))
    };
    let last = text.lines().rfind(|line| !line.trim().is_empty());
    last.and_then(ours).unwrap_or_else(|| in_one_line(&told))
}

fn in_one_line(told: &[u8]) -> String {
    let told = String::from_utf8_lossy(told);
    let told = told.lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join("; ");
    told.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Runs `command` to its end, in a process group of its own, with the streams that it was given. One that takes too long
/// is ended with all that it has started, and is an error.
pub fn run_group(command: &mut Command, deadline: Deadline) -> Result<ExitStatus> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command.process_group(0).spawn().map_err(Error::os("run", &program))?;
    match ends_in_time(&mut child, deadline)? {
        true => child.wait().map_err(Error::os("wait for", &program)),
        false => Err(Error::busy(program, "took too long, stopped")),
    }
}

/// Whether a child that leads a process group ends before `deadline`. If not, the group is ended.
pub fn ends_in_time(child: &mut Child, deadline: Deadline) -> Result<bool> {
    let ended = PidFd::open(child.id() as i32).map_or(Ok(true), |handle| handle.wait(deadline));
    if !matches!(ended, Ok(true)) {
        end_group(child);
    }
    ended
}

/// Ends a child that leads a process group, and the group: SIGTERM, and SIGKILL for what does not go.
pub fn end_group(child: &mut Child) {
    let group = Pid::from_raw(child.id() as i32);
    let _ = killpg(group, Signal::SIGTERM);
    let gone = PidFd::open(group.as_raw()).is_none_or(|handle| handle.wait(Deadline::after(GRACE)).unwrap_or(false));
    if !gone {
        let _ = killpg(group, Signal::SIGKILL);
    }
    let _ = child.wait();
}

/// How a program ended, in words.
pub fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended in an unknown way".into(),
    }
}

/// A new file in memory, close-on-exec, that only its owner can open.
pub fn memory(name: &str) -> Result<OwnedFd> {
    memory_with(name, 0)
}

/// The same, which can be sealed.
pub fn sealable(name: &str) -> Result<OwnedFd> {
    memory_with(name, libc::MFD_ALLOW_SEALING)
}

fn memory_with(name: &str, flags: libc::c_uint) -> Result<OwnedFd> {
    let name = std::ffi::CString::new(name).map_err(|_| Error::refused(name, "has a NUL byte"))?;
    // SAFETY: a string that outlives the call; a non-negative result is a new descriptor that is ours.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | flags) };
    if fd < 0 {
        return Err(Error::os("create", "file in memory")(std::io::Error::last_os_error()));
    }
    // SAFETY: as above.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // They are made 0777, and /proc/PID/fd asks for nothing but the mode.
    // SAFETY: a descriptor that is open.
    if unsafe { libc::fchmod(fd.as_raw_fd(), 0o600) } != 0 {
        return Err(Error::os("change mode of", "file in memory")(std::io::Error::last_os_error()));
    }
    Ok(fd)
}

/// Opens `path` so that the user `reader` can open it again as `/proc/self/fd/N`, as QEMU does with a kernel or an
/// initrd: the kernel checks the mode of the file, not those of the directories above it. A file that `reader` may not
/// read is copied into memory.
pub fn open_for(path: &Path, reader: u32) -> Result<OwnedFd> {
    let file = File::open(path).map_err(Error::path("open", path))?;
    let about = file.metadata().map_err(Error::path("stat", path))?;
    if about.mode() & 0o004 != 0 || about.uid() == reader {
        return Ok(file.into());
    }
    if !about.is_file() {
        return Err(Error::refused(path.display(), "not a file"));
    }
    let mut copy = File::from(sealable("mcp-boot")?);
    std::io::copy(&mut &file, &mut copy).map_err(Error::path("read", path))?;
    hand_over(&copy, Some(reader))?;
    Ok(copy.into())
}

/// Seals `memory`, a file from [`sealable`], and makes it readable by `reader` alone; `None`: by its present owner.
/// Nobody can change it after that, not even `reader`, who could change the mode back.
pub fn hand_over(memory: &File, reader: Option<u32>) -> Result<()> {
    let seals = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
    fcntl(memory, FcntlArg::F_ADD_SEALS(seals))
        .map_err(std::io::Error::from)
        .and_then(|_| memory.set_permissions(Permissions::from_mode(0o400)))
        .and_then(|()| std::os::unix::fs::fchown(memory, reader, None))
        .map_err(Error::os("hand over", "file in memory"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn shell(script: &str) -> Tool {
        Tool::start("sh", Command::new("sh").args(["-c", script])).unwrap()
    }

    #[test]
    fn failures_tell_code_and_complaint() {
        let soon = Deadline::after(Duration::from_secs(10));
        let e = shell("echo bad input >&2; exit 3").succeed("x.img", Path::new("/"), soon).unwrap_err();
        assert_eq!(e.to_string(), "x.img: sh exited with 3: bad input");
        let e = shell("kill -9 $$").succeed("x.img", Path::new("/"), soon).unwrap_err();
        assert_eq!(e.to_string(), "x.img: sh was killed by signal 9");
        shell("exit 0").succeed("x.img", Path::new("/"), soon).unwrap();
    }

    #[test]
    fn one_that_hangs_is_stopped_at_the_deadline() {
        let start = Instant::now();
        let mut tool = shell("exec sleep 60");
        let e = tool.succeed("x", Path::new("/"), Deadline::after(Duration::from_millis(50))).unwrap_err();
        assert!(e.to_string().contains("took too long"));
        let pid = tool.child.id() as i32;
        drop(tool);
        assert!(start.elapsed() < Duration::from_secs(10));
        assert!(PidFd::open(pid).is_none());
    }

    #[test]
    fn a_group_that_takes_too_long_ends_as_a_whole() {
        let start = Instant::now();
        let mut command = Command::new("sh");
        // The shell goes at SIGTERM, and its child with it.
        command.args(["-c", "sleep 60 & sleep 60"]).stdin(Stdio::null());
        let e = run_group(&mut command, Deadline::after(Duration::from_millis(50))).unwrap_err();
        assert_eq!(e.to_string(), "sh: took too long, stopped");
        assert!(start.elapsed() < Duration::from_secs(10));
        let ended = run_group(Command::new("sh").args(["-c", "exit 3"]), Deadline::after(Duration::from_secs(10)));
        assert_eq!(ended.unwrap().code(), Some(3));
    }

    #[test]
    fn a_copy_for_another_user_is_sealed_and_only_that_user_reads_it() {
        let path = std::env::temp_dir().join(format!("mcp-open-for-{}", std::process::id()));
        std::fs::write(&path, "kernel").unwrap();
        let owner = nix::unistd::geteuid().as_raw();
        let open = |mode: u32, reader: u32| {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            File::from(open_for(&path, reader).unwrap())
        };
        let is_copy = |file: &File| file.metadata().unwrap().ino() != std::fs::metadata(&path).unwrap().ino();
        assert!(!is_copy(&open(0o644, owner + 1)));
        assert!(!is_copy(&open(0o600, owner)));
        // Only root can give a file away.
        if owner == 0 {
            let copy = open(0o600, 12345);
            let about = copy.metadata().unwrap();
            assert!(is_copy(&copy));
            assert_eq!((about.len(), about.uid(), about.mode() & 0o7777), (6, 12345, 0o400));
            let e = std::io::Write::write_all(&mut &copy, b"other").unwrap_err();
            assert_eq!(e.raw_os_error(), Some(libc::EPERM));
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_missing_one_names_its_package() {
        assert_eq!(find("no-such-tool", "pkg").unwrap_err().to_string(), "no-such-tool: not found; apt install pkg");
    }
}
