//! One-shots: what does its work and ends is ready then, is not missed, and a stage waits for it. Of all runtimes.

use crate::harness::{ACT, Node, Podman, microvm, nanos, rootfs, until};

/// A stage of the job alone, and one after it.
fn configure(node: &Node) {
    node.configure("[[boot.sequence]]\nname = \"base\"\nservices = [\"job\"]\ntimeout = \"40s\"\n");
}

fn define(node: &Node, lines: &str) {
    node.define("job", &format!("name = \"job\"\n[[components]]\nname = \"job\"\noneshot = true\n{lines}\n"));
}

/// Deploys and boots one that ends with 0, and deploys one that does not.
fn is_run_once(node: &Node, good: &str, bad: &str) {
    configure(node);
    define(node, good);
    node.mcp("mcp-record", &["--new", "job"]).expect(0);
    let answer = node.mcp("mcp-run", &["--by-init", "--wait", "job"]).expect(0);
    let first = node.state("job/job")["uuid"].clone();
    assert!(!node.state("job/job")["ready_at"].is_null(), "{answer:#?}");
    until("its supervisor has ended", || node.processes().is_empty());
    let status = node.mcp("mcp-status", &["job"]).expect(0);
    assert!(status.out.contains(" completed "), "{status:#?}");
    // The deploy is proven, and nobody runs it again but who asks for that.
    node.mcp("mcp-record", &["--check", "job"]).expect(0);
    let round = node.mcp("mcp-run", &["--all", "--recover"]).expect(0);
    assert_eq!(round.out, "job/job: completed\n");
    let boot = node.mcp("mcp-boot", &["--strict"]).expect(0);
    assert!(boot.out.contains("  job/job: healthy: completed\n"), "{boot:#?}");
    assert_eq!(node.state("job/job")["uuid"], first);
    // After a start of the node nothing is left of its last run.
    std::fs::remove_dir_all(node.run_dir("job/job")).unwrap();
    let boot = node.mcp("mcp-boot", &["--strict"]).expect(0);
    assert!(boot.out.contains("  job/job: started\n  job/job: healthy: completed\n"), "{boot:#?}");
    assert_ne!(node.state("job/job")["uuid"], first);
    // Another one that fails is told as a failure.
    define(node, bad);
    node.mcp("mcp-record", &["--new", "job"]).expect(0);
    let answer = node.mcp("mcp-run", &["--by-init", "--wait", "job"]);
    assert!(![None, Some(0)].contains(&answer.code) && answer.err.contains("program exited with 3"), "{answer:#?}");
    until("its supervisor has ended", || node.processes().is_empty());
}

#[test]
fn oneshot_unikernel_is_ready_when_it_has_ended() {
    let of = |code| nanos("oneshot_unikernel", &["--no-listen", "--exit-after", "10", "--exit-code", code]);
    let (Some(good), Some(bad)) = (of("0"), of("3")) else { return };
    let lines = [good, bad].map(|image| {
        format!("runtime = \"unikernel\"\ndisk = \"{}\"\nkernel = \"{}\"\nmemory_mb = 128", image.disk, image.kernel)
    });
    is_run_once(&Node::new(), &lines[0], &lines[1]);
}

#[test]
fn oneshot_microvm_is_ready_when_it_has_ended() {
    let node = Node::new();
    if !microvm("oneshot_microvm", &node) {
        return;
    }
    let rootfs = rootfs(&node);
    let lines = ["0", "3"].map(|code| {
        format!(
            "runtime = \"microvm\"\nrootfs = \"{rootfs}\"\nmemory_mb = 128\n\
             args = [\"/hello\", \"--no-listen\", \"--exit-after\", \"10\", \"--exit-code\", \"{code}\"]"
        )
    });
    is_run_once(&node, &lines[0], &lines[1]);
}

#[test]
fn oneshot_container_is_ready_when_it_has_ended() {
    let node = Node::new();
    let Some(_podman) = Podman::new("oneshot_container", &node) else { return };
    let lines = ["0", "3"].map(|code| format!("image = \"{ACT}\"\nargs = [\"exit\", \"{code}\"]\nnetwork = \"host\""));
    is_run_once(&node, &lines[0], &lines[1]);
}
