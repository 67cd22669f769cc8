//! One bad file does not stop the node: its own service alone is affected, each program reports it each time, and what runs
//! can be listed, checked, logged and stopped even where the node config is bad.

use super::{Boot, fake, plain, record, sequence};
use crate::deploy_targets::deploy;
use crate::harness::{Answer, Node};
use std::fs;

const SERVICES: usize = 20;

/// Five mistakes: the service, its definition, and where in it the mistake is reported.
const MISTAKES: [(&str, &str, &str); 5] = [
    ("s04", "name = [\n", "s04.toml:1: "),
    ("s05", "name = \"s05\"\n[[components]]\nname = \"vm\"\nimgae = \"x\"\n", "s05.toml:4: components.vm.imgae: "),
    ("s06", "name = \"s60\"\n[[components]]\nname = \"vm\"\nimage = \"h/x:1\"\n", "s06.toml:1: name: "),
    ("s07", "", "s07.toml:1: name: missing"),
    ("s20", "name = \"s20\"\nactive = 7\n[[components]]\nname = \"vm\"\nimage = \"h/x:1\"\n", "s20.toml:2: active: "),
];

/// Which files a program has to report.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Reads {
    /// Those of all services.
    All,
    /// That of this one.
    Only(&'static str),
}

/// A program, its arguments, the files it reads, its exit code, that with a bad mcp.toml, and words of its answer with either.
type Case = (&'static str, &'static [&'static str], Reads, i32, i32, &'static str);

use Reads::{All, Only};

/// What changes nothing that runs, so that each can be asked twice.
const ASKED: &[Case] = &[
    ("mcp-status", &[], All, 1, 1, "s04"),
    ("mcp-status", &["--list"], All, 1, 1, "s04/vm\n"),
    ("mcp-status", &["--json"], All, 1, 1, "\"component\""),
    ("mcp-status", &["--list", "s01"], Only("s01"), 0, 1, "s01/vm\n"),
    ("mcp-status", &["--list", "s05"], Only("s05"), 1, 1, "s05/vm\n"),
    ("mcp-status", &["--nagios"], All, 3, 3, "MCP UNKNOWN"),
    ("mcp-health", &["--all"], All, 1, 1, "s04/vm: no check\n"),
    ("mcp-health", &["--all", "--json"], All, 1, 1, "\"healthy\":true"),
    ("mcp-health", &["s01"], Only("s01"), 0, 1, "s01/vm: no check\n"),
    ("mcp-health", &["s06/vm"], Only("s06"), 1, 1, "s06/vm: no check\n"),
    ("mcp-logs", &["s01"], Only("s01"), 0, 1, ""),
    ("mcp-logs", &["s07"], Only("s07"), 1, 1, ""),
    ("mcp-record", &["s01"], Only("s01"), 0, 1, "s01/vm: shall run\n"),
    ("mcp-record", &["s04"], Only("s04"), 1, 1, "s04/vm: shall run\n"),
    ("mcp-record", &["--deployable"], All, 1, 1, "s01\n"),
    ("mcp-run", &["--all"], All, 1, 100, ""),
    ("mcp-boot", &[], All, 1, 100, ""),
    ("mcp-boot", &["--dry-run"], All, 1, 100, ""),
    ("mcp-boot", &["--stage", "base"], All, 0, 100, ""),
    ("mcp-units", &["--dry-run", "runit"], All, 1, 100, ""),
    ("mcp-units", &["--plan"], All, 1, 100, ""),
    ("mcp-deploy", &["--dry-run", "--all"], All, 1, 100, ""),
];

/// What takes down what runs. The node is up before each.
const STOPS: &[Case] = &[
    ("mcp-stop", &["s01"], Only("s01"), 0, 1, "s01/vm: stopped"),
    ("mcp-stop", &["s04", "s05/vm"], Only("s04"), 1, 1, "s05/vm: stopped"),
    ("mcp-stop", &["--all"], All, 1, 1, "s07/vm: stopped"),
    ("mcp-boot", &["--down"], All, 1, 1, "s07/vm: stopped"),
];

fn name(number: usize) -> String {
    format!("s{number:02}")
}

fn breaks(node: &Node) {
    MISTAKES.iter().for_each(|(service, text, _)| node.define(service, text));
}

fn check(node: &Node, case: &Case, bad_config: bool) {
    let (program, args, reads, good, bad, words) = *case;
    let answer = if program == "mcp-deploy" { deploy(node, args) } else { node.mcp(program, args) };
    let told = format!("{}{}", answer.out, answer.err);
    assert_eq!(answer.code, Some(if bad_config { bad } else { good }), "{answer:#?}");
    for (service, _, place) in MISTAKES {
        let wanted = reads == All || args.iter().any(|arg| arg.split('/').next() == Some(service));
        assert_eq!(told.contains(place), wanted, "{place}: {answer:#?}");
    }
    assert_eq!(told.contains("mcp.toml:1: nonsense: "), bad_config, "{answer:#?}");
    assert!(answer.out.contains(words), "{words:?} is missing: {answer:#?}");
}

fn running(node: &Node) -> usize {
    (1..=SERVICES).filter(|number| node.qemu(&format!("{}/vm", name(*number))) != 0).count()
}

/// A node of 20 services in two stages, all of which run; with its good and its bad config.
fn node_of_20(test: &str) -> Option<(Node, String, String)> {
    let (node, config) = fake(test)?;
    let names: Vec<String> = (1..=SERVICES).map(name).collect();
    names.iter().for_each(|name| plain(&node, name, ""));
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    sequence(&node, &config, &[("base", &names[..3], "60s"), ("apps", &names[3..], "60s")]);
    let good = fs::read_to_string(node.root.join("etc/mcp.toml")).unwrap();
    let bad = format!("nonsense = 1\n{good}");
    node.mcp("mcp-boot", &[]).expect(0);
    assert_eq!(running(&node), SERVICES);
    Some((node, good, bad))
}

#[test]
fn a_bad_file_is_reported_by_each_program_and_stops_nothing() {
    let Some((node, good, bad)) = node_of_20("a_bad_file_is_reported") else { return };
    breaks(&node);
    for (bad_config, config) in [(false, &good), (true, &bad)] {
        node.configure(config);
        for case in ASKED {
            check(&node, case, bad_config);
        }
        assert_eq!(running(&node), SERVICES);
    }
    // What is well defined can be started while others are bad.
    node.configure(&good);
    node.mcp("mcp-stop", &["--for-now", "s01", "s04"]).expect(0);
    node.mcp("mcp-boot", &[]).expect(1);
    assert_eq!(["s01/vm", "s04/vm"].map(|id| node.qemu(id) != 0), [true, false]);
    node.mcp("mcp-run", &["--detach", "s04"]).expect(100);
}

#[test]
fn what_runs_is_stopped_whatever_file_is_bad() {
    let Some((node, good, bad)) = node_of_20("what_runs_is_stopped") else { return };
    for (bad_config, config) in [(false, &good), (true, &bad)] {
        for case in STOPS {
            node.configure(&good);
            (1..=SERVICES).for_each(|number| plain(&node, &name(number), ""));
            let all: Vec<String> = (1..=SERVICES).map(name).collect();
            let mut run = vec!["--detach"];
            run.extend(all.iter().map(String::as_str).filter(|name| node.qemu(&format!("{name}/vm")) == 0));
            if run.len() > 1 {
                node.mcp("mcp-run", &run).expect(0);
            }
            breaks(&node);
            node.configure(config);
            check(&node, case, bad_config);
            if case.1[0].starts_with("--") {
                assert_eq!(running(&node), 0, "{case:?}");
            }
        }
    }
    // A config of which nothing can be read names no stage; a folder of definitions that is none has no services.
    node.configure("[[[\n");
    fs::rename(node.root.join("etc/services"), node.root.join("etc/aside")).unwrap();
    fs::write(node.root.join("etc/services"), "").unwrap();
    for program in ["mcp-status", "mcp-health", "mcp-stop"] {
        let args: &[&str] = if program == "mcp-status" { &[] } else { &["--all"] };
        let answer = node.mcp(program, args).expect(1);
        assert!(answer.err.contains("mcp.toml:1") && answer.err.contains("etc/services: "), "{answer:#?}");
    }
}

#[test]
fn boot_holds_the_foundation_until_its_definition_is_mended() {
    let Some((node, config)) = fake("boot_holds_the_foundation") else { return };
    ["a", "b", "c", "d"].iter().for_each(|name| plain(&node, name, ""));
    let mend = fs::read(node.root.join("etc/services/b.toml")).unwrap();
    node.define("b", "name = \"b\"\nnope = 1\n");
    node.define("d", "name = \"d\"\nnope = 1\n");
    sequence(&node, &config, &[("base", &["a", "b"], "60s"), ("apps", &["c", "d"], "60s")]);
    let mut boot = Boot::start(&node, &[]);
    boot.until("b.toml:2: nope: ");
    boot.until("a/vm: healthy");
    // Half mended, which is reported; then mended.
    node.define("b", "name = \"b\"\nstill = 1\n");
    boot.until("b.toml:2: still: ");
    assert!(!boot.said().contains("c/vm"), "a later stage has begun: {}", boot.said());
    let new = node.root.join("etc/services/.b.toml.new");
    fs::write(&new, mend).unwrap();
    fs::rename(new, node.root.join("etc/services/b.toml")).unwrap();
    boot.until("b: its definition is mended");
    let answer: Answer = boot.end().expect(1);
    assert!(answer.err.contains("d.toml:2: nope: "), "{answer:#?}");
    assert_eq!(["a/vm", "b/vm", "c/vm", "d/vm"].map(|id| node.qemu(id) != 0), [true, true, true, false], "{answer:#?}");
    let known = record(&node)["stages"][0]["components"].as_array().unwrap().len();
    assert_eq!(known, 2, "the one that was mended is not recorded");
    // Where all of it is mended before the end, the boot has succeeded.
    plain(&node, "d", "");
    node.define("a", "nope = 1\n");
    let mut boot = Boot::start(&node, &[]);
    boot.until("a.toml:1: nope: ");
    plain(&node, "a", "");
    boot.end().expect(0);
}

#[test]
fn what_is_left_of_a_removed_definition_is_an_orphan_and_no_error_of_a_deploy() {
    let Some((node, config)) = fake("what_is_left_of_a_removed") else { return };
    ["a", "b"].iter().for_each(|name| plain(&node, name, ""));
    sequence(&node, &config, &[("base", &["a"], "60s")]);
    node.mcp("mcp-run", &["--detach", "a", "b"]).expect(0);
    fs::remove_file(node.root.join("etc/services/b.toml")).unwrap();
    for _ in 0..2 {
        let answer = deploy(&node, &["--all"]).expect(0);
        assert!(answer.err.contains("b/vm: orphan: it has no definition"), "{answer:#?}");
        assert!(answer.out.contains("a/vm: runs already as deployed"), "{answer:#?}");
        // What is left of one that was stopped is no more than that.
        node.mcp("mcp-stop", &["--for-now", "b"]);
    }
    // A name that is nearly a definition's gets a note, and is no error.
    fs::write(node.root.join("etc/services/SHOP.TOML"), "junk").unwrap();
    for (program, args, code) in
        [("mcp-status", &[][..], 1), ("mcp-boot", &["--dry-run"], 0), ("mcp-run", &["--all"], 0)]
    {
        let answer = node.mcp(program, args).expect(code);
        assert!(
            answer.err.contains("SHOP.TOML: not read: ") && answer.err.contains("rename it to shop.toml"),
            "{answer:#?}"
        );
    }
}
