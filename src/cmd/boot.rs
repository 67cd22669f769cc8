//! `mcp-boot`: bring the node up, stage by stage.

use super::Common;
use crate::model::boot_record::{BootRecord, Recorder};
use crate::model::{duration, load};
use crate::node::boot::plan::Plan;
use crate::node::boot::tell::Teller;
use crate::node::boot::{self, Booted, down, dry_run};
use crate::node::chart;
use crate::sys::error::{EXIT_NO, EXIT_OK};
use crate::sys::notify::{self, Notify};
use crate::sys::paths::Paths;
use crate::sys::signals::Signals;
use crate::sys::{Error, Result, file, out, terminal, time};
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  mcp-boot                         the whole node, as [[boot.sequence]] in mcp.toml says
  mcp-boot --dry-run               what it would do
  mcp-boot --stage core            one stage, for one unit of the init system
  mcp-boot --last                  how the last boot went; --chart boot.svg draws it
  mcp-boot --down --within 90s     stop the stages in reverse

Exit codes: 0 booted (with --strict: and all are healthy), 1 something is not healthy (--strict) or could not be
stopped, or a definition is bad (without --stage), 2 usage, 100 mcp.toml is bad and nothing was started, 143 ended by
SIGTERM: what runs stays running.";

/// Bring the node up: stages in order, each waits for its services' health
///
/// The first stage is the foundation: it blocks until all of it is healthy, and starts again what died, for ever. Later
/// stages warn about what is not healthy when their time is up, and go on. What runs already is left alone; what an
/// operator stopped stays stopped. A service whose definition is bad is reported; the foundation waits until it is mended. It
/// can be killed and run again at any time.
#[derive(Debug, clap::Parser)]
#[command(name = "mcp-boot", version, after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Run this stage alone
    #[arg(long, value_name = "NAME")]
    stage: Option<String>,
    /// Start nothing, print what would be done
    #[arg(long, conflicts_with_all = ["down", "last", "chart", "strict", "notify_fd"])]
    dry_run: bool,
    /// Exit with 1 if anything was left unhealthy
    #[arg(long, conflicts_with_all = ["down", "last", "chart"])]
    strict: bool,
    /// Print what happens as JSON Lines (with --last: the record as one JSON document)
    #[arg(long, conflicts_with_all = ["chart", "dry_run"])]
    json: bool,
    /// Tell readiness by a newline on this descriptor, as s6 and dinit have it
    #[arg(long, value_name = "N", conflicts_with_all = ["down", "last", "chart"])]
    notify_fd: Option<i32>,
    /// Stop the stages, the last one first; the next boot starts them again
    #[arg(long, conflicts_with_all = ["last", "chart"])]
    down: bool,
    /// With --down: how long it may take in all [default: what the components' stop_timeout add up to]
    #[arg(long, value_name = "DURATION", requires = "down", value_parser = duration::parse)]
    within: Option<Duration>,
    /// Tell how the last boot went
    #[arg(long, conflicts_with_all = ["stage"])]
    last: bool,
    /// Draw the last boot into FILE, an SVG picture ("-": standard output)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["stage", "last"])]
    chart: Option<PathBuf>,
}

/// Runs the program and returns its exit code.
pub fn run(args: Args) -> Result<u8> {
    let paths = Paths::find(args.common.root.as_deref())?;
    if args.last || args.chart.is_some() {
        return show(&paths, &args);
    }
    if let Some(fd) = args.notify_fd.filter(|fd| !notify::is_open(*fd)) {
        return Err(Error::Usage { what: format!("--notify-fd {fd}: no such descriptor is open") });
    }
    let loaded = load::load(&paths);
    loaded.notes.iter().for_each(|note| log::warn!("{note}"));
    let only = args.stage.as_deref();
    let mut plan = if args.down { Plan::down(&paths, &loaded, only)? } else { Plan::new(&loaded, only)? };
    super::report_problems(plan.all_problems().cloned().collect());
    if args.dry_run {
        out::print(format_args!("{}", dry_run::text(&paths, &loaded.node, &plan)));
        return Ok(if plan.all_problems().next().is_some() { EXIT_NO } else { EXIT_OK });
    }
    // What is started finds the same node.
    if let Some(root) = &args.common.root {
        // SAFETY: there is one thread.
        unsafe { std::env::set_var("MCP_ROOT", root) };
    }
    let signals = Signals::catch()?;
    if args.down {
        let budget = args.within.unwrap_or_else(|| down::whole(&plan));
        return Ok(go_down(&paths, &loaded.node, &plan, budget, args.json, &signals).max(bad_code(&plan, only)));
    }
    let recorder = Recorder::begin(&paths, only, &plan.recorded());
    let teller = Teller::new(recorder, Notify::from_environment(args.notify_fd), args.json);
    match boot::run(&paths, &loaded.node, &mut plan, args.strict, &signals, teller)? {
        Booted::Ready(unhealthy) if args.strict && !unhealthy.is_empty() => Ok(EXIT_NO),
        Booted::Ready(_) => Ok(bad_code(&plan, only)),
        Booted::Interrupted => {
            signals.die();
        }
    }
}

/// The exit code for files that are still bad. To a unit a stage that is up, or down, has succeeded.
fn bad_code(plan: &Plan, only: Option<&str>) -> u8 {
    if only.is_none() && plan.all_problems().next().is_some() { EXIT_NO } else { EXIT_OK }
}

fn go_down(
    paths: &Paths,
    node: &crate::model::Node,
    plan: &Plan,
    budget: Duration,
    as_json: bool,
    signals: &Signals,
) -> u8 {
    let mut errors = Vec::new();
    down::run(paths, node, plan, budget, signals, |answer| {
        let (id, took) = (&answer.id, answer.took.as_secs_f64());
        match answer.result {
            Some(Ok(told)) if as_json => {
                let object = json!({ "schema": 1, "time": time::now(), "event": "stopped", "stage": answer.stage,
                    "component": id.to_string(), "text": told, "seconds": took });
                say(&format!("{object}\n"));
            }
            Some(Ok(told)) => say(&format!("{} {id}: {told} ({took:.2} s)\n", answer.stage)),
            Some(Err(e)) => errors.push(e),
            None => {}
        }
    });
    match super::report_all(&errors) {
        EXIT_OK => EXIT_OK,
        _ => EXIT_NO,
    }
}

/// Whoever read it may have gone: the rest is stopped all the same.
fn say(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// --last and --chart.
fn show(paths: &Paths, args: &Args) -> Result<u8> {
    let Some(record) = BootRecord::read(paths)? else {
        return Err(Error::refused(paths.boot_record().display(), "no boot was recorded yet; mcp-boot makes it"));
    };
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    match &args.chart {
        Some(file) if file.as_os_str() == "-" => out::print(format_args!("{}", chart::svg(&record, host))),
        Some(file) => file::publish(file, chart::svg(&record, host).as_bytes())?,
        None if args.json => {
            let text =
                serde_json::to_string_pretty(&record).map_err(|e| Error::refused("boot record", e.to_string()))?;
            out::print(format_args!("{text}\n"));
        }
        None => {
            let style = chart::Style { width: terminal::width(), colour: terminal::has_colour() };
            out::print(format_args!("{}", chart::text(&record, host, style)));
        }
    }
    Ok(EXIT_OK)
}
