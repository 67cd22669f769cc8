//! A new version counts when it is still up and healthy after its settle time: however it is started, whatever runs it.

use crate::harness::{ACT, Answer, Image, Node, Podman, finish, free_port, get, nanos, until, wait};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Listens as soon as it runs, and ends soon after that.
const BRIEF: &[&str] = &["--exit-after", "2000", "--exit-code", "3"];

fn define(node: &Node, image: &Image, port: u16, more: &str) {
    let text = format!(
        "name = \"demo\"\n[[components]]\nname = \"web\"\nruntime = \"unikernel\"\ndisk = \"{}\"\nkernel = \"{}\"\n\
         memory_mb = 128\nports = [\"127.0.0.1:{port}:8080\"]\nstop_timeout = \"5s\"\n{more}\n",
        image.disk, image.kernel
    );
    node.define("demo", &text);
}

/// What mcp-deploy does for one that does not run.
fn start(node: &Node) -> Answer {
    node.mcp("mcp-record", &["--new", "demo"]).expect(0);
    node.mcp("mcp-run", &["--by-init", "--wait", "demo"])
}

fn uuid(node: &Node) -> String {
    node.state("demo/web")["uuid"].as_str().unwrap().to_string()
}

#[test]
fn settle_time_of_a_first_start_finds_one_that_ends_soon() {
    let Some(image) = nanos("settle_time_of_a_first_start", BRIEF) else { return };
    for health in ["", "[components.health]\nkind = \"none\""] {
        let node = Node::new();
        define(&node, &image, free_port(), &format!("settle = \"9s\"\n{health}"));
        let answer = start(&node);
        assert_ne!(answer.code, Some(0), "{answer:#?}");
        assert!(answer.err.contains("was healthy, and ended within its settle time"), "{answer:#?}");
        assert!(answer.err.contains("hello: listening on 8080\n"), "{answer:#?}");
        assert_eq!(node.processes(), Vec::<String>::new());
        // Without a settle time the same start succeeds.
        define(&node, &image, free_port(), &format!("settle = \"0s\"\n{health}"));
        start(&node).expect(0);
    }
}

#[test]
fn settle_time_counts_for_what_is_deployed_again_or_without_roll_back() {
    let Some(image) = nanos("settle_time_counts_for_what_is_deployed_again", BRIEF) else { return };
    for again in [&["--new", "--settle", "demo"][..], &["--new", "--now", "--settle", "demo"]] {
        let node = Node::new();
        define(&node, &image, free_port(), "settle = \"0s\"");
        start(&node).expect(0);
        node.mcp("mcp-stop", &["demo"]);
        define(&node, &image, free_port(), "settle = \"9s\"");
        for word in ["new", "unchanged"] {
            let recorded = node.mcp("mcp-record", again).expect(0).out;
            assert_eq!(recorded, format!("demo/web {word}\n"));
            let answer = node.mcp("mcp-run", &["--by-init", "--wait", "demo"]);
            assert_ne!(answer.code, Some(0), "{answer:#?}");
            assert!(answer.err.contains("was healthy, and ended within its settle time"), "{answer:#?}");
            if !again.contains(&"--now") {
                break;
            }
        }
    }
}

#[test]
fn settle_time_of_a_replace_passes_while_the_old_version_serves() {
    let Some(image) = nanos("settle_time_of_a_replace", &[]) else { return };
    let Some(brief) = nanos("settle_time_of_a_replace", BRIEF) else { return };
    let node = Node::new();
    let port = free_port();
    define(&node, &image, port, "");
    node.mcp("mcp-run", &["--detach", "--wait", "demo"]).expect(0);
    let before = uuid(&node);
    define(&node, &brief, port, "settle = \"9s\"");
    let stop = AtomicBool::new(false);
    let (answer, refused) = std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut refused = 0;
            while !stop.load(Ordering::Relaxed) {
                refused += usize::from(get(port, "/").is_none());
            }
            refused
        });
        let answer = node.mcp("mcp-run", &["--replace", "demo"]);
        stop.store(true, Ordering::Relaxed);
        (answer.expect(1), client.join().unwrap())
    });
    assert!(answer.err.contains("was healthy, and ended within its settle time"), "{answer:#?}");
    assert!(answer.err.contains("hello: exiting with 3"), "{answer:#?}");
    assert!(answer.err.contains("the old version serves on"), "{answer:#?}");
    assert_eq!((uuid(&node), refused), (before, 0));
    // A version that stays up takes its place after that time, not before.
    define(&node, &image, port, "settle = \"1500ms\"");
    let answer = node.mcp("mcp-run", &["--replace", "demo"]).expect(0);
    assert!(answer.took.as_millis() >= 1500, "{answer:#?}");
    node.mcp("mcp-stop", &["demo"]).expect(0);
}

#[test]
fn settle_time_of_a_stop_and_start_brings_the_old_version_back() {
    let Some(image) = nanos("settle_time_of_a_stop_and_start", &[]) else { return };
    let node = Node::new();
    let port = free_port();
    define(&node, &image, port, "root = \"persistent\"");
    node.mcp("mcp-run", &["--detach", "--wait", "demo"]).expect(0);
    let before = uuid(&node);
    define(&node, &image, port, "root = \"persistent\"\nsettle = \"9s\"");
    let began = Instant::now();
    let replace = node.command("mcp-run", &["--replace", "demo"]).spawn().unwrap();
    until("the new one serves", || uuid(&node) != before && get(port, "/exit?code=3").is_some());
    let answer = wait(replace, "mcp-run --replace", began).expect(1);
    assert!(answer.err.contains("was healthy, and ended within its settle time"), "{answer:#?}");
    assert!(answer.err.contains("hello: exiting with 3"), "{answer:#?}");
    assert!(answer.err.contains("the old version is back"), "{answer:#?}");
    assert!(get(port, "/").is_some());
    node.mcp("mcp-stop", &["demo"]).expect(0);
}

#[test]
fn settle_time_ends_with_a_check_and_clients_are_served_meanwhile() {
    let Some(image) = nanos("settle_time_ends_with_a_check", &[]) else { return };
    let node = Node::new();
    let port = free_port();
    let health = "[components.health]\nkind = \"http\"\npath = \"/health\"\ninterval = \"50ms\"\ntimeout = \"5s\"";
    define(&node, &image, port, &format!("settle = \"3s\"\n{health}"));
    node.mcp("mcp-record", &["--new", "demo"]).expect(0);
    let began = Instant::now();
    let run = node.command("mcp-run", &["--by-init", "--wait", "demo"]).spawn().unwrap();
    until("served", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    assert_eq!(node.state("demo/web")["phase"], "starting");
    assert!(get(port, "/unhealthy").is_some());
    let answer = wait(run, "mcp-run", began);
    assert_ne!(answer.code, Some(0), "{answer:#?}");
    let told = "was healthy, and is not after its settle time of 3s: HTTP status 503";
    assert!(answer.err.contains(told), "{answer:#?}");
    assert_eq!(node.processes(), Vec::<String>::new());
}

#[test]
fn settle_time_of_a_container() {
    let node = Node::new();
    let Some(_podman) = Podman::new("settle_time_of_a_container", &node) else { return };
    let port = free_port();
    let define = |args: &[&str]| {
        let text = format!(
            "name = \"demo\"\n[[components]]\nname = \"web\"\nimage = \"{ACT}\"\nargs = {args:?}\nnetwork = \"host\"\n\
             ports = [\"{port}:{port}\"]\nstop_timeout = \"5s\"\nsettle = \"9s\"\n"
        );
        node.define("demo", &text);
    };
    let brief = ["brief", &port.to_string(), "3"].map(str::to_string);
    let serve = ["serve", &port.to_string()].map(str::to_string);
    define(&brief.each_ref().map(String::as_str));
    let answer = start(&node);
    assert_ne!(answer.code, Some(0), "{answer:#?}");
    assert!(answer.err.contains("was healthy, and ended within its settle time"), "{answer:#?}");
    assert!(answer.err.contains("act: it was brief"), "{answer:#?}");
    define(&serve.each_ref().map(String::as_str));
    start(&node).expect(0);
    define(&brief.each_ref().map(String::as_str));
    node.mcp("mcp-record", &["--new", "demo"]).expect(0);
    let answer = finish(node.command("mcp-run", &["--replace", "demo"]), "mcp-run --replace").expect(1);
    assert!(answer.err.contains("was healthy, and ended within its settle time"), "{answer:#?}");
    assert!(answer.err.contains("the old version is back"), "{answer:#?}");
    until("the old version serves", || get(port, "/").is_some());
    node.mcp("mcp-stop", &["demo"]).expect(0);
}

#[test]
fn a_replace_that_comes_during_the_settle_time_is_answered_by_the_new_version() {
    let Some(image) = nanos("a_replace_that_comes_during_the_settle_time", &[]) else { return };
    let Some(brief) = nanos("a_replace_that_comes_during_the_settle_time", BRIEF) else { return };
    let node = Node::new();
    let port = free_port();
    define(&node, &image, port, "settle = \"3s\"");
    node.mcp("mcp-record", &["--new", "demo"]).expect(0);
    let began = Instant::now();
    let run = node.command("mcp-run", &["--by-init", "--wait", "demo"]).spawn().unwrap();
    until("it settles", || get(port, "/").is_some());
    define(&node, &brief, port, "settle = \"9s\"");
    node.mcp("mcp-record", &["--new", "demo"]).expect(0);
    let answer = node.mcp("mcp-run", &["--replace", "demo"]).expect(1);
    assert!(answer.err.contains("was healthy, and ended within its settle time"), "{answer:#?}");
    wait(run, "mcp-run", began).expect(0);
    // The version that serves is the one that a start takes, though its trial was over before it was ready.
    assert!(get(port, "/").is_some());
    let record = node.mcp("mcp-record", &["demo"]).expect(0).out;
    assert!(record.contains("\n  current "), "{record}");
    node.mcp("mcp-stop", &["demo"]).expect(0);
}
