//! `mcp-status`: what should run, what does run, and how they differ.

use super::Common;
use crate::sys::{Error, Result};

/// What should run, what does run, and how they differ
#[derive(Debug, clap::Parser)]
#[command(name = "mcp-status", version)]
pub struct Args {
    #[command(flatten)]
    common: Common,
}

/// Runs the program and returns its exit code.
pub fn run(args: Args) -> Result<u8> {
    let _ = args.common;
    Err(Error::refused("mcp-status", "not there yet"))
}
