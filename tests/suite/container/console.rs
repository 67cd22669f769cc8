//! What a container writes: all of it, in order, whatever is rotated meanwhile.

use super::services::{deploy, node, service, signal};
use crate::harness::{find, until_within};
use std::time::Duration;

#[test]
fn a_supervisor_killed_while_it_rotates_loses_nothing() {
    let Some((node, _podman)) = node("a_supervisor_killed_while_it_rotates_loses_nothing") else { return };
    node.configure("[log]\nmax_size = \"8K\"\nkeep = 1000\n");
    node.define("tick", &service("tick", "args = [\"tick\"]\nstop_timeout = \"2s\"\n"));
    deploy(&node, "tick");
    node.mcp("mcp-run", &["--detach", "--wait", "tick"]).expect(0);
    for round in 1..=6 {
        let ticks = || node.console("tick/tick").lines().count();
        let before = ticks();
        until_within(Duration::from_secs(60), "it goes on", || ticks() > before + 60);
        signal(node.supervisor("tick/tick"), libc::SIGKILL);
        node.mcp("mcp-run", &["--detach", "--wait", "tick"]).expect(0);
        assert_eq!(node.state("tick/tick")["restarts"], 0, "round {round}");
    }
    node.mcp("mcp-stop", &["tick"]).expect(0);
    let text = node.console("tick/tick");
    let wrong = text.lines().skip(1).enumerate().find(|(n, line)| *line != format!("tick {}", n + 1));
    assert!(wrong.is_none_or(|(_, line)| line == "act: SIGTERM"), "{wrong:?} of {} lines", text.lines().count());
    let files = find(&node.root.join("log"), &|n| n.starts_with("console.log."));
    assert!(!files.is_empty(), "not rotated");
}

#[test]
fn a_very_long_line_and_both_streams_are_whole() {
    let Some((node, _podman)) = node("a_very_long_line_and_both_streams_are_whole") else { return };
    node.define("long", &service("long", "args = [\"long\", \"3000000\"]\nstop_timeout = \"2s\"\n"));
    node.define("both", &service("both", "args = [\"both\"]\nstop_timeout = \"2s\"\n"));
    deploy(&node, "long");
    deploy(&node, "both");
    node.mcp("mcp-run", &["--detach", "--wait", "long", "both"]).expect(0);
    until_within(Duration::from_secs(30), "all is written", || node.console("long/long").ends_with("act: done\n"));
    assert_eq!(node.console("long/long"), format!("act: long\n{}\nact: done\n", "x".repeat(3_000_000)));
    until_within(Duration::from_secs(30), "both are written", || node.console("both/both").lines().count() == 3);
    let text = node.console("both/both");
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["act: both", "to stderr", "to stdout"]);
    node.mcp("mcp-stop", &["long", "both"]).expect(0);
}
