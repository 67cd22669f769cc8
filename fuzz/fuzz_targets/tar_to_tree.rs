//! A layer of any bytes: unpacked, indexed, made a tree, and written as a tar that can be read again.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    mcp::image::layer::fuzz(bytes);
});
