//! A service: a name, its components, and whether it shall run.

use super::Component;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Who decides on which node a service runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Placement {
    /// This node: whatever is defined here runs here.
    #[default]
    Node,
    /// A cluster manager, which starts it on one of its nodes: nothing on a node does so by itself.
    Cluster,
}

impl Placement {
    /// Its name in definitions.
    pub fn name(self) -> &'static str {
        match self {
            Placement::Node => "node",
            Placement::Cluster => "cluster",
        }
    }
}

/// Why nothing on a node starts by itself what the cluster places.
pub const PLACED: &str = "placed by the cluster";

/// One service definition, checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Desired state; false: must not run.
    pub active: bool,
    /// Who decides where it runs.
    #[serde(default)]
    pub placement: Placement,
    /// Its components, in the order of the file.
    pub components: Vec<Component>,
    /// The file it came from.
    pub file: PathBuf,
}

impl Service {
    /// Why a node leaves it alone when it comes up; `None`: it brings it up.
    pub fn left_alone(&self) -> Option<&'static str> {
        match self.placement {
            _ if !self.active => Some("its definition is not active"),
            Placement::Cluster => Some(PLACED),
            Placement::Node => None,
        }
    }
}
