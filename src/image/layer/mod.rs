//! What is inside the layers: read by a worker that has no rights, and told in an index.
//!
//! ```text
//! blob -> unpack -> stream (digest, plain copy) -> tar -> index      once for each layer, as it is fetched
//!         indexes -> tree -> files                                   the image's files, as far as its layers are there
//!  indexes, blobs -> tree, unpack -> merge -> emit                   all of them as one tar
//! ```

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
