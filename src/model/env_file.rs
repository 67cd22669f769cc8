//! `env_file`: NAME=value lines. Values are secret: no error shows one.

use crate::sys::{Error, Result, file};
use std::path::Path;

const SIZE_MAX: u64 = 256 << 10;

/// Reads the pairs of `path`, in order. Empty lines and those that begin with `#` are skipped; values are taken as
/// they stand, without quotes or continuation.
pub fn read(path: &Path) -> Result<Vec<(String, String)>> {
    let missing = || Error::refused(path.display(), "env_file missing: no such file");
    let bytes = file::read_regular(path, SIZE_MAX)?.ok_or_else(missing)?;
    let text = String::from_utf8(bytes).map_err(|_| Error::refused(path.display(), "env_file is not UTF-8"))?;
    let mut pairs = Vec::new();
    for (n, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        let wrong = || Error::refused(format!("{}:{}", path.display(), n + 1), "not NAME=value");
        let (name, value) = line.split_once('=').ok_or_else(wrong)?;
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty()
            || name.starts_with(|c: char| c.is_ascii_digit())
            || !name.chars().all(word)
            || value.contains('\0')
        {
            return Err(wrong());
        }
        pairs.push((name.to_string(), value.to_string()));
    }
    Ok(pairs)
}
