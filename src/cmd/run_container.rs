//! `mcp-run-container`: run one component as a podman container and stay with it until it ends.

use super::Common;
use super::supervise::{self, Options, Runner, Supervisor, shall_be_left_alone};
use crate::container::prepare;
use crate::model::{Target, state};
use crate::node::start::{self, Start};
use crate::node::{provide, resolve};
use crate::supervise::Context;
use crate::sys::error::EXIT_OK;
use crate::sys::paths::Paths;
use crate::sys::{Error, Result, out};

/// Run one component as a podman container and stay with it until it ends
///
/// SIGTERM and SIGINT stop it: the image's stop signal first, SIGKILL after the component's stop_timeout. One that lost
/// its supervisor is adopted, not started twice.
#[derive(Debug, clap::Parser)]
#[command(name = "mcp-run-container", version, after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// What to run: SERVICE[/COMPONENT]
    #[arg(value_name = "TARGET")]
    target: String,
    #[command(flatten)]
    options: Options,
    /// Print podman's argument vector, one argument a line, and start nothing
    #[arg(long)]
    dry_run: bool,
}

const EXAMPLES: &str = "\
Examples:
  mcp-run-container shop/web                      in the foreground, until it ends
  mcp-run-container --detach --wait shop/web      return when it is healthy
  mcp-run-container --dry-run shop/web            what podman would be given

Exit codes: the program's own; 100 failed for good (also: another supervisor has it),
111 failed for now (also: ended while nobody could see its exit code), 126 the program in
the image can't be executed, 127 it is not there, 128+n ended by signal n.";

/// Runs the program and returns its exit code.
pub fn run(args: Args) -> Result<u8> {
    let paths = Paths::find(args.common.root.as_deref())?;
    let named = Some(args.target.as_str()).filter(|_| !args.dry_run);
    supervise::noting(&paths, named, &args.options, || start(&args, &paths))
}

fn start(args: &Args, paths: &Paths) -> Result<u8> {
    let (node, found) = resolve::one(paths, &Target::parse(&args.target)?)?;
    let (id, options) = (&found.id, &args.options);
    if options.recover && !args.dry_run && shall_be_left_alone(paths, &found)? {
        return Ok(EXIT_OK);
    }
    let start = start::choose(paths, &found, options.recover)?;
    if start.version.spec.is_vm() {
        return Err(Error::refused(id, "is a VM, not a container; mcp-run runs either"));
    }
    let copy_console = options.copies_console();
    let base = Context { paths, id, component: &found.component, pin: None, node: &node, copy_console };
    let context = base.of(&start.version);
    if args.dry_run {
        out::print(format_args!("{}\n", prepare::dry_run(&context)?.join("\n")));
        return Ok(EXIT_OK);
    }
    options.check(&context)?;
    // What runs needs no image any more.
    let start = match state::any_alive(&context.files())? {
        true => start,
        false if options.adopt => return Err(Error::no(id, "not running")),
        false => Start { version: provide::ensure(paths, &node, id, start.version)?, ..start },
    };
    let runner = Runner { adhoc: found.adhoc, wants_health: options.wants_health() };
    Supervisor { options, base, found: &found, runner }.begin(start)
}
