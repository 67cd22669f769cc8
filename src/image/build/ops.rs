//! Running `ops`: with nothing of ours but its home, no network, no privileges, and its answer not believed.
//!
//! Its exit codes lie both ways, so success is what the caller finds made; what it says is only for messages.

use crate::sys::pidfd::PidFd;
use crate::sys::{Deadline, Error, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};

/// The part of its output that is kept: the end, where it says how it went.
const OUTPUT_MAX: usize = 64 << 10;
/// The part of that which goes into an error.
const TOLD_MAX: usize = 600;
/// A port of loopback that nobody has: a proxy there fails at once, where a firewall would let it wait.
const NO_PROXY: &str = "http://127.0.0.1:9";

/// A call of `ops`.
#[derive(Debug)]
pub struct Call<'a> {
    /// The program, open.
    pub program: &'a OwnedFd,
    /// Its home, open: the folder that holds `.ops`.
    pub home: &'a OwnedFd,
    /// Whom to run it as, where that is not ourselves.
    pub user: Option<u32>,
    /// Bytes of the largest file that it may write.
    pub file_max: u64,
    /// Its arguments. The home is `{}` in them.
    pub args: &'a [&'a str],
}

/// How it ended.
#[derive(Debug)]
pub struct Answer {
    status: ExitStatus,
    output: String,
}

impl Call<'_> {
    /// Runs it to its end, at most until `deadline`.
    pub fn run(&self, deadline: Deadline) -> Result<Answer> {
        // A path that needs no right to the folders above, and that stays when the working directory is changed.
        let home = format!("/proc/self/fd/{}", self.home.as_raw_fd());
        let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(Error::os("make", "pipe"))?;
        let mut command = Command::new(format!("/proc/self/fd/{}", self.program.as_raw_fd()));
        command
            .arg0("ops")
            .args(self.args.iter().map(|arg| arg.replace("{}", &home)))
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("LC_ALL", "C")
            .env("HOME", &home)
            .env("OPS_HOME", &home)
            .env("OPS_DEFAULT_CONFIG", format!("{home}/default.json"))
            .env("TMPDIR", format!("{home}/tmp"))
            .envs(["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"].map(|name| (name, NO_PROXY)))
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(writer.try_clone().map_err(Error::os("duplicate", "pipe"))?)
            .stderr(writer);
        let (user, file_max, kept) = (self.user, self.file_max, [self.program.as_raw_fd(), self.home.as_raw_fd()]);
        // SAFETY: system calls only, on numbers that were made before.
        unsafe { command.pre_exec(move || confine(user, file_max, kept)) };
        log::debug!("ops {}", self.args.join(" "));
        let child = command.spawn().map_err(Error::os("start", "ops"))?;
        // The command holds our ends of the pipe.
        drop(command);
        Running { child, reader: reader.into() }.finish(deadline)
    }
}

/// In the child: no network, no other rights than that user's, no end later than ours.
fn confine(user: Option<u32>, file_max: u64, kept: [i32; 2]) -> std::io::Result<()> {
    let done = |result: i32| if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) };
    // SAFETY: plain system calls; the limit lives across its call.
    unsafe {
        if let Some(id) = user {
            // Where that isn't allowed, the proxy that isn't there has to do.
            libc::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWIPC);
            done(libc::setgroups(0, std::ptr::null()))?;
            done(libc::setresgid(id, id, id))?;
            done(libc::setresuid(id, id, id))?;
        }
        // After the change of user, which clears it.
        done(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
        done(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        done(libc::setrlimit(libc::RLIMIT_CORE, &none))?;
        let most = libc::rlimit { rlim_cur: file_max, rlim_max: file_max };
        done(libc::setrlimit(libc::RLIMIT_FSIZE, &most))?;
        for fd in kept {
            done(libc::fcntl(fd, libc::F_SETFD, 0))?;
        }
        libc::umask(0o077);
    }
    Ok(())
}

/// A running one. Dropping it kills its process group and reaps it.
struct Running {
    child: Child,
    reader: File,
}

impl Running {
    fn finish(mut self, deadline: Deadline) -> Result<Answer> {
        let pid = self.child.id() as i32;
        let handle = PidFd::open(pid).ok_or_else(|| Error::busy("ops", "can't be watched: no pidfd"))?;
        let mut output = Vec::new();
        let mut open = true;
        loop {
            let mut fds = vec![PollFd::new(handle.as_fd(), PollFlags::POLLIN)];
            if open {
                fds.push(PollFd::new(self.reader.as_fd(), PollFlags::POLLIN));
            }
            match poll(&mut fds, deadline.poll_timeout()) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(e) => return Err(Error::os("wait for", "ops")(e)),
            }
            let ready = |n: usize| fds.get(n).and_then(PollFd::any).unwrap_or(false);
            let (ended, readable) = (ready(0), ready(1));
            if readable {
                open = take(&mut self.reader, &mut output)?;
            } else if ended {
                break;
            } else if deadline.passed() {
                return Err(Error::busy("ops", "took too long, stopped"));
            }
        }
        // Nothing of its group outlives it; it isn't reaped yet, so the group is still its own.
        self.kill();
        let status = self.child.wait().map_err(Error::os("wait for", "ops"))?;
        while open && is_readable(&self.reader) {
            open = take(&mut self.reader, &mut output)?;
        }
        Ok(Answer { status, output: String::from_utf8_lossy(&output).into_owned() })
    }

    fn kill(&self) {
        // SAFETY: a plain system call on a group that is ours.
        unsafe { libc::kill(-(self.child.id() as i32), libc::SIGKILL) };
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.kill();
            let _ = self.child.wait();
        }
    }
}

fn is_readable(file: &File) -> bool {
    matches!(poll(&mut [PollFd::new(file.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO), Ok(1..))
}

/// Reads what is there; false at its end. Keeps the last [`OUTPUT_MAX`] bytes.
fn take(reader: &mut File, output: &mut Vec<u8>) -> Result<bool> {
    let mut buffer = [0; 8192];
    let n = match reader.read(&mut buffer) {
        Ok(n) => n,
        Err(e) if e.kind() == std::io::ErrorKind::Interrupted => return Ok(true),
        Err(e) => return Err(Error::os("read", "output of ops")(e)),
    };
    output.extend_from_slice(buffer.get(..n).unwrap_or_default());
    output.drain(..output.len().saturating_sub(OUTPUT_MAX));
    Ok(n > 0)
}

impl Answer {
    /// Whether it ended with 0 and, where `line` is given, said a line of that kind.
    pub fn succeeded(&self, line: impl Fn(&str) -> bool) -> bool {
        self.status.success() && lines(&self.output).any(|(text, _)| line(&text))
    }

    /// Whether it ended with 0.
    pub fn ended_well(&self) -> bool {
        self.status.success()
    }

    /// What it had to say, as an error about `object`: its red lines, else all but its usual noise. Values of `secret`
    /// are not shown.
    pub fn error(&self, object: &str, secret: &[(String, String)]) -> Error {
        let all: Vec<(String, bool)> = lines(&self.output).filter(|(text, _)| !is_noise(text)).collect();
        let red = all.iter().any(|(_, red)| *red);
        let panic = all.iter().position(|(text, _)| text.starts_with("panic:") || text.starts_with("fatal error:"));
        let said: Vec<&str> = match panic {
            Some(at) => all.iter().skip(at).take(1).map(|(text, _)| text.as_str()).collect(),
            None => all.iter().filter(|(_, is_red)| *is_red || !red).map(|(text, _)| text.as_str()).collect(),
        };
        let mut said = said.join("; ");
        for (_, value) in secret.iter().filter(|(_, value)| value.len() >= 4) {
            said = said.replace(value.as_str(), "***");
        }
        let said: String = said.chars().take(TOLD_MAX).collect();
        let how = match (self.status.code(), self.status.signal()) {
            (Some(0), _) => "made no image, though it exited with 0".to_string(),
            (Some(code), _) => format!("exited with {code}"),
            (None, signal) => format!("was killed by signal {}", signal.unwrap_or_default()),
        };
        let reason = if said.is_empty() { format!("ops {how}") } else { format!("ops {how}: {said}") };
        let full = ["no space left", "disk quota exceeded"];
        match full.iter().any(|text| self.output.to_lowercase().contains(text)) {
            true => Error::busy(object, format!("{reason}; make room, mcp-build --gc may help")),
            false => Error::refused(object, reason),
        }
    }
}

/// What it says at every call without a network, and a progress bar's rests.
fn is_noise(text: &str) -> bool {
    text.is_empty() || text.starts_with("version lookup failed") || text.starts_with("warning: ")
}

/// Lines without colours and control characters, and whether they were red.
fn lines(output: &str) -> impl Iterator<Item = (String, bool)> + '_ {
    output.split(['\n', '\r']).map(|line| {
        let (mut text, mut red, mut rest) = (String::new(), false, line);
        while let Some(at) = rest.find('\u{1b}') {
            text.push_str(rest.get(..at).unwrap_or_default());
            let code: &str = rest.get(at..).unwrap_or_default();
            let end = code.find(|c: char| c.is_ascii_alphabetic()).map_or(code.len(), |n| n + 1);
            red |= matches!(code.get(..end), Some("\u{1b}[31m" | "\u{1b}[1;31m" | "\u{1b}[0;31m"));
            rest = code.get(end..).unwrap_or_default();
        }
        text.push_str(rest);
        (
            text.trim()
                .chars()
                .map(|c| if c.is_control() || c == char::REPLACEMENT_CHARACTER { '?' } else { c })
                .collect(),
            red,
        )
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn shell(script: &str, deadline: Deadline) -> Result<Answer> {
        let open = |path: &str| OwnedFd::from(File::open(path).unwrap());
        Call { program: &open("/bin/sh"), home: &open("/tmp"), user: None, file_max: 1 << 20, args: &["-c", script] }
            .run(deadline)
    }

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(20))
    }

    #[test]
    fn its_red_lines_are_told() {
        let answer = shell(
            "printf '\\033[1;33mversion lookup failed, using local.\\n\\033[0mfine so far\\n';
             printf '\\033[1;31mfile \"x\" is \\001missing s3cret\\033[0m\\n' >&2; exit 1",
            soon(),
        )
        .unwrap();
        let secret = [("A".to_string(), "s3cret".to_string())];
        let told = answer.error("x", &secret).to_string();
        assert_eq!(told, "x: ops exited with 1: file \"x\" is ?missing ***");
        let told = shell("echo one; echo two", soon()).unwrap().error("x", &[]);
        assert_eq!(told.to_string(), "x: ops made no image, though it exited with 0: one; two");
        let full = shell("echo write: no space left on device; exit 1", soon()).unwrap().error("x", &[]);
        assert_eq!(full.exit_code(), 111);
        let panic = shell("echo panic: index out; echo; echo goroutine 1; exit 2", soon()).unwrap().error("x", &[]);
        assert_eq!(panic.to_string(), "x: ops exited with 2: panic: index out");
    }

    #[test]
    fn a_flood_is_bounded_and_its_end_is_kept() {
        let answer = shell("yes 0123456789 | head -n 1000000; echo done", soon()).unwrap();
        assert!(answer.output.len() <= OUTPUT_MAX);
        assert!(answer.succeeded(|line| line == "done"));
        assert!(!answer.succeeded(|line| line == "other"));
    }

    #[test]
    fn one_that_hangs_is_stopped_with_all_that_it_started() {
        let start = Instant::now();
        let told = shell("sleep 60 & echo here; sleep 60", Deadline::after(Duration::from_millis(200))).unwrap_err();
        assert_eq!(told.to_string(), "ops: took too long, stopped");
        // A child of its own that keeps the pipe open holds up nothing.
        let answer = shell("sleep 60 & echo here", soon()).unwrap();
        assert!(answer.succeeded(|line| line == "here"));
        assert!(start.elapsed() < Duration::from_secs(15));
    }

    #[test]
    fn its_environment_is_ours_to_say() {
        let answer = shell("env | sort; ls -l /proc/self/fd | wc -l", soon()).unwrap();
        let names: Vec<&str> = answer.output.lines().filter_map(|l| l.split_once('=')).map(|(name, _)| name).collect();
        for name in &names {
            let ours = ["ALL_PROXY", "HOME", "HTTPS_PROXY", "HTTP_PROXY", "LC_ALL", "OPS_DEFAULT_CONFIG", "OPS_HOME"];
            assert!(ours.contains(name) || ["PATH", "PWD", "TMPDIR", "_", "SHLVL", "OLDPWD"].contains(name), "{name}");
        }
        assert!(names.contains(&"OPS_HOME"));
    }

    #[test]
    fn a_file_that_grows_too_large_is_cut_off() {
        let path = std::env::temp_dir().join(format!("mcp-ops-large-{}", std::process::id()));
        let answer = shell(&format!("head -c 3000000 /dev/zero >{}", path.display()), soon()).unwrap();
        assert!(!answer.ended_well());
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 1 << 20);
        std::fs::remove_file(path).unwrap();
    }
}
