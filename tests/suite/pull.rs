//! mcp-pull: from registries and directories into the store, whatever happens on the way.

mod broken;
mod lies;
mod proxy;

use crate::harness::{Answer, Node, OciImage, Registry, find, oci_image, wait};
use mcp::model::Digest;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Four layers: two that nobody needs, files of a configuration, and the example program on top.
fn image(node: &Node, name: &str) -> OciImage {
    let extra = node.root.join("extra");
    fs::create_dir_all(extra.join("etc/app")).unwrap();
    fs::write(extra.join("etc/app/app.conf"), "level = 3\n").unwrap();
    let program = format!("{}=/srv/bin/hello", crate::harness::hello().display());
    let layers = ["filler:2:1".into(), "filler:1:2".into(), extra.display().to_string(), program];
    oci_image(
        &node.root.join(name),
        "latest",
        &json!({ "Entrypoint": ["/srv/bin/hello"], "Cmd": ["--port", "80"] }),
        &layers,
    )
}

fn total(image: &OciImage) -> u64 {
    image.layers.iter().map(|l| l.size).sum()
}

/// The directory that a line of mcp-pull names.
#[track_caller]
fn path(answer: &Answer) -> PathBuf {
    let line = answer.out.lines().next().unwrap_or_else(|| panic!("no line: {answer:#?}"));
    line.rsplit(' ').next().unwrap().into()
}

fn pulled(answer: &Answer) -> Value {
    serde_json::from_slice(&fs::read(path(answer).join("image.json")).unwrap()).unwrap()
}

fn store(node: &Node) -> PathBuf {
    node.root.join("lib/store")
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|e| e.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Everything that is to be seen in the store is whole; nobody works on anything, nothing is left of anybody.
#[track_caller]
fn is_whole(node: &Node) {
    let store = store(node);
    for name in names(&store.join("blobs")) {
        let bytes = fs::read(store.join("blobs").join(&name)).unwrap();
        assert_eq!(Digest::of(&bytes).hex(), name, "a blob of {} bytes is not what its name says", bytes.len());
    }
    for key in names(&store.join("images")) {
        let dir = store.join("images").join(key);
        let image = mcp::image::pulled::Pulled::read(&dir).unwrap();
        let paths = mcp::sys::paths::Paths::under(&node.root);
        assert!(image.is_whole(&dir, &mcp::image::store::Store::look(&paths)), "{image:#?}");
        for file in image.program.iter().flat_map(|p| &p.files) {
            let bytes = fs::read(dir.join("rootfs").join(file.path.trim_start_matches('/'))).unwrap();
            assert_eq!(Digest::of(&bytes), file.digest, "{}", file.path);
        }
    }
    for file in find(&store, &|_| true) {
        assert_eq!(fs::metadata(file.parent().unwrap()).unwrap().mode() & 0o022, 0);
    }
    assert_eq!(names(&node.root.join("run/.uids")), [""; 0], "users are still taken");
}

/// As [`is_whole`], and nothing at all is under way.
#[track_caller]
fn is_settled(node: &Node) {
    is_whole(node);
    assert_eq!(names(&store(node).join("tmp")), [""; 0]);
    assert_eq!(names(&store(node).join("locks")), [""; 0]);
    let processes = node.processes();
    let ours = processes.iter().filter(|p| !p.contains("docker-registry"));
    assert_eq!(ours.collect::<Vec<_>>(), [""; 0]);
}

/// How often the registry was asked for a blob.
fn fetched(requests: &[String], digest: &str) -> usize {
    requests.iter().filter(|r| r.starts_with("GET ") && r.contains(digest)).count()
}

#[test]
fn both_runtimes_come_whole_and_once() {
    let node = Node::new();
    let Some(registry) = Registry::start("both_runtimes_come_whole_and_once", &node) else { return };
    let image = image(&node, "oci");
    let reference = registry.fill(&image.reference(), "app/hello:1");
    // The program needs its own layer alone.
    let before = registry.requests().len();
    let first = node.mcp("mcp-pull", &[&reference]).expect(0);
    let requests = registry.requests().split_off(before);
    let top = image.layers.last().unwrap();
    assert_eq!(first.out, format!("{reference} {} {}\n", image.manifest, path(&first).display()));
    assert!(first.one_line().ends_with("(1 of 4 layers)"), "{first:#?}");
    for layer in &image.layers {
        assert_eq!(fetched(&requests, &layer.digest), usize::from(layer.digest == top.digest), "{requests:#?}");
    }
    let program = path(&first).join("rootfs/srv/bin/hello");
    assert_eq!(fs::read(&program).unwrap(), fs::read(crate::harness::hello()).unwrap());
    assert_eq!(fs::metadata(&program).unwrap().mode() & 0o7777, 0o755);
    let told = pulled(&first);
    assert_eq!(
        (&told["schema"], &told["runtime"], &told["reference"]),
        (&json!(1), &json!("unikernel"), &json!(reference))
    );
    assert_eq!(told["program"]["path"], "/srv/bin/hello");
    assert_eq!(told["program"]["argv"], json!(["/srv/bin/hello", "--port", "80"]));
    assert_eq!(told["program"]["files"].as_array().unwrap().len(), 1);
    is_settled(&node);
    // The rest for a microvm; what is there is not fetched again.
    let before = registry.requests().len();
    let second = node.mcp("mcp-pull", &["--for", "microvm", &reference]).expect(0);
    let requests = registry.requests().split_off(before);
    assert!(second.one_line().ends_with("(3 of 4 layers)"), "{second:#?}");
    for layer in &image.layers {
        assert_eq!(fetched(&requests, &layer.digest), usize::from(layer.digest != top.digest), "{requests:#?}");
    }
    assert!(!path(&second).join("rootfs").exists());
    assert_eq!(pulled(&second)["layers"].as_array().unwrap().len(), 4);
    is_settled(&node);
    // Nothing new: one question.
    for (runtime, answer) in [("unikernel", &first), ("microvm", &second)] {
        let before = registry.requests().len();
        let again = node.mcp("mcp-pull", &["--for", runtime, &reference]).expect(0);
        assert_eq!(again.out, answer.out);
        assert!(again.one_line().ends_with(": nothing new"), "{again:#?}");
        let requests = registry.requests().split_off(before);
        assert_eq!(requests.len(), 1, "{requests:#?}");
        assert!(requests[0].starts_with("HEAD "), "{requests:#?}");
    }
    // By digest it needs no registry at all; by tag it does.
    let pinned = format!("{}@{}", reference.trim_end_matches(":1"), image.manifest);
    let named = node.mcp("mcp-pull", &["-q", &pinned]).expect(0);
    assert_eq!((path(&named), named.err.as_str()), (path(&first), ""));
    drop(registry);
    assert_eq!(node.mcp("mcp-pull", &[&pinned]).expect(0).out, named.out);
    let gone = node.mcp("mcp-pull", &[&reference]).expect(111);
    assert!(gone.one_line().contains("refused") && gone.out.is_empty(), "{gone:#?}");
    is_settled(&node);
}

#[test]
fn what_a_program_includes_comes_from_further_down() {
    let node = Node::new();
    let image = image(&node, "oci");
    let component = |name: &str, more: &str| {
        format!(
            "[[components]]\nname = \"{name}\"\nimage = \"{}\"\nruntime = \"unikernel\"\n{more}\n",
            image.reference()
        )
    };
    let text = format!(
        "name = \"app\"\n{}{}",
        component("plain", ""),
        component("more", "include = [\"/etc/app\"]\nargs = [\"--port\", \"81\"]"),
    );
    node.define("app", &text);
    let both = node.mcp("mcp-pull", &["app"]).expect(0);
    assert_eq!(both.out.lines().count(), 2, "{both:#?}");
    let more = node.mcp("mcp-pull", &["-q", "app/more"]).expect(0);
    assert_eq!(fs::read_to_string(path(&more).join("rootfs/etc/app/app.conf")).unwrap(), "level = 3\n");
    let told = pulled(&more);
    assert_eq!(told["program"]["argv"], json!(["/srv/bin/hello", "--port", "81"]));
    let paths: Vec<&str> =
        told["program"]["files"].as_array().unwrap().iter().map(|f| f["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["/etc/app/app.conf", "/srv/bin/hello"]);
    // Two of four layers were looked at: the rest can't have what was asked for.
    let plain = node.mcp("mcp-pull", &["-q", "app/plain"]).expect(0);
    assert_ne!(path(&plain), path(&more));
    is_settled(&node);
}

#[test]
fn a_dry_run_writes_nothing() {
    let node = Node::new();
    let image = image(&node, "oci");
    let reference = image.reference();
    let dry = |runtime: &str| node.mcp("mcp-pull", &["--dry-run", "--for", runtime, &reference]).expect(0);
    let answer = dry("unikernel");
    let start = format!("{reference} {} would fetch at least ", image.manifest);
    assert!(answer.out.starts_with(&start) && answer.out.ends_with("(1 of 4 layers)\n"), "{answer:#?}");
    assert_eq!(answer.err, "");
    let answer = dry("microvm");
    assert!(!answer.out.contains("at least") && answer.out.ends_with("(4 of 4 layers)\n"), "{answer:#?}");
    assert!(!node.root.join("lib").exists() && !node.root.join("run").exists());
    let json = node.mcp("mcp-pull", &["--dry-run", "--json", "--for", "microvm", &reference]).expect(0);
    let told: Value = serde_json::from_str(&json.out).unwrap();
    let one = &told["images"][0];
    assert_eq!((&told["schema"], &one["layers_fetched"], &one["path"]), (&json!(1), &json!(4), &Value::Null));
    let bytes = one["bytes_fetched"].as_u64().unwrap();
    assert!(bytes > total(&image) && bytes == one["bytes"].as_u64().unwrap(), "{told:#}");
    // After the pull there is nothing to do.
    let json = node.mcp("mcp-pull", &["--json", "--for", "microvm", &reference]).expect(0);
    let told: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((&told["images"][0]["new"], told["images"][0]["bytes_fetched"].as_u64()), (&json!(true), Some(bytes)));
    assert_eq!(told["images"][0]["manifest"], image.manifest.as_str());
    let answer = dry("microvm");
    assert_eq!(answer.out, format!("{reference} {} nothing new\n", image.manifest));
    // What a unikernel needs is there too, whatever it is.
    assert!(dry("unikernel").out.contains("would fetch 0 B of"));
}

#[test]
fn two_at_once_cost_one() {
    let node = Node::new();
    let Some(registry) = Registry::start("two_at_once_cost_one", &node) else { return };
    let image = image(&node, "oci");
    let reference = registry.fill(&image.reference(), "hello:1");
    let before = registry.requests().len();
    let began = Instant::now();
    let args = ["--for", "microvm", &reference];
    let others = ["--for", "unikernel", &reference];
    let all: Vec<_> = [&args, &others, &args, &others].map(|a| node.command("mcp-pull", a).spawn().unwrap()).into();
    let answers: Vec<Answer> = all.into_iter().map(|c| wait(c, "mcp-pull", began).expect(0)).collect();
    assert_eq!((&answers[0].out, &answers[1].out), (&answers[2].out, &answers[3].out));
    let requests = registry.requests().split_off(before);
    for layer in &image.layers {
        assert_eq!(fetched(&requests, &layer.digest), 1, "{requests:#?}");
    }
    is_settled(&node);
}

#[test]
fn what_cannot_be_pulled_does_not_hide_the_rest() {
    let node = Node::new();
    let image = image(&node, "oci");
    let good = image.reference();
    let none = format!("oci:{}", node.root.join("none").display());
    let port = crate::harness::free_port();
    let away = format!("127.0.0.1:{port}/a:1");
    let answer = node.mcp("mcp-pull", &["-q", &none, &good, &away]).expect(100);
    assert_eq!(answer.out.lines().count(), 1, "{answer:#?}");
    assert_eq!(answer.err.lines().count(), 2, "{answer:#?}");
    node.mcp("mcp-pull", &["-q", &good, &away]).expect(111);
    let wrong = node.mcp("mcp-pull", &["Not:valid", "docker-archive:-", "docker-archive:-"]).expect(2);
    assert_eq!((wrong.err.lines().count(), wrong.out.as_str()), (2, ""), "{wrong:#?}");
    node.mcp("mcp-pull", &["nothing-of-that-name"]).expect(100);
    node.mcp("mcp-pull", &[]).expect(2);
    is_settled(&node);
}
