//! `mcp-health --downtime`, and mcp-health while one VM takes another's place.

use crate::harness::{Image, Node, finish, free_port, nanos, wait};
use crate::tree::Tree;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const HEALTH: &str = env!("CARGO_BIN_EXE_mcp-health");

fn define(node: &Node, image: &Image, port: u16, more: &str) {
    let text = format!(
        "name = \"demo\"\n[[components]]\nname = \"web\"\nruntime = \"unikernel\"\ndisk = \"{}\"\nkernel = \"{}\"\n\
         memory_mb = 128\nports = [\"127.0.0.1:{port}:8080\"]\nstop_timeout = \"5s\"\n{more}\n",
        image.disk, image.kernel
    );
    node.define("demo", &text);
}

fn begin(node: &Node, args: &[&str]) -> Child {
    node.command("mcp-health", &[&["--downtime"], args].concat()).stdin(Stdio::piped()).spawn().unwrap()
}

/// Ends the measure by closing its standard input: milliseconds, failed, asked.
fn end(mut child: Child) -> (f64, u64, u64) {
    drop(child.stdin.take());
    let answer = wait(child, "mcp-health --downtime --json", Instant::now()).expect(0);
    assert_eq!(answer.err, "");
    let told: serde_json::Value = serde_json::from_str(&answer.out).unwrap();
    let one = &told["targets"][0];
    assert_eq!((told["schema"].as_u64(), one["target"].as_str()), (Some(1), Some("demo/web")), "{told}");
    (one["longest_ms"].as_f64().unwrap(), one["failed"].as_u64().unwrap(), one["asked"].as_u64().unwrap())
}

#[test]
fn downtime_of_a_replace_in_place_is_none() {
    let Some(image) = nanos("downtime_of_a_replace", &[]) else { return };
    let node = Node::new();
    let port = free_port();
    for check in ["", "[components.health]\nkind = \"http\"\npath = \"/\""] {
        define(&node, &image, port, check);
        node.mcp("mcp-run", &["--detach", "--wait", "demo"]).expect(0);
        let measure = begin(&node, &["--json", "demo"]);
        for _ in 0..5 {
            node.mcp("mcp-run", &["--replace", "demo"]).expect(0);
        }
        let (longest, failed, asked) = end(measure);
        eprintln!("five replaces, {check:?}: longest {longest} ms without an answer, {failed} of {asked} failed");
        assert!(failed == 0 && asked > 50, "{failed} of {asked} failed, longest {longest} ms");
        // The guest boots beside, on a busy machine: a pause of the machine's is not ours.
        assert!(longest < 1000.0, "{longest} ms");
        node.mcp("mcp-stop", &["demo"]).expect(0);
    }
}

#[test]
fn downtime_of_a_stop_and_start_is_told() {
    let Some(image) = nanos("downtime_of_a_stop_and_start", &[]) else { return };
    let node = Node::new();
    let port = free_port();
    define(&node, &image, port, "root = \"persistent\"\nsettle = \"0s\"");
    node.mcp("mcp-run", &["--detach", "--wait", "demo"]).expect(0);
    let measure = begin(&node, &["--json", "demo"]);
    let before = node.state("demo/web")["ready_at"].as_str().unwrap().to_string();
    let began = Instant::now();
    node.mcp("mcp-run", &["--replace", "demo"]).expect(0);
    let whole = began.elapsed().as_secs_f64() * 1000.0;
    // The measure must have seen the new one before it ends.
    std::thread::sleep(Duration::from_millis(100));
    let (longest, failed, asked) = end(measure);
    let at = |key: &str| {
        let text = node.state("demo/web")[key].as_str().unwrap().to_string();
        mcp::sys::time::parse(&text).unwrap()
    };
    assert_ne!(node.state("demo/web")["ready_at"].as_str().unwrap(), before);
    let boot = at("ready_at").duration_since(at("started_at")).unwrap().as_secs_f64() * 1000.0;
    eprintln!(
        "stop and start: longest {longest} ms, boot {boot} ms, the whole replace {whole} ms; {failed} of {asked}"
    );
    assert!(failed > 0 && asked > failed, "{failed} of {asked} failed");
    assert!(longest > boot * 0.7 && longest < whole + 300.0, "{longest} ms, boot {boot} ms, whole {whole} ms");
    node.mcp("mcp-stop", &["demo"]).expect(0);
}

#[test]
fn health_is_never_bad_during_a_replace() {
    let Some(image) = nanos("health_is_never_bad", &[]) else { return };
    let node = Node::new();
    define(&node, &image, free_port(), "");
    node.mcp("mcp-run", &["--detach", "--wait", "demo"]).expect(0);
    let stop = AtomicBool::new(false);
    let counts = std::thread::scope(|scope| {
        let askers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut count = 0;
                    while !stop.load(Ordering::Relaxed) {
                        finish(node.command("mcp-health", &["demo"]), "mcp-health demo").expect(0);
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        let replaced: Vec<_> = (0..6).map(|_| node.mcp("mcp-run", &["--replace", "demo"]).code).collect();
        stop.store(true, Ordering::Relaxed);
        assert_eq!(replaced, [Some(0); 6]);
        askers.into_iter().map(|a| a.join().unwrap()).sum::<u32>()
    });
    assert!(counts > 10, "asked {counts} times");
    node.mcp("mcp-stop", &["demo"]).expect(0);
}

#[test]
fn downtime_ends_with_input_or_signal() {
    let tree = Tree::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    for ends_by in ["input", "term", "int"] {
        let mut command = tree.command(HEALTH);
        command.args(["--downtime", &url, "nobody"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        for _ in 0..3 {
            listener.accept().unwrap();
        }
        child.stdin.as_mut().unwrap().write_all(b"this is no end\n").unwrap();
        listener.accept().unwrap();
        let signal = match ends_by {
            "input" => None,
            "term" => Some(libc::SIGTERM),
            _ => Some(libc::SIGINT),
        };
        match signal {
            None => drop(child.stdin.take()),
            // SAFETY: a plain system call.
            Some(signal) => assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0),
        }
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let (head, rest) = line.split_once(" ms (").unwrap();
        assert!(head.starts_with(&format!("{url} longest time without an answer: ")), "{line}");
        assert!(rest.starts_with("0 of ") && rest.ends_with(" asked failed)\n"), "{line}");
        let mut complaint = String::new();
        child.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
        assert!(complaint.contains("nobody"), "{complaint}");
        // The other one can't be asked at all.
        assert_eq!(child.wait().unwrap().code(), Some(100), "{ends_by}");
    }
    for args in [&["--downtime", "--wait", "1s", &url][..], &["--downtime", "--nagios", &url], &["--downtime"]] {
        assert_eq!(tree.run(HEALTH, args).code, Some(2), "{args:?}");
    }
}
