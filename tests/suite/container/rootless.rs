//! Containers of an ordinary user: the same verbs, with podman's user namespace.

use crate::harness::podman::own_mounts;
use crate::harness::{ACT, Answer, Node, Podman, finish, free_port, get, have, program, skip, until};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

/// A user that nobody is, outside the range that QEMU's users are of; its subordinate ones begin above.
const USER: u32 = 1_800_000_000;
const PROGRAMS: [&str; 7] =
    ["mcp-run", "mcp-run-container", "mcp-record", "mcp-pull", "mcp-stop", "mcp-status", "mcp-logs"];

/// In a copy of /etc that this test alone sees, so that newuidmap finds the user and its subordinate ids.
fn make_user(node: &Node) {
    own_mounts();
    let etc = node.root.join("etc-copy");
    let copied = Command::new("cp").args(["-a", "/etc"]).arg(&etc).status().unwrap();
    assert!(copied.success());
    let home = node.root.join("home");
    for (file, line) in [
        ("passwd", format!("mcptest:x:{USER}:{USER}::{}:/bin/sh\n", home.display())),
        ("group", format!("mcptest:x:{USER}:\n")),
        ("subuid", format!("mcptest:{}:65536\n", USER + 100_000)),
        ("subgid", format!("mcptest:{}:65536\n", USER + 100_000)),
    ] {
        let old = fs::read_to_string(etc.join(file)).unwrap_or_default();
        fs::write(etc.join(file), old + &line).unwrap();
    }
    let none: Option<&str> = None;
    nix::mount::mount(Some(&etc), "/etc", none, nix::mount::MsFlags::MS_BIND, none).unwrap();
    for dir in ["home", "run-user", "bin", "etc", "etc/services", "lib", "run", "log"] {
        let dir = node.root.join(dir);
        fs::create_dir_all(&dir).unwrap();
        nix::unistd::chown(&dir, Some(USER.into()), Some(USER.into())).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
    }
    let dir = node.root.join("podman");
    nix::unistd::chown(&dir, Some(USER.into()), Some(USER.into())).unwrap();
    fs::set_permissions(&node.root, fs::Permissions::from_mode(0o755)).unwrap();
    // What is below the checkout may be out of that user's reach.
    for name in PROGRAMS {
        crate::harness::copy_to_run(program(name), node.root.join("bin").join(name));
    }
    fs::set_permissions(node.root.join("bin"), fs::Permissions::from_mode(0o755)).unwrap();
}

fn as_user(node: &Node, script: &str) -> Answer {
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={USER}"), &format!("--regid={USER}"), "--clear-groups", "--", "sh", "-c", script]);
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", node.root.join("bin").display());
    command.env_clear().env("PATH", path).env("HOME", node.root.join("home")).env("USER", "mcptest");
    command.env("XDG_RUNTIME_DIR", node.root.join("run-user")).env("MCP_ROOT", &node.root);
    command.envs(crate::harness::podman::environment(&node.root)).current_dir(&node.root);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    finish(command, &format!("as a user: {script}"))
}

#[test]
fn an_ordinary_users_container_runs_stops_and_leaves_nothing() {
    let test = "an_ordinary_users_container_runs_stops_and_leaves_nothing";
    if !["newuidmap", "setpriv"].into_iter().all(|program| have(test, program)) {
        return;
    }
    let node = Node::new();
    let Some(podman) = Podman::empty(test, &node) else { return };
    // Without fuse there is nothing better than copies.
    crate::harness::podman::configure(&node.root, "vfs");
    let context = podman.act_files();
    make_user(&node);
    let owners = "--owner=0 --group=0";
    let change = "-c 'ENTRYPOINT [\"/act\"]' -c 'CMD [\"sleep\"]'";
    let import = format!("tar -C '{}' {owners} -c . | podman import -q {change} - {ACT}", context.display());
    let imported = as_user(&node, &import);
    if imported.code != Some(0) && imported.err.contains("newuidmap") {
        skip(test, &format!("user namespaces: {}", imported.err.lines().last().unwrap_or_default()));
        return;
    }
    imported.expect(0);
    let port = free_port();
    let text = format!(
        "name = \"web\"\n[[components]]\nname = \"web\"\nimage = \"{ACT}\"\nnetwork = \"host\"\n\
         args = [\"serve\", \"127.0.0.1:{port}\"]\nstop_timeout = \"10s\"\n[components.health]\nkind = \"http\"\n\
         port = {port}\n"
    );
    node.define("web", &text);
    as_user(&node, "mcp-record --new --now web && mcp-run --detach --wait web").expect(0);
    assert_eq!(get(port, "/").as_deref(), Some("localhost/act:1\n"));
    let status = as_user(&node, "mcp-status").expect(0);
    assert!(status.out.contains("container"), "{status:#?}");
    let stopped = as_user(&node, "mcp-stop web").expect(0);
    assert!(stopped.out.starts_with("web/web: stopped: term ("), "{stopped:#?}");
    assert_eq!(as_user(&node, "mcp-logs -n all web").expect(0).out, "act: serve\nact: SIGTERM\n");
    assert_eq!(as_user(&node, "podman ps --all --quiet").expect(0).out, "");
    // The process that holds the user's namespace stays until it is asked to go; its files are of subordinate users.
    as_user(&node, "podman unshare rm -rf podman/graph podman/run && podman system migrate").expect(0);
    until("nothing of it runs", || node.processes().is_empty());
    nix::mount::umount2("/etc", nix::mount::MntFlags::MNT_DETACH).unwrap();
}
