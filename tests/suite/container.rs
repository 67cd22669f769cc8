//! Containers: real podman, and a podman that misbehaves.

mod environment;
mod run;

use crate::harness::{ACT, Node, Podman};

/// A node with podman and the image [`ACT`]. `None`, and a line that says so, where there is none.
fn node(test: &str) -> Option<(Node, Podman)> {
    let node = Node::new();
    let podman = Podman::new(test, &node)?;
    Some((node, podman))
}

/// The definition of a service of one container, in no network, with further `lines`.
fn service(name: &str, lines: &str) -> String {
    let network = if lines.contains("network") || lines.contains("ports") { "" } else { "network = \"none\"\n" };
    format!("name = \"{name}\"\n\n[[components]]\nname = \"{name}\"\nimage = \"{ACT}\"\n{network}{lines}")
}

/// Records what the definitions say, to be started next.
fn deploy(node: &Node, target: &str) {
    node.mcp("mcp-pull", &[target]).expect(0);
    node.mcp("mcp-record", &["--new", "--now", target]).expect(0);
}
