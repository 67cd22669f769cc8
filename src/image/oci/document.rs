//! A manifest or an index: told apart, and what is no container image refused in words.

use super::json::{self, Few, short};
use super::{Descriptor, Packing};
use crate::image::limits::{IMAGE_MAX, LAYER_MAX, LAYERS_MAX};
use crate::sys::{Error, Result};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// Entries of one index: what the largest public ones have, and some.
const ENTRIES_MAX: usize = 512;

/// What a registry is asked to send, best first.
pub const ACCEPT: [&str; 4] = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST];

/// The OCI index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The OCI manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The OCI config.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1+";
/// The OCI layer of a plain tar; `+gzip` or `+zstd` may follow.
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A manifest or an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// Several, for different machines.
    Index(Vec<Descriptor>),
}

/// What makes up one image. Media types, counts and sizes are checked, what the blobs hold is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Its config.
    pub config: Descriptor,
    /// Its layers, the base first.
    pub layers: Vec<(Descriptor, Packing)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: Option<u64>,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Few<Descriptor, LAYERS_MAX>>,
    manifests: Option<Few<Descriptor, ENTRIES_MAX>>,
    fs_layers: Option<IgnoredAny>,
    signatures: Option<IgnoredAny>,
}

/// What a media type stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Manifest,
    Index,
    Schema1,
    Unknown,
}

/// `media_type` without parameters.
pub(super) fn kind(media_type: &str) -> Kind {
    match media_type.split(';').next().unwrap_or_default().trim() {
        OCI_MANIFEST | DOCKER_MANIFEST => Kind::Manifest,
        OCI_INDEX | DOCKER_LIST => Kind::Index,
        other if other.starts_with(SCHEMA_1) => Kind::Schema1,
        _ => Kind::Unknown,
    }
}

/// Whether it is the media type of a manifest or an index.
pub fn is_manifest(media_type: &str) -> bool {
    kind(media_type) != Kind::Unknown
}

impl Document {
    /// Reads what messages call `object`. `told` is its media type as its descriptor or Content-Type has it, maybe empty.
    pub fn read(object: &str, told: &str, bytes: &[u8]) -> Result<Document> {
        let refused = |reason: String| Err(Error::refused(object, reason));
        let raw: Raw = json::read(object, "manifest", bytes)?;
        let own = raw.media_type.as_deref().unwrap_or_default();
        let (kind_told, kind_own) = (kind(told), kind(own));
        if [kind_told, kind_own].contains(&Kind::Schema1)
            || raw.schema_version == Some(1)
            || raw.fs_layers.is_some()
            || raw.signatures.is_some()
        {
            return refused(
                "its manifest is of Docker's old schema 1; push the image again with a present-day tool".into(),
            );
        }
        if raw.schema_version.is_some_and(|v| v != 2) {
            return refused("its manifest has an unknown schemaVersion".into());
        }
        if !own.is_empty() && kind_own == Kind::Unknown {
            return refused(format!("is no container image: its media type is {}", short(own)));
        }
        if kind_told != Kind::Unknown && kind_own != Kind::Unknown && kind_told != kind_own {
            return refused(format!("its manifest says it is {own}, its descriptor says {}", short(told)));
        }
        let is = if kind_own == Kind::Unknown { kind_told } else { kind_own };
        // A document that could be read as either may be shown as one to a scanner and as the other to us.
        match (raw.manifests, raw.config, raw.layers) {
            (Some(Few(all)), None, None) if is != Kind::Manifest => Ok(Document::Index(all)),
            (None, Some(config), Some(Few(layers))) if is != Kind::Index => {
                Ok(Document::Manifest(manifest(object, raw.artifact_type.as_deref(), config, layers)?))
            }
            (Some(_), _, _) if is != Kind::Manifest => refused("its index is a manifest too".into()),
            (_, Some(_), Some(_)) => refused("its manifest is an index too".into()),
            (_, None, _) if raw.artifact_type.is_some() => refused(no_image(raw.artifact_type.as_deref(), "")),
            (_, None, _) => refused("its manifest has no config".into()),
            (_, _, None) => refused("its manifest has no layers".into()),
        }
    }
}

fn no_image(artifact: Option<&str>, config: &str) -> String {
    let what = artifact.filter(|a| !a.is_empty()).unwrap_or(config);
    format!("is no container image but an artifact: {}", short(what))
}

fn manifest(object: &str, artifact: Option<&str>, config: Descriptor, layers: Vec<Descriptor>) -> Result<Manifest> {
    let refused = |reason: String| Err(Error::refused(object, reason));
    let known = matches!(config.media_type.as_str(), OCI_CONFIG | DOCKER_CONFIG);
    // Some pushers leave the config's type out, or say it is bytes: the layers tell.
    if !known && !matches!(config.media_type.as_str(), "" | "application/octet-stream") {
        return refused(no_image(artifact, &config.media_type));
    }
    let mut sum = 0_u64;
    let mut out: Vec<(Descriptor, Packing)> = Vec::with_capacity(layers.len());
    for layer in layers {
        let packing = packing(object, &layer)?;
        if out.iter().any(|(other, _)| other.digest == layer.digest && other.size != layer.size) {
            return refused(format!("its manifest has two sizes for layer {}", layer.digest));
        }
        sum = sum.saturating_add(layer.size);
        if layer.size > LAYER_MAX || sum > IMAGE_MAX {
            return refused(format!("its layers are too large: one has at most {LAYER_MAX} bytes, all {IMAGE_MAX}"));
        }
        out.push((layer, packing));
    }
    if out.is_empty() {
        return refused("has no layers, so no program".into());
    }
    Ok(Manifest { config, layers: out })
}

fn packing(object: &str, layer: &Descriptor) -> Result<Packing> {
    let kind = layer.media_type.as_str();
    let refused = |reason: String| Err(Error::refused(object, reason));
    let docker = kind.strip_prefix("application/vnd.docker.image.rootfs.diff.tar");
    match kind.strip_prefix(OCI_LAYER).or(docker) {
        Some("") => return Ok(Packing::Plain),
        Some("+gzip" | ".gzip") => return Ok(Packing::Gzip),
        Some("+zstd" | ".zstd") => return Ok(Packing::Zstd),
        _ => {}
    }
    if kind.contains("nondistributable") || kind.contains(".foreign.") {
        return refused(format!(
            "its layer {} may not be distributed, so no registry has it (Windows images are made so)",
            layer.digest
        ));
    }
    if kind.contains("+encrypted") {
        return refused(format!("its layer {} is encrypted; push the image unencrypted", layer.digest));
    }
    if kind.is_empty() {
        return refused(format!("its layer {} has no media type", layer.digest));
    }
    refused(format!("is no container image: its layer {} is {}", layer.digest, short(kind)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use super::*;
    use crate::model::Digest;

    /// A descriptor in JSON.
    pub fn descriptor(media_type: &str, of: &[u8], more: &str) -> String {
        format!(r#"{{"mediaType":"{media_type}","digest":"{}","size":{}{more}}}"#, Digest::of(of), of.len())
    }

    pub fn manifest_json(config: &str, layers: &[String]) -> String {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{config},"layers":[{}]}}"#,
            layers.join(",")
        )
    }

    fn told(text: &str, media_type: &str) -> String {
        Document::read("x", media_type, text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn manifests_of_both_kinds() {
        let layer = |t: &str| descriptor(t, b"layer", "");
        for (config, kinds) in [
            (OCI_CONFIG, ["", "+gzip", "+zstd"].map(|k| format!("{OCI_LAYER}{k}"))),
            (DOCKER_CONFIG, ["", ".gzip", ".zstd"].map(|k| format!("application/vnd.docker.image.rootfs.diff.tar{k}"))),
        ] {
            let layers: Vec<String> = kinds.iter().map(|k| layer(k)).collect();
            let config = descriptor(config, b"{}", r#","annotations":null,"urls":[]"#);
            let text = manifest_json(&config, &layers);
            let Document::Manifest(manifest) = Document::read("x", "", text.as_bytes()).unwrap() else { panic!() };
            let packings: Vec<Packing> = manifest.layers.iter().map(|(_, p)| *p).collect();
            assert_eq!(packings, [Packing::Plain, Packing::Gzip, Packing::Zstd]);
        }
    }

    #[test]
    fn what_is_no_image_is_told() {
        let config = descriptor(OCI_CONFIG, b"{}", "");
        let layer = descriptor(&format!("{OCI_LAYER}+gzip"), b"l", "");
        let good = manifest_json(&config, std::slice::from_ref(&layer));
        assert!(Document::read("x", &format!("{OCI_MANIFEST}; charset=utf-8"), good.as_bytes()).is_ok());
        assert!(Document::read("x", "text/plain", good.as_bytes()).is_ok());
        let foreign = descriptor("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", b"l", "");
        let helm = descriptor("application/vnd.cncf.helm.config.v1+json", b"{}", "");
        let both = good.replace("\"config\"", "\"manifests\":[],\"config\"");
        let two = manifest_json(&config, &[layer.clone(), layer.replace("\"size\":1", "\"size\":2")]);
        for (text, media_type, part) in [
            (good.as_str(), OCI_INDEX, "its descriptor says"),
            (&both, "", "an index too"),
            (&both.replace(OCI_MANIFEST, OCI_INDEX), "", "is a manifest too"),
            (&two, "", "two sizes"),
            (&manifest_json(&config, &[]), "", "has no layers"),
            (&manifest_json(&config, &[foreign]), "", "may not be distributed"),
            (&manifest_json(&helm, std::slice::from_ref(&layer)), "", "artifact: application/vnd.cncf.helm"),
            (
                &manifest_json(&config, &[descriptor("application/vnd.in-toto+json", b"l", "")]),
                "",
                "is application/vnd.in",
            ),
            (r#"{"schemaVersion":1,"name":"a","fsLayers":[]}"#, "", "old schema 1"),
            ("{}", "application/vnd.docker.distribution.manifest.v1+prettyjws", "old schema 1"),
            ("{}", "", "has no config"),
            ("[]", "", "damaged"),
            ("", "", "damaged"),
            (&good.replace("\"size\":1", "\"size\":-1"), "", "damaged"),
            (&good.replace("sha256:", "sha512:"), "", "only sha256"),
            (&good.replace("\"layers\"", "\"config\":{},\"layers\""), "", "duplicate field"),
            (&good.replace("\"schemaVersion\":2", "\"schemaVersion\":3"), "", "unknown schemaVersion"),
        ] {
            let told = told(text, media_type);
            assert!(told.contains(part) && told.starts_with("x: "), "{told}\n{text}");
        }
        let many = manifest_json(&config, &vec![layer; LAYERS_MAX + 1]);
        assert!(told(&many, "").contains("more than 256 elements"));
    }
}
