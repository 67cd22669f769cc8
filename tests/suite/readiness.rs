//! When a VM counts as ready and who is told; health that goes; signals that mean nothing.

use crate::harness::{Image, Node, free_port, get, nanos, until, wait, wait_for};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::time::{Duration, Instant};

fn args<'a>(image: &'a Image, forward: &'a str) -> Vec<&'a str> {
    vec!["--name", "demo", "--disk", &image.disk, "--kernel", &image.kernel, "--port", forward]
}

fn send(pid: u32, signal: i32) {
    // SAFETY: a plain system call.
    unsafe { libc::kill(pid as i32, signal) };
}

#[test]
fn systemd_is_told_when_the_guest_listens_and_not_before() {
    let Some(image) = nanos("systemd_is_told", &["--listen-delay", "700"]) else { return };
    let node = Node::new();
    let port = free_port();
    let forward = format!("{port}:8080");
    let path = node.root.join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let child = node.command("mcp-run-vm", &args(&image, &forward)).env("NOTIFY_SOCKET", &path).spawn().unwrap();
    let began = Instant::now();
    let told = |wanted: &str| {
        let mut bytes = [0; 512];
        loop {
            let n = socket.recv(&mut bytes).unwrap();
            let text = String::from_utf8_lossy(&bytes[..n]).into_owned();
            if text.lines().any(|l| l.starts_with(wanted)) {
                return text;
            }
        }
    };
    told("READY=1");
    assert!(began.elapsed() > Duration::from_millis(700), "ready after {:?}", began.elapsed());
    assert!(node.console("demo").contains("hello: listening on 8080"), "told before it listens");
    // The very first request is answered.
    assert!(get(port, "/").is_some());
    send(child.id(), libc::SIGTERM);
    told("STOPPING=1");
    wait(child, "mcp-run-vm", began).expect(0);
}

#[test]
fn a_notify_socket_that_nobody_reads_holds_nobody_up() {
    let Some((node, disk)) = crate::fake_qemu::node_with("a_notify_socket_that_nobody_reads", "good") else { return };
    let path = node.root.join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let filler = UnixDatagram::unbound().unwrap();
    filler.set_nonblocking(true).unwrap();
    while filler.send_to(b"full", &path).is_ok() {}
    let mut command = node.command("mcp-run-vm", &["--name", "demo", "--disk", &disk]);
    let child = command.env("NOTIFY_SOCKET", &path).spawn().unwrap();
    let began = Instant::now();
    until("ready", || {
        node.run_dir("demo/demo").join("state.json").exists() && node.state("demo/demo")["phase"] == "ready"
    });
    send(child.id(), libc::SIGTERM);
    let answer = wait(child, "mcp-run-vm", began).expect(0);
    assert!(answer.err.contains("mcp-run-vm: notify: "), "{answer:#?}");
    assert!(answer.took < Duration::from_secs(15), "{answer:#?}");
    drop(socket);
}

#[test]
fn a_descriptor_is_told_by_a_newline_and_closed() {
    let Some(image) = nanos("a_descriptor_is_told", &["--listen-delay", "300"]) else { return };
    let node = Node::new();
    let port = free_port();
    let forward = format!("{port}:8080");
    let (mut reader, writer) = std::io::pipe().unwrap();
    let number = writer.as_raw_fd();
    let mut command = node.command("mcp-run-vm", &[&args(&image, &forward)[..], &["--notify-fd", "3"]].concat());
    // SAFETY: dup2 is a plain system call.
    unsafe {
        command.pre_exec(move || {
            // What stands at 3 in between is CLOEXEC and of no use to the program.
            if libc::dup2(number, 3) < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
        });
    }
    let child = command.spawn().unwrap();
    let began = Instant::now();
    drop(writer);
    let mut told = Vec::new();
    // Ends when it is closed: nothing of ours, and no QEMU, has it.
    reader.read_to_end(&mut told).unwrap();
    assert_eq!(told, b"\n");
    assert!(get(port, "/").is_some(), "it listens by then");
    send(child.id(), libc::SIGTERM);
    wait(child, "mcp-run-vm", began).expect(0);
}

#[test]
fn a_hangup_without_a_terminal_is_a_replace() {
    let Some((node, disk)) = crate::fake_qemu::node_with("a_hangup_does_no_harm", "good") else { return };
    node.mcp("mcp-run-vm", &["--name", "demo", "--disk", &disk, "--detach", "--restart", "always"]).expect(0);
    let (supervisor, qemu) = (node.supervisor("demo/demo"), node.qemu("demo/demo"));
    send(supervisor as u32, libc::SIGHUP);
    until("a new VM", || ![0, qemu].contains(&node.qemu("demo/demo")));
    until("the old one is gone", || node.processes().iter().filter(|p| p.contains("-uuid")).count() == 1);
    assert_eq!(node.supervisor("demo/demo"), supervisor);
    let qemu = node.qemu("demo/demo");
    // While it waits to start its VM again, a start.
    send(qemu as u32, libc::SIGKILL);
    until("waiting", || node.state("demo/demo")["phase"] == "waiting");
    send(supervisor as u32, libc::SIGHUP);
    until("a new VM", || ![0, qemu].contains(&node.qemu("demo/demo")));
    assert_eq!(node.supervisor("demo/demo"), supervisor);
}

#[test]
fn one_that_gets_unhealthy_is_restarted_where_that_was_asked_for() {
    let Some(image) = nanos("one_that_gets_unhealthy", &[]) else { return };
    let node = Node::new();
    let port = free_port();
    let define = |on_unhealthy: &str| {
        node.define(
            "shop",
            &format!(
                "name = \"shop\"\n[[components]]\nname = \"shop\"\nruntime = \"unikernel\"\ndisk = \"{}\"\n\
                 kernel = \"{}\"\nports = [\"{port}:8080\"]\nrestart = \"on-failure\"\nstop_timeout = \"5s\"\n\
                 on_unhealthy = \"{on_unhealthy}\"\n[components.health]\nkind = \"http\"\npath = \"/health\"\n\
                 interval = \"50ms\"\nfailures = 3\n",
                image.disk, image.kernel
            ),
        );
    };
    define("restart");
    node.mcp("mcp-run", &["shop", "--detach", "--wait"]).expect(0);
    let first = node.qemu("shop/shop");
    assert!(get(port, "/unhealthy").is_some());
    until("a new VM", || {
        ![0, first].contains(&node.qemu("shop/shop")) && get(port, "/health").as_deref() == Some("ok\n")
    });
    assert_eq!(node.state("shop/shop")["restarts"], 1);
    let log = std::fs::read_to_string(node.root.join("log/shop/shop/supervisor.log")).unwrap();
    assert!(log.contains("shop/shop: unhealthy: "), "{log}");
    node.mcp("mcp-stop", &["shop"]).expect(0);
    // Nobody asks, and nothing happens, where it was not asked for.
    define("none");
    node.mcp("mcp-run", &["shop", "--detach", "--wait"]).expect(0);
    let only = node.qemu("shop/shop");
    assert!(get(port, "/unhealthy").is_some());
    let changed = wait_for(Duration::from_millis(700), || (node.qemu("shop/shop") != only).then_some(()));
    assert!(changed.is_none(), "it was restarted");
    assert_eq!(node.mcp("mcp-health", &["-q", "shop"]).code, Some(1));
}

#[test]
fn a_stop_while_an_unhealthy_one_is_stopped_is_for_good() {
    let Some(image) = nanos("a_stop_while_an_unhealthy_one", &["--ignore-term"]) else { return };
    let node = Node::new();
    let port = free_port();
    let text = format!(
        "name = \"shop\"\n[[components]]\nname = \"shop\"\nruntime = \"unikernel\"\ndisk = \"{}\"\nkernel = \"{}\"\n\
         ports = [\"{port}:8080\"]\nrestart = \"on-failure\"\nstop_timeout = \"2s\"\non_unhealthy = \"restart\"\n\
         [components.health]\nkind = \"http\"\npath = \"/health\"\ninterval = \"50ms\"\n",
        image.disk, image.kernel
    );
    node.define("shop", &text);
    node.mcp("mcp-run", &["shop", "--detach", "--wait"]).expect(0);
    assert!(get(port, "/unhealthy").is_some());
    until("mcp stops it", || node.state("shop/shop")["phase"] == "stopping");
    let stopped = node.mcp("mcp-stop", &["shop"]).expect(0);
    assert!(stopped.took < Duration::from_secs(10), "{stopped:#?}");
    let state = node.state("shop/shop");
    assert_eq!((&state["end"]["by"], &state["restarts"]), (&"operator".into(), &0.into()), "{state:#}");
    assert_eq!(node.processes(), Vec::<String>::new());
}

#[test]
fn a_stop_does_not_wait_for_a_probe() {
    let Some(image) = nanos("a_stop_does_not_wait", &["--no-listen"]) else { return };
    let node = Node::new();
    let forward = format!("{}:8080", free_port());
    let child = node.command("mcp-run-vm", &args(&image, &forward)).spawn().unwrap();
    until("it has begun", || node.mcp("mcp-logs", &["-n", "all", "demo"]).out.contains("hello: not listening"));
    let began = Instant::now();
    let stopped = node.mcp("mcp-stop", &["demo"]).expect(0);
    assert!(stopped.out.contains("powerdown"), "{stopped:#?}");
    assert!(stopped.took < Duration::from_secs(3), "{stopped:#?}");
    wait(child, "mcp-run-vm", began);
}

#[test]
fn what_was_stopped_stays_stopped_for_units() {
    let Some((node, disk)) = crate::fake_qemu::node_with("what_was_stopped_stays_stopped", "good") else { return };
    let detached = ["--name", "demo", "--disk", &disk, "--detach", "--restart", "always"];
    node.mcp("mcp-run-vm", &detached).expect(0);
    let first = node.qemu("demo/demo");
    node.mcp("mcp-stop", &["demo"]).expect(0);
    // Not even "always" starts it again.
    let again = wait_for(Duration::from_millis(1500), || (node.supervisor("demo/demo") != 0).then_some(()));
    assert!(again.is_none() && first != 0);
    for program in ["mcp-run", "mcp-run-vm"] {
        let answer = node.mcp(program, &["--recover", "demo"]).expect(0);
        let line = "mcp-run-vm: demo/demo: shall stay stopped, so it is not started; mcp-run demo/demo changes that";
        assert_eq!(answer.one_line(), line);
        assert_eq!((node.supervisor("demo/demo"), node.qemu("demo/demo")), (0, 0));
    }
    node.mcp("mcp-run", &["--detach", "demo"]).expect(0);
    assert_ne!(node.qemu("demo/demo"), 0);
    node.mcp("mcp-stop", &["demo"]).expect(0);
}
