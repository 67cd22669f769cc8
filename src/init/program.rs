//! Starting the one program that all this is for.

use super::handover::Handover;
use super::report::Fail;
use super::user::User;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::unistd::{ForkResult, Pid, fork, pipe2};
use std::ffi::{CString, c_char};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};

/// PATH where the definition sets none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// File descriptors that a program may raise its limit to, as under systemd.
const OPEN_FILES: libc::rlimit = libc::rlimit { rlim_cur: 1024, rlim_max: 524_288 };

/// What went wrong in the child, as it writes it into the pipe.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Step {
    Credentials = 1,
    Directory = 2,
    Execute = 3,
    /// The file is there, but what it names to run it (a script's interpreter, an ELF's loader) is not.
    Interpreter = 4,
}

/// Everything the child needs, made before the fork: between fork and exec it may not allocate.
struct Plan {
    candidates: Vec<CString>,
    args: Vec<CString>,
    env: Vec<CString>,
    workdir: CString,
    groups: Vec<libc::gid_t>,
    uid: libc::uid_t,
    gid: libc::gid_t,
}

/// Starts the program in a session of its own, with `output`, or else our own console, as its output; returns its
/// process id.
/// Fails with 127 when there is no such program, 126 when it can't be executed.
pub fn start(handover: &Handover, user: &User, output: Option<&OwnedFd>) -> Result<Pid, Fail> {
    let name = handover.args.first().map(String::as_str).unwrap_or_default();
    let plan = plan(handover, user).map_err(|e| Fail::new(format!("start {name}: {e}")))?;
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).map_err(Fail::of("start", name))?;
    let arg_pointers = pointers(&plan.args);
    let env_pointers = pointers(&plan.env);
    // SAFETY: init has one thread, and the child uses system calls only.
    match unsafe { fork() }.map_err(Fail::of("start", name))? {
        ForkResult::Child => {
            // SAFETY: the pointers are into `plan`, which lives.
            let (step, errno) = unsafe { become_program(&plan, &arg_pointers, &env_pointers, output) };
            let message = [step as u8, errno as u8];
            // SAFETY: a buffer of two bytes; nothing is left to do if this fails.
            unsafe {
                libc::write(writer.as_raw_fd(), message.as_ptr().cast(), message.len());
                libc::_exit(127);
            }
        }
        ForkResult::Parent { child } => {
            drop(writer);
            settle(reader, name, handover, user).map(|()| child)
        }
    }
}

/// Waits until the child has become the program, or says why it could not.
fn settle(reader: OwnedFd, name: &str, handover: &Handover, user: &User) -> Result<(), Fail> {
    let mut message = [0; 2];
    if File::from(reader).read_exact(&mut message).is_err() {
        return Ok(());
    }
    let errno = Errno::from_raw(message[1].into());
    let reason = errno.desc();
    Err(match message[0] {
        s if s == Step::Execute as u8 => match errno {
            Errno::ENOENT | Errno::ENOTDIR => Fail { code: 127, text: format!("{name}: no such program in the guest") },
            _ => Fail { code: 126, text: format!("execute {name}: {reason}") },
        },
        s if s == Step::Interpreter as u8 => {
            Fail { code: 126, text: format!("execute {name}: its interpreter or dynamic loader is not in the guest") }
        }
        s if s == Step::Directory as u8 => Fail::new(format!("enter working directory {}: {reason}", handover.workdir)),
        _ => Fail::new(format!("become user {}: {reason}", user.uid)),
    })
}

fn plan(handover: &Handover, user: &User) -> Result<Plan, String> {
    let text = |s: &str| CString::new(s).map_err(|_| format!("{s:?} has a NUL byte"));
    let name = handover.args.first().map(String::as_str).unwrap_or_default();
    let mut env = handover.env.clone();
    let defaults = [("PATH", DEFAULT_PATH), ("HOME", user.home.as_str()), ("HOSTNAME", handover.hostname.as_str())];
    for (key, value) in defaults {
        if !value.is_empty() && !env.iter().any(|(n, _)| n == key) {
            env.push((key.into(), value.into()));
        }
    }
    let candidates = if name.contains('/') {
        vec![text(name)?]
    } else {
        let path = env.iter().rev().find(|(n, _)| n == "PATH").map(|(_, v)| v.clone()).unwrap_or_default();
        let in_dir = |dir: &str| text(&format!("{}/{name}", if dir.is_empty() { "." } else { dir }));
        path.split(':').map(in_dir).collect::<Result<_, _>>()?
    };
    let workdir = if handover.workdir.is_empty() { "/" } else { &handover.workdir };
    Ok(Plan {
        candidates,
        args: handover.args.iter().map(|a| text(a)).collect::<Result<_, _>>()?,
        env: env.iter().map(|(n, v)| text(&format!("{n}={v}"))).collect::<Result<_, _>>()?,
        workdir: text(workdir)?,
        groups: user.groups.clone(),
        uid: user.uid,
        gid: user.gid,
    })
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
}

/// Returns only if something failed: the step and its errno.
///
/// # Safety
/// Only between fork and exec, in the child. `args` and `env` end with a null pointer.
unsafe fn become_program(
    plan: &Plan,
    args: &[*const c_char],
    env: &[*const c_char],
    output: Option<&OwnedFd>,
) -> (Step, i32) {
    // SAFETY: system calls with pointers to data that the caller owns; none allocates or takes a lock.
    unsafe {
        libc::setsid();
        libc::setrlimit(libc::RLIMIT_NOFILE, &OPEN_FILES);
        // Rust ignores SIGPIPE; everything else has its default disposition in init.
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY);
        if null > 0 {
            libc::dup2(null, 0);
            libc::close(null);
        }
        if let Some(pipe) = output {
            libc::dup2(pipe.as_raw_fd(), 1);
            libc::dup2(pipe.as_raw_fd(), 2);
        }
        // As root: an image's working directory may be closed to the program's user, as with container engines.
        if libc::chdir(plan.workdir.as_ptr()) != 0 {
            return (Step::Directory, Errno::last_raw());
        }
        if libc::setgroups(plan.groups.len(), plan.groups.as_ptr()) != 0
            || libc::setgid(plan.gid) != 0
            || libc::setuid(plan.uid) != 0
        {
            return (Step::Credentials, Errno::last_raw());
        }
        let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
        let mut worst = libc::ENOENT;
        for candidate in &plan.candidates {
            libc::execve(candidate.as_ptr(), args.as_ptr(), env.as_ptr());
            let errno = Errno::last_raw();
            match errno {
                libc::ENOENT if libc::access(candidate.as_ptr(), libc::F_OK) == 0 => return (Step::Interpreter, errno),
                // As a shell does: look on, but remember that there was one.
                libc::ENOENT | libc::ENOTDIR => {}
                libc::EACCES => worst = errno,
                _ => return (Step::Execute, errno),
            }
        }
        (Step::Execute, worst)
    }
}

/// Signals that init passes on to the program.
pub const PASSED_ON: [Signal; 7] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
];
