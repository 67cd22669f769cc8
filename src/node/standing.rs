//! Whether what a component does not answer is worth a word.

use super::{Condition, inventory};
use crate::model::{ComponentId, load};
use crate::sys::paths::Paths;

/// How a component stands, for those who ask for its health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It does not run and shall not.
    Rests,
    /// It is on its way, and was not ready yet.
    Starting,
    /// It runs, or shall.
    Other,
}

/// How `id` stands, by its definition, its record and its own files. Where these can't be read, nothing is excused.
pub fn of(paths: &Paths, id: &ComponentId) -> Standing {
    let loaded = load::load_one(paths, &id.service);
    let entry = inventory::one(paths, &loaded, id);
    match Condition::of(&entry) {
        Condition::Starting => Standing::Starting,
        Condition::Completed => Standing::Rests,
        _ if entry.wanted() == Some(false) && !entry.is_alive() => Standing::Rests,
        _ => Standing::Other,
    }
}
