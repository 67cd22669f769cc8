//! A manifest or an index of any bytes is read or refused.
#![no_main]

use mcp::image::oci::Document;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Err(told) = Document::read("x", "", bytes) {
        assert!(!told.to_string().contains('\n'));
    }
});
