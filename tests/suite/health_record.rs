//! `mcp-health --record` and `--on-change`: what is told across runs, as cron would make them, and what `mcp-status` makes
//! of it.

use crate::drift::Node;
use crate::harness::until;
use crate::tree::{Answer, Tree, ago};
use mcp::model::Wish;
use mcp::model::probed::{Judged, Probed};
use mcp::model::state::Phase;
use serde_json::{Value, json};
use std::net::{TcpListener, TcpStream};

const HEALTH: &str = env!("CARGO_BIN_EXE_mcp-health");
const STATUS: &str = env!("CARGO_BIN_EXE_mcp-status");

/// A container that runs, whose program listens or doesn't.
struct Shop {
    node: Node,
    port: u16,
    listener: Option<TcpListener>,
    _supervisor: mcp::sys::lock::Lock,
}

impl Shop {
    /// Unhealthy after `failures` bad probes, healthy after `successes` good ones.
    fn new(successes: u32, failures: u32) -> Shop {
        let node = Node::new();
        let port = crate::harness::free_port();
        let text = format!(
            "name = \"shop\"\n[[components]]\nname = \"web\"\nimage = \"localhost/web:1\"\nnetwork = \"host\"\n\
             [components.health]\nkind = \"tcp\"\nport = {port}\nsuccesses = {successes}\nfailures = {failures}\n"
        );
        node.tree.put(&node.tree.paths.services.join("shop.toml"), &text);
        let supervisor = node.runs("shop/web");
        let mut record = mcp::model::Record::read(&node.tree.paths, &crate::tree::id_of("shop/web")).unwrap().unwrap();
        let loaded = mcp::model::load::load(&node.tree.paths);
        let spec = loaded.services[0].components[0].clone();
        let digest = spec.digest();
        record.current = Some(mcp::model::Version { spec, pin: None, at: String::new() });
        let id = crate::tree::id_of("shop/web");
        mcp::model::Record::update(&node.tree.paths, &id, |_| Some(record)).unwrap();
        node.state("shop/web", |s| s.spec = digest.clone());
        let mut listed = node.listed("shop/web", "running");
        listed["Labels"]["mcp.record"] = digest.into();
        node.says(&json!([listed]));
        Shop { node, port, listener: None, _supervisor: supervisor }
    }

    fn listens(&mut self, so: bool) {
        self.listener = so.then(|| TcpListener::bind(("127.0.0.1", self.port)).unwrap());
        // What another test is just about to start has a copy of the listener until its exec.
        until("the port is as it should be", || TcpStream::connect(("127.0.0.1", self.port)).is_ok() == so);
    }

    fn tree(&self) -> &Tree {
        &self.node.tree
    }

    fn run(&self, args: &[&str]) -> Answer {
        self.tree().run(HEALTH, args)
    }

    fn recorded(&self) -> Option<Probed> {
        Probed::read(&self.tree().files("shop/web")).unwrap()
    }
}

/// What is said of each run, without the times.
fn words(answer: &Answer) -> String {
    assert_eq!(answer.err, "", "{answer:?}");
    let line = answer.out.trim_end();
    line.split(" (since ").next().unwrap().to_string()
}

#[test]
fn health_record_tells_changes_alone() {
    let mut shop = Shop::new(1, 3);
    shop.listens(true);
    for _ in 0..2 {
        let a = shop.run(&["--all", "--record"]);
        assert_eq!((a.code, a.out.as_str(), a.err.as_str()), (Some(0), "", ""));
    }
    shop.listens(false);
    // One that fails now and then is no news, but the exit code is that of this probe.
    for said in ["", "", "shop/web: unhealthy: connection refused", "", ""] {
        let a = shop.run(&["--record", "shop"]);
        assert_eq!((a.code, words(&a).as_str()), (Some(1), said));
    }
    let probed = shop.recorded().unwrap();
    assert_eq!((probed.verdict, probed.count, probed.by.as_str()), (Some(Judged::Unhealthy), 5, "mcp-health"));
    shop.listens(true);
    let a = shop.run(&["--record", "shop/web"]);
    assert_eq!((a.code, words(&a).as_str()), (Some(0), "shop/web: healthy"));
    let line = a.out.trim_end();
    assert!(line.contains("; was unhealthy since 2") && line.ends_with("Z)"), "{line}");
    // The command line goes before the definition; quiet is quiet.
    shop.listens(false);
    assert_eq!(words(&shop.run(&["--record", "--failures", "1", "shop"])), "shop/web: unhealthy: connection refused");
    shop.listens(true);
    let a = shop.run(&["--record", "-q", "shop"]);
    assert_eq!((a.code, a.out.as_str()), (Some(0), ""));
}

#[test]
fn health_record_of_what_was_never_healthy() {
    let shop = Shop::new(1, 1);
    let a = shop.run(&["--record", "shop"]);
    assert_eq!((a.code, words(&a).as_str()), (Some(1), "shop/web: unhealthy: connection refused"));
    assert!(a.out.ends_with("; was unknown)\n"), "{}", a.out);
    let a = shop.run(&["--record", "--nagios", "shop"]);
    assert_eq!(a.code, Some(2));
    assert!(a.out.starts_with("MCP CRITICAL - shop/web: connection refused"), "{}", a.out);
}

#[test]
fn health_record_runs_a_command_on_each_change() {
    let mut shop = Shop::new(1, 1);
    let log = shop.tree().root.join("log.txt");
    let command = format!(
        "echo said; echo \"$MCP_TARGET $MCP_SERVICE $MCP_COMPONENT $MCP_HEALTH $MCP_WAS [$MCP_REASON] ${{MCP_SINCE%%T*}}\" >>'{}'",
        log.display()
    );
    let told = || std::fs::read_to_string(&log).unwrap_or_default();
    let run = |shop: &Shop| shop.run(&["--all", "--on-change", &command]);
    let day = &ago(0)[..10];
    let a = run(&shop);
    // What it prints is no answer of ours.
    assert_eq!((a.code, a.err.as_str(), a.out.lines().count()), (Some(1), "said\n", 1), "{a:?}");
    assert_eq!(told(), format!("shop/web shop web unhealthy unknown [connection refused] {day}\n"));
    assert_eq!(run(&shop).err, "");
    shop.listens(true);
    assert_eq!(run(&shop).code, Some(0));
    assert_eq!(run(&shop).out, "");
    assert_eq!(told().lines().last(), Some(format!("shop/web shop web healthy unhealthy [] {day}").as_str()));
    assert_eq!(told().lines().count(), 2);
    // That it fails is said, once, and changes no answer.
    shop.listens(false);
    let a = shop.run(&["--all", "--on-change", "exit 3"]);
    assert_eq!((a.code, a.err.as_str()), (Some(1), "mcp-health: shop/web: --on-change: sh: exited with 3\n"));
    assert_eq!(shop.run(&["--all", "--on-change", "exit 3"]).err, "");
}

#[test]
fn health_record_is_silent_about_what_shall_not_run() {
    let mut shop = Shop::new(1, 1);
    shop.listens(true);
    assert_eq!(shop.run(&["--all", "--record"]).code, Some(0));
    let ended = |phase, wish| {
        shop.node.state("shop/web", |s| {
            s.phase = phase;
            s.container.as_mut().unwrap().conmon.start_time = 1;
        });
        let id = crate::tree::id_of("shop/web");
        mcp::model::Record::update(&shop.tree().paths, &id, |r| Some(mcp::model::Record { wish, ..r? })).unwrap();
    };
    // It shall run, and does not: that is news.
    ended(Phase::Waiting, Wish::Run);
    let a = shop.run(&["--all", "--record"]);
    assert_eq!((a.code, words(&a).as_str()), (Some(1), "shop/web: unhealthy: not running"));
    // An operator has stopped it: that is none, and what was is forgotten.
    ended(Phase::Ended, Wish::Stop);
    let a = shop.run(&["--all", "--record"]);
    assert_eq!((a.code, a.out.as_str(), a.err.as_str()), (Some(0), "", ""));
    assert!(shop.recorded().is_none());
    let a = shop.run(&["--all"]);
    assert_eq!((a.code, a.out.as_str()), (Some(0), "shop/web: stopped, as it shall be\n"));
    let a = shop.run(&["--all", "--nagios"]);
    assert_eq!((a.code, a.out.as_str()), (Some(0), "MCP OK - stopped, as it shall be\n"));
    // Asked for by name, the answer is no.
    let a = shop.run(&["shop"]);
    assert_eq!(a.code, Some(1));
    assert!(a.out.starts_with("shop/web: unhealthy: ") && a.out.ends_with("not running\n"), "{}", a.out);
}

#[test]
fn health_record_waits_for_what_is_starting() {
    let shop = Shop::new(1, 1);
    let digest = shop.recorded_digest();
    shop.node.state("shop/web", |s| (s.phase, s.ready_at, s.spec) = (Phase::Starting, None, digest));
    let a = shop.run(&["--all", "--record"]);
    assert_eq!((a.code, a.out.as_str()), (Some(1), ""));
    assert!(shop.recorded().is_none());
}

impl Shop {
    fn recorded_digest(&self) -> String {
        let id = crate::tree::id_of("shop/web");
        let record = mcp::model::Record::read(&self.tree().paths, &id).unwrap().unwrap();
        record.current.unwrap().digest()
    }
}

#[test]
fn health_record_loses_nothing_to_another_probe() {
    let mut shop = Shop::new(1, 1);
    shop.listens(true);
    let probes: Vec<_> = (0..12)
        .map(|_| {
            shop.tree().command(HEALTH).args(["--record", "shop"]).stdout(std::process::Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for probe in probes {
        let out = probe.wait_with_output().unwrap();
        assert_eq!((out.status.code(), out.stdout.len()), (Some(0), 0));
    }
    assert_eq!(shop.recorded().unwrap().count, 12);
    shop.listens(false);
    let probes: Vec<_> = (0..12)
        .map(|_| {
            shop.tree().command(HEALTH).args(["--record", "shop"]).stdout(std::process::Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let told = probes.into_iter().map(|p| p.wait_with_output().unwrap().stdout).filter(|out| !out.is_empty()).count();
    assert_eq!((told, shop.recorded().unwrap().count), (1, 12));
    let left: Vec<_> =
        std::fs::read_dir(shop.tree().files("shop/web").run).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!left.iter().any(|n| n.to_string_lossy().ends_with(".tmp")), "{left:?}");
}

#[test]
fn health_record_is_what_status_shows() {
    let mut shop = Shop::new(1, 1);
    let status = |shop: &Shop, args: &[&str]| shop.tree().run(STATUS, args);
    let before = status(&shop, &[]);
    assert_eq!((before.code, before.out.contains("HEALTH")), (Some(0), false), "{before:?}");
    assert_eq!(shop.run(&["--record", "shop"]).code, Some(1));
    let a = status(&shop, &[]);
    assert_eq!(a.code, Some(1));
    let cells: Vec<&str> = a.out.lines().nth(1).unwrap().split_whitespace().collect();
    assert!(cells[4].starts_with("unhealthy(") && cells[4].ends_with("s)"), "{}", a.out);
    assert_eq!(cells.last(), Some(&"unhealthy"));
    let document: Value = serde_json::from_str(&status(&shop, &["--json"]).out).unwrap();
    let health = &document["components"][0]["health"];
    assert_eq!((&health["verdict"], &health["reason"]), (&json!("unhealthy"), &json!("connection refused")));
    assert!(health["age_s"].as_u64().unwrap() < 60 && health["recorded"] == true, "{health}");
    assert!(status(&shop, &["-v"]).out.contains("  so since:     2"), "{}", status(&shop, &["-v"]).out);
    let nagios = status(&shop, &["--nagios"]);
    assert_eq!(nagios.code, Some(2));
    assert!(nagios.out.starts_with("MCP CRITICAL - shop/web: unhealthy (running)|"), "{}", nagios.out);
    // Asked now, it is better; the record is as it was.
    shop.listens(true);
    let a = status(&shop, &["--health"]);
    assert_eq!((a.code, a.out.lines().nth(1).unwrap().split_whitespace().nth(4)), (Some(0), Some("healthy")));

    // Old, it says nothing of now; older than the instance, it is of another one.
    let rewrite = |minutes: u64| {
        let mut probed = shop.recorded().unwrap();
        probed.at = ago(minutes * 60);
        let text = serde_json::to_string(&probed).unwrap();
        shop.tree().put(&shop.tree().files("shop/web").probe(), &text);
    };
    let digest = shop.recorded_digest();
    shop.node.state("shop/web", |s| (s.started_at, s.spec) = (ago(3600), digest.clone()));
    rewrite(20);
    let a = status(&shop, &[]);
    assert_eq!(a.code, Some(0), "{a:?}");
    assert!(a.out.contains("unhealthy(20m"), "{}", a.out);
    rewrite(10);
    assert_eq!(status(&shop, &[]).code, Some(1));
    rewrite(70);
    let a = status(&shop, &[]);
    assert_eq!((a.code, a.out.contains("HEALTH")), (Some(0), false));
    // A damaged one is told and begins anew.
    shop.tree().put(&shop.tree().files("shop/web").probe(), "{\"schema\":");
    let a = status(&shop, &[]);
    assert_eq!(a.code, Some(0));
    assert!(a.err.contains("probe.json: damaged health record: ") && a.err.lines().count() == 1, "{}", a.err);
    let a = shop.run(&["--record", "shop"]);
    assert_eq!((a.code, a.out.as_str()), (Some(0), ""));
    assert_eq!(shop.recorded().unwrap().count, 1);
}

#[test]
fn health_record_wants_components() {
    let shop = Shop::new(1, 1);
    let a = shop.run(&["--record", "tcp://127.0.0.1:1"]);
    assert_eq!(a.code, Some(2));
    assert_eq!(a.err, "mcp-health: tcp://127.0.0.1:1: only the health of components is recorded, not that of URLs\n");
    for bad in [["--record", "--json"], ["--record", "--downtime"]] {
        assert_eq!(shop.run(&[&bad[..], &["shop"]].concat()).code, Some(2));
    }
}
