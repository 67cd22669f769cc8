//! `mcp-boot`: bring the node up, stage by stage.

use std::process::ExitCode;

fn main() -> ExitCode {
    mcp::cmd::main("mcp-boot", mcp::cmd::boot::run)
}
