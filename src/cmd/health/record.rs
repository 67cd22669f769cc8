//! `mcp-health --record`: each answer is written down, and only what changes is told.

use super::answer::Answer;
use crate::health::Verdict;
use crate::model::ComponentId;
use crate::model::probed::{Judged, Probe, Probed, Transition};
use crate::node::standing::{self, Standing};
use crate::sys::paths::Paths;
use crate::sys::{Deadline, Error, Result, out, tool};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

/// What a command of --on-change may take.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);

/// What is done with the answers.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Recording {
    /// Write each answer down, and print only what has changed since the last time
    #[arg(long, conflicts_with_all = ["json", "downtime"])]
    record: bool,
    /// On each change run CMD by sh -c, told about it by MCP_TARGET, MCP_HEALTH and others (implies --record)
    #[arg(long, value_name = "CMD", conflicts_with_all = ["json", "downtime"])]
    on_change: Option<String>,
}

impl Recording {
    /// Whether answers are written down.
    pub fn is_on(&self) -> bool {
        self.record || self.on_change.is_some()
    }
}

/// A component whose answers may be written down.
pub(super) struct Recorded {
    pub paths: Paths,
    pub id: ComponentId,
    /// How many good ones in a row make it healthy.
    pub successes: u32,
    /// How many bad ones in a row make it unhealthy.
    pub failures: u32,
}

impl Recorded {
    /// Whether it does not run and shall not.
    pub fn rests(&self) -> bool {
        standing::of(&self.paths, &self.id) == Standing::Rests
    }

    /// Nothing is to be said of it until it runs again.
    pub fn forget(&self) -> Result<()> {
        Probed::forget(&self.paths.component(&self.id.service, &self.id.component))
    }

    /// Writes `verdict` down; the news that it makes. That something which is still starting has not answered yet is no
    /// answer.
    pub fn note(&self, verdict: &Verdict) -> Result<Option<Transition>> {
        let (judged, reason, wanted) = match verdict {
            Verdict::Healthy { .. } => (Judged::Healthy, String::new(), self.successes),
            Verdict::Unhealthy(reason) => (Judged::Unhealthy, reason.to_string(), self.failures),
        };
        if judged == Judged::Unhealthy {
            match standing::of(&self.paths, &self.id) {
                Standing::Starting => return Ok(None),
                // Stopped while it was asked.
                Standing::Rests => return self.forget().map(|()| None),
                Standing::Other => {}
            }
        }
        let reason = reason.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        let probe = Probe { at: SystemTime::now(), by: "mcp-health", judged, reason, wanted };
        Probed::record(&self.paths.component(&self.id.service, &self.id.component), &probe)
    }

    /// Runs the command of --on-change. That it fails is said, and changes no answer.
    pub fn run(&self, options: &Recording, root: Option<&Path>, change: &Transition) {
        let Some(words) = &options.on_change else { return };
        if let Err(e) = self.try_run(words, root, change) {
            log::error!("{}: --on-change: {e}", self.id);
        }
    }

    fn try_run(&self, words: &str, root: Option<&Path>, change: &Transition) -> Result<()> {
        let mut command = Command::new("sh");
        // What it prints is no answer of ours.
        let complaints =
            std::io::stderr().as_fd().try_clone_to_owned().map_err(Error::os("duplicate", "descriptor"))?;
        command
            .args(["-c", words])
            .env("MCP_TARGET", self.id.to_string())
            .env("MCP_SERVICE", &self.id.service)
            .env("MCP_COMPONENT", &self.id.component)
            .env("MCP_HEALTH", change.is.name())
            .env("MCP_WAS", was(change))
            .env("MCP_REASON", &change.reason)
            .env("MCP_SINCE", &change.since)
            .stdin(Stdio::null())
            .stdout(Stdio::from(complaints));
        if let Some(root) = root {
            command.env("MCP_ROOT", root);
        }
        let status = tool::run_group(&mut command, Deadline::after(COMMAND_TIMEOUT))?;
        if status.success() { Ok(()) } else { Err(Error::busy("sh", tool::describe(status))) }
    }
}

fn was(change: &Transition) -> &'static str {
    change.was.map_or("unknown", Judged::name)
}

/// A line for each answer that is news.
pub(super) fn lines(answers: &[Answer]) {
    for answer in answers {
        let Some(change) = &answer.news else { continue };
        let name = &answer.name;
        let was = match &change.was_since {
            Some(since) => format!("was {} since {since}", was(change)),
            None => format!("was {}", was(change)),
        };
        let reason = if change.reason.is_empty() { String::new() } else { format!(": {}", change.reason) };
        out::print(format_args!("{name}: {}{reason} (since {}; {was})\n", change.is.name(), change.since));
    }
}
