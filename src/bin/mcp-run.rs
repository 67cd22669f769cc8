//! `mcp-run`: look at the component's runtime and exec the program that runs it.

use std::process::ExitCode;

fn main() -> ExitCode {
    mcp::cmd::main("mcp-run", mcp::cmd::run::run)
}
