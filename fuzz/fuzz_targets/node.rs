//! A node config of any bytes is read or refused.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for problem in mcp::model::read::parse_node("mcp.toml".as_ref(), bytes).1 {
        assert!(!problem.to_string().contains('\n'));
    }
});
