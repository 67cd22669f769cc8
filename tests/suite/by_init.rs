//! `mcp-run --by-init`: starts through the node's start command, here a script that does what a unit would.

use crate::harness::{Node, blind, finish, free_port, get, have, nanos, program, until};
use std::os::unix::fs::PermissionsExt;

/// A node whose start command is a script of these lines; what it was called with goes to `calls`.
fn node_with(script: &str) -> Node {
    let node = Node::new();
    let path = node.root.join("start");
    let text = format!("#!/bin/sh\necho \"$#:$1:$2\" >>{}/calls\n{script}\n", node.root.display());
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    node.configure(&format!("[boot]\nstart_command = [\"{}\", \"a b; $x\", \"unit@{{unit}}.x\"]\n", path.display()));
    node.define("a-b", "name = \"a-b\"\n[[components]]\nname = \"c\"\nruntime = \"unikernel\"\ndisk = \"/a.img\"\n");
    node
}

fn calls(node: &Node) -> String {
    std::fs::read_to_string(node.root.join("calls")).unwrap_or_default()
}

fn record(node: &Node, id: &str) -> serde_json::Value {
    let path = node.root.join(format!("lib/registry/{id}.json"));
    std::fs::read(path).map(|bytes| serde_json::from_slice(&bytes).unwrap()).unwrap_or_default()
}

#[test]
fn by_init_runs_the_command_without_a_shell() {
    let node = node_with("echo to out; echo to err >&2");
    let answer = node.mcp("mcp-run", &["--by-init", "a-b"]).expect(0);
    assert_eq!((answer.out.as_str(), answer.err.as_str()), ("", "to out\nto err\n"));
    assert_eq!(calls(&node), "2:a b; $x:unit@a\\x2db-c.x\n");
    // The unit starts it with --recover, from the record.
    assert_eq!(record(&node, "a-b/c")["candidate"]["spec"]["memory_mb"], 256);
    node.mcp("mcp-run", &["--by-init", "--detach", "a-b"]).expect(2);
    node.mcp("mcp-run", &["--by-init", "--replace", "a-b"]).expect(2);
    node.mcp("mcp-run", &["--wait", "a-b"]).expect(2);
}

#[test]
fn by_init_maps_exit_codes() {
    for (script, code, words) in [
        ("exit 100", 100, "exited with 100"),
        ("exit 126", 126, "exited with 126"),
        ("exit 127", 127, "exited with 127"),
        ("echo no >&2; exit 1", 111, "exited with 1"),
        ("exit 2", 111, "exited with 2"),
        ("kill -9 $$", 111, "was killed by signal 9"),
    ] {
        let answer = node_with(script).mcp("mcp-run", &["--by-init", "a-b"]).expect(code);
        assert!(answer.err.contains("a-b/c: ") && answer.err.contains(words), "{answer:#?}");
    }
    let node = node_with("");
    node.configure("[boot]\nstart_command = [\"/nowhere/start\", \"{unit}\"]\n");
    let answer = node.mcp("mcp-run", &["--by-init", "a-b"]).expect(127);
    assert_eq!(answer.one_line(), "mcp-run: run /nowhere/start: No such file or directory");
    node.configure("[boot]\nstart_command = [\"/etc/passwd\", \"{unit}\"]\n");
    node.mcp("mcp-run", &["--by-init", "a-b"]).expect(126);
}

#[test]
fn by_init_keeps_the_wish_to_stay_stopped_only_when_recovering() {
    let node = node_with("");
    node.mcp("mcp-run", &["--by-init", "a-b"]).expect(0);
    let path = node.root.join("lib/registry/a-b/c.json");
    let stopped = std::fs::read_to_string(&path).unwrap().replace("\"run\"", "\"stop\"");
    std::fs::write(&path, stopped).unwrap();
    let answer = node.mcp("mcp-run", &["--by-init", "--recover", "a-b"]).expect(0);
    assert!(answer.one_line().contains("a-b/c: shall stay stopped"), "{answer:#?}");
    assert_eq!((calls(&node).lines().count(), record(&node, "a-b/c")["wish"].as_str()), (1, Some("stop")));
    node.mcp("mcp-run", &["--by-init", "a-b"]).expect(0);
    assert_eq!((calls(&node).lines().count(), record(&node, "a-b/c")["wish"].as_str()), (2, Some("run")));
}

#[test]
fn by_init_ends_a_command_that_takes_too_long() {
    // Its child would keep the group alive.
    let node = node_with("trap '' TERM; sleep 300 & echo $! >$MCP_ROOT/child; wait; sleep 300");
    node.define(
        "a-b",
        "name = \"a-b\"\n[[components]]\nname = \"c\"\nruntime = \"unikernel\"\ndisk = \"/a.img\"\n\
         start_timeout = \"1ms\"\nstop_timeout = \"1ms\"\n",
    );
    let answer = node.mcp("mcp-run", &["--by-init", "a-b"]).expect(111);
    assert!(answer.one_line().ends_with("took too long, stopped"), "{answer:#?}");
    assert!(answer.took.as_secs() >= 30, "{answer:#?}");
    until("nothing of it is left", || node.processes().is_empty());
}

#[test]
fn by_init_waits_until_the_guest_is_ready() {
    let Some(image) = nanos("by_init_waits", &["--listen-delay", "300"]) else { return };
    let Some(dying) = nanos("by_init_waits", &["--no-listen", "--exit-after", "100", "--exit-code", "3"]) else {
        return;
    };
    // The command returns at once, as an init that knows no readiness does.
    let node = node_with(&format!(
        "setsid {} --detach --recover \"$(cat $MCP_ROOT/target)\" </dev/null >/dev/null 2>&1 &",
        program("mcp-run").display()
    ));
    let port = free_port();
    let define = |image: &crate::harness::Image| {
        let text = format!(
            "name = \"demo\"\n[[components]]\nname = \"web\"\nruntime = \"unikernel\"\ndisk = \"{}\"\nkernel = \"{}\"\n\
             memory_mb = 128\nports = [\"127.0.0.1:{port}:8080\"]\n",
            image.disk, image.kernel
        );
        node.define("demo", &text);
    };
    std::fs::write(node.root.join("target"), "demo/web").unwrap();
    define(&image);
    node.mcp("mcp-run", &["--by-init", "--wait", "demo"]).expect(0);
    assert_eq!(calls(&node), "2:a b; $x:unit@demo-web.x\n");
    assert_eq!(node.state("demo/web")["phase"], "ready");
    assert!(get(port, "/").is_some());
    assert_eq!(record(&node, "demo/web")["current"]["spec"]["source"]["disk"], image.disk.as_str());
    // What runs and is ready is so at once.
    node.mcp("mcp-run", &["--by-init", "--wait", "demo"]).expect(0);
    node.mcp("mcp-stop", &["demo"]).expect(0);
    // A version that is no good: what was deployed before is started in its stead, and is what becomes ready.
    define(&dying);
    node.mcp("mcp-run", &["--by-init", "--wait", "demo"]).expect(0);
    assert_eq!(record(&node, "demo/web")["current"]["spec"]["source"]["disk"], image.disk.as_str());
    node.mcp("mcp-stop", &["demo"]).expect(0);
    node.mcp("mcp-rm", &["demo"]).expect(0);
    // And with nothing before it.
    let answer = node.mcp("mcp-run", &["--by-init", "--wait", "demo"]).expect(111);
    assert!(answer.err.contains("demo/web: ended before it was ready: "), "{answer:#?}");
}

#[test]
fn by_init_without_a_command_detaches() {
    let Some(image) = nanos("by_init_without_a_command", &[]) else { return };
    let node = Node::new();
    let port = free_port();
    let text = format!(
        "name = \"demo\"\n[[components]]\nname = \"web\"\nruntime = \"unikernel\"\ndisk = \"{}\"\nkernel = \"{}\"\n\
         memory_mb = 128\nports = [\"127.0.0.1:{port}:8080\"]\n",
        image.disk, image.kernel
    );
    node.define("demo", &text);
    node.mcp("mcp-run", &["--by-init", "--wait", "--all"]).expect(0);
    assert!(get(port, "/").is_some());
    node.mcp("mcp-stop", &["demo"]).expect(0);
}

#[test]
fn by_init_and_a_replace_work_where_others_have_taken_all_of_inotify() {
    let test = "by_init_and_a_replace_work_where_others";
    let Some(image) = nanos(test, &["--listen-delay", "500"]) else { return };
    if !have(test, "unshare") {
        return;
    }
    // The command does nothing: what becomes ready was started before it.
    let node = node_with("true");
    let port = free_port();
    let text = format!(
        "name = \"demo\"\n[[components]]\nname = \"web\"\nruntime = \"unikernel\"\ndisk = \"{}\"\nkernel = \"{}\"\n\
         memory_mb = 128\nports = [\"127.0.0.1:{port}:8080\"]\nstop_timeout = \"5s\"\n",
        image.disk, image.kernel
    );
    node.define("demo", &text);
    node.mcp("mcp-run", &["--detach", "demo"]).expect(0);
    finish(blind(node.command("mcp-run", &["--by-init", "--wait", "demo"])), "mcp-run").expect(0);
    assert_eq!(node.state("demo/web")["phase"], "ready");
    let before = node.qemu("demo/web");
    finish(blind(node.command("mcp-run", &["--replace", "demo"])), "mcp-run").expect(0);
    assert_ne!(node.qemu("demo/web"), before);
    finish(blind(node.command("mcp-health", &["--wait", "10s", "demo"])), "mcp-health").expect(0);
    node.mcp("mcp-stop", &["demo"]).expect(0);
}
