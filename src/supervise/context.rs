//! What a component is run with.

use crate::model::{Component, ComponentId, Node, Pin, Source, Version, record};
use crate::sys::paths::{ComponentPaths, Paths};
use std::path::PathBuf;

/// What one component is run with.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Where everything lives.
    pub paths: &'a Paths,
    /// Its full name.
    pub id: &'a ComponentId,
    /// Its specification.
    pub component: &'a Component,
    /// The build that it runs, where its specification names an image.
    pub pin: Option<&'a Pin>,
    /// The node config.
    pub node: &'a Node,
    /// Whether the console is copied to standard output.
    pub copy_console: bool,
}

impl<'a> Context<'a> {
    /// The component's paths.
    pub fn files(&self) -> ComponentPaths {
        self.paths.component(&self.id.service, &self.id.component)
    }

    /// The directory of the build that it runs; `None` where it runs none, or none was deployed.
    pub fn build(&self) -> Option<PathBuf> {
        match &self.component.source {
            Source::Built { built } => Some(built.clone()),
            Source::Image { .. } => self.pin.map(|pin| self.paths.store().build(&pin.build)),
            _ => None,
        }
    }

    /// Digest of all that decides what runs: what a state says it was started from.
    pub fn digest(&self) -> String {
        record::digest(self.component, self.pin)
    }

    /// The context of `version` on the same node.
    pub fn of(&self, version: &'a Version) -> Context<'a> {
        Context { component: &version.spec, pin: version.pin.as_ref(), ..*self }
    }
}
