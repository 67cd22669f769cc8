#![no_main]
//! What Pacemaker's programs print, and what a node answers.
use libfuzzer_sys::fuzz_target;
use mcp::node::cluster::{answer, pacemaker};

fuzz_target!(|bytes: &[u8]| {
    let _ = answer::read(bytes);
    let text = String::from_utf8_lossy(bytes);
    if let Ok(mut cluster) = pacemaker::read_status(&text) {
        let _ = pacemaker::read_targets(&text, &mut cluster);
    }
});
