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
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    for (n, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        let wrong = || {
            // As a shell reads it. Taken as a name it would be another variable.
            let is_export = line.split_whitespace().next() == Some("export");
            let why = if is_export { "not NAME=value; remove \"export\"" } else { "not NAME=value" };
            Error::refused(format!("{}:{}", path.display(), n + 1), why)
        };
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_is_skipped_and_export_is_refused_with_its_remedy() {
        let path = std::env::temp_dir().join(format!("mcp-env-file-{}", std::process::id()));
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read(&path).map_err(|e| e.to_string().rsplit('/').next().unwrap_or_default().to_string())
        };
        let pair = |name: &str, value: &str| (name.to_string(), value.to_string());
        assert_eq!(read("\u{feff}A=1\r\n# no\n\nB=\u{feff}2\n"), Ok(vec![pair("A", "1"), pair("B", "\u{feff}2")]));
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        for line in ["export A=1", "  export\tA=1", "export A"] {
            let told = read(&format!("B=1\n{line}\n")).unwrap_err();
            assert_eq!(told, format!("{name}:2: not NAME=value; remove \"export\""), "{line}");
        }
        assert_eq!(read("export=1\n"), Ok(vec![pair("export", "1")]));
        assert_eq!(read("A B=1\n").unwrap_err(), format!("{name}:1: not NAME=value"));
        std::fs::remove_file(path).unwrap();
    }
}
