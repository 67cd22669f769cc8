//! One value of a file, and what it may be read as. Each method tells a problem and returns `None` where it isn't that.

use super::{Place, Reader, Table};
use crate::model::problem::quoted;
use crate::model::{duration, name, size, suggest};
use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;
use toml::Spanned;
use toml::de::DeValue;

/// No duration of ours is longer: a year. It keeps sums of times far from their limits.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// More elements than this in an array are a mistake.
const ELEMENTS_MAX: usize = 1024;

/// A value with its place in the file.
#[derive(Clone, Copy)]
pub(super) struct Item<'r> {
    pub reader: &'r Reader<'r>,
    pub value: &'r Spanned<DeValue<'r>>,
    pub place: Place<'r>,
    /// Whether the value may not be shown: an environment or an argument may hold a password.
    pub secret: bool,
}

impl<'r> Item<'r> {
    /// Where it stands in the text.
    pub fn at(&self) -> usize {
        self.value.span().start
    }

    /// Something is wrong with it.
    pub fn problem(&self, reason: impl Into<String>) {
        self.reader.add(self.at(), self.place.path(), reason.into(), &[]);
    }

    /// The same, where it depends on what `keys` say.
    pub fn conflict(&self, keys: &'static [&'static str], reason: impl Into<String>) {
        self.reader.add(self.at(), self.place.path(), reason.into(), keys);
    }

    /// The same, to be kept out of messages.
    pub fn secret(mut self) -> Item<'r> {
        self.secret = true;
        self
    }

    fn good<T>(&self, result: Result<T, String>) -> Option<T> {
        result.map_err(|reason| self.problem(reason)).ok()
    }

    /// It isn't what it should be.
    fn unexpected(&self, expected: &str) {
        let shown = |kind: &str, text: &str| {
            if self.secret { format!("found {kind}") } else { format!("found the {} {text}", bare(kind)) }
        };
        let (found, hint) = match self.value.get_ref() {
            DeValue::String(s) => {
                let unquoted = matches!(&**s, "true" | "false") || s.parse::<i64>().is_ok();
                let wants = expected.contains("number") || expected.contains("true");
                let hint = if unquoted && wants { "; leave out the quotes" } else { "" };
                (shown("a string", &quoted(s)), hint)
            }
            DeValue::Integer(i) => (shown("an integer", &i.to_string()), quotes(expected)),
            DeValue::Float(f) => (shown("a float", f.as_str()), quotes(expected)),
            DeValue::Boolean(b) => (shown("a boolean", &b.to_string()), quotes(expected)),
            DeValue::Datetime(_) => ("found a date".to_string(), quotes(expected)),
            DeValue::Array(_) => ("found an array".to_string(), ""),
            DeValue::Table(_) => ("found a table".to_string(), ""),
        };
        self.problem(format!("expected {expected}, {found}{hint}"));
    }

    /// A string, empty or not.
    pub fn any_str(&self, expected: &str) -> Option<&'r str> {
        match self.value.get_ref() {
            DeValue::String(s) if s.contains('\0') => {
                self.problem("has a NUL character in it");
                None
            }
            DeValue::String(s) => Some(s),
            _ => {
                self.unexpected(expected);
                None
            }
        }
    }

    /// A string with something in it and no control characters.
    pub fn text(&self, expected: &str) -> Option<&'r str> {
        let text = self.any_str(expected)?;
        let wrong = if text.is_empty() {
            "is empty"
        } else if text.chars().any(char::is_control) {
            "has control characters in it"
        } else {
            return Some(text);
        };
        self.problem(format!("expected {expected}, but it {wrong}"));
        None
    }

    /// The name of a service, a component or a stage.
    pub fn name(&self) -> Option<&'r str> {
        let text = self.any_str("a name in quotes")?;
        if name::is_valid(text) {
            return Some(text);
        }
        self.problem(format!("{} is not a name: 1 to 32 of a-z, 0-9 and inner '-'", quoted(text)));
        None
    }

    /// Refuses a name that `seen` (names, and where they stand) has already; `what` is what it names.
    pub fn once(&self, name: &str, seen: &mut HashMap<String, usize>, what: &str) {
        match seen.get(name) {
            Some(at) => {
                let line = self.reader.line(*at);
                self.problem(format!("a second {what} {}; the first is on line {line}", quoted(name)));
            }
            None => drop(seen.insert(name.to_string(), self.at())),
        }
    }

    /// `true` or `false`.
    pub fn bool(&self) -> Option<bool> {
        match self.value.get_ref() {
            DeValue::Boolean(b) => Some(*b),
            _ => {
                self.unexpected("true or false");
                None
            }
        }
    }

    /// A whole number in `range`; `what` names what it is.
    pub fn number(&self, range: RangeInclusive<u32>, what: &str) -> Option<u32> {
        let n = match self.value.get_ref() {
            DeValue::Integer(n) => i64::from_str_radix(n.as_str(), n.radix()).ok(),
            _ => {
                self.unexpected(&format!("a whole number ({what}, {} to {})", range.start(), range.end()));
                return None;
            }
        };
        match n.and_then(|n| u32::try_from(n).ok()).filter(|n| range.contains(n)) {
            Some(n) => Some(n),
            None => {
                self.problem(format!("{} is not {what}: {} to {}", self.digits(), range.start(), range.end()));
                None
            }
        }
    }

    fn digits(&self) -> String {
        match self.value.get_ref() {
            DeValue::Integer(n) => n.to_string().chars().take(30).collect(),
            _ => "it".into(),
        }
    }

    /// A duration of at least a millisecond.
    pub fn duration(&self) -> Option<Duration> {
        self.duration_of(Duration::from_millis(1))
    }

    /// The same, with `"0s"` allowed.
    pub fn duration_or_zero(&self) -> Option<Duration> {
        self.duration_of(Duration::ZERO)
    }

    fn duration_of(&self, shortest: Duration) -> Option<Duration> {
        if let DeValue::Integer(_) = self.value.get_ref() {
            let n = self.digits();
            self.problem(format!("expected a duration in quotes, found the integer {n}; write \"{n}s\" for seconds"));
            return None;
        }
        let text = self.any_str("a duration in quotes, like \"500ms\" or \"2m\"")?;
        let duration = self.good(duration::parse(text))?;
        // Whole milliseconds are what records keep.
        let whole = Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
        if whole < shortest {
            self.problem(format!("{} is too short: at least 1ms", quoted(text)));
            return None;
        }
        if whole > LONGEST {
            self.problem(format!("{} is too long: at most 8760h", quoted(text)));
            return None;
        }
        Some(whole)
    }

    /// A size in bytes of at least `least`.
    pub fn size(&self, least: u64) -> Option<u64> {
        let bytes = match self.value.get_ref() {
            DeValue::Integer(n) => match u64::from_str_radix(n.as_str(), n.radix()) {
                Ok(bytes) => bytes,
                Err(_) => {
                    self.problem(format!("{} is not a size", self.digits()));
                    return None;
                }
            },
            DeValue::String(s) => self.good(size::parse(s))?,
            _ => {
                self.unexpected("a size in quotes, like \"10M\"");
                return None;
            }
        };
        if bytes < least {
            self.problem(format!("{} is too small: at least {}", size::format(bytes), size::format(least)));
            return None;
        }
        Some(bytes)
    }

    /// One of a few words.
    pub fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let words = choices.iter().map(|(word, _)| *word);
        let expected = || words.clone().map(|w| format!("\"{w}\"")).collect::<Vec<_>>().join(" or ");
        let DeValue::String(text) = self.value.get_ref() else {
            self.unexpected(&expected());
            return None;
        };
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == &**text) {
            return Some(*value);
        }
        let hint = match suggest::nearest(text, words.clone()) {
            Some(near) => format!("; did you mean \"{near}\"?"),
            None => String::new(),
        };
        self.problem(format!("{} is not {}{hint}", quoted(text), expected()));
        None
    }

    /// A path; a relative one is below the file's own folder.
    pub fn path(&self) -> Option<PathBuf> {
        let text = self.text("a path in quotes")?;
        if text == "~" || text.starts_with("~/") {
            self.problem(format!("{}: \"~\" is a shell's; write the path out", quoted(text)));
            return None;
        }
        Some(self.reader.base.join(text).components().collect())
    }

    /// A program: a name to be found on PATH, or a path.
    pub fn program(&self) -> Option<PathBuf> {
        let text = self.text("a program's name or path in quotes")?;
        if text.contains('/') { self.path() } else { Some(text.into()) }
    }

    /// The elements of an array. `None`, told, when it is none or far too long.
    pub fn array<'s>(&'s self, expected: &str) -> Option<impl ExactSizeIterator<Item = Item<'s>> + use<'s, 'r>> {
        match self.value.get_ref() {
            DeValue::Array(array) if array.len() > ELEMENTS_MAX => {
                self.problem(format!("has {} elements; at most {ELEMENTS_MAX}", array.len()));
                None
            }
            DeValue::Array(array) => Some(array.iter().enumerate().map(move |(index, value)| Item {
                reader: self.reader,
                value,
                place: Place::Index(&self.place, index),
                secret: self.secret,
            })),
            _ => {
                self.unexpected(expected);
                None
            }
        }
    }

    /// An array of strings, empty ones among them. `None` when one of them is none.
    pub fn strings(&self) -> Option<Vec<String>> {
        let items = self.array("an array of strings, like [\"a\", \"b\"]")?;
        let mut strings = Vec::with_capacity(items.len());
        let mut whole = true;
        for item in items {
            match item.any_str("a string") {
                Some(text) => strings.push(text.to_string()),
                None => whole = false,
            }
        }
        whole.then_some(strings)
    }

    /// A table; `header` is how it is written.
    pub fn table<'s>(&'s self, header: &str) -> Option<Table<'s>> {
        match self.value.get_ref() {
            DeValue::Table(table) => Some(Table::new(self.reader, table, self.place, self.at())),
            DeValue::Array(a) if a.iter().all(|v| v.get_ref().is_table()) => {
                self.problem(format!("expected one table, found an array of them; write {header}"));
                None
            }
            _ => {
                self.unexpected(&format!("a table, {header}"));
                None
            }
        }
    }

    /// The tables of an array of tables; `header` is how each is written.
    pub fn tables<'s>(&'s self, header: &str) -> Option<impl ExactSizeIterator<Item = Item<'s>> + use<'s, 'r>> {
        if self.value.get_ref().is_table() {
            // Also what is left where the header of the first one is broken.
            let reason = format!("expected an array of tables, found one table; write {header}");
            self.conflict(&["components", "sequence"], reason);
            return None;
        }
        self.array(&format!("an array of tables, each {header}"))
    }
}

fn bare(kind: &str) -> &str {
    kind.split_once(' ').map_or(kind, |(_, word)| word)
}

fn quotes(expected: &str) -> &'static str {
    if expected.contains("string") || expected.contains("quotes") || expected.contains('"') {
        "; put it in quotes"
    } else {
        ""
    }
}
