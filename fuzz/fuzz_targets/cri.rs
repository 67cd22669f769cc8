//! Any bytes are a container's log: each is in a record, and no record holds what it hasn't.
#![no_main]

use mcp::console::cri::{Decoder, RECORD_MAX, Stream, contents};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for all in [false, true] {
        let (mut decoder, mut rest) = (Decoder::default(), bytes);
        while let Some(record) = decoder.next(rest, all) {
            let content = &rest[record.content.clone()];
            assert!(record.length > 0 && record.content.end <= record.length);
            assert_eq!(record.ends, content.ends_with(b"\n"));
            assert!(all || record.stream != Stream::Other || content.len() == record.length);
            rest = &rest[record.length..];
        }
        assert!(rest.len() < if all { 1 } else { RECORD_MAX });
    }
    assert!(contents(bytes).len() <= bytes.len() + Stream::ALL.len());
});
