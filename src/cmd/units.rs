//! `mcp-units`: write the node's services as files of its init system.

use super::Common;
use crate::model::init::{INITS, Init};
use crate::model::service::PLACED;
use crate::model::{Loaded, load};
use crate::node::boot::plan;
use crate::node::units::plan::Plan;
use crate::node::units::write::{self, Fate, Step, Work};
use crate::node::units::{self, Content};
use crate::sys::error::{EXIT_NO, EXIT_OK};
use crate::sys::lock::Lock;
use crate::sys::paths::Paths;
use crate::sys::{Error, Result, out};
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  mcp-units --dry-run runit         show the files for runit, write nothing
  mcp-units s6-rc --dest /etc/s6-rc/source
  mcp-units                         for the init that [boot] init in mcp.toml names
  mcp-units --remove openrc         remove what was written for OpenRC
  mcp-units --plan                  stages and components for scripts, as mcp-cluster reads them

Exit codes: 0 all is in place, 1 files that a person changed were left alone or a
definition is bad, 2 usage, 100 mcp.toml is bad.";

/// Write the node's services as files of its init system
///
/// One service for each component and one for each boot stage, in the order that mcp.toml says. Run it again after a
/// change: what is the same is left alone, what is not needed any more goes, and what a person has changed is kept and said.
#[derive(Debug, clap::Parser)]
#[command(name = "mcp-units", version, after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// systemd, s6, s6-rc, runit, openrc or dinit [default: what [boot] init in mcp.toml says]
    #[arg(value_name = "INIT", value_parser = init_name)]
    init: Option<Init>,
    /// The folder that the files go to [default: the init's own]
    #[arg(long, value_name = "DIR")]
    dest: Option<PathBuf>,
    /// Show the files, write nothing
    #[arg(long)]
    dry_run: bool,
    /// Overwrite what a person has changed, too
    #[arg(long)]
    force: bool,
    /// Remove all that was written for INIT
    #[arg(long)]
    remove: bool,
    /// For systemd's generator: only what is this node's alone, into a --dest that is made anew each time; where nothing is
    /// configured, nothing
    #[arg(long, conflicts_with_all = ["force", "remove"])]
    generator: bool,
    /// For scripts: print one line for each component, with what it wants of whoever places it; write nothing
    #[arg(long, conflicts_with_all = ["init", "dest", "dry_run", "force", "remove", "generator"])]
    plan: bool,
}

fn init_name(text: &str) -> std::result::Result<Init, String> {
    let known = INITS.iter().find(|(name, _)| *name == text);
    known.map(|(_, init)| *init).ok_or_else(|| {
        let names: Vec<_> = INITS.iter().map(|(name, _)| *name).collect();
        format!("an init is one of {}", names.join(", "))
    })
}

/// Runs the program and returns its exit code.
pub fn run(args: Args) -> Result<u8> {
    let paths = Paths::find(args.common.root.as_deref())?;
    let loaded = load::load(&paths);
    if args.plan {
        let lines = units::lines::lines(&loaded)?;
        lines.iter().for_each(|line| out::print(format_args!("{line}\n")));
        return Ok(report_bad(&loaded));
    }
    let init = args.init.or(loaded.node.init).ok_or_else(|| {
        let what = "no INIT: name one, or put init = \"…\" into [boot] of mcp.toml";
        Error::Usage { what: what.into() }
    })?;
    let root = Paths::root(args.common.root.as_deref())?;
    if args.generator {
        return generate(&args, init, &paths, &loaded, root.as_deref());
    }
    let files = match args.remove {
        true => Vec::new(),
        false => units::files(init, &Plan::new(&paths, &loaded, root.as_deref())?),
    };
    let dest = args.dest.clone().unwrap_or_else(|| units::folder(init));
    let dest = std::path::absolute(&dest).map_err(Error::path("resolve", &dest))?;
    let lock = if args.dry_run { None } else { Some(write::lock(&paths, init)?) };
    let worked = Work::new(&paths, init, &dest, &files, args.force).and_then(|work| {
        let fates: Vec<Fate> = work.steps.iter().map(|step| step.fate).collect();
        match args.dry_run {
            true => work.steps.iter().for_each(preview),
            false => work.apply(show)?,
        }
        Ok(fates)
    });
    let removed = lock.map_or(Ok(()), Lock::remove);
    let placed = loaded.services.iter().filter(|s| s.left_alone() == Some(PLACED)).map(|s| s.name.as_str());
    let placed: Vec<&str> = placed.filter(|_| !args.remove).collect();
    if !placed.is_empty() {
        log::warn!("{}: {PLACED}, so nothing is written for it", placed.join(", "));
    }
    let fates = worked?;
    removed?;
    if !args.dry_run {
        if loaded.node.init != Some(init) && loaded.node.start_command.is_none() && !args.remove {
            let name = init.name();
            log::warn!("mcp.toml does not say that {name} owns the components: add init = \"{name}\" to [boot]");
        }
        if fates.iter().any(|f| matches!(f, Fate::New | Fate::Changed | Fate::Removed)) && !args.remove {
            let next = units::next_steps(init).replace("{dest}", &dest.display().to_string());
            next.lines().for_each(|line| log::warn!("next: {line}"));
        }
    }
    let bad = report_bad(&loaded);
    Ok(if fates.contains(&Fate::Kept) { EXIT_NO } else { bad })
}

/// Reports what is wrong with definitions, by themselves or in their stages; the exit code for that.
fn report_bad(loaded: &Loaded) -> u8 {
    super::report_problems(plan::problems(loaded))
}

/// As a generator of systemd's, which runs on every node: one that has no services, or whose services another init owns,
/// gets nothing. With --dry-run nothing is written, and the latter is an error: somebody wants them started.
fn generate(args: &Args, init: Init, paths: &Paths, loaded: &Loaded, root: Option<&Path>) -> Result<u8> {
    if init != Init::Systemd {
        return Err(Error::Usage { what: "--generator is for systemd".into() });
    }
    let plan = match (Plan::new(paths, loaded, root), &args.dest) {
        // What runs keeps its order, policies and times: any package's daemon-reload may come before the file is mended.
        (Err(bad), Some(dest)) if !args.dry_run => {
            write::as_before(paths, dest)?;
            return Err(bad);
        }
        (plan, _) => plan?,
    };
    // To systemd it has succeeded: a bad definition is its own service's alone.
    report_bad(loaded);
    if !args.dry_run {
        write::forget(paths);
    }
    if plan.units().next().is_none() && plan.stages.is_empty() && !plan.placed_containers {
        return Ok(EXIT_OK);
    }
    // A start_command of one's own may be systemd's, too.
    if loaded.node.init.map_or(loaded.node.start_command.is_none(), |owner| owner != init) {
        let what = "does not say that systemd owns the components: init = \"systemd\" in [boot] does";
        let error = Error::refused(paths.config.display(), what);
        return if args.dry_run { Err(error) } else { Ok(EXIT_OK) };
    }
    if args.dry_run {
        return Ok(EXIT_OK);
    }
    let Some(dest) = &args.dest else {
        return Err(Error::Usage { what: "--generator wants --dest".into() });
    };
    write::afresh(paths, dest, &units::generated(&plan))?;
    Ok(EXIT_OK)
}

/// One line for a file that is not as it was.
fn show(step: &Step<'_>) {
    if step.fate == Fate::Kept {
        let done = if step.file.is_some() { "overwrites" } else { "removes" };
        log::warn!("{}: changed by hand, so it is left alone; --force {done} it", step.path.display());
    }
    if step.fate != Fate::Same {
        out::print(format_args!("{:8} {}\n", step.fate.name(), step.path.display()));
    }
}

/// What would become of a file, with its text.
fn preview(step: &Step<'_>) {
    match step.fate {
        Fate::Same => out::print(format_args!("{:8} {}\n", step.fate.name(), step.path.display())),
        _ => show(step),
    }
    match step.file.map(|file| &file.content) {
        None => {}
        Some(Content::Link(to)) => out::print(format_args!("    -> {}\n", to.display())),
        Some(Content::Text(text, _)) => text.lines().for_each(|line| {
            let gap = if line.is_empty() { "" } else { "    " };
            out::print(format_args!("{gap}{line}\n"));
        }),
    }
}
