//! `mcp-run-vm` with a QEMU that misbehaves: tests/fake/qemu, which has a mode for what a real one will not do on
//! demand. Each ends with an exit code, one line, and nothing left (which the node looks after as it goes).

use crate::harness::{Answer, Node, skip, until, wait};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

const FAKE: &str = include_str!("../fake/qemu");
const PYTHON: &str = "/usr/bin/python3";

/// A node whose QEMU is the fake one in `mode`, and a disk that looks bootable; `None` where it can't be run.
fn node_with(test: &str, mode: &str) -> Option<(Node, String)> {
    if !Path::new(PYTHON).exists() {
        skip(test, "no /usr/bin/python3 for the fake QEMU");
        return None;
    }
    let node = Node::new();
    // QEMU's user reads them: nothing of the checkout may be in reach of it.
    let (script, wrapper) = (node.root.join("fake-qemu.py"), node.root.join("fake-qemu"));
    fs::write(&script, FAKE).unwrap();
    fs::write(&wrapper, format!("#!/bin/sh\nexec {PYTHON} -IS {} {mode} \"$@\"\n", script.display())).unwrap();
    for (path, permissions) in [(&node.root, 0o755), (&script, 0o644), (&wrapper, 0o755)] {
        fs::set_permissions(path, fs::Permissions::from_mode(permissions)).unwrap();
    }
    node.configure(&format!("[qemu]\nbinary = \"{}\"\n", wrapper.display()));
    let disk = disk(&node);
    Some((node, disk))
}

/// A disk image with a boot signature and nothing else.
pub fn disk(node: &Node) -> String {
    let path = node.root.join("app.img");
    let mut bytes = vec![0; 1 << 20];
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().into()
}

fn binary(node: &Node) -> String {
    node.root.join("fake-qemu").display().to_string()
}

/// Runs it in the foreground and looks at its only line.
fn refused(mode: &str, more: &[&str], code: i32, line: impl Fn(&Node) -> String) -> Option<Answer> {
    let (node, disk) = node_with(mode, mode)?;
    let answer = node.mcp("mcp-run-vm", &[&["--name", "demo", "--disk", &disk], more].concat()).expect(code);
    assert_eq!(answer.one_line(), format!("mcp-run-vm: {}", line(&node)), "{answer:#?}");
    assert!(answer.out.is_empty(), "{answer:#?}");
    assert!(!node.run_dir("demo").exists() || fs::read_dir(node.run_dir("demo")).unwrap().next().is_none());
    Some(answer)
}

#[test]
fn one_that_does_not_greet_is_given_up() {
    let mut started: Vec<(Node, Child, Instant)> = Vec::new();
    for mode in ["hang", "half"] {
        let Some((node, disk)) = node_with("one_that_does_not_greet", mode) else { return };
        let child = node.command("mcp-run-vm", &["--name", "demo", "--disk", &disk]).spawn().unwrap();
        started.push((node, child, Instant::now()));
    }
    for (node, child, began) in started {
        let answer = wait(child, "mcp-run-vm", began).expect(111);
        let line = format!(
            "mcp-run-vm: demo/demo: no greeting from {} in 10 s; is it a QEMU, and has the node time for it?",
            binary(&node)
        );
        assert_eq!(answer.one_line(), line);
        assert!(answer.took < Duration::from_secs(15), "{answer:#?}");
    }
}

#[test]
fn one_that_greets_with_something_else_is_named() {
    for (mode, what) in [("junk", "greeting is not JSON"), ("other", "no QMP greeting")] {
        refused(mode, &[], 100, |node| {
            let binary = binary(node);
            format!("{binary}: not a QEMU that we know: {what}; name one as [qemu] binary in mcp.toml")
        });
    }
}

#[test]
fn one_that_is_too_old_is_named_with_its_version() {
    refused("old", &[], 100, |node| format!("{}: QEMU 5.2.0 is too old; 7.0 or later is needed", binary(node)));
}

#[test]
fn one_that_closes_its_monitor_and_stays_is_ended() {
    let answer = refused("close", &[], 100, |_| "demo/demo: QEMU did not start: it said nothing".into());
    assert!(answer.is_none_or(|a| a.took < Duration::from_secs(5)));
}

#[test]
fn last_words_are_told() {
    refused("die", &[], 100, |_| "demo/demo: QEMU did not start: -machine pc: aword of its own".into());
    refused("die-at-cont", &[], 100, |_| "demo/demo: QEMU did not start: cannot go on".into());
}

#[test]
fn one_that_refuses_to_run_the_guest_is_quoted_in_one_line() {
    refused("no-cont", &[], 100, |_| "demo/demo: QEMU refused: not today".into());
}

#[test]
fn one_that_does_not_forward_is_quoted() {
    let port = crate::harness::free_port();
    let forward = format!("{port}:8080");
    let args = ["--port", &forward, "--health", "none"];
    refused("forward-text", &args, 111, |_| {
        format!(
            "127.0.0.1:{port}/tcp: QEMU can't forward it: Could not set up host forwarding rule  \
             'tcp:127.0.0.1:0-:8080'"
        )
    });
    refused("forward-nothing", &args, 111, |_| format!("127.0.0.1:{port}/tcp: QEMU does not show the forward it made"));
}

/// Peak of a process's resident memory in KiB.
fn peak(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or("0");
    line.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

#[test]
fn a_line_of_a_gigabyte_is_cut_off_early() {
    refused("long-line", &[], 100, |node| {
        format!(
            "{}: not a QEMU that we know: a line of more than 1 MiB; name one as [qemu] binary in mcp.toml",
            binary(node)
        )
    });
}

/// Starts it detached, has `look` look at the supervisor, and stops it; the answer of mcp-stop.
fn stopped(mode: &str, look: impl Fn(&Node, i32)) -> Option<Answer> {
    let (node, disk) = node_with(mode, mode)?;
    node.mcp("mcp-run-vm", &["--name", "demo", "--disk", &disk, "--detach", "--wait"]).expect(0);
    look(&node, node.supervisor("demo/demo"));
    let answer = node.mcp("mcp-stop", &["demo"]).expect(0);
    assert_eq!(node.state("demo/demo")["phase"], "ended");
    Some(answer)
}

#[test]
fn one_whose_monitor_is_dead_is_stopped_by_sigkill_at_once() {
    // None of them waits for the stop_timeout, which is 35 s.
    for (mode, rung) in [("hang-after-cont", "kill"), ("close-after-cont", "kill"), ("junk-after-cont", "")] {
        let Some(answer) = stopped(mode, |_, _| {}) else { return };
        assert!(answer.out.starts_with(&format!("demo/demo: stopped: {rung}")), "{mode}: {answer:#?}");
        assert!(answer.took < Duration::from_secs(8), "{mode}: {answer:#?}");
    }
}

#[test]
fn one_whose_monitor_is_dead_is_stopped_without_a_supervisor_too() {
    let Some((node, disk)) = node_with("dead_monitor_without_supervisor", "hang-after-cont") else { return };
    node.mcp("mcp-run-vm", &["--name", "demo", "--disk", &disk, "--detach", "--wait"]).expect(0);
    let supervisor = node.supervisor("demo/demo");
    // SAFETY: a plain system call.
    unsafe { libc::kill(supervisor, libc::SIGKILL) };
    until("the lock is free", || node.mcp("mcp-status", &["demo"]).out.contains("unsupervised"));
    let busy = node.mcp("mcp-run-vm", &["demo"]).expect(111);
    assert!(busy.one_line().contains("demo/demo: monitor busy"), "{busy:#?}");
    let answer = node.mcp("mcp-stop", &["demo"]).expect(0);
    assert!(answer.out.starts_with("demo/demo: stopped: kill ("), "{answer:#?}");
    assert_eq!(node.state("demo/demo")["phase"], "ended");
}

/// Processor time that a process has used, in ticks of 10 ms.
fn ticks(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let words: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    [11, 12].iter().filter_map(|n| words.get(*n)?.parse::<u64>().ok()).sum()
}

#[test]
fn a_supervisor_sleeps_beside_a_monitor_that_closed() {
    stopped("close-after-cont", |_, supervisor| {
        let before = ticks(supervisor);
        // What is measured is that nothing happens: there is nothing to wait for.
        std::thread::sleep(Duration::from_millis(500));
        assert!(ticks(supervisor) - before < 10, "{} ticks in half a second", ticks(supervisor) - before);
    });
}

#[test]
fn floods_neither_fill_memory_nor_keep_a_stop_away() {
    for (mode, rung) in [("line-after-cont", "kill"), ("flood", "powerdown"), ("chatter", "powerdown")] {
        let answer = stopped(mode, |_, supervisor| {
            std::thread::sleep(Duration::from_millis(300));
            assert!(peak(supervisor) < 40 << 10, "{mode}: {} KiB", peak(supervisor));
        });
        let Some(answer) = answer else { return };
        assert!(answer.out.starts_with(&format!("demo/demo: stopped: {rung} (")), "{mode}: {answer:#?}");
        assert!(answer.took < Duration::from_secs(8), "{mode}: {answer:#?}");
    }
}

#[test]
fn a_signal_stops_one_that_does_as_it_is_told() {
    let Some((node, disk)) = node_with("a_signal_stops", "good") else { return };
    let child = node.command("mcp-run-vm", &["--name", "demo", "--disk", &disk]).spawn().unwrap();
    until("ready", || {
        node.run_dir("demo/demo").join("state.json").exists() && node.state("demo/demo")["phase"] == "ready"
    });
    let began = Instant::now();
    let status = Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(status.success());
    let answer = wait(child, "mcp-run-vm", began).expect(0);
    assert_eq!(answer.one_line(), "mcp-run-vm: demo/demo: stopped: powerdown");
}

/// That the fake is one that the tests find: its modes are those that are asked for here.
#[test]
fn every_mode_is_used() {
    let modes = FAKE.split("MODES = \"\"\"").nth(1).and_then(|t| t.split("\"\"\"").next()).unwrap();
    let own = include_str!("fake_qemu.rs");
    for mode in modes.lines().filter_map(|l| l.split_whitespace().next()) {
        assert!(own.contains(&format!("\"{mode}\"")), "{mode}");
    }
}
