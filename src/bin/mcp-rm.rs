//! `mcp-rm`: remove what a stopped component left.

use std::process::ExitCode;

fn main() -> ExitCode {
    mcp::cmd::main("mcp-rm", mcp::cmd::rm::run)
}
