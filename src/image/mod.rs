//! One image: from a registry, a directory or an archive into the store, and from there to what a VM boots.
//!
//! ```text
//! source     where it comes from: registry, oci directory, docker archive         bytes, not yet trusted
//!   -> oci     manifest, index, config: parsed, checked, the platform chosen
//!   -> store   blobs, streamed while their digest is checked                      LIB/store/blobs/HEX
//!   -> layer   each blob decompressed once: its diff_id checked, an index written LIB/store/layers/HEX
//!   -> closure (unikernel) the ELF and all it needs, from the layers that hold it LIB/store/images/KEY/
//!   -> build   (unikernel) ops, (microvm) tar2sqfs over the merged layers         LIB/store/builds/KEY/
//! ```
//!
//! What is inside a layer is read by a worker: this very program again, as an unprivileged user, with nothing but the
//! descriptors that it was handed. No program of an image is ever executed.

pub mod build;
pub mod closure;
pub mod layer;
pub mod limits;
pub mod oci;
pub mod pull;
pub mod pulled;
pub mod registry;
pub mod source;
pub mod store;
pub mod worker;
