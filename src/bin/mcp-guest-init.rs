//! `mcp-guest-init`: PID 1 inside a microvm. Never run on the host.

fn main() -> std::process::ExitCode {
    mcp::init::main::main()
}
