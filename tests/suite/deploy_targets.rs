//! `mcp-deploy`: which services it works on, what it says before it does, and a definition that `--from` installs.

use crate::harness::{Answer, Image, Node, finish, free_port, nanos, program};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

fn command(node: &Node, args: &[&str]) -> Command {
    let bin = program("mcp-run").parent().unwrap().display().to_string();
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/mcp-deploy"));
    command.args(args).env("PATH", format!("{bin}:{}", std::env::var("PATH").unwrap_or_default()));
    command.env("MCP_ROOT", &node.root).env_remove("MCP_LOG").env_remove("NOTIFY_SOCKET");
    command.envs(crate::harness::podman::environment(&node.root));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub(crate) fn deploy(node: &Node, args: &[&str]) -> Answer {
    finish(command(node, args), &format!("mcp-deploy {args:?}"))
}

/// The definition of a Nanos VM; `head` goes to the service, `more` to the component.
fn text(name: &str, image: &Image, port: u16, head: &str, more: &str) -> String {
    format!(
        "name = \"{name}\"\n{head}\n[[components]]\nname = \"vm\"\nruntime = \"unikernel\"\ndisk = \"{}\"\n\
         kernel = \"{}\"\nmemory_mb = 128\nports = [\"127.0.0.1:{port}:8080\"]\nstop_timeout = \"5s\"\n{more}\n",
        image.disk, image.kernel
    )
}

fn define(node: &Node, image: &Image, name: &str, head: &str) {
    node.define(name, &text(name, image, free_port(), head, "egress = \"none\""));
}

#[test]
fn deploy_all_is_of_what_is_active_and_defined() {
    let Some(image) = nanos("deploy_all", &["--graceful"]) else { return };
    let node = Node::new();
    define(&node, &image, "shop", "");
    define(&node, &image, "idle", "active = false");
    define(&node, &image, "far", "placement = \"cluster\"");
    let adhoc = ["--detach", "--name", "demo", "--disk", &image.disk, "--kernel", &image.kernel, "--memory", "128"];
    node.mcp("mcp-run-vm", &adhoc).expect(0);
    let answer = deploy(&node, &["--all"]).expect(0);
    assert_eq!(answer.err.lines().filter(|l| l.contains("idle: skipped: ")).count(), 1, "{answer:#?}");
    assert!(answer.out.contains("far/vm: recorded; placed by the cluster"), "{answer:#?}");
    assert!(!answer.out.contains("demo"), "{answer:#?}");
    let running = node.mcp("mcp-status", &["--list", "--state", "running", "--state", "starting"]);
    assert_eq!(running.out, "demo/demo\nshop/vm\n", "{running:#?}");
    node.mcp("mcp-status", &[]).expect(0);
    // A bad definition is its own service's trouble, and no success.
    node.define("bad", "name = [\n");
    let answer = deploy(&node, &["--all"]).expect(1);
    assert!(answer.err.contains("bad.toml:1") && answer.out.contains("shop/vm: runs already"), "{answer:#?}");
    node.mcp("mcp-stop", &["--all"]);
}

#[test]
fn deploy_of_what_is_inactive_is_refused() {
    let Some(image) = nanos("deploy_of_what_is_inactive", &["--graceful"]) else { return };
    let node = Node::new();
    define(&node, &image, "idle", "active = false");
    for args in [&["idle"][..], &["--dry-run", "idle"]] {
        let answer = deploy(&node, args).expect(100);
        assert!(answer.err.contains("so it must not run; set active = true, or use --record-only"), "{answer:#?}");
    }
    let file = node.root.join("idle.toml");
    let installed = node.root.join("etc/services/idle.toml");
    fs::rename(&installed, &file).unwrap();
    deploy(&node, &["--from", file.to_str().unwrap()]).expect(100);
    assert!(!installed.exists());
    deploy(&node, &["--record-only", "--from", file.to_str().unwrap()]).expect(0);
    assert_eq!(node.processes(), Vec::<String>::new());
    node.mcp("mcp-record", &["idle"]).expect(0);
    // Nothing is left to do, which is no mistake.
    let answer = deploy(&node, &["--all"]).expect(0);
    assert_eq!(answer.out, "", "{answer:#?}");
}

#[test]
fn deploy_names_who_listens_in_a_guests_reach() {
    let Some(image) = nanos("deploy_names_who_listens", &["--graceful"]) else { return };
    let node = Node::new();
    let listeners: Vec<TcpListener> = (0..20).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let port = free_port();
    let note = |answer: &Answer| {
        let lines: Vec<&str> = answer.err.lines().filter(|l| l.contains("10.0.2.2")).collect();
        assert!(lines.len() < 2, "{answer:#?}");
        lines.first().map(|l| l.to_string())
    };
    node.define("shop", &text("shop", &image, port, "", "egress = \"all\""));
    for _ in 0..2 {
        let told = note(&deploy(&node, &["shop"]).expect(0)).unwrap();
        assert!(
            told.contains("shop: guests (vm) reach this node's loopback as 10.0.2.2, where others listen: "),
            "{told}"
        );
        assert!(told.contains(" more; egress = \"none\" closes that") && told.len() < 400, "{told}");
        assert!(!told.contains(&format!(" {port} ")), "its own port: {told}");
    }
    assert_eq!(note(&deploy(&node, &["--quiet", "shop"]).expect(0)), None);
    // The new definition decides, not what is recorded of the version before; nor is a container's matter.
    node.define("shop", &text("shop", &image, port, "", "egress = \"none\""));
    assert_eq!(note(&deploy(&node, &["shop"]).expect(0)), None);
    drop(listeners);
    node.mcp("mcp-stop", &["--all"]).expect(0);
}

/// Programs that kill the whole process group of a deploy when the N-th of them is called.
fn killers(node: &Node) -> PathBuf {
    let folder = node.root.join("killers");
    fs::create_dir(&folder).unwrap();
    for name in ["cp", "sync", "mv", "rm", "mcp-pull", "mcp-build", "mcp-record", "mcp-run", "mcp-status"] {
        let script = format!(
            "#!/bin/sh\nPATH=${{PATH#*:}}\necho >>$COUNT\n[ $(wc -l <$COUNT) != $KILL_AT ] || kill -KILL 0\nexec {name} \"$@\"\n"
        );
        fs::write(folder.join("script"), script).unwrap();
        fs::set_permissions(folder.join("script"), fs::Permissions::from_mode(0o755)).unwrap();
        crate::harness::copy_to_run(folder.join("script"), folder.join(name));
    }
    folder
}

/// Kills `mcp-deploy ARGS` when it calls its `number`-th program; false when it had ended before.
fn killed_at(node: &Node, args: &[&str], number: usize) -> bool {
    let count = node.root.join("count");
    let _ = fs::remove_file(&count);
    let mut command = command(node, args);
    let path = command.get_envs().find(|(name, _)| *name == "PATH").unwrap().1.unwrap().to_str().unwrap().to_string();
    command.env("PATH", format!("{}:{path}", node.root.join("killers").display())).process_group(0);
    command.env("COUNT", &count).env("KILL_AT", number.to_string());
    // A temporary directory stays.
    command.env("TMPDIR", &node.root);
    finish(command, "mcp-deploy, killed").code == Some(128 + libc::SIGKILL)
}

#[test]
fn deploy_from_a_file_killed_at_any_point_loses_no_definition() {
    let Some(image) = nanos("deploy_from_a_file_killed", &["--graceful"]) else { return };
    let node = Node::new();
    let port = free_port();
    let old = text("shop", &image, port, "", "");
    // They fail at once, after they were installed.
    let no_disk = Image { disk: "/no/such.img".into(), ..image };
    let (bad, worse) = (text("shop", &no_disk, port, "", ""), text("shop", &no_disk, port, "", "vcpus = 2"));
    let (file, file_of_worse) = (node.root.join("shop.toml"), node.root.join("worse.toml"));
    fs::write(&file, &bad).unwrap();
    fs::write(&file_of_worse, &worse).unwrap();
    let (from, from_worse) = (["--from", file.to_str().unwrap()], ["--from", file_of_worse.to_str().unwrap()]);
    node.define("shop", &old);
    deploy(&node, &["shop"]).expect(0);
    let definition = || fs::read_to_string(node.root.join("etc/services/shop.toml")).unwrap();
    killers(&node);
    let mut number = 1;
    let mut installed = 0;
    while killed_at(&node, &from, number) {
        let found = definition();
        assert!(found == old || found == bad, "{number}: {found}");
        installed += usize::from(found == bad);
        match number % 3 {
            // It goes on, fails, and goes back; or finds that there is nothing to do.
            0 => assert_eq!(deploy(&node, &["shop"]).code, Some(if found == bad { 100 } else { 0 }), "{number}"),
            // Another one, which is killed as well, and one after it.
            1 => {
                killed_at(&node, &from_worse, number);
                assert!([&old, &bad, &worse].contains(&&definition()), "{number}");
                drop(deploy(&node, &from).expect(100));
            }
            _ => drop(deploy(&node, &from_worse).expect(100)),
        }
        assert_eq!(definition(), old, "{number}");
        number += 1;
    }
    assert!(installed > 3, "killed {number} times, after the definition was installed {installed} times");
    let left: Vec<_> = fs::read_dir(node.root.join("etc/services")).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, ["shop.toml"]);
    node.mcp("mcp-status", &[]).expect(0);
    // What somebody has changed since is left alone.
    assert!(killed_at(&node, &from, number - 3));
    node.define("shop", &worse);
    deploy(&node, &["shop"]).expect(100);
    assert_eq!(definition(), worse);
    node.mcp("mcp-stop", &["--all"]).expect(0);
}
