//! From the records: adoption, several at once, and `mcp-run --all`.

use super::{Boot, fake, plain, send, sequence, serves, times, uuid, vm};
use crate::campaign::alive;
use crate::harness::{Image, Node, free_port, nanos, until};
use std::fs;
use std::os::unix::fs::FileExt;

#[test]
fn boot_adopts_and_two_at_once_start_nothing_twice() {
    let Some(image) = nanos("boot_adopts", &[]) else { return };
    let node = Node::new();
    let ports = [free_port(), free_port(), free_port()];
    for (name, port) in ["a", "b", "c"].iter().zip(ports) {
        vm(&node, name, &image, port, "");
    }
    sequence(&node, "", &[("base", &["a", "b"], "60s"), ("apps", &["c"], "60s")]);
    let mut boots: Vec<_> = (0..2).map(|_| node.command("mcp-boot", &["--strict"]).spawn().unwrap()).collect();
    let vms = || node.processes().iter().filter(|p| p.contains(" -uuid ")).count();
    let mut most = 0;
    until("both have ended", || {
        most = most.max(vms());
        boots.iter_mut().all(|b| b.try_wait().unwrap().is_some())
    });
    for boot in boots {
        crate::harness::wait(boot, "mcp-boot", std::time::Instant::now()).expect(0);
    }
    assert!(most <= 3 && vms() == 3 && ports.into_iter().all(serves), "{most} VMs at once");
    let before = uuid(&node, "a/vm");
    let supervisor = node.supervisor("a/vm");
    send(supervisor, libc::SIGKILL);
    until("the lock is free", || node.mcp("mcp-status", &["a"]).out.contains("unsupervised"));
    let answer = node.mcp("mcp-boot", &[]).expect(0);
    assert!(answer.out.contains("  a/vm: runs unsupervised, adopted\n"), "{answer:#?}");
    assert!(answer.out.contains("  b/vm: runs already\n"), "{answer:#?}");
    assert_eq!(uuid(&node, "a/vm"), before);
    assert!(![0, supervisor].contains(&node.supervisor("a/vm")));
    assert_eq!(times(&node, "a/vm", "adopted").len(), 1);
    // One that loses its supervisor while something else is waited for is adopted, and has not ended.
    let disk = node.root.join("late.img").to_str().unwrap().to_string();
    vm(&node, "b", &Image { disk: disk.clone(), ..image.clone() }, ports[1], "");
    node.mcp("mcp-stop", &["b"]).expect(0);
    node.mcp("mcp-rm", &["b"]).expect(0);
    let mut boot = Boot::start(&node, &[]);
    boot.until("b/vm: not started: ");
    boot.until("a/vm: healthy: ");
    send(node.supervisor("a/vm"), libc::SIGKILL);
    boot.until("a/vm: runs unsupervised, adopted");
    until("healthy again", || boot.said().matches("a/vm: healthy: ").count() == 2);
    fs::copy(&image.disk, &disk).unwrap();
    let answer = boot.end().expect(0);
    assert!(!answer.err.contains("a/vm: ended"), "{answer:#?}");
    assert_eq!(uuid(&node, "a/vm"), before);
}

#[test]
fn boot_takes_no_stop_from_before_it_for_a_wish_against_it() {
    let Some(image) = nanos("boot_takes_no_stop_from_before_it", &["--graceful"]) else { return };
    let node = Node::new();
    let (port, late) = (free_port(), node.root.join("late.img").to_str().unwrap().to_string());
    vm(&node, "a", &image, port, "");
    vm(&node, "b", &Image { disk: late.clone(), ..image.clone() }, free_port(), "");
    sequence(&node, "", &[("base", &["a", "b"], "60s")]);
    node.mcp("mcp-run", &["--detach", "--wait", "a"]).expect(0);
    let before = uuid(&node, "a/vm");
    // Whoever sends the SIGTERM is gone when a supervisor of a busy node obeys.
    let supervisor = node.supervisor("a/vm");
    send(supervisor, libc::SIGSTOP);
    send(supervisor, libc::SIGTERM);
    let mut boot = Boot::start(&node, &[]);
    boot.until("a/vm: runs already");
    send(supervisor, libc::SIGCONT);
    boot.until("a/vm: ended: ");
    boot.until("a/vm: healthy: ");
    until("it serves again", || serves(port) && uuid(&node, "a/vm") != before);
    fs::copy(&image.disk, &late).unwrap();
    boot.end().expect(0);
}

#[test]
fn run_all_recovers_what_shall_run_and_does_not() {
    let Some((node, _)) = fake("run_all_recovers") else { return };
    for name in ["runs", "stopped", "down", "damaged", "fresh"] {
        plain(&node, name, "");
    }
    node.define(
        "idle",
        "name = \"idle\"\nactive = false\n[[components]]\nname = \"vm\"\nruntime = \"unikernel\"\ndisk = \"/a\"\n",
    );
    let disk = node.root.join("app.img").to_str().unwrap().to_string();
    node.mcp("mcp-run", &["--detach", "runs", "stopped", "down", "damaged"]).expect(0);
    node.mcp("mcp-run-vm", &["--name", "demo", "--disk", &disk, "--detach"]).expect(0);
    node.mcp("mcp-stop", &["stopped"]).expect(0);
    // As after a crash of the node: their wish is still to run.
    for id in ["down/vm", "damaged/vm", "demo/demo"] {
        let (supervisor, qemu) = (node.supervisor(id), node.qemu(id));
        send(supervisor, libc::SIGKILL);
        send(qemu, libc::SIGKILL);
        until("both are dead", || !alive(supervisor) && !alive(qemu));
    }
    let record = node.root.join("lib/registry/damaged/vm.json");
    fs::File::options().write(true).open(&record).unwrap().write_all_at(b"\0\0\0", 5).unwrap();
    let before = uuid(&node, "runs/vm");
    let answer = node.mcp("mcp-run", &["--all", "--wait"]).expect(100);
    let mut lines: Vec<&str> = answer.out.lines().collect();
    lines.sort_unstable();
    let wanted = [
        "demo/demo: ready",
        "down/vm: ready",
        "fresh/vm: ready",
        "idle/vm: left alone: its definition is not active",
        "runs/vm: runs already",
        "stopped/vm: left alone: an operator stopped it",
    ];
    assert_eq!(lines, wanted, "{answer:#?}");
    assert!(answer.one_line().contains("damaged/vm: ") && answer.one_line().contains("damaged record"), "{answer:#?}");
    assert_eq!(uuid(&node, "runs/vm"), before);
    let up = ["down/vm", "fresh/vm", "demo/demo", "stopped/vm", "damaged/vm"].map(|id| alive(node.qemu(id)));
    assert_eq!(up, [true, true, true, false, false]);
    // All of it is as it should be, but for the one.
    let again = node.mcp("mcp-run", &["--all"]).expect(100);
    assert_eq!(again.out.matches(": runs already\n").count(), 4, "{again:#?}");
    fs::remove_file(&record).unwrap();
    let last = node.mcp("mcp-run", &["--all"]).expect(0);
    assert!(last.out.contains("damaged/vm: started\n"), "{last:#?}");
}
