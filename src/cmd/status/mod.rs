//! `mcp-status`: what should run, what does run, and how they differ.

mod again;
mod cluster;
mod doctor;
mod grid;
mod inspect;
mod installed;
mod json;
mod nagios;
mod prometheus;
mod row;
mod table;
mod view;
mod watch;

use super::Common;
use crate::model::{Target, duration, load};
use crate::node::{Condition, Drift, Entry, inventory};
use crate::sys::error::{EXIT_NO, EXIT_OK};
use crate::sys::paths::Paths;
use crate::sys::{Error, Result, file, out, terminal};
use std::path::PathBuf;
use std::time::Duration;
use table::Style;
use view::{View, unknown};

const AFTER_HELP: &str = "\
Examples:
  mcp-status                            the whole node
  mcp-status -v demo                    everything known of demo
  mcp-status --list --state failed      what failed, one a line
  mcp-status --remote                   has a tag moved since it was deployed?
  mcp-status --wanted demo/web && mcp-run --recover demo/web
  mcp-status --installed demo           could it start here, with the network cut off?
  mcp-status --prometheus /var/lib/node_exporter/mcp.prom
  mcp-status --nagios                   as a Nagios plugin
  mcp-status --doctor                   what this node lacks, and what to do about it
  mcp-status --cluster                  all nodes of a Pacemaker cluster

Exit codes: 0 all is as it should be, 1 drift or a bad file (--doctor: something is lacking), 2 usage, 100 unknown target, 111 try again.
With --nagios: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.";

/// What should run, what does run, and how they differ
#[derive(Debug, clap::Parser)]
#[command(name = "mcp-status", version, after_help = AFTER_HELP)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Only these: SERVICE or SERVICE/COMPONENT
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// Print one JSON document
    #[arg(long, conflicts_with_all = ["list", "verbose", "prometheus", "wanted"])]
    json: bool,
    /// Print names only, SERVICE/COMPONENT, one a line
    #[arg(long, conflicts_with_all = ["verbose", "prometheus", "wanted"])]
    list: bool,
    /// Show everything known of each
    #[arg(short, long, conflicts_with_all = ["prometheus", "wanted"])]
    verbose: bool,
    /// Ask what runs whether it is healthy, instead of telling what mcp-health --record was told last
    #[arg(long, conflicts_with = "wanted")]
    health: bool,
    /// Ask registries whether the tags of deployed images still name what was deployed
    #[arg(long, conflicts_with_all = ["wanted", "prometheus", "watch"])]
    remote: bool,
    /// Only those in this state; may be given several times
    #[arg(long, value_name = "STATE", value_parser = state_name, conflicts_with = "wanted")]
    state: Vec<Condition>,
    /// Only those with this drift; may be given several times
    #[arg(long, value_name = "DRIFT", value_parser = drift_name, conflicts_with = "wanted")]
    drift: Vec<Drift>,
    /// Only those whose definition has this placement
    #[arg(long, value_name = "PLACEMENT", value_parser = ["node", "cluster"], conflicts_with = "wanted")]
    placement: Option<String>,
    /// Show it again on every change, and every INTERVAL (2s)
    #[arg(long, value_name = "INTERVAL", num_args = 0..=1, require_equals = true, default_missing_value = "2s",
          value_parser = duration::parse, conflicts_with_all = ["prometheus", "wanted"])]
    watch: Option<Duration>,
    /// Say by the exit code alone whether TARGET shall run: 0 yes, 1 no
    #[arg(long, value_name = "TARGET", conflicts_with_all = ["targets", "prometheus"])]
    wanted: Option<String>,
    /// Say whether TARGET could start here from what is local, without the network: 0 yes; 1 no, and why
    #[arg(long, value_name = "TARGET", conflicts_with_all = ["targets", "prometheus", "json", "list", "verbose", "health",
          "remote", "state", "watch", "wanted"])]
    installed: Option<String>,
    /// For units: say by the exit code alone whether an init shall start TARGET again now that its supervisor has ended: 0
    /// yes, 1 no
    #[arg(long, value_name = "TARGET", requires = "ended", conflicts_with_all = ["targets", "prometheus", "json",
          "list", "verbose", "health", "remote", "state", "watch", "wanted", "installed"])]
    again: Option<String>,
    /// With --again: the exit code with which the supervisor ended; above 255 or below 0 where a signal ended it
    #[arg(long, value_name = "CODE", requires = "again", allow_negative_numbers = true)]
    ended: Option<i32>,
    /// Write metrics to FILE, whole ("-": standard output)
    #[arg(long, value_name = "FILE")]
    prometheus: Option<PathBuf>,
    /// Say what this node lacks for what its definitions ask, and what to do: 0 nothing, 1 something
    #[arg(long, conflicts_with_all = ["targets", "list", "verbose", "health", "remote", "state", "watch", "wanted", "again",
          "installed", "prometheus", "nagios"])]
    doctor: bool,
    /// Show all nodes of the Pacemaker cluster that this one belongs to
    #[arg(long, conflicts_with_all = ["verbose", "remote", "watch", "wanted", "installed", "again", "prometheus", "doctor",
          "nagios"])]
    cluster: bool,
    /// With --cluster: how each node is reached, a line of shell in which {node} is its name (default: by ssh)
    #[arg(long, value_name = "COMMAND", requires = "cluster")]
    via: Option<String>,
    /// With --cluster: what has not answered by then is unreachable (10s)
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, requires = "cluster")]
    timeout: Option<Duration>,
    /// Answer as a Nagios plugin does, with its exit codes
    #[arg(long, conflicts_with_all = ["json", "list", "verbose", "wanted", "installed", "watch", "prometheus", "state"])]
    nagios: bool,
}

fn state_name(text: &str) -> std::result::Result<Condition, String> {
    Condition::ALL.into_iter().find(|c| c.name() == text).ok_or_else(|| {
        let names: Vec<_> = Condition::ALL.iter().map(|c| c.name()).collect();
        format!("a state is one of {}", names.join(", "))
    })
}

fn drift_name(text: &str) -> std::result::Result<Drift, String> {
    Drift::ALL.into_iter().find(|drift| drift.name() == text).ok_or_else(|| {
        let names = Drift::ALL.map(Drift::name);
        format!("a drift is one of {}", names.join(", "))
    })
}

/// Runs the program and returns its exit code.
pub fn run(args: Args) -> Result<u8> {
    if args.watch.is_some_and(|interval| interval.is_zero()) {
        return Err(Error::Usage { what: "--watch: the interval must be longer than nothing".into() });
    }
    if args.cluster {
        return cluster::run(&args);
    }
    if args.doctor {
        return Ok(doctor::run(Paths::find(args.common.root.as_deref()), args.json));
    }
    if args.nagios {
        let told = targets_and_paths(&args)
            .and_then(|(targets, paths)| look(&paths, &args, &targets, |view| Ok(nagios::print(view))));
        return Ok(told.unwrap_or_else(|e| nagios::print_error(&e)));
    }
    let (targets, paths) = targets_and_paths(&args)?;
    if let Some(target) = &args.wanted {
        return named(&paths, &Target::parse(target)?, |entries| wanted(target, entries));
    }
    if let Some(target) = &args.installed {
        return installed::answer(&paths, &Target::parse(target)?);
    }
    if let (Some(target), Some(code)) = (&args.again, args.ended) {
        return named(&paths, &Target::parse(target)?, |entries| match entries {
            [one] => again::answer(one, code),
            _ => Err(Error::Usage { what: format!("{target}: --again wants one component") }),
        });
    }
    if let Some(interval) = args.watch {
        return watch::run(&paths, &args, &targets, interval);
    }
    look(&paths, &args, &targets, |view| print(view, &paths, &args))
}

fn targets_and_paths(args: &Args) -> Result<(Vec<Target>, Paths)> {
    let targets = args.targets.iter().map(|t| Target::parse(t)).collect::<Result<_>>()?;
    Ok((targets, Paths::find(args.common.root.as_deref())?))
}

/// Looks once, and hands what was seen to `show`, which gives the exit code.
fn look(paths: &Paths, args: &Args, targets: &[Target], show: impl FnOnce(&View<'_>) -> Result<u8>) -> Result<u8> {
    let question = View::question(paths, targets);
    let loaded = load::load(paths);
    show(&View::take(paths, args, targets, &loaded, question)?)
}

fn print(view: &View<'_>, paths: &Paths, args: &Args) -> Result<u8> {
    view.complain();
    if let Some(path) = &args.prometheus {
        let text = prometheus::text(view);
        match path.as_os_str() == "-" {
            true => out::print(format_args!("{text}")),
            false => file::publish(path, text.as_bytes())?,
        }
        // The drift is in the metrics; the program did what it was asked.
        return Ok(view.trouble());
    }
    out::print(format_args!("{}", view.text(paths, args, style(args), false)));
    Ok(view.exit_code())
}

/// Hands the entries of `target` to `answer`. That there is none, or that its definition is bad, is an error.
fn named(paths: &Paths, target: &Target, answer: impl FnOnce(&[Entry<'_>]) -> Result<u8>) -> Result<u8> {
    let loaded = load::load(paths);
    if loaded.broken.contains(&target.service) {
        return Err(loaded.problems_for(paths, std::slice::from_ref(target)).into());
    }
    let mut entries = inventory::collect(paths, &loaded)?;
    entries.retain(|e| target.matches(&e.id));
    if entries.is_empty() {
        return Err(Error::Definitions { problems: vec![unknown(target)] });
    }
    answer(&entries)
}

/// The answer to --wanted: whether any of the target's components shall run.
fn wanted(target: &str, entries: &[Entry<'_>]) -> Result<u8> {
    // Where the record is damaged, to guess the wish could start what an operator had stopped.
    if let Some(damage) = entries.iter().filter(|e| e.wanted().is_none()).find_map(|e| e.record.damage()) {
        return Err(Error::refused(target, damage));
    }
    Ok(if entries.iter().any(|e| e.wanted() == Some(true)) { EXIT_OK } else { EXIT_NO })
}

/// How the table is drawn on this standard output.
fn style(args: &Args) -> Style {
    Style { width: terminal::width(), colour: terminal::has_colour(), health: args.health }
}
