//! Where examples run: a node, and around it a machine that is only there for this test.

use crate::harness::podman::own_mounts;
use crate::harness::{Answer, Node, finish, guest_init, in_own_network, skip};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folders of the machine that an example may write to.
const OWN: [&str; 3] = ["/etc", "/var", "/srv"];
/// Where a node keeps its files when nothing else is said, and where this one has them.
const USUAL: [(&str, &str); 4] =
    [("/etc/mcp", "etc"), ("/var/lib/mcp", "lib"), ("/run/mcp", "run"), ("/var/log/mcp", "log")];

/// A node whose files also stand where an installed one has them.
pub struct Place {
    /// The node; MCP_ROOT names its folder.
    pub node: Node,
    mounted: Vec<PathBuf>,
}

/// Runs `test` in a place of its own. Not at all, and a line that says so, where this is not root.
pub fn in_place(name: &str, test: impl FnOnce(&mut Place) + Send) {
    if !nix::unistd::geteuid().is_root() {
        return skip(name, "a network and folders of its own want root");
    }
    in_own_network(|| {
        own_mounts();
        test(&mut Place::new());
    });
}

impl Place {
    fn new() -> Place {
        let mut place = Place { node: Node::new(), mounted: Vec::new() };
        let root = place.node.root.clone();
        let none: Option<&str> = None;
        let layers = root.join("layers");
        place.mount(Some("tmpfs"), &layers, Some("tmpfs"), MsFlags::empty(), none);
        for dir in OWN {
            place.cover(dir);
        }
        place.mount(Some("tmpfs"), Path::new("/run"), Some("tmpfs"), MsFlags::MS_NOSUID, Some("mode=755"));
        for (usual, ours) in USUAL {
            let ours = root.join(ours);
            fs::create_dir_all(&ours).unwrap();
            fs::set_permissions(&ours, fs::Permissions::from_mode(0o700)).unwrap();
            place.mount(Some(ours.to_str().unwrap()), Path::new(usual), none, MsFlags::MS_BIND, none);
        }
        fs::create_dir_all("/etc/mcp/services").unwrap();
        fs::write("/etc/hosts", "127.0.0.1 localhost registry.example api.example\n").unwrap();
        let bin = root.join("bin");
        fs::create_dir_all(&bin).unwrap();
        fs::create_dir_all(place.work()).unwrap();
        let built = Path::new(env!("CARGO_BIN_EXE_mcp-status")).parent().unwrap();
        for entry in fs::read_dir(built).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            let is_made_elsewhere = ["mcp-deploy", "mcp-guest-init"].contains(&name.as_str());
            if name.starts_with("mcp-") && !name.contains('.') && !is_made_elsewhere {
                symlink(entry.path(), bin.join(name)).unwrap();
            }
        }
        if let Some(init) = guest_init() {
            symlink(init, bin.join("mcp-guest-init")).unwrap();
        }
        let script = |path: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(path);
        for (name, path) in [
            ("mcp", "mcp"),
            ("mcp-deploy", "mcp-deploy"),
            ("mcp-get-guest-kernel", "get-guest-kernel"),
            ("mcp-probe", "cron/mcp-probe"),
        ] {
            symlink(script(path), bin.join(name)).unwrap();
        }
        place
    }

    fn mount(&mut self, what: Option<&str>, to: &Path, kind: Option<&str>, flags: MsFlags, options: Option<&str>) {
        fs::create_dir_all(to).unwrap();
        mount(what, to, kind, flags, options).unwrap_or_else(|e| panic!("mount {}: {e}", to.display()));
        self.mounted.push(to.into());
    }

    /// From now on what is written below `dir` stays in this place.
    pub fn cover(&mut self, dir: &str) {
        let layers = self.node.root.join("layers");
        let at = |kind: &str| {
            let path = layers.join(kind).join(&dir[1..]);
            fs::create_dir_all(&path).unwrap();
            path.display().to_string()
        };
        let options = format!("lowerdir={dir},upperdir={},workdir={}", at("upper"), at("work"));
        self.mount(Some("overlay"), Path::new(dir), Some("overlay"), MsFlags::empty(), Some(&options));
    }

    /// The folder that examples run in.
    pub fn work(&self) -> PathBuf {
        self.node.root.join("work")
    }

    /// The folder of the programs, first on PATH: for a program that stands in for another.
    pub fn bin(&self) -> PathBuf {
        self.node.root.join("bin")
    }

    /// A shell with these lines, not started yet.
    pub fn sh(&self, lines: &str) -> Command {
        let command = self.node.command("mcp-status", &[]);
        let mut sh = Command::new("/bin/sh");
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => sh.env(name, value),
                None => sh.env_remove(name),
            };
        }
        let path = std::env::var("PATH").unwrap_or_default();
        sh.env("PATH", format!("{}:{path}", self.bin().display())).env("HOME", self.work());
        sh.args(["-c", lines]).current_dir(self.work());
        sh.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        sh
    }

    /// Runs lines of shell that have to succeed.
    #[track_caller]
    pub fn shell(&self, lines: &str) -> Answer {
        finish(self.sh(&format!("set -e\n{lines}")), lines).expect(0)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What still runs is ended while the paths are still those that it was started with.
        let _ = self.node.mcp("mcp-stop", &["--all"]);
        while let Some(path) = self.mounted.pop() {
            let _ = umount2(&path, MntFlags::MNT_DETACH);
        }
    }
}
