//! What happens to a component behind the cluster's back, and what its monitor makes of it.

use super::*;
use crate::harness::{free_port, nanos, until};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn what_lost_its_supervisor_is_adopted_and_a_probe_changes_nothing() {
    let Some(image) = nanos("ocf::what_lost_its_supervisor", &[]) else { return };
    let node = Node::new();
    define(&node, &image, free_port(), "");
    let web = Resource::new(&node, ID);
    web.call("start").expect(SUCCESS);
    let (vm, supervisor) = (uuid(&node), node.supervisor(ID));
    kill(supervisor, libc::SIGKILL);
    let drift = || node.mcp("mcp-status", &[ID]).out;
    until("it is unsupervised", || drift().contains("unsupervised"));
    web.probe().expect(SUCCESS);
    assert!(drift().contains("unsupervised"), "a probe changes nothing");
    let adopted = web.monitor().expect(SUCCESS);
    assert!(adopted.err.contains("demo/web: had lost its supervisor, adopted"), "{adopted:#?}");
    assert!(!drift().contains("unsupervised"));
    assert_eq!(uuid(&node), vm);
    // So does a start, and a stop needs none.
    kill(node.supervisor(ID), libc::SIGKILL);
    until("it is unsupervised", || drift().contains("unsupervised"));
    web.call("start").expect(SUCCESS);
    assert_eq!((uuid(&node), drift().contains("unsupervised")), (vm, false));
    kill(node.supervisor(ID), libc::SIGKILL);
    web.call("stop").expect(SUCCESS);
    assert_eq!(node.processes(), Vec::<String>::new());
}

#[test]
fn a_monitor_starts_nothing() {
    let Some(image) = nanos("ocf::a_monitor_starts_nothing", &[]) else { return };
    let node = Node::new();
    define(&node, &image, free_port(), "restart = \"always\"");
    let web = Resource::new(&node, ID);
    web.call("start").expect(SUCCESS);
    // The VM ends between the monitor's look and its adoption.
    let bin = node.root.join("bin");
    std::fs::create_dir(&bin).unwrap();
    let script = format!(
        "#!/bin/sh\nkill -9 {vm}\nwhile kill -0 {vm} 2>/dev/null; do sleep 0.01; done\nexec {run} \"$@\"\n",
        vm = node.qemu(ID),
        run = program("mcp-run").display()
    );
    std::fs::write(node.root.join("script"), script).unwrap();
    std::fs::set_permissions(node.root.join("script"), std::fs::Permissions::from_mode(0o755)).unwrap();
    crate::harness::copy_to_run(node.root.join("script"), bin.join("mcp-run"));
    kill(node.supervisor(ID), libc::SIGKILL);
    until("it is unsupervised", || node.mcp("mcp-status", &[ID]).out.contains("unsupervised"));
    let programs = program("mcp-run").parent().unwrap().display().to_string();
    let path = format!("{}:{programs}:/usr/sbin:/usr/bin:/sbin:/bin", bin.display());
    let why = reason(&web.with("PATH", &path).monitor().expect(NOT_RUNNING));
    assert!(why.contains("demo/web does not run"), "{why}");
    assert_eq!(node.processes(), Vec::<String>::new());
    // Nor does an operator's adoption.
    let none = node.mcp("mcp-run", &["--detach", "--adopt", ID]).expect(1);
    assert_eq!(none.one_line(), "mcp-run-vm: demo/web: not running");
    assert_eq!(node.processes(), Vec::<String>::new());
    web.call("stop").expect(SUCCESS);
}

#[test]
fn a_failure_that_two_monitors_see_counts_once() {
    let Some(image) = nanos("ocf::a_failure_that_two_monitors_see", &[]) else { return };
    let node = Node::new();
    define(&node, &image, free_port(), "");
    let web = Resource::new(&node, ID);
    for shallow_first in [true, false] {
        web.call("start").expect(SUCCESS);
        web.monitor().expect(SUCCESS);
        kill(node.qemu(ID), libc::SIGKILL);
        until("its supervisor has ended", || !node.run_dir(ID).join("lock").exists());
        let (first, second) = match shallow_first {
            true => (web.monitor(), web.deep()),
            false => (web.deep(), web.monitor()),
        };
        reason(&first.expect(NOT_RUNNING));
        let second = second.expect(SUCCESS);
        assert!(second.err.contains("has reported it"), "{second:#?}");
        // The one that has reported it goes on to say so, and a probe says what there is.
        let again = if shallow_first { web.monitor() } else { web.deep() };
        again.expect(NOT_RUNNING);
        web.probe().expect(NOT_RUNNING);
        web.call("stop").expect(SUCCESS);
    }
    // One that was reported long ago, or before the node's last boot, and is there all the same, is a failure to each.
    web.call("start").expect(SUCCESS);
    kill(node.qemu(ID), libc::SIGKILL);
    until("its supervisor has ended", || !node.run_dir(ID).join("lock").exists());
    for at in ["0", "99999999999", "", "junk"] {
        std::fs::write(node.root.join("run/.ocf.demo.web"), format!("1234 {at}\n")).unwrap();
        web.deep().expect(NOT_RUNNING);
    }
    web.call("stop").expect(SUCCESS);
    assert!(!node.root.join("run/.ocf.demo.web").exists());
}

#[test]
fn an_end_is_seen_and_told() {
    let Some(image) = nanos("ocf::an_end_is_seen_and_told", &[]) else { return };
    let node = Node::new();
    define(&node, &image, free_port(), "restart = \"always\"");
    let web = Resource::new(&node, ID);
    web.call("start").expect(SUCCESS);
    let first = uuid(&node);
    kill(node.qemu(ID), libc::SIGKILL);
    // The cluster starts it again, and counts; its own policy doesn't.
    until("its supervisor has ended", || !node.run_dir(ID).join("lock").exists());
    let why = reason(&web.monitor().expect(NOT_RUNNING));
    assert!(why.starts_with("demo/web: demo/web does not run: ended"), "{why}");
    web.probe().expect(NOT_RUNNING);
    web.call("stop").expect(SUCCESS);
    web.call("start").expect(SUCCESS);
    assert_ne!(uuid(&node), first);
    web.call("stop").expect(SUCCESS);
}

#[test]
fn a_paused_one_lives_and_is_not_healthy() {
    let Some(image) = nanos("ocf::a_paused_one_lives", &[]) else { return };
    let node = Node::new();
    let health = "[components.health]\nkind = \"http\"\ntimeout = \"200ms\"\ninterval = \"50ms\"";
    define(&node, &image, free_port(), health);
    let web = Resource::new(&node, ID);
    web.call("start").expect(SUCCESS);
    web.deep().expect(SUCCESS);
    kill(node.qemu(ID), libc::SIGSTOP);
    web.monitor().expect(SUCCESS);
    let why = reason(&web.deep().expect(FAILED));
    assert!(why.contains("unhealthy"), "{why}");
    web.with("OCF_RESKEY_health", "false").deep().expect(SUCCESS);
    // Not even the monitor's time is enough for that check, and that is said in time.
    let slow = web.with("OCF_RESKEY_health_timeout", "5s").within("2000").deep().expect(FAILED);
    assert!(reason(&slow).contains("no answer within 2 s") && slow.took.as_millis() < 2000, "{slow:#?}");
    web.call("stop").expect(SUCCESS);
    assert_eq!(node.processes(), Vec::<String>::new());
}

#[test]
fn monitors_stay_content_while_it_is_replaced() {
    let Some(image) = nanos("ocf::monitors_stay_content", &[]) else { return };
    let node = Node::new();
    define(&node, &image, free_port(), "");
    let web = Resource::new(&node, ID);
    web.call("start").expect(SUCCESS);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut count = 0;
            while !done.load(Ordering::Relaxed) {
                web.monitor().expect(SUCCESS);
                web.probe().expect(SUCCESS);
                count += 1;
            }
            count
        });
        // What a deploy by an operator's hand comes to.
        let replaced = node.mcp("mcp-run", &["--replace", ID]);
        done.store(true, Ordering::Relaxed);
        assert!(watcher.join().unwrap() > 3);
        replaced.expect(0);
    });
    web.call("stop").expect(SUCCESS);
}
