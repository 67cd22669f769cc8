//! Readers of the two file formats. A file is read to its end: each problem becomes one [`Problem`], and one mistake
//! gives one problem.
//!
//! The text is parsed without copying; places are turned into lines only when there is a problem to tell.

mod component;
mod health;
mod item;
mod node;
mod service;
mod syntax;
mod table;
#[cfg(test)]
mod tests;

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
    /// The keys that it also depends on: it is worth nothing when one of them could not be read.
    rests_on: &'static [&'static str],
}

impl Reader<'_> {
    fn add(&self, at: usize, key: String, reason: String, rests_on: &'static [&'static str]) {
        self.found.borrow_mut().push(Found { at, key, reason, rests_on });
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
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(e) => {
            let line = syntax::bad_line(bytes, &e);
            let (key, reason) = ("syntax".to_string(), "not UTF-8 text".to_string());
            return (None, vec![Problem { file: file.to_path_buf(), line, key, reason }]);
        }
    };
    let base = file.parent().unwrap_or(Path::new("/"));
    let (top, errors) = DeTable::parse_recoverable(text);
    if let Some(first) = syntax::first_error(&errors, text.len()) {
        drop((top, errors));
        let rest = syntax::recover(text, first);
        let (top, _) = DeTable::parse_recoverable(&rest.text);
        let (made, mut found) = walk(&rest.text, base, top.get_ref(), read);
        let broken = |key: &&str| rest.found.iter().any(|f| f.key == "syntax" || syntax::last_word(&f.key) == *key);
        found.retain(|f| rest.whole && !f.rests_on.iter().any(broken));
        found.extend(rest.found);
        return (Some(made), problems(file, text, found));
    }
    let (made, found) = walk(text, base, top.get_ref(), read);
    (Some(made), problems(file, text, found))
}

fn walk<T>(text: &str, base: &Path, top: &DeTable<'_>, read: impl FnOnce(&Table<'_>) -> T) -> (T, Vec<Found>) {
    let reader = Reader { text, base, found: RefCell::default() };
    let made = read(&Table::new(&reader, top, Place::Top, 0));
    (made, reader.found.take())
}

fn problems(file: &Path, text: &str, mut found: Vec<Found>) -> Vec<Problem> {
    found.sort_by_key(|f| f.at);
    let hidden = found.len().saturating_sub(PROBLEMS_MAX);
    let mut problems: Vec<Problem> = found
        .into_iter()
        .take(PROBLEMS_MAX)
        .map(|f| Problem {
            file: file.to_path_buf(),
            line: line_of(text.as_bytes(), f.at),
            key: f.key,
            reason: f.reason,
        })
        .collect();
    if hidden > 0 {
        problems.push(Problem::of_file(file, format!("and {hidden} more problems")));
    }
    problems
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
