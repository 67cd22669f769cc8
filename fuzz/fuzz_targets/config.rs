//! An image's config of any bytes is read or refused.
#![no_main]

use mcp::image::oci::Image;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Err(told) = Image::read_config("x", bytes) {
        assert!(!told.to_string().contains('\n'));
    }
});
