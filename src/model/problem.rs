//! What is wrong in a configuration file: one line each, `FILE:LINE: KEY: reason`.

use crate::sys::{Error, Result};
use std::fmt;
use std::path::{Path, PathBuf};

/// One problem. Displays as one line; what came from the file is escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; 0 when it is about the file as a whole.
    pub line: usize,
    /// The key as a path, like `components.api.memory_mb`; empty when it is about the file as a whole.
    pub key: String,
    /// What is wrong, and the way out where there is one.
    pub reason: String,
}

impl Problem {
    /// A problem with `file` as a whole.
    pub fn of_file(file: &Path, reason: impl Into<String>) -> Problem {
        Problem { file: file.to_path_buf(), line: 0, key: String::new(), reason: reason.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A file name may hold anything but '/' and NUL; a newline in it must not make two lines of this one.
        for c in self.file.to_string_lossy().chars() {
            if c.is_control() { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
        }
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.reason)
    }
}

impl From<Vec<Problem>> for Error {
    fn from(problems: Vec<Problem>) -> Error {
        Error::Definitions { problems: problems.iter().map(Problem::to_string).collect() }
    }
}

/// `value` when there are no problems, else all of them as one error.
pub fn unless<T>(problems: Vec<Problem>, value: T) -> Result<T> {
    if problems.is_empty() { Ok(value) } else { Err(problems.into()) }
}

/// `text` in quotes, escaped and cut to a length that a line bears.
pub fn quoted(text: &str) -> String {
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{:?}…", text.get(..at).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}
