//! `mcp-units`: write the node's services as files of its init system.

use std::process::ExitCode;

fn main() -> ExitCode {
    mcp::cmd::main("mcp-units", mcp::cmd::units::run)
}
