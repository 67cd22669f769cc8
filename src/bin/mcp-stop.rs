//! `mcp-stop`: stop components: gracefully, then firmly; say which it took.

use std::process::ExitCode;

fn main() -> ExitCode {
    mcp::cmd::main("mcp-stop", mcp::cmd::stop::run)
}
