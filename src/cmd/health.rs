//! `mcp-health`: is it healthy? one answer.

use super::Common;
use crate::sys::{Error, Result};

/// Is it healthy? one answer
#[derive(Debug, clap::Parser)]
#[command(name = "mcp-health", version)]
pub struct Args {
    #[command(flatten)]
    common: Common,
}

/// Runs the program and returns its exit code.
pub fn run(args: Args) -> Result<u8> {
    let _ = args.common;
    Err(Error::refused("mcp-health", "not there yet"))
}
