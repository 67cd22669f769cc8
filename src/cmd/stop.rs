//! `mcp-stop`: stop components: gracefully, then firmly; say which it took.

use super::Common;
use crate::model::{Node, Target};
use crate::node::resolve::{self, Resolved};
use crate::node::stop::{self, Manner, Stopped, describe};
use crate::sys::error::EXIT_OK;
use crate::sys::paths::Paths;
use crate::sys::signals::Signals;
use crate::sys::{Error, Result, out};
use std::time::Instant;

/// Stop components: gracefully, then firmly; say which it took
///
/// A VM gets its power button first; after the component's stop_timeout QEMU's quit; two seconds later SIGKILL. A
/// container gets its image's stop signal, and after stop_timeout SIGKILL. All targets are stopped side by side. What was stopped stays stopped until mcp-run or mcp-deploy starts it again.
#[derive(Debug, clap::Parser)]
#[command(name = "mcp-stop", version, after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// What to stop: SERVICE or SERVICE/COMPONENT
    #[arg(value_name = "TARGET", required_unless_present = "all")]
    targets: Vec<String>,
    /// Stop everything that runs
    #[arg(long, conflicts_with = "targets")]
    all: bool,
}

const EXAMPLES: &str = "\
Examples:
  mcp-stop shop                 all components of the service shop
  mcp-stop shop/api web/front   two components, side by side
  mcp-stop --all                everything that runs

Exit codes: 0 stopped, 1 something was not running, 100 no such target, 111 try again.";

/// Runs the program and returns its exit code.
pub fn run(args: Args) -> Result<u8> {
    let paths = Paths::find(args.common.root.as_deref())?;
    let (node, chosen) = choose(&paths, &args)?;
    let signals = Signals::catch()?;
    let results: Vec<Result<String>> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            chosen.iter().map(|what| scope.spawn(|| stop_one(&paths, &node, what, &signals))).collect();
        let lost = |what: &Resolved| Error::busy(&what.id, "its stop ended unexpectedly; try again");
        threads.into_iter().zip(&chosen).map(|(t, what)| t.join().unwrap_or_else(|_| Err(lost(what)))).collect()
    });
    let mut worst = EXIT_OK;
    for result in results {
        match result {
            Ok(line) => out::print(format_args!("{line}\n")),
            Err(e) => {
                super::report(super::program(), &e);
                worst = worst.max(e.exit_code());
            }
        }
    }
    Ok(worst)
}

fn choose(paths: &Paths, args: &Args) -> Result<(Node, Vec<Resolved>)> {
    let node = resolve::node(paths)?;
    let mut chosen: Vec<Resolved> = Vec::new();
    if args.all {
        let all = resolve::all(paths)?.into_iter().map(|(id, component)| Resolved { id, component, adhoc: false });
        let mut running = Vec::new();
        for what in all {
            if stop::is_there(paths, &what.id)? {
                running.push(what);
            }
        }
        return Ok((node, running));
    }
    for target in &args.targets {
        for (id, component) in resolve::as_running(paths, &Target::parse(target)?)? {
            if !chosen.iter().any(|c| c.id == id) {
                chosen.push(Resolved { id, component, adhoc: false });
            }
        }
    }
    Ok((node, chosen))
}

fn stop_one(paths: &Paths, node: &Node, what: &Resolved, signals: &Signals) -> Result<String> {
    let began = Instant::now();
    let told = match stop::stop(paths, node, what, Manner::default(), signals)? {
        Stopped::Ended(end) => describe(end.rung, &end.reason),
        Stopped::Waiting => "stopped: did not run, and is not started again".into(),
    };
    Ok(format!("{}: {told} ({:.2} s)", what.id, began.elapsed().as_secs_f64()))
}
