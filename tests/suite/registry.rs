//! Images out of real registries, directories and archives, by way of the library: who may, who is trusted, what is
//! said. What only a faulty server does is in registry_faults.rs.

use crate::harness::{Door, Node, OciImage, Registry, finish, have, hello_over_base, oci_image, podman, skopeo_copy};
use mcp::image::oci::{self, Descriptor, Document, Image};
use mcp::image::source::{self, Source};
use mcp::model::read::parse_node;
use mcp::model::{self, Digest, Reference};
use mcp::sys::error::{EXIT_FINAL, EXIT_RETRY};
use mcp::sys::paths::Paths;
use mcp::sys::{Deadline, Result};
use serde_json::json;
use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

/// What came.
#[derive(Debug)]
pub struct Fetched {
    pub image: Image,
    pub layers: Vec<Vec<u8>>,
}

/// A node config out of its text.
#[track_caller]
pub fn configured(text: &str) -> model::Node {
    let (node, problems) = parse_node("mcp.toml".as_ref(), text.as_bytes());
    assert!(problems.is_empty(), "{problems:?}");
    node
}

/// Nobody's credentials but what a test names.
fn no_login(node: &Node, host: &str) -> String {
    let path = node.root.join("no-auth.json");
    fs::write(&path, "{}").unwrap();
    format!("[registry.\"{host}\"]\nauth_file = \"{}\"\n", path.display())
}

/// Fetches all of an image, and checks it.
pub fn fetch(node: &Node, reference: &str, config: &str) -> Result<Fetched> {
    let parsed = Reference::parse(reference).unwrap();
    let mut source = source::open(&parsed, &configured(config), &Paths::under(&node.root))?;
    fetch_all(&mut *source, reference, Deadline::after(Duration::from_secs(60)))
}

/// The same of a source that is open.
pub fn fetch_all(source: &mut dyn Source, object: &str, deadline: Deadline) -> Result<Fetched> {
    let top = source.resolve(deadline)?;
    let (found, manifest) = oci::find(object, &top, &mut |d| source.document(d, deadline))?;
    let Document::Manifest(parts) = Document::read(object, &found.media_type, &manifest)? else { panic!() };
    let config = source.document(&parts.config, deadline)?;
    let image = Image::read(object, &manifest, &config)?;
    let mut layers = Vec::new();
    for (layer, _) in &parts.layers {
        let bytes = blob(source, layer, 0, deadline)?;
        assert_eq!(Digest::of(&bytes), layer.digest);
        // And the rest of it, from somewhere.
        let from = layer.size / 3;
        assert_eq!(blob(source, layer, from, deadline)?, bytes[from as usize..]);
        layers.push(bytes);
    }
    Ok(Fetched { image, layers })
}

pub fn blob(source: &mut dyn Source, what: &Descriptor, from: u64, deadline: Deadline) -> Result<Vec<u8>> {
    let mut blob = source.blob(what, from, deadline)?;
    assert!(blob.from == from || blob.from == 0);
    let mut bytes = Vec::new();
    blob.reader.read_to_end(&mut bytes).map_err(mcp::sys::Error::os("read", what.digest))?;
    bytes.drain(..(from - blob.from) as usize);
    Ok(bytes)
}

/// It is refused, with this exit code and these words, in one line and without the password.
#[track_caller]
pub fn refused(result: Result<Fetched>, code: u8, words: &str) {
    let error = result.expect_err("it was fetched");
    let told = error.to_string();
    assert!(told.contains(words) && error.exit_code() == code, "{}: {told}", error.exit_code());
    assert!(!told.contains('\n') && !told.contains("secret"), "{told}");
}

fn same(got: &Fetched, image: &OciImage) {
    let digests: Vec<String> = got.image.layers.iter().map(|l| l.blob.to_string()).collect();
    assert_eq!(digests, image.layers.iter().map(|l| l.digest.clone()).collect::<Vec<_>>());
    assert_eq!(
        (got.image.manifest.to_string(), got.image.config.to_string()),
        (image.manifest.clone(), image.config.clone())
    );
    assert_eq!(got.image.run.entrypoint, ["/hello"]);
}

#[test]
fn registry_for_everybody() {
    let node = Node::new();
    let Some(mut registry) = Registry::start("registry_for_everybody", &node) else { return };
    let image = hello_over_base(&node, 2);
    let reference = registry.fill(&image.reference(), "team/app:1");
    let config = no_login(&node, &registry.host());
    same(&fetch(&node, &reference, &config).unwrap(), &image);
    let by_digest = registry.reference(&format!("team/app@{}", image.manifest));
    same(&fetch(&node, &by_digest, &config).unwrap(), &image);
    // A tag is one question, a digest none.
    let before = registry.requests().len();
    let open = |reference: &str| {
        let parsed = Reference::parse(reference).unwrap();
        source::open(&parsed, &configured(&config), &Paths::under(&node.root)).unwrap()
    };
    let deadline = Deadline::after(Duration::from_secs(20));
    assert_eq!(open(&by_digest).resolve(deadline).unwrap().digest.to_string(), image.manifest);
    assert_eq!(open(&reference).resolve(deadline).unwrap().digest.to_string(), image.manifest);
    let asked: Vec<String> = registry.requests().split_off(before);
    // What was asked before may be told only now.
    let asked: Vec<&String> = asked.iter().filter(|r| r.contains("/manifests/")).collect();
    assert!(asked.len() == 1 && asked[0].starts_with("HEAD /v2/team/app/manifests/1 200"), "{asked:?}");
    // Docker's kind of manifest.
    registry.fill_with(&["--format", "v2s2"], &image.reference(), "team/docker:1");
    let got = fetch(&node, &registry.reference("team/docker:1"), &config).unwrap();
    assert_eq!(got.layers.len(), 2);
    assert_ne!(got.image.manifest.to_string(), image.manifest);
    refused(fetch(&node, &registry.reference("team/app:2"), &config), EXIT_FINAL, "has no such tag; push it");
    refused(fetch(&node, &registry.reference("nobody/app:1"), &config), EXIT_FINAL, "has no such");
    let gone = format!("team/app@{}", Digest::of(b"gone"));
    refused(fetch(&node, &registry.reference(&gone), &config), EXIT_FINAL, "has no such manifest");
    registry.stop();
    let down = format!("{reference}: {}: Connection refused", registry.host());
    refused(fetch(&node, &reference, &config), EXIT_RETRY, &down);
    registry.go_on();
    same(&fetch(&node, &reference, &config).unwrap(), &image);
}

#[test]
fn registry_with_a_login() {
    let node = Node::new();
    let door = Door { password: Some(("me", "the secret")), tls: false, ..Door::default() };
    let Some(registry) = Registry::with("registry_with_a_login", &node, door) else { return };
    let image = hello_over_base(&node, 1);
    let reference = registry.fill(&image.reference(), "team/app:1");
    let host = registry.host();
    refused(fetch(&node, &reference, &no_login(&node, &host)), EXIT_FINAL, &format!("run podman login {host}"));
    let auth = node.root.join("auth.json");
    let config = format!("[registry.\"{host}\"]\nauth_file = \"{}\"\n", auth.display());
    refused(fetch(&node, &reference, &config), EXIT_FINAL, "no such file; mcp.toml names it");
    let write = |key: &str, pair: &str| {
        use std::io::Write;
        let mut child = Command::new("base64").arg("-w0").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(pair.as_bytes()).unwrap();
        let encoded = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        fs::write(&auth, json!({ "auths": { key: { "auth": encoded } } }).to_string()).unwrap();
    };
    write(&host, "me:another secret");
    refused(fetch(&node, &reference, &config), EXIT_FINAL, "refuses the login of");
    write(&host, "me:the secret");
    same(&fetch(&node, &reference, &config).unwrap(), &image);
    write(&format!("{host}/team"), "me:the secret");
    same(&fetch(&node, &reference, &config).unwrap(), &image);
    write(&format!("{host}/others"), "me:the secret");
    refused(fetch(&node, &reference, &config), EXIT_FINAL, "wants a login");
    // Whatever is logged, it isn't the login.
    write(&host, "me:the secret");
    node.configure(&config);
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-pull"));
    command.args(["--dry-run", &reference]).env("MCP_ROOT", &node.root).env("MCP_LOG", "trace");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let answer = finish(command, "mcp-pull --dry-run").expect(0);
    let words = ["secret", "bWU6dGhlIHNlY3JldA", "Basic "];
    assert!(answer.err.contains("HEAD ") && !words.iter().any(|w| answer.err.contains(w)), "{}", answer.err);
    // What podman login writes.
    if have("registry_with_a_login", "podman") {
        let file = node.root.join("podman.json");
        let mut command = Command::new("podman");
        command
            .args(["login", "--tls-verify=false", "-u", "me", "-p", "the secret", "--authfile"])
            .arg(&file)
            .arg(&host);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        finish(command, "podman login").expect(0);
        fs::rename(file, auth).unwrap();
        same(&fetch(&node, &reference, &config).unwrap(), &image);
    }
}

#[test]
fn registry_with_a_credential_helper() {
    let node = Node::new();
    let door = Door { password: Some(("me", "the secret")), tls: false, ..Door::default() };
    let Some(registry) = Registry::with("registry_with_a_credential_helper", &node, door) else { return };
    let image = hello_over_base(&node, 1);
    let reference = registry.fill(&image.reference(), "app:1");
    let host = registry.host();
    // Where the search for programs looks: PATH is the whole process's, so this one's name is its own.
    let name = format!("mcp-test-{}", std::process::id());
    let helper = std::path::PathBuf::from(format!("/usr/bin/docker-credential-{name}"));
    struct Gone<'a>(&'a std::path::Path);
    impl Drop for Gone<'_> {
        fn drop(&mut self) {
            let _ = fs::remove_file(self.0);
        }
    }
    let script = |text: &str| {
        fs::write(&helper, format!("#!/bin/sh\n{text}\n")).is_ok()
            && Command::new("chmod").arg("0755").arg(&helper).status().unwrap().success()
    };
    let _gone = Gone(&helper);
    if !script(&format!(
        "read -r host; [ \"$1 $host\" = 'get {host}' ] && echo '{{\"Username\":\"me\",\"Secret\":\"the secret\"}}'"
    )) {
        return crate::harness::skip("registry_with_a_credential_helper", "/usr/bin can't be written");
    }
    let auth = node.root.join("auth.json");
    let config = format!("[registry.\"{host}\"]\nauth_file = \"{}\"\n", auth.display());
    for file in [json!({ "credsStore": name, "auths": { &host: {} } }), json!({ "credHelpers": { &host: name } })] {
        fs::write(&auth, file.to_string()).unwrap();
        same(&fetch(&node, &reference, &config).unwrap(), &image);
    }
    // Its reason, as those of clouds give it, but nothing of its standard output.
    assert!(script("echo the secret; printf 'SSO token has expired\\nrun aws sso login\\033[2J\\n' >&2; exit 7"));
    let reason =
        format!("{name}: exited with 7: SSO token has expired; run aws sso login?[2J; try it: echo {host} | docker");
    refused(fetch(&node, &reference, &config), EXIT_FINAL, &reason);
    assert!(script("exit 1"));
    refused(fetch(&node, &reference, &config), EXIT_FINAL, "exited with 1; try it");
    assert!(script("echo 'credentials not found in native keychain'; exit 1"));
    refused(fetch(&node, &reference, &config), EXIT_FINAL, "wants a login");
    assert!(script("echo the secret"));
    refused(fetch(&node, &reference, &config), EXIT_FINAL, "are no credentials");
    assert!(script("exec yes secret"));
    refused(fetch(&node, &reference, &config), EXIT_FINAL, "docker-credential");
}

#[test]
fn registry_over_tls() {
    let node = Node::new();
    let door = Door { tls: true, ..Door::default() };
    let test = "registry_over_tls";
    let (Some(registry), Some(other)) = (Registry::with(test, &node, door), Registry::with(test, &node, door)) else {
        return;
    };
    let image = hello_over_base(&node, 1);
    let reference = registry.fill(&image.reference(), "app:1");
    let host = registry.host();
    let with = |more: &str| no_login(&node, &host) + more;
    refused(fetch(&node, &reference, &with("")), EXIT_FINAL, &format!("name its CA: ca in [registry.\"{host}\"]"));
    let ca = |path: &std::path::Path| with(&format!("ca = \"{}\"\n", path.display()));
    refused(fetch(&node, &reference, &ca(&other.ca())), EXIT_FINAL, "nobody whom this node trusts");
    refused(fetch(&node, &reference, &ca(&node.root.join("none.pem"))), EXIT_FINAL, "no such file of trusted");
    same(&fetch(&node, &reference, &ca(&registry.ca())).unwrap(), &image);
    same(&fetch(&node, &reference, &with("insecure = true\n")).unwrap(), &image);
    let by_name = format!("localhost:{}", registry.port);
    let config = ca(&registry.ca()).replace(&host, &by_name);
    same(&fetch(&node, &reference.replace(&host, &by_name), &config).unwrap(), &image);
    let wrong = format!("127.0.0.2:{}", registry.port);
    let told = fetch(&node, &reference.replace(&host, &wrong), &ca(&registry.ca()).replace(&host, &wrong));
    // It listens on 127.0.0.1 alone.
    refused(told, EXIT_RETRY, "Connection refused");
}

/// What `openssl req -x509` makes is a CA's certificate: it is trusted for itself where it is named, for its names and its
/// time.
#[test]
fn registry_with_a_self_signed_certificate_that_is_named() {
    let node = Node::new();
    let door = Door { tls: true, self_signed: true, ..Door::default() };
    let test = "registry_with_a_self_signed_certificate";
    let (Some(registry), Some(other)) = (Registry::with(test, &node, door), Registry::with(test, &node, door)) else {
        return;
    };
    let image = hello_over_base(&node, 1);
    let reference = registry.fill(&image.reference(), "app:1");
    let host = registry.host();
    let with = |ca: &std::path::Path| no_login(&node, &host) + &format!("ca = \"{}\"\n", ca.display());
    same(&fetch(&node, &reference, &with(&registry.ca())).unwrap(), &image);
    // Of the same name, and another.
    refused(
        fetch(&node, &reference, &with(&other.ca())),
        EXIT_FINAL,
        "is self-signed, and this node does not trust it",
    );
    let unnamed = no_login(&node, &host).replace("auth_file", "cert = \"/c\"\nkey = \"/k\"\nauth_file");
    refused(fetch(&node, &reference, &unnamed), EXIT_FINAL, "/c: no such file of a certificate");
    // The same server by an address that the certificate does not have.
    let mapped = format!("[::ffff:127.0.0.1]:{}", registry.port);
    let config = with(&registry.ca()).replace(&host, &mapped);
    refused(fetch(&node, &reference.replace(&host, &mapped), &config), EXIT_FINAL, "is for other names");
}

#[test]
fn registry_that_wants_a_client_certificate() {
    let node = Node::new();
    let door = Door { tls: true, wants_certificate: true, ..Door::default() };
    let Some(registry) = Registry::with("registry_that_wants_a_client_certificate", &node, door) else { return };
    let image = hello_over_base(&node, 1);
    let reference = registry.fill(&image.reference(), "app:1");
    let config = no_login(&node, &registry.host()) + &format!("ca = \"{}\"\n", registry.ca().display());
    refused(fetch(&node, &reference, &config), EXIT_FINAL, "wants a client certificate");
    let (cert, key) = registry.client();
    let config = format!("{config}cert = \"{}\"\nkey = \"{}\"\n", cert.display(), key.display());
    same(&fetch(&node, &reference, &config).unwrap(), &image);
}

#[test]
fn registry_mirrors_come_first() {
    let node = Node::new();
    let test = "registry_mirrors_come_first";
    let (Some(registry), Some(mirror)) = (Registry::start(test, &node), Registry::start(test, &node)) else { return };
    let image = hello_over_base(&node, 1);
    let reference = registry.fill(&image.reference(), "app:1");
    let mirrors = format!("mirrors = [\"127.0.0.1:9\", \"{}\"]\n", mirror.host());
    let config = no_login(&node, &registry.host()) + &mirrors;
    // One is down, one hasn't got it.
    same(&fetch(&node, &reference, &config).unwrap(), &image);
    let before = registry.requests().len();
    mirror.fill(&image.reference(), "app:1");
    same(&fetch(&node, &reference, &config).unwrap(), &image);
    assert_eq!(registry.requests().len(), before, "what the mirror has was asked for elsewhere");
    // A mirror that has gone bad gives other bytes: the documents are asked for where they are right.
    let data = mirror.blob(&image.config);
    let damaged = fs::read_to_string(&data).unwrap().replace("hello", "hallo");
    fs::write(&data, damaged).unwrap();
    same(&fetch(&node, &reference, &config).unwrap(), &image);
}

#[test]
fn registry_index_of_platforms() {
    let node = Node::new();
    let Some(registry) = Registry::start("registry_index_of_platforms", &node) else { return };
    let image = hello_over_base(&node, 1);
    // The same image for two machines, under an index.
    let index = |platforms: &[&str]| {
        let size = fs::metadata(image.blob(&image.manifest)).unwrap().len();
        let entry = |p: &&str| {
            json!({ "mediaType": oci::OCI_MANIFEST, "digest": image.manifest, "size": size,
                    "platform": { "os": "linux", "architecture": p } })
        };
        let text = json!({ "schemaVersion": 2, "mediaType": oci::OCI_INDEX,
                           "manifests": platforms.iter().map(entry).collect::<Vec<_>>() })
        .to_string();
        let digest = Digest::of(text.as_bytes());
        fs::write(image.blob(&digest.to_string()), &text).unwrap();
        let top = json!({ "schemaVersion": 2, "manifests": [{ "mediaType": oci::OCI_INDEX, "digest": digest.to_string(),
                           "size": text.len(), "annotations": { oci::REF_NAME: "all" } }] });
        fs::write(image.dir.join("index.json"), top.to_string()).unwrap();
        digest
    };
    let here = format!("oci:{}:all", image.dir.display());
    let digest = index(&["arm64", "amd64"]);
    let reference = registry.fill_with(&["--all"], &here, "app:1");
    let config = no_login(&node, &registry.host());
    same(&fetch(&node, &reference, &config).unwrap(), &image);
    same(&fetch(&node, &registry.reference(&format!("app@{digest}")), &config).unwrap(), &image);
    same(&fetch(&node, &here, "").unwrap(), &image);
    index(&["arm64", "s390x"]);
    refused(fetch(&node, &here, ""), EXIT_FINAL, "is for linux/arm64, linux/s390x only");
}

#[test]
fn oci_directories() {
    let node = Node::new();
    let image = hello_over_base(&node, 1);
    same(&fetch(&node, &image.reference(), "").unwrap(), &image);
    let dir = format!("oci:{}", image.dir.display());
    same(&fetch(&node, &dir, "").unwrap(), &image);
    let config = json!({ "Entrypoint": ["/other"] });
    oci_image(&image.dir, "other", &config, &["filler:1"]);
    refused(fetch(&node, &dir, ""), EXIT_FINAL, "holds several images; name one after a colon");
    refused(fetch(&node, &format!("{dir}:none"), ""), EXIT_FINAL, "holds no image of that name, only");
    assert_eq!(fetch(&node, &format!("{dir}:other"), "").unwrap().image.run.entrypoint, ["/other"]);
    refused(fetch(&node, "oci:/nowhere", ""), EXIT_FINAL, "no such directory");
    refused(fetch(&node, &format!("oci:{}", node.root.display()), ""), EXIT_FINAL, "no OCI directory");
    let layer = image.blob(&image.layers[0].digest);
    fs::write(&layer, "short").unwrap();
    refused(fetch(&node, &image.reference(), ""), EXIT_FINAL, "has 5 bytes, and its manifest says");
    fs::remove_file(&layer).unwrap();
    refused(fetch(&node, &image.reference(), ""), EXIT_FINAL, "which is not in its blobs/sha256");
    fs::create_dir(&layer).unwrap();
    refused(fetch(&node, &image.reference(), ""), EXIT_FINAL, "not a regular file");
    fs::write(image.blob(&image.config), "{}").unwrap();
    refused(fetch(&node, &image.reference(), ""), EXIT_FINAL, "its config is not the sha256:");
    fs::write(image.dir.join("oci-layout"), "{}").unwrap();
    refused(fetch(&node, &image.reference(), ""), EXIT_FINAL, "oci-layout is damaged");
}

#[test]
fn docker_archives() {
    let node = Node::new();
    let test = "docker_archives";
    if !have(test, "skopeo") {
        return;
    }
    let image = hello_over_base(&node, 2);
    let diff_ids: Vec<&str> = image.layers.iter().map(|l| l.diff_id.as_str()).collect();
    let file = node.root.join("saved.tar");
    let reference = format!("docker-archive:{}", file.display());
    skopeo_copy(&[], &image.reference(), &format!("{reference}:localhost/app:1"));
    let got = fetch(&node, &reference, "").unwrap();
    // Its layers are plain: each is its own diff_id.
    assert_eq!(got.image.layers.iter().map(|l| l.blob.to_string()).collect::<Vec<_>>(), diff_ids);
    assert_eq!(got.image.run.entrypoint, ["/hello"]);
    assert_eq!(fetch(&node, &reference, "").unwrap().image, got.image, "the same archive is another image");
    // The same, kept as a layout: the manifest is the one that was pushed.
    let layout = node.root.join("layout.tar");
    skopeo_copy(&[], &image.reference(), &format!("oci-archive:{}:app", layout.display()));
    same(&fetch(&node, &format!("docker-archive:{}", layout.display()), "").unwrap(), &image);
    if let Some(out) = podman(test, &node, &format!(
        "$podman pull -q {0} >/dev/null; id=$($podman images -q | head -1); $podman tag $id localhost/a:1 localhost/b:1
         $podman save -q -o {1}/podman.tar localhost/a:1; $podman save -q -m -o {1}/two.tar localhost/a:1 localhost/b:1; ls {1}",
        image.reference(), node.root.display())) {
        assert!(out.contains("podman.tar"), "{out}");
        let saved = format!("docker-archive:{}/podman.tar", node.root.display());
        let by_podman = fetch(&node, &saved, "").unwrap();
        assert_eq!(by_podman.layers, got.layers);
    }
    // Through a pipe, and as what was redirected.
    for script in ["cat \"$1\" | \"$0\" --dry-run docker-archive:-", "\"$0\" --dry-run docker-archive:- < \"$1\""] {
        let mut command = Command::new("sh");
        command.args(["-c", script, env!("CARGO_BIN_EXE_mcp-pull")]).arg(&file).env("MCP_ROOT", &node.root);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let answer = finish(command, script).expect(0);
        assert!(answer.out.contains(&got.image.manifest.to_string()), "{}", answer.out);
    }
    let left: Vec<_> = crate::harness::find(&node.root.join("lib/store/tmp"), &|_| true);
    assert!(left.is_empty(), "{left:?}");
    // Packed, cut short, of something else.
    let bytes = fs::read(&file).unwrap();
    let odd = |name: &str, bytes: &[u8]| {
        let path = node.root.join(name);
        fs::write(&path, bytes).unwrap();
        fetch(&node, &format!("docker-archive:{}", path.display()), "")
    };
    refused(odd("cut.tar", &bytes[..bytes.len() / 2]), EXIT_FINAL, "goes beyond its end");
    refused(odd("text", b"hello"), EXIT_FINAL, "ends inside a header");
    refused(odd("empty.tar", &[0; 1024]), EXIT_FINAL, "neither a manifest.json nor an index.json");
    refused(odd("x.gz", &[&[0x1f, 0x8b][..], &[0; 600]].concat()), EXIT_FINAL, "zcat FILE");
    refused(fetch(&node, &format!("docker-archive:{}", node.root.display()), ""), EXIT_FINAL, "a directory");
}
