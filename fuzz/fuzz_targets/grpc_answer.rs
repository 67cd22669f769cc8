//! A gRPC server that says anything is healthy or is not, for a reason that is fit to be shown.
#![no_main]

use mcp::health::grpc::try_answer;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Err(trouble) = try_answer(bytes) {
        assert!(!trouble.to_string().contains(char::is_control), "{trouble}");
    }
});
