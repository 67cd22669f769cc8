//! `mcp-logs` of real containers.

use super::console::{Console, Following};
use crate::harness::{Node, Podman, until};
use nix::sys::signal::Signal;

/// A node whose component demo/web is a container that does this.
fn node_with(test: &str, args: &str, log: &str) -> Option<(Node, Podman)> {
    let node = Node::new();
    let podman = Podman::new(test, &node)?;
    node.configure(log);
    node.define(
        "demo",
        &format!(
            "name = \"demo\"\n[[components]]\nname = \"web\"\nimage = \"localhost/act:1\"\nnetwork = \"host\"\n\
             args = {args}\n"
        ),
    );
    Some((node, podman))
}

/// Has it run as a deploy has it: pulled, built, on record.
fn start(node: &Node, service: &str) {
    node.mcp("mcp-pull", &[service]).expect(0);
    node.mcp("mcp-build", &[service]).expect(0);
    node.mcp("mcp-record", &["--new", service]).expect(0);
    node.mcp("mcp-run", &["--detach", service]).expect(0);
}

fn has_said(node: &Node, text: &str) {
    until(&format!("the container says {text:?}"), || node.console("demo/web").contains(text));
}

#[test]
fn a_long_line_and_both_streams_of_a_real_container() {
    let test = "a_long_line_and_both_streams_of_a_real_container";
    let Some((node, _podman)) = node_with(test, "[\"long\", \"20000\"]", "") else { return };
    let mut vm = Console::new(node.root.join("log/demo/vm/a"));
    vm.write_now("before\n");
    start(&node, "demo");
    has_said(&node, "act: done\n");
    assert_eq!(node.console("demo/web"), format!("act: long\n{}\nact: done\n", "x".repeat(20_000)));
    let last = node.mcp("mcp-logs", &["-n", "2", "demo/web"]).expect(0).out;
    assert_eq!(last.len(), 20_001 + "act: done\n".len());
    // Beside a VM's console by time.
    vm.write_now("after\n");
    let both = node.mcp("mcp-logs", &["demo"]).expect(0).out;
    let shown: Vec<&str> = both.lines().map(|l| &l[..l.len().min(20)]).collect();
    assert_eq!(
        shown,
        [
            "demo/vm  | before",
            "demo/web | act: long",
            "demo/web | xxxxxxxxx",
            "demo/web | act: done",
            "demo/vm  | after"
        ]
    );
    node.mcp("mcp-stop", &["demo/web"]).expect(0);

    node.define(
        "two",
        "name = \"two\"\n[[components]]\nname = \"two\"\nimage = \"localhost/act:1\"\nnetwork = \"host\"\nargs = [\"both\"]\n",
    );
    start(&node, "two");
    until("both lines are there", || node.console("two").lines().count() == 3);
    let json = node.mcp("mcp-logs", &["--json", "two"]).expect(0).out;
    let mut lines: Vec<(String, String)> = json
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|v| (v["stream"].as_str().unwrap().to_string(), v["line"].as_str().unwrap().to_string()))
        .collect();
    // conmon reads two pipes: which one first is its own affair.
    lines.sort();
    let own = |(stream, line): (&str, &str)| (stream.to_string(), line.to_string());
    assert_eq!(lines, [("stderr", "to stderr"), ("stdout", "act: both"), ("stdout", "to stdout")].map(own));
    node.mcp("mcp-stop", &["two"]).expect(0);
}

#[test]
fn a_real_container_that_writes_much_is_rotated_and_nothing_is_lost() {
    let test = "a_real_container_that_writes_much_is_rotated_and_nothing_is_lost";
    let log = "[log]\nmax_size = \"512K\"\nkeep = 200\n";
    let Some((node, _podman)) = node_with(test, "[\"lines\", \"100000\"]", log) else { return };
    let mut following = Following::of(node.command("mcp-logs", &["-f", "-n", "all", "demo/web"]));
    start(&node, "demo");
    let said = following.until(|said| said.ends_with(b"act: done\n"));
    let want: String = (1..=100_000).map(|i| format!("line {i} of many\n")).collect();
    let want = format!("act: lines\n{want}act: done\n");
    let differs =
        |said: &str| said.lines().zip(want.lines()).find(|(a, b)| a != b).map(|(a, b)| format!("{a:?}, not {b:?}"));
    assert!(said == want, "followed: {:?}", differs(&said));
    let all = node.console("demo/web");
    assert!(all == want, "shown: {:?}", differs(&all));
    let files = std::fs::read_dir(node.root.join("log/demo/web/c")).unwrap().flatten();
    let rotated = files.filter(|f| f.file_name().to_string_lossy().starts_with("console.log.0")).count();
    assert!(rotated >= 3, "rotated {rotated} times");
    let (_, err) = following.end(Signal::SIGTERM);
    assert_eq!(err, "");
    node.mcp("mcp-stop", &["demo/web"]).expect(0);
}
