//! Services of one container each, on a node that may have several.

use crate::harness::{ACT, Node, Podman};

/// A node with podman and the image [`ACT`]. `None`, and a line that says so, where there is none.
pub fn node(test: &str) -> Option<(Node, Podman)> {
    let node = Node::new();
    let podman = Podman::new(test, &node)?;
    Some((node, podman))
}

/// The definition of a service of one container, in no network, with further `lines`.
pub fn service(name: &str, lines: &str) -> String {
    format!("name = \"{name}\"\n\n[[components]]\nname = \"{name}\"\nimage = \"{ACT}\"\nnetwork = \"none\"\n{lines}")
}

/// Records what the definition says, to be started next.
pub fn deploy(node: &Node, target: &str) {
    node.mcp("mcp-pull", &[target]).expect(0);
    node.mcp("mcp-record", &["--new", "--now", target]).expect(0);
}

pub fn signal(pid: i32, number: i32) {
    // SAFETY: a plain system call.
    let sent = unsafe { libc::kill(pid, number) };
    assert_eq!(sent, 0, "kill {pid}: {}", std::io::Error::last_os_error());
}

/// Whether a process is there and no zombie.
pub fn alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}
