//! `mcp-build --gc`: room in the store.

use crate::container::podman::Podman;
use crate::image::build::gc::{self, KEPT, Thing};
use crate::image::store::Store;
use crate::model::Node;
use crate::node::{container_image, in_use};
use crate::sys::error::EXIT_OK;
use crate::sys::paths::Paths;
use crate::sys::{Error, Result, out, time};
use serde_json::{Value, json};

/// The version of the JSON object.
const SCHEMA: u32 = 1;

/// Removes what nobody needs, or tells what that is; a line a thing, the longest unused first.
pub fn run(paths: &Paths, node: &Node, dry: bool, as_json: bool) -> Result<u8> {
    // Where only told is what would be done, nothing is: not even what a killed process left is cleared.
    let store = if dry { Store::look(paths) } else { Store::open(paths)? };
    let needed = in_use::needed(paths)?;
    if !dry && let Err(e) = container_image::clean(paths, &|| Podman::find(node)) {
        log::warn!("{e}");
    }
    let report = gc::gc(&store, &needed, node.store_max_size, KEPT, dry)?;
    let freed: u64 = report.gone.iter().map(|thing| thing.bytes).sum();
    if as_json {
        let thing = |t: &Thing| json!({ "kind": t.what.name(), "name": t.name, "bytes": t.bytes, "used": time::rfc3339(t.used) });
        let gone: Vec<Value> = report.gone.iter().map(thing).collect();
        let told = json!({ "schema": SCHEMA, "dry_run": dry, "gone": gone, "freed": freed, "left": report.left });
        out::print(format_args!("{told}\n"));
    } else {
        for thing in &report.gone {
            out::print(format_args!("{} {} {}\n", thing.what.name(), thing.name, thing.bytes));
        }
    }
    let (would, left) = (if dry { "would free" } else { "freed" }, megabytes(report.left));
    let mut told = format!("{would} {}, {left} stay", megabytes(freed));
    if let Some(most) = node.store_max_size.filter(|most| report.left > *most) {
        told += &format!(", more than max_size ({}): all of it is needed, or was used just now", megabytes(most));
    }
    super::super::report(super::super::program(), &Error::no(store.paths().root.display(), told));
    Ok(EXIT_OK)
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
