//! What killed processes left in the store.

use super::Store;
use crate::sys::file::remove_tree;
use crate::sys::{Error, Result};
use std::path::Path;
use std::time::Duration;

/// How long half a blob waits for somebody to go on with it.
const PART_KEPT: Duration = Duration::from_secs(24 * 3600);

/// Removes what lies in `tmp/` and in `locks/` and has no living maker.
pub(super) fn clean(store: &Store) -> Result<()> {
    for name in names(&store.paths.tmp())? {
        let path = store.paths.tmp().join(&name);
        if is_part(&name) && is_young(&path) {
            continue;
        }
        let lock_name = name.split('.').next().unwrap_or(&name);
        if let Some(lock) = store.try_lock(lock_name)? {
            remove_tree(&path)?;
            lock.remove()?;
        }
    }
    for name in names(&store.paths.locks())? {
        if let Some(lock) = store.try_lock(&name)? {
            lock.remove()?;
        }
    }
    Ok(())
}

/// A blob on its way, not what else is made beside it.
fn is_part(name: &str) -> bool {
    name.strip_prefix("blob-").is_some_and(|hex| !hex.contains('.'))
}

fn is_young(path: &Path) -> bool {
    let age = std::fs::symlink_metadata(path).and_then(|m| m.modified()).map(|t| t.elapsed());
    match age {
        Ok(Ok(age)) => age < PART_KEPT,
        // From the future: the clock was wrong, and nobody knows its age.
        Ok(Err(_)) => true,
        Err(_) => false,
    }
}

fn names(dir: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(dir).map_err(Error::path("read directory", dir))?;
    Ok(entries.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect())
}
