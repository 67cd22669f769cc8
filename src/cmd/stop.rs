//! `mcp-stop`: stop components: gracefully, then firmly; say which it took.

use super::Common;
use crate::container::listing::Listed;
use crate::model::{Component, ComponentId, Node, Placement, Problem, Runtime, Source, Target, duration};
use crate::node::containers::Question;
use crate::node::resolve::{self, Existing, Resolved};
use crate::node::stop::{self, Manner, Stopped, describe};
use crate::sys::error::EXIT_OK;
use crate::sys::paths::Paths;
use crate::sys::signals::Signals;
use crate::sys::{Deadline, Error, Result, out, pool};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

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
    /// For units: stop it, also where its supervisor is gone, and let it start again with its init or the next boot
    #[arg(long)]
    for_now: bool,
    /// So long they have, where their own stop_timeout is longer: then they are stopped firmly
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    within: Option<Duration>,
    /// For units: only what has lost its supervisor; that there is nothing of it is well
    #[arg(long)]
    unsupervised: bool,
}

const EXAMPLES: &str = "\
Examples:
  mcp-stop shop                 all components of the service shop
  mcp-stop shop/api web/front   two components, side by side
  mcp-stop --all                everything that runs
  mcp-stop --for-now shop/api   until mcp-boot, its init or mcp-run starts it

Exit codes: 0 stopped, 1 something was not running or a file is bad, 100 no such target, 111 try again.";

/// Runs the program and returns its exit code.
pub fn run(args: Args) -> Result<u8> {
    let paths = Paths::find(args.common.root.as_deref())?;
    let signals = Signals::catch()?;
    // What runs though its files are lost, only podman knows. Nothing that has its files waits for that answer.
    let question = (args.all && !args.unsupervised).then(|| Question::begin(&paths, true));
    let Choice { node, mut chosen, others, absent, problems } = choose(&paths, &args)?;
    // A bad file must not keep anything running: report it and stop the rest.
    let bad = super::report_problems(problems.iter().map(Problem::to_string).collect());
    // To a unit a stop that has stopped everything has succeeded.
    let mut worst = if args.for_now { EXIT_OK } else { bad };
    if args.unsupervised {
        // What can't be told is stopped, or says why not.
        chosen.retain(|what| stop::is_unsupervised(&paths, &what.id).unwrap_or(true));
    }
    let until = args.within.map(Deadline::after);
    let ids: BTreeSet<ComponentId> = chosen.iter().map(|what| what.id.clone()).collect();
    let mut unasked = None;
    let listed = std::iter::once_with(|| match question.map(Question::ours).transpose() {
        Ok(listed) => lost(listed.unwrap_or_default(), &ids, others),
        Err(e) => {
            unasked = Some(Err(e));
            Vec::new()
        }
    });
    let all = chosen.into_iter().map(|what| (what, false)).chain(listed.flatten().map(|what| (what, true)));
    let mut results = pool::each(all, stop::AT_ONCE, |(what, listed)| {
        // One that has to wait for its turn has what is left then.
        let manner = Manner { listed, for_now: args.for_now, within: until.map(|until| until.left()) };
        stop_one(&paths, &node, &what, manner, &signals)
    });
    results.extend(absent.iter().map(|target| Err(Error::no(target, "not running"))));
    results.extend(unasked);
    // One that ended by itself after we looked is none of those that run.
    results.retain(|result| !args.all || !matches!(result, Err(Error::No { .. })));
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

/// What to stop, and with `--all` the rest: what does not run, as far as our own files tell.
#[derive(Default)]
struct Choice {
    node: Node,
    chosen: Vec<Resolved>,
    others: Vec<Resolved>,
    /// Targets whose definition is bad and of which nothing is left on the node.
    absent: Vec<Target>,
    problems: Vec<Problem>,
}

fn choose(paths: &Paths, args: &Args) -> Result<Choice> {
    let mut choice = Choice::default();
    let targets = args.targets.iter().map(|t| Target::parse(t).map(Some)).collect::<Result<Vec<_>>>()?;
    let targets = if args.all { vec![None] } else { targets };
    for target in targets {
        let Existing { found, node, problems } = resolve::existing(paths, target.as_ref())?;
        choice.node = node;
        choice.problems.extend(problems.into_iter().filter(|p| !choice.problems.contains(p)).collect::<Vec<_>>());
        if found.is_empty() {
            choice.absent.extend(target);
        }
        for (id, component) in found {
            let what = Resolved { id, component, adhoc: false, placement: Placement::Node };
            // Where that is unknown, try; the stop reports why it fails.
            if args.all && !stop::is_there(paths, &what.id).unwrap_or(true) {
                choice.others.push(what);
            } else if !choice.chosen.iter().any(|c| c.id == what.id) {
                choice.chosen.push(what);
            }
        }
    }
    Ok(choice)
}

/// Those of `listed` that run and are not in `chosen`. One that nothing of ours knows any more has defaults.
fn lost(listed: BTreeMap<ComponentId, Listed>, chosen: &BTreeSet<ComponentId>, others: Vec<Resolved>) -> Vec<Resolved> {
    let mut others: BTreeMap<ComponentId, Resolved> = others.into_iter().map(|o| (o.id.clone(), o)).collect();
    let running = listed.into_iter().filter(|(id, one)| one.is_running() && !chosen.contains(id));
    running
        .map(|(id, one)| {
            others.remove(&id).unwrap_or_else(|| {
                let source = Source::Image { reference: one.image };
                let component = Component::new(&id.component, Runtime::Container, source);
                Resolved { id, component, adhoc: false, placement: Placement::Node }
            })
        })
        .collect()
}

fn stop_one(paths: &Paths, node: &Node, what: &Resolved, manner: Manner, signals: &Signals) -> Result<String> {
    let began = Instant::now();
    let told = match stop::stop(paths, node, what, manner, signals)? {
        Stopped::Ended(end) => describe(end.rung, &end.reason),
        Stopped::Waiting => "stopped: did not run, and is not started again".into(),
    };
    Ok(format!("{}: {told} ({:.2} s)", what.id, began.elapsed().as_secs_f64()))
}
