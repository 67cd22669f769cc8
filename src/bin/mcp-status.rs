//! `mcp-status`: what should run, what does run, and how they differ.

use std::process::ExitCode;

fn main() -> ExitCode {
    mcp::cmd::main("mcp-status", mcp::cmd::status::run)
}
