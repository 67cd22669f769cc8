//! OCI images, made here out of files and of Debian's packages; and what podman makes of an image, to compare with.
//!
//! `MCP_TEST_PARTS` names the folder that scripts/lib/get-test-parts laid down (default: `test-parts` in the target
//! folder): without it the images of Debian's packages are skipped.

use super::{Node, finish, hello, skip};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// An image in a directory of the OCI layout.
#[derive(Debug, Clone)]
pub struct OciImage {
    /// The directory.
    pub dir: PathBuf,
    /// Its tag there.
    pub tag: String,
    /// Digest of the manifest, `sha256:…`.
    pub manifest: String,
    /// Digest of the config.
    pub config: String,
    /// The layers, the base first.
    pub layers: Vec<OciLayer>,
}

/// One of its layers.
#[derive(Debug, Clone)]
pub struct OciLayer {
    pub digest: String,
    pub size: u64,
    pub diff_id: String,
}

impl OciImage {
    /// As `mcp-pull` and `skopeo` name it.
    pub fn reference(&self) -> String {
        format!("oci:{}:{}", self.dir.display(), self.tag)
    }

    /// The file of a blob, which a test may damage.
    pub fn blob(&self, digest: &str) -> PathBuf {
        self.dir.join("blobs/sha256").join(digest.trim_start_matches("sha256:"))
    }
}

/// Makes `TAG` in `DIR` out of layers, each a tar file, a folder, `FILE=/PATH/IN/THE/IMAGE` or `filler:MB[:SEED]`.
/// `config` has Entrypoint, Cmd, Env and so on, as OCI writes them.
#[track_caller]
pub fn oci_image<L: AsRef<OsStr>>(dir: &Path, tag: &str, config: &Value, layers: &[L]) -> OciImage {
    let mut command = Command::new(script("make-image"));
    command.args(["--tag", tag, "--config", &config.to_string(), "--cache"]).arg(tests_dir("layers"));
    command.arg(dir).args(layers);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let made: Value = serde_json::from_str(&finish(command, "make-image").expect(0).out).unwrap();
    let text = |v: &Value| v.as_str().unwrap().to_string();
    let layer = |v: &Value| OciLayer {
        digest: text(&v["digest"]),
        size: v["size"].as_u64().unwrap(),
        diff_id: text(&v["diff_id"]),
    };
    OciImage {
        dir: dir.into(),
        tag: tag.into(),
        manifest: text(&made["manifest"]["digest"]),
        config: text(&made["config"]["digest"]),
        layers: made["layers"].as_array().unwrap().iter().map(layer).collect(),
    }
}

/// The example program alone, as `/hello`, on port 8080.
pub fn hello_image(node: &Node) -> OciImage {
    let program = format!("{}=/hello", hello().display());
    oci_image(&node.root.join("oci-hello"), "latest", &hello_config(), &[program])
}

/// The example program over a base of `megabytes` (unpacked) that it needs nothing of.
pub fn hello_over_base(node: &Node, megabytes: u32) -> OciImage {
    let layers = [format!("filler:{megabytes}"), format!("{}=/hello", hello().display())];
    oci_image(&node.root.join("oci-over"), "latest", &hello_config(), &layers)
}

fn hello_config() -> Value {
    json!({ "Entrypoint": ["/hello"], "Cmd": ["--port", "8080"], "ExposedPorts": { "8080/tcp": {} } })
}

/// An image of a small Debian with a package of the test parts over it: `base` (which is that alone), `redis`, `caddy`
/// or `nginx`. `None`, and a line that says so, where there are none.
pub fn debian_image(test: &str, node: &Node, name: &str, config: &Value) -> Option<OciImage> {
    let parts = test_parts(test)?;
    let mut layers = vec![parts.join("base.tar")];
    if name != "base" {
        layers.push(parts.join(format!("{name}.tar")));
    }
    Some(oci_image(&node.root.join(format!("oci-{name}")), "latest", config, &layers))
}

/// redis as an operator would run it in a guest.
pub fn redis_image(test: &str, node: &Node) -> Option<OciImage> {
    let cmd = ["--bind", "0.0.0.0", "--protected-mode", "no", "--save", ""];
    let config = json!({ "Entrypoint": ["redis-server"], "Cmd": cmd, "Env": [PATH], "WorkingDir": "/",
        "ExposedPorts": { "6379/tcp": {} } });
    debian_image(test, node, "redis", &config)
}

/// caddy, which answers every request with `hi` on port 8080. Static, from Go.
pub fn caddy_image(test: &str, node: &Node) -> Option<OciImage> {
    let config = json!({ "Cmd": ["caddy", "respond", "--listen", ":8080", "hi"], "Env": [PATH],
        "ExposedPorts": { "8080/tcp": {} } });
    debian_image(test, node, "caddy", &config)
}

/// nginx, which forks its workers, on port 8080.
pub fn nginx_image(test: &str, node: &Node) -> Option<OciImage> {
    let parts = test_parts(test)?;
    let top = node.root.join("nginx-top");
    for dir in ["etc/nginx", "srv/www", "run", "var/log/nginx", "var/lib/nginx"] {
        fs::create_dir_all(top.join(dir)).unwrap();
    }
    fs::write(top.join("srv/www/index.html"), "served by nginx\n").unwrap();
    // A master and two workers: what a unikernel can't have.
    let conf = "daemon off; worker_processes 2; user www-data; pid /run/nginx.pid; error_log stderr;\n\
        events {}\nhttp { access_log off; server { listen 8080; root /srv/www; } }\n";
    fs::write(top.join("etc/nginx/mini.conf"), conf).unwrap();
    let config = json!({ "Entrypoint": ["/usr/sbin/nginx", "-c", "/etc/nginx/mini.conf"],
        "ExposedPorts": { "8080/tcp": {} } });
    let layers = [parts.join("base.tar"), parts.join("nginx.tar"), top];
    Some(oci_image(&node.root.join("oci-nginx"), "latest", &config, &layers))
}

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The folder of test parts: `base.tar`, `redis.tar`, `caddy.tar`, `nginx.tar`, each the tar of a layer.
pub fn test_parts(test: &str) -> Option<PathBuf> {
    let named = std::env::var_os("MCP_TEST_PARTS").filter(|v| !v.is_empty()).map(PathBuf::from);
    let dir = named.or_else(|| Some(Path::new(env!("CARGO_TARGET_TMPDIR")).parent()?.join("test-parts")))?;
    if dir.join("version").is_file() {
        return Some(dir);
    }
    skip(
        test,
        "no parts of Debian's packages: set MCP_TEST_PARTS, or run scripts/lib/get-test-parts TARGET/test-parts",
    );
    None
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/lib").join(name)
}

/// A folder that all tests share, of this and of later runs.
fn tests_dir(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// Whether a program is there that a test can't be made without. Says so where not.
pub fn have(test: &str, program: &str) -> bool {
    let found = which(program).is_some();
    if !found {
        skip(test, &format!("no {program}"));
    }
    found
}

/// Where `program` is on PATH.
pub fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|path| path.is_file())
}

/// Copies an image with skopeo, with its options for both sides: `oci:…`, `docker://…`, `docker-archive:…`.
#[track_caller]
pub fn skopeo_copy(options: &[&str], from: &str, to: &str) {
    let mut command = Command::new("skopeo");
    command.args(["--insecure-policy", "copy", "--quiet"]).args(options).args([from, to]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    finish(command, &format!("skopeo copy {from} {to}")).expect(0);
}

/// The same image with zstd layers, in a directory of its own.
pub fn zstd_copy(node: &Node, image: &OciImage) -> String {
    let to = format!("oci:{}:zstd", node.root.join("oci-zstd").display());
    skopeo_copy(&["--dest-compress-format", "zstd", "--dest-compress-level", "3"], &image.reference(), &to);
    to
}

/// podman with a storage of its own in the node's folder: all of `commands` in one shell, where `$podman` is podman.
/// Its storage goes with the node. For root alone.
pub fn podman(test: &str, node: &Node, commands: &str) -> Option<String> {
    if !have(test, "podman") {
        return None;
    }
    if !nix::unistd::geteuid().is_root() {
        skip(test, "podman as an ordinary user wants subordinate ids");
        return None;
    }
    let dir = node.root.join("podman");
    // In a mount namespace, so that no mount of it is left behind. crun wants cgroups of one kind.
    let script = format!(
        "mount --make-rprivate /; umount /sys/fs/cgroup/unified 2>/dev/null; cd {0}; set -e\n\
         podman='podman --root {0}/storage --runroot {0}/run --tmpdir {0}/tmp --storage-driver overlay'\n{commands}",
        dir.display()
    );
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &script]).env("CONTAINERS_CONF", dir.join("containers.conf"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Some(finish(command, "podman").expect(0).out)
}

/// What podman makes of an image: the tar of its merged files. The judge of our own.
pub fn podman_export(test: &str, node: &Node, reference: &str) -> Option<PathBuf> {
    let tar = node.root.join("podman-export.tar");
    let commands = format!(
        "id=$($podman pull -q --signature-policy ./policy.json {reference}); c=$($podman create $id /x)\n\
         $podman export -o {} $c; $podman rm -f $c >/dev/null; $podman rmi -f $id >/dev/null",
        tar.display()
    );
    podman(test, node, &commands)?;
    Some(tar)
}
