//! Readers of the two file formats. A file is read to its end: each problem becomes one [`Problem`], and one mistake
//! gives one problem.
//!
//! The text is parsed without copying; places are turned into lines only when there is a problem to tell.

mod component;
mod health;
mod item;
mod node;
mod service;
mod table;

pub use component::COMPONENT_KEYS;
pub use health::HEALTH_KEYS;
pub use node::{
    BOOT_KEYS, LOG_KEYS, MICROVM_KEYS, NODE_KEYS, OPS_KEYS, PODMAN_KEYS, QEMU_KEYS, REGISTRY_KEYS, STAGE_KEYS,
    STORE_KEYS, parse_node,
};
pub use service::{SERVICE_KEYS, parse_service};

use super::Problem;
use item::Item;
use std::cell::RefCell;
use std::fmt::Write;
use std::path::Path;
use table::Table;
use toml::de::{DeTable, DeValue};

/// More problems than this in one file are counted, not shown: it isn't one of ours.
const PROBLEMS_MAX: usize = 100;

/// What reading a file goes along with: its text and what was found wrong.
struct Reader<'a> {
    text: &'a str,
    /// What relative paths are relative to.
    base: &'a Path,
    found: RefCell<Vec<Found>>,
}

struct Found {
    at: usize,
    key: String,
    reason: String,
    /// That something is not there: worth nothing when the file could not be read whole.
    absence: bool,
}

impl Reader<'_> {
    fn add(&self, at: usize, key: String, reason: String, absence: bool) {
        self.found.borrow_mut().push(Found { at, key, reason, absence });
    }

    fn line(&self, at: usize) -> usize {
        line_of(self.text.as_bytes(), at)
    }
}

fn line_of(bytes: &[u8], at: usize) -> usize {
    1 + bytes.iter().take(at).filter(|b| **b == b'\n').count()
}

/// A key's path, kept on the stack and written out only for a problem.
#[derive(Clone, Copy)]
enum Place<'p> {
    Top,
    Key(&'p Place<'p>, &'p str),
    Index(&'p Place<'p>, usize),
}

impl Place<'_> {
    fn write(&self, out: &mut String) {
        match self {
            Place::Top => {}
            Place::Key(parent, key) => {
                parent.write(out);
                if !out.is_empty() {
                    out.push('.');
                }
                if !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
                    out.push_str(key);
                } else {
                    out.push_str(&super::problem::quoted(key));
                }
            }
            Place::Index(parent, index) => {
                parent.write(out);
                let _ = write!(out, "[{index}]");
            }
        }
    }

    fn path(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }
}

/// Parses `bytes`, the contents of `file`, lets `read` walk them and returns what it made, with all problems.
fn document<T>(file: &Path, bytes: &[u8], read: impl FnOnce(&Table<'_>) -> T) -> (Option<T>, Vec<Problem>) {
    let problem = |line, key: String, reason: String| Problem { file: file.to_path_buf(), line, key, reason };
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(e) => {
            let line = line_of(bytes, e.valid_up_to());
            return (None, vec![problem(line, "syntax".into(), "not UTF-8 text".into())]);
        }
    };
    let (top, errors) = DeTable::parse_recoverable(text);
    let base = file.parent().unwrap_or(Path::new("/"));
    let reader = Reader { text, base, found: RefCell::new(Vec::new()) };
    let made = read(&Table::new(&reader, top.get_ref(), Place::Top, 0));
    let mut found = reader.found.take();
    if found.is_empty() && errors.is_empty() {
        return (Some(made), Vec::new());
    }
    let syntax = syntax_problems(text, &errors);
    if syntax.len() > PROBLEMS_MAX {
        found.clear();
    } else if !syntax.is_empty() {
        // What a broken line was read as, and what seems to be missing, follows from the first mistake.
        let holes: Vec<(usize, usize)> = syntax.iter().map(|f| hole(text, f)).collect();
        found.retain(|f| !f.absence && !holes.iter().any(|(from, to)| (*from..=*to).contains(&f.at)));
    }
    found.extend(syntax);
    found.sort_by_key(|f| f.at);
    let hidden = found.len().saturating_sub(PROBLEMS_MAX);
    let mut problems: Vec<Problem> = found
        .into_iter()
        .take(PROBLEMS_MAX)
        .map(|f| problem(line_of(text.as_bytes(), f.at), f.key, f.reason))
        .collect();
    if hidden > 0 {
        problems.push(Problem::of_file(file, format!("and {hidden} more problems")));
    }
    (Some(made), problems)
}

/// The parser's errors, one a line of the file, with the key that the line begins with.
fn syntax_problems(text: &str, errors: &[toml::de::Error]) -> Vec<Found> {
    let mut spans: Vec<(usize, &str)> =
        errors.iter().map(|e| (e.span().map_or(text.len(), |s| s.start).min(text.len()), e.message())).collect();
    spans.sort_by_key(|(at, _)| *at);
    let mut found: Vec<Found> = Vec::new();
    let (mut searched, mut start) = (0, 0);
    for (at, message) in spans {
        // Only what is new is searched: there may be as many errors as bytes.
        let newline = text.as_bytes().get(searched..at).and_then(|new| new.iter().rposition(|b| *b == b'\n'));
        let same = newline.is_none() && !found.is_empty();
        start = newline.map_or(start, |n| searched + n + 1);
        searched = at;
        if same {
            continue;
        }
        let line = text.get(start..).unwrap_or_default().lines().next().unwrap_or_default();
        let key = line.split(['=', '#']).next().unwrap_or_default().trim();
        let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '"');
        let key = if !key.is_empty() && key.len() <= 64 && key.chars().all(bare) { key } else { "syntax" };
        found.push(Found { at, key: key.to_string(), reason: plain(message), absence: false });
    }
    found
}

/// The parser's message without what it expected where that says nothing new.
fn plain(message: &str) -> String {
    message.strip_suffix(", expected literal string").unwrap_or(message).to_string()
}

/// The part of the text in which a syntax error makes what was read worthless: its line, and for an array or table that
/// isn't closed all up to the next header.
fn hole(text: &str, error: &Found) -> (usize, usize) {
    let bytes = text.as_bytes();
    let start = bytes.iter().take(error.at).rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
    let rest = text.get(start..).unwrap_or_default();
    let long = ["array", "inline table", "multi-line"].iter().any(|w| error.reason.contains(w));
    let end = if long { rest.find("\n[") } else { rest.find('\n') };
    (start, start + end.unwrap_or(rest.len()))
}

/// One step of a path for [`line_at`].
#[derive(Debug, Clone, Copy)]
pub enum Step<'s> {
    /// A table's key.
    Key(&'s str),
    /// An array's element.
    Index(usize),
}

/// The line in `text` of the value that `steps` lead to, for problems that only show when several files are compared.
pub fn line_at(text: &str, steps: &[Step<'_>]) -> Option<usize> {
    let plain = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (top, _) = DeTable::parse_recoverable(plain);
    let (first, rest) = steps.split_first()?;
    let Step::Key(first) = first else { return None };
    let mut value = top.get_ref().get(*first)?;
    for step in rest {
        value = match (step, value.get_ref()) {
            (Step::Key(key), DeValue::Table(table)) => table.get(*key)?,
            (Step::Index(index), DeValue::Array(array)) => array.get(*index)?,
            _ => return None,
        };
    }
    Some(line_of(plain.as_bytes(), value.span().start))
}

/// Line and key of the entry of `[[boot.sequence]]` in `text` that names `service`.
pub fn stage_entry(text: &str, service: &str) -> Option<(usize, String)> {
    let plain = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (top, _) = DeTable::parse_recoverable(plain);
    let stages = top.get_ref().get("boot")?.get_ref().get("sequence")?.get_ref().as_array()?;
    stages.iter().enumerate().find_map(|(stage, table)| {
        let services = table.get_ref().get("services")?.get_ref().as_array()?;
        let index = services.iter().position(|s| s.get_ref().as_str() == Some(service))?;
        let at = services.get(index)?.span().start;
        Some((line_of(plain.as_bytes(), at), format!("boot.sequence[{stage}].services[{index}]")))
    })
}
