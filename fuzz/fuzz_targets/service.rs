//! A service definition of any bytes is read or refused.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for problem in mcp::model::read::parse_service("svc.toml".as_ref(), bytes).err().into_iter().flatten() {
        assert!(!problem.to_string().contains('\n'));
    }
});
