//! Containers: real podman, and a podman that misbehaves.

mod adoption;
mod console;
mod environment;
mod faults;
mod kills;
mod logs;
mod rootless;
mod running;
mod services;
mod starts;
mod status;
mod trouble;
mod volumes;

use crate::harness::{ACT, Node, Podman};

/// The one component of these tests.
const ID: &str = "shop/web";

/// A node whose component `shop/web` is a container of [`ACT`] that does `args`, deployed; `more` are further lines of its
/// definition.
fn node(test: &str, args: &[&str], more: &str) -> Option<(Node, Podman)> {
    let node = Node::new();
    let podman = Podman::new(test, &node)?;
    deploy(&node, args, more);
    Some((node, podman))
}

/// Defines `shop/web` so, and records that.
fn deploy(node: &Node, args: &[&str], more: &str) {
    define(node, args, more);
    node.mcp("mcp-record", &["--new", "--now", ID]).expect(0);
}

fn define(node: &Node, args: &[&str], more: &str) {
    let network = if more.contains("network =") { "" } else { "network = \"host\"\n" };
    let text = format!(
        "name = \"shop\"\n[[components]]\nname = \"web\"\nimage = \"{ACT}\"\nargs = {args:?}\n{network}{more}\n"
    );
    node.define("shop", &text);
}

/// SIGKILL to the supervisor; returns when it is gone.
fn kill_supervisor(node: &Node) {
    let pid = node.supervisor(ID);
    assert!(pid > 0, "no supervisor");
    // SAFETY: plain system calls.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    crate::harness::until("the supervisor is gone", || {
        !std::path::Path::new(&format!("/proc/{pid}")).exists() || is_zombie(pid)
    });
}

fn is_zombie(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'))
}
