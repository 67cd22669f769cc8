//! Mistakes in mcp.toml are all reported, and nothing is started; damage of one component is that one's alone.

use super::{fake, plain, sequence};
use crate::harness::Node;
use std::fs;
use std::path::Path;

fn nothing_started(node: &Node) {
    for dir in ["run", "lib/boot.json", "lib/registry"] {
        assert!(!node.root.join(dir).exists(), "{dir} is there");
    }
}

#[test]
fn boot_with_a_bad_config_reports_all_mistakes_and_starts_nothing() {
    let node = Node::new();
    for name in ["a", "b", "c"] {
        plain(&node, name, "");
    }
    node.define("broken", "name = \"broken\"\n[[components]]\nname = \"x\"\nmemory = 1\n");
    node.configure(
        "[[boot.sequence]]\nname = \"base\"\nservices = [\"a\", \"nosuch\"]\n\
         [[boot.sequence]]\nname = \"core\"\nservices = [\"a\"]\ntimeout = \"0s\"\n\
         [[boot.sequence]]\nservices = [\"b\"]\n\
         [[boot.sequence]]\nname = \"empty\"\nservices = []\n\
         [[boot.sequence]]\nname = \"odd\"\nservices = [\"c\"]\nhealth = \"grcp\"\n\
         [[boot.sequence]]\nname = \"rpc\"\nservices = [\"c\"]\nhealth = \"grpc\"\n",
    );
    for args in [&[][..], &["--dry-run"], &["--stage", "base"], &["--stage", "none"]] {
        let answer = node.mcp("mcp-boot", args).expect(100);
        let etc = node.root.join("etc");
        let line = |rest: &str| format!("mcp-boot: {}/{rest}", etc.display());
        for wanted in [
            line("mcp.toml:6: boot.sequence[1].services[0]: \"a\" is in stage \"base\" already"),
            line("mcp.toml:7: boot.sequence[1].timeout: \"0s\" is too short: at least 1ms"),
            line("mcp.toml:8: boot.sequence[2].name: missing; add name = "),
            line("mcp.toml:12: boot.sequence[3].services: is empty; name a service, or remove the stage"),
            line("mcp.toml:16: boot.sequence[4].health: \"grcp\" is not "),
            line("mcp.toml:19: boot.sequence[5].services[0]: \"c\" is in stage \"odd\" already"),
            line("mcp.toml:3: boot.sequence[0].services[1]: no such service: "),
            line("services/broken.toml:4: components.x.memory: unknown key "),
            line("services/c.toml: c/vm: stage rpc wants grpc checks, and it has no tcp port; add one, or give it "),
        ] {
            assert!(answer.err.lines().any(|l| l.starts_with(&wanted)), "{wanted:?} is not told: {answer:#?}");
        }
        assert!(answer.out.is_empty(), "{answer:#?}");
    }
    nothing_started(&node);
}

#[test]
fn boot_without_stages_says_how_to_have_some() {
    let node = Node::new();
    plain(&node, "a", "");
    let answer = node.mcp("mcp-boot", &[]).expect(100);
    let line = "mcp-boot: mcp.toml: names no stage; add a [[boot.sequence]] with name and services";
    assert_eq!(answer.one_line(), line);
    nothing_started(&node);
}

#[test]
fn boot_with_a_damaged_record_brings_the_others_up() {
    let Some((node, config)) = fake("boot_with_a_damaged_record") else { return };
    for name in ["f", "a", "b"] {
        plain(&node, name, "");
    }
    node.define(
        "never",
        "name = \"never\"\n[[components]]\nname = \"vm\"\nimage = \"h.example/x:1\"\nruntime = \"unikernel\"\n",
    );
    sequence(&node, &config, &[("base", &["f"], "60s"), ("apps", &["a", "b", "never"], "60s")]);
    node.mcp("mcp-boot", &[]).expect(0);
    node.mcp("mcp-boot", &["--down"]).expect(0);
    let record = node.root.join("lib/registry/a/vm.json");
    let whole = fs::read(&record).unwrap();
    fs::write(&record, &whole[..whole.len() / 2]).unwrap();
    let answer = node.mcp("mcp-boot", &[]).expect(0);
    let started = "mcp-boot: a/vm: not started: ";
    let told = answer.err.lines().find(|l| l.starts_with(started)).unwrap_or_else(|| panic!("{answer:#?}"));
    assert!(told.contains("a/vm.json: damaged record: "), "{told}");
    let line = "mcp-boot: never/vm: not started: never deployed: mcp deploy never/vm";
    assert!(answer.err.lines().any(|l| l == line), "{answer:#?}");
    assert_eq!(["f/vm", "a/vm", "b/vm"].map(|id| node.qemu(id) != 0), [true, false, true], "{answer:#?}");
    assert!(answer.took.as_secs() < 20, "it waited for what can't be started: {answer:#?}");
    let status = node.mcp("mcp-status", &["a"]).expect(1);
    assert!(status.out.contains("record"), "{status:#?}");
    fs::write(&record, whole).unwrap();
    let answer = node.mcp("mcp-boot", &[]).expect(0);
    assert!(answer.out.contains("  a/vm: started\n") && node.qemu("a/vm") != 0, "{answer:#?}");
}

/// What waits must not be bent by a step of the wall clock: it knows none.
#[test]
fn boot_waits_by_the_monotonic_clock_alone() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = vec!["node/recover.rs".into(), "sys/deadline.rs".into(), "health/wait.rs".into()];
    files.extend(["mod", "stage", "member", "down"].map(|name| format!("node/boot/{name}.rs")));
    for file in files {
        let text = fs::read_to_string(src.join(&file)).unwrap();
        for clock in ["SystemTime", "CLOCK_REALTIME", "time::parse", "UNIX_EPOCH"] {
            assert!(!text.contains(clock), "{file} uses {clock}");
        }
        // The one use: to compare what states say, for words.
        let uses = text.matches("time::now()").count();
        assert!(uses <= usize::from(file.ends_with("member.rs")), "{file} asks for the time of day");
    }
}
