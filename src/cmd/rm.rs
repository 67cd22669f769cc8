//! `mcp-rm`: remove what a stopped component left.

use super::Common;
use crate::sys::{Error, Result};

/// Remove what a stopped component left
#[derive(Debug, clap::Parser)]
#[command(name = "mcp-rm", version)]
pub struct Args {
    #[command(flatten)]
    common: Common,
}

/// Runs the program and returns its exit code.
pub fn run(args: Args) -> Result<u8> {
    let _ = args.common;
    Err(Error::refused("mcp-rm", "not there yet"))
}
