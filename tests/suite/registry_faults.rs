//! A registry that does what no real one does on demand (tests/fake/registry): each fault ends in bounded time, with the
//! right exit code and a reason, and nothing goes where it should not.

use crate::harness::Node;
use crate::registry::{Fetched, blob, configured, fetch_all, refused};
use mcp::image::oci::{self, Descriptor, Document};
use mcp::image::registry::{Patience, Registry};
use mcp::image::source::Source;
use mcp::model::{Digest, Reference};
use mcp::sys::error::{EXIT_FINAL, EXIT_RETRY};
use mcp::sys::{Deadline, Result};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub struct Fake {
    node: Node,
    child: Child,
    pub port: u16,
    other: u16,
    log: PathBuf,
}

impl Fake {
    pub fn start() -> Fake {
        let node = Node::new();
        let log = node.root.join("requests");
        let mut child = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake/registry"))
            .arg(&log)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let mut ports = line.split_whitespace().map(|p| p.parse().unwrap());
        let (port, other) = (ports.next().unwrap(), ports.next().unwrap());
        Fake { node, child, port, other, log }
    }

    /// The image under `mode`, asked for with little patience.
    fn open(&self, mode: &str) -> Registry {
        self.open_with(mode, &json!({}))
    }

    fn open_with(&self, mode: &str, auth: &Value) -> Registry {
        self.open_by(mode, auth, "")
    }

    /// With more of the registry's node config.
    fn open_by(&self, mode: &str, auth: &Value, more: &str) -> Registry {
        let host = format!("127.0.0.1:{}", self.port);
        let file = self.node.root.join(format!("auth-{mode}.json"));
        fs::write(&file, json!({ "auths": { &host: auth } }).to_string()).unwrap();
        let config = configured(&format!("[registry.\"{host}\"]\nauth_file = \"{}\"\n{more}", file.display()));
        let Reference::Registry(named) = Reference::parse(&format!("{host}/{mode}")).unwrap() else { panic!() };
        let patience =
            Patience { silence: Duration::from_millis(500), pause: Duration::from_millis(10), ..Patience::default() };
        Registry::new(&named, &config, patience)
    }

    fn fetch(&self, mode: &str) -> Result<Fetched> {
        let image = format!("127.0.0.1:{}/{mode}", self.port);
        fetch_all(&mut self.open(mode), &image, Deadline::after(Duration::from_secs(20)))
    }

    fn requests(&self) -> Vec<Value> {
        fs::read_to_string(&self.log).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    }

    /// The one layer, by its manifest.
    fn layer(&self, source: &mut dyn Source) -> Descriptor {
        let deadline = Deadline::after(Duration::from_secs(20));
        let top = source.resolve(deadline).unwrap();
        let (found, bytes) = oci::find("x", &top, &mut |d| source.document(d, deadline)).unwrap();
        let Document::Manifest(parts) = Document::read("x", &found.media_type, &bytes).unwrap() else { panic!() };
        parts.layers[0].0.clone()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}

const LOGIN: &str = "bWU6aHVudGVyMi1zZWNyZXQ=";

#[test]
fn faulty_registries_that_serve_all_the_same() {
    let fake = Fake::start();
    let good = fake.fetch("good").unwrap();
    // One probe for TLS apart, all on one connection.
    let connections: std::collections::BTreeSet<u64> =
        fake.requests().iter().map(|r| r["connection"].as_u64().unwrap()).collect();
    assert_eq!(connections.len(), 1, "{connections:?}");
    for mode in ["chunked", "busy", "unwell", "stumbles", "no-digest", "no-head", "no-type"] {
        let got = fake.fetch(mode).unwrap_or_else(|e| panic!("{mode}: {e}"));
        assert_eq!((got.image, got.layers), (good.image.clone(), good.layers.clone()), "{mode}");
    }
}

#[test]
fn faulty_registries_are_refused_in_time() {
    let fake = Fake::start();
    for (mode, code, words) in [
        ("hang", EXIT_RETRY, "silent for 500ms"),
        ("half-head", EXIT_RETRY, "silent for 500ms"),
        ("silent", EXIT_RETRY, "no byte came for 500ms"),
        ("short", EXIT_RETRY, "closed before the end"),
        ("long", EXIT_FINAL, "has 262144 bytes, and its server is about to send 262148"),
        ("loop", EXIT_FINAL, "redirects more than 10 times"),
        ("gone-clear", EXIT_FINAL, "redirects to blobs.example without TLS"),
        ("file", EXIT_FINAL, "no http or https address"),
        ("busy-long", EXIT_RETRY, "429: too many requests; it asks to wait 3600 s"),
        ("broken", EXIT_RETRY, "answers 500"),
        ("limit", EXIT_RETRY, "429: too many requests (\"You have reached your pull limit\"); it asks to wait 3600 s"),
        ("forbidden", EXIT_FINAL, "denies access to it (\"team quota exceeded [2Jxxx"),
        ("elsewhere", EXIT_FINAL, "redirects, answers 403; try again"),
        ("bearer", EXIT_FINAL, "podman login"),
        ("far-realm", EXIT_FINAL, "wants a login sent to auth.example without TLS"),
        ("endless", EXIT_FINAL, "podman login"),
        ("fat-token", EXIT_FINAL, "larger than 262144 bytes"),
        ("bomb", EXIT_FINAL, "nests deeper than 64 levels"),
        ("endless-json", EXIT_FINAL, "larger than 4194304 bytes"),
        ("liar", EXIT_FINAL, "is something else"),
        ("junk", EXIT_RETRY, "not HTTP"),
        ("fat", EXIT_FINAL, "headers of its answer are too large"),
        ("denied", EXIT_FINAL, "wants a login"),
        ("nobody", EXIT_FINAL, "has no such image"),
    ] {
        let began = Instant::now();
        let result = fake.fetch(mode);
        let took = began.elapsed();
        eprintln!("{mode}: {took:?}: {:?}", result.as_ref().map(|_| ()).map_err(|e| e.to_string()));
        // What breaks off in the middle gets the image's name from the pull.
        if let Err(e) = &result
            && !matches!(e, mcp::sys::Error::Os { .. })
        {
            let told = e.to_string();
            assert!(told.contains(&format!("127.0.0.1:{}/{mode}", fake.port)) && told.len() < 500, "{told}");
            assert!(!told.contains(['\x1b', '\u{202e}']), "{told}");
        }
        refused(result, code, words);
        assert!(took < Duration::from_secs(10), "{mode}: {took:?}");
    }
}

#[test]
fn faulty_registries_that_drip_end_at_the_deadline() {
    let fake = Fake::start();
    let mut source = fake.open("drip");
    let layer = fake.layer(&mut source);
    let began = Instant::now();
    let told = blob(&mut source, &layer, 0, Deadline::after(Duration::from_secs(1))).unwrap_err();
    assert!(told.to_string().contains("the time for it is over"), "{told}");
    assert_eq!(told.exit_code(), EXIT_RETRY);
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn faulty_registries_that_break_off_are_gone_on_with() {
    let fake = Fake::start();
    for (mode, ranged) in [("reset", true), ("reset-all", false), ("range-liar", false), ("range-416", false)] {
        let mut source = fake.open(mode);
        let layer = fake.layer(&mut source);
        let deadline = Deadline::after(Duration::from_secs(20));
        let mut first = Vec::new();
        let broken = std::io::Read::read_to_end(&mut source.blob(&layer, 0, deadline).unwrap().reader, &mut first);
        assert!(broken.is_err() && !first.is_empty() && (first.len() as u64) < layer.size, "{mode}: {broken:?}");
        let rest = source.blob(&layer, first.len() as u64, deadline).unwrap();
        if ranged {
            let mut all = first.clone();
            assert_eq!(rest.from, first.len() as u64);
            std::io::Read::read_to_end(&mut { rest.reader }, &mut all).unwrap();
            assert_eq!(Digest::of(&all), layer.digest);
        } else {
            assert_eq!(rest.from, 0, "{mode}");
        }
    }
}

#[test]
fn logins_go_only_where_they_belong() {
    let fake = Fake::start();
    let got = fetch_all(
        &mut fake.open_with("away", &json!({ "auth": LOGIN })),
        "away",
        Deadline::after(Duration::from_secs(20)),
    );
    assert_eq!(got.unwrap().layers.len(), 1);
    let requests = fake.requests();
    let at = |port: u16| requests.iter().filter(move |r| r["port"] == port).collect::<Vec<_>>();
    assert!(at(fake.port).iter().any(|r| r["headers"]["authorization"].as_str() == Some(&format!("Basic {LOGIN}"))));
    assert!(at(fake.other).len() >= 2, "{requests:#?}");
    assert!(at(fake.other).iter().all(|r| r["headers"].get("authorization").is_none()), "{requests:#?}");
}

#[test]
fn tokens_are_got_and_renewed() {
    let fake = Fake::start();
    let deadline = Deadline::after(Duration::from_secs(20));
    let identity = json!({ "identitytoken": "identity token" });
    for (mode, auth) in [("bearer", json!({ "auth": LOGIN })), ("identity", identity)] {
        fetch_all(&mut fake.open_with(mode, &auth), mode, deadline).unwrap_or_else(|e| panic!("{mode}: {e}"));
    }
    let requests = fake.requests();
    let tokens: Vec<&Value> = requests.iter().filter(|r| r["path"].as_str().unwrap().starts_with("/token")).collect();
    // Each is good for two requests, and five are made.
    assert!(tokens.len() >= 4, "{tokens:#?}");
    let path = tokens[0]["path"].as_str().unwrap();
    assert!(path.contains("scope=repository%3Abearer%3Apull&service=a%20%22service%22"), "{path}");
    assert!(
        tokens
            .iter()
            .any(|t| t["method"] == "POST" && t["form"].as_str().unwrap().contains("grant_type=refresh_token"))
    );
    // The password goes to the token server alone.
    let basic = |r: &&Value| r["headers"]["authorization"].as_str().is_some_and(|a| a.starts_with("Basic"));
    assert!(requests.iter().filter(basic).all(|r| r["path"].as_str().unwrap().starts_with("/token")));
    let wrong = json!({ "username": "me", "password": "no secret" });
    refused(fetch_all(&mut fake.open_with("bearer", &wrong), "bearer", deadline), EXIT_FINAL, "refuses the login of");
    let denied = fetch_all(&mut fake.open_with("denied", &json!({ "auth": LOGIN })), "denied", deadline);
    refused(denied, EXIT_FINAL, "denies access");
}

/// Whatever a mirror does, the image comes, and no request is made of that mirror after its fault.
#[test]
fn faulty_mirrors_keep_nobody_from_the_registry() {
    let fake = Fake::start();
    let good = fake.fetch("good").unwrap();
    for mode in [
        "hang",
        "half-head",
        "silent",
        "short",
        "long",
        "drip",
        "reset",
        "reset-all",
        "loop",
        "gone-clear",
        "file",
        "limit",
        "busy-long",
        "broken",
        "bearer",
        "bomb",
        "endless-json",
        "liar",
        "junk",
        "fat",
        "denied",
        "forbidden",
        "elsewhere",
        "nobody",
    ] {
        // A folder of another registry, as pull-through caches have it.
        let mirrors = format!("mirrors = [\"127.0.0.1:{}/{mode}\"]\n", fake.port);
        let mut source = fake.open_by("good", &json!({}), &mirrors);
        let deadline = Deadline::after(Duration::from_secs(20));
        let layer = fake.layer(&mut source);
        let mut bytes = Vec::new();
        for _ in 0..2 {
            let blob = source.blob(&layer, bytes.len() as u64, deadline).unwrap_or_else(|e| panic!("{mode}: {e}"));
            bytes.truncate(blob.from as usize);
            let _ = std::io::Read::read_to_end(&mut { blob.reader }, &mut bytes);
        }
        assert_eq!(Digest::of(&bytes), layer.digest, "{mode}");
        assert_eq!(layer.digest, good.image.layers[0].blob);
        assert!(!deadline.passed(), "{mode}");
    }
    let asked = fake.requests();
    let mirror = asked.iter().filter(|r| r["path"].as_str().unwrap().starts_with("/v2/limit/good/"));
    assert!((1..=2).contains(&mirror.count()), "{asked:#?}");
}

/// What proxies of the environment do wrong is said with the proxy's name, and without the password that stands before it.
#[test]
fn faulty_proxies_are_named() {
    let node = Node::new();
    let answering = |status: &'static str| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                let head = BufReader::new(&client).lines().map_while(|line| line.ok());
                head.take_while(|line| !line.is_empty()).for_each(drop);
                let _ = std::io::Write::write_all(&mut client, format!("HTTP/1.1 {status}\r\n\r\n").as_bytes());
            }
        });
        port
    };
    let (login, forbidden, down) = (answering("407 x"), answering("403 x"), crate::harness::free_port());
    let image = "registry.example/app:1";
    for (proxy, code, words) in [
        (
            format!("http://me:hunter2-secret@127.0.0.1:{login}"),
            100,
            format!("the proxy 127.0.0.1:{login} answers 407: it wants"),
        ),
        (format!("http://127.0.0.1:{forbidden}"), 111, format!("the proxy 127.0.0.1:{forbidden} answers 403 instead")),
        (
            format!("http://127.0.0.1:{down}"),
            111,
            format!("Connection refused (by way of the proxy 127.0.0.1:{down} of"),
        ),
        (format!("socks5h://127.0.0.1:{down}"), 100, format!("names 127.0.0.1:{down} as a SOCKS proxy, and only HTTP")),
    ] {
        let mut command = node.command("mcp-pull", &["--dry-run", image]);
        for name in ["ALL_PROXY", "all_proxy", "HTTPS_PROXY", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"] {
            command.env_remove(name);
        }
        command.env("https_proxy", &proxy).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let answer = crate::harness::finish(command, &proxy).expect(code);
        let line = answer.one_line();
        assert!(line.starts_with(&format!("mcp-pull: {image}: ")) && line.contains(&words), "{line}");
        assert!(!line.contains("secret"), "{line}");
    }
}

/// A pause that people notice is announced.
#[test]
fn a_registry_that_asks_to_wait_is_waited_for_with_a_line() {
    let fake = Fake::start();
    let image = format!("127.0.0.1:{}/later", fake.port);
    let answer = fake.node.mcp("mcp-pull", &["--quiet", "--dry-run", &image]).expect(0);
    let line = answer.one_line();
    assert!(line.starts_with(&format!("mcp-pull: {image}:latest: ")), "{line}");
    assert!(line.contains("answers 429: too many requests; again in "), "{line}");
}
