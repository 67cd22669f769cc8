//! Stages in order, who is told what, what a second run does, and what is only printed.

use super::{Boot, sequence, serves, times, uuid, vm};
use crate::harness::{Node, free_port, nanos, until};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Collects what systemd would be told.
fn listen(node: &Node) -> Arc<Mutex<Vec<String>>> {
    let socket = UnixDatagram::bind(node.root.join("notify")).unwrap();
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = Arc::downgrade(&told);
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Some(told) = kept.upgrade() {
            if let Ok(n) = socket.recv(&mut bytes) {
                told.lock().unwrap().push(String::from_utf8_lossy(&bytes[..n]).into_owned());
            }
        }
    });
    told
}

#[test]
fn boot_goes_stage_by_stage_and_tells_readiness_last() {
    let test = "boot_goes_stage_by_stage";
    let (Some(image), Some(slow)) = (nanos(test, &[]), nanos(test, &["--listen-delay", "900"])) else { return };
    let node = Node::new();
    let services = ["a", "b", "c", "d"];
    let ports = services.map(|_| free_port());
    for (name, port) in services.iter().zip(ports) {
        vm(&node, name, if *name == "b" { &slow } else { &image }, port, "");
    }
    sequence(&node, "", &[("base", &["a", "b"], "60s"), ("core", &["c"], "60s"), ("apps", &["d"], "60s")]);
    let told = listen(&node);
    let mut command = node.command("mcp-boot", &[]);
    command.env("NOTIFY_SOCKET", node.root.join("notify"));
    let boot = Boot::of(&node, command);
    until("READY=1", || told.lock().unwrap().iter().any(|t| t == "READY=1"));
    // All are healthy by then: the very first request is answered.
    assert!(ports.into_iter().all(serves), "ready before all are healthy");
    let answer = boot.end().expect(0);
    assert_eq!(answer.err.lines().filter(|l| !l.contains("no KVM")).count(), 0, "{answer:#?}");
    // Each stage's VMs were started after those of the stage before were ready.
    let at = |id: &str, key: &str| node.state(&format!("{id}/vm"))[key].as_str().unwrap().to_string();
    for (before, after) in [("a", "c"), ("b", "c"), ("c", "d")] {
        assert!(at(before, "ready_at") <= at(after, "started_at"), "{after} was started before {before} was ready");
    }
    let lines: Vec<&str> = answer.out.lines().collect();
    let place = |text: &str| lines.iter().position(|l| l.starts_with(text)).unwrap_or_else(|| panic!("{answer:#?}"));
    let order = [
        "stage base: 2 components, waits until all are healthy",
        "  b/vm: starting",
        "  b/vm: healthy: ",
        "stage base: healthy after ",
        "stage core: 1 component, waits 1m at most",
        "  c/vm: started",
        "  c/vm: healthy: ",
        "stage core: healthy after ",
        "stage apps: healthy after ",
        "booted in ",
    ];
    assert!(order.map(place).is_sorted(), "{answer:#?}");
    let told = told.lock().unwrap();
    // systemd's patience first; then what is waited for; READY=1 once, and nothing of a stage after it.
    assert!(told[0].starts_with("EXTEND_TIMEOUT_USEC=") && told[0].len() >= 20 + 8, "{told:#?}");
    assert_eq!(told.iter().filter(|t| *t == "READY=1").count(), 1);
    let ready = told.iter().position(|t| t == "READY=1").unwrap();
    assert!(!told[ready..].iter().any(|t| t.contains("stage ")), "{told:#?}");
    let waits = |t: &&String| t.starts_with("STATUS=stage base: 1 of 2 healthy, waiting for b/vm: ");
    assert!(told.iter().any(|t| waits(&t)), "{told:#?}");
    let core = |t: &&String| t.starts_with("STATUS=stage core: 0 of 1 healthy, waiting for c/vm: ");
    assert!(told.iter().any(|t| core(&t)), "{told:#?}");
    drop(told);

    // What runs is left alone, and that takes no time. s6 is told.
    let before = services.map(|name| uuid(&node, &format!("{name}/vm")));
    let (mut reader, writer) = std::io::pipe().unwrap();
    let number = writer.as_raw_fd();
    let mut command = node.command("mcp-boot", &["--notify-fd", "3"]);
    // SAFETY: dup2 is a plain system call.
    unsafe {
        command.pre_exec(move || if libc::dup2(number, 3) < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) });
    }
    let (began, child) = (Instant::now(), command.spawn().unwrap());
    drop(writer);
    let mut told = Vec::new();
    reader.read_to_end(&mut told).unwrap();
    assert_eq!(told, b"\n");
    let again = crate::harness::wait(child, "mcp-boot", began).expect(0);
    assert_eq!(again.out.matches(": runs already\n").count(), 4, "{again:#?}");
    assert!(!again.out.contains("start"), "{again:#?}");
    assert!(again.took < Duration::from_secs(2), "{again:#?}");
    assert_eq!(before, services.map(|name| uuid(&node, &format!("{name}/vm"))));
    assert!(times(&node, "d/vm", "already").len() == 1 && times(&node, "d/vm", "start").is_empty());
    node.mcp("mcp-boot", &["--notify-fd", "77"]).expect(2);
}

#[test]
fn boot_as_json_and_for_a_reader_that_goes_away() {
    let Some(image) = nanos("boot_as_json", &[]) else { return };
    let node = Node::new();
    let ports = [free_port(), free_port()];
    for (name, port) in ["a", "b"].iter().zip(ports) {
        vm(&node, name, &image, port, "");
    }
    sequence(&node, "", &[("base", &["a"], "60s"), ("apps", &["b"], "60s")]);
    // `| head -1`: its end is no reason to leave the node half up.
    let mut command = Command::new("sh");
    command.args(["-c", "(\"$0\"; echo $? >$MCP_ROOT/code) | head -1"]).arg(crate::harness::program("mcp-boot"));
    command.env("MCP_ROOT", &node.root).env_remove("MCP_LOG").env_remove("NOTIFY_SOCKET");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let answer = crate::harness::finish(command, "mcp-boot | head -1").expect(0);
    assert_eq!(answer.out, "stage base: 1 component, waits until all are healthy\n", "{answer:#?}");
    assert_eq!(std::fs::read_to_string(node.root.join("code")).unwrap(), "0\n");
    assert!(ports.into_iter().all(serves));
    let down = node.mcp("mcp-boot", &["--down", "--json"]).expect(0);
    let boot = node.mcp("mcp-boot", &["--json"]).expect(0);
    let mut seen = Vec::new();
    for line in down.out.lines().chain(boot.out.lines()) {
        let object: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert_eq!(object["schema"], 1, "{line}");
        assert!(object["time"].as_str().is_some_and(|t| t.len() == 24 && t.ends_with('Z')), "{line}");
        let of = object["component"].as_str().or(object["stage"].as_str()).unwrap_or_default();
        seen.push(format!("{} {of}", object["event"].as_str().unwrap()).trim().to_string());
    }
    let wanted = [
        "stopped b/vm",
        "stopped a/vm",
        "stage-began base",
        "start a/vm",
        "started a/vm",
        "healthy a/vm",
        "stage-ended base",
        "stage-began apps",
        "start b/vm",
        "started b/vm",
        "healthy b/vm",
        "stage-ended apps",
        "ready",
    ];
    // Which of them come depends on who sees it first.
    seen.retain(|event| !event.starts_with("unhealthy ") && !event.starts_with("ready "));
    assert_eq!(seen, wanted, "{boot:#?}");
}

#[test]
fn boot_of_one_stage_is_part_of_the_whole() {
    let Some(image) = nanos("boot_of_one_stage", &[]) else { return };
    let node = Node::new();
    let ports = [free_port(), free_port()];
    for (name, port) in ["a", "b"].iter().zip(ports) {
        vm(&node, name, &image, port, "");
    }
    sequence(&node, "", &[("base", &["a"], "60s"), ("apps", &["b"], "60s")]);
    let unknown = node.mcp("mcp-boot", &["--stage", "bsae"]).expect(100);
    assert_eq!(unknown.one_line(), "mcp-boot: bsae: no such stage; did you mean \"base\"?");
    let first = node.mcp("mcp-boot", &["--stage", "base"]).expect(0);
    assert!(!first.out.contains("apps") && serves(ports[0]) && !node.run_dir("b/vm").exists(), "{first:#?}");
    let second = node.mcp("mcp-boot", &["--stage", "apps"]).expect(0);
    assert!(!second.out.contains("base") && serves(ports[1]), "{second:#?}");
    let record = super::record(&node);
    assert_eq!((record["mode"].as_str(), record["outcome"].as_str()), (Some("stages"), Some("ready")), "{record:#}");
    assert_eq!(record["runs"].as_array().unwrap().len(), 2, "{record:#}");
    let healthy = ["a/vm", "b/vm"].map(|id| times(&node, id, "healthy").len());
    assert_eq!(healthy, [1, 1], "{record:#}");
}
