//! One container from start to end: exit code, stop ladder, readiness, restarts, what podman is given.

use super::{ID, define, deploy, node};
use crate::harness::{ACT, finish, free_port, get, in_own_network, until, wait};
use std::time::Instant;

#[test]
fn it_ends_with_the_programs_own_code_and_leaves_nothing() {
    let Some((node, podman)) = node("it_ends_with_the_programs_own_code", &["exit", "7"], "") else { return };
    let ran = node.mcp("mcp-run-container", &[ID]).expect(7);
    assert_eq!(ran.one_line(), "mcp-run-container: shop/web: program exited with 7");
    assert_eq!(ran.out, "");
    let state = node.state(ID);
    assert_eq!((&state["end"]["by"], &state["end"]["code"]), (&"guest".into(), &7.into()));
    assert_eq!(state["phase"], "ended");
    assert_eq!(podman.names(), Vec::<String>::new());
    assert!(!node.run_dir(ID).join("lock").exists());
    // mcp-run goes the same way.
    node.mcp("mcp-run", &[ID]).expect(7);
    node.mcp("mcp-rm", &[ID]).expect(0);
    assert!(!node.run_dir(ID).exists());
}

#[test]
fn a_container_serves_is_healthy_and_stops_by_its_signal() {
    let port = free_port().to_string();
    let more = format!("ports = [\"{port}:{port}\"]");
    let Some((node, podman)) = node("a_container_serves_is_healthy_and_stops", &["serve", &port, "1"], &more) else {
        return;
    };
    let began = Instant::now();
    node.mcp("mcp-run-container", &["--detach", "--wait", ID]).expect(0);
    assert!(began.elapsed().as_secs_f64() > 1.0, "ready before it served");
    assert_eq!(get(port.parse().unwrap(), "/").as_deref(), Some("localhost/act:1\n"));
    node.mcp("mcp-health", &[ID]).expect(0);
    let state = node.state(ID);
    let container = state["container"]["name"].as_str().unwrap();
    assert_eq!(podman.names(), [container]);
    assert_eq!(podman.inspect(container)["Id"], state["uuid"]);
    assert_eq!(podman.inspect(container)["Config"]["Labels"]["mcp.record"], state["spec"]);
    // A second supervisor is refused, and names the first.
    let second = node.mcp("mcp-run-container", &[ID]).expect(100);
    let wanted = format!("already supervised by mcp-run-container (pid {})", node.supervisor(ID));
    assert!(second.one_line().contains(&wanted), "{second:#?}");
    let stopped = node.mcp("mcp-stop", &[ID]).expect(0);
    assert!(stopped.out.starts_with("shop/web: stopped: term ("), "{stopped:#?}");
    let state = node.state(ID);
    assert_eq!((&state["end"]["by"], &state["end"]["rung"]), (&"operator".into(), &"term".into()));
    assert_eq!(podman.names(), Vec::<String>::new());
    let health = node.mcp("mcp-health", &[ID]).expect(1);
    assert!(format!("{}{}", health.out, health.err).contains("not running"), "{health:#?}");
    node.mcp("mcp-stop", &[ID]).expect(1);
}

#[test]
fn one_that_is_deaf_is_killed_after_its_time() {
    let Some((node, podman)) = node("one_that_is_deaf_is_killed", &["deaf"], "stop_timeout = \"1s\"") else { return };
    node.mcp("mcp-run-container", &["--detach", ID]).expect(0);
    until("it is deaf", || node.mcp("mcp-logs", &[ID]).out.contains("act: deaf"));
    let stopped = node.mcp("mcp-stop", &[ID]).expect(0);
    assert!(stopped.out.starts_with("shop/web: stopped: kill ("), "{stopped:#?}");
    assert!(stopped.took.as_secs_f64() > 1.0);
    assert_eq!(podman.names(), Vec::<String>::new());
}

#[test]
fn a_stop_takes_the_code_that_the_program_ends_with() {
    let Some((node, _podman)) = node("a_stop_takes_the_code", &["slow", "1"], "") else { return };
    let began = Instant::now();
    let child = node.command("mcp-run-container", &[ID]).spawn().unwrap();
    until("it runs", || node.mcp("mcp-logs", &[ID]).out.contains("act: slow"));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), nix::sys::signal::Signal::SIGTERM).unwrap();
    let ran = wait(child, "mcp-run-container", began).expect(3);
    assert_eq!(ran.one_line(), "mcp-run-container: shop/web: stopped: term");
}

#[test]
fn published_ports_are_checked_and_lead_to_it() {
    let test = "published_ports_are_checked_and_lead_to_it";
    let more = "network = \"bridge\"\nports = [\"8080:80\"]";
    let Some((node, _podman)) = node(test, &["serve", "80"], more) else { return };
    in_own_network(|| {
        let holder = std::net::TcpListener::bind("127.0.0.1:8080").unwrap();
        let refused = node.mcp("mcp-run-container", &[ID]).expect(111);
        assert_eq!(
            refused.one_line(),
            "mcp-run-container: 127.0.0.1:8080/tcp: taken by another program; stop that or choose another host port"
        );
        drop(holder);
        node.mcp("mcp-run-container", &["--detach", "--wait", ID]).expect(0);
        assert_eq!(get(8080, "/").as_deref(), Some("localhost/act:1\n"));
        node.mcp("mcp-stop", &[ID]).expect(0);
    });
}

#[test]
fn one_that_never_serves_is_stopped_at_its_start_timeout() {
    let port = free_port().to_string();
    let more = format!("ports = [\"{port}:{port}\"]\nstart_timeout = \"1s\"");
    let Some((node, _podman)) = node("one_that_never_serves_is_stopped", &["sleep"], &more) else { return };
    let ran = node.mcp("mcp-run-container", &[ID]).expect(111);
    assert!(ran.err.contains("not healthy after start_timeout (1s)"), "{ran:#?}");
    assert!(ran.err.contains("act: sleep"), "{ran:#?}");
    assert_eq!(node.state(ID)["end"]["by"], "mcp");
}

#[test]
fn restarts_follow_the_policy() {
    let Some((node, podman)) = node("restarts_follow_the_policy", &["exit", "1"], "restart = \"on-failure\"") else {
        return;
    };
    node.mcp("mcp-run-container", &["--detach", "--ready", "started", ID]).expect(0);
    until("it was started again", || node.state(ID)["restarts"].as_u64() >= Some(1));
    until("it waits", || node.state(ID)["phase"] == "waiting");
    node.mcp("mcp-stop", &[ID]).expect(0);
    assert_eq!(podman.names(), Vec::<String>::new());
}

#[test]
fn a_replace_stops_and_starts_it() {
    let Some((node, podman)) = node("a_replace_stops_and_starts_it", &["sleep"], "") else { return };
    node.mcp("mcp-run-container", &["--detach", ID]).expect(0);
    let before = node.state(ID);
    define(&node, &["lines", "3"], "");
    node.mcp("mcp-record", &["--new", ID]).expect(0);
    let how = node.mcp("mcp-run", &["--replace", "--dry-run", ID]).expect(0);
    assert_eq!(how.out, "shop/web stopped and started: it is a container\n");
    assert_eq!(node.mcp("mcp-run", &["--replace", ID]).expect(0).out, "shop/web replaced\n");
    let after = node.state(ID);
    assert_ne!(before["uuid"], after["uuid"]);
    assert_eq!(before["supervisor"], after["supervisor"]);
    // Nothing has failed, so nothing counts for a crash loop.
    assert_eq!(after["restarted_at"], serde_json::json!([]));
    assert_eq!(podman.names().len(), 1);
    // One that is no good gives way to the one before.
    define(&node, &["exit", "1"], "");
    node.mcp("mcp-record", &["--new", ID]).expect(0);
    let port = free_port();
    define(&node, &["exit", "1"], &format!("ports = [\"{port}:{port}\"]"));
    node.mcp("mcp-record", &["--new", ID]).expect(0);
    let failed = node.mcp("mcp-run", &["--replace", ID]).expect(1);
    assert!(failed.err.contains("the old version is back"), "{failed:#?}");
    assert_eq!(node.state(ID)["spec"], after["spec"]);
}

#[test]
fn a_stop_during_a_replace_is_for_good() {
    let more = "stop_timeout = \"1s\"";
    let Some((node, podman)) = node("a_stop_during_a_replace", &["deaf"], more) else { return };
    let begin = || {
        let command = node.command("mcp-run", &["--replace", ID]);
        std::thread::spawn(move || finish(command, "mcp-run --replace"))
    };
    node.mcp("mcp-run-container", &["--detach", ID]).expect(0);
    until("it is deaf", || node.mcp("mcp-logs", &[ID]).out.contains("act: deaf"));
    // While the old one is stopped for it, and while the new one is not ready yet.
    for booting in [false, true] {
        if booting {
            node.mcp("mcp-run-container", &["--detach", ID]).expect(0);
            let port = free_port();
            define(&node, &["sleep"], &format!("ports = [\"{port}:{port}\"]"));
            node.mcp("mcp-record", &["--new", ID]).expect(0);
        }
        let before = node.state(ID)["uuid"].clone();
        let asker = begin();
        until("it has begun", || match booting {
            false => node.state(ID)["phase"] == "stopping",
            true => node.state(ID)["phase"] == "starting" && node.state(ID)["uuid"] != before,
        });
        node.mcp("mcp-stop", &[ID]).expect(0);
        assert_eq!(asker.join().unwrap().expect(111).one_line(), "mcp-run: shop/web: stopped meanwhile");
        assert_eq!(node.state(ID)["end"]["by"], "operator");
        assert!(booting || node.state(ID)["uuid"] == before, "the new one was started");
        assert_eq!(podman.names(), Vec::<String>::new());
    }
}

#[test]
fn what_podman_is_given() {
    let Some((node, _podman)) = node("what_podman_is_given", &["env", "PLAIN", "SECRET", "BOTH"], "") else { return };
    let file = node.root.join("web.env");
    std::fs::write(&file, "SECRET=  hush = hush\n# none\nBOTH=file\n").unwrap();
    let more = format!("env = {{ PLAIN = \"a b\", BOTH = \"definition\" }}\nenv_file = {file:?}\nuser = \"7:8\"");
    deploy(&node, &["env", "PLAIN", "SECRET", "BOTH"], &more);
    let told = node.mcp("mcp-run-container", &["--dry-run", ID]).expect(0).out;
    let lines: Vec<&str> = told.lines().collect();
    for pair in [["--env", "PLAIN=a b"], ["--user", "7:8"], ["--network", "host"], ["--restart", "no"]] {
        assert!(lines.windows(2).any(|w| w == pair), "{pair:?}: {told}");
    }
    assert!(!told.contains("hush") && !told.contains("BOTH="), "{told}");
    node.mcp("mcp-run-container", &["--detach", ID]).expect(0);
    until("it has told", || node.console(ID).contains("BOTH="));
    let console = node.console(ID);
    for line in ["PLAIN=a b\n", "SECRET=  hush = hush\n", "BOTH=file\n"] {
        assert!(console.contains(line), "{line:?}: {console}");
    }
    assert!(!node.state(ID)["argv"].to_string().contains("hush"));
    assert!(!node.run_dir(ID).join("c/env").exists());
    let pid = node.state(ID)["pid"].as_i64().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("Uid:\t7\t") && status.contains("Gid:\t8\t"), "{status}");
}

#[test]
fn an_empty_list_of_arguments_is_none_at_all() {
    let Some((node, _podman)) = node("an_empty_list_of_arguments", &[], "") else { return };
    // The image's own arguments would be "sleep" too, so the vector is looked at.
    let told = node.mcp("mcp-run-container", &["--dry-run", ID]).expect(0).out;
    let lines: Vec<&str> = told.lines().collect();
    assert!(lines.windows(2).any(|w| w == ["--entrypoint", "[\"/act\"]"]), "{told}");
    node.mcp("mcp-run-container", &["--detach", ID]).expect(0);
    until("it runs", || node.console(ID).contains("act: sleep"));
}

#[test]
fn what_can_not_be_started_is_refused_before() {
    let test = "what_can_not_be_started_is_refused_before";
    let Some((node, podman)) = node(test, &["sleep"], "volumes = [\"/no/such:/data\"]") else { return };
    let says = |code: i32, words: &str| {
        let ran = node.mcp("mcp-run-container", &[ID]).expect(code);
        assert!(ran.one_line().contains(words), "{words}: {ran:#?}");
    };
    says(100, "shop/web: volume /no/such: no such file or directory on this node");
    deploy(&node, &["sleep"], "env_file = \"/no/such.env\"");
    says(100, "/no/such.env: env_file missing: no such file");
    deploy(&node, &["sleep"], "");
    let name = node.mcp("mcp-run-container", &["--dry-run", ID]).expect(0).out;
    let name = name.lines().skip_while(|l| *l != "--name").nth(1).unwrap().to_string();
    podman.ask(&["create", "--name", &name, "--network", "none", ACT]);
    says(100, &format!("shop/web: a container named {name} is there that has no label"));
    assert_eq!(podman.names(), [name.as_str()]);
    podman.ask(&["rm", &name]);
    node.define("shop", "name = \"shop\"\n[[components]]\nname = \"web\"\nimage = \"localhost/none:1\"\n");
    std::fs::remove_file(node.root.join("lib/registry/shop/web.json")).unwrap();
    says(100, "shop/web: never deployed: mcp deploy shop/web");
}

#[test]
fn a_program_that_is_not_there_or_not_executable_is_told_as_shells_do() {
    let Some((node, podman)) = node("a_program_that_is_not_there", &["sleep"], "") else { return };
    for (program, code) in [("/no-such", 127), ("/www/index.html", 126)] {
        podman.image("localhost/broken:1", &serde_json::json!({ "Entrypoint": [program] }));
        let text =
            "name = \"shop\"\n[[components]]\nname = \"web\"\nimage = \"localhost/broken:1\"\nnetwork = \"none\"\n";
        node.define("shop", text);
        node.mcp("mcp-record", &["--new", "--now", ID]).expect(0);
        for (ours, args) in [("mcp-run-container", &[ID][..]), ("mcp-run", &["--detach", "--wait", ID])] {
            let ran = node.mcp(ours, args).expect(code);
            let words = format!("shop/web: podman exited with {code}: ");
            assert!(ran.one_line().contains(&words), "{ran:#?}");
        }
        assert_eq!(podman.names(), Vec::<String>::new());
        assert_eq!(node.processes(), Vec::<String>::new());
    }
}

#[test]
fn the_definition_says_what_is_run_where_and_how_it_is_asked_to_stop() {
    let script = "trap 'echo got USR1; exit 0' USR1; echo \"in $(pwd)\"; if [ -t 1 ]; then echo terminal; else echo pipe; fi; \
                  while :; do sleep 0.05; done";
    let more = "entrypoint = [\"/bin/sh\"]\nworkdir = \"/www\"\nstop_signal = \"SIGUSR1\"\nstop_timeout = \"5s\"\nsettle = \"0s\"";
    let Some((node, _podman)) = node("the_definition_says_what_is_run", &["-c", script], more) else { return };
    for (output, more) in [("pipe", more.to_string()), ("terminal", format!("{more}\ntty = true"))] {
        super::deploy(&node, &["-c", script], &more);
        node.mcp("mcp-run-container", &["--detach", ID]).expect(0);
        until("it has spoken", || node.console(ID).lines().any(|line| line.trim_end() == output));
        assert!(node.console(ID).contains("in /www"), "{}", node.console(ID));
        node.mcp("mcp-stop", &[ID]).expect(0);
        until("it has said why it ends", || node.console(ID).contains("got USR1"));
        node.mcp("mcp-rm", &[ID]).expect(0);
    }
}
