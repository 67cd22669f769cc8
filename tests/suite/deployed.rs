//! mcp-status of what was deployed from an image, and `--remote`, with a real registry.

use crate::harness::{Node, Registry, free_port, hello_image, oci_image};
use crate::tree::{Tree, id_of};
use mcp::model::{Component, Digest, Pin, Record, Runtime, Source, Version};
use mcp::sys::paths::Paths;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

const STATUS: &str = env!("CARGO_BIN_EXE_mcp-status");

fn define(root: &Path, service: &str, reference: &str) {
    let text = format!(
        "name = \"{service}\"\n[[components]]\nname = \"web\"\nruntime = \"unikernel\"\nimage = \"{reference}\"\n"
    );
    std::fs::create_dir_all(root.join("etc/services")).unwrap();
    std::fs::write(root.join(format!("etc/services/{service}.toml")), text).unwrap();
}

fn version(reference: &str, tagged: Digest, build: &str) -> Version {
    let spec = Component::new("web", Runtime::Unikernel, Source::Image { reference: reference.into() });
    let pin = Pin { tagged, manifest: Digest::of(b"manifest"), build: build.into() };
    Version { spec, pin: Some(pin), at: "2026-01-02T03:04:05.000Z".into() }
}

fn deploy(root: &Path, id: &str, current: Version) {
    let paths = Paths::under(root);
    Record::update(&paths, &id_of(id), |_| Some(Record { current: Some(current), ..Record::new() })).unwrap();
}

#[test]
fn status_shows_what_was_deployed() {
    let tree = Tree::new();
    let image = "docker.io/x/y:1";
    define(&tree.root, "demo", image);
    let sheet = tree.run(STATUS, &["-v", "demo"]);
    assert!(sheet.out.contains("  deployed:     never deployed: mcp deploy demo/web\n"), "{}", sheet.out);
    assert!(sheet.out.contains("  drift:        missing\n"), "{}", sheet.out);
    let digest = Digest::of(b"tagged");
    Record::update(&tree.paths, &id_of("demo/web"), |_| {
        Some(Record {
            current: Some(version(image, digest, "build-1")),
            candidate: Some(version(image, digest, "build-2")),
            previous: Some(version("docker.io/x/y:0", digest, "build-0")),
            ..Record::new()
        })
    })
    .unwrap();
    let (sheet, manifest) = (tree.run(STATUS, &["-v", "demo"]).out, Digest::of(b"manifest"));
    for line in [
        "  deployed:     docker.io/x/y:1 since 2026-01-02T03:04:05.000Z\n".to_string(),
        format!("  tagged:       {digest}\n  manifest:     {manifest}\n  build:        build-1\n"),
        format!("  on trial:     docker.io/x/y:1 since 2026-01-02T03:04:05.000Z, {manifest} build build-2\n"),
        format!("  previous:     docker.io/x/y:0 since 2026-01-02T03:04:05.000Z, {manifest} build build-0\n"),
    ] {
        assert!(sheet.contains(&line), "no {line:?} in\n{sheet}");
    }
    let told: Value = serde_json::from_str(&tree.run(STATUS, &["--json"]).out).unwrap();
    let one = &told["components"][0];
    assert_eq!(one["deployed"]["current"]["pin"]["tagged"], digest.to_string());
    assert_eq!(one["deployed"]["candidate"]["pin"]["build"], "build-2");
    assert_eq!(one["deployed"]["previous"]["image"], "docker.io/x/y:0");
    assert_eq!((one.get("remote"), &one["drift"]), (None, &json!(["missing"])));
}

#[test]
fn status_asks_the_registry_only_when_told() {
    let node = Node::new();
    let Some(mut registry) = Registry::start("status_asks_the_registry", &node) else { return };
    let image = hello_image(&node);
    let tag = registry.fill(&image.reference(), "hello:1");
    let other = oci_image(&node.root.join("other"), "x", &json!({ "Entrypoint": ["/x"] }), &["filler:1"]);
    let now = Digest::parse(&image.manifest).unwrap();
    for service in ["same", "byname", "stopped"] {
        define(&node.root, service, &tag);
        deploy(&node.root, &format!("{service}/web"), version(&tag, now, "b"));
    }
    // By digest there is nothing to ask; nor where it shall not run.
    let pinned = format!("{tag}@{now}");
    define(&node.root, "byname", &pinned);
    deploy(&node.root, "byname/web", version(&pinned, now, "b"));
    Record::update(&Paths::under(&node.root), &id_of("stopped/web"), |r| {
        Some(Record { wish: mcp::model::Wish::Stop, ..r? })
    })
    .unwrap();
    let heads = |registry: &Registry| registry.requests().iter().filter(|r| r.starts_with("HEAD ")).count();
    let remote = |node: &Node, code: i32| -> Value {
        let answer = node.mcp("mcp-status", &["--remote", "--json"]).expect(code);
        serde_json::from_str(&answer.out).unwrap()
    };
    let of = |told: &Value, service: &str| -> Value {
        let all = told["components"].as_array().unwrap();
        all.iter().find(|c| c["service"] == service).unwrap().clone()
    };
    let before = heads(&registry);
    node.mcp("mcp-status", &[]).expect(1);
    node.mcp("mcp-status", &["-v"]).expect(1);
    assert_eq!(heads(&registry), before, "asked without --remote");
    let told = remote(&node, 1);
    assert_eq!(of(&told, "same")["remote"], json!({ "answer": "same", "names": null, "reason": null }));
    assert_eq!(of(&told, "same")["drift"], json!(["missing"]));
    assert_eq!((of(&told, "byname").get("remote"), of(&told, "stopped").get("remote")), (None, None));
    assert_eq!(heads(&registry), before + 1, "{:#?}", registry.requests());

    registry.fill(&other.reference(), "hello:1");
    let told = remote(&node, 1);
    let to = &other.manifest;
    assert_eq!(of(&told, "same")["remote"], json!({ "answer": "the tag has moved", "names": to, "reason": null }));
    assert_eq!(of(&told, "same")["drift"], json!(["missing", "image"]));
    let sheet = node.mcp("mcp-status", &["--remote", "-v", "same"]).expect(1);
    assert!(sheet.out.contains(&format!("  remote:       the tag has moved: it names {to}\n")), "{}", sheet.out);

    // One that can't be asked is a note.
    registry.stop();
    let answer = node.mcp("mcp-status", &["--remote", "same"]).expect(1);
    assert!(answer.one_line().contains("same/web: its registry could not be asked: "), "{answer:#?}");
    assert!(!answer.out.contains("image,"), "{answer:#?}");
    for more in ["--prometheus=-", "--watch", "--wanted=same"] {
        node.mcp("mcp-status", &["--remote", more]).expect(2);
    }
}

#[test]
fn status_waits_ten_seconds_for_registries_at_the_most() {
    let node = Node::new();
    // Connections are accepted by the kernel, and nothing is ever said.
    let silent = std::net::TcpListener::bind(("127.0.0.1", free_port())).unwrap();
    let reference = format!("{}/x/y:1", silent.local_addr().unwrap());
    for n in 0..20 {
        define(&node.root, &format!("s{n}"), &reference);
        deploy(&node.root, &format!("s{n}/web"), version(&reference, Digest::of(b"x"), "b"));
    }
    let answer = node.mcp("mcp-status", &["--remote"]).expect(1);
    assert!(answer.took < Duration::from_secs(15), "{answer:#?}");
    assert_eq!(answer.err.lines().filter(|l| l.contains("could not be asked")).count(), 20, "{answer:#?}");
}
