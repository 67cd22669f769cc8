//! What fuzz/fuzz_targets/{manifest,config}.rs do, with some thousand fixed inputs: any bytes are read or refused.
#![allow(clippy::unwrap_used)]

use super::document::tests::{descriptor, manifest_json};
use super::document::{OCI_CONFIG, OCI_LAYER};
use super::{Document, Image};

#[test]
fn any_bytes_are_a_document_or_not() {
    let config = super::config::tests::config_json();
    let layer = descriptor(&format!("{OCI_LAYER}+gzip"), b"l", r#","platform":{"os":null},"annotations":{"a":"b"}"#);
    let manifest = manifest_json(&descriptor(OCI_CONFIG, config.as_bytes(), ""), &[layer]);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut roll = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    for round in 0..6000 {
        let seed = if round % 2 == 0 { &manifest } else { &config };
        let mut bytes = seed.as_bytes().to_vec();
        for _ in 0..=roll(5) {
            let at = roll(bytes.len());
            match roll(4) {
                0 => bytes[at] = u8::try_from(roll(256)).unwrap(),
                1 => bytes.truncate(at.max(1)),
                2 => drop(bytes.splice(at..at, *b"[{\"null\":0,\xff}]")),
                _ => bytes.insert(at, b"{}[]\",:\n\\0e-"[roll(12)]),
            }
        }
        for told in [
            Document::read("x", "", &bytes).err(),
            Image::read("x", &bytes, config.as_bytes()).err(),
            Image::read_config("x", &bytes).err(),
        ] {
            let told = told.map(|e| e.to_string()).unwrap_or_default();
            assert!(!told.contains('\n') && told.len() < 600, "{told:?}");
        }
    }
}
