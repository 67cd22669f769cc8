//! Starting a component through `[boot] start_command`, so that the init system owns it, and waiting until it is ready.

use super::failure::{self, Failure};
use super::resolve::Resolved;
use super::{start, stop};
use crate::health::Hints;
use crate::model::state::{self, Phase, State};
use crate::model::{ComponentId, Record, Runtime, Source, Version, Wish};
use crate::supervise::with_console;
use crate::sys::error::{EXIT_FINAL, EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, EXIT_OK, EXIT_RETRY};
use crate::sys::paths::{ComponentPaths, Paths, Slot};
use crate::sys::{Deadline, Error, Result, lock, time, tool};
use nix::poll::{PollFd, PollFlags, poll};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// What a start takes besides the component's own timeouts, on a busy node.
const SPARE: Duration = Duration::from_secs(30);
/// A supervisor that is killed gives no hint: this often it is asked whether there is one.
const LOOK_PAUSE: Duration = Duration::from_secs(1);
/// The same where nobody tells us that something has changed.
const BLIND_PAUSE: Duration = Duration::from_millis(50);

/// `text` as systemd-escape(1) has it, for the name of a unit's instance.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'/' => escaped.push('-'),
            b'.' if at == 0 => escaped.push_str("\\x2e"),
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b':' | b'_' | b'.' => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("\\x{byte:02x}")),
        }
    }
    escaped
}

/// A start command under way.
pub struct Begun<'a> {
    paths: Paths,
    found: &'a Resolved,
    files: ComponentPaths,
    program: String,
    child: Child,
    began: String,
    deadline: Deadline,
    /// Where its complaints are kept; `None`: they go to our standard error.
    kept: Option<File>,
}

/// Where the complaints of a start command go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Complaints {
    /// To our standard error.
    Told,
    /// Into the error that a failure is.
    Kept,
}

/// Runs `words` for `found`, with its placeholders replaced and no shell in between. `None`: it shall stay stopped, which
/// `recover` respects. The unit takes what the record says, so what a start would take is recorded first.
pub fn begin<'a>(paths: &Paths, words: &[String], found: &'a Resolved, recover: bool) -> Result<Option<Begun<'a>>> {
    let id = &found.id;
    let record = Record::read(paths, id)?;
    if recover && record.is_some_and(|r| r.wish == Wish::Stop) {
        log::warn!("{id}: shall stay stopped, so it is not started; mcp-run {id} changes that");
        return Ok(None);
    }
    let version = start::choose_next(paths, found)?;
    if !recover {
        stop::set_wish(paths, id, Wish::Run)?;
        let files = paths.component(&id.service, &id.component);
        if !matches!(version.spec.source, Source::Image { .. }) && !state::any_alive(&files)? {
            start::next(paths, found)?;
        }
    }
    spawn(paths, words, found, &version, Complaints::Told).map(Some)
}

/// The words that start a component of this runtime in the background when no init does.
pub fn in_background(runtime: Runtime) -> Vec<String> {
    let program = if runtime == Runtime::Container { "mcp-run-container" } else { "mcp-run-vm" };
    let program = tool::ours(program).to_string_lossy().into_owned();
    [program.as_str(), "--detach", "--recover", "{id}"].map(str::to_string).into()
}

/// `words` with `{unit}`, `{name}` and `{id}` replaced.
pub fn words_for(words: &[String], id: &ComponentId) -> Vec<String> {
    let (name, id) = (id.flat(), id.to_string());
    let unit = escape(&id);
    let replace = |word: &String| word.replace("{unit}", &unit).replace("{name}", &name).replace("{id}", &id);
    words.iter().map(replace).collect()
}

/// Runs `words`, a stop command, for `id`, and waits for its end; one that takes longer than that is ended. What it
/// complained about is the error's reason.
pub fn stop(words: &[String], id: &ComponentId, deadline: Deadline) -> Result<()> {
    let mut words = words_for(words, id).into_iter();
    let program = words.next().unwrap_or_default();
    let mut file = File::from(tool::memory("mcp-complaints")?);
    let copy = || file.try_clone().map(Stdio::from).map_err(Error::os("duplicate", "descriptor"));
    let mut command = Command::new(&program);
    command.args(words).stdin(Stdio::null()).stdout(copy()?).stderr(copy()?).process_group(0);
    command.env_remove("NOTIFY_SOCKET");
    log::debug!("{command:?}");
    let mut child = command.spawn().map_err(Error::os("run", &program))?;
    if !tool::ends_in_time(&mut child, deadline)? {
        return Err(Error::busy(id, format!("{program} took too long, ended")));
    }
    let status = child.wait().map_err(Error::os("wait for", &program))?;
    if status.success() {
        return Ok(());
    }
    let told = tool::complaints(&mut file);
    let how = format!("{program} {}", tool::describe(status));
    Err(Error::busy(id, if told.is_empty() { how } else { told }))
}

/// Runs `words` for `found`, of which `version` is about to start, with its placeholders replaced.
pub fn spawn<'a>(
    paths: &Paths,
    words: &[String],
    found: &'a Resolved,
    version: &Version,
    complaints: Complaints,
) -> Result<Begun<'a>> {
    let mut words = words_for(words, &found.id).into_iter();
    let program = words.next().unwrap_or_default();
    let mut command = Command::new(&program);
    // What it prints is no answer of ours.
    let (out, kept) = match complaints {
        Complaints::Told => {
            let ours = std::io::stderr().as_fd().try_clone_to_owned().map_err(Error::os("duplicate", "descriptor"))?;
            (Stdio::from(ours), None)
        }
        Complaints::Kept => {
            let file = File::from(tool::memory("mcp-complaints")?);
            let copy = || file.try_clone().map(Stdio::from).map_err(Error::os("duplicate", "descriptor"));
            command.stderr(copy()?);
            (copy()?, Some(file))
        }
    };
    command.args(words).stdin(Stdio::null()).stdout(out).process_group(0);
    // Whoever started us is told by us alone: it would take the first component's word for the whole node's.
    command.env_remove("NOTIFY_SOCKET");
    let began = time::now();
    let timeouts = version.spec.start_timeout + version.spec.settle + version.spec.stop_timeout;
    let deadline = Deadline::after(timeouts + SPARE);
    log::debug!("{command:?}");
    let child = command.spawn().map_err(Error::os("run", &program))?;
    let files = paths.component(&found.id.service, &found.id.component);
    Ok(Begun { paths: paths.clone(), found, files, program, child, began, deadline, kept })
}

/// The exit code for an error of [`begin`] or [`Begun::finish`]: a shell's, where the program can't be executed.
pub fn exit_code(error: &Error) -> u8 {
    match error {
        Error::Os { action: "run", source, .. } if source.raw_os_error() == Some(libc::ENOENT) => EXIT_NOT_FOUND,
        Error::Os { action: "run", source, .. } if source.raw_os_error() == Some(libc::EACCES) => EXIT_NOT_EXECUTABLE,
        other => other.exit_code(),
    }
}

impl Begun<'_> {
    /// Waits for the command's end, and with `ready` until the component is ready. The exit code: 100, 126 and 127 are
    /// the command's own, any other failure may pass.
    pub fn finish(mut self, ready: bool) -> Result<u8> {
        let id = &self.found.id;
        let status = self.ended()?;
        match status.code() {
            Some(0) if ready => self.wait_until_ready(),
            Some(0) => Ok(EXIT_OK),
            code => {
                let error = Error::busy(id, format!("{} {}", self.program, tool::describe(status)));
                log::error!("{error}");
                Ok(code.and_then(own).unwrap_or(EXIT_RETRY))
            }
        }
    }

    /// Waits for the command's end, and with `ready` until the component is ready. A failure is an error with what the
    /// command complained about, final where it says so.
    pub fn succeed(mut self, ready: bool) -> Result<()> {
        let id = &self.found.id;
        let status = self.ended()?;
        if status.success() {
            return if ready { self.wait_until_ready().map(drop) } else { Ok(()) };
        }
        let told = self.kept.as_mut().map(tool::complaints).unwrap_or_default();
        let reason = match told.is_empty() {
            true => format!("{} {}", self.program, tool::describe(status)),
            false => told,
        };
        Err(match status.code().and_then(own) {
            Some(_) => Error::refused(id, reason),
            None => Error::busy(id, reason),
        })
    }

    /// Waits for the command's end; one that takes too long is stopped.
    fn ended(&mut self) -> Result<ExitStatus> {
        if !tool::ends_in_time(&mut self.child, self.deadline)? {
            return Err(Error::busy(&self.found.id, format!("{} took too long, stopped", self.program)));
        }
        self.child.wait().map_err(Error::os("wait for", &self.program))
    }

    fn wait_until_ready(&self) -> Result<u8> {
        let id = &self.found.id;
        let mut names = vec![self.files.run.clone()];
        names.extend(Slot::ALL.map(|slot| self.files.instance(slot).run));
        // Where others have taken all that this user may have, we look more often.
        let hints = Hints::new(names, Vec::new()).map_err(|e| log::debug!("{id}: {e}")).ok();
        let pause = if hints.is_some() { LOOK_PAUSE } else { BLIND_PAUSE };
        loop {
            // Before the look: what comes meanwhile is a hint again.
            hints.iter().for_each(Hints::drain);
            match self.look()? {
                Progress::Ready => return Ok(EXIT_OK),
                Progress::Ended(reason) => return Err(Error::busy(id, reason)),
                Progress::Failed(failed) if failed.code == EXIT_FINAL => {
                    return Err(Error::refused(id, failed.reason));
                }
                Progress::Failed(failed) => return Err(Error::busy(id, failed.reason)),
                Progress::Coming if self.deadline.passed() => {
                    return Err(Error::busy(id, "not ready in time; it is still being tried in the background"));
                }
                Progress::Coming => {}
            }
            let until = self.deadline.min(Deadline::after(pause));
            let mut fds: Vec<_> = hints.iter().map(|h| PollFd::new(h.as_fd(), PollFlags::POLLIN)).collect();
            let _ = poll(&mut fds, until.poll_timeout());
        }
    }

    fn look(&self) -> Result<Progress> {
        let slots = self.files.current_slot().into_iter().chain(Slot::ALL);
        let mut ended = None;
        for instance in slots.map(|slot| self.files.instance(slot)) {
            // The state is asked first: one that is written between the two looks is found the next time.
            let state = State::read(&instance).map_err(|e| log::debug!("{e}")).ok().flatten();
            if state::is_alive(&instance)? {
                let ready = state.is_some_and(|s| s.phase == Phase::Ready);
                return Ok(if ready { Progress::Ready } else { Progress::Coming });
            }
            let new = state.filter(|s| s.end.as_ref().is_some_and(|end| end.at >= self.began));
            ended = ended.or_else(|| {
                let state = new?;
                let console = state.end.as_ref().map_or(&[][..], |end| &end.console);
                Some(with_console(&state.why_not_ready(), console))
            });
        }
        let failed = failure::since(&self.paths, &self.found.id, &self.began);
        if let Some(failed) = failed.filter(|_| ended.is_none()) {
            return Ok(Progress::Failed(failed));
        }
        match ended {
            Some(reason) if !lock::is_held(&self.files.lock())? => Ok(Progress::Ended(reason)),
            _ => Ok(Progress::Coming),
        }
    }
}

/// An exit code of a start command that says that trying again will not help.
fn own(code: i32) -> Option<u8> {
    u8::try_from(code).ok().filter(|code| matches!(code, &EXIT_FINAL | &EXIT_NOT_EXECUTABLE | &EXIT_NOT_FOUND))
}

enum Progress {
    Coming,
    Ready,
    /// Its supervisor could not start it.
    Failed(Failure),
    /// Since we began, and nobody tries again.
    Ended(String),
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn escapes_as_systemd_does() {
        // What systemd-escape of systemd 252 prints.
        for (text, escaped) in [
            ("shop/api", "shop-api"),
            ("a-b/c", "a\\x2db-c"),
            ("a/b-c", "a-b\\x2dc"),
            (".x", "\\x2ex"),
            ("x.y", "x.y"),
            ("-", "\\x2d"),
            ("/", "-"),
            ("a b", "a\\x20b"),
            ("A:b_9", "A:b_9"),
            ("a\\b", "a\\x5cb"),
            ("\u{e9}", "\\xc3\\xa9"),
            ("\u{2014}", "\\xe2\\x80\\x94"),
            ("", ""),
        ] {
            assert_eq!(escape(text), escaped);
        }
    }

    #[test]
    fn escapes_as_the_installed_one_does() {
        for text in ["a-b/c", ".x", "x.y/z", "a b", "\u{2014}", "a\\b", "a@b", "0/1"] {
            let Ok(told) = Command::new("systemd-escape").args(["--", text]).output() else { return };
            assert_eq!(String::from_utf8(told.stdout).unwrap().trim_end_matches('\n'), escape(text));
        }
    }
}
