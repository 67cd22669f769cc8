//! Holds the rule of src/lib.rs: a floor uses only the floors below it.

use std::fs;
use std::path::{Path, PathBuf};

/// What each floor may name after `crate::`.
const FLOORS: [(&str, &[&str]); 11] = [
    ("cmd", &["cmd", "node", "guest", "container", "image", "health", "supervise", "console", "init", "model", "sys"]),
    ("node", &["node", "guest", "container", "image", "health", "supervise", "console", "init", "model", "sys"]),
    ("guest", &["guest", "supervise", "console", "init", "model", "sys"]),
    ("container", &["container", "supervise", "console", "model", "sys"]),
    ("image", &["image", "model", "sys"]),
    ("health", &["health", "model", "sys"]),
    ("supervise", &["supervise", "model", "sys"]),
    ("console", &["console", "model", "sys"]),
    ("model", &["model", "sys"]),
    ("sys", &["sys"]),
    ("init", &["init"]),
];

/// One use from below: a message about the closed standard output names the program.
const EXCUSED: [(&str, &str); 1] = [("sys/out.rs", "cmd")];

fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// The first names after `crate::` and after enough `super::` to leave the floor, in code, not in comments.
fn named(text: &str, depth: usize) -> Vec<String> {
    let code: String = text.lines().filter(|l| !l.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut names = Vec::new();
    let mut take = |rest: &str| {
        if let Some(group) = rest.strip_prefix('{') {
            // Names at the first level of `crate::{a::b, c}`.
            let mut level = 0;
            let mut part = String::new();
            for c in group.chars() {
                match c {
                    '{' => level += 1,
                    '}' if level == 0 => break,
                    '}' => level -= 1,
                    ',' if level == 0 => names.push(std::mem::take(&mut part)),
                    _ => {}
                }
                if level == 0 && c != ',' {
                    part.push(c);
                }
            }
            names.push(part);
        } else {
            names.push(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    };
    let up = "super::".repeat(depth);
    for marker in ["crate::", up.as_str()] {
        for (at, _) in code.match_indices(marker) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            take(&code[at + marker.len()..]);
        }
    }
    names.into_iter().map(|n| n.trim().split("::").next().unwrap_or("").trim().to_string()).collect()
}

#[test]
fn floors_use_only_what_is_below() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    assert!(files.len() > 20, "the sources are not where they were");
    let mut wrong = Vec::new();
    for file in files {
        let inside = file.strip_prefix(&src).unwrap();
        let parts: Vec<&str> = inside.iter().map(|p| p.to_str().unwrap()).collect();
        let Some((_, allowed)) = FLOORS.iter().find(|(floor, _)| parts.len() > 1 && *floor == parts[0]) else {
            assert!(
                parts.len() == 1 || parts[0] == "bin",
                "{}: a floor that floors.rs does not know",
                inside.display()
            );
            continue;
        };
        // In cmd/status/row.rs: super is cmd::status, super::super is cmd, super::super::super is the crate.
        let depth = if parts.last() == Some(&"mod.rs") { parts.len() - 1 } else { parts.len() };
        for name in named(&fs::read_to_string(&file).unwrap(), depth) {
            let floor = FLOORS.iter().any(|(f, _)| *f == name);
            let excused = EXCUSED.iter().any(|(f, n)| Path::new(f) == inside && *n == name);
            if floor && !allowed.contains(&name.as_str()) && !excused {
                wrong.push(format!("src/{} uses crate::{name}", inside.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "a floor uses only the floors below it:\n{}", wrong.join("\n"));
}

#[test]
fn sources_stay_readable() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    let is_test = |file: &PathBuf| file.iter().any(|part| part == "tests" || part == "tests.rs");
    for file in files.into_iter().filter(|f| !is_test(f)) {
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.lines().count() < 500, "{} has {} lines: split it by noun", file.display(), text.lines().count());
        assert!(text.starts_with("//!"), "{} does not say in its first line what it is", file.display());
    }
}

/// A thread that cannot be had is an error or fewer workers: the short forms of `spawn` panic, which ends the process.
#[test]
fn threads_are_started_by_what_returns_an_error() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    for path in files.iter().filter(|p| !p.iter().any(|part| part == "tests" || part == "tests.rs")) {
        let text = fs::read_to_string(path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for short in ["thread::spawn(", "scope.spawn("] {
            assert!(!code.contains(short), "{}: {short}", path.display());
        }
    }
}
