//! `mcp-run --all`: what shall run and doesn't, from the records alone.

use crate::model::load;
use crate::node::recover::{self, Recovered, Standing};
use crate::node::resolve::{self, Resolved};
use crate::sys::paths::Paths;
use crate::sys::{Result, out};
use std::path::Path;

/// Recovers the whole node; with `wait` it returns when all are ready.
pub fn run(paths: &Paths, root: Option<&Path>, wait: bool) -> Result<u8> {
    let loaded = load::load(paths).startable()?;
    let mut worst = crate::cmd::report_files(&loaded, paths, &[]);
    let declared = loaded
        .components()
        .map(|(id, service, component)| (Resolved::declared(id, service, component), service.left_alone()));
    let mut chosen: Vec<_> = declared.collect();
    chosen.extend(resolve::adhoc(paths, &loaded).into_iter().map(|found| (found, None)));
    // What is started finds the same node.
    if let Some(root) = root {
        // SAFETY: there is one thread.
        unsafe { std::env::set_var("MCP_ROOT", root) };
    }
    for ((found, _), result) in chosen.iter().zip(recover::all(paths, &loaded.node, &chosen, wait)) {
        let id = &found.id;
        match result {
            Ok(Recovered::Started) => out::print(format_args!("{id}: {}\n", if wait { "ready" } else { "started" })),
            Ok(Recovered::LeftAlone(Standing::Unwanted(why))) => out::print(format_args!("{id}: left alone: {why}\n")),
            Ok(Recovered::LeftAlone(Standing::Completed)) => out::print(format_args!("{id}: completed\n")),
            Ok(Recovered::LeftAlone(_)) => out::print(format_args!("{id}: runs already\n")),
            Err(e) => {
                crate::cmd::report(crate::cmd::program(), &e);
                worst = crate::cmd::worse(worst, e.exit_code());
            }
        }
    }
    Ok(worst)
}
