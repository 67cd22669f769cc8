//! `mcp-logs`: show and follow the consoles.

use super::Common;
use crate::sys::{Error, Result};

/// Show and follow the consoles
#[derive(Debug, clap::Parser)]
#[command(name = "mcp-logs", version)]
pub struct Args {
    #[command(flatten)]
    common: Common,
}

/// Runs the program and returns its exit code.
pub fn run(args: Args) -> Result<u8> {
    let _ = args.common;
    Err(Error::refused("mcp-logs", "not there yet"))
}
