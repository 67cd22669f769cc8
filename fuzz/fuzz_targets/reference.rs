//! Any text is an image reference or is refused in one line.
#![no_main]

use mcp::model::Reference;

libfuzzer_sys::fuzz_target!(|text: &str| {
    match Reference::parse(text) {
        Ok(parsed) => assert_eq!(Reference::parse(&parsed.to_string()), Ok(parsed)),
        Err(told) => assert!(!told.contains('\n')),
    }
});
