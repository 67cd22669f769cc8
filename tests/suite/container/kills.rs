//! SIGKILL to the supervisor at random moments of start, run and stop, then a call that puts it right: never two
//! containers, no conmon without its container, nothing left after mcp-stop. `MCP_CAMPAIGN_ROUNDS` (10) says how many.

use super::services::{alive, deploy, node, service};
use crate::harness::{Node, Podman, wait, wait_for};
use std::fs;
use std::time::{Duration, Instant};

/// splitmix64: a round is a function of its seed alone.
fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Kills whoever calls itself ours at that moment: the call's child, and the supervisor that it left behind.
fn kill_at(node: &Node, call: &[&str], after: Duration, too: bool) {
    let mut command = node.command(call[0], &call[1..]);
    let (began, mut child) = (Instant::now(), command.spawn().unwrap());
    // A moment that is not to be waited for: what is under way then is the point.
    wait_for(after, || None::<()>);
    let _ = child.kill();
    let supervisor = node.supervisor("one/one");
    if too && supervisor > 0 && supervisor != std::process::id() as i32 && alive(supervisor) {
        // SAFETY: a plain system call.
        unsafe { libc::kill(supervisor, libc::SIGKILL) };
    }
    wait(child, &call.join(" "), began);
}

/// conmons of the node, living.
fn conmons(node: &Node) -> usize {
    let wanted = format!("{}/podman", node.root.display());
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|p| fs::read_to_string(p.path().join("cmdline")).ok());
    lines.filter(|l| l.starts_with("/usr/bin/conmon\0") && l.contains(&wanted)).count()
}

fn round(node: &Node, podman: &Podman, seed: &mut u64) -> String {
    let kind = random(seed) % 4;
    let after = Duration::from_millis(random(seed) % 500);
    let what = match kind {
        0 | 1 => {
            kill_at(node, &["mcp-run", "--detach", "--wait", "one"], after, kind == 1);
            "start"
        }
        2 => {
            let _ = node.mcp("mcp-run", &["--detach", "--wait", "one"]);
            kill_at(node, &["mcp-stop", "one"], after, true);
            "stop"
        }
        _ => {
            let _ = node.mcp("mcp-run", &["--detach", "--wait", "one"]);
            kill_at(node, &["mcp-status", "one"], after, true);
            "run"
        }
    };
    let told = format!("killed {} ms into {what}", after.as_millis());
    // It runs already (100), or is started or adopted (0).
    let put_right = || {
        let ran = node.mcp("mcp-run", &["--detach", "--wait", "one"]);
        let holder = node.supervisor("one/one");
        (ran.code == Some(0) || ran.code == Some(100) && holder > 0 && alive(holder)).then_some(())
    };
    assert!(wait_for(Duration::from_secs(30), put_right).is_some(), "{told}: not put right");
    let ready = || (node.state("one/one")["phase"] == "ready").then_some(());
    assert!(wait_for(Duration::from_secs(20), ready).is_some(), "{told}: {:#}", node.state("one/one"));
    assert_eq!(podman.names().len(), 1, "{told}");
    assert_eq!(conmons(node), 1, "{told}");
    if random(seed).is_multiple_of(2) {
        node.mcp("mcp-stop", &["one"]).expect(0);
        assert_eq!(podman.names(), Vec::<String>::new(), "{told}");
        let gone = || (conmons(node) == 0 && node.processes().is_empty()).then_some(());
        assert!(wait_for(Duration::from_secs(10), gone).is_some(), "{told}: left: {:#?}", node.processes());
    }
    told
}

#[test]
fn killed_at_any_moment_it_can_be_put_right() {
    let Some((node, podman)) = node("container::kills::killed_at_any_moment_it_can_be_put_right") else { return };
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let rounds = number("MCP_CAMPAIGN_ROUNDS").unwrap_or(10);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let mut seed = number("MCP_CAMPAIGN_SEED").unwrap_or(now.as_millis() as u64 & 0xffff_ffff);
    println!("containers: {rounds} rounds, seed {seed}");
    node.define("one", &service("one", "stop_timeout = \"1s\"\n"));
    deploy(&node, "one");
    for number in 0..rounds {
        println!("round {number}: {}", round(&node, &podman, &mut seed));
    }
    // The last round may have left it running.
    let _ = node.mcp("mcp-stop", &["one"]);
    assert_eq!(podman.names(), Vec::<String>::new());
}
