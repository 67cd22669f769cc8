//! What containers and VMs together differ in, on nodes made of files and of what a podman says that reads from a script.
//! With the real podman: drift_podman.rs.

use crate::tree::{Tree, ago, end, id_of};
use mcp::model::state::{ContainerState, EndedBy, Phase, Process};
use mcp::model::{Component, Record, Runtime, Source, Version, Wish};
use mcp::sys::lock::Lock;
use mcp::sys::paths::Slot;
use serde_json::{Value, json};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

const STATUS: &str = env!("CARGO_BIN_EXE_mcp-status");

/// A node with a VM and containers, whose podman answers what a file says and notes what it was asked.
pub struct Node {
    pub tree: Tree,
    config: String,
}

/// What a definition says of component `NAME`, a container.
pub fn spec(name: &str) -> Component {
    Component::new(name, Runtime::Container, Source::Image { reference: "localhost/web:1".into() })
}

pub fn version(name: &str) -> Version {
    Version { spec: spec(name), pin: None, at: String::new() }
}

impl Node {
    pub fn new() -> Node {
        let tree = Tree::new();
        let script = "#!/bin/sh\necho \"$*\" >>\"$0.calls\"\nexec cat \"$0.json\"\n";
        let config = Node::binary(&tree, script);
        let node = Node { tree, config };
        node.configure("");
        node.says(&json!([]));
        node
    }

    fn binary(tree: &Tree, script: &str) -> String {
        use std::os::unix::fs::PermissionsExt;
        let program = tree.root.join("fake");
        tree.put(&program, script);
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        format!("[podman]\nbinary = \"{}\"\n", program.display())
    }

    /// The node config; `more` goes into `[podman]`.
    pub fn configure(&self, more: &str) {
        self.tree.put(&self.tree.paths.config, &format!("{}{more}", self.config));
    }

    /// From now on podman does that.
    fn does(&self, script: &str) {
        Node::binary(&self.tree, &format!("#!/bin/sh\n{script}\n"));
    }

    pub fn says(&self, answer: &Value) {
        self.tree.put(&self.tree.root.join("fake.json"), &answer.to_string());
    }

    fn calls(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.tree.root.join("fake.calls")).unwrap_or_default();
        text.lines().map(String::from).collect()
    }

    pub fn define(&self, service: &str, components: &[&str]) {
        let mut text = format!("name = \"{service}\"\n");
        for name in components {
            text += &format!("[[components]]\nname = \"{name}\"\nimage = \"localhost/web:1\"\n");
        }
        self.tree.put(&self.tree.paths.services.join(format!("{service}.toml")), &text);
    }

    pub fn record(&self, id: &str, wish: Wish) {
        let id = id_of(id);
        let current = Some(version(&id.component));
        Record::update(&self.tree.paths, &id, |_| Some(Record { wish, current, ..Record::new() })).unwrap();
    }

    /// State and supervisor of a container, as of one that runs: this process stands for its conmon.
    pub fn runs(&self, id: &str) -> Lock {
        self.record(id, Wish::Run);
        self.state(id, |_| {});
        self.tree.supervise(id)
    }

    pub fn state(&self, id: &str, change: impl FnOnce(&mut mcp::model::state::State)) {
        let digest = version(&id_of(id).component).digest();
        self.tree.state(id, Slot::C, |s| {
            let conmon = Process::of(std::process::id() as i32).unwrap();
            let container = ContainerState { name: "x".into(), image: "x".into(), conmon, control: "/nowhere".into() };
            s.uuid = id_in_podman(id);
            s.spec = digest;
            s.qemu = "4.3.1".into();
            s.accel = String::new();
            s.container = Some(container);
            change(s);
        });
    }

    /// What podman says of the container of `id`.
    pub fn listed(&self, id: &str, state: &str) -> Value {
        let of = id_of(id);
        json!({
            "Id": id_in_podman(id), "Names": [format!("mcp.{}.{}", of.service, of.component)], "State": state,
            "Image": "localhost/web:1", "ImageID": "00ff", "Pid": 42, "IsInfra": false, "ExitCode": 0,
            "StartedAt": seconds() - 95, "ExitedAt": -62_135_596_800_i64, "Created": seconds() - 96,
            "Labels": {
                "mcp.service": of.service, "mcp.component": of.component, "mcp.root": self.tree.paths.lib,
                "mcp.record": version(&of.component).digest(),
            },
            "Ports": [{ "host_ip": "127.0.0.1", "host_port": 8080, "container_port": 80, "range": 1, "protocol": "tcp" }],
        })
    }
}

fn id_in_podman(id: &str) -> String {
    format!("{:0<64}", id.replace('/', "0"))
}

fn foreign(name: &str, state: &str) -> Value {
    json!({ "Id": format!("id{name}"), "Names": [name], "State": state, "Image": "docker.io/library/redis:7",
            "Labels": null, "Ports": null, "StartedAt": seconds() - 7300 })
}

fn seconds() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

/// The cells of the row that begins so.
fn row(table: &str, service: &str, component: &str) -> Vec<String> {
    let mut rows = table.lines().map(|l| l.split_whitespace().map(str::to_string).collect::<Vec<_>>());
    rows.find(|r| r[0] == service && r[1] == component)
        .unwrap_or_else(|| panic!("no {service}/{component} in\n{table}"))
}

fn drift_of(table: &str, service: &str, component: &str) -> String {
    row(table, service, component).last().unwrap().clone()
}

#[test]
fn drift_status_merges_vms_and_containers_by_one_question() {
    let node = Node::new();
    let (tree, names) = (&node.tree, ["a", "b", "c", "d"]);
    node.define("shop", &names);
    let _locks: Vec<Lock> = names.iter().map(|n| node.runs(&format!("shop/{n}"))).collect();
    tree.record("vm/vm", Wish::Run, true);
    tree.state("vm/vm", Slot::A, |_| {});
    let _vm = (tree.supervise("vm/vm"), tree.live("vm/vm", Slot::A));
    node.says(&Value::Array(names.iter().map(|n| node.listed(&format!("shop/{n}"), "running")).collect()));
    let a = tree.run(STATUS, &[]);
    assert_eq!((a.code, a.err.as_str()), (Some(0), ""), "{a:?}");
    assert_eq!(a.out.lines().count(), 6, "{}", a.out);
    let cells = row(&a.out, "shop", "b");
    assert_eq!(cells[2..6], ["container", "running", "localhost/web:1", "-"]);
    assert!(cells[6].starts_with("1m3"), "{cells:?}");
    assert_eq!(cells[7..], ["0", "-"]);
    assert_eq!(row(&a.out, "vm", "vm")[2..4], ["unikernel", "running"]);
    assert_eq!(node.calls(), ["--log-level=error ps --all --format json"]);
    // Asked for a VM alone, podman is left alone.
    assert_eq!(tree.run(STATUS, &["vm"]).code, Some(0));
    assert_eq!(tree.run(STATUS, &["--wanted", "shop"]).code, Some(0));
    assert_eq!(node.calls().len(), 1);
    let sheet = tree.run(STATUS, &["-v", "shop/b"]);
    for part in ["container:    mcp.shop.b shop0b", "podman:       4.3.1", "its record:   "] {
        assert!(sheet.out.contains(part), "no {part:?} in\n{}", sheet.out);
    }
    let document: Value = serde_json::from_str(&tree.run(STATUS, &["--json", "shop/b"]).out).unwrap();
    assert_eq!(document["podman"], json!({ "asked": true, "error": null }));
    let item = &document["components"][0];
    assert_eq!(item["container"]["state"], "running");
    assert_eq!(item["digests"]["running"], item["digests"]["recorded"]);
    assert_eq!((&item["alive"], &item["slot"]), (&json!(true), &json!("c")));
}

#[test]
fn drift_kinds_of_containers() {
    let node = Node::new();
    let tree = &node.tree;
    node.define("shop", &["ok", "gone", "stopped", "lone", "new", "loop", "half", "failed", "record"]);
    let mut locks = Vec::new();
    for name in ["ok", "gone", "stopped", "new", "loop", "half", "record"] {
        locks.push((name, node.runs(&format!("shop/{name}"))));
    }
    // Our hint says that it lives, podman knows better, and its supervisor is gone as well.
    locks.retain(|(name, _)| *name != "gone");
    node.record("shop/stopped", Wish::Stop);
    node.record("shop/lone", Wish::Run);
    node.state("shop/loop", |s| (s.restarts, s.restarted_at) = (3, vec![ago(1), ago(30), ago(400)]));
    tree.put(&tree.files("shop/half").instance(Slot::C).state(), "{\"schema\": 1,");
    tree.put(&tree.files("shop/record").record, "{\"schema\": 2,");
    node.record("shop/failed", Wish::Run);
    node.state("shop/failed", |s| {
        (s.phase, s.end) = (Phase::Ended, end(EndedBy::Guest, Some(7)));
        s.container.as_mut().unwrap().conmon.start_time = 1;
    });
    let mut listed: Vec<Value> = ["ok", "stopped", "lone", "loop", "half", "record"]
        .iter()
        .map(|n| node.listed(&format!("shop/{n}"), "running"))
        .collect();
    let mut new = node.listed("shop/new", "running");
    new["Labels"]["mcp.record"] = "0123".into();
    let mut failed = node.listed("shop/failed", "exited");
    (failed["ExitCode"], failed["ExitedAt"]) = (7.into(), seconds().into());
    listed.extend([new, failed]);
    node.says(&Value::Array(listed));
    let a = tree.run(STATUS, &[]);
    assert_eq!((a.code, a.err.as_str()), (Some(1), ""), "{a:?}");
    for (name, state, drift) in [
        ("ok", "running", "-"),
        ("gone", "failed", "missing"),
        ("stopped", "running", "stopped-but-running"),
        ("lone", "running", "unsupervised"),
        ("new", "running", "image"),
        ("loop", "running", "crash-loop"),
        ("half", "running", "record"),
        ("record", "running", "config,record"),
        ("failed", "failed(7)", "missing"),
    ] {
        let cells = row(&a.out, "shop", name);
        assert_eq!((cells[3].as_str(), cells.last().unwrap().as_str()), (state, drift), "{name} in\n{}", a.out);
    }
    for (filter, wanted) in [
        (&["--state", "failed"][..], "shop/failed\nshop/gone\n"),
        (&["--drift", "unsupervised"], "shop/lone\n"),
        (&["--drift", "image", "--drift", "record"], "shop/half\nshop/new\nshop/record\n"),
        (&["--drift", "unsupervised", "--state", "failed"], ""),
        (&["--placement", "node", "--state", "failed"], "shop/failed\nshop/gone\n"),
        (&["--placement", "cluster"], ""),
    ] {
        assert_eq!(tree.run(STATUS, &[&["--list"], filter].concat()).out, wanted, "{filter:?}");
    }
    assert_eq!(tree.run(STATUS, &["--drift", "dead"]).code, Some(2));
}

#[test]
fn drift_shows_containers_that_nobody_declared() {
    let node = Node::new();
    let tree = &node.tree;
    node.define("shop", &["web"]);
    let _web = node.runs("shop/web");
    let mut others = node.listed("shop/web", "running");
    others["Labels"]["mcp.root"] = "/somewhere/else".into();
    let mut infra = foreign("pod-infra", "running");
    infra["IsInfra"] = true.into();
    let listed = [
        node.listed("shop/web", "running"),
        node.listed("old/api", "exited"),
        others,
        infra,
        foreign("cache", "running"),
        foreign("ci-7", "running"),
        foreign("ci-8", "created"),
    ];
    node.says(&json!(listed));
    let a = tree.run(STATUS, &[]);
    assert_eq!((a.code, a.err.as_str()), (Some(1), ""), "{a:?}");
    let names: Vec<String> =
        a.out.lines().skip(1).map(|l| l.split_whitespace().take(2).collect::<Vec<_>>().join("/")).collect();
    assert_eq!(names, ["old/api", "shop/web", "-/cache", "-/ci-7", "-/ci-8"], "{}", a.out);
    let cache = row(&a.out, "-", "cache");
    assert_eq!(cache[2..6], ["container", "running", "docker.io/library/redis:7", "-"]);
    assert!(cache[6].starts_with("2h1m"), "{cache:?}");
    assert_eq!((drift_of(&a.out, "-", "cache"), drift_of(&a.out, "-", "ci-8")), ("orphan".into(), "orphan".into()));
    assert_eq!((drift_of(&a.out, "old", "api"), drift_of(&a.out, "shop", "web")), ("orphan".into(), "-".into()));
    // For other programs of ours a stranger has no name.
    assert_eq!(tree.run(STATUS, &["--list"]).out, "old/api\nshop/web\n");
    let document: Value = serde_json::from_str(&tree.run(STATUS, &["--json"]).out).unwrap();
    let cache = &document["components"][2];
    assert_eq!(
        (&cache["service"], &cache["component"], &cache["files"]),
        (&Value::Null, &json!("cache"), &Value::Null)
    );
    assert!(
        tree.run(STATUS, &["-v"]).out.contains("cache\n  state:        running\n  wanted:       no (no component)")
    );
    // One that only podman knows is found by its name, where its storage has any; strangers are told to nobody who asks for something else.
    assert_eq!(tree.run(STATUS, &["old"]).code, Some(100));
    tree.put(&tree.root.join("podman/graph/overlay-containers/containers.json"), "[{\"id\":\"00\"}]");
    let old = tree.run(STATUS, &["old"]);
    assert_eq!((old.code, old.out.lines().count()), (Some(1), 2), "{old:?}");
    assert_eq!(tree.run(STATUS, &["shop"]).code, Some(0));

    node.configure("ignore = [\"ci-*\", \"cache\"]\n");
    let a = tree.run(STATUS, &[]);
    assert_eq!(a.out.lines().count(), 3, "{}", a.out);
    node.configure("ignore = \"ci-*\"\n");
    let a = tree.run(STATUS, &[]);
    assert_eq!(a.code, Some(1));
    assert!(a.err.contains("mcp.toml:3: podman.ignore: "), "{}", a.err);
}

#[test]
fn drift_without_an_answer_of_podman() {
    let node = Node::new();
    let tree = &node.tree;
    node.define("shop", &["web"]);
    let _web = node.runs("shop/web");
    tree.record("vm/vm", Wish::Run, true);
    tree.state("vm/vm", Slot::A, |_| {});
    let _vm = (tree.supervise("vm/vm"), tree.live("vm/vm", Slot::A));
    let tail = "; how its containers are is unknown\n";
    for (script, code, words) in [
        ("echo '[1, 2]'", 100, "podman: podman's answer is not what we know: "),
        ("head -c 1000 /dev/urandom", 100, "podman: podman's answer is not what we know: "),
        ("echo 'no such storage' >&2; exit 125", 100, "podman: podman exited with 125: no such storage"),
        ("kill -9 $$", 111, "podman: podman was killed by signal 9"),
        ("exec sleep 600", 111, "podman: podman does not answer in time; try again"),
    ] {
        node.does(script);
        let a = tree.run(STATUS, &[]);
        assert_eq!(a.code, Some(code), "{script}: {a:?}");
        assert!(a.err.starts_with(&format!("mcp-status: {words}")) && a.err.ends_with(tail), "{}", a.err);
        assert_eq!(a.err.lines().count(), 1);
        assert_eq!(row(&a.out, "shop", "web")[3], "unknown");
        assert_eq!(drift_of(&a.out, "shop", "web"), "-");
        assert_eq!(row(&a.out, "vm", "vm")[3], "running");
    }
    tree.put(&tree.paths.config, "[podman]\nbinary = \"/nowhere/podman\"\n");
    let a = tree.run(STATUS, &["--json"]);
    assert_eq!(a.code, Some(100));
    assert_eq!(a.err, format!("mcp-status: /nowhere/podman: not found; [podman] binary in mcp.toml names it{tail}"));
    let document: Value = serde_json::from_str(&a.out).unwrap();
    assert_eq!(document["components"][0]["alive"], Value::Null);
    assert!(document["podman"]["error"].as_str().unwrap().contains("not found"));
    // Who has VMs only needs no podman.
    assert_eq!(tree.run(STATUS, &["vm"]).code, Some(0));
    let text = tree.run(STATUS, &["--prometheus", "-"]);
    assert_eq!(text.code, Some(100));
    assert!(text.out.contains("\nmcp_podman_answered 0\n"), "{}", text.out);
    let nagios = tree.run(STATUS, &["--nagios"]);
    assert_eq!((nagios.code, nagios.err.as_str()), (Some(3), ""));
    assert!(nagios.out.starts_with("MCP UNKNOWN - /nowhere/podman: not found"), "{}", nagios.out);
}

#[test]
fn drift_starts_no_podman_where_there_are_no_containers() {
    let node = Node::new();
    let tree = &node.tree;
    tree.record("vm/vm", Wish::Run, true);
    tree.state("vm/vm", Slot::A, |_| {});
    let _vm = (tree.supervise("vm/vm"), tree.live("vm/vm", Slot::A));
    node.says(&json!([foreign("cache", "running")]));
    assert_eq!(tree.run(STATUS, &[]).code, Some(0));
    let list = tree.root.join("podman/graph/overlay-containers/containers.json");
    tree.put(&list, "[]");
    assert_eq!(tree.run(STATUS, &[]).code, Some(0));
    assert_eq!(node.calls(), [""; 0]);
    // Its storage has one.
    tree.put(&list, "[{\"id\":\"idcache\",\"names\":[\"cache\"],\"image\":\"00\"}]");
    let a = tree.run(STATUS, &[]);
    assert_eq!(drift_of(&a.out, "-", "cache"), "orphan");
    assert_eq!(node.calls().len(), 1);
    // Something is there that can't be asked; with no podman at all there is nothing to miss.
    node.does("exit 1");
    assert_eq!(tree.run(STATUS, &[]).code, Some(100));
    tree.put(&tree.paths.config, "[podman]\nbinary = \"/nowhere/podman\"\n");
    let a = tree.run(STATUS, &[]);
    assert_eq!((a.code, a.err.as_str()), (Some(0), ""));
}

#[test]
fn drift_as_nagios_tells_it() {
    let node = Node::new();
    let tree = &node.tree;
    let told = |args: &[&str]| {
        let a = tree.run(STATUS, &[&["--nagios"], args].concat());
        assert_eq!((a.err.as_str(), a.out.lines().count()), ("", 1), "{a:?}");
        (a.code.unwrap(), a.out)
    };
    let none = "orphan=0 image=0 config=0 stopped-but-running=0 unhealthy=0 unsupervised=0 crash-loop=0 record=0\n";
    assert_eq!(told(&[]), (0, format!("MCP OK - 0 components, no drift|components=0 running=0 missing=0 {none}")));
    node.define("shop", &["web"]);
    let supervisor = node.runs("shop/web");
    node.says(&json!([node.listed("shop/web", "running")]));
    assert_eq!(told(&[]), (0, format!("MCP OK - 1 component, no drift|components=1 running=1 missing=0 {none}")));
    drop(supervisor);
    let (code, out) = told(&[]);
    assert_eq!(code, 1);
    assert!(
        out.starts_with("MCP WARNING - shop/web: unsupervised (running)|components=1 running=1 missing=0 "),
        "{out}"
    );
    node.says(&json!([node.listed("shop/web", "running"), foreign("a|b", "running")]));
    node.define("more", &["api"]);
    let (code, out) = told(&[]);
    assert_eq!(code, 2);
    let worst = "MCP CRITICAL - more/api: missing (absent); shop/web: unsupervised (running); a/b: orphan (running)|";
    assert!(out.starts_with(worst), "{out}");
    assert!(out.contains("|components=3 running=2 missing=1 orphan=1 "), "{out}");
    let (code, out) = told(&["nope"]);
    assert_eq!(code, 3);
    assert!(out.starts_with("MCP UNKNOWN - nope: no such component"), "{out}");
    assert_eq!(told(&["No"]).0, 3);
    tree.put(&tree.paths.services.join("bad.toml"), "name = 1\n");
    let (code, out) = told(&["bad"]);
    assert_eq!(code, 3);
    assert!(out.starts_with("MCP UNKNOWN - ") && out.contains("bad.toml:1: name: "), "{out}");
}

#[test]
fn drift_metrics_are_what_prometheus_wants() {
    if !crate::harness::have("drift_metrics_are_what_prometheus_wants", "promtool") {
        return;
    }
    let node = Node::new();
    let tree = &node.tree;
    let file = tree.root.join("mcp.prom");
    let judged = || {
        let a = tree.run(STATUS, &["--prometheus", file.to_str().unwrap()]);
        assert_eq!((a.code, a.err.as_str()), (Some(0), ""), "{a:?}");
        let mut command = Command::new("promtool");
        command.args(["check", "metrics"]).stdin(std::fs::File::open(&file).unwrap());
        let out = command.output().unwrap();
        let words = [out.stdout, out.stderr].concat();
        assert_eq!((out.status.code(), String::from_utf8_lossy(&words).as_ref()), (Some(0), ""));
        std::fs::read_to_string(&file).unwrap()
    };
    judged();
    node.define("shop", &["web", "gone"]);
    let _web = node.runs("shop/web");
    tree.record("vm/vm", Wish::Run, true);
    tree.state("vm/vm", Slot::A, |s| s.end = end(EndedBy::Guest, Some(3)));
    node.says(&json!([node.listed("shop/web", "running"), foreign("odd \"name\\", "running")]));
    let text = judged();
    for line in [
        "mcp_component_up{service=\"shop\",component=\"web\"} 1",
        "mcp_component_info{service=\"shop\",component=\"web\",runtime=\"container\",image=\"localhost/web:1\"} 1",
        "mcp_component_up{service=\"\",component=\"odd \\\"name\\\\\"} 1",
        "mcp_component_drift{service=\"shop\",component=\"gone\",kind=\"missing\"} 1",
        "mcp_component_exit_code{service=\"vm\",component=\"vm\"} 3",
        "mcp_podman_answered 1",
    ] {
        assert!(text.lines().any(|l| l == line), "no {line} in\n{text}");
    }
}
