//! Manifests, indexes and configs, of OCI (image-spec) and of Docker (schema 2): parsed and checked, nothing fetched.
//!
//! [`find`] walks from what a reference names to the manifest for this machine, [`Document::read`] reads one document,
//! [`Image::read`] checks a manifest and its config against each other.

mod config;
mod document;
mod json;
#[cfg(test)]
mod junk;
mod platform;

pub use document::{ACCEPT, Document, Manifest, OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, is_manifest};
pub use platform::find;

use crate::model::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The annotation of an OCI directory's index that names an image.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The annotation by which Docker's builder marks what is no image.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";
/// The annotations that are read.
pub const ANNOTATIONS: [&str; 2] = [REF_NAME, REFERENCE_TYPE];

/// A blob that something names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    #[serde(default, deserialize_with = "json::nullable")]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// For what machine, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Further words on it: those that [`ANNOTATIONS`] names, others are not kept.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "json::annotations")]
    pub annotations: BTreeMap<String, String>,
}

/// What machine an image is for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Platform {
    /// Go's name of the processor: `amd64`.
    #[serde(default, deserialize_with = "json::nullable")]
    pub architecture: String,
    /// Go's name of the system: `linux`.
    #[serde(default, deserialize_with = "json::nullable")]
    pub os: String,
    /// `v8` and the like.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "json::nullable")]
    pub variant: String,
}

/// How a layer is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Packing {
    /// A plain tar.
    Plain,
    /// gzip, of any number of members.
    Gzip,
    /// zstd, of any number of frames.
    Zstd,
}

/// One layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Digest of the blob.
    pub blob: Digest,
    /// Bytes of the blob.
    pub size: u64,
    /// How the blob is packed.
    pub packing: Packing,
    /// Digest of the blob unpacked, as the config says.
    pub diff_id: Digest,
}

/// An image for this machine: what its manifest and its config say, checked against each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Digest of the manifest.
    pub manifest: Digest,
    /// Digest of the config.
    pub config: Digest,
    /// Its layers, the base first.
    pub layers: Vec<Layer>,
    /// What it runs.
    pub run: RunConfig,
}

/// The part of an image's config that says what runs (image-spec config.md, "config").
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RunConfig {
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// More arguments, or the program with its arguments where there is no entrypoint.
    pub cmd: Vec<String>,
    /// `NAME=VALUE`.
    pub env: Vec<String>,
    /// Working directory; empty: `/`.
    pub workdir: String,
    /// `USER[:GROUP]`; empty: root.
    pub user: String,
    /// Ports, like `8080/tcp`.
    pub exposed: Vec<String>,
    /// The signal that stops it, as the image says; empty: SIGTERM.
    pub stop_signal: String,
}
