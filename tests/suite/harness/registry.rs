//! A real registry server on loopback: Debian's docker-registry, with its storage in the node's folder, gone with it.

use super::{Node, finish, free_port, have, skopeo_copy, until};
use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// How it is to be reached.
#[derive(Debug, Clone, Copy, Default)]
pub struct Door<'a> {
    /// Name and password that it asks for (htpasswd).
    pub password: Option<(&'a str, &'a str)>,
    /// TLS with a certificate of a CA of its own, for 127.0.0.1 and localhost.
    pub tls: bool,
    /// That certificate is its own CA (`openssl req -x509`), and is `ca()`.
    pub self_signed: bool,
    /// It wants a client certificate of its CA: `client()`.
    pub wants_certificate: bool,
}

/// A registry that runs.
pub struct Registry {
    child: Child,
    dir: PathBuf,
    config: PathBuf,
    pub port: u16,
    tls: bool,
    password: Option<(String, String)>,
}

impl Registry {
    /// Plain HTTP, for everybody. `None`, and a line that says so, where it can't be had.
    pub fn start(test: &str, node: &Node) -> Option<Registry> {
        Registry::with(test, node, Door::default())
    }

    /// With a door.
    pub fn with(test: &str, node: &Node, door: Door) -> Option<Registry> {
        Registry::at(test, node, door, free_port())
    }

    /// The same on this port.
    pub fn at(test: &str, node: &Node, door: Door, port: u16) -> Option<Registry> {
        let mut wanted = vec!["docker-registry", "skopeo"];
        wanted.extend(door.password.map(|_| "htpasswd"));
        wanted.extend(door.tls.then_some("openssl"));
        if !wanted.into_iter().all(|program| have(test, program)) {
            return None;
        }
        let dir = node.root.join(format!("registry-{port}"));
        fs::create_dir_all(dir.join("storage")).unwrap();
        let mut config = format!(
            "version: 0.1\nlog: {{level: warn}}\n\
             storage: {{filesystem: {{rootdirectory: {0}/storage}}, delete: {{enabled: true}}}}\n\
             http:\n  addr: 127.0.0.1:{port}\n  secret: x\n",
            dir.display()
        );
        if door.tls {
            match door.self_signed {
                true => self_signed(&dir),
                false => certificate(&dir),
            }
            let clients =
                if door.wants_certificate { format!(", clientcas: [{}/ca.pem]", dir.display()) } else { String::new() };
            config += &format!("  tls: {{certificate: {0}/server.pem, key: {0}/server.key{clients}}}\n", dir.display());
        }
        if let Some((name, password)) = door.password {
            let out = run("htpasswd", &["-Bbn", name, password], &dir);
            fs::write(dir.join("htpasswd"), out).unwrap();
            config += &format!("auth: {{htpasswd: {{realm: tests, path: {}/htpasswd}}}}\n", dir.display());
        }
        let path = dir.join("config.yml");
        fs::write(&path, config).unwrap();
        let mut registry = Registry {
            child: serve(&dir, &path),
            port,
            tls: door.tls,
            password: door.password.map(|(n, p)| (n.into(), p.into())),
            config: path,
            dir,
        };
        registry.await_it();
        Some(registry)
    }

    fn await_it(&mut self) {
        let (child, port, log) = (&mut self.child, self.port, self.dir.join("log"));
        until("the registry listens", || {
            let gone = child.try_wait().unwrap();
            assert!(gone.is_none(), "docker-registry: {gone:?}: {}", fs::read_to_string(&log).unwrap_or_default());
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The reference of `NAME[:TAG]` there.
    pub fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.host())
    }

    /// The CA's certificate, where there is TLS.
    pub fn ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// The certificate of a client of that CA, and its key.
    pub fn client(&self) -> (PathBuf, PathBuf) {
        (self.dir.join("certs/client.cert"), self.dir.join("certs/client.key"))
    }

    /// A folder with that certificate, as skopeo and podman want it (`--cert-dir`).
    pub fn certs(&self) -> String {
        self.dir.join("certs").display().to_string()
    }

    /// Puts an image there (`oci:DIR:TAG`) as `NAME:TAG`; its reference. `options` are skopeo's.
    #[track_caller]
    pub fn fill_with(&self, options: &[&str], from: &str, name: &str) -> String {
        let ca = self.certs();
        let creds = self.password.as_ref().map(|(n, p)| format!("{n}:{p}"));
        let mut all = match self.tls {
            true => vec!["--dest-cert-dir", &ca],
            false => vec!["--dest-tls-verify=false"],
        };
        creds.iter().for_each(|c| all.extend(["--dest-creds", c]));
        all.extend(options);
        skopeo_copy(&all, from, &format!("docker://{}", self.reference(name)));
        self.reference(name)
    }

    /// The same without options of skopeo.
    #[track_caller]
    pub fn fill(&self, from: &str, name: &str) -> String {
        self.fill_with(&[], from, name)
    }

    /// Requests that were answered so far, in order, each like `GET /v2/hello/blobs/sha256:… 200 1234` (status, bytes).
    pub fn requests(&self) -> Vec<String> {
        let log = fs::read_to_string(self.dir.join("access")).unwrap_or_default();
        let one = |line: &str| {
            let mut parts = line.split('"');
            let request = parts.nth(1)?.strip_suffix(" HTTP/1.1")?;
            let mut numbers = parts.next()?.split_whitespace();
            Some(format!("{request} {} {}", numbers.next()?, numbers.next()?))
        };
        log.lines().filter_map(one).collect()
    }

    /// Bytes of blobs that were sent so far.
    pub fn blob_bytes(&self) -> u64 {
        let blobs = self.requests().into_iter().filter(|r| r.starts_with("GET ") && r.contains("/blobs/"));
        blobs.filter_map(|r| r.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    /// The file in which it keeps a blob, which a test may damage.
    pub fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        self.dir.join("storage/docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex).join("data")
    }

    /// Pulls its plug.
    pub fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again after [`Registry::stop`], with all that it had.
    pub fn go_on(&mut self) {
        self.child = serve(&self.dir, &self.config);
        self.await_it();
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
            eprintln!("registry at {}: {:#?}\n{log}", self.port, self.requests());
        }
    }
}

fn serve(dir: &Path, config: &Path) -> Child {
    let open = |name| File::options().create(true).append(true).open(dir.join(name)).unwrap();
    Command::new("docker-registry")
        .arg("serve")
        .arg(config)
        .env_remove("MCP_ROOT")
        .stdin(Stdio::null())
        .stdout(open("access"))
        .stderr(open("log"))
        .spawn()
        .unwrap()
}

fn run(program: &str, args: &[&str], dir: &Path) -> String {
    let mut command = Command::new(program);
    command.args(args).current_dir(dir).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    finish(command, program).expect(0).out
}

/// `ca.pem` (also as `certs/ca.crt`, where skopeo looks for it), `server.pem` and `server.key`.
fn certificate(dir: &Path) {
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let ca = ["req", "-x509", "-subj", "/CN=tests CA", "-days", "2", "-keyout", "ca.key", "-out", "ca.pem"];
    run("openssl", &[&ca[..], &key].concat(), dir);
    let request = ["req", "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr"];
    run("openssl", &[&request[..], &key].concat(), dir);
    fs::write(dir.join("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n").unwrap();
    let sign = ["x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"];
    run("openssl", &[&sign[..], &["-days", "2", "-extfile", "names", "-out", "server.pem"]].concat(), dir);
    let sign = ["x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"];
    fs::create_dir_all(dir.join("certs")).unwrap();
    run("openssl", &[&sign[..], &["-days", "2", "-extfile", "names", "-out", "certs/client.cert"]].concat(), dir);
    fs::copy(dir.join("server.key"), dir.join("certs/client.key")).unwrap();
    fs::copy(dir.join("ca.pem"), dir.join("certs/ca.crt")).unwrap();
}

/// The same with a certificate that has signed itself, as how-tos on registries make it.
fn self_signed(dir: &Path) {
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "server.key"];
    let names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"];
    let ca = ["req", "-x509", "-subj", "/CN=localhost", "-days", "2", "-out", "server.pem"];
    run("openssl", &[&ca[..], &names, &key].concat(), dir);
    fs::create_dir_all(dir.join("certs")).unwrap();
    for name in ["ca.pem", "certs/ca.crt"] {
        fs::copy(dir.join("server.pem"), dir.join(name)).unwrap();
    }
}
