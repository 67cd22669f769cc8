//! `mcp-run-vm` with real Nanos guests: start, end, stop, detach, adopt, restart.

use crate::harness::{Image, Node, free_port, get, nanos, until};
use std::time::{Duration, Instant};

/// Arguments of a start in the background that returns when the guest answers.
fn detached<'a>(image: &'a Image, forward: &'a str) -> Vec<&'a str> {
    let disk = ["--name", "demo", "--disk", &image.disk, "--kernel", &image.kernel];
    [disk.as_slice(), &["--port", forward, "--detach", "--wait"]].concat()
}

fn kill(pid: i32, signal: i32) {
    assert!(pid > 0);
    // SAFETY: a plain system call.
    unsafe { libc::kill(pid, signal) };
}

#[test]
fn serves_and_ends_with_the_programs_own_code() {
    let Some(image) = nanos("serves_and_ends", &[]) else { return };
    let node = Node::new();
    let port = free_port();
    let forward = format!("127.0.0.1:{port}:8080");
    let args =
        ["--name", "demo", "--disk", &image.disk, "--kernel", &image.kernel, "--port", &forward, "--memory", "128"];
    let began = Instant::now();
    let child = node.command("mcp-run-vm", &args).spawn().unwrap();
    until("healthy", || node.mcp("mcp-health", &["-q", "demo"]).code == Some(0));
    assert!(get(port, "/").unwrap().contains("hello"));
    assert!(get(port, "/exit?code=7").is_some());
    let answer = crate::harness::wait(child, "mcp-run-vm", began).expect(7);
    assert!(answer.one_line().contains("demo/demo: program exited with 7"), "{answer:#?}");
    let end = &node.state("demo/demo")["end"];
    assert_eq!((end["by"].as_str(), end["code"].as_u64()), (Some("guest"), Some(7)));
    assert!(end["console"].to_string().contains("hello: listening on 8080"));
}

#[test]
fn boots_by_its_own_boot_loader_without_a_kernel() {
    let Some(image) = nanos("boots_by_its_own_boot_loader", &[]) else { return };
    let node = Node::new();
    let port = free_port();
    let forward = format!("{port}:8080");
    let args = ["--name", "demo", "--disk", &image.disk, "--port", &forward, "--detach", "--wait"];
    node.mcp("mcp-run-vm", &args).expect(0);
    assert!(get(port, "/").is_some());
}

#[test]
fn detaches_when_ready_and_is_known_to_all() {
    let Some(image) = nanos("detaches_when_ready", &[]) else { return };
    let node = Node::new();
    let port = free_port();
    let forward = format!("{port}:8080");
    let args = detached(&image, &forward);
    node.mcp("mcp-run-vm", &args).expect(0);
    // Ready means that the very first request is answered.
    assert!(get(port, "/").is_some());
    let second = node.mcp("mcp-run-vm", &args).expect(100);
    assert!(second.one_line().contains("already supervised by mcp-run-vm (pid "), "{second:#?}");
    node.mcp("mcp-health", &["demo"]).expect(0);
    let list = node.mcp("mcp-status", &["--list"]).expect(0);
    assert_eq!(list.out, "demo/demo\n");
    let refused = node.mcp("mcp-rm", &["demo"]).expect(100);
    assert!(refused.one_line().contains("demo/demo"), "{refused:#?}");
    let stopped = node.mcp("mcp-stop", &["demo"]).expect(0);
    assert!(stopped.out.starts_with("demo/demo: stopped: powerdown ("), "{stopped:#?}");
    let gone = node.mcp("mcp-stop", &["demo"]).expect(1);
    assert!(gone.one_line().contains("demo/demo: not running"), "{gone:#?}");
    node.mcp("mcp-rm", &["demo"]).expect(0);
    for dir in ["run/demo", "log/demo", "lib/registry/demo"] {
        assert!(!node.root.join(dir).exists(), "{dir} is left");
    }
}

#[test]
fn a_vm_without_supervisor_is_seen_and_adopted() {
    let Some(image) = nanos("a_vm_without_supervisor", &[]) else { return };
    let node = Node::new();
    let port = free_port();
    let forward = format!("{port}:8080");
    let args = detached(&image, &forward);
    node.mcp("mcp-run-vm", &args).expect(0);
    let (supervisor, qemu) = (node.supervisor("demo/demo"), node.qemu("demo/demo"));
    let uuid = node.state("demo/demo")["uuid"].clone();
    kill(supervisor, libc::SIGKILL);
    until("the lock is free", || node.mcp("mcp-status", &["demo"]).out.contains("unsupervised"));
    assert_eq!(node.mcp("mcp-status", &["demo"]).code, Some(1));
    assert!(get(port, "/").is_some(), "the VM runs on");
    node.mcp("mcp-run-vm", &args).expect(0);
    assert_eq!((node.qemu("demo/demo"), &node.state("demo/demo")["uuid"]), (qemu, &uuid), "not started again");
    assert_ne!(node.supervisor("demo/demo"), supervisor);
    assert!(!node.mcp("mcp-status", &["demo"]).out.contains("unsupervised"));
    // QEMU is no child of the new supervisor, which sees no exit code. Only a newer QEMU says that the guest ended itself.
    assert!(get(port, "/exit?code=3").is_some());
    until("the end", || node.supervisor("demo/demo") == 0);
    let end = &node.state("demo/demo")["end"];
    assert!(["unknown", "guest"].contains(&end["by"].as_str().unwrap()) && end["code"].is_null(), "{end}");
}

#[test]
fn a_vm_without_supervisor_is_stopped_all_the_same() {
    let Some(image) = nanos("stop_without_supervisor", &[]) else { return };
    let node = Node::new();
    let forward = format!("{}:8080", free_port());
    let args = detached(&image, &forward);
    node.mcp("mcp-run-vm", &args).expect(0);
    kill(node.supervisor("demo/demo"), libc::SIGKILL);
    let stopped = node.mcp("mcp-stop", &["demo"]).expect(0);
    assert!(stopped.out.contains("stopped: powerdown"), "{stopped:#?}");
    assert_eq!(node.qemu("demo/demo"), 0);
}

#[test]
fn a_vm_of_an_older_mcp_is_adopted_and_one_of_a_newer_mcp_only_stopped() {
    let Some(image) = nanos("older_and_newer", &[]) else { return };
    let node = Node::new();
    let forward = format!("{}:8080", free_port());
    let args = detached(&image, &forward);
    node.mcp("mcp-run-vm", &args).expect(0);
    let path = node.run_dir("demo/demo").join("current/state.json");
    let rewrite = |change: &dyn Fn(&mut serde_json::Map<String, serde_json::Value>)| {
        kill(node.supervisor("demo/demo"), libc::SIGKILL);
        until("the lock is free", || node.mcp("mcp-status", &["demo"]).out.contains("unsupervised"));
        let mut state = node.state("demo/demo");
        change(state.as_object_mut().unwrap());
        std::fs::write(&path, state.to_string()).unwrap();
    };
    let (qemu, ready_at) = (node.qemu("demo/demo"), node.state("demo/demo")["ready_at"].clone());
    rewrite(&|state| {
        state.insert("schema".into(), 1.into());
        state.retain(|key, _| key != "ready_answer" && key != "stopping");
        state.insert("events".into(), serde_json::json!([[ready_at, "ready: tcp 127.0.0.1:1"]]));
    });
    node.mcp("mcp-run-vm", &args).expect(0);
    let state = node.state("demo/demo");
    assert_eq!((&state["schema"], &state["ready_answer"]), (&2.into(), &"tcp 127.0.0.1:1".into()));
    assert_eq!((node.qemu("demo/demo"), &state["ready_at"]), (qemu, &ready_at));
    rewrite(&|state| *state = serde_json::json!({ "schema": 3 }).as_object().unwrap().clone());
    let written = "state of schema 3 was written by a newer mcp; this one reads up to 2";
    let listed = node.mcp("mcp-status", &["-v", "demo"]).expect(1);
    assert!(listed.out.contains(written) && listed.out.contains("unsupervised"), "{listed:#?}");
    let refused = node.mcp("mcp-run-vm", &args).expect(100);
    assert!(refused.one_line().contains(written), "{refused:#?}");
    assert_eq!(node.qemu("demo/demo"), qemu);
    let stopped = node.mcp("mcp-stop", &["demo"]).expect(0);
    assert!(stopped.out.contains("stopped: "), "{stopped:#?}");
    assert_eq!(node.qemu("demo/demo"), 0);
}

#[test]
fn two_starts_at_once_make_one_vm() {
    let Some(image) = nanos("two_starts_at_once", &[]) else { return };
    let node = Node::new();
    let forward = format!("{}:8080", free_port());
    let args = detached(&image, &forward);
    let began = Instant::now();
    let children: Vec<_> = (0..4).map(|_| node.command("mcp-run-vm", &args).spawn().unwrap()).collect();
    let mut codes: Vec<_> =
        children.into_iter().map(|c| crate::harness::wait(c, "mcp-run-vm", began).code.unwrap()).collect();
    codes.sort_unstable();
    assert_eq!(codes, [0, 100, 100, 100]);
}

#[test]
fn a_guest_that_ignores_the_power_button_is_stopped_firmly() {
    let Some(image) = nanos("ignores_the_power_button", &["--ignore-term"]) else { return };
    let node = Node::new();
    let forward = format!("{}:8080", free_port());
    node.mcp("mcp-run-vm", &[detached(&image, &forward).as_slice(), &["--stop-timeout", "1s"]].concat()).expect(0);
    let stopped = node.mcp("mcp-stop", &["demo"]).expect(0);
    assert!(stopped.out.contains("stopped: quit"), "{stopped:#?}");
    assert!(stopped.took < Duration::from_secs(10), "{stopped:#?}");
}

#[test]
fn a_guest_that_never_listens_is_ended_by_the_start_timeout() {
    let Some(image) = nanos("never_listens", &["--no-listen"]) else { return };
    let node = Node::new();
    let forward = format!("{}:8080", free_port());
    let answer = node.mcp(
        "mcp-run-vm",
        &[
            "--name",
            "demo",
            "--disk",
            &image.disk,
            "--kernel",
            &image.kernel,
            "--port",
            &forward,
            "--start-timeout",
            "2s",
            "--stop-timeout",
            "2s",
        ],
    );
    assert!(answer.err.contains("demo/demo: not healthy after start_timeout (2s)"), "{answer:#?}");
    assert!(answer.err.contains("hello: not listening"), "the console's last lines: {answer:#?}");
    assert_eq!(answer.code, Some(111), "{answer:#?}");
    assert_eq!(node.state("demo/demo")["end"]["by"], "mcp");
}

#[test]
fn a_killed_qemu_is_told_and_restarted_by_policy() {
    let Some(image) = nanos("killed_qemu", &[]) else { return };
    let node = Node::new();
    let port = free_port();
    let forward = format!("{port}:8080");
    node.mcp("mcp-run-vm", &[detached(&image, &forward).as_slice(), &["--restart", "on-failure"]].concat()).expect(0);
    let first = node.qemu("demo/demo");
    kill(first, libc::SIGKILL);
    until("a new VM", || ![0, first].contains(&node.qemu("demo/demo")) && get(port, "/").is_some());
    assert_eq!(node.state("demo/demo")["restarts"], 1);
    let stopped = node.mcp("mcp-stop", &["demo"]).expect(0);
    assert!(stopped.out.contains("powerdown"), "{stopped:#?}");
}

#[test]
fn a_stop_ends_a_component_that_waits_to_be_restarted() {
    let Some(image) = nanos("stop_while_waiting", &["--exit-after", "0", "--exit-code", "9"]) else { return };
    let node = Node::new();
    let args = ["--name", "demo", "--disk", &image.disk, "--kernel", &image.kernel, "--detach", "--restart", "always"];
    node.mcp("mcp-run-vm", &args).expect(0);
    until("waiting", || node.state("demo/demo")["phase"] == "waiting");
    assert_eq!(node.state("demo/demo")["end"]["code"], 9);
    node.mcp("mcp-stop", &["demo"]).expect(0);
    assert_eq!(node.supervisor("demo/demo"), 0);
}

#[test]
fn a_detached_start_that_fails_says_why() {
    let node = Node::new();
    let disk = node.root.join("none.img");
    let answer = node.mcp("mcp-run-vm", &["--name", "demo", "--disk", disk.to_str().unwrap(), "--detach"]).expect(100);
    assert!(answer.one_line().ends_with("none.img: disk image missing: no such file"), "{answer:#?}");
}

#[test]
fn a_vm_whose_state_file_is_lost_is_adopted_all_the_same() {
    let Some(image) = nanos("state_file_lost", &[]) else { return };
    let node = Node::new();
    let port = free_port();
    let forward = format!("{port}:8080");
    let args = detached(&image, &forward);
    node.mcp("mcp-run-vm", &args).expect(0);
    let qemu = node.qemu("demo/demo");
    kill(node.supervisor("demo/demo"), libc::SIGKILL);
    std::fs::remove_file(node.run_dir("demo/demo").join("a/state.json")).unwrap();
    node.mcp("mcp-run-vm", &args).expect(0);
    assert_eq!(node.qemu("demo/demo"), qemu);
    assert!(get(port, "/").is_some());
    node.mcp("mcp-stop", &["demo"]).expect(0);
}

#[test]
fn qemu_gets_nothing_that_our_caller_left_open() {
    let Some(image) = nanos("left_open", &[]) else { return };
    let node = Node::new();
    let secret = node.root.join("secret");
    std::fs::write(&secret, "x").unwrap();
    let forward = format!("{}:8080", free_port());
    let script = "exec 9<\"$0\"; exec \"$@\"";
    let args = detached(&image, &forward);
    let mut command = std::process::Command::new("sh");
    command.args(["-c", script]).arg(&secret).arg(crate::harness::program("mcp-run-vm")).args(args);
    command.env("MCP_ROOT", &node.root).stdin(std::process::Stdio::null());
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    crate::harness::finish(command, "sh -c mcp-run-vm").expect(0);
    let fds = std::fs::read_dir(format!("/proc/{}/fd", node.qemu("demo/demo"))).unwrap().flatten();
    let open: Vec<_> = fds.filter_map(|fd| std::fs::read_link(fd.path()).ok()).collect();
    assert!(!open.contains(&secret), "{open:?}");
}

/// Times that all threads of process `pid` were switched to.
fn switches(pid: i32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let of = |e: std::fs::DirEntry| {
        let status = std::fs::read_to_string(e.path().join("status")).unwrap_or_default();
        let lines = status.lines().filter(|l| l.contains("ctxt_switches"));
        lines.filter_map(|l| l.split_whitespace().nth(1)?.parse::<u64>().ok()).sum::<u64>()
    };
    tasks.map(of).sum()
}

#[test]
fn an_idle_supervisor_sleeps() {
    let Some(image) = nanos("idle_supervisor", &[]) else { return };
    let node = Node::new();
    let forward = format!("{}:8080", free_port());
    let args = detached(&image, &forward);
    node.mcp("mcp-run-vm", &args).expect(0);
    let supervisor = node.supervisor("demo/demo");
    // What the guest still writes after it listens wakes the supervisor, and rightly.
    let mut quiet_since = Instant::now();
    let mut before = switches(supervisor);
    until("two seconds without a wake-up", || {
        let now = switches(supervisor);
        if now != before {
            (before, quiet_since) = (now, Instant::now());
        }
        quiet_since.elapsed() > Duration::from_secs(2)
    });
}
