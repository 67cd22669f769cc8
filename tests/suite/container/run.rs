//! Starting, ending and stopping containers through the programs.

use super::{deploy, node, service, signal};
use crate::harness::{Node, Podman, free_port, get, in_own_network, until, wait};
use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

#[test]
fn in_the_foreground_with_the_programs_own_exit_code() {
    let Some((node, podman)) = node("in_the_foreground_with_the_programs_own_exit_code") else { return };
    node.define("job", &service("job", "args = [\"exit\", \"7\"]\n"));
    deploy(&node, "job");
    let ran = node.mcp("mcp-run", &["job"]).expect(7);
    assert_eq!(ran.out, "", "{ran:#?}");
    assert_eq!(node.console("job/job"), "act: exit\n");
    let end = &node.state("job/job")["end"];
    assert_eq!((end["by"].as_str(), end["code"].as_i64()), (Some("guest"), Some(7)), "{end:#}");
    assert_eq!(end["reason"], "program exited with 7");
    assert_eq!(podman.names(), Vec::<String>::new());
}

#[test]
fn detached_until_it_is_healthy_and_stopped_by_its_signal() {
    let Some((node, podman)) = node("detached_until_it_is_healthy_and_stopped_by_its_signal") else { return };
    let port = free_port();
    node.define("web", &web(port, "stop_timeout = \"20s\"\n"));
    deploy(&node, "web");
    node.mcp("mcp-run", &["--detach", "--wait", "web"]).expect(0);
    assert_eq!(get(port, "/").as_deref(), Some("localhost/act:1\n"), "ready before it answers");
    assert_eq!(node.state("web/web")["phase"], "ready");
    let [name] = &podman.names()[..] else { panic!("{:?}", podman.names()) };
    let labels = &podman.inspect(name)["Config"]["Labels"];
    assert_eq!((labels["mcp.service"].as_str(), labels["mcp.component"].as_str()), (Some("web"), Some("web")));
    // Held by another.
    let second = node.mcp("mcp-run", &["web"]).expect(100);
    assert!(second.one_line().contains("web/web"), "{second:#?}");
    node.mcp("mcp-health", &["web"]).expect(0);
    let stopped = node.mcp("mcp-stop", &["web"]).expect(0);
    assert!(stopped.out.starts_with("web/web: stopped: term ("), "{stopped:#?}");
    assert!(stopped.took < Duration::from_secs(15), "{stopped:#?}");
    assert_eq!(node.console("web/web"), "act: serve\nact: SIGTERM\n");
    assert_eq!(podman.names(), Vec::<String>::new());
    assert_eq!(node.mcp("mcp-rm", &["web"]).expect(0).err, "");
    assert!(!node.run_dir("web/web").exists() && !node.root.join("log/web/web").exists());
}

#[test]
fn what_ignores_the_signal_is_killed_when_its_time_is_up() {
    let Some((node, podman)) = node("what_ignores_the_signal_is_killed_when_its_time_is_up") else { return };
    node.define("deaf", &service("deaf", "args = [\"deaf\"]\nstop_timeout = \"1s\"\n"));
    deploy(&node, "deaf");
    node.mcp("mcp-run", &["--detach", "--wait", "deaf"]).expect(0);
    until("its trap is set", || node.console("deaf/deaf").contains("deaf"));
    let stopped = node.mcp("mcp-stop", &["deaf"]).expect(0);
    assert!(stopped.out.starts_with("deaf/deaf: stopped: kill ("), "{stopped:#?}");
    assert!(stopped.took >= Duration::from_secs(1), "{stopped:#?}");
    assert_eq!(podman.names(), Vec::<String>::new());
}

#[test]
fn what_takes_its_time_to_end_gets_it() {
    let Some((node, _podman)) = node("what_takes_its_time_to_end_gets_it") else { return };
    node.define("slow", &service("slow", "args = [\"slow\", \"1\"]\nstop_timeout = \"20s\"\n"));
    deploy(&node, "slow");
    let command = node.command("mcp-run", &["slow"]);
    let (began, child) = (Instant::now(), { command }.spawn().unwrap());
    until("it runs", || node.root.join("log/slow/slow").exists() && node.console("slow/slow").contains("slow"));
    signal(child.id() as i32, libc::SIGTERM);
    wait(child, "mcp-run slow", began).expect(3);
    let end = &node.state("slow/slow")["end"];
    assert_eq!((end["by"].as_str(), end["code"].as_i64()), (Some("operator"), Some(3)), "{end:#}");
}

#[test]
fn published_ports_lead_into_it_and_a_taken_one_is_told() {
    let Some((node, podman)) = node("published_ports_lead_into_it_and_a_taken_one_is_told") else { return };
    in_own_network(|| published(&node, &podman));
}

fn published(node: &Node, podman: &Podman) {
    let lines = "args = [\"serve\", \"80\"]\nports = [\"127.0.0.1:8080:80\", \"127.0.0.1:8081:80\"]\n\
        \n  [components.health]\n  kind = \"http\"\n";
    node.define("web", &service("web", lines));
    deploy(node, "web");
    let holder = TcpListener::bind("127.0.0.1:8081").unwrap();
    let refused = node.mcp("mcp-run", &["--detach", "--wait", "web"]).expect(111);
    assert!(refused.one_line().contains("127.0.0.1:8081"), "{refused:#?}");
    assert_eq!(podman.names(), Vec::<String>::new());
    drop(holder);
    node.mcp("mcp-run", &["--detach", "--wait", "web"]).expect(0);
    for port in [8080, 8081] {
        assert_eq!(get(port, "/").as_deref(), Some("localhost/act:1\n"), "port {port}");
    }
    node.mcp("mcp-stop", &["web"]).expect(0);
    assert!(TcpListener::bind("127.0.0.1:8080").is_ok());
}

#[test]
fn two_starts_at_once_make_one_container() {
    let Some((node, podman)) = node("two_starts_at_once_make_one_container") else { return };
    node.define("one", &service("one", "stop_timeout = \"5s\"\n"));
    deploy(&node, "one");
    let start = || (Instant::now(), node.command("mcp-run", &["--detach", "--wait", "one"]).spawn().unwrap());
    let both = [start(), start(), start()];
    let mut codes: Vec<i32> =
        both.into_iter().map(|(began, child)| wait(child, "mcp-run one", began).code.unwrap()).collect();
    codes.sort_unstable();
    assert_eq!(codes, [0, 100, 100]);
    assert_eq!(podman.names().len(), 1);
    node.mcp("mcp-stop", &["one"]).expect(0);
}

#[test]
fn secrets_reach_the_program_and_nothing_else() {
    let test = "secrets_reach_the_program_and_nothing_else";
    let Some((node, podman)) = node(test) else { return };
    let fake = crate::harness::FakePodman::new(&node);
    node.configure(&fake.config());
    let file = node.root.join("api.env");
    fs::write(&file, "TOKEN=zvxq hello=1\n").unwrap();
    let lines = format!("env_file = \"{}\"\nenv = {{ TOKEN = \"shown\", OTHER = \"plain\" }}\n", file.display());
    node.define("api", &service("api", &lines));
    deploy(&node, "api");
    let mut command = node.command("mcp-run", &["--detach", "--wait", "api"]);
    command.env("MCP_LOG", "trace");
    let ran = crate::harness::finish(command, "mcp-run").expect(0);
    let [name] = &podman.names()[..] else { panic!("{:?}", podman.names()) };
    let told = podman.ask(&["exec", name, "sh", "-c", "echo $TOKEN; echo $OTHER"]);
    assert_eq!(told, "zvxq hello=1\nplain");
    assert!(!ran.err.contains("zvxq") && !fake.calls().iter().any(|call| call.contains("zvxq")), "{ran:#?}");
    node.mcp("mcp-status", &["-v", "api"]).out.contains("zvxq").then(|| panic!("shown by mcp-status"));
    for dir in ["run", "log", "lib"] {
        for path in crate::harness::find(&node.root.join(dir), &|_| true) {
            let bytes = fs::read(&path).unwrap_or_default();
            assert!(!bytes.windows(4).any(|w| w == b"zvxq"), "the secret is in {}", path.display());
        }
    }
    node.mcp("mcp-stop", &["api"]).expect(0);
}

/// A service that serves HTTP on `port` of the node, with further lines.
fn web(port: u16, lines: &str) -> String {
    let lines = format!(
        "network = \"host\"\nargs = [\"serve\", \"127.0.0.1:{port}\"]\n{lines}\n  [components.health]\n  kind = \
         \"http\"\n  port = {port}\n"
    );
    service("web", &lines)
}
