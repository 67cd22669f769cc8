//! `mcp-boot` on nodes with real guests: stages, foundation, recovering, the way down. The nodes are small: a service is
//! one Nanos VM, and a stage one line.

mod bad;
mod bad_files;
mod containers;
mod down;
mod foundation;
mod later;
mod recover;
mod stages;

use crate::harness::{Answer, Image, Node, until, wait_for};
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// A service of one VM, `NAME/vm`, with its guest's port 8080 on `port`; `more` are further keys of the component.
fn vm(node: &Node, name: &str, image: &Image, port: u16, more: &str) {
    let text = format!(
        "name = \"{name}\"\n[[components]]\nname = \"vm\"\nruntime = \"unikernel\"\ndisk = \"{}\"\nkernel = \"{}\"\n\
         memory_mb = 128\nports = [\"127.0.0.1:{port}:8080\"]\nstop_timeout = \"5s\"\n{more}\n",
        image.disk, image.kernel
    );
    node.define(name, &text);
}

/// A node config with these stages, each `(NAME, SERVICES, TIMEOUT)`; `more` goes before them.
fn sequence(node: &Node, more: &str, stages: &[(&str, &[&str], &str)]) {
    let mut text = format!("{more}\n");
    for (name, services, timeout) in stages {
        text += &format!("[[boot.sequence]]\nname = \"{name}\"\nservices = {services:?}\ntimeout = \"{timeout}\"\n");
    }
    node.configure(&text);
}

/// What its VM is known by: another one has another.
fn uuid(node: &Node, id: &str) -> String {
    let path = node.run_dir(id).join("state.json");
    let bytes = fs::read(path).unwrap_or_default();
    let state: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
    state["uuid"].as_str().unwrap_or_default().to_string()
}

/// Whether its VM is there and its guest answers.
fn serves(port: u16) -> bool {
    crate::harness::get(port, "/").is_some()
}

fn send(pid: i32, signal: i32) {
    assert!(pid > 1, "no process");
    // SAFETY: a plain system call.
    unsafe { libc::kill(pid, signal) };
}

/// The boot record.
fn record(node: &Node) -> serde_json::Value {
    serde_json::from_slice(&fs::read(node.root.join("lib/boot.json")).unwrap()).unwrap()
}

/// When events of this kind happened to a component in the boot record, in milliseconds.
fn times(node: &Node, id: &str, kind: &str) -> Vec<u64> {
    let record = record(node);
    let stages = record["stages"].as_array().unwrap().iter();
    let mut components = stages.flat_map(|s| s["components"].as_array().unwrap());
    let component = components.find(|c| c["id"] == id).unwrap_or_else(|| panic!("{id} is not in {record:#}"));
    let events = component["events"].as_array().unwrap().iter();
    events.filter(|e| e["kind"] == kind).map(|e| e["at_ms"].as_u64().unwrap()).collect()
}

/// An mcp-boot at work. What it says can be read meanwhile; it ends with this at the latest.
struct Boot {
    child: Child,
    began: Instant,
    out: PathBuf,
    err: PathBuf,
}

impl Boot {
    fn start(node: &Node, args: &[&str]) -> Boot {
        Boot::of(node, node.command("mcp-boot", args))
    }

    /// One whose command was made by the test.
    fn of(node: &Node, mut command: Command) -> Boot {
        let (out, err) = (node.root.join("boot.out"), node.root.join("boot.err"));
        command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
        Boot { child: command.spawn().unwrap(), began: Instant::now(), out, err }
    }

    fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// All that it has said so far.
    fn said(&self) -> String {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        format!("{}---\n{}", read(&self.out), read(&self.err))
    }

    /// Waits until it says `words`; fails the test when it ends before.
    #[track_caller]
    fn until(&mut self, words: &str) {
        let came = wait_for(Duration::from_secs(40), || {
            let said = self.said();
            if said.contains(words) {
                return Some(true);
            }
            self.child.try_wait().unwrap().map(|_| self.said().contains(words))
        });
        assert_eq!(came, Some(true), "never said {words:?}:\n{}", self.said());
    }

    /// What it has said when it ends, and its exit code; -N where signal N ended it.
    #[track_caller]
    fn end(mut self) -> Answer {
        let status = wait_for(Duration::from_secs(60), || self.child.try_wait().unwrap());
        let Some(status) = status else { panic!("still runs:\n{}", self.said()) };
        let code = status.code().or(status.signal().map(|n| -n));
        let read = |path: &PathBuf| fs::read_to_string(path).unwrap();
        let took = self.began.elapsed();
        Answer { call: "mcp-boot".into(), code, out: read(&self.out), err: read(&self.err), took }
    }

    /// Processor time that it has used so far, its ended children's left out.
    fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10)
    }
}

impl Drop for Boot {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until a component runs and its guest answers.
#[track_caller]
fn until_up(what: &str, port: u16) {
    until(what, || serves(port));
}

/// A node whose QEMU does as it is told, but boots nothing: for what is not about guests. With its node config.
fn fake(test: &str) -> Option<(Node, String)> {
    let (node, _) = crate::fake_qemu::node_with(test, "good")?;
    let config = fs::read_to_string(node.root.join("etc/mcp.toml")).unwrap();
    Some((node, config))
}

/// A service of one such VM, `NAME/vm`, with no port and so no check.
fn plain(node: &Node, name: &str, more: &str) {
    let disk = node.root.join("app.img");
    let text = format!(
        "name = \"{name}\"\n[[components]]\nname = \"vm\"\nruntime = \"unikernel\"\ndisk = \"{}\"\n{more}\n",
        disk.display()
    );
    node.define(name, &text);
}
