//! `mcp-status`: what should run, what does run, and how they differ.

mod inspect;
mod json;
mod prometheus;
mod row;
mod table;
mod watch;

use super::Common;
use crate::model::{Loaded, Problem, Target, duration, load};
use crate::node::{Condition, Entry, Remote, inventory, remote, verdict};
use crate::sys::error::{EXIT_FINAL, EXIT_NO, EXIT_OK};
use crate::sys::paths::Paths;
use crate::sys::{Deadline, Error, Result, file, out, terminal};
use row::Row;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use table::Style;

/// What is not known of tags by then is left.
const REMOTE_TIMEOUT: Duration = Duration::from_secs(10);

/// After this no further component is asked for its health.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(10);

const AFTER_HELP: &str = "\
Examples:
  mcp-status                            the whole node
  mcp-status -v demo                    everything known of demo
  mcp-status --list --state failed      what failed, one a line
  mcp-status --remote                   has a tag moved since it was deployed?
  mcp-status --wanted demo && mcp-run --recover demo
  mcp-status --prometheus /var/lib/node_exporter/mcp.prom

Exit codes: 0 all is as it should be, 1 drift, 2 usage, 100 unknown target or bad definitions, 111 try again.";

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
    /// Ask what runs whether it is healthy
    #[arg(long, conflicts_with = "wanted")]
    health: bool,
    /// Ask registries whether the tags of deployed images still name what was deployed
    #[arg(long, conflicts_with_all = ["wanted", "prometheus", "watch"])]
    remote: bool,
    /// Only those in this state; may be given several times
    #[arg(long, value_name = "STATE", value_parser = state_name, conflicts_with = "wanted")]
    state: Vec<Condition>,
    /// Show it again on every change, and every INTERVAL (2s)
    #[arg(long, value_name = "INTERVAL", num_args = 0..=1, require_equals = true, default_missing_value = "2s",
          value_parser = duration::parse, conflicts_with_all = ["prometheus", "wanted"])]
    watch: Option<Duration>,
    /// Say by the exit code alone whether TARGET shall run: 0 yes, 1 no
    #[arg(long, value_name = "TARGET", conflicts_with_all = ["targets", "prometheus"])]
    wanted: Option<String>,
    /// Write metrics to FILE, whole ("-": standard output)
    #[arg(long, value_name = "FILE")]
    prometheus: Option<PathBuf>,
}

fn state_name(text: &str) -> std::result::Result<Condition, String> {
    Condition::ALL.into_iter().find(|c| c.name() == text).ok_or_else(|| {
        let names: Vec<_> = Condition::ALL.iter().map(|c| c.name()).collect();
        format!("a state is one of {}", names.join(", "))
    })
}

/// Runs the program and returns its exit code.
pub fn run(args: Args) -> Result<u8> {
    if args.watch.is_some_and(|interval| interval.is_zero()) {
        return Err(Error::Usage { what: "--watch: the interval must be longer than nothing".into() });
    }
    let targets: Vec<Target> = args.targets.iter().map(|t| Target::parse(t)).collect::<Result<_>>()?;
    let paths = Paths::find(args.common.root.as_deref())?;
    if let Some(target) = &args.wanted {
        return wanted(&paths, &Target::parse(target)?);
    }
    if let Some(interval) = args.watch {
        return watch::run(&paths, &args, &targets, interval);
    }
    let loaded = load::load(&paths)?;
    let view = View::take(&paths, &args, &targets, &loaded)?;
    view.complain();
    if let Some(file) = &args.prometheus {
        let text = prometheus::text(&view.rows, view.problems.len());
        match file.as_os_str() == "-" {
            true => out::print(format_args!("{text}")),
            false => file::publish(file, text.as_bytes())?,
        }
        // The drift is in the metrics; the program did what it was asked.
        return Ok(if view.complaints().next().is_some() { EXIT_FINAL } else { EXIT_OK });
    }
    out::print(format_args!("{}", view.text(&paths, &args, style(&args), false)));
    Ok(view.exit_code())
}

/// What is shown: the rows that were asked for, and what was wrong with the question or the definitions.
struct View<'a> {
    rows: Vec<Row<'a>>,
    problems: Vec<String>,
    unknown: Vec<String>,
    at: SystemTime,
}

impl<'a> View<'a> {
    fn take(paths: &Paths, args: &Args, targets: &[Target], loaded: &'a Loaded) -> Result<View<'a>> {
        let mut entries = inventory::collect(paths, loaded)?;
        let unknown = targets.iter().filter(|t| !is_known(t, &entries, loaded)).map(unknown).collect();
        entries.retain(|e| targets.is_empty() || targets.iter().any(|t| t.matches(&e.id)));
        let at = SystemTime::now();
        let mut verdicts = match args.health {
            true => verdict::ask_all(paths, &loaded.node, &entries, Deadline::after(HEALTH_TIMEOUT)),
            false => Vec::new(),
        }
        .into_iter();
        let mut remotes = match args.remote {
            true => remote::ask_all(paths, &loaded.node, &entries, Deadline::after(REMOTE_TIMEOUT)),
            false => Vec::new(),
        }
        .into_iter();
        let row = |entry| Row::new(entry, verdicts.next(), remotes.next().flatten(), at);
        let mut rows: Vec<Row<'a>> = entries.into_iter().map(row).collect();
        rows.retain(|r| args.state.is_empty() || args.state.contains(&r.condition));
        Ok(View { rows, problems: problems(paths, loaded, targets), unknown, at })
    }

    fn complaints(&self) -> impl Iterator<Item = &String> {
        self.problems.iter().chain(&self.unknown)
    }

    fn complain(&self) {
        for row in &self.rows {
            if let Some(Remote::Unknown(e)) = &row.remote {
                log::warn!("{}: its registry could not be asked: {e}", row.entry.id);
            }
        }
        if self.complaints().next().is_some() {
            let problems = self.complaints().cloned().collect();
            super::report(super::program(), &Error::Definitions { problems });
        }
    }

    fn text(&self, paths: &Paths, args: &Args, style: Style, compact: bool) -> String {
        if args.json {
            return json::document(paths, &self.rows, &self.problems, self.at, compact);
        }
        if args.list {
            return self.rows.iter().map(|r| format!("{}\n", r.entry.id)).collect();
        }
        if args.verbose {
            let sheets: Vec<String> = self.rows.iter().map(|r| inspect::sheet(paths, r)).collect();
            return sheets.join("\n");
        }
        table::draw(&self.rows, style)
    }

    fn exit_code(&self) -> u8 {
        if self.complaints().next().is_some() {
            EXIT_FINAL
        } else if self.rows.iter().any(|r| !r.drift.is_empty()) {
            EXIT_NO
        } else {
            EXIT_OK
        }
    }
}

/// Whether there is something to say of `target`. A service whose definition is bad has its problems told instead.
fn is_known(target: &Target, entries: &[Entry<'_>], loaded: &Loaded) -> bool {
    loaded.broken.contains(&target.service) || entries.iter().any(|e| target.matches(&e.id))
}

fn unknown(target: &Target) -> String {
    format!("{target}: no such component: neither declared nor ever started; mcp-status --list names all")
}

/// The problems that matter for `targets`: those of the node config and of their definitions; all when there are none.
fn problems(paths: &Paths, loaded: &Loaded, targets: &[Target]) -> Vec<String> {
    let matters = |p: &&Problem| {
        let stem = p.file.file_stem().unwrap_or_default();
        targets.is_empty() || p.file == paths.config || targets.iter().any(|t| stem == t.service.as_str())
    };
    loaded.problems.iter().filter(matters).map(Problem::to_string).collect()
}

/// The answer to --wanted: whether any of the target's components shall run.
fn wanted(paths: &Paths, target: &Target) -> Result<u8> {
    let loaded = load::load(paths)?;
    if loaded.broken.contains(&target.service) {
        return Err(Error::Definitions { problems: problems(paths, &loaded, std::slice::from_ref(target)) });
    }
    let mut entries = inventory::collect(paths, &loaded)?;
    entries.retain(|e| target.matches(&e.id));
    if entries.is_empty() {
        return Err(Error::Definitions { problems: vec![unknown(target)] });
    }
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
