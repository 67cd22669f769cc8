//! Where an image comes from.

mod archive;
mod layout;

use super::oci::Descriptor;
use super::registry::{Patience, Registry};
use crate::model::{Node, Reference};
use crate::sys::paths::Paths;
use crate::sys::{Deadline, Result};
use archive::Archive;
use layout::Layout;
use std::io::Read;

/// Opens what `reference` names. No connection is made yet, and no file but the operator's is looked at.
pub fn open(reference: &Reference, node: &Node, paths: &Paths) -> Result<Box<dyn Source + Send>> {
    Ok(match reference {
        Reference::Registry(named) => Box::new(Registry::new(named, node, Patience::default())),
        Reference::Oci { dir, reference } => Box::new(Layout::new(dir, reference.as_deref())),
        Reference::Archive(path) => Box::new(Archive::new(path.as_deref(), paths)),
    })
}

/// A registry, an OCI directory or a docker archive, opened for one reference. What it gives is not yet trusted: whoever
/// takes it checks digests and sizes.
pub trait Source {
    /// What the reference names, without fetching it: one round trip for a registry. `size` is 0 where it can't be told.
    fn resolve(&mut self, deadline: Deadline) -> Result<Descriptor>;

    /// A manifest, an index or a config: at most `limits::DOCUMENT_MAX` bytes.
    fn document(&mut self, what: &Descriptor, deadline: Deadline) -> Result<Vec<u8>>;

    /// A blob, from its byte `from` on; a source that can't do that starts at 0 and says so.
    fn blob(&mut self, what: &Descriptor, from: u64, deadline: Deadline) -> Result<Blob>;

    /// Stops using the mirrors that what came may be from, because it was wrong: false where there are none.
    fn distrust(&self) -> bool {
        false
    }

    /// Whether another connection of the same kind can be had, to fetch blobs side by side.
    fn again(&self) -> Option<Box<dyn Source + Send>>;
}

/// A blob on its way.
pub struct Blob {
    /// The byte that comes first.
    pub from: u64,
    /// The rest of it. Each read has a deadline of its own, for a server that goes silent.
    pub reader: Box<dyn Read + Send>,
}
