//! A container's log: rotated without losing a line.

use super::{ID, node};
use crate::harness::{find, until};
use std::path::Path;

/// The numbers of `tick N` in all files of the log, oldest first.
fn ticks(dir: &Path) -> Vec<u64> {
    let mut files = find(dir, &|name| name.starts_with("console.log."));
    files.sort();
    files.push(dir.join("console.log"));
    let text: String = files.iter().map(|f| std::fs::read_to_string(f).unwrap_or_default()).collect();
    let number = |line: &str| line.split_once(" stdout F tick ").and_then(|(_, n)| n.parse().ok());
    text.lines().filter_map(number).collect()
}

#[test]
fn rotation_loses_no_line() {
    let Some((node, _podman)) = node("rotation_loses_no_line", &["tick"], "") else { return };
    node.configure("[log]\nmax_size = \"4K\"\nkeep = 1000\n");
    node.mcp("mcp-run-container", &["--detach", ID]).expect(0);
    let dir = node.root.join("log/shop/web/c");
    let rotated = || find(&dir, &|name| name.starts_with("console.log.")).len();
    until("it was rotated three times", || rotated() >= 3);
    node.mcp("mcp-stop", &[ID]).expect(0);
    let ticks = ticks(&dir);
    assert!(ticks.len() > 200, "{}", ticks.len());
    assert!(ticks.iter().copied().eq(1..=ticks.len() as u64), "{ticks:?}");
}
