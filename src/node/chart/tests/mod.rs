//! What the views say, and that no record breaks them.
#![allow(clippy::unwrap_used)]

mod examples;

use super::{Style, svg, text};

#[test]
fn examples_can_be_looked_at() {
    for (name, record) in examples::all() {
        let (picture, table) =
            (svg(&record, "node7"), text(&record, "node7", Style { width: Some(120), colour: false }));
        if let Some(dir) = std::env::var_os("MCP_CHART_DIR") {
            let dir = std::path::Path::new(&dir);
            std::fs::write(dir.join(format!("{name}.svg")), &picture).unwrap();
            std::fs::write(dir.join(format!("{name}.txt")), &table).unwrap();
        }
        assert_eq!(picture, svg(&record, "node7"), "{name}");
    }
}
