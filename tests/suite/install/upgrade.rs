//! An upgrade in place, under VMs that run.

use super::install;
use super::kit::{Kit, Place};
use crate::harness::{Answer, Node, finish, free_port, get, nanos, until};
use std::path::Path;
use std::process::{Command, Stdio};

/// What process `pid` runs; after its file was replaced, that with " (deleted)".
fn runs(pid: i32) -> String {
    std::fs::read_link(format!("/proc/{pid}/exe")).unwrap().display().to_string()
}

#[test]
fn upgrade_leaves_vms_running_and_the_new_programs_manage_them() {
    let test = "upgrade_leaves_vms_running";
    let Some(image) = nanos(test, &[]) else { return };
    let Some(old) = Kit::of_programs(test) else { return };
    let new = old.rebuilt();
    let (node, place) = (Node::new(), Place::new());
    let prefix = place.dir.join("usr");
    let at = ["--prefix", prefix.to_str().unwrap()];
    install(&place, &old, &at).expect(0);
    let mcp = |name: &str, args: &[&str]| call(&prefix, &node, name, args);
    let program = prefix.join("bin/mcp-run-vm").display().to_string();

    let mut ports = Vec::new();
    for name in ["one", "two"] {
        let forward = format!("{}:8080", free_port());
        let args = ["--name", name, "--disk", &image.disk, "--kernel", &image.kernel, "--port", &forward];
        mcp("mcp-run-vm", &[&args[..], &["--detach", "--wait"]].concat()).expect(0);
        ports.push(forward.split(':').next().unwrap().parse().unwrap());
    }
    let (supervisor, qemu) = (node.supervisor("one/one"), node.qemu("one/one"));
    assert_eq!(runs(supervisor), program);

    // Taking the programs away from under what runs is refused.
    let refused = {
        let mut command = place.command("install", &[&["--uninstall"], &at[..]].concat());
        command.env("MCP_ROOT", &node.root);
        finish(command, "install --uninstall").expect(1)
    };
    let line = "install: one/one two/two: still there; mcp stop --all first, or --force leaves what runs alone";
    assert_eq!(refused.one_line(), line);

    install(&place, &new, &at).expect(0);
    // The old supervisors go on, with the program they began with.
    for id in ["one/one", "two/two"] {
        assert_eq!(runs(node.supervisor(id)), format!("{program} (deleted)"));
    }
    assert_eq!((node.supervisor("one/one"), node.qemu("one/one")), (supervisor, qemu));
    assert!(ports.iter().all(|port| get(*port, "/").is_some()));
    // The new programs understand what they wrote.
    assert_eq!(mcp("mcp-status", &["--list", "--state", "running"]).expect(0).out, "one/one\ntwo/two\n");
    mcp("mcp-status", &[]).expect(0);
    mcp("mcp-health", &["-q", "one", "two"]).expect(0);
    assert!(mcp("mcp-logs", &["one"]).expect(0).out.contains("hello: listening on 8080"));
    let stopped = mcp("mcp-stop", &["two"]).expect(0);
    assert!(stopped.out.starts_with("two/two: stopped: powerdown ("), "{stopped:#?}");

    // The old supervisor dies: the new program adopts its VM, which notices nothing.
    // SAFETY: a plain system call.
    unsafe { libc::kill(supervisor, libc::SIGKILL) };
    until("unsupervised", || mcp("mcp-status", &["one"]).out.contains("unsupervised"));
    mcp("mcp-run-vm", &["one", "--detach", "--wait"]).expect(0);
    assert_ne!(node.supervisor("one/one"), supervisor);
    assert_eq!((runs(node.supervisor("one/one")), node.qemu("one/one")), (program, qemu));
    assert!(get(ports[0], "/").is_some());
    mcp("mcp-status", &["one"]).expect(0);
    let stopped = mcp("mcp-stop", &["one"]).expect(0);
    assert!(stopped.out.starts_with("one/one: stopped: powerdown ("), "{stopped:#?}");
    install(&place, &new, &[&at[..], &["--uninstall"]].concat()).expect(0);
}

/// Runs an installed program on `node`.
fn call(prefix: &Path, node: &Node, name: &str, args: &[&str]) -> Answer {
    let mut command = Command::new(prefix.join("bin").join(name));
    command.args(args).env("MCP_ROOT", &node.root).env_remove("NOTIFY_SOCKET");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    finish(command, &format!("{name} {}", args.join(" ")))
}
