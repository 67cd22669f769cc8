//! `mcp-logs`: show and follow the consoles and containers' logs.

use std::process::ExitCode;

fn main() -> ExitCode {
    mcp::cmd::main("mcp-logs", mcp::cmd::logs::run)
}
