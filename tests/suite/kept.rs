//! What runs is not taken down by a change that can't run. What can be checked is checked before it is stopped; where the
//! rest turns out only then, it is back.

use crate::harness::{ACT, Node, Podman, free_port, get, microvm, rootfs};
use std::net::TcpListener;

/// A change that can't run.
struct Bad<'a> {
    /// Lines of the definition, instead of those with the same keys.
    lines: &'a str,
    /// What is said about it.
    reason: &'a str,
    /// Whether that is known before anything is stopped.
    foreseen: bool,
}

/// `good` with the lines of `bad` instead of those that have their keys.
fn changed(good: &str, bad: &str) -> String {
    let key = |line: &str| line.split('=').next().unwrap_or_default().trim().to_string();
    let keys: Vec<_> = bad.lines().map(key).collect();
    let kept = good.lines().filter(|line| !keys.contains(&key(line)));
    kept.chain(bad.lines()).collect::<Vec<_>>().join("\n")
}

fn define(node: &Node, lines: &str) {
    node.define("shop", &format!("name = \"shop\"\n[[components]]\nname = \"web\"\n{lines}\n"));
}

/// Deploys each of `bad` over `good`, which serves `port` before and after.
fn all_are_survived(node: &Node, good: &str, port: u16, bad: &[Bad<'_>]) {
    define(node, good);
    node.mcp("mcp-record", &["--new", "--now", "shop"]).expect(0);
    node.mcp("mcp-run", &["--detach", "--wait", "shop"]).expect(0);
    for Bad { lines, reason, foreseen } in bad {
        let before = node.state("shop/web")["uuid"].clone();
        define(node, &changed(good, lines));
        node.mcp("mcp-record", &["--new", "shop"]).expect(0);
        let answer = node.mcp("mcp-run", &["--replace", "shop"]);
        assert!(![None, Some(0)].contains(&answer.code), "{lines}: {answer:#?}");
        assert!(answer.err.contains(reason), "{lines}: {answer:#?}");
        assert!(get(port, "/").is_some(), "{lines}: {answer:#?}");
        let serves_on = node.state("shop/web")["uuid"] == before;
        assert_eq!(serves_on, *foreseen, "{lines}: {answer:#?}");
        let words = if *foreseen { "the old version serves on" } else { "the old version is back" };
        assert!(answer.err.contains(words), "{lines}: {answer:#?}");
    }
    node.mcp("mcp-stop", &["shop"]).expect(0);
}

#[test]
fn kept_is_a_container_whose_change_can_not_run() {
    let node = Node::new();
    let Some(_podman) = Podman::new("kept_is_a_container", &node) else { return };
    let (port, taken) = (free_port(), TcpListener::bind("127.0.0.1:0").unwrap());
    let good = format!(
        "image = \"{ACT}\"\nargs = [\"serve\", \"{port}\"]\nnetwork = \"host\"\nports = [\"127.0.0.1:{port}:{port}\"]\n\
         start_timeout = \"3s\"\nstop_timeout = \"2s\""
    );
    let taken = format!("ports = [\"127.0.0.1:{}:80\"]\nnetwork = \"bridge\"", taken.local_addr().unwrap().port());
    let bad = [
        Bad { lines: "env_file = \"/nothing/env\"", reason: "/nothing/env", foreseen: true },
        Bad {
            lines: "volumes = [\"/nothing/here:/data\"]",
            reason: "no such file or directory on this node",
            foreseen: true,
        },
        Bad { lines: &taken, reason: "taken by another program", foreseen: false },
        Bad { lines: "network = \"nothing\"\nports = []\nargs = [\"sleep\"]", reason: "nothing", foreseen: false },
        Bad { lines: "user = \"nobody-here\"", reason: "nobody-here", foreseen: false },
        Bad { lines: "args = [\"exit\", \"3\"]", reason: "program exited with 3", foreseen: false },
        Bad { lines: "args = [\"sleep\"]", reason: "not healthy after start_timeout (3s): ", foreseen: false },
    ];
    all_are_survived(&node, &good, port, &bad);
}

#[test]
fn kept_is_a_microvm_whose_change_can_not_run() {
    let node = Node::new();
    if !microvm("kept_is_a_microvm", &node) {
        return;
    }
    let (port, rootfs) = (free_port(), rootfs(&node));
    let good = format!(
        "runtime = \"microvm\"\nrootfs = \"{rootfs}\"\nargs = [\"/hello\"]\nmemory_mb = 128\nvolumes = [\"data:/data:16M\"]\n\
         ports = [\"127.0.0.1:{port}:8080\"]\nstart_timeout = \"20s\"\nstop_timeout = \"2s\""
    );
    let bad = [
        Bad { lines: "env_file = \"/nothing/env\"", reason: "/nothing/env", foreseen: true },
        Bad { lines: "memory_mb = 1000000", reason: "more than this node has", foreseen: true },
        Bad { lines: "rootfs = \"/nothing/here\"", reason: "/nothing/here", foreseen: true },
        Bad { lines: "args = [\"/nothing\"]", reason: "/nothing", foreseen: false },
        Bad {
            lines: "args = [\"/hello\", \"--exit-after\", \"1\", \"--exit-code\", \"3\"]",
            reason: "exited with 3",
            foreseen: false,
        },
        Bad {
            lines: "args = [\"/hello\", \"--no-listen\"]\nstart_timeout = \"12s\"",
            reason: "it refuses on port 8080",
            foreseen: false,
        },
    ];
    all_are_survived(&node, &good, port, &bad);
}

/// As mcp deploy --no-rollback does.
fn is_left_running(node: &Node, lines: &str, port: u16) {
    define(node, &format!("{lines}\n[components.health]\nkind = \"http\"\npath = \"/no/such\"\n"));
    node.mcp("mcp-record", &["--new", "--now", "--settle", "--leave", "shop"]).expect(0);
    let answer = node.mcp("mcp-run", &["--by-init", "--wait", "shop"]).expect(1);
    assert!(answer.err.contains("not healthy after start_timeout"), "{answer:#?}");
    assert!(get(port, "/").is_some(), "{answer:#?}");
    let told = node.mcp("mcp-status", &["-v", "shop"]).out;
    assert!(told.contains("/no/such: HTTP status 404") && node.supervisor("shop/web") > 0, "{told}");
    node.mcp("mcp-stop", &["shop"]).expect(0);
    assert_eq!(node.processes(), Vec::<String>::new());
}

#[test]
fn kept_is_what_is_not_healthy_where_nothing_shall_be_rolled_back() {
    let test = "kept_is_what_is_not_healthy";
    let (port, node) = (free_port(), Node::new());
    if microvm(test, &node) {
        let lines = format!(
            "runtime = \"microvm\"\nrootfs = \"{}\"\nargs = [\"/hello\"]\nmemory_mb = 128\nstart_timeout = \"6s\"\n\
             ports = [\"127.0.0.1:{port}:8080\"]\nstop_timeout = \"2s\"",
            rootfs(&node)
        );
        is_left_running(&node, &lines, port);
    }
    let (port, node) = (free_port(), Node::new());
    if let Some(_podman) = Podman::new(test, &node) {
        let lines = format!(
            "image = \"{ACT}\"\nargs = [\"serve\", \"{port}\"]\nnetwork = \"host\"\nports = [\"127.0.0.1:{port}:{port}\"]\n\
             start_timeout = \"2s\"\nstop_timeout = \"2s\""
        );
        is_left_running(&node, &lines, port);
    }
}
