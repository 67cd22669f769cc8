//! `mcp-logs`: show and follow the consoles and containers' logs.

mod follow;
mod format;
mod merge;
mod output;
mod reader;
mod records;
mod source;
mod targets;
mod watch;

use self::follow::Follow;
use self::format::{From, Piece, Sink, Style};
use self::merge::{Piecewise, Wanted};
use self::watch::Watch;
use super::Common;
use crate::console::{Series, index};
use crate::model::name::{ComponentId, Target};
use crate::model::{Problem, duration, load};
use crate::sys::paths::{Paths, Slot};
use crate::sys::{Error, Result, time};
use std::io::IsTerminal;
use std::time::{Duration, SystemTime};

const HELP: &str = "\
Examples:
  mcp-logs demo                        everything the consoles of demo hold
  mcp-logs -f -n 20 mcias/api mcns     the last 20 lines of each, and what comes
  mcp-logs -t --since 10m mcias        the last ten minutes, each line with its time
  mcp-logs --json --since 2026-11-23T10:00:00Z demo | jq -r .line

Exit codes: 0 done (nothing logged counts as done), 1 done, but a file is bad, 2 usage, 100 no such component,
111 failed but may work later, 128+n ended by signal n (how -f usually ends)";

/// Show and follow the consoles and containers' logs
#[derive(Debug, clap::Parser)]
#[command(name = "mcp-logs", version, after_help = HELP)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// SERVICE or SERVICE/COMPONENT; a SERVICE stands for all of its components
    #[arg(required = true, value_name = "TARGET")]
    targets: Vec<String>,
    /// Go on with what comes, across rotation and restart, until interrupted
    #[arg(short, long)]
    follow: bool,
    /// Only the last N lines of each component [default: all; with --follow and no --since: 10]
    #[arg(short = 'n', long, value_name = "N|all", value_parser = parse_lines)]
    lines: Option<Lines>,
    /// Only lines from then on: an RFC 3339 time, or how long ago, like 5m
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<SystemTime>,
    /// Only lines up to then: an RFC 3339 time, or how long ago
    #[arg(long, value_name = "TIME", value_parser = parse_time, conflicts_with = "follow")]
    until: Option<SystemTime>,
    /// Put its time before each line: RFC 3339, UTC
    #[arg(short, long)]
    timestamps: bool,
    /// Leave the bytes of guest or container as they are, on a terminal too (also: --no-sanitize)
    #[arg(long, alias = "no-sanitize", conflicts_with_all = ["sanitize", "json"])]
    raw: bool,
    /// Make control bytes harmless also where standard output is no terminal
    #[arg(long)]
    sanitize: bool,
    /// One JSON object a line: time, component, a container's stream, line
    #[arg(long)]
    json: bool,
    /// What the components' detached supervisors had to say, instead of the consoles
    #[arg(long)]
    supervisor: bool,
}

#[derive(Debug, Clone, Copy)]
enum Lines {
    All,
    Last(u64),
}

fn parse_lines(text: &str) -> std::result::Result<Lines, String> {
    match text {
        "all" => Ok(Lines::All),
        _ => text.parse().map(Lines::Last).map_err(|_| "neither a number nor \"all\"".to_string()),
    }
}

/// A point in time: RFC 3339, its date alone (midnight, UTC), or a duration before now.
fn parse_time(text: &str) -> std::result::Result<SystemTime, String> {
    let wrong = || "neither a time like 2026-11-23T10:20:30Z nor a duration like 5m".to_string();
    if let Ok(ago) = duration::parse(text) {
        return SystemTime::now().checked_sub(ago).ok_or_else(wrong);
    }
    if text.len() == 10 {
        return time::parse(&format!("{text}T00:00:00Z")).ok_or_else(wrong);
    }
    // The offset from UTC, which the parser doesn't know: +hh:mm behind the time of day.
    let day = text.get(..11).ok_or_else(wrong)?;
    let clock = text.get(11..).unwrap_or_default();
    let Some(at) = clock.find(['+', '-']) else { return time::parse(text).ok_or_else(wrong) };
    let (clock, offset) = clock.split_at(at);
    let minutes = |hhmm: &str| -> Option<u64> {
        let (h, m) = hhmm.get(1..)?.split_once(':')?;
        let number = |t: &str, below: u64| t.parse::<u64>().ok().filter(|n| t.len() == 2 && *n < below);
        Some(number(h, 24)? * 60 + number(m, 60)?)
    };
    let local = time::parse(&format!("{day}{clock}Z")).ok_or_else(wrong)?;
    let offset_by = Duration::from_secs(minutes(offset).ok_or_else(wrong)? * 60);
    let utc = if offset.starts_with('+') { local.checked_sub(offset_by) } else { local.checked_add(offset_by) };
    utc.ok_or_else(wrong)
}

/// Which logs of a component are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    /// Those of its instances.
    Consoles,
    /// That of its supervisors.
    Supervisor,
}

impl Which {
    fn series(self, paths: &Paths, id: &ComponentId) -> Vec<Series> {
        let at = paths.component(&id.service, &id.component);
        match self {
            Which::Consoles => Slot::ALL.into_iter().map(|slot| Series::console(&at.instance(slot))).collect(),
            Which::Supervisor => vec![Series::supervisor(&at)],
        }
    }
}

/// The components meant, each once. Without `follow` all must be known; with it, those that aren't are waited for.
fn find_all(paths: &Paths, targets: &[Target], follow: bool) -> Result<Vec<ComponentId>> {
    let mut components = Vec::new();
    let mut missing = Vec::new();
    for target in targets {
        let found = targets::find(paths, target)?;
        if found.is_empty() && follow {
            log::warn!("{target}: nothing there yet; waiting for it");
        } else if found.is_empty() {
            missing.push(Error::refused(
                target,
                "no such component: it has neither a log nor a record here; see mcp-status for what there is, \
                 or wait for it with --follow",
            ));
        }
        for id in found {
            if !components.contains(&id) {
                components.push(id);
            }
        }
    }
    let Some(last) = missing.pop() else { return Ok(components) };
    for error in &missing {
        super::report(super::program(), error);
    }
    Err(last)
}

/// Files are held open by the dozen where many components have many rotated logs.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        // Not fatal: most have few.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

fn has_colour() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|v| !v.is_empty());
    !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|t| t != "dumb")
}

/// Runs the program and returns its exit code.
pub fn run(args: Args) -> Result<u8> {
    let targets = args.targets.iter().map(|t| Target::parse(t)).collect::<Result<Vec<_>>>()?;
    if let (Some(since), Some(until)) = (args.since, args.until)
        && since > until
    {
        return Err(Error::Usage { what: "--since is later than --until".to_string() });
    }
    let paths = Paths::find(args.common.root.as_deref())?;
    raise_file_limit();
    let which = if args.supervisor { Which::Supervisor } else { Which::Consoles };
    let wanted = Wanted {
        lines: match args.lines {
            Some(Lines::Last(n)) => Some(n),
            None if args.follow && args.since.is_none() => Some(10),
            Some(Lines::All) | None => None,
        },
        since: args.since.map(index::nanos),
        until: args.until.map(index::nanos),
    };
    let terminal = std::io::stdout().is_terminal();
    let style = Style {
        timestamps: args.timestamps,
        sanitize: args.sanitize || (terminal && !args.raw),
        json: args.json,
        colour: terminal && has_colour(),
    };

    let mut problems = Vec::new();
    for target in &targets {
        let found = load::load_one(&paths, &target.service).problems;
        problems.extend(found.into_iter().filter(|p| !problems.contains(p)).collect::<Vec<_>>());
    }
    let bad = super::report_problems(problems.iter().map(Problem::to_string).collect());
    let components = find_all(&paths, &targets, args.follow)?;
    let mut follow = None;
    if args.follow {
        let watch = Watch::new()?;
        let components = components.clone();
        let (paths, targets) = (&paths, targets.as_slice());
        let mut new = Follow { paths, targets, which, whole_lines: style.json, components, watch };
        new.add_watches()?;
        follow = Some(new);
    }
    let names: Vec<String> = components.iter().map(ToString::to_string).collect();
    let mut sink = Sink::new(style, &names);
    let mut parts = Vec::new();
    for (component, id) in components.iter().enumerate() {
        let first = parts.len();
        for series in which.series(&paths, id) {
            parts.push(Piecewise::open(From::new(parts.len(), component), series, wanted)?);
        }
        if let Some(count) = wanted.lines {
            let found: u64 = parts.iter().skip(first).map(|p| p.lines).sum();
            sink.skip(component, found.saturating_sub(count));
        }
    }
    show(parts, &mut sink, follow)?;
    Ok(bad)
}

fn show(mut parts: Vec<Piecewise>, sink: &mut Sink, follow: Option<Follow<'_>>) -> Result<()> {
    let mut filled = parts.iter_mut().filter(|p| !p.is_empty());
    let one = (filled.next(), filled.next().is_some());
    let (is_one, is_copied) = match one {
        (Some(part), false) if sink.is_plain() && part.is_as_it_came() => {
            part.copy(sink)?;
            (true, true)
        }
        (_, several) => (!several, false),
    };
    let follows = follow.is_some();
    let mut sources = parts.into_iter().map(|p| p.source(follows)).collect::<Result<Vec<_>>>()?;
    match follow {
        Some(follow) => follow.run(sources, sink),
        None if is_copied => {
            sink.flush();
            Ok(())
        }
        None => merge::show_all(&mut sources, sink, if is_one { Piece::Begun } else { Piece::Cut }),
    }
}
