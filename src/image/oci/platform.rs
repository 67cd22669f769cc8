//! Which of an index's images runs on this machine.

use super::document::{Kind, kind};
use super::json::short;
use super::{Descriptor, Document, Platform, REFERENCE_TYPE};
use crate::image::limits::INDEX_DEPTH_MAX;
use crate::model::Digest;
use crate::sys::{Error, Result};
use std::fmt;

/// The machine that guests have.
pub(super) const OS: &str = "linux";
/// Its processor.
pub(super) const ARCHITECTURE: &str = "amd64";

/// Documents fetched on the way to one manifest.
const FETCHED_MAX: usize = 16;

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", short(&self.os), short(&self.architecture))?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", short(&self.variant)) }
    }
}

/// Walks from `top`, which messages call `object`, to the manifest for this machine: through indexes, and indexes in
/// indexes. `fetch` gives documents; each is checked against its digest here. Returns the manifest's descriptor, with
/// size and media type filled in, and its bytes.
pub fn find(
    object: &str,
    top: &Descriptor,
    fetch: &mut dyn FnMut(&Descriptor) -> Result<Vec<u8>>,
) -> Result<(Descriptor, Vec<u8>)> {
    let mut walk = Walk { object, fetch, seen: Vec::new(), others: Vec::new() };
    match walk.visit(top, 0)? {
        Some(found) => Ok(found),
        None => Err(walk.nothing()),
    }
}

struct Walk<'a> {
    object: &'a str,
    fetch: &'a mut dyn FnMut(&Descriptor) -> Result<Vec<u8>>,
    seen: Vec<Digest>,
    others: Vec<String>,
}

impl Walk<'_> {
    fn visit(&mut self, at: &Descriptor, depth: usize) -> Result<Option<(Descriptor, Vec<u8>)>> {
        let refused = |reason: String| Err(Error::refused(self.object, reason));
        if self.seen.contains(&at.digest) {
            return refused(format!("its indexes go in circles: {} again", at.digest));
        }
        if self.seen.len() == FETCHED_MAX {
            return refused(format!("no manifest for this machine among the first {FETCHED_MAX} of its indexes"));
        }
        self.seen.push(at.digest);
        let bytes = (self.fetch)(at)?;
        if Digest::of(&bytes) != at.digest {
            return Err(Error::refused(
                self.object,
                format!("what the source gave for {} is something else", at.digest),
            ));
        }
        if at.size != 0 && at.size != bytes.len() as u64 {
            let reason = format!("{} has {} bytes, and its index says {}", at.digest, bytes.len(), at.size);
            return Err(Error::refused(self.object, reason));
        }
        let entries = match Document::read(self.object, &at.media_type, &bytes)? {
            Document::Manifest(_) => {
                let found = Descriptor { size: bytes.len() as u64, ..at.clone() };
                return Ok(Some((found, bytes)));
            }
            Document::Index(entries) => entries,
        };
        drop(bytes);
        if depth == INDEX_DEPTH_MAX {
            return Err(Error::refused(self.object, format!("its indexes nest deeper than {INDEX_DEPTH_MAX} levels")));
        }
        for entry in self.candidates(entries) {
            if let Some(found) = self.visit(&entry, depth + 1)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Those that may be for this machine, the best first. The others are noted for a message.
    fn candidates(&mut self, entries: Vec<Descriptor>) -> Vec<Descriptor> {
        let mut ranked: Vec<(u8, Descriptor)> = Vec::new();
        for entry in entries {
            let attestation = entry.annotations.get(REFERENCE_TYPE).is_some_and(|t| t == "attestation-manifest");
            if attestation
                || !matches!(kind(&entry.media_type), Kind::Manifest | Kind::Index) && !entry.media_type.is_empty()
            {
                continue;
            }
            match &entry.platform {
                Some(p) if p.os == "unknown" && p.architecture == "unknown" => {}
                Some(p) if p.os == OS && p.architecture == ARCHITECTURE => {
                    if let Some(rank) = variant(&p.variant) {
                        ranked.push((rank, entry));
                    } else {
                        self.note(p.to_string());
                    }
                }
                Some(p) if !p.os.is_empty() || !p.architecture.is_empty() => {
                    let told = p.to_string();
                    self.note(told);
                }
                // The config tells. Last, for what names its machine is a better guess.
                _ => ranked.push((u8::MAX, entry)),
            }
        }
        ranked.sort_by_key(|(rank, _)| *rank);
        ranked.into_iter().map(|(_, entry)| entry).collect()
    }

    fn note(&mut self, platform: String) {
        if self.others.len() < 8 && !self.others.contains(&platform) {
            self.others.push(platform);
        }
    }

    fn nothing(&self) -> Error {
        let reason = if self.others.is_empty() {
            "its index names no image".to_string()
        } else {
            format!("is for {} only, and guests are {OS}/{ARCHITECTURE}", self.others.join(", "))
        };
        Error::refused(self.object, reason)
    }
}

/// How good a variant of amd64 is: the one for all processors first, so that a cached image runs wherever it is moved.
/// `None`: this processor can't run it, or nobody knows it.
fn variant(name: &str) -> Option<u8> {
    #[cfg(target_arch = "x86_64")]
    let (v2, v3, v4) = (
        is_x86_feature_detected!("sse4.2") && is_x86_feature_detected!("popcnt"),
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi2") && is_x86_feature_detected!("fma"),
        is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl"),
    );
    #[cfg(not(target_arch = "x86_64"))]
    let (v2, v3, v4) = (true, false, false);
    match name {
        "" => Some(0),
        "v1" => Some(1),
        "v2" => v2.then_some(2),
        "v3" => (v2 && v3).then_some(3),
        "v4" => (v2 && v3 && v4).then_some(4),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::image::oci::document::tests::{descriptor, manifest_json};
    use crate::image::oci::document::{OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST};
    use std::collections::HashMap;

    fn index(entries: &[String]) -> String {
        format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{}]}}"#, entries.join(","))
    }

    fn entry(media_type: &str, of: &str, platform: &str) -> String {
        let mut parts = platform.split('/');
        let mut next = || parts.next().unwrap_or_default();
        let (os, architecture, variant) = (next(), next(), next());
        let platform = if os.is_empty() {
            String::new()
        } else {
            format!(r#","platform":{{"os":"{os}","architecture":"{architecture}","variant":"{variant}"}}"#)
        };
        descriptor(media_type, of.as_bytes(), &platform)
    }

    /// Finds among `documents`, from the last one on.
    fn walk(documents: &[&str]) -> Result<String> {
        let all: HashMap<Digest, &str> = documents.iter().map(|d| (Digest::of(d.as_bytes()), *d)).collect();
        let top = Descriptor {
            media_type: String::new(),
            digest: Digest::of(documents.last().unwrap().as_bytes()),
            size: 0,
            platform: None,
            annotations: Default::default(),
        };
        let mut fetch = |d: &Descriptor| Ok(all[&d.digest].as_bytes().to_vec());
        find("x", &top, &mut fetch).map(|(_, bytes)| String::from_utf8(bytes).unwrap())
    }

    fn manifest(n: usize) -> String {
        let config = descriptor(OCI_CONFIG, &vec![b' '; n], "");
        manifest_json(&config, &[descriptor(OCI_LAYER, b"", "")])
    }

    #[test]
    fn the_platform_is_chosen() {
        let all: Vec<String> = (0..5).map(manifest).collect();
        let entries = [
            entry(OCI_MANIFEST, &all[0], "linux/arm64"),
            entry(OCI_MANIFEST, &all[1], "unknown/unknown"),
            entry(OCI_MANIFEST, &all[2], ""),
            entry(OCI_MANIFEST, &all[3], "linux/amd64/v1"),
            entry(OCI_MANIFEST, &all[4], "linux/amd64"),
        ];
        let pick = |n: usize| {
            let index = index(&entries[..n]);
            let mut documents: Vec<&str> = all.iter().map(String::as_str).collect();
            documents.push(&index);
            walk(&documents).map(|found| all.iter().position(|m| *m == found).unwrap())
        };
        assert_eq!((pick(5).unwrap(), pick(4).unwrap(), pick(3).unwrap()), (4, 3, 2));
        assert_eq!(pick(2).unwrap_err().to_string(), "x: is for linux/arm64 only, and guests are linux/amd64");
        assert_eq!(pick(0).unwrap_err().to_string(), "x: its index names no image");
        // Docker's builder: an attestation that says it is for this machine.
        let marked = r#","annotations":{"vnd.docker.reference.type":"attestation-manifest","a":"b"}"#;
        let attestation = descriptor(OCI_MANIFEST, all[0].as_bytes(), marked);
        let with = index(&[attestation, entries[3].clone()]);
        assert_eq!(walk(&[&all[0], &all[3], &with]).unwrap(), all[3]);
    }

    #[test]
    fn indexes_in_indexes_end() {
        let image = manifest(1);
        let mut levels = vec![image.clone()];
        for n in 0..6 {
            let kind = if n == 0 { OCI_MANIFEST } else { OCI_INDEX };
            levels.push(index(&[entry(kind, &levels[n], "")]));
            let documents: Vec<&str> = levels.iter().map(String::as_str).collect();
            match walk(&documents) {
                Ok(found) => assert!(found == image && n < INDEX_DEPTH_MAX, "{n}"),
                Err(e) => assert!(e.to_string().contains("nest deeper") && n >= INDEX_DEPTH_MAX, "{n}: {e}"),
            }
        }
        let twice = index(&[entry(OCI_INDEX, &index(&[]), ""), entry(OCI_INDEX, &index(&[]), "")]);
        assert!(walk(&[&index(&[]), &twice]).unwrap_err().to_string().contains("in circles"));
        let wrong = index(&[entry(OCI_MANIFEST, &image, "").replace("\"size\":", "\"size\":1")]);
        assert!(walk(&[&image, &wrong]).unwrap_err().to_string().contains("its index says"));
    }

    #[test]
    fn a_source_that_gives_something_else_is_caught() {
        let top = Descriptor {
            media_type: OCI_INDEX.into(),
            digest: Digest::of(b"one"),
            size: 3,
            platform: None,
            annotations: Default::default(),
        };
        let told = find("x", &top, &mut |_| Ok(b"two".to_vec())).unwrap_err().to_string();
        assert!(told.contains("is something else"), "{told}");
    }
}
