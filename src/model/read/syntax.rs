//! Text that isn't TOML: each mistake is told once, and the rest of the file is read all the same.
//!
//! The parser goes on after an error, but what it says then often follows from the first: an array that isn't closed
//! swallows all below. So only its first error counts; the statement that has it is blanked, and the rest parsed again.

use super::{Found, line_of};
use toml::de::DeTable;

/// After so many bytes parsed over and over, what is left is not worth another round.
const WORK_MAX: usize = 1 << 20;
/// After so many errors the file is no TOML at all.
const ERRORS_MAX: usize = 50;

/// What is left of a file without its syntax errors.
pub(super) struct Recovered {
    /// The text, with blanks where the errors were; byte for byte as long.
    pub text: String,
    /// The errors.
    pub found: Vec<Found>,
    /// Whether `text` can be parsed now.
    pub whole: bool,
}

/// Finds the errors of `text`. `first` is where the first one is, and the parser's words for it.
pub(super) fn recover(text: &str, first: (usize, String)) -> Recovered {
    let mut patched = text.to_string();
    let mut found = Vec::new();
    let mut next = Some(first);
    let mut work = 0;
    while let Some((at, message)) = next {
        let statement = Statement::around(&patched, at, &message);
        found.push(statement.problem(&patched, at, &message));
        work += text.len();
        let blanked = blank(&mut patched, statement.from, statement.to);
        if !blanked || work > WORK_MAX || found.len() >= ERRORS_MAX {
            return Recovered { text: patched, found, whole: false };
        }
        next = first_error(&DeTable::parse_recoverable(&patched).1, patched.len());
    }
    Recovered { text: patched, found, whole: true }
}

/// The error that stands first in the text, which has `len` bytes.
pub(super) fn first_error(errors: &[toml::de::Error], len: usize) -> Option<(usize, String)> {
    let at = |e: &toml::de::Error| e.span().map_or(len, |s| s.start).min(len);
    errors.iter().min_by_key(|e| at(e)).map(|e| (at(e), e.message().to_string()))
}

/// The lines that an error makes worthless: from `from` up to `to`.
struct Statement {
    from: usize,
    to: usize,
    /// Whether it isn't closed, and what is below went into it.
    open: Option<&'static str>,
}

impl Statement {
    fn around(text: &str, at: usize, message: &str) -> Statement {
        let start = line_start(text, at);
        let line = line_at(text, start);
        let in_key = key(line).is_some_and(|_| text.get(start..at).is_some_and(|before| !before.contains('=')));
        let array = ["missing comma", "missing key for inline", "unclosed array", "unclosed inline"];
        let inside = array.iter().any(|m| message.starts_with(m)) && !message.starts_with("unclosed array table");
        let outside = in_key || is_header(line) || line.trim().is_empty() || at >= text.len();
        if inside && outside {
            let from = before(text, start, |l| key(l).is_some()).unwrap_or(start);
            let to = if at >= text.len() { after(text, from, |l| key(l).is_some() || is_header(l)) } else { start };
            let value = line_at(text, from).split_once('=').map(|(_, v)| v.trim()).unwrap_or_default();
            let what = if value.starts_with('{') { "table" } else { "array" };
            return Statement { from, to, open: Some(what) };
        }
        if message.contains("multi-line")
            && let Some(from) = before(text, at, |l| l.contains("\"\"\"") || l.contains("'''"))
        {
            return Statement {
                from,
                to: after(text, from, |l| key(l).is_some() || is_header(l)),
                open: Some("string"),
            };
        }
        let to = if is_header(line) {
            after(text, start, is_header)
        } else if key(line).is_some() {
            after(text, start, |l| key(l).is_some() || is_header(l))
        } else {
            after(text, start, |_| true)
        };
        Statement { from: start, to, open: None }
    }

    fn problem(&self, text: &str, at: usize, message: &str) -> Found {
        let first = line_at(text, self.from);
        let value = first.split_once('=').map(|(_, v)| v.trim()).unwrap_or_default();
        let reason = if let Some(what) = self.open {
            format!("the {what} is not closed")
        } else if (message.starts_with("invalid float") || message.starts_with("string values"))
            && value.starts_with(|c: char| c.is_ascii_alphabetic())
        {
            "a string stands in quotes".to_string()
        } else if message.starts_with("invalid basic string, expected `\"`") {
            "the string is not closed".to_string()
        } else {
            message.strip_suffix(", expected nothing").unwrap_or(message).to_string()
        };
        let at = if self.open.is_some() { self.from } else { at };
        Found { at, key: key(first).unwrap_or("syntax").to_string(), reason, rests_on: &[] }
    }
}

fn line_start(text: &str, at: usize) -> usize {
    let upto = text.as_bytes().get(..at).unwrap_or_default();
    upto.iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1)
}

fn line_at(text: &str, start: usize) -> &str {
    text.get(start..).unwrap_or_default().lines().next().unwrap_or_default()
}

/// The key that a line `key = …` begins with.
fn key(line: &str) -> Option<&str> {
    let key = line.split_once('=')?.0.trim();
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '"');
    (!key.is_empty() && key.len() <= 64 && key.chars().all(bare)).then_some(key)
}

fn is_header(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with('[') && line.trim_start_matches('[').starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

/// The start of the nearest line before `at` that is `like`.
fn before(text: &str, at: usize, like: impl Fn(&str) -> bool) -> Option<usize> {
    let mut start = at;
    while start > 0 {
        start = line_start(text, start - 1);
        if like(line_at(text, start)) {
            return Some(start);
        }
    }
    None
}

/// The start of the nearest line after that of `at` that is `like`, or the end.
fn after(text: &str, at: usize, like: impl Fn(&str) -> bool) -> usize {
    let mut start = at;
    while let Some(n) = text.get(start..).and_then(|t| t.find('\n')) {
        start += n + 1;
        if like(line_at(text, start)) {
            return start;
        }
    }
    text.len()
}

/// Puts blanks for what stands there, but for newlines; false when there was nothing but blanks.
fn blank(text: &mut String, from: usize, to: usize) -> bool {
    let Some(part) = text.get(from..to) else { return false };
    let blanks: String = part.bytes().map(|b| if b == b'\n' { '\n' } else { ' ' }).collect();
    let new = part != blanks;
    text.replace_range(from..to, &blanks);
    new
}

/// The key of a syntax problem without its tables, as [`Found::rests_on`] names keys.
pub(super) fn last_word(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key).trim_matches('"')
}

/// The line of the first byte that isn't UTF-8.
pub(super) fn bad_line(bytes: &[u8], error: &std::str::Utf8Error) -> usize {
    line_of(bytes, error.valid_up_to())
}
