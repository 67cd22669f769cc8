//! What the programs promise to inits: exit codes that are advice, `mcp-status --again`, `mcp-stop --for-now`, and a boot that
//! starts and stops through `[boot] init`. No init takes part.

use crate::harness::{Answer, Image, Node, free_port, get, nanos, program, until, until_within, wait};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Child;
use std::time::{Duration, Instant};

/// A service of one VM, `NAME/vm`; returns its port.
fn vm(node: &Node, name: &str, image: &Image, more: &str) -> u16 {
    let port = free_port();
    let text = format!(
        "name = \"{name}\"\n[[components]]\nname = \"vm\"\nruntime = \"unikernel\"\ndisk = \"{}\"\nkernel = \"{}\"\n\
         memory_mb = 128\nports = [\"127.0.0.1:{port}:8080\"]\n{more}\n",
        image.disk, image.kernel
    );
    node.define(name, &text);
    port
}

/// A supervisor in the foreground, as an init has it.
fn supervisor(node: &Node, name: &str) -> Child {
    node.command("mcp-run", &["--recover", &format!("{name}/vm")]).spawn().unwrap()
}

fn until_serves(port: u16) {
    until_within(Duration::from_secs(30), "it serves", || get(port, "/").is_some());
}

fn kill(pid: i32, signal: i32) {
    assert!(pid > 1, "no process");
    // SAFETY: a plain system call.
    unsafe { libc::kill(pid, signal) };
}

fn ended(child: Child) -> Answer {
    wait(child, "mcp-run --recover", Instant::now())
}

/// What --again says after an end with `code`.
fn again(node: &Node, name: &str, code: &str) -> Option<i32> {
    let answer = node.mcp("mcp-status", &["--again", name, "--ended", code]);
    assert!(answer.out.is_empty(), "{answer:#?}");
    answer.code
}

#[test]
fn after_an_end_status_says_whether_to_start_it_again() {
    let Some(image) = nanos("under_init::after_an_end", &[]) else { return };
    let node = Node::new();
    let policies = ["no", "on-failure", "always"];
    let ports = policies.map(|name| vm(&node, name, &image, &format!("restart = \"{name}\"")));
    // Never started, and could not be.
    assert_eq!(policies.map(|name| again(&node, name, "111")), [Some(0); 3]);
    assert_eq!(policies.map(|name| again(&node, name, "100")), [Some(1); 3]);
    // Killed together with what it ran, before anything was told.
    assert_eq!(policies.map(|name| again(&node, name, "-9")), [Some(1), Some(0), Some(0)]);
    for (code, told, answers) in [
        (3, 3, [Some(1), Some(0), Some(0)]),
        (0, 0, [Some(1), Some(1), Some(0)]),
        // 100 is ours alone: a guest's own must not keep an init from starting it again.
        (100, 1, [Some(1), Some(0), Some(0)]),
    ] {
        let children = policies.map(|name| supervisor(&node, name));
        ports.iter().for_each(|port| until_serves(*port));
        assert_eq!(policies.map(|name| again(&node, name, "1")), [Some(1); 3], "another supervises it");
        for port in ports {
            get(port, &format!("/exit?code={code}"));
        }
        for child in children {
            ended(child).expect(told);
        }
        let told = told.to_string();
        assert_eq!(policies.map(|name| again(&node, name, &told)), answers, "after exit {code}");
        assert_eq!(policies.map(|name| again(&node, name, "100")), [Some(1); 3]);
        assert_eq!(policies.map(|name| again(&node, name, "111")), [Some(0); 3]);
    }
    // What lost its supervisor is to get it again, whatever its policy.
    let child = supervisor(&node, "no");
    until_serves(ports[0]);
    kill(node.supervisor("no/vm"), libc::SIGKILL);
    ended(child).expect(137);
    assert_eq!(again(&node, "no", "137"), Some(0));
    node.mcp("mcp-stop", &["no"]).expect(0);
    assert_eq!(again(&node, "no", "137"), Some(1));
    // Stopped by mcp-stop, not active, not there, not readable, or not one.
    vm(&node, "always", &image, "restart = \"always\"");
    let text = fs::read_to_string(node.root.join("etc/services/always.toml")).unwrap();
    node.define("always", &text.replace("[[", "active = false\n[["));
    assert_eq!(again(&node, "always", "1"), Some(1));
    fs::remove_file(node.root.join("etc/services/always.toml")).unwrap();
    assert_eq!(again(&node, "always", "1"), Some(1));
    fs::write(node.root.join("lib/registry/on-failure/vm.json"), "{").unwrap();
    assert_eq!(again(&node, "on-failure", "1"), Some(100));
    assert_eq!(again(&node, "nobody", "1"), Some(100));
    node.mcp("mcp-status", &["--again", "no"]).expect(2);
    node.mcp("mcp-status", &["--ended", "1"]).expect(2);
}

#[test]
fn what_is_stopped_for_now_is_left_alone_until_a_boot() {
    let Some(image) = nanos("under_init::what_is_stopped_for_now", &["--graceful"]) else { return };
    let Some(deaf) = nanos("under_init::what_is_stopped_for_now", &["--ignore-term"]) else { return };
    let node = Node::new();
    let port = vm(&node, "demo", &image, "");
    let other = vm(&node, "deaf", &deaf, "stop_timeout = \"500ms\"");
    node.configure(
        "[[boot.sequence]]\nname = \"base\"\nservices = [\"demo\", \"deaf\"]\nhealth = \"tcp\"\ntimeout = \"30s\"\n",
    );
    let children = ["demo", "deaf"].map(|name| supervisor(&node, name));
    until_serves(port);
    until_serves(other);
    // Whatever rung it takes: the stop was asked for.
    node.mcp("mcp-stop", &["--for-now", "demo", "deaf"]).expect(0);
    let [first, second] = children.map(|child| ended(child).expect(0));
    assert!(first.err.contains("demo/vm: stopped: powerdown"), "{first:#?}");
    assert!(second.err.contains("quit"), "{second:#?}");
    assert_eq!(node.state("deaf/vm")["end"]["rung"], "quit");
    let left_alone = |node: &Node| {
        for name in ["demo", "deaf"] {
            node.mcp("mcp-status", &["--wanted", name]).expect(0);
            // An init that restarts a service stops it, too.
            assert_eq!(again(node, name, "0"), Some(0));
        }
        let round = node.mcp("mcp-run", &["--all"]).expect(0);
        assert!(round.out.contains("demo/vm: left alone: it was stopped for now"), "{round:#?}");
        assert_eq!((node.supervisor("demo/vm"), node.supervisor("deaf/vm")), (0, 0));
    };
    left_alone(&node);
    node.mcp("mcp-stop", &["--for-now", "demo"]).expect(1);
    node.mcp("mcp-boot", &[]).expect(0);
    until_serves(port);
    until_serves(other);
    // The same where the supervisors are gone.
    for id in ["demo/vm", "deaf/vm"] {
        kill(node.supervisor(id), libc::SIGKILL);
        until("its supervisor is gone", || node.mcp("mcp-status", &[id]).out.contains("unsupervised"));
    }
    let stopped = node.mcp("mcp-stop", &["--for-now", "demo", "deaf"]).expect(0);
    assert!(stopped.out.contains("powerdown") && stopped.out.contains("quit"), "{stopped:#?}");
    left_alone(&node);
    // By a signal to its supervisor, as an init stops it.
    node.mcp("mcp-boot", &[]).expect(0);
    for id in ["demo/vm", "deaf/vm"] {
        kill(node.supervisor(id), libc::SIGTERM);
    }
    until("both are down", || node.qemu("demo/vm") == 0 && node.qemu("deaf/vm") == 0);
    until("their supervisors are gone", || node.supervisor("demo/vm") == 0 && node.supervisor("deaf/vm") == 0);
    left_alone(&node);
    // And by its name.
    node.mcp("mcp-run", &["--detach", "--wait", "demo"]).expect(0);
    until_serves(port);
}

#[test]
fn what_is_mistyped_keeps_no_unit_from_stopping() {
    let Some(image) = nanos("under_init::what_is_mistyped", &[]) else { return };
    let node = Node::new();
    let names = ["demo", "other"];
    let start = || names.map(|name| node.mcp("mcp-run", &["--detach", "--wait", name]).expect(0));
    for name in names {
        vm(&node, name, &image, "");
    }
    let (bad, good) = ("name = [\n", fs::read_to_string(node.root.join("etc/services/demo.toml")).unwrap());
    for (service, config) in [(bad, ""), (good.as_str(), bad), (bad, bad)] {
        start();
        node.define("demo", service);
        node.configure(config);
        // What runs is listed all the same: a removal of the package goes by that.
        let listed = node.mcp("mcp-status", &["--list", "--state", "running"]);
        assert_eq!(listed.out, "demo/vm\nother/vm\n", "{listed:#?}");
        let answer = node.mcp("mcp-stop", &["--for-now", "demo/vm"]).expect(0);
        assert!(answer.out.starts_with("demo/vm: stopped: "), "{answer:#?}");
        let answer = node.mcp("mcp-stop", &["--for-now", "--all"]).expect(0);
        assert!(answer.out.starts_with("other/vm: stopped: "), "{answer:#?}");
        node.define("demo", &good);
        node.configure("");
    }
}

#[test]
fn two_inits_told_to_run_one_component() {
    let Some(image) = nanos("under_init::two_inits", &[]) else { return };
    let node = Node::new();
    let port = vm(&node, "demo", &image, "");
    let first = supervisor(&node, "demo");
    until_serves(port);
    let holder = node.supervisor("demo/vm");
    let loser = ended(supervisor(&node, "demo")).expect(100);
    let line = loser.one_line();
    assert!(line.contains("demo/vm") && line.contains(&format!("{holder}")), "who holds it: {line}");
    // So that its init does not spin.
    assert_eq!(again(&node, "demo", "100"), Some(1));
    assert_eq!(node.supervisor("demo/vm"), holder);
    kill(holder, libc::SIGTERM);
    ended(first).expect(0);
}

#[test]
fn an_init_in_the_config_is_two_commands() {
    let node = Node::new();
    node.define("a-b", "name = \"a-b\"\n[[components]]\nname = \"c\"\nruntime = \"unikernel\"\ndisk = \"/a.img\"\nports = [\"81:81\"]\n");
    let stage = "[[boot.sequence]]\nname = \"base\"\nservices = [\"a-b\"]\n";
    for (init, program, which) in [
        ("systemd", "systemctl", "mcp-component@a\\x2db-c.service"),
        ("s6", "s6-svc", "/run/service/mcp-a-b_c"),
        ("s6-rc", "s6-svc", "/run/service/mcp-a-b_c"),
        ("runit", "sv", "mcp-a-b_c"),
        ("openrc", "rc-service", "mcp-a-b_c"),
        ("dinit", "dinitctl", "mcp-a-b_c"),
    ] {
        node.configure(&format!("[boot]\ninit = \"{init}\"\n{stage}"));
        let dry = node.mcp("mcp-boot", &["--dry-run"]).expect(0);
        let line = dry.out.lines().find_map(|l| l.trim().strip_prefix("runs: ")).unwrap_or_default();
        let words: Vec<&str> = line.split(' ').collect();
        assert!(words[0] == program && words.contains(&which), "{init}: {dry:#?}");
    }
    // Each command may be given by itself, too; {name} and {id} say which as well as {unit}.
    for place in ["{name}", "{id}", "{unit}"] {
        node.configure(&format!("[boot]\ninit = \"runit\"\nstart_command = [\"begin\", \"x{place}\"]\n{stage}"));
        let dry = node.mcp("mcp-boot", &["--dry-run"]).expect(0);
        let told = place.replace("{name}", "a-b_c").replace("{id}", "a-b/c").replace("{unit}", "a\\x2db-c");
        assert!(dry.out.contains(&format!("runs: begin x{told}\n")), "{dry:#?}");
    }
    node.configure(&format!(
        "[boot]\ninit = \"upstart\"\nstop_command = [\"stop\", \"it\"]\nstart_command = [\"\"]\n{stage}"
    ));
    let answer = node.mcp("mcp-boot", &["--dry-run"]).expect(100);
    for told in ["upstart", "doesn't say which component to stop", "names no program"] {
        assert!(answer.err.contains(told), "{told}: {answer:#?}");
    }
    node.configure(&format!("[boot]\n{stage}init = \"runit\"\nstop_command = [\"stop\", \"{{id}}\"]\n"));
    let answer = node.mcp("mcp-boot", &["--dry-run"]).expect(100);
    assert!(answer.err.contains("init") && answer.err.contains("[boot]"), "{answer:#?}");
}

/// A script of the node's.
fn script(node: &Node, name: &str, lines: &str) -> String {
    let path = node.root.join(name);
    fs::write(&path, format!("#!/bin/sh\necho \"{name} $*\" >>$MCP_ROOT/calls\n{lines}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

#[test]
fn the_way_down_goes_through_the_stop_command() {
    let Some(image) = nanos("under_init::the_way_down", &["--graceful"]) else { return };
    let node = Node::new();
    let names = ["a", "b", "c"];
    let ports = names.map(|name| vm(&node, name, &image, "stop_timeout = \"5s\""));
    let stop = program("mcp-stop");
    // One is stopped by its init, one's init fails, and one's does nothing at all.
    let lines = format!(
        "case $1 in a_vm) exec {} --for-now \"$2\" ;; b_vm) echo no such service >&2; exit 1 ;; esac",
        stop.display()
    );
    let command = script(&node, "stop", &lines);
    node.configure(&format!(
        "[boot]\nstop_command = [\"{command}\", \"{{name}}\", \"{{id}}\"]\n\
         [[boot.sequence]]\nname = \"base\"\nservices = [\"a\", \"b\"]\n\
         [[boot.sequence]]\nname = \"top\"\nservices = [\"c\"]\ntimeout = \"30s\"\n"
    ));
    node.mcp("mcp-boot", &[]).expect(0);
    ports.iter().for_each(|port| until_serves(*port));
    let down = node.mcp("mcp-boot", &["--down"]).expect(0);
    let lines: Vec<&str> = down.out.lines().collect();
    assert!(lines.len() == 3 && lines[0].starts_with("top c/vm: stopped: powerdown"), "{down:#?}");
    assert!(lines.iter().all(|l| l.contains("powerdown")), "{down:#?}");
    assert!(down.err.contains("b/vm: no such service"), "{down:#?}");
    let calls = fs::read_to_string(node.root.join("calls")).unwrap();
    let mut calls: Vec<&str> = calls.lines().collect();
    assert_eq!(calls[0], "stop c_vm c/vm");
    calls.sort_unstable();
    assert_eq!(calls, ["stop a_vm a/vm", "stop b_vm b/vm", "stop c_vm c/vm"]);
    // Nothing runs: nobody is called.
    node.mcp("mcp-boot", &["--down"]).expect(0);
    assert_eq!(fs::read_to_string(node.root.join("calls")).unwrap().lines().count(), 3);
    // A command that hangs is ended in time, and what it should have stopped is stopped all the same.
    script(&node, "stop", "sleep 300");
    node.mcp("mcp-boot", &[]).expect(0);
    let down = node.mcp("mcp-boot", &["--down", "--within", "3s"]).expect(0);
    assert!(down.took < Duration::from_secs(20), "{down:#?}");
    assert!(names.iter().all(|name| node.qemu(&format!("{name}/vm")) == 0), "{down:#?}");
}

#[test]
fn what_is_stopped_while_a_boot_waits_is_not_fought_over() {
    let Some(deaf) = nanos("under_init::stopped_while_a_boot_waits", &["--graceful", "--no-listen"]) else { return };
    let Some(image) = nanos("under_init::stopped_while_a_boot_waits", &["--graceful"]) else { return };
    let node = Node::new();
    vm(&node, "never", &deaf, "stop_timeout = \"5s\"");
    let port = vm(&node, "demo", &image, "");
    node.configure("[[boot.sequence]]\nname = \"base\"\nservices = [\"never\", \"demo\"]\n");
    let boot = node.command("mcp-boot", &[]).spawn().unwrap();
    until_serves(port);
    until("the other runs", || node.qemu("never/vm") > 0);
    node.mcp("mcp-stop", &["--for-now", "demo"]).expect(0);
    let before = node.state("demo/vm")["uuid"].clone();
    // Seen by the boot, which goes on waiting and starts nothing.
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1500) {
        assert_eq!((node.supervisor("demo/vm"), node.qemu("demo/vm")), (0, 0), "started again");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(node.state("demo/vm")["uuid"], before);
    // Whoever starts it again is believed, and the boot goes on with it.
    node.mcp("mcp-run", &["--detach", "--wait", "demo"]).expect(0);
    until_serves(port);
    kill(i32::try_from(boot.id()).unwrap(), libc::SIGTERM);
    let answer = wait(boot, "mcp-boot", Instant::now()).expect(143);
    assert!(answer.out.contains("demo/vm") || answer.err.contains("demo/vm"), "{answer:#?}");
}
