//! `mcp-build`: make the bootable image from what was pulled.

use std::process::ExitCode;

fn main() -> ExitCode {
    mcp::cmd::main("mcp-build", mcp::cmd::build::run)
}
