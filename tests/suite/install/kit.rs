//! Programs to install, as scripts/build leaves them, and places to install them in.

use crate::harness::{Answer, finish, guest_init, skip};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

static COUNT: AtomicU32 = AtomicU32::new(0);

pub fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn executable(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A folder of built programs; it goes with this.
pub struct Kit {
    pub dir: PathBuf,
}

impl Kit {
    fn new() -> Kit {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("kit-{}-{number}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        for name in ["mcp", "mcp-deploy", "grpc_health_probe"] {
            crate::harness::copy_to_run(source("scripts").join(name), dir.join(name));
        }
        Kit { dir }
    }

    pub fn names() -> Vec<String> {
        let sources = fs::read_dir(source("src/bin")).unwrap().flatten();
        sources.map(|e| e.path().file_stem().unwrap().to_str().unwrap().to_string()).collect()
    }

    /// Programs that do nothing, each marked as of `build`: for what only installs.
    pub fn of_scripts(build: &str) -> Kit {
        let kit = Kit::new();
        for name in Kit::names() {
            executable(
                &kit.dir.join(&name),
                format!("#!/bin/sh\n# {build}\n[ \"$1\" != --version ] || echo {name} 0.1.0\n").as_bytes(),
            );
        }
        kit
    }

    /// The real ones, without what a debugger wants. `None`, and a line that says so, where a part is missing.
    pub fn of_programs(test: &str) -> Option<Kit> {
        let Some(init) = guest_init() else {
            skip(test, "no guest init: run scripts/build --guest");
            return None;
        };
        if !Command::new("strip").arg("--version").output().is_ok_and(|a| a.status.success()) {
            skip(test, "no strip: install binutils");
            return None;
        }
        // Once for each build: what is older than the program is made anew.
        static ONE: Mutex<()> = Mutex::new(());
        let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let stripped = Path::new(env!("CARGO_TARGET_TMPDIR")).join("stripped");
        fs::create_dir_all(&stripped).unwrap();
        let built = Path::new(env!("CARGO_BIN_EXE_mcp-status")).parent().unwrap();
        for name in Kit::names() {
            let from = if name == "mcp-guest-init" { init.clone() } else { built.join(&name) };
            let (to, half) = (stripped.join(&name), stripped.join(format!("{name}.{}", std::process::id())));
            let age = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).ok();
            if age(&to) <= age(&from) {
                let status = Command::new("strip").arg("-o").arg(&half).arg(from).status().unwrap();
                assert!(status.success(), "strip {name}");
                fs::rename(half, to).unwrap();
            }
        }
        let kit = Kit::new();
        for name in Kit::names() {
            fs::hard_link(stripped.join(&name), kit.dir.join(&name)).unwrap();
        }
        Some(kit)
    }

    /// Two of the real ones, one of them a guest's, and scripts for the others.
    pub fn of_few(test: &str) -> Option<Kit> {
        let (real, kit) = (Kit::of_programs(test)?, Kit::of_scripts("a"));
        for name in ["mcp-units", "mcp-guest-init"] {
            fs::rename(real.dir.join(name), kit.dir.join(name)).unwrap();
        }
        Some(kit)
    }

    /// The same programs, built anew: other files with other bytes.
    pub fn rebuilt(&self) -> Kit {
        let kit = Kit::new();
        for name in Kit::names() {
            let mut bytes = fs::read(self.dir.join(&name)).unwrap();
            bytes.extend(b"\n# again\n");
            executable(&kit.dir.join(&name), &bytes);
        }
        kit
    }
}

impl Drop for Kit {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A folder to install into; it goes with this.
pub struct Place {
    pub dir: PathBuf,
}

impl Place {
    pub fn new() -> Place {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("mcp-place-{}-{number}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Place { dir }
    }

    /// One of scripts/, not started yet, with nothing of our environment.
    pub fn command(&self, name: &str, args: &[&str]) -> Command {
        let mut command = Command::new(source("scripts").join(name));
        command
            .args(args)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("MCP_ROOT", self.dir.join("node"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// scripts/install into the folder `name` of this, in a mount namespace where `before` was done to it.
    pub fn mounted(&self, kit: &Kit, before: &str, name: &str) -> Answer {
        let dir = self.dir.join(name);
        fs::create_dir_all(&dir).unwrap();
        let before = before.replace("$1", dir.to_str().unwrap());
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", &format!("{before} && \"$@\""), "x"]);
        command.arg(source("scripts/install")).args(["--from", kit.dir.to_str().unwrap(), "--prefix"]).arg(dir);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        finish(command, name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Runs one of scripts/ to its end.
pub fn script(name: &str, place: &Place, args: &[&str]) -> Answer {
    finish(place.command(name, args), &format!("scripts/{name} {}", args.join(" ")))
}

/// All files below `dir`, in order.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = crate::harness::find(dir, &|_| true);
    found.sort();
    found
}
