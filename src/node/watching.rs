//! What a supervisor asks its guest.

use crate::guest::instance::{Context, Instance};
use crate::guest::watch::{Reporter, Watcher};
use crate::model::Health;

/// The health check that applies to a component on this node.
pub fn health(context: &Context<'_>) -> Option<Health> {
    context.component.effective_health(context.node.stage_health(&context.id.service))
}

/// Starts asking.
pub fn start(_: &Context<'_>, _: &Instance, _: Reporter, _: bool) -> Option<Box<dyn Watcher>> {
    None
}
