//! Starting QEMU: everything it needs opened by us, then `exec` as its own user with nothing else.

use crate::guest::launch::argv::{FIRST_FD, Handed, Plan};
use crate::guest::launch::overlay;
use crate::sys::lock::{Lock, start_time};
use crate::sys::pidfd::PidFd;
use crate::sys::user::User;
use crate::sys::{Deadline, Error, Result, file, tool};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Number of the descriptor by which QEMU holds the instance's lock.
const LOCK_FD: i32 = FIRST_FD - 2;
/// Number of the descriptor by which QEMU holds its user's lock.
const USER_FD: i32 = FIRST_FD - 1;
/// Our own copies start here, so that none stands where a child's is going to.
const PARKED_FD: i32 = 256;

/// How long a QEMU that closed its monitor may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// What is started, and as whom.
pub struct Launch<'a> {
    /// QEMU's program.
    pub binary: &'a Path,
    /// Arguments and descriptors.
    pub plan: &'a Plan,
    /// Where throw-away overlays go.
    pub overlays: &'a Path,
    /// A microvm's initramfs with the configuration, readable by `user`.
    pub initramfs: Option<OwnedFd>,
    /// Who it runs as.
    pub user: &'a User,
    /// A group that it needs besides (the one of /dev/kvm).
    pub group: Option<u32>,
    /// The instance's lock: QEMU keeps it, we don't.
    pub lock: Lock,
}

/// A QEMU that was just started, still before its greeting.
pub struct Spawned {
    /// Our child.
    pub child: Child,
    /// A handle on it.
    pub pidfd: PidFd,
}

fn park(fd: impl AsFd) -> Result<OwnedFd> {
    let raw =
        fcntl(fd.as_fd(), FcntlArg::F_DUPFD_CLOEXEC(PARKED_FD)).map_err(Error::os("duplicate", "a descriptor"))?;
    // SAFETY: F_DUPFD_CLOEXEC gave us a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Opens a Unix socket that listens at `path`, mode 0600, in place of whatever was there.
fn listen(path: &Path) -> Result<OwnedFd> {
    file::remove_if_there(path)?;
    let listener = UnixListener::bind(path).map_err(Error::path("listen on", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(Error::path("change mode of", path))?;
    Ok(listener.into())
}

fn open(what: &Handed, launch: &mut Launch<'_>) -> Result<OwnedFd> {
    match what {
        Handed::Disk(path) => Ok(File::open(path).map_err(Error::path("open", path))?.into()),
        Handed::WritableDisk(path) => {
            Ok(OpenOptions::new().read(true).write(true).open(path).map_err(Error::path("open", path))?.into())
        }
        Handed::Overlay(path) => {
            let size = fs::metadata(path).map_err(Error::path("stat", path))?.len();
            file::create_dirs(launch.overlays)?;
            Ok(overlay::create(launch.overlays, size)?.into())
        }
        Handed::Console(path) => Ok(OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)
            .map_err(Error::path("open", path))?
            .into()),
        Handed::Boot(path) => tool::open_for(path, launch.user.uid),
        Handed::Initramfs(path) => launch
            .initramfs
            .take()
            .ok_or_else(|| Error::refused(path.display(), "no initramfs was prepared; this is a bug of mcp")),
        Handed::Socket(path) => listen(path),
    }
}

/// Starts QEMU. When this fails, nothing of it is left but files in the run directory.
pub fn spawn(mut launch: Launch<'_>) -> Result<Spawned> {
    let mut given: Vec<(OwnedFd, i32)> = Vec::new();
    let handed = &launch.plan.handed;
    for (n, what) in handed.iter().enumerate() {
        let fd = open(what, &mut launch)?;
        given.push((park(fd)?, FIRST_FD + n as i32));
    }
    given.push((park(&launch.lock)?, LOCK_FD));
    if let Some(lock) = launch.user.lock() {
        given.push((park(lock)?, USER_FD));
    }
    let numbers: Vec<(i32, i32)> = given.iter().map(|(fd, number)| (fd.as_raw_fd(), *number)).collect();
    let become_user = launch.user.other().map(|uid| (uid, launch.group));
    let mut command = Command::new(launch.binary);
    command
        .args(&launch.plan.args)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    // SAFETY: we have one thread when a VM is started, so the child may do all that we may; what it does is
    // system calls and one small allocation.
    unsafe { command.pre_exec(move || prepare_child(&numbers, become_user)) };
    let mut child = command.spawn().map_err(|e| cannot_spawn(launch.binary, e))?;
    match PidFd::open(child.id() as i32) {
        Some(pidfd) => Ok(Spawned { child, pidfd }),
        None => {
            let _ = child.kill();
            let _ = child.wait();
            Err(Error::busy("qemu", "its process could not be opened: out of descriptors?"))
        }
    }
}

/// Whether QEMU's program is there.
pub fn check_program(binary: &Path) -> Result<()> {
    nix::unistd::access(binary, nix::unistd::AccessFlags::X_OK).map_err(|e| cannot_spawn(binary, e.into()))
}

fn cannot_spawn(binary: &Path, e: std::io::Error) -> Error {
    match e.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR) => Error::refused(
            binary.display(),
            "not found; install it (Debian: apt install qemu-system-x86) or name it as [qemu] binary in mcp.toml",
        ),
        Some(libc::EACCES) => Error::refused(
            binary.display(),
            "not to be executed by the user that QEMU runs as; name another one as [qemu] binary in mcp.toml",
        ),
        _ => Error::path("run", binary)(e),
    }
}

fn prepare_child(numbers: &[(i32, i32)], user: Option<(u32, Option<u32>)>) -> std::io::Result<()> {
    // Whatever our own caller left open is none of QEMU's business; what follows makes exceptions.
    // SAFETY: marks descriptors to be closed by `exec`, and closes none.
    if unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) } < 0 {
        return Err(std::io::Error::last_os_error());
    }
    for (from, to) in numbers {
        // SAFETY: both are plain numbers; `from` is open, `to` is not a source of a later step (PARKED_FD).
        if unsafe { libc::dup2(*from, *to) } < 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    // Its own session: a signal from our terminal is for us, who then stop it in order.
    nix::unistd::setsid()?;
    // A core dump would be the guest's whole memory.
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0)?;
    sign_lock(LOCK_FD)?;
    nix::sys::prctl::set_no_new_privs()?;
    if let Some((uid, group)) = user {
        let groups: Vec<nix::unistd::Gid> = group.into_iter().map(nix::unistd::Gid::from_raw).collect();
        nix::unistd::setgroups(&groups)?;
        nix::unistd::setgid(nix::unistd::Gid::from_raw(uid))?;
        nix::unistd::setuid(nix::unistd::Uid::from_raw(uid))?;
    }
    Ok(())
}

/// Writes who holds the instance's lock before there is anything to hold: whoever finds the lock held finds the pid.
fn sign_lock(number: i32) -> std::io::Result<()> {
    let pid = std::process::id();
    let line = format!("{pid} {} qemu\n", start_time(pid as i32).unwrap_or(0));
    // SAFETY: the descriptor is open; ManuallyDrop keeps it so.
    let mut file = std::mem::ManuallyDrop::new(unsafe { File::from_raw_fd(number) });
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(line.as_bytes())
}

/// Ends a QEMU that is no longer to be spoken to: by itself in [`END_TIMEOUT`], else by force.
fn end(child: &mut Child) {
    let is_over = PidFd::open(child.id() as i32).is_none_or(|p| p.wait(Deadline::after(END_TIMEOUT)).unwrap_or(false));
    if !is_over {
        let _ = child.kill();
    }
    let _ = child.wait();
}

/// Sees to it that QEMU has ended. What it said on stderr before that: its last line, bounded.
pub fn last_words(child: &mut Child) -> String {
    end(child);
    let mut bytes = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        // A child that it left behind may hold the other end.
        let _ = fcntl(&stderr, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
        let _ = stderr.take(16384).read_to_end(&mut bytes);
    }
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("it said nothing");
    let line = line.trim().trim_start_matches("qemu-system-x86_64: ");
    line.chars().filter(|c| !c.is_control()).take(300).collect()
}

/// Finds `binary` on PATH where it has no slash.
pub fn find_program(binary: &Path) -> PathBuf {
    if binary.components().count() > 1 {
        return binary.to_path_buf();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|dir| dir.join(binary))
        .find(|p| p.is_file())
        .unwrap_or_else(|| binary.to_path_buf())
}
