//! `mcp-run --replace`: a new VM in the place of the running one, with real Nanos guests.

use crate::harness::{Image, Node, finish, free_port, get, nanos, until, wait};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

fn define(node: &Node, image: &Image, port: u16, more: &str) {
    let text = format!(
        "name = \"demo\"\n[[components]]\nname = \"web\"\nruntime = \"unikernel\"\ndisk = \"{}\"\nkernel = \"{}\"\n\
         memory_mb = 128\nports = [\"127.0.0.1:{port}:8080\"]\nstop_timeout = \"5s\"\n{more}\n",
        image.disk, image.kernel
    );
    node.define("demo", &text);
}

fn stops_within(node: &Node, timeout: &str) {
    let path = node.root.join("etc/services/demo.toml");
    let text = std::fs::read_to_string(&path).unwrap().replace("\"5s\"", &format!("{timeout:?}"));
    std::fs::write(path, text).unwrap();
}

fn uuid(node: &Node) -> String {
    node.state("demo/web")["uuid"].as_str().unwrap().to_string()
}

/// Clients that ask without a pause, each request on a connection of its own.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<(usize, Vec<String>)>>,
}

impl Load {
    fn begin(port: u16, clients: usize) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |stop: Arc<AtomicBool>| {
            std::thread::spawn(move || {
                let (mut good, mut bad) = (0, Vec::new());
                while !stop.load(Ordering::Relaxed) {
                    match ask(port) {
                        Ok(()) => good += 1,
                        Err(e) => bad.push(e),
                    }
                }
                (good, bad)
            })
        };
        Load { clients: (0..clients).map(|_| client(Arc::clone(&stop))).collect(), stop }
    }

    /// How many requests were answered, and what happened to the others.
    fn end(self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let (mut good, mut bad) = (0, Vec::new());
        for client in self.clients {
            let (g, b) = client.join().unwrap();
            good += g;
            bad.extend(b);
        }
        (good, bad)
    }
}

fn ask(port: u16) -> Result<(), String> {
    let told = |what: &'static str| move |e: std::io::Error| format!("{what}: {e}");
    let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(told("connect"))?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).map_err(told("timeout"))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").map_err(told("send"))?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(told("receive"))?;
    if answer.starts_with(b"HTTP/1.") { Ok(()) } else { Err(format!("answered {} bytes", answer.len())) }
}

#[test]
fn replace_in_place_loses_no_request() {
    let Some(image) = nanos("replace_in_place_loses_no_request", &[]) else { return };
    let node = Node::new();
    let port = free_port();
    define(&node, &image, port, "");
    node.mcp("mcp-run", &["--detach", "--wait", "demo"]).expect(0);
    let supervisor = node.supervisor("demo/web");
    let load = Load::begin(port, 4);
    let mut uuids = vec![uuid(&node)];
    for _ in 0..5 {
        let answer = node.mcp("mcp-run", &["--replace", "demo"]).expect(0);
        assert_eq!(answer.out, "demo/web replaced\n");
        let now = uuid(&node);
        assert!(!uuids.contains(&now));
        uuids.push(now);
    }
    let (good, bad) = load.end();
    assert!(good > 20 && bad.is_empty(), "{good} answered, failed: {bad:?}");
    assert_eq!(node.supervisor("demo/web"), supervisor);
    assert_eq!(node.processes().iter().filter(|p| p.contains("qemu")).count(), 1);
    node.mcp("mcp-status", &[]).expect(0);
    node.mcp("mcp-stop", &["demo"]).expect(0);
}

#[test]
fn replace_by_a_broken_version_leaves_the_old_one_serving() {
    let Some(image) = nanos("replace_by_a_broken_version", &[]) else { return };
    let Some(broken) = nanos("replace_by_a_broken_version", &["--no-listen"]) else { return };
    let Some(dying) = nanos("replace_by_a_broken_version", &["--no-listen", "--exit-after", "100", "--exit-code", "3"])
    else {
        return;
    };
    let node = Node::new();
    let port = free_port();
    define(&node, &image, port, "");
    node.mcp("mcp-run", &["--detach", "--wait", "demo"]).expect(0);
    let before = uuid(&node);
    let load = Load::begin(port, 2);
    define(&node, &broken, port, "start_timeout = \"3s\"");
    let answer = node.mcp("mcp-run", &["--replace", "demo"]).expect(1);
    assert!(answer.err.contains("not healthy after start_timeout (3s)"), "{answer:#?}");
    assert!(answer.err.contains("the old version serves on"), "{answer:#?}");
    define(&node, &dying, port, "");
    let answer = node.mcp("mcp-run", &["--replace", "demo"]).expect(1);
    assert!(
        answer.err.contains("ended before it was ready") && answer.err.contains("hello: not listening"),
        "{answer:#?}"
    );
    let (good, bad) = load.end();
    assert!(good > 20 && bad.is_empty(), "{good} answered, failed: {bad:?}");
    assert_eq!(uuid(&node), before);
    assert_eq!(node.processes().iter().filter(|p| p.contains("qemu")).count(), 1);
    // What failed is on trial no more: a recovery takes what served.
    let record = std::fs::read(node.root.join("lib/registry/demo/web.json")).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    assert_eq!(record["current"]["spec"]["source"]["disk"], image.disk.as_str());
    assert!(record.get("candidate").is_none(), "{record:#}");
    let drift = node.mcp("mcp-status", &["demo"]).expect(1);
    assert!(drift.out.contains("image"), "{drift:#?}");
    node.mcp("mcp-stop", &["demo"]).expect(0);
}

#[test]
fn replace_lets_open_connections_end() {
    let Some(image) = nanos("replace_lets_open_connections_end", &[]) else { return };
    let node = Node::new();
    let port = free_port();
    define(&node, &image, port, "");
    node.mcp("mcp-run", &["--detach", "--wait", "demo"]).expect(0);
    let mut slow = TcpStream::connect(("127.0.0.1", port)).unwrap();
    slow.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    slow.write_all(b"GET / HT").unwrap();
    let command = node.command("mcp-run", &["--replace", "demo"]);
    let replace = std::thread::spawn(move || finish(command, "mcp-run --replace"));
    let before = uuid(&node);
    until("the new one serves", || uuid(&node) != before);
    assert!(get(port, "/").is_some());
    slow.write_all(b"TP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("200"), "{answer}");
    drop(slow);
    replace.join().unwrap().expect(0);
    node.mcp("mcp-stop", &["demo"]).expect(0);
}

#[test]
fn a_stop_refuses_new_clients_and_lets_open_connections_end() {
    let Some(image) = nanos("a_stop_refuses_new_clients", &["--ignore-term"]) else { return };
    let node = Node::new();
    let port = free_port();
    define(&node, &image, port, "");
    node.mcp("mcp-run", &["--detach", "--wait", "demo"]).expect(0);
    let mut slow = TcpStream::connect(("127.0.0.1", port)).unwrap();
    slow.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    slow.write_all(b"GET / HT").unwrap();
    let command = node.command("mcp-stop", &["demo"]);
    let stop = std::thread::spawn(move || finish(command, "mcp-stop"));
    until("new clients are refused", || {
        TcpStream::connect(("127.0.0.1", port)).is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionRefused)
    });
    assert_eq!(node.state("demo/web")["phase"], "stopping");
    slow.write_all(b"TP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("200"), "{answer}");
    stop.join().unwrap().expect(0);
}

#[test]
fn replace_follows_the_definition_and_a_hangup() {
    let Some(image) = nanos("replace_follows_the_definition", &["--udp", "5353"]) else { return };
    let node = Node::new();
    let (port, other, udp) = (free_port(), free_port(), free_port());
    define(&node, &image, port, "");
    node.mcp("mcp-run", &["--detach", "--wait", "demo"]).expect(0);
    let text = std::fs::read_to_string(node.root.join("etc/services/demo.toml")).unwrap();
    let ports = format!("ports = [\"127.0.0.1:{other}:8080\", \"{port}:8080\", \"{udp}:5353/udp\"]\nxxx");
    let text = text.replace("ports = ", &format!("{ports} = ")).replace("xxx = ", "# ");
    node.define("demo", &text);
    // Its parent's terminal is not its own, and nobody asked: a SIGHUP alone is a replace.
    let before = uuid(&node);
    // SAFETY: a plain system call.
    unsafe { libc::kill(node.supervisor("demo/web"), libc::SIGHUP) };
    until("replaced", || uuid(&node) != before && node.processes().iter().filter(|p| p.contains("qemu")).count() == 1);
    until("all ports are there", || get(other, "/").is_some());
    assert!(get(port, "/").is_some());
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    until("the datagram comes back", || {
        socket.send_to(b"ping", ("127.0.0.1", udp)).unwrap();
        socket.recv(&mut [0; 16]).is_ok()
    });
    node.mcp("mcp-status", &[]).expect(0);
    node.mcp("mcp-stop", &["demo"]).expect(0);
}

#[test]
fn replace_with_a_persistent_root_stops_and_starts_and_falls_back() {
    let Some(image) = nanos("replace_with_a_persistent_root", &[]) else { return };
    let node = Node::new();
    let port = free_port();
    define(&node, &image, port, "root = \"persistent\"");
    node.mcp("mcp-run", &["--detach", "--wait", "demo"]).expect(0);
    let how = node.mcp("mcp-run", &["--replace", "--dry-run", "demo"]).expect(0);
    assert_eq!(how.out, "demo/web stopped and started: a persistent root can't have two writers\n");
    let before = uuid(&node);
    node.mcp("mcp-run", &["--replace", "demo"]).expect(0);
    assert_ne!(uuid(&node), before);
    // The new version asks for health where nobody answers.
    define(
        &node,
        &image,
        port,
        "root = \"persistent\"\nstart_timeout = \"3s\"\n[components.health]\nkind = \"http\"\npath = \"/nowhere\"",
    );
    let answer = node.mcp("mcp-run", &["--replace", "demo"]).expect(1);
    assert!(answer.err.contains("the old version is back"), "{answer:#?}");
    assert!(get(port, "/").is_some());
    node.mcp("mcp-stop", &["demo"]).expect(0);
}

#[test]
fn replace_cut_short_leaves_one_that_serves() {
    let Some(image) = nanos("replace_cut_short", &[]) else { return };
    let node = Node::new();
    let port = free_port();
    define(&node, &image, port, "");
    node.mcp("mcp-run", &["--detach", "--wait", "demo"]).expect(0);
    // How long one takes, to spread the kills over it.
    let began = Instant::now();
    node.mcp("mcp-run", &["--replace", "demo"]).expect(0);
    let whole = began.elapsed().max(Duration::from_millis(200));
    for round in 0..12_u32 {
        let supervisor = node.supervisor("demo/web");
        let command = node.command("mcp-run", &["--replace", "demo"]);
        let asker = std::thread::spawn(move || finish(command, "mcp-run --replace"));
        std::thread::sleep(whole * round / 10);
        // SAFETY: a plain system call.
        unsafe { libc::kill(supervisor, libc::SIGKILL) };
        let told = asker.join().unwrap();
        assert!(matches!(told.code, Some(0 | 1 | 111)), "round {round}: {told:#?}");
        node.mcp("mcp-run", &["--detach", "--wait", "demo"]).expect(0);
        assert!(get(port, "/").is_some(), "round {round}");
        let qemus = node.processes().iter().filter(|p| p.contains("qemu")).count();
        assert_eq!(qemus, 1, "round {round}");
        node.mcp("mcp-status", &[]).expect(0);
    }
    node.mcp("mcp-stop", &["demo"]).expect(0);
}

#[test]
fn replace_whose_asker_was_killed_leaves_nothing() {
    let Some(image) = nanos("replace_whose_asker_was_killed", &[]) else { return };
    let node = Node::new();
    let port = free_port();
    define(&node, &image, port, "");
    node.mcp("mcp-run", &["--detach", "--wait", "demo"]).expect(0);
    let left = || crate::harness::find(&node.run_dir("demo/web"), &|n| n.starts_with("replace"));
    let before = uuid(&node);
    let mut asker = node.command("mcp-run", &["--replace", "demo"]).spawn().unwrap();
    // Asked, and heard: between the two it has only written that it will ask.
    other_vm(&node);
    asker.kill().unwrap();
    asker.wait().unwrap();
    // It is done all the same, and answered to nobody.
    until("replaced", || uuid(&node) != before && node.run_dir("demo/web/replaced.json").exists());
    assert!(left().len() >= 2, "{:?}", left());
    // The next asker is not kept from its turn, nor given the other's answer; and cleans up.
    let now = uuid(&node);
    node.mcp("mcp-run", &["--replace", "demo"]).expect(0);
    assert_ne!(uuid(&node), now);
    assert_eq!(left(), Vec::<std::path::PathBuf>::new());
    // And without one, the next start does.
    let mut asker = node.command("mcp-run", &["--replace", "demo"]).spawn().unwrap();
    other_vm(&node);
    asker.kill().unwrap();
    asker.wait().unwrap();
    until("answered", || node.run_dir("demo/web/replaced.json").exists());
    let supervisor = node.supervisor("demo/web");
    // SAFETY: a plain system call.
    unsafe { libc::kill(supervisor, libc::SIGKILL) };
    // One that lives keeps what is its.
    let lock = node.run_dir("demo/web/replace.lock");
    let turn = mcp::sys::lock::Lock::try_take(&lock).unwrap().unwrap();
    node.mcp("mcp-run", &["--detach", "--wait", "demo"]).expect(0);
    assert_eq!(left().len(), 2, "{:?}", left());
    // SAFETY: a plain system call.
    unsafe { libc::kill(node.supervisor("demo/web"), libc::SIGKILL) };
    drop(turn);
    node.mcp("mcp-run", &["--detach", "--wait", "demo"]).expect(0);
    assert_eq!(left(), Vec::<std::path::PathBuf>::new());
    node.mcp("mcp-stop", &["demo"]).expect(0);
}

#[test]
fn replace_of_what_does_not_run_is_refused() {
    let Some(image) = nanos("replace_of_what_does_not_run", &[]) else { return };
    let node = Node::new();
    define(&node, &image, free_port(), "");
    let answer = node.mcp("mcp-run", &["--replace", "demo"]).expect(1);
    assert!(answer.one_line().contains("demo/web: has no supervisor; mcp-run demo/web starts it"), "{answer:#?}");
    let answer = node.mcp("mcp-run", &["--replace", "nobody"]).expect(100);
    assert!(answer.one_line().contains("nobody"), "{answer:#?}");
}

/// The QEMU in the slot that does not serve, once there is one.
fn other_vm(node: &Node) -> i32 {
    let serving = std::fs::read_link(node.run_dir("demo/web").join("current")).unwrap();
    let other = if serving.to_str() == Some("a") { "b" } else { "a" };
    let path = node.run_dir("demo/web").join(other).join("state.json");
    let mut pid = 0;
    until("a second VM that runs", || {
        let text = std::fs::read(&path).unwrap_or_default();
        let state: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
        pid = state["pid"].as_i64().filter(|_| state["phase"] == "starting").unwrap_or(0) as i32;
        pid != 0
    });
    pid
}

#[test]
fn replace_while_one_of_the_two_vms_dies_or_a_stop_comes() {
    let Some(image) = nanos("replace_while_one_dies", &["--listen-delay", "500"]) else { return };
    let node = Node::new();
    let port = free_port();
    define(&node, &image, port, "");
    node.mcp("mcp-run", &["--detach", "--wait", "demo"]).expect(0);
    let begin = || {
        let command = node.command("mcp-run", &["--replace", "demo"]);
        std::thread::spawn(move || finish(command, "mcp-run --replace"))
    };
    // SAFETY (all three): a plain system call.
    let kill = |pid: i32| unsafe { libc::kill(pid, libc::SIGKILL) };
    let before = uuid(&node);
    let asker = begin();
    kill(other_vm(&node));
    // Whether it had begun to run its guest by then is a matter of microseconds.
    let answer = asker.join().unwrap();
    assert!(matches!(answer.code, Some(1 | 100)) && answer.err.contains("the old version serves on"), "{answer:#?}");
    assert!(get(port, "/").is_some());
    assert_eq!(uuid(&node), before);
    // The old one dies: the new one takes over as soon as it can.
    let asker = begin();
    other_vm(&node);
    kill(node.qemu("demo/web"));
    asker.join().unwrap().expect(0);
    assert!(get(port, "/").is_some());
    assert_ne!(uuid(&node), before);
    let asker = begin();
    other_vm(&node);
    node.mcp("mcp-stop", &["demo"]).expect(0);
    asker.join().unwrap().expect(111);
    assert_eq!(node.processes(), Vec::<String>::new());
}

#[test]
fn replace_and_a_stop_while_the_old_vm_has_clients() {
    let Some(image) = nanos("replace_and_a_stop", &[]) else { return };
    let node = Node::new();
    let port = free_port();
    define(&node, &image, port, "");
    // It may take its time.
    stops_within(&node, "60s");
    node.mcp("mcp-run", &["--detach", "--wait", "demo"]).expect(0);
    let mut held = TcpStream::connect(("127.0.0.1", port)).unwrap();
    held.write_all(b"GET / HT").unwrap();
    let before = uuid(&node);
    let command = node.command("mcp-run", &["--replace", "demo"]);
    let asker = std::thread::spawn(move || finish(command, "mcp-run --replace"));
    until("the new one serves", || uuid(&node) != before && get(port, "/").is_some());
    assert_eq!(node.processes().iter().filter(|p| p.contains("qemu-system")).count(), 2);
    let stopped = node.mcp("mcp-stop", &["demo"]).expect(0);
    assert!(stopped.took < Duration::from_secs(15), "{stopped:#?}");
    let told = asker.join().unwrap();
    assert!(matches!(told.code, Some(0 | 1 | 111)), "{told:#?}");
    assert_eq!(node.processes(), Vec::<String>::new());
    drop(held);
}

#[test]
fn replace_that_stops_first_and_a_stop_meanwhile() {
    let Some(image) = nanos("replace_that_stops_first", &["--ignore-term"]) else { return };
    let node = Node::new();
    let port = free_port();
    define(&node, &image, port, "root = \"persistent\"");
    stops_within(&node, "2s");
    for (by_signal, wish) in [(true, "run"), (false, "stop")] {
        let began = Instant::now();
        let run = node.command("mcp-run", &["demo"]).spawn().unwrap();
        until("it runs", || get(port, "/").is_some() && node.state("demo/web")["phase"] == "ready");
        let before = uuid(&node);
        let command = node.command("mcp-run", &["--replace", "demo"]);
        let asker = std::thread::spawn(move || finish(command, "mcp-run --replace"));
        until("it is stopped for the new one", || node.state("demo/web")["phase"] == "stopping");
        if by_signal {
            // SAFETY: a plain system call.
            unsafe { libc::kill(run.id() as i32, libc::SIGTERM) };
        } else {
            let stopped = node.mcp("mcp-stop", &["demo"]).expect(0);
            assert!(stopped.out.starts_with("demo/web: stopped: quit"), "{stopped:#?}");
            assert!(stopped.took < Duration::from_secs(10), "{stopped:#?}");
        }
        // For good: the new one is not started, and whoever asked for it is told.
        assert_eq!(asker.join().unwrap().expect(111).one_line(), "mcp-run: demo/web: stopped meanwhile");
        wait(run, "mcp-run", began).expect(137);
        assert_eq!(uuid(&node), before);
        let state = node.state("demo/web");
        assert_eq!((&state["phase"], &state["end"]["by"]), (&"ended".into(), &"operator".into()), "{state:#}");
        let record = std::fs::read(node.root.join("lib/registry/demo/web.json")).unwrap();
        let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
        assert_eq!(record["wish"], wish, "{record:#}");
        assert_eq!(node.processes(), Vec::<String>::new());
    }
}
