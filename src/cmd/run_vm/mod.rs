//! `mcp-run-vm`: run one component as a VM and stay with it until it ends.

mod adhoc;

use self::adhoc::Adhoc;
use super::Common;
use super::supervise::{self, Options, Runner, Supervisor, shall_be_left_alone};
use crate::guest::launch::prepare;
use crate::model::{Target, Version, state};
use crate::node::start::{self, Start};
use crate::node::{provide, resolve};
use crate::supervise::Context;
use crate::sys::error::EXIT_OK;
use crate::sys::paths::{Paths, Slot};
use crate::sys::{Error, Result, out, time};

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
    #[command(flatten)]
    options: Options,
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
    let named = args.target.as_deref().filter(|_| !args.dry_run);
    supervise::noting(&paths, named, &args.options, || start(&args, &paths))
}

fn start(args: &Args, paths: &Paths) -> Result<u8> {
    let (node, found) = match &args.target {
        Some(target) => resolve::one(paths, &Target::parse(target)?)?,
        None => (resolve::node(paths)?, args.adhoc.component()?),
    };
    let id = &found.id;
    let options = &args.options;
    if options.recover && !args.dry_run && shall_be_left_alone(paths, &found)? {
        return Ok(EXIT_OK);
    }
    let start = match &args.target {
        Some(_) => start::choose(paths, &found, options.recover)?,
        // What the options say, whatever was run under that name before.
        None => Start { version: Version { spec: found.component.clone(), pin: None, at: time::now() }, trial: false },
    };
    if !start.version.spec.is_vm() {
        return Err(Error::refused(id, "runtime = \"container\" is not a VM; mcp-run runs either"));
    }
    let copy_console = options.copies_console();
    let base = Context { paths, id, component: &found.component, pin: None, node: &node, copy_console };
    let context = base.of(&start.version);
    if args.dry_run {
        let (binary, plan) = prepare::dry_run(&context)?;
        out::print(format_args!("{}\n{}\n", binary.display(), plan.lines().join("\n")));
        return Ok(EXIT_OK);
    }
    context.files().instance(Slot::B).check_socket_lengths()?;
    options.check(&context)?;
    // What runs needs nothing of the store.
    let start = match state::any_alive(&context.files())? {
        true => start,
        false if options.adopt => return Err(Error::no(id, "not running")),
        false => Start { version: provide::ensure(paths, &node, id, start.version)?, ..start },
    };
    let runner = Runner { adhoc: found.adhoc, wants_health: options.wants_health() };
    Supervisor { options, base, found: &found, runner }.begin(start)
}
