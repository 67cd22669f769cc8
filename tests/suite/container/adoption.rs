//! Containers whose supervisor was killed, at whatever moment.

use super::{ID, kill_supervisor, node};
use crate::harness::{FakePodman, until, wait};
use std::time::Instant;

#[test]
fn one_without_a_supervisor_is_adopted_and_its_end_is_known() {
    let Some((node, podman)) = node("one_without_a_supervisor_is_adopted", &["exit", "5", "4"], "") else { return };
    node.mcp("mcp-run-container", &["--detach", ID]).expect(0);
    let before = node.state(ID);
    kill_supervisor(&node);
    assert_eq!(podman.names().len(), 1);
    let ran = node.mcp("mcp-run-container", &[ID]).expect(5);
    assert_eq!(ran.one_line(), "mcp-run-container: shop/web: program exited with 5");
    let after = node.state(ID);
    assert_eq!(before["uuid"], after["uuid"]);
    assert_eq!((&after["end"]["by"], &after["end"]["code"]), (&"guest".into(), &5.into()));
    assert!(after["events"].to_string().contains("adopted"));
    assert_eq!(podman.names(), Vec::<String>::new());
}

#[test]
fn one_without_a_supervisor_is_stopped() {
    let Some((node, podman)) = node("one_without_a_supervisor_is_stopped", &["sleep"], "") else { return };
    node.mcp("mcp-run-container", &["--detach", ID]).expect(0);
    until("it sleeps", || node.console(ID).contains("act: sleep"));
    kill_supervisor(&node);
    let refused = node.mcp("mcp-rm", &[ID]).expect(100);
    assert!(refused.one_line().contains("its container runs, without a supervisor"), "{refused:#?}");
    let stopped = node.mcp("mcp-stop", &["--all"]).expect(0);
    assert!(stopped.out.starts_with("shop/web: stopped: term ("), "{stopped:#?}");
    assert_eq!(podman.names(), Vec::<String>::new());
}

#[test]
fn one_of_a_newer_mcp_is_not_taken_over_but_stopped() {
    let Some((node, podman)) = node("one_of_a_newer_mcp", &["sleep"], "") else { return };
    node.mcp("mcp-run-container", &["--detach", ID]).expect(0);
    until("it sleeps", || node.console(ID).contains("act: sleep"));
    kill_supervisor(&node);
    let mut state = node.state(ID);
    (state["schema"], state["phase"], state["pid"]) = (3.into(), 7.into(), "other".into());
    std::fs::write(node.run_dir(ID).join("c/state.json"), state.to_string()).unwrap();
    let written = "state of schema 3 was written by a newer mcp; this one reads up to 2";
    let refused = node.mcp("mcp-run-container", &[ID]).expect(100);
    assert!(refused.one_line().contains(written), "{refused:#?}");
    let listed = node.mcp("mcp-status", &["-v", ID]).expect(1);
    assert!(listed.out.contains(written) && listed.out.contains("unsupervised"), "{listed:#?}");
    let stopped = node.mcp("mcp-stop", &[ID]).expect(0);
    assert!(stopped.out.starts_with("shop/web: stopped: term ("), "{stopped:#?}");
    assert_eq!(podman.names(), Vec::<String>::new());
}

#[test]
fn one_whose_files_are_lost_is_found_by_its_labels() {
    let Some((node, podman)) = node("one_whose_files_are_lost_is_found", &["sleep"], "") else { return };
    let fake = FakePodman::new(&node);
    node.configure(&fake.config());
    let run = node.run_dir(ID);
    let record = node.root.join("lib/registry/shop/web.json");
    let losses: [&dyn Fn(); 3] = [
        &|| std::fs::remove_file(run.join("c/state.json")).unwrap(),
        &|| std::fs::remove_dir_all(&run).unwrap(),
        &|| {
            std::fs::remove_dir_all(&run).unwrap();
            std::fs::remove_file(&record).unwrap();
            std::fs::remove_file(node.root.join("etc/services/shop.toml")).unwrap();
        },
    ];
    for (number, lose) in losses.into_iter().enumerate() {
        std::fs::remove_dir_all(node.root.join("log")).ok();
        node.mcp("mcp-run-container", &["--detach", ID]).expect(0);
        until("it sleeps", || node.console(ID).contains("act: sleep"));
        kill_supervisor(&node);
        lose();
        let refused = node.mcp("mcp-rm", &["--all"]).expect(100);
        let told = "mcp-rm: shop/web: its container runs, without a supervisor; mcp-stop shop/web first";
        assert_eq!((refused.one_line(), refused.out.as_str()), (told, ""));
        assert_eq!(record.exists(), number < 2);
        // Whether there is one, only podman could say.
        fake.does("fails:ps");
        let unknown = node.mcp("mcp-stop", &["--all"]).expect(100);
        assert!(unknown.one_line().contains("Permission denied"), "{unknown:#?}");
        fake.does("");
        let stopped = node.mcp("mcp-stop", &["--all"]).expect(0);
        assert!(stopped.out.starts_with("shop/web: stopped: term (") && stopped.err.is_empty(), "{stopped:#?}");
        assert_eq!(podman.names(), Vec::<String>::new());
        assert_eq!(node.mcp("mcp-stop", &["--all"]).expect(0).out, "");
    }
}

#[test]
fn one_that_is_over_and_left_no_files_is_removed_by_its_labels() {
    let Some((node, podman)) = node("one_that_is_over_and_left_no_files", &["sleep"], "") else { return };
    node.mcp("mcp-run-container", &["--detach", ID]).expect(0);
    kill_supervisor(&node);
    podman.ask(&["kill", &podman.names()[0]]);
    for lost in ["run", "log", "lib/registry"] {
        std::fs::remove_dir_all(node.root.join(lost)).unwrap();
    }
    assert_eq!(node.mcp("mcp-rm", &["--all"]).expect(0).out, "shop/web removed\n");
    assert_eq!(podman.names(), Vec::<String>::new());
    assert_eq!(node.mcp("mcp-rm", &["--all"]).expect(0).out, "");
}

#[test]
fn an_end_that_nobody_saw_is_told_by_podman() {
    let Some((node, podman)) = node("an_end_that_nobody_saw", &["exit", "9", "2"], "") else { return };
    node.mcp("mcp-run-container", &["--detach", ID]).expect(0);
    kill_supervisor(&node);
    let name = podman.names().remove(0);
    until("it has ended", || podman.inspect(&name)["State"]["Status"] == "exited");
    let told = node.mcp("mcp-stop", &[ID]).expect(1);
    assert_eq!(told.one_line(), "mcp-stop: shop/web: not running");
    let state = node.state(ID);
    assert_eq!((&state["end"]["by"], &state["end"]["code"]), (&"guest".into(), &9.into()));
    assert_eq!(podman.names(), Vec::<String>::new());
}

#[test]
fn a_lost_state_is_rebuilt_from_podmans_labels() {
    let Some((node, podman)) = node("a_lost_state_is_rebuilt", &["sleep"], "") else { return };
    node.mcp("mcp-run-container", &["--detach", ID]).expect(0);
    let before = node.state(ID);
    kill_supervisor(&node);
    std::fs::remove_dir_all(node.run_dir(ID)).unwrap();
    node.mcp("mcp-run-container", &["--detach", ID]).expect(0);
    let after = node.state(ID);
    assert_eq!(before["uuid"], after["uuid"]);
    assert!(after["events"].to_string().contains("rebuilt"));
    assert_eq!(podman.names().len(), 1);
}

#[test]
fn a_start_that_was_killed_comes_to_its_end_and_is_adopted() {
    let test = "a_start_that_was_killed_comes_to_its_end";
    let Some((node, podman)) = node(test, &["sleep"], "") else { return };
    let fake = FakePodman::new(&node);
    node.configure(&fake.config());
    fake.after("2");
    fake.does("late:run");
    let began = Instant::now();
    let child = node.command("mcp-run-container", &[ID]).spawn().unwrap();
    until("podman starts", || fake.calls().iter().any(|call| call.starts_with("run ")));
    kill_supervisor(&node);
    wait(child, "mcp-run-container", began).expect(137);
    fake.does("");
    // Nothing of it is in podman's list yet.
    assert_eq!(podman.names(), Vec::<String>::new());
    node.mcp("mcp-run-container", &["--detach", ID]).expect(0);
    assert_eq!(podman.names().len(), 1);
    assert_eq!(fake.calls().iter().filter(|call| call.starts_with("run ")).count(), 1);
    assert!(node.state(ID)["events"].to_string().contains("adopted"));
}
