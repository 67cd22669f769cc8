//! `mcp-run`: look at the component's runtime and exec the program that runs it.

mod recover;
mod replace;

use super::Common;
use crate::model::service::PLACED;
use crate::model::{ComponentId, Placement, Runtime, Target, load};
use crate::node::{command, resolve, start, stop};
use crate::sys::error::{EXIT_FINAL, EXIT_OK};
use crate::sys::paths::Paths;
use crate::sys::{Error, Result, out, tool};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};

/// Look at the component's runtime and exec the program that runs it
///
/// That is mcp-run-vm for runtime = "unikernel" and "microvm", else mcp-run-container. Several targets want --detach or
/// --by-init; they are started side by side. --all recovers the node: it starts in the background what shall run and
/// doesn't, adopts what lost its supervisor, and leaves alone what runs and what an operator stopped.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "mcp-run", version, after_help = EXAMPLES)]
#[command(group(clap::ArgGroup::new("in_background").multiple(true)))]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// What to run: SERVICE or SERVICE/COMPONENT
    #[arg(value_name = "TARGET", required_unless_present = "all")]
    targets: Vec<String>,
    /// Recover all components: start what shall run and doesn't, as it was deployed
    #[arg(long, conflicts_with_all = ["targets", "console", "notify_fd"], group = "in_background")]
    all: bool,
    /// Leave the supervisor in the background and return when it has started
    #[arg(long, groups = ["background", "in_background"])]
    detach: bool,
    /// Start through the node's [boot] start_command, so that the init system owns it; without one as --detach
    #[arg(long, groups = ["background", "in_background"], conflicts_with_all = ["console", "notify_fd"])]
    by_init: bool,
    /// With --detach, --by-init or --all: return when it is ready instead
    #[arg(long, requires = "in_background")]
    wait: bool,
    /// When it counts as ready: started, or healthy (the default where a health check is known)
    #[arg(long, value_name = "WHEN", value_parser = ["started", "healthy"], conflicts_with_all = ["all", "by_init", "replace"])]
    ready: Option<String>,
    /// Where the console goes besides its log: nowhere (file), or to standard output as well (stdout)
    #[arg(long, value_name = "WHERE", value_parser = ["file", "stdout"])]
    console: Option<String>,
    /// Tell readiness by a newline on this descriptor, as s6 and dinit have it
    #[arg(long, value_name = "N", conflicts_with = "detach")]
    notify_fd: Option<i32>,
    /// For units and mcp-boot: start nothing that an operator stopped, and change no wish
    #[arg(long)]
    recover: bool,
    /// Start it again by its restart policy, as --detach does: for an init to which all ends are the same, as dinit's
    #[arg(long, conflicts_with_all = ["background", "in_background"])]
    by_policy: bool,
    /// With --detach: leave its restart policy to whoever watches it, a cluster manager: each end of it is one
    #[arg(long, requires = "detach")]
    no_restart: bool,
    /// With --detach: adopt what has lost its supervisor, and start nothing; 1 where nothing runs
    #[arg(long, requires = "detach", conflicts_with_all = ["all", "recover", "replace"])]
    adopt: bool,
    /// Put a new VM in the place of the running one, by what was deployed or the definition, and answer when it serves
    #[arg(long, conflicts_with_all = ["background", "console", "notify_fd", "recover", "by_policy"])]
    replace: bool,
    /// With --replace: start nothing, say how each would be replaced
    #[arg(long, requires = "replace")]
    dry_run: bool,
}

const EXAMPLES: &str = "\
Examples:
  mcp-run shop/api                      in the foreground, until it ends
  mcp-run --detach --wait shop          all components of shop; return when they are healthy
  mcp-run --all                         what shall run and doesn't
  mcp-run --by-init --wait shop         through the init system, as mcp.toml says
  mcp-run --replace shop/api            a new VM beside the old one, then in its place: no request is lost

Exit codes: those of mcp-run-vm and mcp-run-container; with several targets the highest. Of --replace: 0 the new one
serves, 1 it was not healthy and the old one serves on (or nothing ran), 100 it can't be started, 111 try again.";

/// Runs the program; returns only for several targets.
pub fn run(mut args: Args) -> Result<u8> {
    let paths = Paths::find(args.common.root.as_deref())?;
    if args.all && !args.replace {
        return recover::run(&paths, args.common.root.as_deref(), args.wait);
    }
    let mut chosen: Vec<(ComponentId, Runtime)> = Vec::new();
    let mut bad = EXIT_OK;
    if args.all {
        let loaded = load::load(&paths).startable()?;
        bad = super::report_files(&loaded, &paths, &[]);
        for (id, service, component) in loaded.components().filter(|(_, service, _)| service.active) {
            if service.placement == Placement::Cluster && !stop::is_there(&paths, &id)? {
                out::print(format_args!("{id}: left alone: {PLACED}, does not run on this node\n"));
                continue;
            }
            chosen.push((id, component.runtime));
        }
    }
    let mut clusters = Vec::new();
    for target in &args.targets {
        let (_, found) = resolve::components(&paths, &Target::parse(target)?)?;
        for what in found {
            if !chosen.iter().any(|(id, _)| *id == what.id) {
                if what.placement == Placement::Cluster {
                    clusters.push(what.id.clone());
                }
                // What a start takes may be another than the definition's: that is not deployed yet.
                let started = start::choose(&paths, &what, args.recover).ok();
                chosen.push((what.id, started.map_or(what.component.runtime, |s| s.version.spec.runtime)));
            }
        }
    }
    if args.replace {
        return Ok(super::worse(replace::run(&paths, &chosen, args.dry_run)?, bad));
    }
    if args.by_init {
        let (placed, own): (Vec<_>, Vec<_>) = chosen.iter().cloned().partition(|(id, _)| clusters.contains(id));
        match (resolve::node(&paths)?.start_command, placed.is_empty()) {
            (Some(words), true) => return by_init(&args, &paths, &words, &own),
            (None, true) => args.detach = true,
            // What the cluster places is no service of the init's.
            (words, false) => {
                let first = match words.filter(|_| !own.is_empty()) {
                    Some(words) => by_init(&args, &paths, &words, &own)?,
                    None => start_all(&Args { detach: true, ..args.clone() }, &own)?,
                };
                return Ok(first.max(start_all(&Args { detach: true, no_restart: true, ..args }, &placed)?));
            }
        }
    }
    match chosen.as_slice() {
        [] => Ok(EXIT_OK),
        [(id, runtime)] => {
            let mut command = command(&args, id, *runtime)?;
            // Returns only when it failed.
            let e = command.exec();
            Err(Error::os("run", command.get_program().to_string_lossy())(e))
        }
        _ if !args.detach => {
            let names: Vec<String> = chosen.iter().map(|(id, _)| id.to_string()).collect();
            Err(Error::Usage { what: format!("{}: several at once want --detach", names.join(", ")) })
        }
        several => start_all(&args, several),
    }
}

fn start_all(args: &Args, chosen: &[(ComponentId, Runtime)]) -> Result<u8> {
    let mut children = Vec::new();
    let mut worst = EXIT_OK;
    for (id, runtime) in chosen {
        let started = command(args, id, *runtime).and_then(|mut command| {
            let program = command.get_program().to_string_lossy().into_owned();
            command.stdin(Stdio::null()).spawn().map_err(Error::os("run", program))
        });
        match started {
            Ok(child) => children.push(child),
            Err(e) => {
                super::report(super::program(), &e);
                worst = worst.max(e.exit_code());
            }
        }
    }
    for mut child in children {
        let status = child.wait().map_err(Error::os("wait for", "a supervisor"))?;
        let code = status.code().or(status.signal().map(|n| 128 + n)).unwrap_or(EXIT_FINAL.into());
        worst = worst.max(u8::try_from(code).unwrap_or(EXIT_FINAL));
    }
    Ok(worst)
}

/// Starts each through `words`, side by side.
fn by_init(args: &Args, paths: &Paths, words: &[String], chosen: &[(ComponentId, Runtime)]) -> Result<u8> {
    let mut found = Vec::new();
    for (id, _) in chosen {
        found.push(resolve::one(paths, &Target::parse(&id.to_string())?)?.1);
    }
    if let Some(root) = &args.common.root {
        // SAFETY: there is one thread.
        unsafe { std::env::set_var("MCP_ROOT", root) };
    }
    let begun: Vec<_> = found.iter().map(|f| command::begin(paths, words, f, args.recover)).collect();
    let ended = begun.into_iter().map(|begun| match begun? {
        Some(begun) => begun.finish(args.wait),
        None => Ok(EXIT_OK),
    });
    let codes = ended.map(|ended| {
        ended.unwrap_or_else(|e| {
            super::report(super::program(), &e);
            command::exit_code(&e)
        })
    });
    Ok(codes.max().unwrap_or(EXIT_OK))
}

/// What runs `id`, with our options handed on.
fn command(args: &Args, id: &ComponentId, runtime: Runtime) -> Result<Command> {
    let program = if runtime == Runtime::Container { "mcp-run-container" } else { "mcp-run-vm" };
    let mut command = Command::new(tool::ours(program));
    command.arg(id.to_string());
    if let Some(root) = &args.common.root {
        command.arg("--root").arg(root);
    }
    let flags = [
        ("--detach", args.detach),
        ("--wait", args.wait),
        ("--recover", args.recover),
        ("--by-policy", args.by_policy),
        ("--no-restart", args.no_restart),
        ("--adopt", args.adopt),
    ];
    for (flag, is_set) in flags {
        if is_set {
            command.arg(flag);
        }
    }
    if let Some(ready) = &args.ready {
        command.args(["--ready", ready]);
    }
    if let Some(console) = &args.console {
        command.args(["--console", console]);
    }
    if let Some(fd) = args.notify_fd {
        command.args(["--notify-fd", &fd.to_string()]);
    }
    Ok(command)
}
