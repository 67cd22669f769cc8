//! A podman that is missing, too old, hangs, prints junk or dies midway: told in words, in time, with nothing left, and
//! without harm to VMs.

use super::services::{deploy, node, service};
use crate::harness::{FakePodman, Node, Podman, free_port, nanos};
use std::time::Duration;

/// A node with a podman that can misbehave, and a service `one` that was deployed while it was well.
fn faulty(test: &str) -> Option<(Node, Podman, FakePodman)> {
    let (node, podman) = node(test)?;
    let fake = FakePodman::new(&node);
    node.configure(&fake.config());
    node.define("one", &service("one", "stop_timeout = \"1s\"\n"));
    deploy(&node, "one");
    Some((node, podman, fake))
}

#[test]
fn each_fault_of_a_start_is_told_and_leaves_nothing() {
    let Some((node, podman, fake)) = faulty("each_fault_of_a_start_is_told_and_leaves_nothing") else { return };
    for (mode, code, words) in [
        ("old", 100, "podman 2.2 is too old; 4.0 or later is needed"),
        ("other", 100, "does not answer as podman does"),
        ("silent:ps", 100, "podman's answer is not what we know"),
        ("junk:ps", 100, "podman's answer is not what we know"),
        ("half:container", 100, "podman's answer is not what we know"),
        ("array:ps", 100, "podman's answer is not what we know"),
        ("endless:ps", 100, "one/one"),
        ("shouts:run", 100, "one/one"),
        ("fails:run", 100, "Permission denied"),
        ("nospace:run", 111, "no space left"),
        ("dies:run", 111, "signal 9"),
        ("mute:run", 111, "signal 9"),
    ] {
        fake.does(mode);
        let ran = node.mcp("mcp-run", &["--detach", "--wait", "one"]);
        assert!(ran.code == Some(code) && ran.err.contains(words), "{mode}: {ran:#?}");
        assert!(ran.err.len() < 4000, "{mode}: {} bytes of complaints", ran.err.len());
        fake.does("");
        assert_eq!(podman.names(), Vec::<String>::new(), "{mode}");
        assert_eq!(node.processes(), Vec::<String>::new(), "{mode}");
    }
    node.mcp("mcp-run", &["--detach", "--wait", "one"]).expect(0);
    node.mcp("mcp-stop", &["one"]).expect(0);
}

#[test]
fn a_podman_killed_midway_of_a_start_leaves_one_container_or_none() {
    let test = "a_podman_killed_midway_of_a_start_leaves_one_container_or_none";
    let Some((node, podman, fake)) = faulty(test) else { return };
    for after in ["0.01", "0.03", "0.06", "0.1", "0.2"] {
        fake.after(after);
        fake.does("midway:run");
        node.mcp("mcp-run", &["--detach", "--wait", "one"]).expect(111);
        fake.does("");
        assert_eq!(podman.names(), Vec::<String>::new(), "killed after {after} s");
        // The runtime that it had just started waits for ever for a conmon that is gone. That is podman's affair.
        for line in node.processes().iter().filter(|line| line.contains("crun")) {
            super::services::signal(line.split(' ').next().unwrap().parse().unwrap(), libc::SIGKILL);
        }
        node.mcp("mcp-run", &["--detach", "--wait", "one"]).expect(0);
        assert_eq!(podman.names().len(), 1);
        node.mcp("mcp-stop", &["one"]).expect(0);
    }
}

#[test]
fn a_podman_that_is_not_there_is_told_with_the_way_out() {
    let Some((node, _podman, fake)) = faulty("a_podman_that_is_not_there_is_told_with_the_way_out") else { return };
    std::fs::rename(&fake.program, node.root.join("away")).unwrap();
    let ran = node.mcp("mcp-run", &["one"]).expect(100);
    assert!(ran.one_line().contains("not found; [podman] binary in mcp.toml names it"), "{ran:#?}");
    node.configure("[podman]\nbinary = \"no-such-podman\"\n");
    let ran = node.mcp("mcp-run", &["one"]).expect(100);
    assert!(ran.one_line().contains("podman crun netavark"), "{ran:#?}");
}

#[test]
fn a_container_can_be_stopped_while_podman_fails() {
    let Some((node, podman, fake)) = faulty("a_container_can_be_stopped_while_podman_fails") else { return };
    node.mcp("mcp-run", &["--detach", "--wait", "one"]).expect(0);
    fake.does("fails");
    let stopped = node.mcp("mcp-stop", &["one"]);
    assert!(stopped.took < Duration::from_secs(30), "{stopped:#?}");
    let pid = node.supervisor("one/one");
    assert!(pid == 0 || !super::services::alive(pid), "{stopped:#?}");
    fake.does("");
    assert_eq!(podman.ask(&["ps", "--quiet"]), "", "{stopped:#?}");
    // What podman would not remove goes with the next start or stop.
    node.mcp("mcp-run", &["--detach", "--wait", "one"]).expect(0);
    assert_eq!(podman.names().len(), 1);
    node.mcp("mcp-stop", &["one"]).expect(0);
    assert_eq!(podman.names(), Vec::<String>::new());
}

#[test]
fn vms_are_none_the_worse_for_it() {
    let test = "vms_are_none_the_worse_for_it";
    let Some(image) = nanos(test, &[]) else { return };
    let Some((node, _podman, fake)) = faulty(test) else { return };
    // With a port, so that it has booted when it is stopped.
    let port = free_port();
    let disk = format!("disk = \"{}\"\nkernel = \"{}\"\nports = [\"127.0.0.1:{port}:8080\"]", image.disk, image.kernel);
    node.define("vm", &format!("name = \"vm\"\n[[components]]\nname = \"vm\"\nruntime = \"unikernel\"\n{disk}\n"));
    for mode in ["hang", "junk", "fails", "endless"] {
        fake.does(mode);
        node.mcp("mcp-run", &["--detach", "--wait", "vm"]).expect(0);
        let stopped = node.mcp("mcp-stop", &["vm"]).expect(0);
        assert!(stopped.took < Duration::from_secs(20), "{mode}: {stopped:#?}");
    }
    fake.does("");
}
