//! `ocf:mcp:component`, the resource agent, called as Pacemaker's executor calls it: its exit codes are OCF's.

mod actions;
mod bad;
mod kills;
mod pacemaker;
mod tester;
mod trouble;

use crate::harness::{Answer, Image, Node, podman, program};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

const SUCCESS: i32 = 0;
const FAILED: i32 = 1;
const BAD_VALUE: i32 = 2;
const UNIMPLEMENTED: i32 = 3;
const NOT_PERMITTED: i32 = 4;
const NOT_INSTALLED: i32 = 5;
const NOT_CONFIGURED: i32 = 6;
const NOT_RUNNING: i32 = 7;

/// The one component of most of these tests.
const ID: &str = "demo/web";

/// The agent as it stands in the tree.
fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/ocf/component")
}

/// What is known of a resource, and how its actions are called.
#[derive(Clone)]
struct Resource<'a> {
    node: &'a Node,
    environment: Vec<(String, String)>,
}

impl<'a> Resource<'a> {
    fn new(node: &'a Node, target: &str) -> Resource<'a> {
        Resource { node, environment: Vec::new() }
            .with("OCF_ROOT", "/usr/lib/ocf")
            .with("OCF_RA_VERSION_MAJOR", "1")
            .with("OCF_RA_VERSION_MINOR", "1")
            .with("OCF_RESOURCE_INSTANCE", &target.replace('/', "_"))
            .with("OCF_RESOURCE_PROVIDER", "mcp")
            .with("OCF_RESOURCE_TYPE", "component")
            .with("OCF_RESKEY_CRM_meta_timeout", "60000")
            .with("OCF_RESKEY_target", target)
            .with("OCF_RESKEY_root", node.root.to_str().unwrap())
    }

    fn with(&self, name: &str, value: &str) -> Resource<'a> {
        let mut with = self.clone();
        with.environment.retain(|(n, _)| n != name);
        with.environment.push((name.into(), value.into()));
        with
    }

    /// With a time limit of so many milliseconds.
    fn within(&self, timeout: &str) -> Resource<'a> {
        self.with("OCF_RESKEY_CRM_meta_timeout", timeout)
    }

    /// In a process group of its own, with nothing of our environment.
    fn command(&self, action: &str) -> Command {
        let mut command = Command::new(script());
        let programs = program("mcp-run").parent().unwrap().display().to_string();
        command.arg(action).env_clear().env("PATH", format!("{programs}:/usr/sbin:/usr/bin:/sbin:/bin"));
        command.envs(podman::environment(&self.node.root)).envs(self.environment.iter().map(|(n, v)| (n, v)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        command
    }

    fn begin(&self, action: &str) -> Child {
        self.command(action).spawn().unwrap()
    }

    fn call(&self, action: &str) -> Answer {
        let began = Instant::now();
        crate::harness::wait(self.begin(action), action, began)
    }

    /// A monitor that comes again and again, as opposed to a probe.
    fn monitor(&self) -> Answer {
        self.with("OCF_RESKEY_CRM_meta_interval", "10000").call("monitor")
    }

    /// The first look at a resource on a node.
    fn probe(&self) -> Answer {
        self.with("OCF_RESKEY_CRM_meta_interval", "0").call("monitor")
    }

    /// A monitor that asks for health.
    fn deep(&self) -> Answer {
        self.with("OCF_RESKEY_CRM_meta_interval", "30000").with("OCF_CHECK_LEVEL", "10").call("monitor")
    }
}

/// The reason that the cluster is told, which is in the log too, as a line of its own.
#[track_caller]
fn reason(answer: &Answer) -> String {
    let told: Vec<&str> = answer.err.lines().filter_map(|l| l.strip_prefix("ocf-exit-reason:")).collect();
    assert_eq!(told.len(), 1, "one reason wanted: {answer:#?}");
    let logged = format!("component: {}", told[0]);
    assert_eq!(answer.err.lines().filter(|l| *l == logged).count(), 1, "not logged: {answer:#?}");
    assert_eq!(answer.out, "");
    told[0].to_string()
}

/// `demo/web`, a Nanos VM with its guest's port 8080 on `port`.
fn define(node: &Node, image: &Image, port: u16, more: &str) {
    let text = format!("name = \"demo\"\n{}", component("web", image, port, more));
    node.define("demo", &text);
}

fn component(name: &str, image: &Image, port: u16, more: &str) -> String {
    format!(
        "[[components]]\nname = \"{name}\"\nruntime = \"unikernel\"\ndisk = \"{}\"\nkernel = \"{}\"\nmemory_mb = 128\n\
         ports = [\"127.0.0.1:{port}:8080\"]\nstop_timeout = \"5s\"\n{more}\n",
        image.disk, image.kernel
    )
}

fn uuid(node: &Node) -> String {
    node.state(ID)["uuid"].as_str().unwrap_or_default().to_string()
}

/// How many QEMUs the node has.
fn qemus(node: &Node) -> usize {
    node.processes().iter().filter(|p| p.contains("qemu-system")).count()
}

fn kill(pid: i32, signal: i32) {
    // SAFETY: a plain system call.
    unsafe { libc::kill(pid, signal) };
}
