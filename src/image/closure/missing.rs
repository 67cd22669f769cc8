//! A library that was not found: is it where ldconfig(8) would have looked?

use super::walk::{self, join, name, parent};
use super::{Files, Found, Stop, read};
use std::collections::HashSet;

/// Files that one configuration may include, and lines of all of them.
const FILES_MAX: usize = 64;
const LINES_MAX: usize = 1024;

/// The directory of `/etc/ld.so.conf` that has the library. The loader doesn't read that file, only ldconfig does: so the
/// image was made without running it.
pub fn configured(files: &dyn Files, wanted: &[u8]) -> Result<Option<Vec<u8>>, Stop> {
    if wanted.contains(&b'/') {
        return Ok(None);
    }
    let mut todo = vec![b"/etc/ld.so.conf".to_vec()];
    let (mut seen, mut lines) = (0, 0);
    let mut read_already = HashSet::new();
    while let Some(path) = todo.pop() {
        if !read_already.insert(path.clone()) {
            continue;
        }
        seen += 1;
        let Some((_, file)) = walk::file(files, &path)? else { continue };
        let text = read::whole(files, &file, 64 << 10)?.unwrap_or_default();
        for line in text.split(|b| *b == b'\n') {
            lines += 1;
            if seen > FILES_MAX || lines > LINES_MAX {
                return Ok(None);
            }
            let line = line.split(|b| *b == b'#').next().unwrap_or_default().trim_ascii();
            match line.strip_prefix(b"include").filter(|rest| rest.first().is_some_and(u8::is_ascii_whitespace)) {
                Some(pattern) => {
                    let pattern = join(b"/etc", pattern.trim_ascii());
                    todo.extend(matching(files, &pattern)?);
                }
                None if line.first() == Some(&b'/') && walk::file(files, &join(line, wanted))?.is_some() => {
                    return Ok(Some(line.to_vec()));
                }
                None => {}
            }
        }
    }
    Ok(None)
}

/// The paths that a pattern means; a `*` may be in its last part, once, as it is everywhere.
fn matching(files: &dyn Files, pattern: &[u8]) -> Result<Vec<Vec<u8>>, Stop> {
    let Some(star) = name(pattern).iter().position(|b| *b == b'*') else { return Ok(vec![pattern.to_vec()]) };
    let (before, after) = (&name(pattern)[..star], &name(pattern)[star + 1..]);
    let Some(dir) = walk::walk(files, parent(pattern))?.filter(|w| w.found == Found::Directory) else {
        return Ok(Vec::new());
    };
    let fits = |n: &Vec<u8>| n.len() >= before.len() + after.len() && n.starts_with(before) && n.ends_with(after);
    Ok(files.list(&dir.real)?.into_iter().filter(fits).take(FILES_MAX).map(|n| join(&dir.real, &n)).collect())
}
