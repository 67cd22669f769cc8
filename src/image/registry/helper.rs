//! Credential helpers: `docker-credential-NAME get`, the host on its standard input, JSON on its standard output.

use super::credentials::{Credentials, Secret};
use super::words;
use crate::sys::tool::{self, Tool};
use crate::sys::{Deadline, Error, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use serde::Deserialize;
use std::fs::File;
use std::io::{PipeReader, Read, Seek, Write};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A helper that takes longer waits for a person who isn't there.
const LIMIT: Duration = Duration::from_secs(10);

/// Bytes of its answer.
const ANSWER_MAX: u64 = 64 << 10;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// Whether the helper `name` is installed; what is no name at all is left for [`get`] to refuse.
pub(super) fn is_there(name: &str) -> bool {
    !is_name(name) || tool::find(&format!("docker-credential-{name}"), "").is_ok()
}

/// Nothing that could be a path.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// Asks the helper `name` for `host`; `None`: it has nothing.
pub(super) fn get(name: &str, host: &str, deadline: Deadline) -> Result<Option<Credentials>> {
    if !is_name(name) {
        return Err(Error::refused(crate::model::problem::quoted(name), "no name of a credential helper"));
    }
    let from = format!("docker-credential-{name}");
    let program = tool::find(&from, "its package, or take it out of the auth file")?;
    let deadline = deadline.min(Deadline::after(LIMIT));
    // As docker login stores it.
    let key = if host == "docker.io" { "https://index.docker.io/v1/" } else { host };
    let mut input = File::from(tool::memory("mcp-host")?);
    input.write_all(key.as_bytes()).and_then(|()| input.rewind()).map_err(Error::os("write", "file in memory"))?;
    let (output, theirs) = std::io::pipe().map_err(Error::os("create", "pipe"))?;
    let mut command = Command::new(program);
    command.arg("get").stdin(Stdio::from(input)).stdout(theirs);
    let mut tool = Tool::start("credential helper", &mut command)?;
    // With it goes our copy of the pipe's other end.
    drop(command);
    let bytes = read(output, deadline).map_err(Error::os("read", &from))?;
    let status = tool.wait(deadline).map_err(|_| Error::busy(&from, "took too long, stopped"))?;
    if !status.success() {
        // Its way to say that it has nothing is a sentence, on either stream. A reason on standard error is for people; its
        // standard output, where credentials come, is not shown.
        let reason = tool.complaints();
        if reason.contains("credentials not found") || String::from_utf8_lossy(&bytes).contains("credentials not found")
        {
            return Ok(None);
        }
        let (how, try_it) = (tool::describe(status), format!("try it: echo {key} | {from} get"));
        let reason = words::short(&reason);
        return Err(Error::refused(
            &from,
            match reason.is_empty() {
                true => format!("{how}; {try_it}"),
                false => format!("{how}: {reason}; {try_it}"),
            },
        ));
    }
    let answer: Answer =
        serde_json::from_slice(&bytes).map_err(|_| Error::refused(&from, "what it answers are no credentials"))?;
    let secret = if answer.username == "<token>" {
        Secret::Identity(answer.secret)
    } else {
        Secret::Password { user: answer.username, password: answer.secret }
    };
    Ok(Some(Credentials { from, secret }))
}

/// Reads to the end, to `deadline` or to [`ANSWER_MAX`], whichever comes first. It may have left a child behind that
/// keeps the pipe open.
fn read(mut from: PipeReader, deadline: Deadline) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    while (bytes.len() as u64) < ANSWER_MAX && !deadline.passed() {
        match poll(&mut [PollFd::new(from.as_fd(), PollFlags::POLLIN)], deadline.poll_timeout()) {
            Ok(0) | Err(Errno::EINTR) => continue,
            Ok(_) => {}
            Err(e) => return Err(e.into()),
        }
        match from.read(&mut part)? {
            0 => break,
            n => bytes.extend_from_slice(part.get(..n).unwrap_or_default()),
        }
    }
    Ok(bytes)
}
