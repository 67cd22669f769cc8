//! Whether a component could start on this node from what is local, without the network: by what a start itself asks, up to
//! where it would make or take something.

use super::resolve::Resolved;
use super::{provide, start, watching};
use crate::container;
use crate::guest::launch::prepare;
use crate::model::{Node, Record, Version};
use crate::supervise::Context;
use crate::sys::paths::{Paths, Slot};
use crate::sys::{Error, Result};

/// Why `found` could not start here now; nothing is made, taken or started to know it. What passes by itself is no reason: a
/// port, memory or space that another has.
pub fn check(paths: &Paths, node: &Node, found: &Resolved) -> Result<()> {
    let id = &found.id;
    if found.adhoc && Record::read(paths, id)?.is_some_and(|record| !record.adhoc) {
        let reason = format!("no definition on this node, only the record of a deploy; put {}.toml back", id.service);
        return Err(Error::refused(id, reason));
    }
    let version = start::pick(paths, found, false)?.version;
    let base = Context { paths, id, component: &found.component, pin: None, node, copy_console: false };
    check_version(&base.of(&version), &version, true)
}

/// The same of one `version`, whose context this is. `wants_health`: it is ready when its health check succeeds.
pub fn check_version(context: &Context<'_>, version: &Version, wants_health: bool) -> Result<()> {
    let Context { paths, id, node, .. } = *context;
    context.files().instance(Slot::B).check_socket_lengths()?;
    watching::check(context, wants_health)?;
    if !provide::is_there(paths, node, version)? {
        return Err(gone(context, version));
    }
    start::check_volumes(paths, node, id, &version.spec)?;
    start::check_sizes(paths, id, &version.spec)?;
    match version.spec.is_vm() {
        true => prepare::check(context),
        false => container::prepare::check(context),
    }
}

fn gone(context: &Context<'_>, version: &Version) -> Error {
    let id = context.id;
    match (&version.pin, version.spec.is_vm()) {
        (Some(pin), false) => container::prepare::image_gone(id, &pin.build),
        _ => Error::refused(id, format!("its image is not in the store any more; mcp deploy {id}")),
    }
}
