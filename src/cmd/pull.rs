//! `mcp-pull`: bring an OCI image to this node.

mod answer;
mod progress;
mod wanted;

use super::Common;
use crate::container::podman::Podman;
use crate::image::pull::{Meter, Pull};
use crate::model::{Node, Runtime, duration};
use crate::node::container_image;
use crate::sys::paths::Paths;
use crate::sys::{Deadline, Result, out};
use answer::{Answer, Outcome};
use std::time::Duration;
use wanted::Wanted;

// Not a doc comment: brackets are links there.
const ABOUT: &str = "\
Bring an OCI image to this node, verified; for a unikernel, extract its program with what that needs

TARGET is a service or a component (SERVICE/COMPONENT), whose definition says what is needed, or an image:
HOST[:PORT]/NAME[:TAG][@DIGEST], oci:DIR[:REF], docker-archive:FILE (- for standard input). What has a dot, a colon
or localhost before its first slash is an image.";

const AFTER_HELP: &str = "\
Examples:
  mcp-pull demo                                          what the components of demo need
  mcp-pull --for microvm registry.example:5000/app:1     a whole image
  mcp-pull --for container registry.example:5000/app:1   the same, by podman
  mcp-pull --dry-run registry.example:5000/app:1         how much it would fetch
  podman save app | mcp-pull docker-archive:- | mcp-build -

Exit codes: 0 all is there, 2 usage, 100 failed for good (bad image or definition, no such image, not allowed),
111 try again (network, no space, busy).";

/// Bring an OCI image to this node, verified; for a unikernel, extract its program with what that needs
#[derive(Debug, clap::Parser)]
#[command(name = "mcp-pull", version, long_about = ABOUT, after_help = AFTER_HELP)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// What to pull: SERVICE, SERVICE/COMPONENT or an image
    #[arg(value_name = "TARGET", required = true)]
    targets: Vec<String>,
    /// What an image is pulled for [default: unikernel]; a component's definition says its own
    #[arg(long = "for", value_name = "RUNTIME", value_parser = ["unikernel", "microvm", "container"])]
    runtime: Option<String>,
    /// Only say what would be fetched, and how many bytes; write nothing
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// No progress and no closing line; warnings and errors stay
    #[arg(short, long)]
    quiet: bool,
    /// How long the pull of one image may take [default: 1h]
    #[arg(long, value_name = "DURATION", value_parser = positive)]
    timeout: Option<Duration>,
}

/// How long a pull may take where nobody says so: a large image over a slow line.
const TIMEOUT: Duration = Duration::from_secs(3600);

/// Runs the program and returns its exit code.
pub fn run(args: Args) -> Result<u8> {
    let paths = Paths::find(args.common.root.as_deref())?;
    let runtime = match args.runtime.as_deref() {
        Some("microvm") => Runtime::Microvm,
        Some("container") => Runtime::Container,
        _ => Runtime::Unikernel,
    };
    let (node, wanted) = wanted::find(&paths, &args.targets, runtime)?;
    let mut errors = Vec::new();
    let mut answers = Vec::new();
    for one in &wanted {
        let meter = Meter::default();
        let deadline = Deadline::after(args.timeout.unwrap_or(TIMEOUT));
        let pull = Pull {
            reference: &one.reference,
            request: &one.request,
            node: &node,
            paths: &paths,
            meter: &meter,
            deadline,
        };
        let shown = progress::Shown { quiet: args.quiet || args.dry_run, name: one.reference.to_string() };
        let outcome = match args.dry_run {
            _ if one.request.runtime == Runtime::Container => container(&args, &paths, &node, one, deadline),
            true => pull.plan().map(Outcome::Plan),
            false => progress::during(&shown, &meter, || pull.run()).map(|done| Outcome::Done(Box::new(done))),
        };
        match outcome {
            Ok(outcome) => {
                let answer = Answer { wanted: one, outcome, reading: meter.read() };
                if !args.json {
                    answer.print();
                }
                answer.tell(args.quiet);
                answers.push(answer);
            }
            Err(e) => errors.push(e),
        }
    }
    let failed = super::report_all(&errors);
    if args.json {
        answer::print_json(&answers);
    }
    out::flush();
    Ok(failed)
}

/// The same by podman.
fn container(args: &Args, paths: &Paths, node: &Node, one: &Wanted, deadline: Deadline) -> Result<Outcome> {
    let podman = Podman::find(node)?;
    if args.dry_run {
        return container_image::plan(paths, node, &podman, &one.reference, deadline).map(Outcome::ContainerPlan);
    }
    let pull = || container_image::pull(paths, node, &podman, &one.reference, deadline);
    let pulled = match args.quiet {
        true => pull(),
        false => super::ticker::during("podman pulls", &one.reference.to_string(), pull),
    };
    pulled.map(Outcome::Container)
}

fn positive(text: &str) -> std::result::Result<Duration, String> {
    match duration::parse(text)? {
        Duration::ZERO => Err("has to be longer than nothing".into()),
        some => Ok(some),
    }
}
