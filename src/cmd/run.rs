//! `mcp-run`: look at the component's runtime and exec the program that runs it.

use super::Common;
use crate::sys::{Error, Result};

/// Look at the component's runtime and exec the program that runs it
#[derive(Debug, clap::Parser)]
#[command(name = "mcp-run", version)]
pub struct Args {
    #[command(flatten)]
    common: Common,
}

/// Runs the program and returns its exit code.
pub fn run(args: Args) -> Result<u8> {
    let _ = args.common;
    Err(Error::refused("mcp-run", "not there yet"))
}
