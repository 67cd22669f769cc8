//! `mcp-stop`: stop components: gracefully, then firmly; say which it took.

use super::Common;
use crate::sys::{Error, Result};

/// Stop components: gracefully, then firmly; say which it took
#[derive(Debug, clap::Parser)]
#[command(name = "mcp-stop", version)]
pub struct Args {
    #[command(flatten)]
    common: Common,
}

/// Runs the program and returns its exit code.
pub fn run(args: Args) -> Result<u8> {
    let _ = args.common;
    Err(Error::refused("mcp-stop", "not there yet"))
}
