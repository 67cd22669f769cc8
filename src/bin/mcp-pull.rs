//! `mcp-pull`: bring an OCI image to this node.

use std::process::ExitCode;

fn main() -> ExitCode {
    mcp::cmd::main("mcp-pull", mcp::cmd::pull::run)
}
