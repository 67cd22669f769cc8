//! `mcp-run-vm`: run one component as a VM and stay with it until it ends.

use std::process::ExitCode;

fn main() -> ExitCode {
    mcp::cmd::main("mcp-run-vm", mcp::cmd::run_vm::run)
}
