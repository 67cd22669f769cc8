//! Asking registries whether a tag still names what was deployed under it.

use super::Entry;
use crate::image::source;
use crate::model::{Digest, Node, Reference, Runtime, Source};
use crate::sys::paths::Paths;
use crate::sys::{Deadline, Error, pool};

/// So many are asked at once; the rest waits for its turn.
const AT_ONCE: usize = 16;

/// What a registry said.
#[derive(Debug)]
pub enum Remote {
    /// The tag names what was deployed.
    Same,
    /// The tag names this now.
    Moved(Digest),
    /// It could not be asked.
    Unknown(Error),
}

impl Remote {
    /// In a word or a few; stable.
    pub fn name(&self) -> &'static str {
        match self {
            Remote::Same => "same",
            Remote::Moved(_) => "the tag has moved",
            Remote::Unknown(_) => "unknown",
        }
    }
}

/// Asks for each of `entries` that is declared with a tag and was deployed from that, side by side; `None` for the
/// others. What is not answered by `deadline` is unknown.
pub fn ask_all(paths: &Paths, node: &Node, entries: &[Entry<'_>], deadline: Deadline) -> Vec<Option<Remote>> {
    let ask = |entry: &Entry<'_>| {
        let (reference, tagged) = question(entry)?;
        let resolved = match deadline.passed() {
            true => Err(Error::busy(&reference, "not asked: the others took too long")),
            false => source::open(&reference, node, paths).and_then(|mut source| source.resolve(deadline)),
        };
        Some(match resolved {
            Ok(found) if found.digest == tagged => Remote::Same,
            Ok(found) => Remote::Moved(found.digest),
            Err(e) => Remote::Unknown(e),
        })
    };
    pool::each(entries, AT_ONCE, ask)
}

/// What to ask for, and what it was when it was deployed. A digest never moves, and another tag than the deployed one
/// is drift already.
fn question(entry: &Entry<'_>) -> Option<(Reference, Digest)> {
    let declared = entry.declared.filter(|_| entry.wanted() == Some(true))?.component;
    let current = entry.record.get()?.current.as_ref()?;
    let Source::Image { reference } = &declared.source else { return None };
    let pin = current.pin.as_ref().filter(|_| current.spec.source == declared.source)?;
    match Reference::parse(reference).ok()? {
        Reference::Registry(named) if named.digest.is_some() => None,
        // What is of this node alone has nobody to ask.
        Reference::Registry(named) if declared.runtime == Runtime::Container && named.is_local() => None,
        Reference::Archive(_) => None,
        reference => Some((reference, pin.tagged)),
    }
}
