//! What the guests are made of.

use super::{Node, finish};
use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

/// A Nanos image and its kernel.
#[derive(Debug, Clone)]
pub struct Image {
    pub disk: String,
    pub kernel: String,
}

fn work_dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests");
        fs::create_dir_all(&dir).unwrap();
        dir
    })
}

/// The example program, static.
pub fn hello() -> PathBuf {
    static HELLO: OnceLock<PathBuf> = OnceLock::new();
    HELLO
        .get_or_init(|| {
            let path = work_dir().join("hello");
            let source = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/hello/main.rs");
            let temporary = work_dir().join(format!("hello.{}", std::process::id()));
            let status = Command::new("rustc")
                .args(["-O", "--edition", "2024", "-C", "target-feature=+crt-static", "-C", "strip=symbols"])
                .args(["--target", "x86_64-unknown-linux-gnu", "-o"])
                .arg(&temporary)
                .arg(source)
                .status()
                .unwrap();
            assert!(status.success(), "rustc of the example");
            fs::rename(temporary, &path).unwrap();
            path
        })
        .clone()
}

/// A Nanos image of the example program with `args`; `None`, and a line that says so, where there is no `ops`.
pub fn nanos(test: &str, args: &[&str]) -> Option<Image> {
    image(test, args, &[])
}

/// The same with volumes, each `(LABEL, PATH)`.
pub fn image(test: &str, args: &[&str], mounts: &[(&str, &str)]) -> Option<Image> {
    image_of(test, &hello(), args, mounts)
}

/// The same of another static program.
pub fn image_of(test: &str, program: &Path, args: &[&str], mounts: &[(&str, &str)]) -> Option<Image> {
    static IMAGES: OnceLock<Mutex<HashMap<String, Image>>> = OnceLock::new();
    let Some((ops, home)) = ops() else {
        skip(test, "no ops: install it (https://ops.city), or set MCP_TEST_OPS and MCP_TEST_OPS_HOME");
        return None;
    };
    let key = format!("{}{args:?}{mounts:?}", program.display());
    let mut images = IMAGES.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(image) = images.get(&key) {
        return Some(image.clone());
    }
    let dir = work_dir().join(format!("image-{}-{}", std::process::id(), images.len()));
    let _ = fs::remove_dir_all(&dir);
    // A home of its own for each build: two with one trample on each other.
    copy_tree(&home.join(".ops"), &dir.join(".ops"));
    fs::create_dir_all(dir.join(".ops/images")).unwrap();
    fs::write(dir.join("default.json"), "{}").unwrap();
    let copy = dir.join("hello");
    fs::copy(program, &copy).unwrap();
    let mounts: HashMap<_, _> = mounts.iter().copied().collect();
    let config = serde_json::json!({
        "Args": args, "Mounts": mounts, "ManifestPassthrough": { "debug_exit": "t" }, "BaseVolumeSz": "24m",
    });
    fs::write(dir.join("c.json"), config.to_string()).unwrap();
    let mut command = Command::new(ops);
    command
        .arg("build")
        .arg(&copy)
        .args(["-c", "c.json", "-i", "hello"])
        .current_dir(&dir)
        .env("OPS_HOME", &dir)
        .env("OPS_DEFAULT_CONFIG", dir.join("default.json"))
        .env("HTTPS_PROXY", "http://127.0.0.1:9")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let answer = finish(command, "ops build").expect(0);
    assert!(answer.out.contains("Bootable image file:"), "{answer:#?}");
    let version = fs::read_to_string(dir.join(".ops/latest.txt")).unwrap();
    let text = |p: PathBuf| p.to_str().unwrap().to_string();
    let image = Image {
        disk: text(dir.join(".ops/images/hello")),
        kernel: text(dir.join(".ops").join(version.trim()).join("kernel.img")),
    };
    images.insert(key, image.clone());
    Some(image)
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_tree(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// The real `ops`, and the folder that holds its `.ops`.
pub fn ops() -> Option<(PathBuf, PathBuf)> {
    let named = std::env::var_os("MCP_TEST_OPS").filter(|v| !v.is_empty()).map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let program = named.or_else(|| std::env::split_paths(&path).map(|d| d.join("ops")).find(|p| p.is_file()))?;
    let home = std::env::var_os("MCP_TEST_OPS_HOME").or_else(|| std::env::var_os("HOME")).map(PathBuf::from)?;
    home.join(".ops/latest.txt").is_file().then_some((program, home))
}

/// A node config that names the real `ops`. `None`, and a line that says so, where there is none.
pub fn ops_config(test: &str) -> Option<String> {
    let Some((ops, home)) = ops() else {
        skip(test, "no ops: install it (https://ops.city), or set MCP_TEST_OPS and MCP_TEST_OPS_HOME");
        return None;
    };
    Some(format!("[ops]\nbinary = \"{}\"\nhome = \"{}\"\n", ops.display(), home.display()))
}

/// The static init, where scripts/build has put it.
pub fn guest_init() -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent()?;
    let init = target.join("release/mcp-guest-init");
    init.is_file().then_some(init)
}

/// Whether microvms can be run here; puts the guest kernel into the node. Says so where not.
pub fn microvm(test: &str, node: &Node) -> bool {
    let kernel = std::env::var_os("MCP_TEST_KERNEL").map(PathBuf::from).filter(|p| p.join("modules").is_dir());
    let (Some(kernel), Some(_)) = (kernel, guest_init()) else {
        skip(test, "no guest kernel or init: set MCP_TEST_KERNEL, run scripts/build");
        return false;
    };
    let lib = node.root.join("lib");
    fs::create_dir_all(&lib).unwrap();
    std::os::unix::fs::symlink(kernel, lib.join("kernel")).unwrap();
    true
}

/// A root file system with the example program as /hello.
pub fn rootfs(node: &Node) -> String {
    let dir = node.root.join("rootfs");
    fs::create_dir_all(dir.join("etc")).unwrap();
    fs::copy(hello(), dir.join("hello")).unwrap();
    dir.to_str().unwrap().to_string()
}

/// Says loudly that a test could not be made here.
pub fn skip(test: &str, why: &str) {
    eprintln!("SKIPPED {test}: {why}");
    if let Some(path) = std::env::var_os("MCP_TEST_SKIPPED") {
        let file = OpenOptions::new().append(true).create(true).open(path);
        if let Ok(mut file) = file {
            let _ = writeln!(file, "{test}\t{why}");
        }
    }
}
