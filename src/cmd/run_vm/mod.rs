//! `mcp-run-vm`: run one component as a VM and stay with it until it ends.

mod adhoc;
mod detach;
mod supervisor;

use self::adhoc::Adhoc;
use self::detach::{Side, detach};
use self::supervisor::Supervisor;
use super::Common;
use crate::guest::instance::Context;
use crate::guest::launch::prepare;
use crate::guest::replace::context_of;
use crate::guest::state;
use crate::model::{ComponentId, Record, Target, Version, Wish};
use crate::node::provide;
use crate::node::resolve;
use crate::node::start::{self, Start};
use crate::node::watching;
use crate::sys::error::EXIT_OK;
use crate::sys::notify;
use crate::sys::paths::{Paths, Slot};
use crate::sys::{Error, Result, out, time};
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
    let (node, found) = match &args.target {
        Some(target) => resolve::one(&paths, &Target::parse(target)?)?,
        None => (resolve::node(&paths)?, args.adhoc.component()?),
    };
    let id = &found.id;
    if !found.component.is_vm() {
        return Err(Error::refused(id, "runtime = \"container\" is not a VM; mcp-run runs either"));
    }
    if args.recover && !args.dry_run && shall_stay_stopped(&paths, id)? {
        return Ok(EXIT_OK);
    }
    let start = match &args.target {
        Some(_) => start::choose(&paths, &found, args.recover)?,
        // What the options say, whatever was run under that name before.
        None => Start { version: Version { spec: found.component.clone(), pin: None, at: time::now() }, trial: false },
    };
    let copy_console = args.console == "stdout";
    let base = Context { paths: &paths, id, component: &found.component, pin: None, node: &node, copy_console };
    let context = context_of(&base, &start.version);
    if args.dry_run {
        let (binary, plan) = prepare::dry_run(&context)?;
        out::print(format_args!("{}\n{}\n", binary.display(), plan.lines().join("\n")));
        return Ok(EXIT_OK);
    }
    if let Some(fd) = args.notify_fd.filter(|fd| !notify::is_open(*fd)) {
        return Err(Error::Usage { what: format!("--notify-fd {fd}: no such descriptor is open") });
    }
    context.files().instance(Slot::B).check_socket_lengths()?;
    args.check_health(&context)?;
    // What runs needs nothing of the store.
    let start = match state::any_alive(&context.files())? {
        true => start,
        false => Start { version: provide::ensure(&paths, &node, id, start.version)?, ..start },
    };
    let context = context_of(&base, &start.version);
    let supervisor = Supervisor { args: &args, base, found: &found };
    if !args.detach {
        return supervisor.run(start, None);
    }
    check_lingering(&paths);
    // Longer than the supervisor takes to give up, unless its restart policy makes it go on.
    let patience = context.component.start_timeout + context.component.stop_timeout + Duration::from_secs(30);
    match detach(&context.files(), args.wait, patience, &id.to_string())? {
        Side::Caller(code) => Ok(code),
        Side::Supervisor(caller) => {
            let caller = Rc::new(RefCell::new(caller));
            let result = supervisor.run(start, Some(Rc::clone(&caller)));
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

/// Whether an operator stopped it, which is said.
fn shall_stay_stopped(paths: &Paths, id: &ComponentId) -> Result<bool> {
    let stays = Record::read(paths, id)?.is_some_and(|record| record.wish == Wish::Stop);
    if stays {
        log::warn!("{id}: shall stay stopped, so it is not started; mcp-run {id} changes that");
    }
    Ok(stays)
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
