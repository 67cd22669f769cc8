//! VMs whose supervisor died: taken over, or, where that is of no use, ended.

use crate::console::rotate::Console;
use crate::guest::complaints::Complaints;
use crate::guest::end::{Traces, conclude};
use crate::guest::instance::Instance;
use crate::guest::monitor::handover::{Side, scratch_ports};
use crate::guest::monitor::qmp::{COMMAND_TIMEOUT, Qmp, QmpError};
use crate::guest::port::GuestPort;
use crate::guest::remains::bury;
use crate::model::event::{EventKind, InstanceEvent};
use crate::model::state::{End, Phase, SCHEMA, State};
use crate::supervise::Context;
use crate::sys::lock;
use crate::sys::paths::{InstancePaths, Slot};
use crate::sys::pidfd::PidFd;
use crate::sys::{Deadline, Error, Result, time};
use serde_json::Value;
use std::time::Duration;

impl Instance {
    /// Takes over a VM whose supervisor died. `None` when there is none, or only one that never came to run, which is
    /// then gone.
    pub fn adopt(context: &Context<'_>, slot: Slot) -> Result<Option<Instance>> {
        let paths = context.files().instance(slot);
        if !lock::is_held(&paths.lock())? {
            return Ok(None);
        }
        let Some(pidfd) = PidFd::of_lock(&paths.lock())? else { return Ok(None) };
        let mut qmp = match Qmp::connect(&paths.supervisor(), Deadline::after(COMMAND_TIMEOUT)) {
            Ok(qmp) => qmp,
            // It never got as far as listening, or ends just now.
            Err(QmpError::Closed) => return end_of_it(&pidfd, &paths, false).map(|()| None),
            Err(QmpError::Io(e)) if e.kind() == std::io::ErrorKind::ConnectionRefused => {
                return end_of_it(&pidfd, &paths, false).map(|()| None);
            }
            Err(e) => return Err(e.about(context.id)),
        };
        let deadline = Deadline::after(COMMAND_TIMEOUT);
        let mut ask = |command: &str| match qmp.execute(command, Value::Null, deadline) {
            Ok(answer) => Ok(Some(answer)),
            Err(QmpError::Closed) => Ok(None),
            Err(e) => Err(e.about(context.id)),
        };
        let (Some(uuid), Some(status)) = (ask("query-uuid")?, ask("query-status")?) else {
            return end_of_it(&pidfd, &paths, false).map(|()| None);
        };
        let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or("").to_string();
        // Still before its first instruction: its supervisor died while it was made, and it is of no use.
        if text(&status, "status") == "prelaunch" {
            let _ = ask("quit");
            return end_of_it(&pidfd, &paths, true).map(|()| None);
        }
        let uuid = text(&uuid, "UUID");
        let state = State::read(&paths).ok().flatten().filter(|s| s.uuid == uuid);
        // Written before the guest's first instruction: one that runs has lost it since.
        let mut state = match (state, lock::holder(&paths.lock())) {
            (Some(state), _) => state,
            (None, Some(holder)) => {
                let mut state = rebuilt(context, uuid, holder.pid, qmp.version());
                let mut side = Side { qmp: &mut qmp, qemu: &pidfd };
                state.scratch = scratch_ports(&mut side, &state.ports, deadline)?;
                state
            }
            (None, None) => return Err(Error::busy(context.id, "its state is lost and its process can't be found")),
        };
        let guest = if paths.guest().exists() { GuestPort::connect(&paths.guest()).ok() } else { None };
        let mut console = Console::open(&paths, &context.node.log, context.copy_console)?;
        console.reattach(&mut qmp)?;
        state.supervisor = std::process::id() as i32;
        state.end = None;
        if !matches!(state.phase, Phase::Starting | Phase::Ready) {
            state.phase = if state.ready_at.is_some() { Phase::Ready } else { Phase::Starting };
        }
        let mut instance = Instance {
            paths,
            state,
            qmp,
            pidfd,
            console,
            guest,
            traces: Traces::default(),
            reserved: Vec::new(),
            monitor_open: true,
            child: None,
            stderr: None,
            complaints: Complaints::default(),
            user: None,
            uids: context.paths.run.join(".uids"),
        };
        instance.note(EventKind::Adopted);
        Ok(Some(instance))
    }

    /// Kills every VM of a component whose monitor is of no use, and writes down that it was. The caller holds the
    /// component's lock.
    pub fn kill(context: &Context<'_>) -> Result<End> {
        let traces = Traces { stopped: Some((crate::model::state::Rung::Kill, true)), ..Traces::default() };
        for slot in Slot::VMS {
            let paths = context.files().instance(slot);
            if !lock::is_held(&paths.lock())? {
                continue;
            }
            let Some(pidfd) = PidFd::of_lock(&paths.lock())? else { continue };
            pidfd.signal(libc::SIGKILL)?;
            if !pidfd.wait(Deadline::after(COMMAND_TIMEOUT))? {
                return Err(Error::busy(paths.lock().display(), "its holder can't be killed"));
            }
            bury(&paths, &traces)?;
        }
        Ok(conclude(&traces, Vec::new()))
    }
}

/// Waits for the end of a QEMU that closed its monitor, or (`kill`) sees to it that one we can't use is gone.
fn end_of_it(pidfd: &PidFd, paths: &InstancePaths, kill: bool) -> Result<()> {
    if !pidfd.wait(Deadline::after(Duration::from_secs(1)))? {
        if !kill {
            return Err(Error::busy(paths.supervisor().display(), "closed, but the VM runs; mcp-stop ends it"));
        }
        pidfd.signal(libc::SIGKILL)?;
        if !pidfd.wait(Deadline::after(COMMAND_TIMEOUT))? {
            return Err(Error::busy(paths.lock().display(), "its holder can't be killed"));
        }
    }
    bury(paths, &Traces::default())
}

/// The state of a VM whose state.json was lost, from its specification and its process.
fn rebuilt(context: &Context<'_>, uuid: String, pid: i32, version: (u64, u64, u64)) -> State {
    let process = std::path::PathBuf::from(format!("/proc/{pid}"));
    let uid = std::fs::metadata(&process).map_or(0, |m| std::os::unix::fs::MetadataExt::uid(&m));
    let cmdline = std::fs::read(process.join("cmdline")).unwrap_or_default();
    let argv: Vec<String> = cmdline.split(|b| *b == 0).map(|a| String::from_utf8_lossy(a).into_owned()).collect();
    State {
        schema: SCHEMA,
        uuid,
        phase: Phase::Starting,
        pid,
        supervisor: 0,
        uid,
        started_at: time::now(),
        ready_at: None,
        ready_answer: None,
        program_started: false,
        settling: false,
        stopping: None,
        stopping_since_ms: None,
        restarts: 0,
        restarted_at: Vec::new(),
        spec: context.digest(),
        accel: if argv.iter().any(|a| a == "kvm") { "kvm" } else { "tcg" }.into(),
        ports: context.component.ports.clone(),
        scratch: Vec::new(),
        image: std::path::PathBuf::new(),
        qemu: format!("{}.{}.{}", version.0, version.1, version.2),
        argv,
        events: vec![InstanceEvent { at: time::now(), kind: EventKind::Rebuilt }],
        console: None,
        container: None,
        end: None,
    }
}
