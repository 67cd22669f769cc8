//! Images of containers: pulled by podman, pinned, kept, found again without a network. Real podman, a real registry.

use crate::harness::{ACT, Answer, Door, FakePodman, Node, Podman, Registry, finish, oci_image, program};
use serde_json::{Value, json};
use std::process::{Command, Stdio};

/// A node with podman and a registry.
struct Bench {
    // Gone before the node is, which tolerates no process.
    registry: Registry,
    podman: Podman,
    node: Node,
}

impl Bench {
    fn new(test: &str) -> Option<Bench> {
        Bench::with(test, Door::default())
    }

    fn with(test: &str, door: Door) -> Option<Bench> {
        let node = Node::new();
        let podman = Podman::new(test, &node)?;
        let registry = Registry::with(test, &node, door)?;
        Some(Bench { registry, podman, node })
    }

    /// Puts an image that podman has into the registry as `NAME:TAG`; its reference. podman has no such name then.
    #[track_caller]
    fn push(&self, image: &str, name: &str) -> String {
        let reference = self.registry.reference(name);
        self.podman.ask(&["push", "-q", "--tls-verify=false", image, &format!("docker://{reference}")]);
        reference
    }

    fn define(&self, image: &str) {
        let text = format!("name = \"shop\"\n[[components]]\nname = \"web\"\nimage = \"{image}\"\n");
        self.node.define("shop", &text);
    }

    /// `mcp-pull` of what is defined: the image's id.
    #[track_caller]
    fn pull(&self) -> String {
        let answer = self.node.mcp("mcp-pull", &["-q", "shop"]).expect(0);
        assert_eq!(answer.err, "", "{answer:#?}");
        answer.out.trim_end().rsplit_once(" containers-storage:").unwrap().1.to_string()
    }

    fn record(&self, args: &[&str]) -> Answer {
        self.node.mcp("mcp-record", &[args, &["shop/web"]].concat())
    }

    fn current(&self) -> Value {
        let told: Value = serde_json::from_str(&self.record(&["--json"]).expect(0).out).unwrap();
        told["record"]["current"]["pin"].clone()
    }

    /// Names that keep images for records.
    fn kept(&self) -> Vec<String> {
        let names = self.podman.ask(&["images", "--all", "--format", "{{.Repository}} {{.Tag}}"]);
        let mut kept: Vec<String> = names
            .lines()
            .filter(|l| l.starts_with("localhost/mcp-") && l.contains("/shop/web "))
            .map(|l| l.rsplit(' ').next().unwrap().to_string())
            .collect();
        kept.sort();
        kept
    }
}

fn short(id: &str) -> String {
    id[..12].to_string()
}

#[test]
fn container_image_is_pinned_though_its_tag_moves() {
    let Some(mut bench) = Bench::new("container_image_is_pinned") else { return };
    let reference = bench.push(ACT, "act:1");
    bench.define(&reference);
    let missing = bench.record(&["--new"]).expect(100);
    assert_eq!(missing.one_line(), "mcp-record: shop/web: its image is not on this node; mcp-pull shop/web");
    let missing = bench.node.mcp("mcp-build", &["shop"]).expect(100);
    assert_eq!(missing.one_line(), "mcp-build: shop/web: its image is not on this node; mcp-pull shop/web");

    bench.podman.ask(&["rmi", ACT]);
    let dry = bench.node.mcp("mcp-pull", &["--dry-run", "shop"]).expect(0);
    assert!(dry.out.contains(" would fetch at most ") && dry.out.ends_with(" (1 layers)\n"), "{dry:#?}");
    let answer = bench.node.mcp("mcp-pull", &["shop"]).expect(0);
    assert_eq!(answer.err, format!("mcp-pull: {reference}: pulled by podman\n"));
    let line: Vec<&str> = answer.out.split_whitespace().collect();
    let old = line[2].strip_prefix("containers-storage:").unwrap().to_string();
    assert_eq!((line.len(), line[0]), (3, reference.as_str()), "{answer:#?}");
    assert_eq!(bench.podman.ask(&["image", "inspect", "--format", "{{.Id}}", &reference]), old);
    assert_eq!(bench.node.mcp("mcp-build", &["shop"]).expect(0).out, format!("{old} containers-storage:{old}\n"));
    let dry = bench.node.mcp("mcp-pull", &["--dry-run", "shop"]).expect(0);
    assert!(dry.out.ends_with(" nothing new\n"), "{dry:#?}");

    assert_eq!(bench.record(&["--new", "--now"]).expect(0).out, "shop/web new\n");
    assert_eq!(bench.record(&["--check"]).expect(0).out, "shop/web current\n");
    assert_eq!(bench.current(), json!({ "tagged": line[1], "manifest": line[1], "build": old }));
    assert_eq!(bench.kept(), [short(&old)]);

    // The tag moves: nothing follows by itself, and what is recorded is not pruned.
    bench.podman.act("localhost/act:2");
    bench.push("localhost/act:2", "act:1");
    bench.podman.ask(&["rmi", "localhost/act:2"]);
    assert_eq!(bench.record(&["--check"]).expect(0).out, "shop/web current\n");
    let new = bench.pull();
    assert_ne!(new, old);
    bench.podman.ask(&["image", "prune", "--force"]);
    assert_eq!(bench.record(&["--check"]).expect(1).out, "shop/web another version\n");
    assert_eq!(bench.record(&["--new", "--now"]).expect(0).out, "shop/web new\n");
    assert_eq!((bench.current()["build"].as_str(), bench.kept().len()), (Some(new.as_str()), 2));
    bench.podman.ask(&["image", "prune", "--force"]);
    assert!(!bench.record(&[]).expect(0).out.contains("not in podman's storage"));

    // Without the registry: what is known is known.
    bench.registry.stop();
    assert_eq!(bench.record(&["--check"]).expect(0).out, "shop/web current\n");
    assert_eq!(bench.record(&["--back", "--now"]).expect(0).out, "shop/web new\n");
    assert_eq!(bench.current()["build"], old);
    let failed = bench.node.mcp("mcp-pull", &["shop"]).expect(111);
    assert!(failed.one_line().ends_with(": Connection refused"), "{failed:#?}");

    // A third one: of the first there is nothing to go back to any more, so its name goes, and a prune takes it.
    bench.podman.act("localhost/act:3");
    bench.define("localhost/act:3");
    assert_eq!(bench.record(&["--new", "--now"]).expect(0).out, "shop/web new\n");
    let third = bench.current()["build"].as_str().unwrap().to_string();
    let mut wanted = vec![short(&old), short(&third)];
    wanted.sort();
    assert_eq!(bench.kept(), wanted);

    bench.podman.ask(&["rmi", "--force", &old]);
    let shown = bench.record(&[]).expect(0).out;
    assert!(shown.contains(&format!("build {old} (not in podman's storage)")), "{shown}");
    assert_eq!(bench.node.mcp("mcp-rm", &["shop"]).expect(0).out, "shop/web removed\n");
    assert!(bench.kept().is_empty());
    bench.podman.ask(&["image", "exists", "localhost/act:3"]);
    // What was noted of it goes with the image.
    let notes = || std::fs::read_dir(bench.node.root.join("lib/containers/pulled")).unwrap().count();
    assert_eq!(notes(), 1);
    bench.podman.ask(&["rmi", "--force", "--all"]);
    bench.node.mcp("mcp-build", &["--gc"]).expect(0);
    assert_eq!(notes(), 0);
}

#[test]
fn container_image_of_this_node_alone_is_used_as_it_is() {
    let Some(bench) = Bench::new("container_image_of_this_node") else { return };
    bench.define(ACT);
    let id = bench.podman.ask(&["image", "inspect", "--format", "{{.Id}}", ACT]);
    let answer = bench.node.mcp("mcp-pull", &["shop"]).expect(0);
    assert!(answer.out.ends_with(&format!(" containers-storage:{id}\n")), "{answer:#?}");
    assert_eq!(answer.one_line(), format!("mcp-pull: {ACT}: of this node alone: used as it is"));
    assert_eq!(bench.record(&["--new", "--now"]).expect(0).out, "shop/web new\n");
    // Built again under its name: another version, and the one before stays.
    bench.podman.image(ACT, &json!({ "Entrypoint": ["/act"], "Cmd": ["tick"] }));
    assert_eq!(bench.record(&["--check"]).expect(1).out, "shop/web another version\n");
    bench.podman.ask(&["image", "prune", "--force"]);
    bench.podman.ask(&["image", "exists", &id]);
    // Built under a registry's name, and never pushed there.
    let built = bench.registry.reference("built:1");
    bench.podman.act(&built);
    let answer = bench.node.mcp("mcp-pull", &["--for", "container", &built]).expect(0);
    assert_eq!(answer.one_line(), format!("mcp-pull: {built}: of this node alone: used as it is"));
    let missing = bench.node.mcp("mcp-pull", &["--for", "container", "localhost/nothing:1"]).expect(100);
    assert!(missing.one_line().contains("podman has no such image, and localhost is no registry"), "{missing:#?}");
    assert!(bench.registry.requests().iter().all(|r| r.contains("/v2/built/")), "{:#?}", bench.registry.requests());
    // All that mcp-status could ask would be itself.
    let told: Value = serde_json::from_str(&bench.node.mcp("mcp-status", &["--json", "--remote"]).out).unwrap();
    assert_eq!(told["components"][0].get("remote").filter(|r| !r.is_null()), None, "{told:#}");
}

#[test]
fn container_image_of_an_index_a_directory_and_an_archive() {
    let Some(bench) = Bench::new("container_image_of_an_index") else { return };
    let reference = bench.registry.reference("act:all");
    bench.podman.act("localhost/arm:1");
    bench.podman.shell(&format!(
        "podman manifest create all && podman manifest add all containers-storage:{ACT} && podman manifest add --arch arm64 all \
         containers-storage:localhost/arm:1 && podman manifest push -q --tls-verify=false --all all docker://{reference} && \
         podman manifest rm all && podman rmi {ACT}"
    ))
    .expect(0);
    bench.define(&reference);
    let told: Value = serde_json::from_str(&bench.node.mcp("mcp-pull", &["--json", "shop"]).expect(0).out).unwrap();
    let image = &told["images"][0];
    assert_ne!(image["tagged"], image["manifest"], "{image:#}");
    assert_eq!((&image["runtime"], &image["new"], &image["layers"]), (&json!("container"), &json!(true), &json!(1)));
    assert_eq!(
        (&image["bytes_fetched"], image["path"].as_str()),
        (&Value::Null, Some(format!("containers-storage:{}", image["key"].as_str().unwrap()).as_str()))
    );
    bench.record(&["--new", "--now"]).expect(0);
    assert_eq!(bench.current()["tagged"], image["tagged"]);
    let remote = |bench: &Bench| {
        let told: Value = serde_json::from_str(&bench.node.mcp("mcp-status", &["--json", "--remote"]).out).unwrap();
        told["components"][0]["remote"].clone()
    };
    assert!(remote(&bench).to_string().contains("same"), "{}", remote(&bench));
    // By the digest of the index: the same image, and no pull.
    let by_digest = format!("{}@{}", bench.registry.reference("act"), image["tagged"].as_str().unwrap());
    let answer = bench.node.mcp("mcp-pull", &["--for", "container", &by_digest]).expect(0);
    assert!(answer.one_line().ends_with(": nothing new"), "{answer:#?}");

    let made = oci_image(&bench.node.root.join("oci-out"), "v1", &json!({ "Entrypoint": ["/x"] }), &["filler:1"]);
    let answer = bench.node.mcp("mcp-pull", &["--for", "container", &made.reference()]).expect(0);
    let id = made.config.trim_start_matches("sha256:");
    assert_eq!(answer.out, format!("{} {} containers-storage:{id}\n", made.reference(), made.manifest));
    let answer = bench.node.mcp("mcp-pull", &["--for", "container", &made.reference()]).expect(0);
    assert!(answer.one_line().ends_with(": nothing new"), "{answer:#?}");
    let (pull, build) = (program("mcp-pull"), program("mcp-build"));
    let line = format!("{} -q --for container {} | {} -", pull.display(), made.reference(), build.display());
    let shell = bench.node.command("mcp-pull", &[]);
    let mut pipe = Command::new("sh");
    pipe.args(["-c", &line]).envs(shell.get_envs().filter_map(|(k, v)| Some((k, v?))));
    pipe.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    assert_eq!(finish(pipe, &line).expect(0).out, format!("{id} containers-storage:{id}\n"));

    let archive = bench.node.root.join("a.tar");
    bench.podman.ask(&["save", "-q", "--format", "docker-archive", "-o", archive.to_str().unwrap(), id]);
    let reference = format!("docker-archive:{}", archive.display());
    let answer = bench.node.mcp("mcp-pull", &["--for", "container", &reference]).expect(0);
    assert!(answer.out.ends_with(&format!(" containers-storage:{id}\n")), "{answer:#?}");
    let stdin = bench.node.mcp("mcp-pull", &["--for", "container", "docker-archive:-"]).expect(100);
    assert!(stdin.one_line().contains("podman load reads an archive from standard input"), "{stdin:#?}");
    std::fs::write(&archive, "junk").unwrap();
    bench.node.mcp("mcp-pull", &["--for", "container", &reference]).expect(100);
}

#[test]
fn container_image_comes_through_the_door_that_the_node_config_describes() {
    let door = Door { password: Some(("me", "secret")), tls: true, ..Door::default() };
    let Some(mut bench) = Bench::with("container_image_comes_through_the_door", door) else { return };
    let made = oci_image(&bench.node.root.join("oci-out"), "v1", &json!({ "Entrypoint": ["/x"] }), &["filler:1"]);
    let reference = bench.registry.fill(&made.reference(), "door:1");
    let pull = |bench: &Bench| bench.node.mcp("mcp-pull", &["-q", "--for", "container", &reference]);
    let stranger = pull(&bench).expect(100);
    assert!(stranger.one_line().contains("name its CA: ca in [registry."), "{stranger:#?}");
    let ca = bench.registry.ca();
    let host = bench.registry.host();
    bench.node.configure(&format!("[registry.\"{host}\"]\nca = \"{}\"\n", ca.display()));
    let nobody = pull(&bench).expect(100);
    assert!(nobody.one_line().contains("login"), "{nobody:#?}");
    let auth = bench.node.root.join("auth.json");
    std::fs::write(&auth, json!({ "auths": { &host: { "auth": "bWU6c2VjcmV0" } } }).to_string()).unwrap();
    let config = format!("[registry.\"{host}\"]\nca = \"{}\"\nauth_file = \"{}\"\n", ca.display(), auth.display());
    bench.node.configure(&config);
    let answer = pull(&bench).expect(0);
    let id = made.config.trim_start_matches("sha256:");
    assert_eq!(answer.out, format!("{reference} {} containers-storage:{id}\n", made.manifest));

    // Through a mirror, while the registry itself is nowhere: the name is that which was asked for.
    let elsewhere = format!("registry.example/door:1@{}", made.manifest);
    bench.podman.ask(&["rmi", "--force", id]);
    bench.node.configure(&format!("{config}[registry.\"registry.example\"]\nmirrors = [\"{host}\"]\n"));
    let answer = bench.node.mcp("mcp-pull", &["-q", "--for", "container", "registry.example/door:1"]).expect(0);
    assert_eq!(answer.out, format!("registry.example/door:1 {} containers-storage:{id}\n", made.manifest));
    assert_eq!(bench.podman.ask(&["image", "inspect", "--format", "{{.RepoTags}}", id]), "[registry.example/door:1]");
    bench.registry.stop();
    bench.node.mcp("mcp-pull", &["-q", "--for", "container", &elsewhere]).expect(111);
}

#[test]
fn container_image_that_can_not_be_had_is_told_in_words() {
    let Some(bench) = Bench::new("container_image_that_can_not_be_had") else { return };
    let nothing = bench.registry.reference("nothing:1");
    let pull = |what: &str| bench.node.mcp("mcp-pull", &["--for", "container", what]);
    let answer = pull(&nothing).expect(100);
    assert!(answer.one_line().contains("has no such "), "{answer:#?}");
    let reference = bench.push(ACT, "act:1");
    let answer = pull(&reference.replace("act:1", "act:2")).expect(100);
    assert!(answer.one_line().contains("has no such tag"), "{answer:#?}");
    pull("UPPER.example/X").expect(2);

    // A layer that is damaged in the registry: podman finds that out.
    bench.podman.act("localhost/damaged:1");
    let damaged = bench.push("localhost/damaged:1", "damaged:1");
    let url = format!("http://{}/v2/damaged/manifests/1", bench.registry.host());
    let accept = "Accept: application/vnd.oci.image.manifest.v1+json";
    let manifest: Value =
        serde_json::from_str(&bench.podman.shell(&format!("curl -sS -H '{accept}' {url}")).expect(0).out).unwrap();
    let blob = bench.registry.blob(manifest["layers"][0]["digest"].as_str().unwrap());
    let mut bytes = std::fs::read(&blob).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(&blob, bytes).unwrap();
    bench.podman.ask(&["rmi", "--force", "localhost/damaged:1", ACT]);
    let answer = pull(&damaged).expect(100);
    assert!(answer.one_line().starts_with(&format!("mcp-pull: {damaged}: podman can't pull it: ")), "{answer:#?}");

    let fake = FakePodman::new(&bench.node);
    bench.node.configure(&fake.config());
    fake.does("nospace:pull");
    let answer = pull(&reference).expect(111);
    assert!(answer.one_line().contains("no space left on device"), "{answer:#?}");
    fake.does("junk:pull");
    assert!(pull(&reference).expect(100).one_line().contains("not what we know"));
    bench.podman.ask(&["rmi", "--force", "--all"]);
    fake.does("hang:pull");
    let answer = bench.node.mcp("mcp-pull", &["--timeout", "1s", "--for", "container", &reference]).expect(111);
    assert_eq!(answer.one_line(), format!("mcp-pull: {reference}: podman does not answer in time; try again"));
    fake.does("deaf:pull");
    let answer = bench.node.mcp("mcp-pull", &["--timeout", "1s", "--for", "container", &reference]).expect(111);
    assert_eq!(answer.one_line(), format!("mcp-pull: {reference}: podman does not answer in time; try again"));
    fake.does("junk:image");
    bench.node.define("shop", &format!("name = \"shop\"\n[[components]]\nname = \"web\"\nimage = \"{reference}\"\n"));
    assert!(bench.node.mcp("mcp-record", &["--new", "shop"]).expect(100).one_line().contains("not what we know"));
    bench.node.configure("[podman]\nbinary = \"/nowhere/podman\"\n");
    for (program, args) in [("mcp-pull", &["shop"][..]), ("mcp-build", &["shop"]), ("mcp-record", &["--new", "shop"])] {
        let answer = bench.node.mcp(program, args).expect(100);
        let line = format!("{program}: /nowhere/podman: not found; [podman] binary in mcp.toml names it");
        assert_eq!(answer.one_line(), line, "{answer:#?}");
    }
    bench.node.configure("");
}

#[test]
fn container_image_over_tls_with_a_pinned_and_with_a_client_certificate() {
    for (self_signed, wants_certificate) in [(true, false), (false, true)] {
        let door = Door { tls: true, self_signed, wants_certificate, ..Door::default() };
        let Some(bench) = Bench::with("container_image_over_tls", door) else { return };
        let made = oci_image(&bench.node.root.join("oci-out"), "v1", &json!({ "Entrypoint": ["/x"] }), &["filler:1"]);
        let reference = bench.registry.fill(&made.reference(), "door:1");
        let mut config =
            format!("[registry.\"{}\"]\nca = \"{}\"\n", bench.registry.host(), bench.registry.ca().display());
        if wants_certificate {
            let (cert, key) = bench.registry.client();
            config += &format!("cert = \"{}\"\nkey = \"{}\"\n", cert.display(), key.display());
        }
        bench.node.configure(&config);
        let answer = bench.node.mcp("mcp-pull", &["-q", "--for", "container", &reference]).expect(0);
        assert!(answer.out.ends_with(&format!(":{}\n", made.config.trim_start_matches("sha256:"))), "{answer:#?}");
    }
}

/// A mirror that asks to wait for an hour, and one that is down: one line for each, and the image comes at once.
#[test]
fn container_image_comes_from_the_registry_where_mirrors_are_at_fault() {
    let Some(bench) = Bench::new("container_image_comes_from_the_registry") else { return };
    let reference = bench.push(ACT, "act:1");
    bench.podman.ask(&["rmi", ACT]);
    let faulty = crate::registry_faults::Fake::start();
    let (host, down) = (bench.registry.host(), crate::harness::free_port());
    let mirrors = format!("[\"127.0.0.1:{}/limit\", \"127.0.0.1:{down}\"]", faulty.port);
    bench.node.configure(&format!("[registry.\"{host}\"]\nmirrors = {mirrors}\n"));
    let answer = bench.node.mcp("mcp-pull", &["--for", "container", &reference]).expect(0);
    let lines: Vec<&str> = answer.err.lines().collect();
    assert_eq!(lines.len(), 3, "{answer:#?}");
    assert!(lines[0].contains("/limit: ") && lines[0].contains("You have reached your pull limit"), "{answer:#?}");
    assert!(lines[1].contains(&format!("mirror 127.0.0.1:{down}: ")) && lines[1].contains("refused"), "{answer:#?}");
    assert!(lines[2].ends_with(": pulled by podman"), "{answer:#?}");
}
