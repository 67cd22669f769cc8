//! A service: a name, its components, and whether it shall run.

use super::Component;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// One service definition, checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Desired state; false: must not run.
    pub active: bool,
    /// Its components, in the order of the file.
    pub components: Vec<Component>,
    /// The file it came from.
    pub file: PathBuf,
}
