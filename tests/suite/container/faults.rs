//! A podman that is missing, too old, or misbehaves; and hands that are not ours.

use super::{ID, node};
use crate::harness::{FakePodman, until, wait};
use std::time::Instant;

#[test]
fn a_podman_that_is_none() {
    let Some((node, podman)) = node("a_podman_that_is_none", &["sleep"], "") else { return };
    let says = |code: i32, words: &str| {
        let ran = node.mcp("mcp-run-container", &[ID]).expect(code);
        assert!(ran.one_line().contains(words), "{words}: {ran:#?}");
    };
    node.configure("[podman]\nbinary = \"/no/such/podman\"\n");
    says(100, "/no/such/podman: not found; [podman] binary in mcp.toml names it");
    let fake = FakePodman::new(&node);
    node.configure(&fake.config());
    fake.does("old:--version");
    says(100, "podman 2.2 is too old; 4.0 or later is needed");
    fake.does("other:--version");
    says(100, "does not answer as podman does");
    fake.does("junk:ps");
    says(100, "podman's answer is not what we know");
    fake.does("half:ps");
    podman.ask(&["create", "--name", "other", "--network", "none", crate::harness::ACT]);
    fake.does("dies:ps");
    says(111, "podman was killed by signal 9");
    fake.does("fails:run");
    says(100, "shop/web: podman exited with 125: OCI runtime error");
    fake.does("nospace:run");
    says(111, "no space left on device");
    // Nothing was left by any of them.
    assert_eq!(podman.names(), ["other"]);
    podman.ask(&["rm", "other"]);
    assert!(!node.run_dir(ID).exists());
}

#[test]
fn a_podman_that_dies_when_all_is_done_leaves_no_container() {
    let test = "a_podman_that_dies_when_all_is_done";
    let Some((node, podman)) = node(test, &["sleep"], "") else { return };
    let fake = FakePodman::new(&node);
    node.configure(&fake.config());
    fake.does("mute:run");
    let ran = node.mcp("mcp-run-container", &[ID]).expect(111);
    assert!(ran.one_line().contains("shop/web: podman was killed by signal 9"), "{ran:#?}");
    assert_eq!(podman.names(), Vec::<String>::new());
}

#[test]
fn a_container_that_somebody_removes_or_whose_conmon_is_killed() {
    let test = "a_container_that_somebody_removes";
    let Some((node, podman)) = node(test, &["sleep"], "") else { return };
    let start = || {
        let began = Instant::now();
        let child = node.command("mcp-run-container", &[ID]).spawn().unwrap();
        until("it runs", || node.run_dir(ID).join("state.json").exists() && node.state(ID)["phase"] == "ready");
        (child, began)
    };
    let (child, began) = start();
    podman.ask(&["rm", "--force", "--time", "0", &podman.names()[0]]);
    let ran = wait(child, "mcp-run-container", began);
    assert_eq!(ran.one_line(), "mcp-run-container: shop/web: removed with podman");
    assert_eq!(node.state(ID)["end"]["by"], "operator");
    let (child, began) = start();
    let conmon = podman.conmon(&podman.names()[0]);
    // SAFETY: a plain system call.
    unsafe { libc::kill(conmon, libc::SIGKILL) };
    let ran = wait(child, "mcp-run-container", began).expect(111);
    assert_eq!(ran.one_line(), "mcp-run-container: shop/web: its conmon was killed, so it was too");
    assert_eq!(podman.names(), Vec::<String>::new());
}

#[test]
fn a_stop_needs_no_podman() {
    let Some((node, podman)) = node("a_stop_needs_no_podman", &["sleep"], "") else { return };
    let gone = || node.configure("[podman]\nbinary = \"/no/such/podman\"\n");
    // The supervisor found its own at its start.
    let fake = FakePodman::new(&node);
    node.configure(&fake.config());
    node.mcp("mcp-run-container", &["--detach", ID]).expect(0);
    until("it sleeps", || node.console(ID).contains("act: sleep"));
    fake.does("dies");
    let stopped = node.mcp("mcp-stop", &[ID]).expect(0);
    assert!(stopped.out.starts_with("shop/web: stopped: term ("), "{stopped:#?}");
    fake.does("");
    // What podman has left of it goes with the next start.
    assert_eq!(podman.names().len(), 1);
    node.mcp("mcp-run-container", &["--detach", ID]).expect(0);
    assert_eq!(podman.names().len(), 1);
    until("it sleeps", || node.console(ID).matches("act: sleep").count() == 2);
    crate::container::kill_supervisor(&node);
    gone();
    let stopped = node.mcp("mcp-stop", &[ID]).expect(0);
    assert!(stopped.out.starts_with("shop/web: stopped: term ("), "{stopped:#?}");
    assert!(stopped.one_line().contains("/no/such/podman: not found"), "{stopped:#?}");
    node.configure("");
    node.mcp("mcp-rm", &[ID]).expect(0);
    assert_eq!(podman.names(), Vec::<String>::new());
}
