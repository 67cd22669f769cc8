//! What is inside the layers: read by a worker that has no rights, and told in an index.
//!
//! ```text
//! blob -> unpack (ahead) -> stream (digest, plain copy) -> tar -> index      once for each layer, as it is fetched
//!         indexes -> tree -> files                                   the image's files, as far as its layers are there
//!  indexes, blobs -> tree, unpack -> merge -> emit                   all of them as one tar
//! ```

pub mod ahead;
pub mod emit;
pub mod files;
pub mod index;
pub mod merge;
pub mod path;
pub mod scan;
pub mod stream;
pub mod tar;
pub mod tree;
pub mod unpack;

use crate::sys::Error;

/// What is wrong with a layer: nothing that trying again would mend.
pub(super) fn bad(reason: impl Into<String>) -> Error {
    Error::refused("layer", reason)
}

/// For fuzzing: a layer of these bytes, whatever they are, unpacked, indexed, made a tree and a tar. Whether all that
/// worked; what came of it must be a tar as good as the first.
pub fn fuzz(bytes: &[u8]) -> bool {
    let packing = crate::image::oci::Packing::Plain;
    let mut index = Vec::new();
    let scanned = unpack::Unpack::new(bytes, packing).and_then(|plain| scan::scan(plain, &mut index, None));
    let Ok(trailer) = scanned else { return false };
    let mut tree = tree::Tree::new(true);
    let partial = tree::Tree::new(false).apply(0, index.as_slice());
    let Ok(()) = tree.apply(0, index.as_slice()) else { return false };
    assert!(partial.is_ok(), "what the whole can, the part can");
    let mut tar = Vec::new();
    let merged = merge::merge(&tree, |_| unpack::Unpack::new(bytes, packing), &mut tar);
    assert!(merged.is_ok() || trailer.entries == 0, "what was read can be read again: {merged:?}");
    let mut again = Vec::new();
    let scanned = scan::scan(tar.as_slice(), &mut again, None);
    assert!(scanned.is_ok(), "what we write we read: {scanned:?}");
    true
}
