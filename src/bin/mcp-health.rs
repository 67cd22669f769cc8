//! `mcp-health`: is it healthy? one answer.

use std::process::ExitCode;

fn main() -> ExitCode {
    mcp::cmd::main("mcp-health", mcp::cmd::health::run)
}
