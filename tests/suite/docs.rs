//! Holds the texts for readers together with what they are about.

mod blocks;
mod cluster;
mod pages;
mod picture;
mod scale;

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn text(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// The keys of `[dependencies]` in Cargo.toml.
fn dependencies() -> Vec<String> {
    let manifest = text("Cargo.toml");
    let section = manifest.lines().skip_while(|l| *l != "[dependencies]").skip(1).take_while(|l| !l.starts_with('['));
    let names = section.filter_map(|l| l.split_once('=')).map(|(name, _)| name.trim().to_string());
    names.filter(|name| !name.starts_with('#')).collect()
}

/// All Markdown files, those of build folders aside.
fn markdown() -> Vec<PathBuf> {
    fn walk(dir: &Path, out: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                if name != "target" && name != ".git" {
                    walk(&path, out);
                }
            } else if path.extension().is_some_and(|e| e == "md") {
                out.push(path);
            }
        }
    }
    let mut files = Vec::new();
    walk(&root(), &mut files);
    files
}

/// Where the links of a Markdown text lead, those in code aside.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced || line.starts_with("    ") {
            continue;
        }
        for (at, _) in line.match_indices("](") {
            let rest = &line[at + 2..];
            found.extend(rest.split_once(')').map(|(target, _)| target.to_string()));
        }
    }
    found
}

#[test]
fn docs_give_a_reason_for_each_dependency() {
    let told: Vec<String> = text("CONTRIBUTING.md")
        .lines()
        .filter_map(|l| l.strip_prefix("- `")?.split_once("`: ").map(|(name, _)| name.to_string()))
        .collect();
    let names = dependencies();
    assert!(names.len() > 5, "Cargo.toml is not as this test reads it: {names:?}");
    let missing: Vec<_> = names.iter().filter(|n| !told.contains(n)).collect();
    assert!(missing.is_empty(), "CONTRIBUTING.md has no reason for {missing:?}");
    let gone: Vec<_> = told.iter().filter(|t| !names.contains(t)).collect();
    assert!(gone.is_empty(), "CONTRIBUTING.md has a reason for {gone:?}, which Cargo.toml does not name");
}

#[test]
fn docs_name_commands_that_are_there() {
    let readme = text("README.md");
    for command in ["scripts/quickstart", "scripts/test"] {
        assert!(readme.contains(&format!("`{command}`")), "README.md does not show {command}");
    }
    // Scripts, wherever a text names one.
    let mut wrong = Vec::new();
    for name in ["README.md", "CONTRIBUTING.md", "NEWS.md"] {
        let text = text(name);
        for (at, _) in text.match_indices("scripts/") {
            let end = |c: char| !(c.is_ascii_alphanumeric() || "/-_".contains(c));
            let path = text[at..].split(end).next().unwrap_or_default();
            if !root().join(path).exists() {
                wrong.push(format!("{name} names {path}, which is not there"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn docs_name_each_program() {
    let readme = text("README.md");
    for entry in fs::read_dir(root().join("src/bin")).unwrap().flatten() {
        let program = entry.path().file_stem().unwrap().to_str().unwrap().to_string();
        assert!(readme.contains(&format!("| `{program}` |")), "README.md has no line for {program}");
    }
    for entry in fs::read_dir(root().join("man")).unwrap().flatten() {
        let page = format!("(man/{})", entry.file_name().to_str().unwrap());
        assert!(readme.contains(&page), "README.md has no link to {page}");
    }
}

#[test]
fn docs_have_no_dead_links() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for file in markdown() {
        for link in links(&fs::read_to_string(&file).unwrap()) {
            if link.contains("://") || link.starts_with('#') || link.starts_with("mailto:") {
                continue;
            }
            seen += 1;
            let path = link.split('#').next().unwrap_or_default();
            if !file.parent().unwrap().join(path).exists() {
                wrong.push(format!("{}: {link}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "links that lead nowhere:\n{}", wrong.join("\n"));
    assert!(seen > 5, "no links found");
}

#[test]
fn docs_tell_this_version() {
    let version = env!("CARGO_PKG_VERSION");
    assert!(text("NEWS.md").lines().any(|l| l == format!("## {version}")), "NEWS.md has no section {version}");
    let license = text("LICENSE");
    assert!(license.contains("Apache License") && license.contains("Version 2.0, January 2004"), "LICENSE");
}

#[test]
fn docs_show_the_example_as_it_is() {
    let example = text("examples/services/hello.toml");
    assert!(text("README.md").contains(example.trim_end()), "README.md does not show examples/services/hello.toml");
}
