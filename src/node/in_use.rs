//! What of the image store the node needs: what records pin, and what running VMs have open.

use crate::image::build::gc::Needed;
use crate::model::state::is_alive;
use crate::model::{ComponentId, Digest};
use crate::node::inventory;
use crate::sys::paths::{Paths, Slot};
use crate::sys::{Error, Result, file};
use serde_json::Value;
use std::path::Path;

/// No record or state of ours comes near this many bytes.
const SIZE_MAX: u64 = 4 << 20;

/// What is needed. A record that can't be read is an error: what it needs can't be told.
pub fn needed(paths: &Paths) -> Result<Needed> {
    let mut needed = Needed::default();
    for id in inventory::leftovers(paths)? {
        let files = paths.component(&id.service, &id.component);
        read(paths, &files.record, &id, &mut needed)?;
        for slot in Slot::ALL {
            let instance = files.instance(slot);
            if is_alive(&instance)? {
                read(paths, &instance.state(), &id, &mut needed)?;
            }
        }
    }
    Ok(needed)
}

/// Takes all that the file at `path` names. It is read for what it holds, not for what it means, so that no version of
/// it, and no key that was added to it, is overlooked.
fn read(paths: &Paths, path: &Path, id: &ComponentId, needed: &mut Needed) -> Result<()> {
    let Some(bytes) = file::read_regular(path, SIZE_MAX)? else { return Ok(()) };
    let value: Value = serde_json::from_slice(&bytes).map_err(|e| {
        let reason = format!("damaged, so nobody can tell what {id} needs: {e}; mcp-rm {id} removes it");
        Error::refused(path.display(), reason)
    })?;
    let store = paths.store();
    collect(&value, &mut |text| {
        if let Some(digest) = text.strip_prefix("sha256:").and_then(Digest::from_hex) {
            needed.digests.insert(digest);
        } else if Digest::from_hex(text).is_some() {
            needed.keys.insert(text.to_string());
        } else {
            for dir in [store.builds(), store.images()] {
                let below = Path::new(text).strip_prefix(&dir).ok().and_then(|rest| rest.components().next());
                if let Some(key) = below.and_then(|part| part.as_os_str().to_str()) {
                    needed.keys.insert(key.to_string());
                }
            }
        }
    });
    Ok(())
}

fn collect(value: &Value, take: &mut dyn FnMut(&str)) {
    match value {
        Value::String(text) => take(text),
        Value::Array(items) => items.iter().for_each(|item| collect(item, take)),
        Value::Object(map) => map.values().for_each(|item| collect(item, take)),
        _ => {}
    }
}
