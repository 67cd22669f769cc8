//! Supervisors, conmons and containers that go without a word.

use super::{alive, deploy, node, service, signal};
use crate::harness::{Node, until, wait};
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

/// A job that ends with 5 when the file is there which this returns.
fn job(node: &Node, lines: &str) -> PathBuf {
    let dir = node.root.join("shared");
    fs::create_dir_all(&dir).unwrap();
    let lines = format!(
        "args = [\"when\", \"/shared/end\", \"5\"]\nvolumes = [\"{}:/shared\"]\nstop_timeout = \"1s\"\n{lines}",
        dir.display()
    );
    node.define("job", &service("job", &lines));
    deploy(node, "job");
    dir.join("end")
}

#[test]
fn a_supervisor_killed_is_taken_over_from_with_the_exit_code() {
    let Some((node, podman)) = node("a_supervisor_killed_is_taken_over_from_with_the_exit_code") else { return };
    let end = job(&node, "");
    node.mcp("mcp-run", &["--detach", "--wait", "job"]).expect(0);
    let before = podman.inspect(&podman.names()[0])["Id"].clone();
    let supervisor = node.supervisor("job/job");
    signal(supervisor, libc::SIGKILL);
    until("the supervisor is dead", || !alive(supervisor));
    assert_eq!(podman.inspect(&podman.names()[0])["State"]["Status"], "running");
    let (began, child) = (Instant::now(), node.command("mcp-run", &["job"]).spawn().unwrap());
    until("it is adopted", || {
        let events = node.state("job/job")["events"].to_string();
        events.contains("adopted") && node.supervisor("job/job") == child.id() as i32
    });
    assert_eq!(podman.inspect(&podman.names()[0])["Id"], before, "another container");
    fs::write(end, "").unwrap();
    wait(child, "mcp-run job", began).expect(5);
    assert_eq!(podman.names(), Vec::<String>::new());
}

#[test]
fn without_a_supervisor_it_can_be_stopped() {
    let Some((node, podman)) = node("without_a_supervisor_it_can_be_stopped") else { return };
    job(&node, "");
    node.mcp("mcp-run", &["--detach", "--wait", "job"]).expect(0);
    let supervisor = node.supervisor("job/job");
    signal(supervisor, libc::SIGKILL);
    until("the supervisor is dead", || !alive(supervisor));
    let stopped = node.mcp("mcp-stop", &["job"]).expect(0);
    assert!(stopped.out.starts_with("job/job: stopped"), "{stopped:#?}");
    assert_eq!(podman.names(), Vec::<String>::new());
    node.mcp("mcp-stop", &["job"]).expect(1);
}

#[test]
fn an_end_that_nobody_saw_is_known_when_it_is_started_again() {
    let Some((node, podman)) = node("an_end_that_nobody_saw_is_known_when_it_is_started_again") else { return };
    let end = job(&node, "");
    node.mcp("mcp-run", &["--detach", "--wait", "job"]).expect(0);
    let before = podman.inspect(&podman.names()[0])["Id"].clone();
    let supervisor = node.supervisor("job/job");
    signal(supervisor, libc::SIGKILL);
    until("the supervisor is dead", || !alive(supervisor));
    fs::write(&end, "").unwrap();
    until("it has ended", || podman.ask(&["ps", "--quiet"]).is_empty());
    fs::remove_file(&end).unwrap();
    node.mcp("mcp-run", &["--detach", "--wait", "job"]).expect(0);
    assert_ne!(podman.inspect(&podman.names()[0])["Id"], before);
    assert_eq!(podman.names().len(), 1);
    node.mcp("mcp-stop", &["job"]).expect(0);
}

#[test]
fn a_conmon_killed_ends_it_and_that_is_told() {
    let Some((node, podman)) = node("a_conmon_killed_ends_it_and_that_is_told") else { return };
    job(&node, "");
    let (began, child) = (Instant::now(), node.command("mcp-run", &["job"]).spawn().unwrap());
    until("it runs", || podman.ask(&["ps", "--quiet"]).lines().count() == 1);
    until("it is ready", || {
        node.run_dir("job/job").join("state.json").exists() && node.state("job/job")["phase"] == "ready"
    });
    let about = podman.inspect(&podman.names()[0]);
    signal(podman.conmon(&podman.names()[0]), libc::SIGKILL);
    wait(child, "mcp-run job", began).expect(111);
    let end = &node.state("job/job")["end"];
    assert_eq!(end["by"], "unknown", "{end:#}");
    assert_eq!(end["reason"], "its conmon was killed, so it was too");
    let first = about["State"]["Pid"].as_i64().unwrap() as i32;
    assert!(!alive(first), "its program runs on");
    assert_eq!(podman.names(), Vec::<String>::new());
}

#[test]
fn one_removed_with_podman_is_an_operators_end() {
    let Some((node, podman)) = node("one_removed_with_podman_is_an_operators_end") else { return };
    job(&node, "restart = \"always\"\n");
    node.mcp("mcp-run", &["--detach", "--wait", "job"]).expect(0);
    let supervisor = node.supervisor("job/job");
    podman.ask(&["rm", "--force", "--time", "0", &podman.names()[0]]);
    until("the end is written", || node.state("job/job")["end"].is_object());
    let end = &node.state("job/job")["end"];
    assert_eq!(
        (end["by"].as_str(), end["reason"].as_str()),
        (Some("operator"), Some("removed with podman")),
        "{end:#}"
    );
    until("the supervisor has ended", || !alive(supervisor));
    assert_eq!(podman.names(), Vec::<String>::new(), "started again");
}

#[test]
fn what_dies_is_started_again_by_its_policy() {
    let Some((node, podman)) = node("what_dies_is_started_again_by_its_policy") else { return };
    job(&node, "restart = \"on-failure\"\n");
    node.mcp("mcp-run", &["--detach", "--wait", "job"]).expect(0);
    let first = podman.inspect(&podman.names()[0])["State"]["Pid"].as_i64().unwrap() as i32;
    signal(first, libc::SIGKILL);
    until("it was started again", || {
        let state = node.state("job/job");
        state["restarts"] == 1 && state["phase"] == "ready"
    });
    assert_eq!(podman.names().len(), 1);
    node.mcp("mcp-stop", &["job"]).expect(0);
}
