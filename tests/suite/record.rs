//! mcp-record on nodes made of files, and records of older and newer schemas.

use crate::harness::{find, program};
use crate::tree::{Tree, id_of};
use mcp::model::{Pin, Record, Version};
use serde_json::{Value, json};
use std::path::Path;

const RECORD: &str = env!("CARGO_BIN_EXE_mcp-record");
const STATUS: &str = env!("CARGO_BIN_EXE_mcp-status");

fn define(tree: &Tree, more: &str) {
    let text =
        format!("name = \"demo\"\n[[components]]\nname = \"web\"\nruntime = \"unikernel\"\ndisk = \"/a.img\"\n{more}");
    tree.put(&tree.paths.services.join("demo.toml"), &text);
}

fn read(tree: &Tree) -> Record {
    Record::read(&tree.paths, &id_of("demo/web")).unwrap().unwrap()
}

/// Memory of the version that is started next, of the current and of the previous one.
fn memories(tree: &Tree) -> [Option<u32>; 3] {
    let record = read(tree);
    [&record.candidate, &record.current, &record.previous].map(|v| v.as_ref().map(|v| v.spec.memory_mb))
}

#[test]
fn record_goes_from_version_to_version() {
    let tree = Tree::new();
    let run = |args: &[&str], code: i32, out: &str| {
        let a = tree.run(RECORD, &[args, &["demo"]].concat());
        assert_eq!((a.code, a.out.as_str(), a.err.as_str()), (Some(code), out, ""), "{args:?}");
    };
    define(&tree, "");
    run(&["--check"], 1, "demo/web never deployed\n");
    assert!(!tree.paths.lib.exists(), "a check writes nothing");
    let a = tree.run(RECORD, &["demo"]);
    assert_eq!((a.code, a.out.as_str()), (Some(1), ""));
    assert_eq!(a.err, "mcp-record: demo/web: never deployed: mcp deploy demo/web\n");

    run(&["--new"], 0, "demo/web new\n");
    assert_eq!(memories(&tree), [Some(256), None, None]);
    run(&["--check"], 1, "demo/web on trial\n");
    run(&["--drop"], 0, "demo/web dropped\n");
    run(&["--drop"], 0, "demo/web unchanged\n");
    run(&["--new", "--now"], 0, "demo/web new\n");
    assert_eq!(memories(&tree), [None, Some(256), None]);
    run(&["--check"], 0, "demo/web current\n");
    let a = tree.run(RECORD, &["--back", "demo"]);
    assert_eq!(a.err, "mcp-record: demo/web: nothing was deployed before the current version\n");
    assert_eq!(a.code, Some(1));

    define(&tree, "memory_mb = 512\n");
    run(&["--check"], 1, "demo/web another version\n");
    run(&["--new", "--now"], 0, "demo/web new\n");
    assert_eq!(memories(&tree), [None, Some(512), Some(256)]);
    run(&["--new"], 0, "demo/web unchanged\n");
    run(&["--back"], 0, "demo/web new\n");
    assert_eq!(memories(&tree), [Some(256), Some(512), Some(256)]);
    run(&["--check"], 1, "demo/web another version on trial\n");
    // What runs already is what the definition says: the trial is over.
    run(&["--new"], 0, "demo/web unchanged\n");
    run(&["--check"], 0, "demo/web current\n");
    run(&["--back", "--now"], 0, "demo/web new\n");
    assert_eq!(memories(&tree), [None, Some(256), Some(512)]);
}

#[test]
fn record_shows_what_it_holds() {
    let tree = Tree::new();
    define(&tree, "");
    assert_eq!(tree.run(RECORD, &["--new", "--now", "demo/web"]).code, Some(0));
    define(&tree, "memory_mb = 512\n");
    assert_eq!(tree.run(RECORD, &["--new", "demo/web"]).code, Some(0));
    let a = tree.run(RECORD, &["demo"]);
    let lines: Vec<&str> = a.out.lines().collect();
    assert_eq!((a.code, lines[0]), (Some(0), "demo/web: shall run"));
    assert!(lines[1].starts_with("  on trial  a.img since 20"), "{lines:?}");
    assert!(lines[2].starts_with("  current   a.img since 20"), "{lines:?}");
    assert_eq!(lines.len(), 3);

    // A build that is not in the store is said.
    let digest = |c: char| mcp::model::Digest::parse(&format!("sha256:{}", c.to_string().repeat(64))).unwrap();
    let pin = Pin { tagged: digest('a'), manifest: digest('b'), build: "c".repeat(64) };
    Record::update(&tree.paths, &id_of("demo/web"), |old| {
        let old = old?;
        let current = old.current.clone().map(|v| Version { pin: Some(pin), ..v });
        Some(Record { current, candidate: None, ..old })
    })
    .unwrap();
    let a = tree.run(RECORD, &["demo"]);
    let told = format!("            sha256:{} build {} (not in the store)\n", "b".repeat(64), "c".repeat(64));
    assert!(a.out.ends_with(&told), "{}", a.out);

    let a = tree.run(RECORD, &["--json", "demo"]);
    let shown: Value = serde_json::from_str(&a.out).unwrap();
    assert_eq!(shown["component"], "demo/web");
    assert_eq!((&shown["schema"], &shown["change"], &shown["check"]), (&json!(1), &Value::Null, &Value::Null));
    assert_eq!(shown["running"], false);
    assert_eq!(shown["record"], serde_json::to_value(read(&tree)).unwrap());
    let a = tree.run(RECORD, &["--json", "--check", "demo"]);
    assert_eq!(a.code, Some(1));
    assert_eq!(serde_json::from_str::<Value>(&a.out).unwrap()["check"], "another version");
    let a = tree.run(RECORD, &["--json", "--new", "demo"]);
    assert_eq!(serde_json::from_str::<Value>(&a.out).unwrap()["change"], "new");
}

#[test]
fn record_tells_what_does_not_fit() {
    let tree = Tree::new();
    define(&tree, "");
    tree.record("alone/alone", mcp::model::Wish::Run, true);
    for (args, code, said) in [
        (&["demo", "--now"][..], 2, "mcp-record: --now and --settle want --new or --back\n"),
        (&["--new", "alone"], 100, "mcp-record: alone/alone: has no definition\n"),
        (&["--check", "alone"], 100, "mcp-record: alone/alone: has no definition\n"),
    ] {
        let a = tree.run(RECORD, args);
        assert_eq!((a.code, a.out.as_str(), a.err.as_str()), (Some(code), "", said), "{args:?}");
    }
    for args in [&["--new", "--back", "demo"][..], &["--check", "--new", "demo"], &["--drop", "--now", "demo"], &[]] {
        assert_eq!(tree.run(RECORD, args).code, Some(2), "{args:?}");
    }
    assert_eq!(tree.run(RECORD, &["nope"]).code, Some(100));
    // The others are seen to.
    let a = tree.run(RECORD, &["--new", "alone", "demo"]);
    assert_eq!((a.code, a.out.as_str()), (Some(100), "demo/web new\n"));

    // An image that nobody has pulled: the way out.
    let text =
        "name = \"demo\"\n[[components]]\nname = \"web\"\nruntime = \"unikernel\"\nimage = \"docker.io/x/y:1\"\n";
    tree.put(&tree.paths.services.join("demo.toml"), text);
    let a = tree.run(RECORD, &["--new", "demo"]);
    assert_eq!(a.err, "mcp-record: demo/web: its image is not on this node; mcp-pull demo/web\n");
    assert_eq!(a.code, Some(100));
    // What is on trial is another one, whatever that image is.
    let a = tree.run(RECORD, &["--check", "demo"]);
    assert_eq!((a.code, a.out.as_str()), (Some(1), "demo/web another version\n"));
}

#[test]
fn record_writers_take_turns() {
    let tree = Tree::new();
    define(&tree, "");
    assert_eq!(tree.run(RECORD, &["--new", "--now", "demo"]).code, Some(0));
    define(&tree, "memory_mb = 512\n");
    let calls: [&[&str]; 4] = [&["--new", "demo"], &["--drop", "demo"], &["--new", "--now", "demo"], &["demo"]];
    std::thread::scope(|scope| {
        for call in calls {
            let tree = &tree;
            scope.spawn(move || {
                for _ in 0..12 {
                    let a = tree.run(RECORD, call);
                    assert_eq!((a.code, a.err.as_str()), (Some(0), ""), "{call:?}");
                }
            });
        }
    });
    assert_eq!(memories(&tree)[1..], [Some(512), Some(256)]);
    assert_eq!(find(&tree.paths.lib, &|n| n.ends_with(".tmp")), Vec::<std::path::PathBuf>::new());
}

/// A record as the first schema had it: what every one had, with `changes`.
fn first(changes: Value, wish: &str, adhoc: bool) -> Value {
    let mut spec = json!({
        "name": "web", "runtime": "unikernel", "source": { "from": "disk", "disk": "/a.img", "kernel": null },
        "memory_mb": 256, "vcpus": 1, "ports": [], "args": null, "env": {}, "env_file": null, "egress": "all",
        "volumes": [], "include": [], "restart": "no", "stop_timeout": "35s", "start_timeout": "1m", "root": "ephemeral",
        "on_unhealthy": "none", "health": null, "container": { "network": null, "user": null },
    });
    for (key, value) in changes.as_object().unwrap() {
        assert!(spec.get(key).is_some(), "{key}");
        spec[key] = value.clone();
    }
    json!({ "schema": 1, "wish": wish, "adhoc": adhoc, "spec": spec })
}

/// Every shape that the first schema had.
fn shapes() -> Vec<Value> {
    let specs = [
        json!({}),
        json!({ "source": { "from": "disk", "disk": "/a.img", "kernel": "/kernel.img" } }),
        json!({ "source": { "from": "kernel", "kernel": "/k", "initrd": null, "cmdline": null } }),
        json!({ "source": { "from": "kernel", "kernel": "/k", "initrd": "/i", "cmdline": "quiet panic=-1" } }),
        json!({ "runtime": "microvm", "source": { "from": "rootfs", "rootfs": "/srv/root" }, "args": ["/x", "-v"] }),
        json!({ "source": { "from": "image", "reference": "docker.io/x/y:1" } }),
        json!({ "memory_mb": 64, "vcpus": 4, "args": [], "env": { "A": "b=c", "Z": "\u{e9} \"" }, "env_file": "/e" }),
        json!({ "ports": [
            { "bind": "127.0.0.1", "host": 8080, "guest": 80, "protocol": "tcp" },
            { "bind": "0.0.0.0", "host": 5353, "guest": 53, "protocol": "udp" },
        ] }),
        json!({ "volumes": [{ "name": "data", "path": "/srv", "size": 1073741824, "options": null }],
                "root": "persistent", "egress": "none", "restart": "on-failure", "on_unhealthy": "restart" }),
        json!({ "include": ["/etc/ssl/certs"], "restart": "always", "stop_timeout": "1500ms", "start_timeout": "2h" }),
        json!({ "health": { "kind": "http", "port": 80, "service": "", "path": "/healthz", "tls": true, "ca": "/ca.pem",
                "server_name": "x.example", "interval": "250ms", "timeout": "3s", "successes": 2, "failures": 5 } }),
        json!({ "health": { "kind": null, "port": null, "service": "a.v1.B", "path": "/", "tls": false, "ca": null,
                "server_name": null, "interval": "500ms", "timeout": "2s", "successes": 1, "failures": 3 } }),
        json!({ "runtime": "container", "source": { "from": "image", "reference": "docker.io/x/y@sha256:ab" },
                "volumes": [{ "name": "/host", "path": "/srv", "size": null, "options": "ro,z" }],
                "container": { "network": "host", "user": "1000:1000" } }),
    ];
    let ways = [("run", true), ("stop", true), ("run", false), ("stop", false)];
    specs.into_iter().flat_map(|s| ways.map(|(wish, adhoc)| first(s.clone(), wish, adhoc))).collect()
}

fn put(tree: &Tree, record: &Value) -> std::path::PathBuf {
    let path = tree.files("demo/web").record;
    tree.put(&path, &serde_json::to_string_pretty(record).unwrap());
    path
}

fn raw(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn record_of_the_first_schema_keeps_every_field() {
    let tree = Tree::new();
    let stop = program("mcp-stop");
    let stop = stop.to_str().unwrap();
    for old in shapes() {
        let path = put(&tree, &old);
        let text = std::fs::read(&path).unwrap();
        let record = read(&tree);
        let spec = serde_json::to_value(&record.current.as_ref().unwrap().spec).unwrap();
        assert_eq!(spec, old["spec"], "{old}");
        assert_eq!(serde_json::to_value(record.wish).unwrap(), old["wish"]);
        assert_eq!(json!(record.adhoc), old["adhoc"]);
        assert_eq!((record.candidate, record.previous, record.volumes.len()), (None, None, 0));
        // Reading writes nothing, and so does a change that changes nothing.
        Record::update(&tree.paths, &id_of("demo/web"), |r| r).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), text);
        let runs = old["wish"] == "run";
        // The programs, for one of each shape.
        if old["adhoc"] == true && old["spec"]["runtime"] != "container" {
            let a = tree.run(STATUS, &["--json", "demo/web"]);
            let shown: Value = serde_json::from_str(&a.out).unwrap();
            assert_eq!(shown["components"][0]["runtime"], old["spec"]["runtime"], "{a:?}");
            assert_eq!(shown["components"][0]["drift"], json!([]), "{old}");
            assert_eq!(tree.run(STATUS, &["--wanted", "demo/web"]).code, Some(i32::from(!runs)));
            assert_eq!(tree.run(RECORD, &["demo"]).code, Some(0));
            assert_eq!(std::fs::read(&path).unwrap(), text, "the second schema before anything changed");
            // A stop is a change of the wish alone.
            let a = tree.run(stop, &["demo/web"]);
            assert_eq!(a.err, "mcp-stop: demo/web: not running\n", "{old}");
            let new = raw(&path);
            if runs {
                assert_eq!((&new["schema"], &new["wish"]), (&json!(2), &json!("stop")), "{a:?}");
                assert_eq!((&new["current"]["spec"], &new["adhoc"]), (&old["spec"], &old["adhoc"]));
                assert_eq!((&new["current"]["pin"], &new["current"]["at"]), (&Value::Null, &json!("")));
            } else {
                assert_eq!(new, old);
            }
        }
    }
}

#[test]
fn record_of_the_first_schema_is_what_a_start_takes() {
    let tree = Tree::new();
    let run = program("mcp-run-vm");
    let run = run.to_str().unwrap();
    let disk = tree.root.join("app.img");
    tree.put(&disk, "disk");
    let source = json!({ "from": "disk", "disk": disk, "kernel": null });
    let old = first(json!({ "source": source, "memory_mb": 77 }), "run", true);
    let path = put(&tree, &old);
    for args in [&["--dry-run", "demo/web"][..], &["--dry-run", "--recover", "demo/web"]] {
        let a = tree.run(run, args);
        assert_eq!(a.code, Some(0), "{a:?}");
        assert!(a.out.contains("\n-m\n77\n") || a.out.contains("77M") || a.out.contains("size=77"), "{a:?}");
    }
    assert_eq!(raw(&path), old);
    // Declared as it was started: no drift in what is deployed, and a new version beside it.
    define(&tree, "");
    put(&tree, &first(json!({}), "run", false));
    let a = tree.run(RECORD, &["--check", "demo"]);
    assert_eq!((a.code, a.out.as_str()), (Some(0), "demo/web current\n"));
    define(&tree, "memory_mb = 512\n");
    assert_eq!(tree.run(RECORD, &["--new", "demo"]).code, Some(0));
    assert_eq!(memories(&tree), [Some(512), Some(256), None]);
    assert_eq!(raw(&path)["schema"], 2);
}

#[test]
fn record_of_a_newer_schema_is_left_alone() {
    let tree = Tree::new();
    define(&tree, "");
    let path = put(&tree, &json!({ "schema": 3, "wish": "run", "unheard": [1] }));
    let text = std::fs::read(&path).unwrap();
    let words = format!(
        "{}: record of schema 3 was written by a newer mcp; this one reads up to 2",
        tree.files("demo/web").record.display()
    );
    for (name, code, args) in [
        ("mcp-record", 100, &["demo"][..]),
        ("mcp-record", 100, &["--new", "demo"]),
        ("mcp-record", 100, &["--drop", "demo"]),
        ("mcp-record", 100, &["--check", "demo"]),
        ("mcp-run-vm", 100, &["--dry-run", "demo/web"]),
        ("mcp-run", 100, &["--replace", "demo/web"]),
        // It stops what runs whatever the record says; nothing does.
        ("mcp-stop", 1, &["demo"]),
    ] {
        let a = tree.run(program(name).to_str().unwrap(), args);
        assert!(a.err.contains(&words), "{name} {args:?}: {a:?}");
        assert_eq!(a.code, Some(code), "{name} {args:?}: {a:?}");
        assert_eq!(std::fs::read(&path).unwrap(), text, "{name} {args:?}");
    }
    let a = tree.run(STATUS, &["--json"]);
    let shown: Value = serde_json::from_str(&a.out).unwrap();
    assert_eq!((a.code, &shown["components"][0]["drift"]), (Some(1), &json!(["record"])), "{a:?}");
}

#[test]
fn record_cut_short_anywhere_is_never_overwritten() {
    let tree = Tree::new();
    define(&tree, "");
    assert_eq!(tree.run(RECORD, &["--new", "--now", "demo"]).code, Some(0));
    let (path, id) = (tree.files("demo/web").record, id_of("demo/web"));
    let second = std::fs::read(&path).unwrap();
    let old = serde_json::to_vec(&first(json!({ "env": { "A": "\u{e9}" } }), "run", false)).unwrap();
    for whole in [second, old] {
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let e = Record::read(&tree.paths, &id).unwrap_err();
            assert_eq!(e.exit_code(), 100, "{e}");
            assert!(Record::update(&tree.paths, &id, |_| Some(Record::new())).is_err());
            assert_eq!(std::fs::read(&path).unwrap(), whole[..length]);
            // Through the programs now and then: they are the same code.
            if length % 211 == 0 {
                for args in [&["demo"][..], &["--new", "demo"], &["--back", "demo"], &["--drop", "demo"]] {
                    let a = tree.run(RECORD, args);
                    assert_eq!((a.code, a.out.as_str()), (Some(100), ""), "{a:?}");
                    assert!(a.err.contains("damaged record: "), "{a:?}");
                }
                assert_eq!(std::fs::read(&path).unwrap(), whole[..length]);
            }
        }
        // One byte turned: read as something, or an error; never a panic.
        for at in 0..whole.len() {
            for byte in [0, b'"', b'}', b'9', 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = byte;
                std::fs::write(&path, &bytes).unwrap();
                let _ = Record::read(&tree.paths, &id);
            }
        }
    }
}
