//! scripts/mcp, and the files in examples/.

use crate::tree::Tree;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn bin() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_mcp-status")).parent().unwrap().to_path_buf()
}

/// Runs the dispatcher at `mcp` with `path` as all of PATH.
fn mcp(mcp: &Path, path: &str, args: &[&str]) -> Output {
    Command::new("/bin/sh").arg(mcp).args(args).env("PATH", path).env_remove("MCP_ROOT").output().unwrap()
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn mcp_lists_the_programs_that_are_there() {
    let path = format!("{}:/usr/bin:/bin", bin().display());
    let a = mcp(&source("scripts/mcp"), &path, &["help"]);
    assert_eq!(a.status.code(), Some(0));
    let text = said(&a.stdout);
    for program in ["run-vm", "run", "stop", "rm", "health", "status", "logs", "record"] {
        assert!(text.lines().any(|l| l.trim_start().starts_with(&format!("{program} "))), "no {program} in\n{text}");
    }
    assert!(!text.contains("guest-init"), "{text}");
    // Beside this one there is no such program, and it is not named.
    let alone = said(&mcp(&source("scripts/mcp"), "/usr/bin:/bin", &["help"]).stdout);
    assert!(!alone.contains("run-vm"), "{alone}");
    assert_eq!(said(&mcp(&source("scripts/mcp"), &path, &["--version"]).stdout), "mcp 0.1.0\n");
}

#[test]
fn mcp_finds_its_programs_beside_itself_through_links() {
    let tree = Tree::new();
    let folder = tree.root.join("opt/bin");
    std::fs::create_dir_all(&folder).unwrap();
    crate::harness::copy_to_run(source("scripts/mcp"), folder.join("mcp"));
    std::os::unix::fs::symlink(bin().join("mcp-status"), folder.join("mcp-status")).unwrap();
    std::os::unix::fs::symlink("opt/bin/mcp", tree.root.join("one")).unwrap();
    std::os::unix::fs::symlink(tree.root.join("one"), tree.root.join("mcp")).unwrap();
    let root = tree.root.join("node");
    let a = mcp(&tree.root.join("mcp"), "/usr/bin:/bin", &["--root", root.to_str().unwrap(), "status", "--list"]);
    assert_eq!((a.status.code(), said(&a.stderr).as_str()), (Some(0), ""));
    let a = mcp(&tree.root.join("mcp"), "/usr/bin:/bin", &["status", "nope", "--root", root.to_str().unwrap()]);
    assert_eq!(a.status.code(), Some(100));
    let a = mcp(&tree.root.join("mcp"), "/usr/bin:/bin", &["logs"]);
    assert_eq!(a.status.code(), Some(127));
    assert_eq!(said(&a.stderr), "mcp: mcp-logs is neither beside this program nor on PATH\n");
}

#[test]
fn mcp_names_the_nearest() {
    let path = format!("{}:/usr/bin:/bin", bin().display());
    for (typed, told) in [
        ("stauts", "mcp: stauts: no such program; did you mean status?; mcp help names them\n"),
        ("guest-init", "mcp: guest-init: no such program; mcp help names them\n"),
        ("../../bin/sh", "mcp: ../../bin/sh: no such program; mcp help names them\n"),
        ("--bogus", "mcp: --bogus: no such option; see mcp --help\n"),
    ] {
        let a = mcp(&source("scripts/mcp"), &path, &[typed]);
        assert_eq!((a.status.code(), said(&a.stderr).as_str()), (Some(2), told));
        assert_eq!(said(&a.stdout), "");
    }
}

/// Takes the comment sign off lines that show a default: `# key = value`.
fn uncommented(text: &str) -> String {
    let shown = |line: &str| {
        let rest = line.strip_prefix("# ")?;
        let (key, _) = rest.split_once('=')?;
        key.trim().chars().all(|c| c.is_ascii_lowercase() || c == '_').then(|| rest.to_string())
    };
    text.lines().map(|l| shown(l).unwrap_or_else(|| l.to_string()) + "\n").collect()
}

#[test]
fn examples_are_good_definitions() {
    for change in [str::to_string as fn(&str) -> String, uncommented] {
        let tree = Tree::new();
        let read = |path: &str| change(&std::fs::read_to_string(source(path)).unwrap());
        tree.put(&tree.paths.config, &read("examples/mcp.toml"));
        tree.put(&tree.paths.services.join("hello.toml"), &read("examples/services/hello.toml"));
        let a = tree.run(env!("CARGO_BIN_EXE_mcp-status"), &["--json"]);
        assert_eq!((a.code, a.err.as_str()), (Some(1), ""));
        let document: serde_json::Value = serde_json::from_str(&a.out).unwrap();
        assert_eq!(document["components"][0]["drift"], serde_json::json!(["missing"]));
    }
}
