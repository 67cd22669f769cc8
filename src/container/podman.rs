//! The `podman` program: found, asked, and believed no more than its JSON says.

use crate::model::Node;
use crate::sys::{Deadline, Error, Result, tool};
use serde::de::DeserializeOwned;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The most that an answer may have, in bytes: some thousand containers with all their labels.
const ANSWER_MAX: u64 = 64 << 20;
/// The oldest that answers as we ask: Debian 12's is 4.3.
const OLDEST: (u32, u32) = (4, 0);
/// How long a question may take on a busy node.
pub const QUESTION: Duration = Duration::from_secs(30);

/// A podman that is there.
#[derive(Debug, Clone)]
pub struct Podman {
    program: PathBuf,
}

impl Podman {
    /// The one that `[podman] binary` names, else the one on PATH. That there is none is an error with the way out.
    pub fn find(node: &Node) -> Result<Podman> {
        if node.podman.components().count() > 1 {
            return match node.podman.is_file() {
                true => Ok(Podman { program: node.podman.clone() }),
                false => Err(Error::refused(node.podman.display(), "not found; [podman] binary in mcp.toml names it")),
            };
        }
        let program = tool::find(&node.podman.to_string_lossy(), "podman crun netavark")?;
        Ok(Podman { program })
    }

    /// A command with these arguments, in a process group of its own, that reads nothing.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).stdin(Stdio::null());
        command
    }

    /// Runs podman with `args` about `object` to its end; its standard output. Anything but success is an error with
    /// podman's own words.
    pub fn ask<S: AsRef<OsStr>>(
        &self,
        object: &str,
        args: impl IntoIterator<Item = S>,
        deadline: Deadline,
    ) -> Result<Vec<u8>> {
        tool::output("podman", &mut self.command(args), object, ANSWER_MAX, deadline)
    }

    /// The same for an answer in JSON.
    pub fn ask_json<T: DeserializeOwned, S: AsRef<OsStr>>(
        &self,
        object: &str,
        args: impl IntoIterator<Item = S>,
        deadline: Deadline,
    ) -> Result<T> {
        let answer = self.ask(object, args, deadline)?;
        serde_json::from_slice(&answer)
            .map_err(|e| Error::refused(object, format!("podman's answer is not what we know: {e}")))
    }

    /// Its version. One that is too old is an error.
    pub fn version(&self, deadline: Deadline) -> Result<String> {
        let answer = self.ask("podman", ["--version"], deadline)?;
        let text = String::from_utf8_lossy(&answer).trim().to_string();
        let version = text.strip_prefix("podman version ").unwrap_or_default().to_string();
        let mut numbers = version.split('.').map_while(|n| n.parse::<u32>().ok());
        match (numbers.next(), numbers.next()) {
            (Some(major), Some(minor)) if (major, minor) >= OLDEST => Ok(version),
            (Some(_), Some(_)) => Err(Error::refused(
                self.program.display(),
                format!("podman {version} is too old; {}.{} or later is needed", OLDEST.0, OLDEST.1),
            )),
            _ => Err(Error::refused(self.program.display(), "does not answer as podman does")),
        }
    }
}
