//! mcp-status on nodes made of files.

use crate::tree::{Tree, ago, end};
use mcp::model::state::{EndedBy, Phase};
use mcp::model::{Port, Protocol, Wish};
use mcp::sys::paths::Slot;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

const STATUS: &str = env!("CARGO_BIN_EXE_mcp-status");

fn cells(table: &str, id: &str) -> Vec<String> {
    let (service, component) = id.split_once('/').unwrap();
    let rows = table.lines().map(|l| l.split_whitespace().map(str::to_string).collect::<Vec<_>>());
    rows.into_iter().find(|r| r[0] == service && r[1] == component).unwrap_or_else(|| panic!("no {id} in\n{table}"))
}

#[test]
fn status_of_an_empty_node() {
    let tree = Tree::new();
    let a = tree.run(STATUS, &[]);
    assert_eq!(a.code, Some(0));
    assert_eq!(a.out, "SERVICE  COMPONENT  RUNTIME  STATE  IMAGE  PORTS  UPTIME  RESTARTS  DRIFT\n");
    assert_eq!(a.err, "");
    assert_eq!(tree.run(STATUS, &["--list"]).out, "");
    // Asking leaves nothing behind. The folder of podman is the harness's.
    let left = std::fs::read_dir(&tree.root).unwrap().flatten().map(|e| e.file_name());
    assert_eq!(left.collect::<Vec<_>>(), ["podman"]);
}

#[test]
fn status_of_what_runs_ad_hoc() {
    let tree = Tree::new();
    tree.record("demo/demo", Wish::Run, true);
    tree.state("demo/demo", Slot::A, |s| {
        s.ports = vec![Port { bind: "127.0.0.1".parse().unwrap(), host: 8080, guest: 80, protocol: Protocol::Tcp }];
        s.restarts = 2;
    });
    let _supervisor = tree.supervise("demo/demo");
    let _vm = tree.live("demo/demo", Slot::A);
    let a = tree.run(STATUS, &[]);
    let row = cells(&a.out, "demo/demo");
    assert_eq!(row[..6], ["demo", "demo", "unikernel", "running", "app.img", "127.0.0.1:8080->80/tcp"]);
    assert!(row[6].starts_with("1m3"), "{row:?}");
    assert_eq!(row[7..], ["2", "-"]);
    assert_eq!((a.code, a.err.as_str()), (Some(0), ""));
    assert_eq!(tree.run(STATUS, &["--wanted", "demo"]).code, Some(0));

    let sheet = tree.run(STATUS, &["-v", "demo"]);
    for part in
        ["demo/demo\n", "state:        running\n", "wanted:       yes (ad hoc)", "    -S\n", "uuid of demo/demo"]
    {
        assert!(sheet.out.contains(part), "no {part:?} in\n{}", sheet.out);
    }
}

#[test]
fn status_words_for_every_end() {
    let tree = Tree::new();
    for (id, by, code) in [
        ("a/exited", EndedBy::Guest, Some(0)),
        ("a/failed", EndedBy::Guest, Some(7)),
        ("a/stopped", EndedBy::Operator, Some(0)),
        ("a/mcp", EndedBy::Mcp, None),
    ] {
        tree.record(id, Wish::Run, true);
        tree.state(id, Slot::A, |s| {
            s.phase = Phase::Ended;
            s.end = end(by, code);
        });
    }
    tree.record("a/killed", Wish::Run, true);
    tree.state("a/killed", Slot::B, |_| {});
    tree.record("a/signal", Wish::Run, true);
    tree.state("a/signal", Slot::A, |s| {
        s.end = end(EndedBy::Guest, None).map(|e| mcp::model::state::End { signal: Some(11), ..e })
    });
    tree.record("a/never", Wish::Run, true);
    tree.record("a/wished", Wish::Stop, true);
    tree.record("a/starting", Wish::Run, true);
    let _s = tree.supervise("a/starting");
    tree.record("a/waiting", Wish::Run, true);
    tree.state("a/waiting", Slot::A, |s| {
        s.phase = Phase::Waiting;
        s.end = end(EndedBy::Guest, Some(3));
    });
    let _w = tree.supervise("a/waiting");
    let a = tree.run(STATUS, &[]);
    for (component, state) in [
        ("exited", "exited"),
        ("failed", "failed(7)"),
        ("stopped", "stopped"),
        ("mcp", "failed"),
        ("killed", "failed"),
        ("signal", "failed(SIGSEGV)"),
        ("never", "absent"),
        ("wished", "stopped"),
        ("starting", "starting"),
        ("waiting", "waiting"),
    ] {
        assert_eq!(cells(&a.out, &format!("a/{component}"))[3], state, "{component}");
    }
    let list = tree.run(STATUS, &["--list", "--state", "failed", "--state", "exited"]);
    assert_eq!(list.out, "a/exited\na/failed\na/killed\na/mcp\na/signal\n");
    assert_eq!(tree.run(STATUS, &["--wanted", "a/wished"]).code, Some(1));
    assert_eq!(tree.run(STATUS, &["--wanted", "a/waiting"]).code, Some(0));
}

#[test]
fn status_tells_drift_by_exit_code() {
    let tree = Tree::new();
    tree.record("lost/web", Wish::Run, true);
    tree.state("lost/web", Slot::B, |_| {});
    let _vm = tree.live("lost/web", Slot::B);
    tree.record("gone/web", Wish::Run, false);
    tree.record("loop/web", Wish::Run, true);
    tree.state("loop/web", Slot::A, |s| s.restarted_at = vec![ago(1), ago(20), ago(300)]);
    let _locks = (tree.supervise("loop/web"), tree.live("loop/web", Slot::A));
    tree.record("stop/web", Wish::Stop, true);
    tree.state("stop/web", Slot::A, |_| {});
    let _more = (tree.supervise("stop/web"), tree.live("stop/web", Slot::A));
    tree.put(&tree.files("half/web").record, "{\"schema\": 1, ");
    tree.put(&tree.files("newer/web").record, "{\"schema\": 99}");
    let a = tree.run(STATUS, &[]);
    assert_eq!(a.code, Some(1), "{a:?}");
    for (id, drift) in [
        ("lost/web", "unsupervised"),
        ("gone/web", "orphan"),
        ("loop/web", "crash-loop"),
        ("stop/web", "stopped-but-running"),
        ("half/web", "record"),
        ("newer/web", "record"),
    ] {
        assert_eq!(cells(&a.out, id).last().unwrap(), drift);
    }
    assert_eq!(tree.run(STATUS, &["--list", "gone"]).code, Some(1));
    let newer = tree.run(STATUS, &["-v", "newer"]);
    assert!(newer.out.contains("written by a newer mcp"), "{}", newer.out);
    assert_eq!(tree.run(STATUS, &["--wanted", "newer"]).code, Some(100));
}

#[test]
fn status_refuses_what_it_can_not_know() {
    let tree = Tree::new();
    tree.record("demo/web", Wish::Stop, true);
    let a = tree.run(STATUS, &["demo", "nope"]);
    assert_eq!(a.code, Some(100));
    assert!(a.out.contains("demo     web"), "{}", a.out);
    assert_eq!(
        a.err,
        "mcp-status: nope: no such component: neither declared nor ever started; mcp-status --list names all\n"
    );
    for bad in [&["No"][..], &["--state", "dead"], &["--list", "--json"], &["--watch=0s"], &["--wanted", "a", "b"]] {
        let a = tree.run(STATUS, bad);
        assert_eq!(a.code, Some(2), "{bad:?} {a:?}");
        assert_eq!(a.err.lines().count(), 1, "{a:?}");
        assert_eq!(a.out, "");
    }
    assert_eq!(tree.run(STATUS, &["--wanted", "nope"]).code, Some(100));
}

#[test]
fn status_as_json() {
    let tree = Tree::new();
    tree.record("demo/demo", Wish::Run, true);
    tree.state("demo/demo", Slot::B, |_| {});
    let _vm = tree.live("demo/demo", Slot::B);
    let a = tree.run(STATUS, &["--json"]);
    let document: serde_json::Value = serde_json::from_str(&a.out).unwrap();
    assert_eq!(document["schema"], 1);
    assert_eq!(document["drift"], true);
    let c = &document["components"][0];
    assert_eq!(c["state"], "running");
    assert_eq!(c["drift"], serde_json::json!(["unsupervised"]));
    assert_eq!(c["slot"], "b");
    assert_eq!(c["instance"]["argv"][1], "-S");
    assert_eq!(c["digests"]["running"], c["digests"]["recorded"]);
    assert_eq!(a.code, Some(1));
}

#[test]
fn status_as_metrics() {
    let tree = Tree::new();
    tree.record("demo/demo", Wish::Run, true);
    tree.state("demo/demo", Slot::A, |s| s.image = "/a\"b\\c".into());
    let vm = tree.live("demo/demo", Slot::A);
    let file = tree.root.join("mcp.prom");
    let a = tree.run(STATUS, &["--prometheus", file.to_str().unwrap()]);
    assert_eq!((a.code, a.out.as_str(), a.err.as_str()), (Some(0), "", ""));
    let text = std::fs::read_to_string(&file).unwrap();
    for line in [
        "mcp_component_up{service=\"demo\",component=\"demo\"} 1",
        "mcp_component_ready{service=\"demo\",component=\"demo\"} 1",
        "mcp_component_restarts_total{service=\"demo\",component=\"demo\"} 0",
        "mcp_component_info{service=\"demo\",component=\"demo\",runtime=\"unikernel\",image=\"app.img\"} 1",
        "mcp_drift{kind=\"unsupervised\"} 1",
        "mcp_drift{kind=\"missing\"} 0",
        "# TYPE mcp_drift gauge",
    ] {
        assert!(text.lines().any(|l| l == line), "no {line} in\n{text}");
    }
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
    // Without its record the image is known from the state alone, and may hold anything.
    std::fs::remove_file(tree.files("demo").record).unwrap();
    let text = tree.run(STATUS, &["--prometheus", "-"]).out;
    assert!(text.contains(r#"image="a\"b\\c""#), "{text}");
    drop(vm);
    let text = tree.run(STATUS, &["--prometheus", "-"]).out;
    assert!(text.contains("mcp_component_up{service=\"demo\",component=\"demo\"} 0"), "{text}");
    assert_eq!(tree.run(STATUS, &["--prometheus", "/dev/null"]).code, Some(100));
    let left: Vec<_> = std::fs::read_dir(&tree.root).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|n| !n.to_string_lossy().starts_with('.')), "{left:?}");
}

#[test]
fn status_shows_hostile_words_harmlessly() {
    let tree = Tree::new();
    tree.record("demo/demo", Wish::Run, true);
    tree.state("demo/demo", Slot::A, |s| {
        s.end = end(EndedBy::Guest, Some(1));
        s.end.as_mut().unwrap().console = vec!["\x1b[2Jgone\u{9b}".into()];
    });
    let a = tree.run(STATUS, &["-v"]);
    assert!(a.out.contains("\\u{1b}[2Jgone\\u{9b}\n"), "{}", a.out);
}

#[test]
fn status_watches_changes() {
    let tree = Tree::new();
    tree.record("demo/demo", Wish::Run, true);
    let mut child = tree.command(STATUS).args(["--watch=1h", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| tell.send(line)));
    let next = || {
        let line = told.recv_timeout(std::time::Duration::from_secs(10)).expect("a change is shown within 10 s");
        serde_json::from_str::<serde_json::Value>(&line).unwrap()
    };
    assert_eq!(next()["components"][0]["state"], "absent");
    let vm = tree.live("demo/demo", Slot::A);
    tree.state("demo/demo", Slot::A, |_| {});
    while next()["components"][0]["state"] != "running" {}
    tree.record("demo/demo", Wish::Stop, true);
    while next()["components"][0]["drift"].as_array().unwrap().len() != 2 {}
    drop(vm);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), nix::sys::signal::Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

const DEMO: &str = r#"
name = "demo"
[[components]]
name = "web"
runtime = "unikernel"
disk = "/images/app.img"
"#;

#[test]
fn status_holds_definitions_against_what_runs() {
    let tree = Tree::new();
    let file = tree.paths.services.join("demo.toml");
    tree.put(&file, DEMO);
    let a = tree.run(STATUS, &[]);
    assert_eq!(cells(&a.out, "demo/web")[2..], ["unikernel", "absent", "app.img", "-", "-", "-", "missing"]);
    assert_eq!((a.code, tree.run(STATUS, &["--wanted", "demo"]).code), (Some(1), Some(0)));

    tree.record("demo/web", Wish::Run, false);
    tree.state("demo/web", Slot::A, |_| {});
    let _locks = (tree.supervise("demo/web"), tree.live("demo/web", Slot::A));
    let a = tree.run(STATUS, &[]);
    assert_eq!(a.code, Some(0), "{}", a.out);

    let drift = |text: &str| {
        tree.put(&file, text);
        let a = tree.run(STATUS, &[]);
        assert_eq!(a.code, Some(1), "{a:?}");
        cells(&a.out, "demo/web").last().unwrap().clone()
    };
    assert_eq!(drift(&format!("{DEMO}memory_mb = 512\n")), "config");
    assert_eq!(drift(&DEMO.replace("app.img", "new.img")), "image");
    assert_eq!(drift(&DEMO.replace("[[", "active = false\n[[")), "stopped-but-running");
    assert_eq!(tree.run(STATUS, &["--wanted", "demo"]).code, Some(1));
    assert_eq!(drift(&DEMO.replace("\"web\"", "\"other\"")), "orphan");
}

#[test]
fn status_shows_the_rest_beside_a_bad_definition() {
    let tree = Tree::new();
    tree.put(&tree.paths.services.join("bad.toml"), "name = \"bad\"\ncolour = 1\n");
    tree.put(&tree.paths.services.join("demo.toml"), DEMO);
    tree.record("bad/web", Wish::Run, false);
    let a = tree.run(STATUS, &[]);
    assert_eq!(a.code, Some(1));
    assert!(a.err.starts_with("mcp-status: "), "{}", a.err);
    assert!(a.err.contains("bad.toml:2: colour: "), "{}", a.err);
    assert_eq!(cells(&a.out, "demo/web").last().unwrap(), "missing");
    // Whether it is declared is not known, so it is no orphan.
    assert_eq!(cells(&a.out, "bad/web").last().unwrap(), "-");
    let other = tree.run(STATUS, &["demo"]);
    assert_eq!((other.code, other.err.as_str()), (Some(1), ""));
    let a = tree.run(STATUS, &["--wanted", "bad"]);
    assert_eq!(a.code, Some(100));
    assert!(a.err.contains("bad.toml:2: colour: "), "{}", a.err);
    assert_eq!(tree.run(STATUS, &["bad/web"]).code, Some(1));
}
