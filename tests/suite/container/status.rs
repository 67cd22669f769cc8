//! What mcp-status says of containers that really run.

use super::{ID, define, deploy, kill_supervisor, node};
use crate::harness::{ACT, Answer, FakePodman, Node, free_port, until};
use serde_json::Value;

/// State and drift of the row of `name`, and the exit code.
fn told(node: &Node, service: &str, name: &str) -> (String, String, Option<i32>) {
    let answer = node.mcp("mcp-status", &[]);
    let mut rows = answer.out.lines().map(|l| l.split_whitespace().collect::<Vec<_>>());
    let row = rows.find(|r| r[0] == service && r[1] == name).unwrap_or_else(|| panic!("no {name} in {answer:#?}"));
    (row[3].to_string(), row[row.len() - 1].to_string(), answer.code)
}

fn so(state: &str, drift: &str, code: i32) -> (String, String, Option<i32>) {
    (state.into(), drift.into(), Some(code))
}

fn json(answer: &Answer) -> Value {
    serde_json::from_str(&answer.out).unwrap_or_else(|e| panic!("{e}: {answer:#?}"))
}

#[test]
fn status_follows_a_container_through_its_life() {
    let port = free_port().to_string();
    let more = format!("ports = [\"{port}:{port}\"]");
    let args = ["serve", port.as_str()];
    let Some((node, podman)) = node("status_follows_a_container", &args, &more) else { return };
    let web = || told(&node, "shop", "web");
    assert_eq!(web(), so("absent", "missing", 1));
    node.mcp("mcp-run", &["--detach", "--wait", ID]).expect(0);
    assert_eq!(web(), so("running", "-", 0));
    let document = json(&node.mcp("mcp-status", &["--json", "--health", ID]).expect(0));
    let item = &document["components"][0];
    assert_eq!((&item["health"]["verdict"], &item["alive"]), (&"healthy".into(), &true.into()));
    let name = item["container"]["name"].as_str().unwrap().to_string();
    assert_eq!(podman.names(), [name.as_str()]);
    assert_eq!(item["container"]["record"], item["digests"]["running"]);
    assert_eq!(item["ports"][0]["host"].to_string(), port);
    // Another definition, another image, none at all.
    define(&node, &["serve", &port, "0"], &more);
    assert_eq!(web(), so("running", "config", 1));
    std::fs::remove_file(node.root.join("etc/services/shop.toml")).unwrap();
    assert_eq!(web(), so("running", "orphan", 1));
    define(&node, &args, &more);
    kill_supervisor(&node);
    assert_eq!(web(), so("running", "unsupervised", 1));
    node.mcp("mcp-run", &["--detach", "--wait", ID]).expect(0);
    assert_eq!(web(), so("running", "-", 0));
    // Without our own files its labels tell all that counts.
    kill_supervisor(&node);
    std::fs::remove_dir_all(node.run_dir(ID)).unwrap();
    assert_eq!(web(), so("running", "unsupervised", 1));
    // It ends, and nobody of ours sees it.
    podman.ask(&["kill", &name]);
    until("podman has seen its end", || web().0 == "failed(137)");
    assert_eq!(web(), so("failed(137)", "missing", 1));
    podman.ask(&["rm", &name]);
    assert_eq!(web(), so("absent", "missing", 1));
}

#[test]
fn status_shows_the_containers_of_others() {
    let Some((node, podman)) = node("status_shows_the_containers_of_others", &["sleep"], "") else { return };
    let fake = FakePodman::new(&node);
    node.configure(&fake.config());
    node.mcp("mcp-stop", &[ID]);
    std::fs::remove_file(node.root.join("etc/services/shop.toml")).unwrap();
    node.mcp("mcp-rm", &[ID]).expect(0);
    let before = fake.calls().len();
    let asked = || fake.calls()[before..].to_vec();
    // The storage is there, with an image, and no container: podman is left alone.
    assert_eq!(node.mcp("mcp-status", &[]).expect(0).out.lines().count(), 1);
    assert_eq!(asked(), [""; 0]);
    podman.ask(&["run", "--detach", "--name", "cache", "--network", "none", ACT]);
    // Such a one is listed in another place, which is gone with the boot.
    podman.ask(&["run", "--detach", "--rm", "--name", "ci-1", "--network", "none", ACT]);
    podman.ask(&["create", "--name", "ci-2", "--network", "none", ACT]);
    assert_eq!(told(&node, "-", "cache"), so("running", "orphan", 1));
    assert_eq!(told(&node, "-", "ci-1"), so("running", "orphan", 1));
    assert_eq!(told(&node, "-", "ci-2"), so("absent", "orphan", 1));
    assert_eq!(asked(), ["ps --all --format json"; 3]);
    node.configure(&format!("{}ignore = [\"ci-*\", \"cache\"]\n", fake.config()));
    assert_eq!(node.mcp("mcp-status", &[]).expect(0).out.lines().count(), 1);
    podman.ask(&["rm", "--force", "--time", "0", "cache", "ci-2"]);
    node.configure(&fake.config());
    assert_eq!(told(&node, "-", "ci-1"), so("running", "orphan", 1));
    podman.ask(&["rm", "--force", "--time", "0", "ci-1"]);
    let before = fake.calls().len();
    node.mcp("mcp-status", &[]).expect(0);
    assert_eq!(fake.calls().len(), before);
}

#[test]
fn status_sees_a_crash_loop_that_an_init_makes() {
    let Some((node, _podman)) = node("status_sees_a_crash_loop_that_an_init_makes", &["exit", "7"], "") else { return };
    for run in 0..4 {
        // In the foreground, as a unit of an init does: each time it is another supervisor.
        node.mcp("mcp-run", &["--recover", ID]).expect(7);
        let wanted = if run < 3 { "missing" } else { "missing,crash-loop" };
        assert_eq!(told(&node, "shop", "web"), so("failed(7)", wanted, 1));
    }
    assert_eq!(node.state(ID)["restarts"], 0);
    // Once it ends well, the next start is none after a failure.
    deploy(&node, &["exit", "0"], "");
    node.mcp("mcp-run", &[ID]).expect(0);
    node.mcp("mcp-run", &[ID]).expect(0);
    assert_eq!(told(&node, "shop", "web"), so("exited", "missing", 1));
}
