//! `mcp-record`: what was deployed: show it, set it, go back.

use std::process::ExitCode;

fn main() -> ExitCode {
    mcp::cmd::main("mcp-record", mcp::cmd::record::run)
}
