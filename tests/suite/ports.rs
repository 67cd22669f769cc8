//! When a VM's host ports open: with its guest's readiness. Until then clients are refused at once.

use crate::harness::{Image, Node, finish, free_port, get, microvm, nanos, rootfs, until, wait};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What became of connections to a port.
#[derive(Debug, Default)]
struct Seen {
    refused: usize,
    answered: usize,
    /// Accepted, and closed or reset before an answer came.
    cut: usize,
    /// Accepted, and no answer in two seconds.
    hung: usize,
}

/// A client that asks without a pause, each time on a connection of its own.
struct Client {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

impl Client {
    fn begin(port: u16) -> Client {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                let mut seen = Seen::default();
                while !stop.load(Ordering::Relaxed) {
                    match ask(port) {
                        Ok(0) => seen.cut += 1,
                        Ok(_) => seen.answered += 1,
                        Err(e) if e.kind() == ErrorKind::ConnectionRefused => seen.refused += 1,
                        Err(e) if e.kind() == ErrorKind::WouldBlock => seen.hung += 1,
                        Err(_) => seen.cut += 1,
                    }
                }
                seen
            }
        });
        Client { stop, thread }
    }

    fn end(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn ask(port: u16) -> std::io::Result<usize> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    stream.read_to_end(&mut Vec::new())
}

fn is_refused(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused)
}

fn kill(pid: i32) {
    assert!(pid > 0);
    // SAFETY: a plain system call.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// Defines demo/web, a unikernel on `ports`.
fn define(node: &Node, image: &Image, ports: &[&str], more: &str) {
    let text = format!(
        "name = \"demo\"\n[[components]]\nname = \"web\"\nruntime = \"unikernel\"\ndisk = \"{}\"\nkernel = \"{}\"\n\
         memory_mb = 128\nports = {ports:?}\nstop_timeout = \"5s\"\n{more}\n",
        image.disk, image.kernel
    );
    node.define("demo", &text);
}

/// Waits until the guest runs and is not ready.
fn until_starting(node: &Node) {
    let state = node.run_dir("demo/web").join("state.json");
    until("starting", || state.exists() && node.state("demo/web")["phase"] == "starting");
}

#[test]
fn ports_of_a_starting_vm_are_refused_and_reserved() {
    let Some(image) = nanos("ports_of_a_starting_vm", &["--listen-delay", "1500", "--udp", "5353"]) else { return };
    let node = Node::new();
    let (port, udp) = (free_port(), free_port());
    let forwards = [format!("{port}:8080"), format!("{udp}:5353/udp")];
    define(&node, &image, &forwards.each_ref().map(String::as_str), "restart = \"on-failure\"");
    let client = Client::begin(port);
    let began = Instant::now();
    let run = node.command("mcp-run", &["--detach", "--wait", "demo"]).spawn().unwrap();
    until_starting(&node);
    assert!(is_refused(port));
    assert_eq!(TcpListener::bind(("127.0.0.1", port)).unwrap_err().kind(), ErrorKind::AddrInUse);
    assert_eq!(UdpSocket::bind(("127.0.0.1", udp)).unwrap_err().kind(), ErrorKind::AddrInUse);
    let told = node.mcp("mcp-health", &["demo"]).expect(1);
    assert!(told.out.contains("by the port forward but not by the guest"), "{told:#?}");
    wait(run, "mcp-run", began).expect(0);
    // Ready means that the very first request is answered.
    assert!(get(port, "/").is_some());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    until("the datagram comes back", || {
        socket.send_to(b"ping", ("127.0.0.1", udp)).unwrap();
        socket.recv(&mut [0; 16]).is_ok()
    });
    let seen = client.end();
    eprintln!("a start: {seen:?}");
    assert!(seen.refused > 0 && seen.hung == 0 && seen.cut == 0, "{seen:?}");
    // The same where its restart policy starts it again.
    let client = Client::begin(port);
    get(port, "/exit?code=3");
    until("restarted", || node.state("demo/web")["restarts"] == 1 && node.state("demo/web")["phase"] == "ready");
    assert!(get(port, "/").is_some());
    let seen = client.end();
    eprintln!("a restart: {seen:?}");
    assert!(seen.refused > 0 && seen.hung == 0, "{seen:?}");
    node.mcp("mcp-stop", &["demo"]).expect(0);
    assert!(is_refused(port));
}

#[test]
fn ports_of_a_starting_microvm_are_refused() {
    let node = Node::new();
    if !microvm("ports_of_a_starting_microvm", &node) {
        return;
    }
    let (port, rootfs) = (free_port(), rootfs(&node));
    let forward = format!("{port}:8080");
    let client = Client::begin(port);
    let first = ["--name", "demo", "--rootfs", &rootfs, "--port", &forward, "--memory", "128", "--detach", "--wait"];
    node.mcp("mcp-run-vm", &[&first[..], &["--", "/hello", "--listen-delay", "500"]].concat()).expect(0);
    assert!(get(port, "/").is_some());
    let seen = client.end();
    eprintln!("a microVM's start: {seen:?}");
    assert!(seen.refused > 0 && seen.hung == 0 && seen.cut == 0, "{seen:?}");
    node.mcp("mcp-stop", &["demo"]).expect(0);
}

#[test]
fn ports_of_a_vm_without_a_check_are_open_from_its_start() {
    let Some(image) = nanos("ports_of_a_vm_without_a_check", &["--listen-delay", "1000"]) else { return };
    let node = Node::new();
    let port = free_port();
    define(&node, &image, &[&format!("{port}:8080")], "[components.health]\nkind = \"none\"");
    node.mcp("mcp-run", &["--detach", "--wait", "demo"]).expect(0);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_ok());
    node.mcp("mcp-stop", &["demo"]).expect(0);
}

#[test]
fn ports_that_a_killed_supervisor_did_not_open_are_opened_by_the_next() {
    let Some(image) = nanos("ports_that_a_killed_supervisor", &["--listen-delay", "1500"]) else { return };
    let node = Node::new();
    let port = free_port();
    define(&node, &image, &[&format!("{port}:8080")], "");
    node.mcp("mcp-run", &["--detach", "demo"]).expect(0);
    kill(node.supervisor("demo/web"));
    assert!(is_refused(port));
    until("the guest listens", || node.console("demo/web").contains("hello: listening on 8080"));
    let told = node.mcp("mcp-health", &["demo"]).expect(1);
    assert!(told.out.contains("its ports open when its supervisor has found it ready"), "{told:#?}");
    assert!(is_refused(port));
    let qemu = node.qemu("demo/web");
    node.mcp("mcp-run", &["--detach", "--wait", "demo"]).expect(0);
    assert_eq!(node.qemu("demo/web"), qemu);
    assert!(get(port, "/").is_some());
    node.mcp("mcp-health", &["demo"]).expect(0);
    node.mcp("mcp-stop", &["demo"]).expect(0);
    // Another program has taken the port meanwhile.
    node.mcp("mcp-run", &["--detach", "demo"]).expect(0);
    kill(node.supervisor("demo/web"));
    let mut other = None;
    until("its supervisor is gone", || {
        other = TcpListener::bind(("127.0.0.1", port)).ok();
        other.is_some()
    });
    let answer = node.mcp("mcp-run", &["--detach", "--wait", "demo"]).expect(111);
    let reason = format!("its ports can't be opened: 127.0.0.1:{port}/tcp: taken by another program");
    assert!(answer.err.contains(&reason), "{answer:#?}");
    drop(other);
    assert_eq!(node.processes(), Vec::<String>::new());
}

#[test]
fn ports_are_opened_whenever_a_supervisor_was_killed() {
    let Some(image) = nanos("ports_are_opened_whenever", &[]) else { return };
    let node = Node::new();
    let port = free_port();
    define(&node, &image, &[&format!("{port}:8080")], "");
    let began = Instant::now();
    node.mcp("mcp-run", &["--detach", "--wait", "demo"]).expect(0);
    let whole = began.elapsed().max(Duration::from_millis(200));
    node.mcp("mcp-stop", &["demo"]).expect(0);
    for round in 0..12_u32 {
        node.mcp("mcp-run", &["--detach", "demo"]).expect(0);
        std::thread::sleep(whole * round / 14);
        kill(node.supervisor("demo/web"));
        let client = Client::begin(port);
        node.mcp("mcp-run", &["--detach", "--wait", "demo"]).expect(0);
        assert!(get(port, "/").is_some(), "round {round}");
        let seen = client.end();
        assert!(seen.hung == 0 && seen.cut == 0, "round {round}: {seen:?}");
        node.mcp("mcp-stop", &["demo"]).expect(0);
    }
}

#[test]
fn ports_are_opened_by_qemu_where_its_sockets_cannot_be_taken() {
    let Some(image) = nanos("ports_are_opened_by_qemu", &["--listen-delay", "300", "--udp", "5353"]) else { return };
    let node = Node::new();
    let (port, udp) = (free_port(), free_port());
    let forwards = [format!("{port}:8080"), format!("{udp}:5353/udp")];
    define(&node, &image, &forwards.each_ref().map(String::as_str), "");
    // QEMU is of another user, so that only this capability lets sockets be taken out of it.
    let without = |ours: Command| {
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set", "-sys_ptrace"]).arg(ours.get_program()).args(ours.get_args());
        command.envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
        command.stderr(std::process::Stdio::piped());
        command
    };
    let run = || finish(without(node.command("mcp-run", &["--detach", "--wait", "demo"])), "mcp-run").expect(0);
    let client = Client::begin(port);
    run();
    assert!(get(port, "/").is_some());
    let seen = client.end();
    eprintln!("without pidfd_getfd: {seen:?}");
    assert!(seen.refused > 0 && seen.hung == 0 && seen.cut == 0, "{seen:?}");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    until("the datagram comes back", || {
        socket.send_to(b"ping", ("127.0.0.1", udp)).unwrap();
        socket.recv(&mut [0; 16]).is_ok()
    });
    kill(node.supervisor("demo/web"));
    run();
    assert!(get(port, "/").is_some());
    node.mcp("mcp-stop", &["demo"]).expect(0);
}
