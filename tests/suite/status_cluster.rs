//! mcp-status --cluster: real answers of Pacemaker 2.1.5, kept in files, and real mcp-status on nodes made of files.
//!
//! The samples come from three real nodes: `crm_mon --output-as=xml` while a resource started, was blocked, ran twice, while
//! a node was on standby or lost with and without fencing and quorum; and `cibadmin --query --scope resources`.

use crate::tree::{Answer, Tree, end};
use mcp::model::Wish;
use mcp::model::state::{EndedBy, Phase};
use mcp::node::cluster::pacemaker::{read_status, read_targets};
use mcp::sys::lock::Lock;
use mcp::sys::paths::Slot;
use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const STATUS: &str = env!("CARGO_BIN_EXE_mcp-status");

fn sample(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/status_cluster").join(format!("{name}.xml"));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A cluster: what Pacemaker says is in files, the nodes are folders.
struct Fleet {
    /// The node that asks, with Pacemaker's programs in its `bin`.
    tree: Tree,
    nodes: BTreeMap<String, Tree>,
    locks: Vec<Lock>,
}

impl Fleet {
    /// Nodes with definitions of all that the samples name.
    fn new(nodes: &[&str], status: &str) -> Fleet {
        let tree = Tree::new();
        let mut fleet = Fleet { tree, nodes: BTreeMap::new(), locks: Vec::new() };
        for program in ["crm_mon", "cibadmin", "crm_node"] {
            let at = fleet.tree.root.display();
            let script =
                format!("echo {program} \"$@\" >>{at}/calls; cat {at}/{program}.out; exit $(cat {at}/{program}.code)");
            fleet.program(program, &script);
            fleet.says(program, "", 0);
        }
        symlink(STATUS, fleet.tree.root.join("bin/mcp-status")).unwrap();
        fleet.says("crm_mon", status, 0);
        fleet.says("cibadmin", &sample("resources"), 0);
        nodes.iter().for_each(|name| fleet.node(name));
        fleet
    }

    fn node(&mut self, name: &str) {
        let node = Tree::new();
        symlink(&node.root, self.tree.root.join(name)).unwrap();
        for (service, components) in
            [("edge", &["front", "off", "bad"][..]), ("shop", &["api", "web"]), ("agent", &["node"])]
        {
            let text = definition(service, components).replacen('\n', "\nplacement = \"cluster\"\n", 1);
            node.put(&node.paths.services.join(format!("{service}.toml")), &text);
        }
        self.nodes.insert(name.into(), node);
    }

    /// Puts a script on the PATH of whoever asks.
    fn program(&self, name: &str, script: &str) {
        let path = self.tree.root.join("bin").join(name);
        self.tree.put(&path, &format!("#!/bin/sh\n{script}\n"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn says(&self, program: &str, text: &str, code: u8) {
        self.tree.put(&self.tree.root.join(format!("{program}.out")), text);
        self.tree.put(&self.tree.root.join(format!("{program}.code")), &code.to_string());
    }

    fn runs(&mut self, node: &str, id: &str) {
        let node = &self.nodes[node];
        node.record(id, Wish::Run, false);
        node.state(id, Slot::A, |_| {});
        self.locks.extend([node.supervise(id), node.live(id, Slot::A)]);
    }

    /// What the sample `running` has placed where.
    fn as_placed(&mut self) {
        for (node, ids) in [
            ("n1", &["edge/front", "agent/node"][..]),
            ("n2", &["agent/node"]),
            ("n3", &["shop/api", "shop/web", "agent/node"]),
        ] {
            ids.iter().for_each(|id| self.runs(node, id));
        }
    }

    /// The shell line that reaches a node.
    fn via(&self) -> String {
        format!("sh -c 'MCP_ROOT=\"$0\" exec \"$@\"' {}/{{node}}", self.tree.root.display())
    }

    fn ask(&self, args: &[&str]) -> Answer {
        self.ask_via(&self.via(), args)
    }

    fn ask_via(&self, via: &str, args: &[&str]) -> Answer {
        // Not a script of its own: what was just written can't be executed while a child of another thread has it open.
        let script = format!("PATH={}/bin:$PATH exec {STATUS} \"$@\"", self.tree.root.display());
        self.tree.run("sh", &[&["-c", &script, "sh", "--cluster", "--via", via], args].concat())
    }

    fn calls(&self) -> String {
        std::fs::read_to_string(self.tree.root.join("calls")).unwrap_or_default()
    }
}

fn definition(service: &str, components: &[&str]) -> String {
    let mut text = format!("name = \"{service}\"\n");
    for name in components {
        text += &format!("[[components]]\nname = \"{name}\"\nruntime = \"unikernel\"\ndisk = \"/images/app.img\"\n");
    }
    text
}

/// Node, service, component, state and drift of each line.
fn lines(table: &str) -> Vec<String> {
    let brief = |line: &str| {
        let cells: Vec<&str> = line.split_whitespace().collect();
        format!("{} {}/{} {} {}", cells[0], cells[1], cells[2], cells[4], cells.last().unwrap())
    };
    table.lines().skip(1).map(brief).collect()
}

fn json(answer: &Answer) -> Value {
    serde_json::from_str(&answer.out).unwrap_or_else(|e| panic!("{e}: {answer:#?}"))
}

#[test]
fn cluster_shows_all_nodes() {
    let mut fleet = Fleet::new(&["n1", "n2", "n3"], &sample("running"));
    fleet.as_placed();
    let a = fleet.ask(&[]);
    assert!(a.out.starts_with("NODE  SERVICE  COMPONENT  RUNTIME    STATE    IMAGE    PORTS  UPTIME  "), "{}", a.out);
    assert_eq!(
        lines(&a.out),
        [
            "n1 agent/node running -",
            "n1 edge/front running -",
            "n2 agent/node running -",
            "n3 agent/node running -",
            "n3 shop/api running -",
            "n3 shop/web running -",
            "- edge/bad absent nowhere",
        ]
    );
    assert_eq!(a.code, Some(1));
    // The reason that the agent gave, which Pacemaker escapes twice, and the way out.
    assert_eq!(
        a.err,
        "mcp-status: edge/bad: start on n1: not installed (no image <web> & \"co\" on n1); when that is mended: \
         crm_resource --cleanup --resource bad\n"
    );
    // One that is asked for is shown on every node, and the exit code is of what is shown.
    let off = fleet.ask(&["edge/off", "shop"]);
    assert_eq!(lines(&off.out).len(), 9, "{}", off.out);
    assert_eq!((off.code, off.err.as_str()), (Some(0), ""));
    let list = fleet.ask(&["--list", "--state", "running", "agent"]);
    assert_eq!(list.out, "n1 agent/node\nn2 agent/node\nn3 agent/node\n");
    assert_eq!(fleet.ask(&["--list"]).out.lines().last(), Some("- edge/bad"));
    let nobody = fleet.ask(&["nope"]);
    assert_eq!(nobody.code, Some(100));
    assert!(
        nobody.err.starts_with("mcp-status: nope: on no node: neither declared nor ever started"),
        "{}",
        nobody.err
    );
}

#[test]
fn cluster_as_json() {
    let mut fleet = Fleet::new(&["n1", "n2", "n3"], &sample("running"));
    fleet.as_placed();
    let a = fleet.ask(&["--json"]);
    let document = json(&a);
    assert_eq!((a.code, &document["schema"], &document["drift"]), (Some(1), &1.into(), &true.into()));
    assert_eq!(document["cluster"]["dc"], "n1");
    assert_eq!(document["cluster"]["quorum"], true);
    assert_eq!(document["cluster"]["fencing"], false);
    assert_eq!(document["nodes"][1]["node"], "n2");
    assert_eq!(document["nodes"][1]["answered"], true);
    let find = |node: &str, component: &str| {
        let all = document["components"].as_array().unwrap();
        let found = all.iter().find(|c| c["node"] == node && c["component"] == component);
        found.unwrap_or_else(|| panic!("no {component} on {node}")).clone()
    };
    // All of them are there, where they run and where they don't.
    assert_eq!(find("n3", "web")["placed"], true);
    assert_eq!(find("n3", "web")["resource"], "shop_web");
    assert_eq!(find("n1", "web")["placed"], false);
    assert_eq!(find("n1", "web")["drift"], Value::Array(vec![]));
    let bad = document["resources"].as_array().unwrap().iter().find(|r| r["resource"] == "bad").unwrap();
    assert_eq!((&bad["target"], &bad["nodes"]), (&"edge/bad".into(), &Value::Array(vec![])));
    assert_eq!(bad["failures"][0]["status"], "not installed");
    assert_eq!(bad["failures"].as_array().unwrap().len(), 3);
}

#[test]
fn cluster_tells_twice_misplaced_and_missing() {
    let mut fleet = Fleet::new(&["n1", "n2", "n3"], &sample("running"));
    // shop/web is on n3, and on n2 too; edge/front is not where Pacemaker has it, nor anywhere else.
    for (node, id) in [("n3", "shop/api"), ("n3", "shop/web"), ("n2", "shop/web"), ("n2", "edge/off")] {
        fleet.runs(node, id);
    }
    let n1 = &fleet.nodes["n1"];
    n1.record("edge/front", Wish::Run, false);
    n1.state("edge/front", Slot::A, |s| {
        s.phase = Phase::Ended;
        s.end = end(EndedBy::Guest, Some(3));
    });
    for node in ["n1", "n2", "n3"] {
        fleet.runs(node, "agent/node");
    }
    let a = fleet.ask(&["edge/front", "edge/off", "shop/web", "agent"]);
    let shown = lines(&a.out);
    for line in [
        "n1 edge/front failed(3) missing",
        "n2 edge/off running misplaced",
        "n2 shop/web running twice,misplaced",
        "n3 shop/web running twice",
        "n1 agent/node running -",
    ] {
        assert!(shown.iter().any(|l| l == line), "no {line:?} in {shown:#?}");
    }
    assert_eq!(a.code, Some(1));
    assert_eq!(fleet.calls().matches("crm_mon").count(), 2, "what may be passing by is looked at twice");
}

#[test]
fn cluster_and_nodes_agree_on_who_places_what() {
    let mut fleet = Fleet::new(&["n1", "n2", "n3"], &sample("running"));
    fleet.as_placed();
    let define =
        |node: &Tree, name: &str, text: &str| node.put(&node.paths.services.join(format!("{name}.toml")), text);
    for node in fleet.nodes.values() {
        define(node, "each", &definition("each", &["web"]));
    }
    // On n1 a boot would start what Pacemaker has on n3.
    define(&fleet.nodes["n1"], "shop", &definition("shop", &["api", "web"]));
    for node in ["n1", "n2", "n3"] {
        fleet.runs(node, "each/web");
    }
    let a = fleet.ask(&["shop", "each"]);
    let shown = lines(&a.out);
    for line in
        ["n1 shop/api absent placement", "n2 shop/api absent -", "n3 shop/api running -", "n1 each/web running -"]
    {
        assert!(shown.iter().any(|l| l == line), "no {line:?} in {shown:#?}");
    }
    // One that nobody has told Pacemaker of runs nowhere, by hand anywhere, and never twice.
    for node in ["n1", "n2"] {
        let text = definition("lone", &["web"]).replacen('\n', "\nplacement = \"cluster\"\n", 1);
        define(&fleet.nodes[node], "lone", &text);
    }
    let a = fleet.ask(&["lone"]);
    assert_eq!(lines(&a.out), ["n1 lone/web absent -", "n2 lone/web absent -", "- lone/web absent nowhere"]);
    assert_eq!(a.err, "mcp-status: lone/web: the cluster has no resource for it; mcp cluster makes one\n");
    fleet.runs("n1", "lone/web");
    assert_eq!(fleet.ask(&["lone"]).code, Some(0));
    fleet.runs("n2", "lone/web");
    assert_eq!(lines(&fleet.ask(&["lone"]).out), ["n1 lone/web running twice", "n2 lone/web running twice"]);
}

#[test]
fn cluster_takes_no_move_for_drift() {
    // front is starting on n2 and shop/api on n1; shop/web is to follow.
    let mut fleet = Fleet::new(&["n1", "n2", "n3"], &sample("pending"));
    for node in ["n1", "n2", "n3"] {
        fleet.runs(node, "agent/node");
    }
    let a = fleet.ask(&["edge/front", "shop", "agent"]);
    assert_eq!((a.code, a.err.as_str()), (Some(0), ""), "{}", a.out);
    // A stop that failed leaves Pacemaker at a loss.
    fleet.says("crm_mon", &sample("blocked"), 0);
    fleet.runs("n2", "edge/front");
    let a = fleet.ask(&["edge/front"]);
    assert!(lines(&a.out).contains(&"n2 edge/front running blocked".to_string()), "{}", a.out);
    assert_eq!(
        a.err,
        "mcp-status: edge/front: stop on n2: error; when that is mended: crm_resource --cleanup --resource front\n"
    );
}

#[test]
fn cluster_shows_nodes_that_are_not_well() {
    let mut fleet = Fleet::new(&["n1", "n2", "n3"], &sample("standby"));
    fleet.as_placed();
    let a = fleet.ask(&[]);
    assert!(
        a.out
            .lines()
            .any(|l| l.split_whitespace().collect::<Vec<_>>()
                == "n2 - - - standby - - - - -".split(' ').collect::<Vec<_>>()),
        "{}",
        a.out
    );
    // The clone's third instance is nowhere, since a node is on standby; n2 runs it all the same.
    assert!(lines(&a.out).contains(&"n2 agent/node running misplaced".to_string()), "{}", a.out);

    // n3 is lost, unclean, and what ran there is not known.
    let mut fleet = Fleet::new(&["n1", "n2", "n3"], &sample("unclean-fencing"));
    fleet.says("cibadmin", &sample("templates"), 0);
    for (node, id) in [("n1", "agent/node"), ("n2", "agent/node"), ("n1", "shop/web"), ("n2", "shop/web")] {
        fleet.runs(node, id);
    }
    let via = format!("test {{node}} != n3 && {}", fleet.via());
    let a = fleet.ask_via(&via, &[]);
    let shown = lines(&a.out);
    for line in [
        "n1 shop/web running twice,blocked",
        "n2 shop/web running twice,blocked",
        "n3 -/- unclean unreachable,unclean",
        "n3 agent/node unknown -",
        "n3 shop/api unknown -",
        "n1 agent/node running -",
    ] {
        assert!(shown.iter().any(|l| l == line), "no {line:?} in {shown:#?}");
    }
    assert!(a.err.contains("n3: unreachable: the command that asks it exited with 1"), "{}", a.err);
    assert_eq!(a.code, Some(1));

    fleet.says("crm_mon", &sample("no-quorum"), 0);
    let a = fleet.ask(&["--json"]);
    assert_eq!(json(&a)["cluster"]["drift"], serde_json::json!(["no-quorum"]));
    assert!(a.err.contains("the cluster has no quorum here"), "{}", a.err);
}

#[test]
fn cluster_nodes_that_do_not_answer_keep_nobody_waiting() {
    let mut fleet = Fleet::new(&["n1", "n2", "n3"], &sample("running"));
    fleet.as_placed();
    let via = fleet.via();
    let after = |script: &str| format!("if test {{node}} = n2; then {script}; exit; fi; {via}");
    let big = "head -c 100000000 /dev/zero | tr '\\0' x";
    let newer = "echo '{\\\"schema\\\":2,\\\"components\\\":{}}'".replace("\\\"", "\"");
    let depth = "yes [ | tr -d '\\n' | head -c 1000000";
    for (script, reason) in [
        ("exec sleep 60", "it did not answer within 1 s"),
        ("sleep 60 & sleep 60", "it did not answer within 1 s"),
        ("echo 'Last login: today'", "it answers no status: expected value at line 1 column 1: \"Last login: today\""),
        (depth, "it answers no status: "),
        ("true", "it answers nothing"),
        (big, "it answers more than 16 MB"),
        (&newer, "it answers in schema 2, and this mcp reads 1; bring both to one version"),
        ("echo no route >&2; exit 255", "the command that asks it exited with 255: no route"),
        ("kill -9 $$", "the command that asks it was killed by signal 9"),
        ("nosuchprogram", "exited with 127: sh: 1: nosuchprogram: not found"),
    ] {
        let began = Instant::now();
        let a = fleet.ask_via(&after(script), &["--timeout", "1s", "agent"]);
        assert!(began.elapsed() < Duration::from_secs(10), "{script}");
        let told = a.err.lines().find(|l| l.starts_with("mcp-status: n2: unreachable: "));
        assert!(told.is_some_and(|l| l.contains(reason)), "{script}: {a:#?}");
        assert_eq!(
            lines(&a.out),
            [
                "n1 agent/node running -",
                "n2 -/- online unreachable",
                "n2 agent/node unknown -",
                "n3 agent/node running -"
            ],
            "{script}"
        );
        assert_eq!(a.code, Some(1), "{script}");
    }
    assert!(crate::harness::wait_for(Duration::from_secs(5), || left_behind(&via).is_empty().then_some(())).is_some());
}

/// Processes that were started with `mark` in their arguments.
fn left_behind(mark: &str) -> Vec<String> {
    let mark = mark.split_once("{node}").unwrap().0.to_string();
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let line = |e: std::fs::DirEntry| std::fs::read_to_string(e.path().join("cmdline")).ok();
    all.filter_map(line).filter(|l| l.contains(&mark)).collect()
}

#[test]
fn cluster_takes_what_a_node_knows_in_part() {
    let mut fleet = Fleet::new(&["n1", "n2", "n3"], &sample("running"));
    fleet.as_placed();
    let n2 = &fleet.nodes["n2"];
    n2.put(&n2.paths.services.join("broken.toml"), "name = 1\n");
    let a = fleet.ask(&["agent"]);
    assert_eq!(a.code, Some(1));
    assert!(a.err.contains("mcp-status: n2: ") && a.err.contains("broken.toml:1"), "{}", a.err);
    assert!(lines(&a.out).contains(&"n2 agent/node running -".to_string()));
    // Exit code 1 is drift, no failure, and so says the node what it is.
    std::fs::remove_file(n2.paths.services.join("broken.toml")).unwrap();
    n2.record("gone/web", Wish::Run, false);
    let a = fleet.ask(&["gone"]);
    assert_eq!(lines(&a.out), ["n2 gone/web absent orphan"]);
    assert_eq!((a.code, a.err.as_str()), (Some(1), ""));
}

#[test]
fn cluster_puts_no_odd_name_into_a_command() {
    let trace = PathBuf::from("/tmp").join(format!("mcp-injected-{}", std::process::id()));
    let mark = trace.display();
    let names = [
        format!("n2; touch {mark}"),
        format!("$(touch {mark})"),
        format!("`touch {mark}`"),
        format!("-oProxyCommand=touch {mark}"),
        format!("'; touch {mark}; '"),
        format!("\\&quot;; touch {mark}; \\&quot;"),
        format!("n2&#10;touch {mark}"),
        "../..".into(),
        "-n".into(),
        "".into(),
        "n\u{e9}".into(),
        "\u{1b}[2J".replace('\u{1b}', "&#27;"),
    ];
    for name in names {
        let status = sample("running").replace("<node name=\"n2\"", &format!("<node name=\"{name}\""));
        let mut fleet = Fleet::new(&["n1", "n3"], &status);
        fleet.runs("n1", "agent/node");
        for via in [fleet.via(), "echo \"{node}\" '{node}' >/dev/null; false".into()] {
            let a = fleet.ask_via(&via, &["agent"]);
            assert!(a.err.contains("unreachable: its name is none that a host can have"), "{name}: {a:#?}");
            assert!(!a.out.contains('\u{1b}') && !a.err.contains('\u{1b}'), "{a:#?}");
            assert_eq!(a.code, Some(1));
        }
        assert!(!trace.exists(), "{name}");
    }
}

#[test]
fn cluster_without_pacemaker() {
    let fleet = Fleet::new(&["n1"], &sample("running"));
    let bin = fleet.tree.root.join("bin");
    // crm_mon fails as it does where the cluster is down.
    fleet.says("crm_mon", &sample("down"), 102);
    let a = fleet.ask(&[]);
    assert_eq!((a.code, a.out.as_str()), (Some(111), ""));
    assert_eq!(
        a.err,
        "mcp-status: crm_mon: Connection to cluster failed: Connection refused; is the cluster up on this node? systemctl \
         start pacemaker; each node answers for itself: mcp-status\n"
    );
    let whole = sample("running");
    let bomb = "<!DOCTYPE a [<!ENTITY b \"&c;&c;\">]><a>&b;</a>";
    for (text, code, wanted, exit) in [
        (&whole[..whole.len() / 2], 0, "its answer can't be read: cut short", 100),
        ("", 0, "its answer can't be read: cut short", 100),
        ("hello", 0, "its answer can't be read: not XML", 100),
        (bomb, 0, "its answer can't be read: has a document type", 100),
        (&"<a>".repeat(100_000), 0, "its answer can't be read: <a> is not what it prints", 100),
        (&format!("<crm_mon>{}", "<a>".repeat(100_000)), 0, "its answer can't be read: deeper than 64", 100),
        ("<pacemaker-result><status code=\"0\"/></pacemaker-result>", 0, "it tells of no nodes", 111),
        ("", 1, "exited with 1; is the cluster up", 111),
    ] {
        fleet.says("crm_mon", text, code);
        let a = fleet.ask(&[]);
        assert_eq!((a.code, a.out.as_str(), a.err.lines().count()), (Some(exit), "", 1), "{a:#?}");
        assert!(a.err.contains(wanted), "{wanted}: {}", a.err);
    }
    fleet.program("crm_mon", "exec sleep 60");
    let a = fleet.ask(&["--timeout", "500ms"]);
    assert_eq!((a.code, a.err.as_str()), (Some(111), "mcp-status: crm_mon: took too long, stopped\n"));
    std::fs::remove_file(bin.join("crm_mon")).unwrap();
    if !["/usr/sbin/crm_mon", "/sbin/crm_mon"].iter().any(|p| Path::new(p).exists()) {
        let a = fleet.ask(&[]);
        assert_eq!(a.code, Some(100));
        assert!(
            a.err.starts_with("mcp-status: crm_mon: not found: no Pacemaker is here that could be asked; apt install")
        );
        assert_eq!(a.err.lines().count(), 1);
    }
    for (via, args) in
        [("ssh n1", &[][..]), ("ssh {node}", &["--timeout", "0s"]), ("{node}", &["--watch"]), ("{node}", &["-v"])]
    {
        let a = fleet.ask_via(via, args);
        assert_eq!((a.code, a.err.lines().count()), (Some(2), 1), "{a:#?}");
    }
    assert_eq!(fleet.tree.run(STATUS, &["--via", "ssh {node}"]).code, Some(2));
}

#[test]
fn cluster_is_asked_only_where_that_is_wanted() {
    let mut fleet = Fleet::new(&["n1", "n2", "n3"], &sample("running"));
    fleet.as_placed();
    // By default the node itself is asked directly, and the others by ssh.
    fleet.says("crm_node", "n1\n", 0);
    let at = fleet.tree.root.display();
    fleet
        .program("ssh", &format!("echo ssh \"$@\" >>{at}/calls; shift 4; export MCP_ROOT={at}/$1; shift; exec \"$@\""));
    let script = format!("PATH={at}/bin:$PATH exec {STATUS} \"$@\"");
    let n1 = fleet.nodes["n1"].root.display().to_string();
    let ask = |args: &[&str]| fleet.tree.run("sh", &[&["-c", &script, "sh"], args].concat());
    let a = ask(&["--cluster", "--root", &n1, "--health", "agent"]);
    assert_eq!(lines(&a.out).len(), 3, "{a:#?}");
    let mut calls: Vec<String> = fleet.calls().lines().map(String::from).collect();
    calls.sort();
    assert_eq!(
        calls,
        [
            "cibadmin --query --scope resources",
            "crm_mon --output-as=xml --inactive --exclude=all --include=summary,options,nodes,resources,failures",
            "crm_node --name",
            "ssh -o BatchMode=yes -o ConnectTimeout=5 n2 mcp-status --json --health",
            "ssh -o BatchMode=yes -o ConnectTimeout=5 n3 mcp-status --json --health",
        ]
    );
    // Otherwise nothing of all that is started.
    std::fs::remove_file(fleet.tree.root.join("calls")).unwrap();
    for args in [&[][..], &["--json"], &["-v"], &["--list"], &["--nagios"], &["--prometheus", "-"], &["--doctor"]] {
        ask(&[&["--root", &n1], args].concat());
    }
    assert_eq!(fleet.calls(), "");
}

#[test]
fn cluster_many_nodes_are_asked_side_by_side() {
    let names: Vec<String> = (1..=32).map(|n| format!("n{n}")).collect();
    let mut fleet = Fleet::new(&[], &sample("running"));
    let nodes: String = names.iter().map(|n| format!("<node name=\"{n}\" online=\"true\"/>")).collect();
    let resources: String = (0..300)
        .map(|n| {
            let id = format!("s{n}_web");
            format!("<resource id=\"{id}\" resource_agent=\"ocf:mcp:component\" role=\"Started\"><node name=\"n{}\"/></resource>", n % 32 + 1)
        })
        .collect();
    let status =
        format!("<pacemaker-result><nodes>{nodes}</nodes><resources>{resources}</resources></pacemaker-result>");
    fleet.says("crm_mon", &status, 0);
    names.iter().for_each(|name| fleet.node(name));
    let via = format!("sleep .3; {}", fleet.via());
    let began = Instant::now();
    let a = fleet.ask_via(&via, &["--json", "agent"]);
    let took = began.elapsed();
    assert_eq!(json(&a)["nodes"].as_array().unwrap().iter().filter(|n| n["answered"] == true).count(), 32, "{a:#?}");
    // One after another they would take ten seconds.
    assert!(took < Duration::from_secs(8), "{took:?}");
    eprintln!("32 nodes that each take .3 s: {took:?}");
}

#[test]
fn cluster_samples_are_read() {
    for (name, resources, failures) in [("running", 6, 3), ("standby", 6, 3), ("pending", 6, 3), ("blocked", 6, 4)] {
        let mut cluster = read_status(&sample(name)).unwrap();
        read_targets(&sample("resources"), &mut cluster).unwrap();
        assert_eq!((cluster.nodes.len(), cluster.resources.len()), (3, resources), "{name}");
        let told: usize = cluster.resources.values().map(|r| r.failures.len()).sum();
        assert_eq!(told, failures, "{name}");
        assert!(cluster.resources.values().all(|r| r.target.is_some()), "{name}");
        assert!(cluster.resources["agent_node"].is_clone && !cluster.resources["front"].is_clone);
    }
    let mut cluster = read_status(&sample("multiple-active")).unwrap();
    assert_eq!(cluster.resources["shop_web"].nodes.len(), 2);
    // By its name alone it is another's; its template tells.
    read_targets(&sample("templates"), &mut cluster).unwrap();
    assert_eq!(cluster.resources["uni"].target.as_ref().unwrap().to_string(), "agent/node");
    assert_eq!(cluster.resources["uni"].nodes.len(), 3);
    assert_eq!(cluster.resources["tpl_one"].target.as_ref().unwrap().to_string(), "tpl/one");
    let states: Vec<_> = read_status(&sample("lost-no-fencing")).unwrap().nodes.iter().map(|n| n.state()).collect();
    assert_eq!(states, ["online", "online", "unclean"]);
    // Cut anywhere it is an error; changed anywhere it is no panic.
    let whole = sample("blocked");
    for end in (0..whole.trim_end().len()).step_by(11) {
        assert!(read_status(&whole[..end]).is_err());
    }
    let mut bytes = whole.clone().into_bytes();
    for at in (0..bytes.len()).step_by(5) {
        let was = std::mem::replace(&mut bytes[at], b"<>\"&/"[at / 5 % 5]);
        let _ = read_status(&String::from_utf8_lossy(&bytes));
        bytes[at] = was;
    }
}
