//! What podman tells of one container.

use super::podman::{Podman, QUESTION, parse};
use crate::model::signal;
use crate::sys::{Deadline, Result};
use serde::Deserialize;
use serde_json::Value;
use std::path::PathBuf;

/// One container, of what `podman container inspect` prints. What is missing is as if it were empty.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Inspected {
    /// Its id, in hex.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Digest of its image, in hex.
    pub image: String,
    /// How it is.
    pub state: Running,
    /// Its bundle's config; beside it is conmon's FIFO.
    #[serde(rename = "OCIConfigPath")]
    pub oci_config_path: PathBuf,
    /// How it was made.
    pub config: Config,
}

/// How a container is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Running {
    /// `created`, `running`, `exited`, …
    pub status: String,
    /// Process id of its first process; 0: it doesn't run.
    pub pid: i32,
    /// Process id of its conmon; 0: there is none.
    pub conmon_pid: i32,
    /// What it ended with: a code, or 128 and the signal.
    pub exit_code: i32,
    /// Whether the kernel killed it for want of memory.
    #[serde(rename = "OOMKilled")]
    pub oom_killed: bool,
    /// When it was started: RFC 3339.
    pub started_at: String,
}

/// How a container was made.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Config {
    /// What asks its program to end: a number in podman 4, a name in podman 5.
    pub stop_signal: Value,
}

impl Inspected {
    /// Whether it has come to its end, and podman knows how.
    pub fn is_over(&self) -> bool {
        matches!(self.state.status.as_str(), "exited" | "stopped" | "removing")
    }

    /// Whether it ended by SIGKILL, which is how podman begins to remove one.
    pub fn was_killed(&self) -> bool {
        self.state.exit_code == 128 + libc::SIGKILL
    }

    /// Whether it never ran.
    pub fn never_ran(&self) -> bool {
        matches!(self.state.status.as_str(), "created" | "configured" | "initialized")
    }

    /// What asks its program to end.
    pub fn stop_signal(&self) -> i32 {
        signal_of(&self.config.stop_signal).unwrap_or(libc::SIGTERM)
    }

    /// Where conmon takes orders.
    pub fn control(&self) -> PathBuf {
        self.oci_config_path.with_file_name("ctl")
    }
}

/// A number or a name, quoted or not.
fn signal_of(value: &Value) -> Option<i32> {
    match value.as_i64() {
        Some(n) => signal::parse(&n.to_string()),
        None => signal::parse(value.as_str()?),
    }
}

/// The container with that id; `None`: there is none.
pub fn container(podman: &Podman, id: &str) -> Result<Option<Inspected>> {
    let answer = podman.ask_about(id, ["container", "inspect", id], Deadline::after(QUESTION))?;
    Ok(match answer {
        Some(answer) => parse::<Vec<Inspected>>(id, &answer)?.pop(),
        None => None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn stop_signals_of_all_podmans() {
        for (told, signal) in [
            (r#"15"#, Some(15)),
            (r#""SIGQUIT""#, Some(3)),
            (r#""term""#, Some(15)),
            (r#""37""#, Some(37)),
            (r#""SIGRTMIN+3""#, Some(libc::SIGRTMIN() + 3)),
            (r#""SIGRTMAX-1""#, Some(libc::SIGRTMAX() - 1)),
            (r#"0"#, None),
            (r#"-9223372036854775808"#, None),
            (r#""RTMIN+2147483647""#, None),
            (r#""SIGWHAT""#, None),
            (r#"null"#, None),
            (r#"[]"#, None),
        ] {
            assert_eq!(signal_of(&serde_json::from_str(told).unwrap()), signal, "{told}");
        }
    }

    #[test]
    fn an_answer_as_podman_4_gives_it() {
        let answer = br#"[{"Id": "ab", "Name": "mcp.a.b", "Image": "cd", "OCIConfigPath": "/g/userdata/config.json",
            "State": {"Status": "exited", "Pid": 0, "ConmonPid": 0, "ExitCode": 137, "OOMKilled": true},
            "Config": {"StopSignal": 15, "Labels": null}, "Mounts": []}]"#;
        let found: Vec<Inspected> = parse("x", answer).unwrap();
        assert!(found[0].is_over() && found[0].state.oom_killed);
        assert_eq!(found[0].control().to_str(), Some("/g/userdata/ctl"));
        assert!(parse::<Vec<Inspected>>("x", b"{}").is_err());
    }
}
