//! `mcp-run-vm`: run one component as a VM and stay with it until it ends.

use super::Common;
use crate::sys::{Error, Result};

/// Run one component as a VM and stay with it until it ends
#[derive(Debug, clap::Parser)]
#[command(name = "mcp-run-vm", version)]
pub struct Args {
    #[command(flatten)]
    common: Common,
}

/// Runs the program and returns its exit code.
pub fn run(args: Args) -> Result<u8> {
    let _ = args.common;
    Err(Error::refused("mcp-run-vm", "not there yet"))
}
