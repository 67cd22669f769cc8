#![allow(clippy::unwrap_used)]

use super::*;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

/// A node of its own, removed with its test.
struct Root {
    dir: PathBuf,
    paths: Paths,
}

impl Root {
    fn new(name: &str) -> Root {
        let dir = std::env::temp_dir().join(format!("mcp-model-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        let paths = Paths::under(&dir);
        fs::create_dir_all(&paths.services).unwrap();
        Root { dir, paths }
    }

    fn service(&self, name: &str, extra: &str) {
        let text = format!("name = \"{name}\"\n{extra}\n[[components]]\nname = \"api\"\nimage = \"localhost/a\"\n");
        self.file(&format!("{name}.toml"), text.as_bytes());
    }

    fn with_ports(&self, name: &str, extra: &str, ports: &str) {
        self.service(name, extra);
        let path = self.paths.services.join(format!("{name}.toml"));
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, format!("{text}ports = {ports}\n")).unwrap();
    }

    fn file(&self, name: &str, bytes: &[u8]) {
        fs::write(self.paths.services.join(name), bytes).unwrap();
    }

    fn lines(&self, loaded: &Loaded) -> Vec<String> {
        let dir = format!("{}/", self.dir.display());
        loaded.problems.iter().map(|p| p.to_string().replace(&dir, "")).collect()
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

#[test]
fn one_bad_file_does_not_hide_the_others() {
    let root = Root::new("bad");
    root.service("b", "");
    root.service("a", "");
    root.service("a-2", "");
    root.file("c.toml", b"name = 1\nx = 2\n");
    root.file(".hidden.toml", b"junk");
    root.file("a.toml.bak", b"junk");
    root.file("README", b"junk");
    for name in ["SHOP.TOML", "web.Toml", "db.toml.txt", "c.tml", "b.toml~", "a.toml.dpkg-new"] {
        root.file(name, b"junk");
    }
    root.file("Odd Name.toml", b"");
    root.file("huge.toml", &vec![b'#'; 2 << 20]);
    fs::create_dir(root.paths.services.join("d.toml")).unwrap();
    nix::unistd::mkfifo(&root.paths.services.join("e.toml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::os::unix::fs::symlink("nowhere", root.paths.services.join("f.toml")).unwrap();
    std::os::unix::fs::symlink("b.toml", root.paths.services.join("g.toml")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.paths.services.join("s.toml")).unwrap();
    use std::os::unix::ffi::OsStrExt;
    let latin = root.paths.services.join(std::ffi::OsStr::from_bytes(b"z\xff.toml"));
    fs::write(latin, "").unwrap();
    let loaded = load(&root.paths);
    assert_eq!(loaded.services.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["a", "a-2", "b"]);
    assert_eq!(loaded.broken, ["c", "d", "e", "f", "g", "huge", "s"]);
    assert_eq!(
        root.lines(&loaded),
        [
            "etc/services/Odd Name.toml: the file's name is not a service's: 1 to 32 of a-z, 0-9 and inner '-', and .toml",
            "etc/services/Odd Name.toml:1: name: missing; add name = \"…\"",
            "etc/services/Odd Name.toml:1: components: missing; add a [[components]] table",
            "etc/services/c.toml:1: components: missing; add a [[components]] table",
            "etc/services/c.toml:1: name: expected a name in quotes, found the integer 1; put it in quotes",
            "etc/services/c.toml:2: x: unknown key \"x\"; known are: name, active, placement, components",
            "etc/services/d.toml: a directory, not a file",
            "etc/services/e.toml: not a regular file",
            "etc/services/f.toml: a link to nothing",
            "etc/services/g.toml:1: name: \"b\" is not the file's name; write \"g\" or rename the file",
            "etc/services/huge.toml: larger than 1048576 bytes",
            "etc/services/s.toml: not a regular file",
            "etc/services/z\u{fffd}.toml: the file's name is not UTF-8",
        ]
    );
    let notes: Vec<String> = loaded.notes.iter().map(|n| n.to_string().rsplit('/').next().unwrap().into()).collect();
    let note = |file: &str, service: &str| {
        format!("{file}: not read: the name of a definition ends in .toml; rename it to {service}.toml")
    };
    let noted = [("SHOP.TOML", "shop"), ("c.tml", "c"), ("db.toml.txt", "db"), ("web.Toml", "web")];
    assert_eq!(notes, noted.map(|(file, service)| note(file, service)));
    let find = |t: &str| find(&loaded, &Target::parse(t).unwrap());
    assert_eq!(find("a/api").unwrap()[0].0.to_string(), "a/api");
    assert_eq!(find("a").unwrap().len(), 1);
    let error = |t: &str| find(t).unwrap_err();
    assert_eq!(error("a/apj").to_string(), "a/apj: no such component; did you mean \"api\"?");
    assert_eq!(error("nope").to_string(), "nope: no such service; there are: a, a-2, b, c, d, e, f, g, huge, s");
    assert!(matches!(error("c"), Error::Definitions { problems } if problems.len() == 3));
    assert!(matches!(load_service(&root.paths, "c"), Err(Error::Definitions { problems }) if problems.len() == 3));
}

#[test]
fn one_service_is_read_alone() {
    let root = Root::new("one");
    root.service("web", "active = false");
    root.file("bad.toml", b"junk");
    let (node, service) = load_service(&root.paths, "web").unwrap();
    assert_eq!((node, service.active), (Node::default(), false));
    let error = load_service(&root.paths, "wbe").unwrap_err();
    assert_eq!(error.exit_code(), 100);
    assert!(error.to_string().ends_with("wbe.toml is not there; did you mean \"web\"?"), "{error}");
    assert!(try_service(&root.paths, "demo").unwrap().is_none());
    assert!(try_service(&root.paths, "../etc").unwrap().is_none());
    fs::write(&root.paths.config, "[qemu]\naccel = 1\n").unwrap();
    assert!(matches!(load_service(&root.paths, "web"), Err(Error::Definitions { .. })));
    fs::remove_dir_all(&root.paths.services).unwrap();
    assert_eq!(load(&root.paths).services.len(), 0);
}

#[test]
fn files_are_compared_with_each_other() {
    let root = Root::new("cross");
    root.with_ports("a", "", "[\n  \"8080:80\",\n  \"0.0.0.0:53:53/udp\"]");
    root.with_ports("b", "", "[\"0.0.0.0:8080:80\", \"127.0.0.1:53:53/udp\", \"[::1]:8080:80\"]");
    root.with_ports("c", "active = false", "[\"8080:80\"]");
    root.file("d.toml", b"junk");
    let stages = "[[boot.sequence]]\nname = \"x\"\nservices = [\"a\", \"d\", \"c\",\n  \"zzz\"]\n";
    fs::write(&root.paths.config, stages).unwrap();
    let loaded = load(&root.paths);
    let lines = root.lines(&loaded);
    assert_eq!(
        lines[lines.len() - 3..],
        [
            "etc/services/b.toml:6: components.api.ports[0]: 0.0.0.0:8080/tcp on the node is taken by a/api \
             (etc/services/a.toml:7); change one, or set one service's active = false",
            "etc/services/b.toml:6: components.api.ports[1]: 127.0.0.1:53/udp on the node is taken by a/api \
             (etc/services/a.toml:8); change one, or set one service's active = false",
            "etc/mcp.toml:4: boot.sequence[0].services[3]: no such service: etc/services/zzz.toml is not there; \
             there are: a, b, c",
        ]
    );
    assert!(matches!(loaded.whole(), Err(Error::Definitions { .. })));
}

/// The budget: 50 ms in a release build.
/// `cargo test --release --lib a_thousand_definitions -- --ignored --nocapture`
#[test]
#[ignore = "a measurement, for a release build"]
fn a_thousand_definitions() {
    let root = Root::new("thousand");
    for n in 0..1000 {
        let text = format!(
            r#"# Service {n} of many.
name   = "svc-{n}"
active = true

[[components]]
name      = "api"
runtime   = "unikernel"
image     = "registry.example:5000/svc:v1.2.{n}"
memory_mb = 256
vcpus     = 1
ports     = ["127.0.0.1:{}:8443", "{}:53/udp"]
args      = ["--verbose", "--listen", ":8443"]
env       = {{ RUST_LOG = "info", NUMBER = "{n}" }}
env_file  = "/etc/mcp/secrets/svc-{n}.env"
volumes   = ["data:/srv/data:1G"]
restart   = "on-failure"
stop_timeout  = "35s"
start_timeout = "60s"

  [components.health]
  kind     = "http"
  port     = 8443
  path     = "/healthz"
  interval = "500ms"
  timeout  = "2s"
"#,
            10_000 + n,
            20_000 + n
        );
        root.file(&format!("svc-{n}.toml"), text.as_bytes());
    }
    let mut times: Vec<u128> = (0..21)
        .map(|_| {
            let start = Instant::now();
            let loaded = load(&root.paths);
            assert_eq!((loaded.services.len(), loaded.problems.len()), (1000, 0));
            start.elapsed().as_micros()
        })
        .collect();
    times.sort_unstable();
    println!("1000 definitions: median {} us, least {} us, most {} us", times[10], times[0], times[20]);
    if !cfg!(debug_assertions) {
        assert!(times[10] < 50_000);
    }
}
