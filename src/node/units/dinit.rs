//! Files for dinit.

use super::UnitFile;
use super::plan::Plan;

/// Where they go by default.
pub const FOLDER: &str = "/etc/dinit.d";
/// What makes it know of them.
pub const NEXT: &str = "";

/// All files.
pub fn files(_plan: &Plan) -> Vec<UnitFile> {
    Vec::new()
}
