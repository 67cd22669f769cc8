//! A state directory that is full or read-only. Each test has file systems of its own, in a mount namespace of its own
//! (`unshare`), and is skipped loudly where that is not permitted.

use crate::harness::{Answer, Node, finish, program, skip, until};
use std::process::{Command, Stdio};

/// Whether this process may mount in a namespace of its own.
pub fn may_mount(test: &str) -> bool {
    let tried = Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "none", "/mnt"]).output();
    if tried.is_ok_and(|o| o.status.success()) {
        return true;
    }
    skip(test, "no mounts in a namespace of one's own here");
    false
}

/// Runs `script` with the node's root as $R and our programs in $B, in a mount namespace of its own.
fn mounted(node: &Node, script: &str) -> Answer {
    let bin = program("mcp-run-vm");
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script]).env("MCP_ROOT", &node.root).env("R", &node.root);
    command.env("B", bin.parent().unwrap()).env_remove("MCP_LOG");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    finish(command, script)
}

#[test]
fn a_read_only_state_directory_is_named() {
    let test = "a_read_only_state_directory";
    let Some((node, disk)) = crate::fake_qemu::node_with(test, "good") else { return };
    if !may_mount(test) {
        return;
    }
    for dir in ["run", "lib", "log"] {
        let script = format!(
            "mkdir -p $R/{dir} && mount -t tmpfs -o ro,mode=700 none $R/{dir} && \
             $B/mcp-run-vm --name demo --disk {disk}"
        );
        let answer = mounted(&node, &script).expect(100);
        let line = answer.one_line();
        assert!(line.contains(&format!("{}/{dir}", node.root.display())), "{line}");
        assert!(line.contains("ead-only file system"), "{line}");
    }
}

#[test]
fn a_full_state_directory_may_be_tried_again() {
    let test = "a_full_state_directory";
    let Some((node, disk)) = crate::fake_qemu::node_with(test, "good") else { return };
    if !may_mount(test) {
        return;
    }
    for dir in ["run", "lib", "log"] {
        // Down to the last byte; what was removed to make a start fail must not be what makes it fit.
        let script = format!(
            "mkdir -p $R/{dir} && mount -t tmpfs -o size=64k,mode=700 none $R/{dir} && \
             {{ cat /dev/zero > $R/{dir}/filler; }} 2>/dev/null; \
             $B/mcp-run-vm --name demo --disk {disk}; code=$?; rm $R/{dir}/filler; find $R/{dir} -type f >&2; exit $code"
        );
        let answer = mounted(&node, &script);
        // An index or a lock of no bytes may still fit into a full file system, the state may not.
        assert_eq!(answer.code, Some(111), "{dir}: {answer:#?}");
        let line = answer.err.lines().find(|l| !l.contains("no KVM")).unwrap();
        assert!(line.starts_with("mcp-run-vm: ") && line.contains(&format!("{}/{dir}", node.root.display())), "{line}");
        assert!(line.contains("No space left") || line.contains("MiB free"), "{line}");
    }
}

#[test]
fn a_disk_that_is_too_small_for_a_build_may_be_tried_again() {
    let (test, node) = ("a_disk_that_is_too_small_for_a_build", Node::new());
    if !crate::harness::microvm(test, &node) || !may_mount(test) {
        return;
    }
    // Of what can't be compressed.
    let script = "head -c 8000000 /dev/urandom >$R/rootfs/big && L=$R/lib && K=$(readlink $L/kernel) && \
                  mount -t tmpfs -o size=6m,mode=700 none $L && ln -s $K $L/kernel && \
                  $B/mcp-run-vm --name demo --rootfs $R/rootfs --memory 128 --volume data:/data:SIZE -- /hello; code=$?; \
                  find $L -name '*.tmp' >&2; exit $code";
    crate::harness::rootfs(&node);
    for (size, what) in [("16M", "/rootfs: "), ("10T", "data.raw")] {
        let answer = mounted(&node, &script.replace("SIZE", size)).expect(111);
        let line = answer.err.lines().find(|l| !l.contains("no KVM")).unwrap();
        assert!(line.contains(what) && line.contains(" of 6144 KiB free at "), "{answer:#?}");
        assert!(!answer.err.contains(".tmp\n"), "left: {answer:#?}");
    }
}

#[test]
fn a_disk_that_fills_up_ends_neither_supervisor_nor_stop() {
    let test = "a_disk_that_fills_up";
    let Some((node, disk)) = crate::fake_qemu::node_with(test, "good") else { return };
    if !may_mount(test) {
        return;
    }
    let script = format!(
        "mkdir -p $R/run && mount -t tmpfs -o size=256k,mode=700 none $R/run && \
         $B/mcp-run-vm --name demo --disk {disk} --detach --wait || exit; \
         {{ cat /dev/zero > $R/run/filler; }} 2>/dev/null; \
         $B/mcp-stop demo || exit; find $R/run -name lock -o -name '*.sock' -type s >&2"
    );
    let answer = mounted(&node, &script).expect(0);
    assert!(answer.out.starts_with("demo/demo: "), "{answer:#?}");
    assert!(!answer.err.contains("lock") && !answer.err.contains(".sock"), "{answer:#?}");
    until("nothing runs", || node.processes().is_empty());
}
