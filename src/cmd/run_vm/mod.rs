//! `mcp-run-vm`: run one component as a VM and stay with it until it ends.

mod adhoc;
mod detach;

use self::adhoc::Adhoc;
use self::detach::{Caller, Side, detach};
use super::Common;
use crate::guest::instance::Context;
use crate::guest::launch::prepare;
use crate::guest::state::End;
use crate::guest::supervise::{self, Hooks, Mode};
use crate::model::{ComponentId, Record, Target, Version, Wish};
use crate::node::resolve::{self, Resolved};
use crate::node::stop::set_wish;
use crate::node::watching;
use crate::sys::error::EXIT_OK;
use crate::sys::lock::{self, Lock};
use crate::sys::notify::{self, Notify};
use crate::sys::paths::{Paths, Slot};
use crate::sys::pidfd::PidFd;
use crate::sys::signals::Signals;
use crate::sys::{Deadline, Error, Result, out, time};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// Run one component as a VM and stay with it until it ends
///
/// TARGET is SERVICE[/COMPONENT] from the service definitions. Without one, --name and --disk, --kernel or --rootfs
/// describe a VM on the spot, which all other programs then know by its name. If the VM runs already and has lost its
/// supervisor, it is adopted: the guest notices nothing.
#[derive(Debug, clap::Parser)]
#[command(name = "mcp-run-vm", version, after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// What to run: SERVICE[/COMPONENT]
    #[arg(value_name = "TARGET", required_unless_present = "name", conflicts_with = "name")]
    target: Option<String>,
    #[command(flatten)]
    adhoc: Adhoc,
    /// Leave the supervisor in the background and return when the VM has started
    #[arg(long)]
    detach: bool,
    /// With --detach: return when it is ready instead
    #[arg(long, requires = "detach")]
    wait: bool,
    /// When it counts as ready: started, or healthy (the default where a health check is known)
    #[arg(long, value_name = "WHEN", value_parser = ["started", "healthy"])]
    ready: Option<String>,
    /// Where the console goes besides its log: nowhere (file), or to standard output as well (stdout)
    #[arg(long, value_name = "WHERE", value_parser = ["file", "stdout"], default_value = "file")]
    console: String,
    /// Tell readiness by a newline on this descriptor, as s6 and dinit have it
    #[arg(long, value_name = "N", conflicts_with = "detach")]
    notify_fd: Option<i32>,
    /// For units and mcp-boot: start nothing that an operator stopped, and change no wish
    #[arg(long)]
    recover: bool,
    /// Print QEMU's argument vector, one argument a line, and start nothing
    #[arg(long)]
    dry_run: bool,
}

/// How long a process that was killed may keep its locks.
const DYING: Duration = Duration::from_millis(100);

const EXAMPLES: &str = "\
Examples:
  mcp-run-vm shop/api                      in the foreground, until it ends
  mcp-run-vm --detach --wait shop/api      return when it is healthy
  mcp-run-vm --name demo --disk app.img --port 127.0.0.1:8080:8080 --memory 128
  mcp-run-vm --dry-run shop/api            what QEMU would be given

Exit codes: the guest program's own; 100 failed for good (also: another supervisor has it),
111 failed for now (also: ended while nobody could see its exit code), 128+n ended by signal n.";

/// Runs the program and returns its exit code.
pub fn run(args: Args) -> Result<u8> {
    let paths = Paths::find(args.common.root.as_deref())?;
    let (node, Resolved { id, component, adhoc }) = match &args.target {
        Some(target) => resolve::one(&paths, &Target::parse(target)?)?,
        None => (resolve::node(&paths)?, args.adhoc.component()?),
    };
    if !component.is_vm() {
        return Err(Error::refused(&id, "runtime = \"container\" is not a VM; mcp-run runs either"));
    }
    let context =
        Context { paths: &paths, id: &id, component: &component, node: &node, copy_console: args.console == "stdout" };
    if args.dry_run {
        let (binary, plan) = prepare::dry_run(&context)?;
        out::print(format_args!("{}\n{}\n", binary.display(), plan.lines().join("\n")));
        return Ok(EXIT_OK);
    }
    if let Some(fd) = args.notify_fd.filter(|fd| !notify::is_open(*fd)) {
        return Err(Error::Usage { what: format!("--notify-fd {fd}: no such descriptor is open") });
    }
    if args.recover && wish(&paths, &id)? == Some(Wish::Stop) {
        log::warn!("{id}: shall stay stopped, so it is not started; mcp-run {id} changes that");
        return Ok(EXIT_OK);
    }
    context.files().instance(Slot::B).check_socket_lengths()?;
    args.check_health(&context)?;
    if !args.detach {
        return supervise(&args, &context, adhoc, None);
    }
    check_lingering(&paths);
    // Longer than the supervisor takes to give up, unless its restart policy makes it go on.
    let patience = component.start_timeout + component.stop_timeout + Duration::from_secs(30);
    match detach(&context.files(), args.wait, patience, &id.to_string())? {
        Side::Caller(code) => Ok(code),
        Side::Supervisor(caller) => {
            let caller = Rc::new(RefCell::new(caller));
            let result = supervise(&args, &context, adhoc, Some(Rc::clone(&caller)));
            let code = match &result {
                Ok(code) => *code,
                Err(e) => e.exit_code(),
            };
            if let Err(e) = result {
                super::report(super::program(), &e);
            }
            caller.borrow_mut().ended(code);
            Ok(code)
        }
    }
}

fn supervise(args: &Args, context: &Context<'_>, adhoc: bool, caller: Option<Rc<RefCell<Caller>>>) -> Result<u8> {
    let id = context.id;
    let signals = Signals::catch()?;
    let mut lock = take_lock(context)?;
    let ended = lock.sign(super::program()).and_then(|()| supervise_locked(args, context, adhoc, caller, &signals));
    remove_traces(context, lock);
    Ok(ended?.map_or(EXIT_OK, |end| told(id, &end)))
}

fn supervise_locked(
    args: &Args,
    context: &Context<'_>,
    adhoc: bool,
    caller: Option<Rc<RefCell<Caller>>>,
    signals: &Signals,
) -> Result<Option<End>> {
    let (paths, id) = (context.paths, context.id);
    let mut notify = Notify::from_environment(args.notify_fd);
    let detached = caller.is_some();
    if let Some(caller) = caller {
        notify = notify.with_waiting(Box::new(move |step| caller.borrow_mut().step(step)));
    }
    if !args.recover {
        set_wish(paths, id, Wish::Run)?;
    }
    let prepare = || {
        let prepared = prepare::prepare(context, Slot::A)?;
        Record::update(paths, id, |old| {
            // A stop may have come since we began.
            let mut record = Record { adhoc, ..old.unwrap_or_default() };
            let version = Version { spec: context.component.clone(), pin: None, at: time::now() };
            if record.current.as_ref().is_none_or(|current| !current.runs_as(&version)) {
                record.promote(version);
            }
            Some(record)
        })?;
        Ok(prepared)
    };
    let wants_health = args.wants_health();
    let watcher = |instance: &crate::guest::instance::Instance, reporter| {
        watching::start(context, instance, reporter, wants_health)
    };
    let hooks = Hooks { prepare: &prepare, watcher: &watcher };
    let mode = Mode { detached, stop_only: false };
    supervise::run(context, mode, &hooks, &mut notify, signals)
}

impl Args {
    fn wants_health(&self) -> bool {
        self.ready.as_deref() != Some("started")
    }

    /// What can't be asked later is refused before anything is started.
    fn check_health(&self, context: &Context<'_>) -> Result<()> {
        if self.ready.as_deref() == Some("healthy") && watching::health(context).is_none() {
            return Err(Error::refused(context.id, "--ready healthy: no health check is known; it has no tcp port"));
        }
        watching::check(context, self.wants_health())
    }
}

/// Takes the component's lock, or says who has it. A holder that was just killed is given the moment that its end takes.
fn take_lock(context: &Context<'_>) -> Result<Lock> {
    let path = context.files().lock();
    let deadline = Deadline::after(DYING);
    loop {
        if let Some(lock) = Lock::try_take(&path)? {
            return Ok(lock);
        }
        let holder = lock::holder(&path);
        match holder.as_ref().and_then(PidFd::of_holder) {
            Some(process) if !deadline.passed() && process.wait(deadline) => {}
            None if !deadline.passed() => std::thread::sleep(Duration::from_millis(2)),
            Some(_) if holder.as_ref().is_some_and(|h| h.program != super::program()) => {
                let who = holder.map(|h| format!("{} (pid {})", h.program, h.pid)).unwrap_or_default();
                return Err(Error::busy(context.id, format!("{who} is at work on it; try again when that has ended")));
            }
            _ => {
                let id = context.id;
                let who = match holder {
                    Some(holder) => format!("{} (pid {})", holder.program, holder.pid),
                    None => "another process".into(),
                };
                return Err(Error::refused(id, format!("already supervised by {who}; mcp-stop {id} stops it")));
            }
        }
    }
}

/// Says how it ended; the exit code that goes with it.
fn told(id: &ComponentId, end: &End) -> u8 {
    let code = end.exit_code();
    let text = format!("{id}: {}", end.reason);
    if code == EXIT_OK && end.rung.is_none() {
        log::info!("{text}")
    } else {
        log::warn!("{text}")
    }
    code
}

/// Gives the component's lock up. The run directory stays: it tells of the end.
fn remove_traces(context: &Context<'_>, lock: Lock) {
    if let Err(e) = lock.remove() {
        log::warn!("{}: {e}", context.id);
    }
    // A start that failed has left nothing to tell.
    let files = context.files();
    if !files.instance(Slot::A).state().exists() && !files.instance(Slot::B).state().exists() {
        let _ = std::fs::remove_dir(files.instance(Slot::A).run);
        let _ = std::fs::remove_dir(&files.run);
    }
}

fn wish(paths: &Paths, id: &ComponentId) -> Result<Option<Wish>> {
    Ok(Record::read(paths, id)?.map(|record| record.wish))
}

/// A user's run directory goes with the last login unless the user lingers.
fn check_lingering(paths: &Paths) {
    let own = nix::unistd::geteuid();
    let Some(dir) = std::env::var_os("XDG_RUNTIME_DIR") else { return };
    if own.is_root() || !paths.run.starts_with(dir) {
        return;
    }
    let name = nix::unistd::User::from_uid(own).ok().flatten().map(|u| u.name).unwrap_or_default();
    if !std::path::Path::new("/var/lib/systemd/linger").join(&name).exists() {
        log::warn!(
            "{} goes with your last logout, and the VM's state with it; run loginctl enable-linger",
            paths.run.display()
        );
    }
}
