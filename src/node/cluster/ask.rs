//! Asking Pacemaker on this node, and each node for its own status, side by side and with one deadline.

use super::answer::{self, Answer};
use super::pacemaker::{self, Cluster, Member, Trouble};
use crate::sys::sink::Sink;
use crate::sys::tool::{self, Tool};
use crate::sys::{Deadline, Error, Result, pool};
use std::ffi::OsString;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The most that Pacemaker's programs may print: some 300 bytes a resource.
const PACEMAKER_MAX: u64 = 32 << 20;
/// The most that a node may answer: some 5 kB a component.
const ANSWER_MAX: u64 = 16 << 20;
/// So many nodes are asked at once; the rest waits for its turn.
const AT_ONCE: usize = 64;
/// A node that is not in the cluster is most likely down: it gets this long, and the others are not kept waiting.
const OFFLINE_AT_MOST: Duration = Duration::from_secs(3);
/// How a node is reached unless the operator says otherwise: nobody is there to type a password.
const VIA: &str = "ssh -o BatchMode=yes -o ConnectTimeout=5 {node}";
/// What stands for the node's name.
const PLACEHOLDER: &str = "{node}";

/// How nodes are reached.
#[derive(Debug, Clone)]
pub enum Via {
    /// This node, named here, is asked directly with these further arguments, the others by ssh.
    Ssh {
        /// What Pacemaker calls this node.
        here: Option<String>,
        /// For this node's own `mcp-status`.
        arguments: Vec<OsString>,
    },
    /// By this line of shell, in which `{node}` stands for the name, and to which the command is added.
    Shell(String),
}

impl Via {
    /// A line of shell, checked.
    pub fn shell(line: &str) -> Result<Via> {
        match line.contains(PLACEHOLDER) {
            true => Ok(Via::Shell(line.to_string())),
            false => Err(Error::Usage {
                what: format!(
                    "--via: without {PLACEHOLDER} it reaches the same node each time; --via 'ssh {PLACEHOLDER}'"
                ),
            }),
        }
    }

    /// The command that asks node `name` for its status.
    fn command(&self, name: &str, health: bool) -> std::result::Result<Command, String> {
        // The name goes through a shell here and perhaps another one there, and a program may take one with a dash for
        // an option: quoting it for all of them can't be done, so one that would need it is not used.
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.is_empty() || name.len() > 255 || name.starts_with(['-', '.']) || !name.chars().all(plain) {
            return Err("its name is none that a host can have, so it is put into no command line".into());
        }
        let line = match self {
            Via::Ssh { here: Some(here), arguments } if here == name => {
                let mut command = Command::new(tool::ours("mcp-status"));
                command.arg("--json").args(health.then_some("--health")).args(arguments);
                return Ok(command);
            }
            Via::Ssh { .. } => VIA,
            Via::Shell(line) => line,
        };
        let health = if health { " --health" } else { "" };
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("{} mcp-status --json{health}", line.replace(PLACEHOLDER, name)));
        Ok(command)
    }
}

/// A node that was asked.
#[derive(Debug)]
pub struct Asked {
    /// Its answer, or why there is none.
    pub answer: std::result::Result<Answer, String>,
    /// The exit code of its `mcp-status`, where it gave an answer.
    pub code: u8,
    /// How long that took.
    pub took: Duration,
}

/// What Pacemaker says on this node, and with `here` what it calls this node.
pub fn pacemaker(deadline: Deadline, here: bool) -> Result<(Cluster, Option<String>)> {
    let wanted =
        ["--output-as=xml", "--inactive", "--exclude=all", "--include=summary,options,nodes,resources,failures"];
    let mut status = Asking::begin("crm_mon", &wanted, deadline)?;
    // Side by side with that: each takes some 20 ms, and more on a busy node.
    let targets = Asking::begin("cibadmin", &["--query", "--scope", "resources"], deadline);
    let name = if here { Asking::begin("crm_node", &["--name"], deadline).ok() } else { None };
    let (ended, told) = status.end()?;
    let way_out =
        "; is the cluster up on this node? systemctl start pacemaker; each node answers for itself: mcp-status";
    let mut cluster = match pacemaker::read_status(&told) {
        Ok(cluster) if ended.success() => cluster,
        Err(Trouble::Told(why)) if why.contains("ermission denied") || why.contains("privileges") => {
            return Err(Error::refused("crm_mon", format!("{why}; ask as root, or as a member of group haclient")));
        }
        Err(Trouble::Told(why)) => return Err(Error::busy("crm_mon", why + way_out)),
        Err(Trouble::Junk(why)) if ended.success() => {
            return Err(Error::refused("crm_mon", format!("its answer can't be read: {why}")));
        }
        Ok(_) | Err(Trouble::Junk(_)) => {
            let complaints = status.tool.complaints();
            let why = if complaints.is_empty() { tool::describe(ended) } else { complaints };
            return Err(Error::busy("crm_mon", why + way_out));
        }
    };
    let noted = targets.and_then(|mut asking| match asking.end()? {
        (ended, told) if ended.success() => pacemaker::read_targets(&told, &mut cluster)
            .map_err(|why| Error::refused("cibadmin", format!("its answer can't be read: {why}"))),
        (ended, _) => Err(Error::busy("cibadmin", tool::describe(ended))),
    });
    if let Err(e) = noted {
        log::warn!("{e}; what resources run is told by their names alone");
    }
    let name = name.and_then(|mut asking| asking.end().ok()).map(|(_, told)| told.trim().to_string());
    Ok((cluster, name.filter(|n| !n.is_empty())))
}

/// One of Pacemaker's programs, at work.
struct Asking {
    name: &'static str,
    tool: Tool,
    sink: Sink,
    deadline: Deadline,
}

impl Asking {
    fn begin(name: &'static str, arguments: &[&str], deadline: Deadline) -> Result<Asking> {
        let path = tool::find(name, "pacemaker-cli-utils").map_err(|_| {
            let way_out = "apt install pacemaker-cli-utils, or ask for this node alone, without --cluster";
            Error::refused(name, format!("not found: no Pacemaker is here that could be asked; {way_out}"))
        })?;
        let sink = Sink::new("mcp-answer", PACEMAKER_MAX)?;
        let mut command = Command::new(path);
        command.args(arguments).stdin(Stdio::null()).stdout(sink.stdio()?);
        Ok(Asking { name, tool: Tool::start(name, &mut command)?, sink, deadline })
    }

    /// Waits for its end; how it ended, and what it printed.
    fn end(&mut self) -> Result<(ExitStatus, String)> {
        let ended = self.tool.wait(self.deadline)?;
        if self.sink.is_full() {
            return Err(Error::refused(self.name, format!("prints more than {} MB", PACEMAKER_MAX >> 20)));
        }
        Ok((ended, String::from_utf8_lossy(&self.sink.read(PACEMAKER_MAX)?).into_owned()))
    }
}

/// Asks `members` for their status, side by side; in their order. What takes longer than until `deadline` is given up.
pub fn nodes(members: &[Member], via: &Via, health: bool, deadline: Deadline) -> Vec<Asked> {
    let offline = deadline.min(Deadline::after(OFFLINE_AT_MOST));
    pool::each(members, AT_ONCE, |member| one(member, via, health, if member.online { deadline } else { offline }))
}

fn one(member: &Member, via: &Via, health: bool, deadline: Deadline) -> Asked {
    let began = Instant::now();
    let told = via.command(&member.name, health).and_then(|command| status(command, deadline));
    let (answer, code) = match told {
        Ok((answer, code)) => (Ok(answer), code),
        Err(why) => (Err(why), 0),
    };
    Asked { answer, code, took: began.elapsed() }
}

/// Runs `command`, which is to print a status, and reads it. The answer and the exit code, or why there is none.
fn status(mut command: Command, deadline: Deadline) -> std::result::Result<(Answer, u8), String> {
    let in_words = |e: Error| e.to_string();
    if deadline.passed() {
        return Err("not asked: no time was left".into());
    }
    let sink = Sink::new("mcp-answer", ANSWER_MAX).map_err(in_words)?;
    command.stdin(Stdio::null()).stdout(sink.stdio().map_err(in_words)?);
    let mut tool = Tool::start("mcp-status", &mut command).map_err(in_words)?;
    let time = deadline.left();
    let Ok(ended) = tool.wait(deadline) else {
        return Err(format!("it did not answer within {} s", time.as_secs_f32().ceil()));
    };
    if sink.is_full() {
        return Err(format!("it answers more than {} MB", ANSWER_MAX >> 20));
    }
    let bytes = sink.read(ANSWER_MAX).map_err(in_words)?;
    let told = || {
        let complaints = tool.complaints();
        let gap = if complaints.is_empty() { "" } else { ": " };
        format!("the command that asks it {}{gap}{complaints}", tool::describe(ended))
    };
    match (ended.code(), answer::read(&bytes)) {
        // Drift, a bad definition, a podman that is missing or slow: the status is there all the same.
        (Some(code @ (0 | 1 | 100 | 111)), Ok(answer)) => Ok((answer, u8::try_from(code).unwrap_or(1))),
        (Some(0), Err(why)) => Err(why),
        (_, Ok(_)) => Err(told()),
        (_, Err(_)) if bytes.is_empty() => Err(told()),
        (Some(1), Err(why)) => Err(why),
        (_, Err(why)) => Err(format!("{}; {why}", told())),
    }
}
