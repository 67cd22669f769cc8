//! The answer to `--installed`: whether each component of a target could start on this node from what is local.

use crate::model::Target;
use crate::node::{installed, resolve};
use crate::sys::error::{EXIT_NO, EXIT_OK, EXIT_RETRY};
use crate::sys::paths::Paths;
use crate::sys::{Error, Result};

/// Says for each that could not why, one line each; the exit code is no where one could not, and another one where that can't
/// be told now.
pub fn answer(paths: &Paths, target: &Target) -> Result<u8> {
    let (node, found) = match resolve::components(paths, target) {
        Ok(found) => found,
        Err(e) => return Ok(say(&e)),
    };
    let codes = found.iter().map(|one| installed::check(paths, &node, one).map_or_else(|e| say(&e), |()| EXIT_OK));
    let codes: Vec<u8> = codes.collect();
    let first = |code: u8| codes.contains(&code).then_some(code);
    Ok(first(EXIT_NO).or_else(|| first(EXIT_RETRY)).unwrap_or(EXIT_OK))
}

fn say(error: &Error) -> u8 {
    crate::cmd::report(crate::cmd::program(), error);
    if error.exit_code() == EXIT_RETRY { EXIT_RETRY } else { EXIT_NO }
}
