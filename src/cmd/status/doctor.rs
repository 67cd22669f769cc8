//! `mcp-status --doctor`: what this node can't do, and what to do about it.

use crate::node::doctor::{self, Finding, Grade};
use crate::sys::error::{EXIT_NO, EXIT_OK};
use crate::sys::paths::Paths;
use crate::sys::{Result, out, time};
use serde::Serialize;

/// The version of the document. It grows when a key changes its meaning or goes, not when one is added.
const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    at: String,
    ok: bool,
    findings: Vec<Item<'a>>,
}

#[derive(Serialize)]
struct Item<'a> {
    id: &'static str,
    grade: &'static str,
    subject: &'a str,
    text: &'a str,
    way_out: Option<&'a str>,
}

/// Looks, and prints what was found: a line each, or one document. The exit code: 0 where nothing keeps the node from what
/// its definitions ask, else 1.
pub fn run(paths: Result<Paths>, json: bool) -> u8 {
    let findings = doctor::examine(paths);
    let ok = findings.iter().all(|f| f.grade != Grade::Fail);
    if json {
        out::print(format_args!("{}\n", document(&findings, ok)));
    } else {
        let lines: String = findings.iter().map(line).collect();
        out::print(format_args!("{lines}"));
    }
    if ok { EXIT_OK } else { EXIT_NO }
}

fn document(findings: &[Finding], ok: bool) -> serde_json::Value {
    let document = Document { schema: SCHEMA, at: time::now(), ok, findings: findings.iter().map(item).collect() };
    serde_json::json!(document)
}

fn item(finding: &Finding) -> Item<'_> {
    let Finding { id, grade, subject, text, way_out } = finding;
    Item { id, grade: grade.name(), subject, text, way_out: way_out.as_deref() }
}

/// `FAIL  ops: not found; install it …`.
fn line(finding: &Finding) -> String {
    let grade = match finding.grade {
        Grade::Fail => "FAIL",
        other => other.name(),
    };
    let way_out = finding.way_out.as_ref().map(|way| format!("; {way}")).unwrap_or_default();
    // What podman or a file says may have line ends.
    let text: String = format!("{}: {}{way_out}", finding.subject, finding.text);
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("{grade:<4}  {text}\n")
}
