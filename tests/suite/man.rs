//! Holds programs and their man pages together.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Sections that a page has, in this order. Others may stand between them.
const OF_PROGRAMS: [&str; 8] =
    ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "FILES", "EXAMPLES", "SEE ALSO"];
const OF_FORMATS: [&str; 4] = ["NAME", "DESCRIPTION", "EXAMPLES", "SEE ALSO"];
const OF_OVERVIEWS: [&str; 6] = ["NAME", "DESCRIPTION", "EXIT STATUS", "FILES", "EXAMPLES", "SEE ALSO"];
/// Runs inside a guest: no options, nothing to show on a host.
const GUEST: &str = "mcp-guest-init";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The names in Cargo.toml's [[bin]] tables.
fn programs() -> Vec<String> {
    let text = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let mut in_bin = false;
    let mut names = Vec::new();
    for line in text.lines() {
        if line.starts_with('[') {
            in_bin = line.trim() == "[[bin]]";
        } else if let Some(("name", value)) = line.split_once('=').map(|(k, v)| (k.trim(), v)).filter(|_| in_bin) {
            names.push(value.trim().trim_matches('"').to_string());
        }
    }
    assert!(names.len() >= 7, "Cargo.toml names {names:?}");
    names
}

fn pages() -> Vec<PathBuf> {
    let mut pages: Vec<_> = std::fs::read_dir(root().join("man")).unwrap().map(|e| e.unwrap().path()).collect();
    pages.sort();
    pages
}

fn page_of(program: &str) -> Option<PathBuf> {
    ["1", "8"].iter().map(|s| root().join("man").join(format!("{program}.{s}"))).find(|p| p.exists())
}

/// The built program, beside one that cargo names for us.
fn built(program: &str) -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_mcp-status")).with_file_name(program)
}

/// The long options in a `--help`: what stands first on an indented line.
fn options_of_help(help: &str) -> BTreeSet<String> {
    let lines = help.lines().map(str::trim_start).filter(|l| l.starts_with('-'));
    lines.filter_map(|l| l.split([' ', '=', '[', ',']).find(|w| w.starts_with("--"))).map(str::to_string).collect()
}

/// The long options in a page: in the line after a `.TP` of the section OPTIONS.
fn options_of_page(page: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let (mut section, mut tagged) = ("", false);
    for line in page.lines() {
        if let Some(title) = line.strip_prefix(".SH ") {
            section = title.trim_matches('"');
        }
        if tagged && section == "OPTIONS" {
            let plain = line.replace("\\-", "-").replace("\\fR", " ").replace("\\fI", " ").replace("\\fB", " ");
            let words = plain.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
            names.extend(words.filter(|w| w.starts_with("--")).map(str::to_string));
        }
        // A second tag for the same paragraph follows .TQ.
        tagged = matches!(line.trim(), ".TP" | ".TQ") || (tagged && line.starts_with(".PD"));
    }
    names
}

#[test]
fn man_pages_have_all_options_and_none_extra() {
    let mut wrong = Vec::new();
    for program in programs() {
        let Some(page) = page_of(&program) else {
            wrong.push(format!("man/{program}.1 is missing"));
            continue;
        };
        if program == GUEST {
            continue;
        }
        let answer = Command::new(built(&program)).arg("--help").output().unwrap();
        assert!(answer.status.success(), "{program} --help: {answer:?}");
        let help = options_of_help(&String::from_utf8(answer.stdout).unwrap());
        let told = options_of_page(&std::fs::read_to_string(&page).unwrap());
        assert!(help.contains("--help"), "{program} --help shows {help:?}");
        for option in help.difference(&told) {
            wrong.push(format!("{}: {option} is not there", page.display()));
        }
        for option in told.difference(&help) {
            wrong.push(format!("{}: {program} has no {option}", page.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn man_pages_have_their_sections() {
    let mut wrong = Vec::new();
    for page in pages() {
        let name = page.file_name().unwrap().to_str().unwrap().to_string();
        let text = std::fs::read_to_string(&page).unwrap();
        let sections: Vec<&str> =
            text.lines().filter_map(|l| l.strip_prefix(".SH ")).map(|t| t.trim_matches('"')).collect();
        let wanted: &[&str] = match name.rsplit_once('.') {
            Some((_, "5")) => &OF_FORMATS,
            Some((_, "7")) => &OF_OVERVIEWS,
            _ => &OF_PROGRAMS,
        };
        let mut rest = sections.iter();
        for section in wanted {
            if !rest.any(|s| s == section) {
                wrong.push(format!("{name}: {section} is not there, or not in its place"));
            }
        }
        let (title, suffix) = name.rsplit_once('.').unwrap();
        let head = text.lines().find(|l| l.starts_with(".TH ")).unwrap_or_default().replace("\\-", "-");
        if !head.to_lowercase().starts_with(&format!(".th {title} {suffix} ")) {
            wrong.push(format!("{name}: its .TH is {head:?}"));
        }
        if !text.is_ascii() {
            wrong.push(format!("{name}: not all ASCII; use escapes like \\(em"));
        }
        // A reference to a page of ours leads to one.
        for line in text.lines().filter(|l| l.starts_with(".BR mcp")) {
            let mut words = line.split_whitespace().skip(1);
            if let (Some(page), Some(section)) = (words.next(), words.next())
                && let Some(number) = section.strip_prefix('(').and_then(|s| s.chars().next())
                && !root().join("man").join(format!("{}.{number}", page.replace("\\-", "-"))).exists()
            {
                wrong.push(format!("{name}: names {page}({number}), which is not there"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn man_pages_are_clean_groff() {
    let mut wrong = Vec::new();
    for page in pages() {
        let answer = Command::new("groff").args(["-ww", "-man", "-Tutf8", "-z"]).arg(&page).output();
        let answer = answer.expect("groff runs (Debian: groff-base)");
        if !answer.status.success() || !answer.stdout.is_empty() || !answer.stderr.is_empty() {
            wrong.push(format!("{}:\n{}", page.display(), String::from_utf8_lossy(&answer.stderr)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn man_page_of_each_program_names_its_job() {
    for program in programs().into_iter().filter(|p| p != GUEST) {
        let Some(page) = page_of(&program) else { continue };
        let help = Command::new(built(&program)).arg("--help").output().unwrap().stdout;
        let help = String::from_utf8(help).unwrap();
        assert!(help.contains("Exit codes"), "{program} --help does not tell its exit codes");
        let text = std::fs::read_to_string(&page).unwrap();
        let named = text.lines().skip_while(|l| *l != ".SH NAME").nth(1).unwrap_or_default().replace("\\-", "-");
        assert!(named.starts_with(&format!("{program} - ")), "{}: NAME says {named:?}", page.display());
    }
}
