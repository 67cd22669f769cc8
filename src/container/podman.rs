//! The `podman` program: found, asked, and believed no more than its JSON says.

use crate::model::Node;
use crate::model::state::Process;
use crate::sys::error::{EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND};
use crate::sys::sink::Sink;
use crate::sys::tool::{self, Tool};
use crate::sys::{Deadline, Error, Result, file};
use serde::de::DeserializeOwned;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The most that an answer may have, in bytes: some thousand containers with all their labels.
const ANSWER_MAX: u64 = 64 << 20;
/// The oldest that answers as we ask: Debian 12's is 4.3.
const OLDEST: (u32, u32) = (4, 0);
/// How long a question may take on a busy node.
pub const QUESTION: Duration = Duration::from_secs(30);
/// How long a change may take: a start with its network, a removal.
pub const CHANGE: Duration = Duration::from_secs(120);
/// From SIGTERM to SIGKILL for one that takes too long.
const GRACE: Duration = Duration::from_secs(5);
/// How podman is asked for errors alone.
const NO_WARNINGS: &str = "--log-level=error";
/// What podman would take for itself, or hand on to the container, out of the environment that an init gave us.
const OURS: [&str; 5] = ["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_USEC"];
/// What podman says of a trouble that may pass.
const MAY_PASS: [&str; 7] = [
    "No space left",
    "no space left",
    "address already in use",
    "annot allocate memory",
    "esource temporarily unavailable",
    "oo many open files",
    "database is locked",
];

/// A podman that is there.
#[derive(Debug, Clone)]
pub struct Podman {
    program: PathBuf,
    dir: Option<PathBuf>,
}

/// What tells one program's file from another.
type ProgramKey = (u64, u64, i64);

/// How a command of podman's went.
struct Ran {
    status: ExitStatus,
    answer: Vec<u8>,
    told: String,
}

impl Podman {
    /// The one that `[podman] binary` names, else the one on PATH. That there is none is an error with the way out.
    pub fn find(node: &Node) -> Result<Podman> {
        if node.podman.components().count() > 1 {
            return match node.podman.is_file() {
                true => Ok(Podman { program: node.podman.clone(), dir: None }),
                false => Err(Error::refused(node.podman.display(), "not found; [podman] binary in mcp.toml names it")),
            };
        }
        let program = tool::find(&node.podman.to_string_lossy(), "podman crun netavark")?;
        Ok(Podman { program, dir: None })
    }

    /// The same, run in `dir`.
    pub fn in_dir(&self, dir: &Path) -> Podman {
        Podman { program: self.program.clone(), dir: Some(dir.into()) }
    }

    /// Its program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// A command with these arguments that reads nothing.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.program);
        // Else its warnings, on old cgroups for one, stand before the error.
        if !log::log_enabled!(log::Level::Debug) {
            command.arg(NO_WARNINGS);
        }
        command.args(args).stdin(Stdio::null());
        for name in OURS {
            command.env_remove(name);
        }
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        command
    }

    /// Runs podman with `args` about `object` to its end; its standard output. Anything but success is an error with
    /// podman's own words. It ends with us.
    pub fn ask<S: AsRef<OsStr>>(
        &self,
        object: &str,
        args: impl IntoIterator<Item = S>,
        deadline: Deadline,
    ) -> Result<Vec<u8>> {
        succeed(object, run(&mut self.command(args), None, object, deadline)?)
    }

    /// The same for a question about something that may not be there: `None` then.
    pub fn ask_about<S: AsRef<OsStr>>(
        &self,
        object: &str,
        args: impl IntoIterator<Item = S>,
        deadline: Deadline,
    ) -> Result<Option<Vec<u8>>> {
        let ran = run(&mut self.command(args), None, object, deadline)?;
        let is_missing = ["no such container", "no such object", "no such image", "image not known"];
        if !ran.status.success() && is_missing.iter().any(|words| ran.told.to_lowercase().contains(words)) {
            return Ok(None);
        }
        succeed(object, ran).map(Some)
    }

    /// The same for an answer in JSON.
    pub fn ask_json<T: DeserializeOwned, S: AsRef<OsStr>>(
        &self,
        object: &str,
        args: impl IntoIterator<Item = S>,
        deadline: Deadline,
    ) -> Result<T> {
        parse(object, &self.ask(object, args, deadline)?)
    }

    /// Runs podman with `args`, which change something, to its end. Half a start or half a removal leaves mounts and
    /// firewall rules that no podman takes away again: it comes to its end though we are killed. Who that is stands in
    /// `sign` meanwhile, for [`wait_for_last`].
    pub fn change<S: AsRef<OsStr>>(
        &self,
        object: &str,
        args: impl IntoIterator<Item = S>,
        sign: &Path,
        deadline: Deadline,
    ) -> Result<Vec<u8>> {
        if let Some(folder) = sign.parent() {
            file::create_dirs(folder)?;
        }
        let signed = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(sign)
            .map_err(Error::path("open", sign))?;
        let ran = run(&mut self.command(args), Some(signed), object, deadline);
        file::remove_if_there(sign)?;
        succeed(object, ran?)
    }

    /// Its version. One that is too old is an error. Asked once of each program.
    pub fn version(&self, deadline: Deadline) -> Result<String> {
        /// Device, inode and time of change of the one that was asked, and what it said.
        static KNOWN: Mutex<Option<(ProgramKey, String)>> = Mutex::new(None);
        let about = std::fs::metadata(&self.program).map_err(Error::path("stat", &self.program))?;
        let key = (about.dev(), about.ino(), about.mtime());
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, version)) = &*known
            && *of == key
        {
            return Ok(version.clone());
        }
        let version = self.ask_version(deadline)?;
        *known = Some((key, version.clone()));
        Ok(version)
    }

    fn ask_version(&self, deadline: Deadline) -> Result<String> {
        let program = self.program.display().to_string();
        let answer = self.ask(&program, ["--version"], deadline)?;
        let text = String::from_utf8_lossy(&answer).trim().to_string();
        let version = text.strip_prefix("podman version ").unwrap_or_default().to_string();
        let mut numbers = version.split('.').map_while(|n| n.parse::<u32>().ok());
        match (numbers.next(), numbers.next()) {
            (Some(major), Some(minor)) if (major, minor) >= OLDEST => Ok(version),
            (Some(major), Some(minor)) => Err(Error::refused(
                program,
                format!("podman {major}.{minor} is too old; {}.{} or later is needed", OLDEST.0, OLDEST.1),
            )),
            _ => Err(Error::refused(program, "does not answer as podman does; [podman] binary in mcp.toml names it")),
        }
    }
}

/// Reads an answer in JSON.
pub fn parse<T: DeserializeOwned>(object: &str, answer: &[u8]) -> Result<T> {
    serde_json::from_slice(answer)
        .map_err(|e| Error::refused(object, format!("podman's answer is not what we know: {e}")))
}

/// Waits for a podman that a supervisor before us began and that has not come to its end; at last it is killed.
pub fn wait_for_last(sign: &Path) -> Result<()> {
    if let Some((pid, start_time)) = tool::signed(sign)?
        && let Some(handle) = (Process { pid, start_time }).open()
        && !handle.wait(Deadline::after(CHANGE))?
    {
        log::warn!("{}: podman, process {pid}, does not end; killed", sign.display());
        handle.signal(libc::SIGTERM)?;
        if !handle.wait(Deadline::after(GRACE))? {
            handle.signal(libc::SIGKILL)?;
            handle.wait(Deadline::after(GRACE))?;
        }
    }
    file::remove_if_there(sign)
}

fn run(command: &mut Command, sign: Option<File>, object: &str, deadline: Deadline) -> Result<Ran> {
    log::debug!("{command:?}");
    let answer = Sink::new("mcp-answer", ANSWER_MAX)?;
    command.stdout(answer.stdio()?);
    let mut podman = match sign {
        Some(sign) => Tool::start_lasting("podman", command, sign)?,
        None => Tool::start("podman", command)?,
    };
    let status = podman.wait(deadline).map_err(|e| {
        podman.end();
        match e {
            Error::Busy { .. } => Error::busy(object, "podman does not answer in time; try again"),
            other => other,
        }
    })?;
    if answer.is_full() {
        return Err(Error::refused(object, format!("podman answered more than {} MB", ANSWER_MAX >> 20)));
    }
    Ok(Ran { status, answer: answer.read(ANSWER_MAX)?, told: podman.complaints() })
}

fn succeed(object: &str, ran: Ran) -> Result<Vec<u8>> {
    let Ran { status, answer, told } = ran;
    if status.success() {
        return Ok(answer);
    }
    let words = told.strip_prefix("Error: ").unwrap_or(&told);
    let how = tool::describe(status);
    let reason = if words.is_empty() { format!("podman {how}") } else { format!("podman {how}: {words}") };
    // Killed by somebody, or short of something.
    let may_pass = status.code().is_none() || MAY_PASS.iter().any(|words| told.contains(words));
    Err(match status.code().and_then(|code| u8::try_from(code).ok()) {
        _ if may_pass => Error::busy(object, reason),
        // So `podman run` tells that it is the program in the image which can't be started.
        Some(code @ (EXIT_NOT_EXECUTABLE | EXIT_NOT_FOUND)) => Error::NotRun { object: object.into(), reason, code },
        _ => Error::refused(object, reason),
    })
}
