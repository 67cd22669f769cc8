//! `mcp-run-container`: run one component as a podman container and stay with it until it ends.

use std::process::ExitCode;

fn main() -> ExitCode {
    mcp::cmd::main("mcp-run-container", mcp::cmd::run_container::run)
}
