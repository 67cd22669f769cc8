//! One instance of a component: a QEMU with its monitor, console and state, from start or adoption to its end.

use crate::console::rotate::Console;
use crate::console::{last_lines, tail};
use crate::guest::complaints::Complaints;
use crate::guest::end::{Traces, conclude};
use crate::guest::launch::accel::Choice;
use crate::guest::launch::argv::{Boot, Plan, Vm};
use crate::guest::launch::spawn::{self, Launch};
use crate::guest::monitor::forward;
use crate::guest::monitor::handover::{Side, hand_over};
use crate::guest::monitor::qmp::{COMMAND_TIMEOUT, Qmp, QmpError};
use crate::guest::port::GuestPort;
use crate::model::ComponentId;
use crate::model::event::EventKind;
use crate::model::node::Accel;
use crate::model::state::{End, Mark, Phase, SCHEMA, State};
use crate::supervise::reserve::Reservation;
use crate::supervise::{Context, Restarts, link_current};
use crate::sys::lock::Lock;
use crate::sys::paths::{InstancePaths, Slot};
use crate::sys::pidfd::PidFd;
use crate::sys::user::{self, User};
use crate::sys::{Deadline, Error, Result, file, time};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use serde_json::Value;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr};
use std::time::Duration;

/// How long QEMU may take to greet. It is some 20 ms; a node that starts many at once takes its time.
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);
/// The oldest QEMU that has all we use. 7.2 is what is tested.
const QEMU_MINIMUM: (u64, u64, u64) = (7, 0, 0);
/// Console lines that an end quotes, and bytes read for them.
pub(super) const LAST_LINES: usize = 20;
pub(super) const LAST_BYTES: usize = 16 << 10;

/// Everything that is worked out before a start.
pub struct Prepared {
    /// The VM.
    pub vm: Vm,
    /// Its argument vector.
    pub plan: Plan,
    /// QEMU's program.
    pub binary: PathBuf,
    /// The accelerator.
    pub accel: Choice,
    /// Who QEMU runs as.
    pub user: User,
    /// A microvm's initramfs.
    pub initramfs: Option<OwnedFd>,
    /// The ports, reserved.
    pub reserved: Vec<Reservation>,
    /// Whether it boots beside the serving instance: then only what that does not have is reserved.
    pub beside: bool,
    /// Whether its ports open only when it is ready; if not, they open before its first instruction.
    pub opens_when_ready: bool,
}

/// A living instance that we watch.
pub struct Instance {
    /// Its files.
    pub paths: InstancePaths,
    /// What is known of it; written by [`Instance::note`].
    pub state: State,
    /// Our monitor.
    pub qmp: Qmp,
    /// A handle on QEMU.
    pub pidfd: PidFd,
    /// Its console log.
    pub console: Console,
    /// A microvm's port.
    pub guest: Option<GuestPort>,
    /// What was seen of its end so far.
    pub traces: Traces,
    /// Ports that it is to have and nobody has yet.
    pub reserved: Vec<Reservation>,
    /// Whether anything that can be understood is still to come from the monitor.
    pub(super) monitor_open: bool,
    pub(super) child: Option<Child>,
    pub(super) stderr: Option<ChildStderr>,
    pub(super) complaints: Complaints,
    pub(super) user: Option<User>,
    pub(super) uids: PathBuf,
}

impl Instance {
    /// Starts a VM. When this fails, no process of it is left.
    pub fn start(context: &Context<'_>, mut prepared: Prepared, before: Restarts) -> Result<Instance> {
        let paths = prepared.vm.paths.clone();
        file::create_dirs(&paths.run)?;
        let lock = Lock::try_take(&paths.lock())?
            .ok_or_else(|| Error::busy(context.id, "its VM is still there; run mcp-stop, then try again"))?;
        let reserved = std::mem::take(&mut prepared.reserved);
        let uuid = prepared.vm.uuid.clone();
        let started = Console::open(&paths, &context.node.log, context.copy_console).and_then(|console| {
            let mark = tail::mark(&paths)?;
            let launch = Launch {
                binary: &prepared.binary,
                plan: &prepared.plan,
                overlays: &context.paths.lib,
                initramfs: prepared.initramfs.take(),
                user: &prepared.user,
                group: prepared.accel.group,
                lock,
            };
            Ok(((console, mark), spawn::spawn(launch)?))
        });
        let (console, spawned) = match started {
            Ok(started) => started,
            Err(e) => {
                remove_traces(context, &paths, &uuid);
                return Err(e);
            }
        };
        let mut child = spawned.child;
        match Instance::bring_up(context, prepared, spawned.pidfd, &mut child, console, reserved, before) {
            Ok(mut instance) => {
                if let Some(user) = &mut instance.user {
                    user.hand_over();
                }
                instance.stderr = child.stderr.take();
                if let Some(stderr) = &instance.stderr {
                    set_nonblocking(stderr);
                }
                instance.child = Some(child);
                Ok(instance)
            }
            Err(e) => {
                let _ = child.kill();
                let _ = child.wait();
                remove_traces(context, &paths, &uuid);
                Err(e)
            }
        }
    }

    fn bring_up(
        context: &Context<'_>,
        prepared: Prepared,
        pidfd: PidFd,
        child: &mut Child,
        (console, mark): (Console, Mark),
        reserved: Vec<Reservation>,
        before: Restarts,
    ) -> Result<Instance> {
        let paths = prepared.vm.paths.clone();
        let greeted = UnixStream::connect(paths.supervisor())
            .map_err(QmpError::from)
            .and_then(|stream| Qmp::greet(stream, Deadline::after(GREETING_TIMEOUT)));
        let mut qmp = greeted.map_err(|e| not_greeted(context.id, &prepared.binary, child, e))?;
        if qmp.version() < QEMU_MINIMUM {
            let ((major, minor, micro), (least, ..)) = (qmp.version(), QEMU_MINIMUM);
            return Err(Error::refused(
                prepared.binary.display(),
                format!("QEMU {major}.{minor}.{micro} is too old; {least}.0 or later is needed"),
            ));
        }
        let ports = &context.component.ports;
        let deadline = Deadline::after(COMMAND_TIMEOUT);
        let opened = forward::open_scratch(&mut qmp, ports, deadline).and_then(|scratch| {
            if prepared.opens_when_ready {
                return Ok((scratch, reserved));
            }
            let mut side = Side { qmp: &mut qmp, qemu: &pidfd };
            hand_over(&mut side, None, ports, reserved, deadline).map(|()| Default::default())
        });
        let (scratch, reserved) = opened.map_err(|e| match child.try_wait() {
            Ok(Some(_)) => not_greeted(context.id, &prepared.binary, child, QmpError::Closed),
            _ => e,
        })?;
        let version = qmp.version();
        let mut state = State {
            schema: SCHEMA,
            uuid: prepared.vm.uuid.clone(),
            phase: Phase::Starting,
            pid: child.id() as i32,
            supervisor: std::process::id() as i32,
            uid: prepared.user.uid,
            started_at: time::now(),
            ready_at: None,
            ready_answer: None,
            program_started: false,
            settling: false,
            stopping: None,
            stopping_since_ms: None,
            restarts: before.count,
            restarted_at: before.at,
            spec: context.digest(),
            accel: if prepared.accel.accel == Accel::Kvm { "kvm" } else { "tcg" }.into(),
            ports: ports.clone(),
            scratch,
            image: prepared.vm.boot.image().clone(),
            qemu: format!("{}.{}.{}", version.0, version.1, version.2),
            argv: std::iter::once(prepared.binary.display().to_string()).chain(prepared.plan.lines()).collect(),
            events: Vec::new(),
            console: Some(mark),
            container: None,
            end: None,
        };
        let guest = match prepared.vm.boot {
            Boot::Microvm { .. } => {
                Some(GuestPort::connect(&paths.guest()).map_err(Error::path("connect to", &paths.guest()))?)
            }
            _ => None,
        };
        state.add_event(EventKind::Started);
        state.write(&paths)?;
        if !prepared.beside {
            link_current(&context.files(), paths.slot)?;
        }
        // The line between "could not start" and "the guest ended".
        qmp.execute("cont", Value::Null, deadline).map_err(|e| match e {
            QmpError::Closed => not_greeted(context.id, &prepared.binary, child, e),
            other => other.about(context.id),
        })?;
        Ok(Instance {
            paths,
            state,
            qmp,
            pidfd,
            console,
            guest,
            traces: Traces::default(),
            reserved,
            monitor_open: true,
            child: None,
            stderr: None,
            complaints: Complaints::default(),
            user: Some(prepared.user),
            uids: context.paths.run.join(".uids"),
        })
    }

    /// Adds an event to the state and writes it. That it can't be written is said, and no reason to leave the guest.
    pub fn note(&mut self, event: EventKind) {
        self.state.add_event(event);
        if let Err(e) = self.state.write(&self.paths) {
            log::warn!("{e}");
        }
    }

    /// Whether somebody else started it.
    pub fn is_adopted(&self) -> bool {
        self.child.is_none()
    }

    /// Our monitor, to poll for reading, as long as it is open.
    pub fn monitor(&self) -> Option<BorrowedFd<'_>> {
        self.monitor_open.then(|| self.qmp.as_fd())
    }

    /// QEMU's stderr, to poll for reading.
    pub fn stderr(&self) -> Option<BorrowedFd<'_>> {
        self.stderr.as_ref().map(AsFd::as_fd)
    }

    /// Logs what QEMU said on stderr.
    pub fn read_stderr(&mut self) {
        use std::io::Read;
        let Some(stderr) = &mut self.stderr else { return };
        let mut chunk = [0; 2048];
        match stderr.read(&mut chunk) {
            Ok(0) => self.stderr = None,
            Ok(n) => self.complaints.log(&chunk[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => self.stderr = None,
        }
    }

    /// Looks at the monitor's events.
    pub fn read_events(&mut self) {
        match self.qmp.pump() {
            Ok(()) => {}
            // An end of file says no more than QEMU's end does, which follows it.
            Err(QmpError::Closed) => self.monitor_open = false,
            Err(e) => {
                log::warn!("{}: {e}; nothing more is read from it", self.paths.supervisor().display());
                self.monitor_open = false;
            }
        }
        while let Some(event) = self.qmp.take_event() {
            if event.name == "SHUTDOWN" {
                let reason = event.data.get("reason").and_then(Value::as_str).unwrap_or("unknown");
                self.traces.shutdown.get_or_insert_with(|| reason.chars().take(40).collect());
            }
        }
    }

    /// After QEMU has ended: reaps it, writes how it ended, removes what was only there while it lived.
    pub fn finish(mut self) -> Result<(State, End)> {
        self.read_events();
        if let Some(guest) = &mut self.guest {
            guest.read();
            self.traces.program = guest.program.clone();
        }
        self.read_stderr();
        self.complaints.end();
        if let Some(mut child) = self.child.take() {
            match waitid(
                Id::Pid(nix::unistd::Pid::from_raw(child.id() as i32)),
                WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT,
            ) {
                Ok(WaitStatus::Exited(_, code)) => self.traces.qemu_code = Some(code),
                Ok(WaitStatus::Signaled(_, signal, _)) => self.traces.qemu_signal = Some(signal as i32),
                _ => {}
            }
            child.wait().map_err(Error::os("wait for", "qemu"))?;
        }
        self.console.note();
        let end = conclude(&self.traces, last_lines(&self.paths, self.state.console.as_ref(), LAST_LINES, LAST_BYTES));
        self.state.phase = Phase::Ended;
        self.state.end = Some(end.clone());
        self.note(EventKind::Ended { reason: end.reason.clone() });
        remove_sockets(&self.paths);
        remove_lock(&self.paths.lock());
        match self.user.take() {
            Some(user) => user.release(),
            None => remove_lock(&self.uids.join(self.state.uid.to_string())),
        }
        Ok((self.state, end))
    }
}

fn set_nonblocking(fd: &impl AsFd) {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let _ = fcntl(fd.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
}

/// The monitor gave no greeting, or closed before the guest ran: says why from what QEMU left behind.
fn not_greeted(id: &ComponentId, binary: &Path, child: &mut Child, e: QmpError) -> Error {
    match e {
        QmpError::Closed | QmpError::Io(_) => {
            let words = spawn::last_words(child);
            let reason = format!("QEMU did not start: {words}");
            // Memory comes back; whatever else QEMU finds wrong with its arguments stays wrong.
            if words.contains("cannot set up guest memory") || words.contains("Cannot allocate memory") {
                Error::busy(id, reason)
            } else {
                Error::refused(id, reason)
            }
        }
        QmpError::Busy | QmpError::TimedOut => Error::busy(
            id,
            format!(
                "no greeting from {} in {} s; is it a QEMU, and has the node time for it?",
                binary.display(),
                GREETING_TIMEOUT.as_secs()
            ),
        ),
        QmpError::Junk(what) => Error::refused(
            binary.display(),
            format!("not a QEMU that we know: {what}; name one as [qemu] binary in mcp.toml"),
        ),
        other => other.about(id),
    }
}

/// Removes what a start that failed has put into the run directory.
fn remove_traces(context: &Context<'_>, paths: &InstancePaths, uuid: &str) {
    remove_sockets(paths);
    // The state of the instance before it tells how that ended, and stays.
    if State::read(paths).ok().flatten().is_some_and(|state| state.uuid == uuid) {
        let files = context.files();
        let serves = files.current_slot() == Some(paths.slot);
        let links = [files.current(), files.run.join("qmp.sock"), files.run.join("state.json")];
        for path in [paths.state()].iter().chain(links.iter().filter(|_| serves)) {
            if let Err(e) = file::remove_if_there(path) {
                log::warn!("{e}");
            }
        }
    }
    remove_lock(&paths.lock());
}

pub(super) fn remove_sockets(paths: &InstancePaths) {
    for path in [paths.qmp(), paths.supervisor(), paths.guest()] {
        if let Err(e) = file::remove_if_there(&path) {
            log::warn!("{e}");
        }
    }
}

/// Removes a lock file that nobody holds.
pub fn remove_lock(path: &Path) {
    if let Ok(Some(lock)) = Lock::try_take(path) {
        let _ = lock.remove();
    }
}

/// Takes a user for a QEMU of this component and slot.
pub fn take_user(context: &Context<'_>, slot: Slot) -> Result<User> {
    user::take(context.paths, context.node.qemu.uid_range, &format!("{}/{}", context.id, slot.name()))
}
