//! Asking a supervisor to replace its VM: a request in a file, a signal, an answer in a file.

use crate::model::{ComponentId, Version};
use crate::sys::error::EXIT_RETRY;
use crate::sys::lock::Lock;
use crate::sys::paths::ComponentPaths;
use crate::sys::pidfd::PidFd;
use crate::sys::{Deadline, Error, Result, file};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde::{Deserialize, Serialize};
use std::os::fd::AsFd;
use std::time::Duration;

const SIZE_MAX: u64 = 64 << 10;
/// Before asking again while another version is being put in place.
const AGAIN_PAUSE: Duration = Duration::from_millis(20);

/// Between two looks where the kernel does not tell that the answer has come.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug, Serialize, Deserialize)]
struct Request {
    id: String,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    id: String,
    /// 0 the new one serves, 1 it was not healthy and the old one serves, else an exit code of ours.
    pub code: u8,
    /// In words, one or more lines.
    pub text: String,
    /// Whether another version is just being put in place: to be asked again.
    again: bool,
}

/// Asks the supervisor of `id` for a replace and waits for its answer. Askers take turns.
pub fn ask(id: &ComponentId, files: &ComponentPaths, deadline: Deadline) -> Result<Answer> {
    let not_running = || Error::no(id, format!("has no supervisor; mcp-run {id} starts it"));
    if !files.run.is_dir() {
        return Err(not_running());
    }
    let turn =
        Lock::wait(&files.replace_lock(), deadline)?.ok_or_else(|| Error::busy(id, "is being replaced; try again"))?;
    let result = ask_in_turn(id, files, deadline, not_running);
    let _ = file::remove_if_there(&files.replace_request());
    let _ = file::remove_if_there(&files.replace_answer());
    turn.remove()?;
    result
}

fn ask_in_turn(
    id: &ComponentId,
    files: &ComponentPaths,
    deadline: Deadline,
    not_running: impl Fn() -> Error,
) -> Result<Answer> {
    let watch = || -> nix::Result<Inotify> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        inotify.add_watch(&files.run, AddWatchFlags::IN_MOVED_TO)?;
        Ok(inotify)
    };
    // A user has 128 of them, which others may have taken: then we look now and then.
    let inotify = watch().map_err(|e| log::debug!("inotify: {}", e.desc())).ok();
    let supervisor = PidFd::of_lock(&files.lock())?.ok_or_else(not_running)?;
    let request = Request { id: format!("{}-{}", std::process::id(), crate::sys::time::now()) };
    let bytes = serde_json::to_vec(&request).map_err(|e| Error::refused(id, e.to_string()))?;
    let send = || {
        file::remove_if_there(&files.replace_answer())?;
        file::write_whole(&files.replace_request(), &bytes, false)?;
        supervisor.signal(libc::SIGHUP)
    };
    send()?;
    loop {
        match read_answer(files)?.filter(|a| a.id == request.id) {
            Some(answer) if answer.again && !deadline.passed() => {
                std::thread::sleep(AGAIN_PAUSE);
                send()?;
            }
            Some(answer) => return Ok(answer),
            None => {}
        }
        let mut fds = vec![PollFd::new(supervisor.as_fd(), PollFlags::POLLIN)];
        fds.extend(inotify.iter().map(|i| PollFd::new(i.as_fd(), PollFlags::POLLIN)));
        let until = if inotify.is_some() { deadline } else { deadline.min(Deadline::after(LOOK_PAUSE)) };
        match poll(&mut fds, until.poll_timeout()) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(Error::os("wait for", id)(e)),
        }
        let ended = fds.first().and_then(PollFd::any).unwrap_or(false);
        let _ = inotify.as_ref().map(Inotify::read_events);
        if ended && read_answer(files)?.is_none_or(|a| a.id != request.id) {
            return Err(Error::busy(id, format!("its supervisor ended before it answered; mcp-run {id} goes on")));
        }
        if deadline.passed() {
            return Err(Error::busy(id, "no answer in time; the replace may still be under way"));
        }
    }
}

fn read_answer(files: &ComponentPaths) -> Result<Option<Answer>> {
    let bytes = file::read_regular(&files.replace_answer(), SIZE_MAX)?;
    // Whole at all times, so whatever is not an answer is not ours.
    Ok(bytes.and_then(|b| serde_json::from_slice(&b).ok()))
}

/// For the supervisor: whether somebody has asked.
pub fn is_pending(files: &ComponentPaths) -> bool {
    files.replace_request().exists()
}

/// For the supervisor: what it shall put in the place of what runs, which is what `next` says. `None`: whoever has asked
/// is answered, or gets the answer to what is `under_way`.
pub fn choose(
    files: &ComponentPaths,
    is_stopping: bool,
    under_way: Option<&Version>,
    next: &dyn Fn() -> Result<Version>,
) -> Option<Version> {
    if is_stopping && under_way.is_none() {
        answer(files, EXIT_RETRY, "is being stopped");
        return None;
    }
    match (next(), under_way) {
        (Ok(version), None) => return Some(version),
        // Whoever asks for what is under way already, since another asker was killed, gets the answer to that.
        (Ok(version), Some(other)) if other.runs_as(&version) => {}
        (Ok(_), Some(_)) => {
            reply(files, EXIT_RETRY, "another version is being put in its place; try again", true);
        }
        (Err(e), _) => {
            log::error!("not replaced: {e}");
            answer(files, e.exit_code(), &e.to_string());
        }
    }
    None
}

/// For the supervisor: whether what runs may be stopped for `version`, as far as `check` can know. Where not, whoever has
/// asked is told, and it is on trial no more.
pub fn may_start(
    files: &ComponentPaths,
    version: &Version,
    check: &dyn Fn(&Version) -> Result<()>,
    failed: &dyn Fn(&Version),
) -> bool {
    let Err(e) = check(version) else { return true };
    failed(version);
    refuse(files, &e);
    false
}

/// For the supervisor: whoever has asked is told why nothing is put in the place of what runs.
pub fn refuse(files: &ComponentPaths, e: &Error) {
    log::error!("not replaced: {e}");
    answer(files, e.exit_code(), &format!("{e}; the old version serves on"));
}

/// For the supervisor: whoever has asked is told that a stop came, which is for good.
pub fn call_off(files: &ComponentPaths) {
    answer(files, EXIT_RETRY, "stopped meanwhile");
}

/// For the supervisor: answers whoever has asked.
pub fn answer(files: &ComponentPaths, code: u8, text: &str) {
    reply(files, code, text, false);
}

fn reply(files: &ComponentPaths, code: u8, text: &str, again: bool) {
    let request = file::read_regular(&files.replace_request(), SIZE_MAX).ok().flatten();
    let Some(request) = request.and_then(|b| serde_json::from_slice::<Request>(&b).ok()) else { return };
    let text = text.chars().take(8000).collect();
    let Ok(bytes) = serde_json::to_vec(&Answer { id: request.id, code, text, again }) else { return };
    let told = file::write_whole(&files.replace_answer(), &bytes, false);
    if let Err(e) = told.and_then(|()| file::remove_if_there(&files.replace_request())) {
        log::warn!("{e}");
    }
}

/// For the supervisor: whether a SIGHUP asks for a replace. Without a request it is our terminal that closed, where we
/// have one.
pub fn means_replace(files: &ComponentPaths) -> bool {
    is_pending(files) || std::fs::File::open("/dev/tty").is_err()
}
