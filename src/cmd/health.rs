//! `mcp-health`: is it healthy? one answer.

mod answer;
mod downtime;
mod options;
mod record;

use super::Common;
use crate::health::{Check, Hints, Kind, Plain, Plan, Subject, Verdict, wait};
use crate::model::{Component, ComponentId, Node, Problem, Target, duration};
use crate::node::probe::ComponentSubject;
use crate::node::resolve::{self, Existing};
use crate::sys::error::EXIT_USAGE;
use crate::sys::paths::Paths;
use crate::sys::{Deadline, Error, Result, pool};
use answer::{Answer, Outcome};
use options::Options;
use record::Recorded;
use std::time::Duration;

/// How long a check may take where nobody says so.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Pause between checks where nobody says so.
const INTERVAL: Duration = Duration::from_millis(500);
/// Checks made side by side.
const WORKERS: usize = 32;

/// Is it healthy? one answer
///
/// TARGET is a service, a component (SERVICE/COMPONENT), or a URL: tcp://HOST:PORT, http://HOST:PORT/PATH,
/// https://HOST:PORT/PATH, grpc://HOST:PORT/SERVICE, grpcs://HOST:PORT/SERVICE. A check of a VM is healthy only when the guest itself has taken the connection, not
/// QEMU's port forward alone.
#[derive(Debug, clap::Parser)]
#[command(
    name = "mcp-health",
    version,
    after_help = "\
Examples:
  mcp-health demo                          each component of the service demo
  mcp-health --wait 60s demo/api           wait until it is healthy, at most a minute
  mcp-health https://127.0.0.1:8443/healthz --ca ca.pem --server-name api.example
  mcp-health grpc://127.0.0.1:50051/my.v1.Service
  mcp-health --nagios --all                as a Nagios plugin
  mcp-health --all --on-change 'logger -t mcp $MCP_TARGET is $MCP_HEALTH'
  mcp-run --replace demo | mcp-health --downtime demo    how long did nobody answer?

Exit codes: 0 healthy, 1 not healthy or a file is bad, 2 usage, 100 bad target, 111 try again.
With --nagios: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN."
)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// What to check: SERVICE, SERVICE/COMPONENT or a URL
    #[arg(value_name = "TARGET", required_unless_present = "all")]
    targets: Vec<String>,
    /// Check all components of the node
    #[arg(long, conflicts_with = "targets")]
    all: bool,
    /// How long one check may take in all [default: the definition's, else 2s]
    #[arg(long, value_name = "DURATION", value_parser = positive)]
    timeout: Option<Duration>,
    /// Check again and again until healthy, at most this long
    #[arg(long, value_name = "DURATION", value_parser = positive)]
    wait: Option<Duration>,
    /// Pause between checks [default: the definition's, else 500ms]
    #[arg(long, value_name = "DURATION", value_parser = positive)]
    interval: Option<Duration>,
    /// How many good checks in a row make it healthy [default: 1; with --wait the definition's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    successes: Option<u32>,
    /// How many bad checks in a row make it unhealthy, without --wait [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000), conflicts_with = "wait")]
    failures: Option<u32>,
    #[command(flatten)]
    options: Options,
    /// Ask over and over until standard input ends, then tell the longest time without an answer
    #[arg(long, conflicts_with_all = ["wait", "interval", "successes", "failures", "quiet", "nagios"])]
    downtime: bool,
    /// Print nothing; the exit code is the answer
    #[arg(short, long)]
    quiet: bool,
    /// Print one JSON object
    #[arg(long, conflicts_with_all = ["quiet", "nagios"])]
    json: bool,
    /// Answer as a Nagios plugin does, with its exit codes
    #[arg(long, conflicts_with = "quiet")]
    nagios: bool,
    #[command(flatten)]
    recording: record::Recording,
}

fn positive(text: &str) -> std::result::Result<Duration, String> {
    match duration::parse(text)? {
        d if d.is_zero() => Err("must be more than nothing".into()),
        d => Ok(d),
    }
}

/// One thing to check.
struct Job {
    /// As it is shown: the component's full name, or the URL.
    name: String,
    /// `None`: it has no check. An error: it can't be checked.
    subject: Result<Option<Box<dyn Subject + Send>>>,
    hints: Option<Hints>,
    shown: Option<String>,
    /// Whether TLS is spoken, and gRPC. Not known of what can't be checked: then both.
    tls: bool,
    grpc: bool,
    interval: Duration,
    successes: u32,
    /// `None`: a URL.
    of: Option<Recorded>,
}

/// Runs the program and returns its exit code.
pub fn run(args: Args) -> Result<u8> {
    if args.downtime {
        let Jobs { jobs, problems } = plan(&args)?;
        let bad = super::report_problems(problems.iter().map(Problem::to_string).collect());
        return Ok(downtime::run(jobs, args.json)?.max(bad));
    }
    match check_all(&args) {
        Ok((answers, problems)) if args.nagios => Ok(answer::nagios(&answers, &problems)),
        Ok((answers, problems)) => {
            match (args.json, args.quiet) {
                (true, _) => answer::json(&answers),
                (false, true) => {}
                (false, false) if args.recording.is_on() => record::lines(&answers),
                (false, false) => answer::lines(&answers),
            }
            for e in answers.iter().filter_map(Answer::failed) {
                super::report(super::program(), e);
            }
            let bad = super::report_problems(problems.iter().map(Problem::to_string).collect());
            Ok(answer::exit_code(&answers).max(bad))
        }
        Err(e) if args.nagios => Ok(answer::nagios_error(&e)),
        Err(e) => Err(e),
    }
}

fn check_all(args: &Args) -> Result<(Vec<Answer>, Vec<Problem>)> {
    let Jobs { jobs, problems } = plan(args)?;
    let started = Deadline::after(args.wait.unwrap_or(Duration::MAX));
    Ok((pool::each(jobs, WORKERS, |job| judge(job, args, started)), problems))
}

/// What there is to check, and what is wrong with the files that say so: that keeps nothing from being checked.
#[derive(Default)]
struct Jobs {
    jobs: Vec<Job>,
    problems: Vec<Problem>,
}

impl Jobs {
    fn add(&mut self, args: &Args, paths: &Paths, existing: Existing) {
        let Existing { found, node, problems } = existing;
        self.jobs.extend(found.into_iter().map(|c| of_component(args, paths, &node, c)));
        for problem in problems {
            if !self.problems.contains(&problem) {
                self.problems.push(problem);
            }
        }
    }
}

/// Turns all targets into jobs. One that can't be checked does not keep the others from it, but a wrong command line
/// is told before anything is done.
fn plan(args: &Args) -> Result<Jobs> {
    // Asked for at the first name: a URL needs none of our folders.
    let paths = || Paths::find(args.common.root.as_deref());
    let mut all = Jobs::default();
    if args.all {
        let paths = paths()?;
        all.add(args, &paths, resolve::existing(&paths, None)?);
    }
    for text in &args.targets {
        let made = match Check::parse_url(text, &args.options.tls(), args.timeout.unwrap_or(TIMEOUT)) {
            Err(e) => Err(e),
            Ok(Some(check)) => of_url(args, text, check).map(|job| all.jobs.push(job)),
            Ok(None) => of_name(args, text, paths, &mut all),
        };
        match made {
            Ok(()) => {}
            Err(e) if e.exit_code() == EXIT_USAGE => return Err(e),
            Err(e) => all.jobs.push(Job { subject: Err(e), ..Job::new(text.clone(), args) }),
        }
    }
    args.options.make_sense(all.jobs.iter().any(|j| j.tls), all.jobs.iter().any(|j| j.grpc))?;
    Ok(all)
}

impl Job {
    fn new(name: String, args: &Args) -> Job {
        Job {
            name,
            subject: Ok(None),
            hints: None,
            shown: None,
            tls: true,
            grpc: true,
            interval: args.interval.unwrap_or(INTERVAL),
            successes: args.successes.unwrap_or(1),
            of: None,
        }
    }

    /// What is known of it by its check.
    fn of(check: &Check, name: String, args: &Args) -> Job {
        let shown = Some(check.to_string());
        Job { shown, tls: check.tls.is_some(), grpc: matches!(check.kind, Kind::Grpc(_)), ..Job::new(name, args) }
    }
}

fn of_url(args: &Args, text: &str, mut check: Check) -> Result<Job> {
    if args.recording.is_on() {
        return Err(Error::Usage {
            what: format!("{text}: only the health of components is recorded, not that of URLs"),
        });
    }
    args.options.adjust(&mut check);
    check.prepare()?;
    let mut job = Job::of(&check, text.to_string(), args);
    job.subject = Ok(Some(Box::new(Plain(check))));
    Ok(job)
}

fn of_name(args: &Args, text: &str, paths: impl Fn() -> Result<Paths>, all: &mut Jobs) -> Result<()> {
    let target = Target::parse(text)?;
    let paths = paths()?;
    let existing = resolve::existing(&paths, Some(&target))?;
    if existing.found.is_empty() {
        // Its definition is bad, and nothing of it is here.
        return Err(existing.problems.into());
    }
    all.add(args, &paths, existing);
    Ok(())
}

fn of_component(args: &Args, paths: &Paths, node: &Node, (id, component): (ComponentId, Component)) -> Job {
    let mut job = Job::new(id.to_string(), args);
    let stage = node.stage_health(&id.service);
    let subject = match ComponentSubject::new(paths, &id, &component, stage) {
        // One that has just begun writes its record a moment later.
        _ if !resolve::is_known(&component) => {
            Err(Error::no(&id, "has no definition or record that tells how to check it (yet)"))
        }
        Ok(None) => return Job { tls: false, grpc: false, ..job },
        Ok(Some(subject)) => adjust(subject, args, &id),
        Err(e) => Err(e),
    };
    job.subject = subject.map(|subject| {
        job = Job::of(subject.check(), id.to_string(), args);
        job.interval = args.interval.unwrap_or(subject.health().interval);
        job.of = Some(Recorded {
            paths: paths.clone(),
            id: id.clone(),
            successes: args.successes.unwrap_or(subject.health().successes),
            failures: args.failures.unwrap_or(subject.health().failures),
        });
        if args.wait.is_some() {
            job.successes = args.successes.unwrap_or(subject.health().successes);
        }
        if args.wait.is_some() || args.downtime {
            job.hints = subject.hints().map_err(|e| log::debug!("{id}: {e}")).ok();
        }
        Some(Box::new(subject) as Box<dyn Subject + Send>)
    });
    job
}

/// What the command line says goes before the definition.
fn adjust(mut subject: ComponentSubject, args: &Args, id: &ComponentId) -> Result<ComponentSubject> {
    let check = subject.check_mut();
    if let Some(timeout) = args.timeout {
        check.timeout = timeout;
    }
    args.options.adjust(check);
    check.prepare().map_err(|e| Error::refused(id, e.to_string()))?;
    Ok(subject)
}

fn judge(job: Job, args: &Args, until: Deadline) -> Answer {
    let Job { name, subject, hints, shown, interval, successes, of, .. } = job;
    let mut subject = match subject {
        Ok(Some(subject)) => subject,
        Ok(None) => return Answer::new(name, Outcome::NoCheck),
        Err(e) => return Answer::new(name, Outcome::Failed(e)),
    };
    let recording = args.recording.is_on();
    if let Some(of) = of.as_ref().filter(|_| args.all || recording)
        && of.rests()
    {
        let forgotten = if recording { of.forget() } else { Ok(()) };
        return Answer::new(name, forgotten.map_or_else(Outcome::Failed, |()| Outcome::Rests));
    }
    let verdict = match args.wait {
        Some(_) => {
            let plan = Plan { interval, successes, deadline: until };
            wait(subject.as_mut(), &plan, hints.as_ref(), None)
        }
        // What was recorded counts how many in a row.
        None if recording => settle(subject.as_mut(), interval, 1, 1),
        None => settle(subject.as_mut(), interval, successes, args.failures.unwrap_or(1)),
    };
    let mut news = None;
    if let Some(of) = of.filter(|_| recording) {
        match of.note(&verdict) {
            Ok(told) => news = told,
            Err(e) => return Answer::new(name, Outcome::Failed(e)),
        }
        if let Some(change) = &news {
            of.run(&args.recording, args.common.root.as_deref(), change);
        }
    }
    Answer { name, check: shown, outcome: Outcome::Judged(verdict), news }
}

/// Checks until so many in a row say the same.
fn settle(subject: &mut dyn Subject, interval: Duration, successes: u32, failures: u32) -> Verdict {
    let (mut good, mut bad) = (0, 0);
    loop {
        let verdict = match subject.parts() {
            Err(reason) => Verdict::Unhealthy(reason),
            Ok((check, forward)) => crate::health::probe(check, forward, Deadline::after(check.timeout)),
        };
        if verdict.is_healthy() {
            (good, bad) = (good + 1, 0);
        } else {
            (good, bad) = (0, bad + 1);
        }
        if good >= successes || bad >= failures {
            return verdict;
        }
        std::thread::sleep(interval);
    }
}
