//! The examples of the man pages and of `--help`, on one node.

use super::{Care, Place, in_place, of_help, of_page, run};
use crate::harness::{Door, Podman, Registry, guest_init, have, hello, microvm, nanos, oci_image, ops_config, skip};
use serde_json::json;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

const TEST: &str = "the_examples_of_the_pages_run";

/// Programs in the order in which their examples make sense: a node is brought up, looked at, changed, taken down.
const ORDER: [&str; 19] = [
    "units",
    "boot",
    "mcp",
    "status",
    "probe",
    "health",
    "logs",
    "deploy",
    "record",
    "pull",
    "build",
    "run-container",
    "run-vm",
    "run",
    "rm",
    "stop",
    "get-guest-kernel",
    "guest-init",
    "mcp.toml",
];

/// What is declared on the node, but for the disks. `shop` comes from a registry, the others are there already.
const SHOP: &str = r#"name = "shop"
[[components]]
name = "api"
runtime = "unikernel"
image = "registry.example:5000/shop-api:1"
memory_mb = 128
ports = ["127.0.0.1:9201:8080"]
stop_timeout = "5s"
[[components]]
name = "web"
image = "registry.example:5000/act:1"
network = "host"
args = ["serve", "9202"]
ports = ["127.0.0.1:9202:9202"]
stop_timeout = "5s"
"#;
const WEB: &str = r#"name = "web"
[[components]]
name = "front"
image = "registry.example:5000/act:1"
network = "host"
args = ["serve", "9301"]
ports = ["127.0.0.1:9301:9301"]
stop_timeout = "5s"
"#;
const DB: &str = r#"[[components]]
name = "db"
image = "registry.example:5000/act:1"
network = "host"
args = ["serve", "9102"]
ports = ["127.0.0.1:9102:9102"]
volumes = ["data:/data"]
stop_timeout = "5s"
"#;
const STAGES: &str = r#"
[registry."registry.example:5000"]
insecure = true
[[boot.sequence]]
name = "foundation"
services = ["mcias", "mcns"]
health = "tcp"
[[boot.sequence]]
name = "core"
services = ["shop", "web", "demo"]
timeout = "40s"
health = "tcp"
"#;

/// Room for `demo/demo`, which has no definition, at the port of `demo/web`; and its definition back.
const ROOM: &str = "mcp-stop demo || :; mv /etc/mcp/services/demo.toml .";
const BACK: &str = "mcp-stop demo/demo || :; mcp-rm -q demo/demo || :; mv demo.toml /etc/mcp/services/";
const SERVES: &str = "mcp-health -q --wait 20s demo/demo";
/// For `mcp-logs --follow`.
const LISTENING: &str = "grep -q mcns.*listening said";
const END: &str = "kill -TERM -$group";

fn cares() -> Vec<Care> {
    let adhoc = |command| Care::of(command).before(ROOM).after(BACK);
    let alone = |command| adhoc(command).until(SERVES, "mcp-stop demo/demo");
    let mut cares = vec![
        Care::of("mcp-units")
            .before("echo '[boot]\ninit = \"runit\"' >>/etc/mcp/mcp.toml")
            .after("mcp-units --remove runit; sed -i -e '/^\\[boot\\]$/d' -e '/^init = /d' /etc/mcp/mcp.toml"),
        Care::of("mcp status").before("mcp-boot --strict"),
        Care::of("mcp run --detach demo").before("mcp-stop demo").after("mcp-boot --strict"),
        Care::of("mcp-status --prometheus /var/lib/prometheus/node-exporter/mcp.prom")
            .before("mkdir -p /var/lib/prometheus/node-exporter"),
        Care::of("mcp-status --prometheus /var/lib/node_exporter/mcp.prom").before("mkdir -p /var/lib/node_exporter"),
        Care::of("mcp-status --wanted demo/web && mcp-run --recover demo/web")
            .before("mcp-stop --for-now demo/web")
            .until("mcp-health -q --wait 20s demo/web", "mcp-stop demo/web")
            .after("mcp-run --detach --wait demo/web"),
        Care::of("mcp-logs -f -n 0 demo | grep -i --line-buffered error")
            .until("curl -fsS 'http://127.0.0.1:8080/log?lines=1&prefix=error'; grep -q error said", END)
            .exits(143),
        Care::of("mcp-logs -f -n 20 mcias mcns").until(LISTENING, END).exits(143),
        Care::of("mcp-logs -f -n 20 mcias/api mcns").until(LISTENING, END).exits(143),
        // One component is at the version of its definition, the other at the one before.
        Care::of("mcp-record --check shop").exits(1).says("shop/web another version"),
        alone(
            "mcp-pull oci:./out | mcp-build - |\n\
             while read -r key image; do mcp-run-vm --name demo --image \"$image\" --port 8080:8080; done",
        ),
        alone(
            "podman save app | mcp-pull docker-archive:- | mcp-build - |\nwhile read -r key image; do\n    \
             mcp-run-vm --name demo --image \"$image\" --port 8080:8080\ndone",
        ),
        alone("mcp-run-vm --name demo --disk app.img --port 127.0.0.1:8080:8080 --memory 128"),
        adhoc("mcp-run-vm --name demo --rootfs ./rootfs -p 8080:8080 --detach --wait -- /hello --port 8080"),
        Care::of("mcp-run-container --recover --console stdout shop/web")
            .before("mcp-stop --for-now shop/web")
            .until("mcp-health -q --wait 20s shop/web", "mcp-stop shop/web"),
        Care::of("mcp-run --recover demo/web")
            .before("mcp-run --detach demo/web; mcp-stop --for-now demo/web")
            .until("mcp-health -q --wait 20s demo/web", "mcp-stop demo/web"),
        Care::of("mcp-run --replace demo/web").before("mcp-run --detach --wait demo/web || :"),
        Care::of("mcp-rm --volumes demo/db")
            .before("mcp deploy --record-only demo; mcp-run --detach demo/db; mcp-stop demo/db"),
        Care::of("mcp-rm demo").before("mcp-run --detach demo/web; mcp-stop demo/web"),
        Care::of("mcp-stop demo; mcp-rm demo").before("mcp-run --detach demo/api || :"),
        Care::of("mcp-stop shop").before("mcp-run --detach shop || :"),
        Care::of("mcp-stop shop/api web/front").before("mcp-run --detach shop/api web/front || :"),
        Care::of("mcp-stop --for-now shop/api").before("mcp-run --detach shop/api || :"),
        Care::of("mcp-stop --all").before("mcp-run --detach mcias || :"),
        Care::of("mcp-get-guest-kernel --own").not_run("it takes the kernel of the machine, which may have none"),
        Care::of("mcp-guest-init").exits(100).says("runs only as PID 1 of a microvm, see mcp-guest-init(8)\n"),
    ];
    // What asks a live cluster. Its like is run on three nodes, by tests/suite/cluster, ocf and docs/cluster.rs.
    for command in [
        "mcp-status --cluster",
        "mcp-status --cluster --list --state running shop/web",
        "mcp-status --cluster --via 'ssh -o BatchMode=yes mcp@{node} sudo'",
        "mcp cluster --dry-run --node n1=8G --node n2=8G --node n3=8G",
        "mcp cluster --via 'ssh {node}' --apply",
        "mcp cluster --pcs --shared shop/db shop | sh",
        "crm configure primitive shop_api ocf:mcp:component params target=shop/api \\\n    op start timeout=120s op stop timeout=60s \\\n    \
         op monitor interval=10s timeout=20s \\\n    op monitor interval=30s timeout=30s OCF_CHECK_LEVEL=10",
        "crm configure primitive shop ocf:mcp:component params target=shop",
        "pcs resource create shop_api ocf:mcp:component target=shop/api \\\n    op start timeout=120s op stop timeout=60s \\\n    \
         op monitor interval=10s timeout=20s \\\n    op monitor interval=30s timeout=30s OCF_CHECK_LEVEL=10",
        "crm_resource --resource shop_api --set-parameter generation --parameter-value 2",
        "OCF_RESKEY_target=shop/api /usr/lib/ocf/resource.d/mcp/component validate-all",
    ] {
        cares.push(Care::of(command).not_run("it wants a cluster of three nodes"));
    }
    for (id, commands) in
        [("shop/web", &["mcp-run-container shop/web"][..]), ("shop/api", &["mcp-run-vm shop/api", "mcp-run shop/api"])]
    {
        for command in commands {
            let until = format!("mcp-health -q --wait 20s {id}").leak();
            let ends = format!("mcp-stop {id} || :").leak();
            cares.push(Care::of(command).before(ends).until(until, ends));
        }
    }
    for (command, target) in [
        ("mcp-run-container --detach --wait shop/web", "shop/web"),
        ("mcp-run-vm --detach --wait shop/api", "shop/api"),
        ("mcp-run --detach --wait shop", "shop"),
        ("mcp-run --by-init --wait shop", "shop"),
        ("mcp-run --detach --wait demo", "demo"),
        ("mcp-run --by-init --wait demo", "demo"),
    ] {
        cares.push(Care::of(command).before(format!("mcp-stop {target} || :").leak()));
    }
    cares
}

/// A page and a help for each program, and the pages of other things.
fn pages() -> Vec<PathBuf> {
    let man = Path::new(env!("CARGO_MANIFEST_DIR")).join("man");
    let mut pages: Vec<PathBuf> = std::fs::read_dir(man).unwrap().map(|e| e.unwrap().path()).collect();
    let place = |page: &PathBuf| {
        let name = page.file_stem().unwrap().to_str().unwrap().trim_start_matches("mcp-").to_string();
        (ORDER.iter().position(|n| *n == name).unwrap_or(ORDER.len()), name)
    };
    pages.sort_by_key(place);
    pages
}

#[test]
fn the_examples_of_the_pages_run() {
    if !["jq", "curl", "openssl", "logger"].into_iter().all(|program| have(TEST, program)) {
        return;
    }
    in_place(TEST, |place| {
        let Some(_servers) = prepare(place) else { return };
        let (mut examples, mut seen) = (Vec::new(), BTreeSet::new());
        for page in pages() {
            let (mut found, _) = of_page(&page);
            let program = page.file_stem().unwrap().to_str().unwrap();
            if place.bin().join(program).exists() && program != "mcp-guest-init" {
                found.extend(of_help(place, program));
            }
            assert!(!found.is_empty() || page.extension().is_some_and(|e| e == "5"), "{program}: no examples");
            // What a page and a help both have is run once.
            found.retain(|e| seen.insert(e.command.clone()));
            examples.extend(found);
        }
        run(place, &examples, &cares());
    });
}

#[test]
fn the_definitions_of_the_pages_are_read() {
    in_place("the_definitions_of_the_pages_are_read", |place| {
        let mut count = 0;
        for page in pages() {
            for (line, text) in of_page(&page).1 {
                let _ = std::fs::remove_dir_all("/etc/mcp/services");
                std::fs::create_dir_all("/etc/mcp/services").unwrap();
                // An excerpt of a definition lacks the name of its service.
                let name = text.strip_prefix("name = \"").and_then(|t| t.split('"').next());
                let text = if name.is_some() { text.clone() } else { format!("name = \"x\"\n{text}") };
                if text.contains("[[components]]") {
                    place.node.define(name.unwrap_or("x"), &text);
                    let listed = place.node.mcp("mcp-status", &["--list"]);
                    let at = format!("{}:{line}", page.display());
                    assert!(matches!(listed.code, Some(0 | 1)) && listed.err.is_empty(), "{at}: {listed:#?}");
                    count += 1;
                }
            }
        }
        assert!(count >= 4, "the pages had {count} definitions");
    });
}

struct Servers {
    _registry: Registry,
    children: Vec<Child>,
}

impl Drop for Servers {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Definitions, images and servers that the examples take for granted.
fn prepare(place: &Place) -> Option<Servers> {
    let node = &place.node;
    let image = nanos(TEST, &[])?;
    let podman = Podman::new(TEST, node)?;
    let registry = Registry::at(TEST, node, Door::default(), 5000)?;
    if !microvm(TEST, node) {
        return None;
    }
    let work = place.work();
    node.configure(&(ops_config(TEST)? + STAGES));
    let disk = |name: &str, port: u16| {
        format!(
            "[[components]]\nname = \"{name}\"\nruntime = \"unikernel\"\ndisk = \"{}\"\nkernel = \"{}\"\n\
             memory_mb = 128\nports = [\"127.0.0.1:{port}:8080\"]\nstop_timeout = \"1s\"\n",
            image.disk, image.kernel
        )
    };
    node.define("demo", &format!("name = \"demo\"\n{}{}{DB}", disk("web", 8080), disk("api", 9101)));
    node.define("mcias", &format!("name = \"mcias\"\n{}", disk("api", 9001)));
    node.define("mcns", &format!("name = \"mcns\"\n{}", disk("mcns", 9002)));
    node.define("shop", SHOP);
    node.define("web", WEB);
    let changed = SHOP.replace("memory_mb = 128", "memory_mb = 136");
    let changed = changed.replace("[\"serve\", \"9202\"]", "[\"serve\", \"9202\"]\nenv = { V = \"2\" }");
    std::fs::write(work.join("shop.toml"), changed).unwrap();
    std::fs::copy(&image.disk, work.join("app.img")).unwrap();
    std::fs::create_dir_all(work.join("rootfs")).unwrap();
    std::fs::copy(hello(), work.join("rootfs/hello")).unwrap();

    let config = json!({ "Entrypoint": ["/hello"], "Cmd": ["--port", "8080"], "ExposedPorts": { "8080/tcp": {} } });
    let layer = format!("{}=/hello", hello().display());
    let out = oci_image(&work.join("out"), "1", &config, &[layer.as_str()]);
    registry.fill(&out.reference(), "shop-api:1");
    registry.fill(&out.reference(), "app:1");
    let act = crate::harness::ACT;
    podman.ask(&["push", "-q", "--tls-verify=false", act, "docker://127.0.0.1:5000/act:1"]);
    let import = "tar -C rootfs -c . | podman import -q -c 'ENTRYPOINT [\"/hello\"]' - localhost/app:latest";
    place.shell(import);

    // A CA, a server of it and a client of it.
    place.shell(
        "key='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'\n\
         openssl req -x509 $key -subj /CN=ca -days 2 -keyout ca.key -out ca.pem\n\
         echo 'basicConstraints=CA:FALSE\nsubjectAltName=DNS:api.example,DNS:localhost,IP:127.0.0.1' >names\n\
         for who in server me; do openssl req $key -subj /CN=$who -keyout $who.key -out $who.csr\n\
         openssl x509 -req -in $who.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out $who.pem\n\
         done; echo fine >healthz",
    );
    let peer = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/grpc/health_server.py");
    let tls = "--cert server.pem --key server.key --client-ca ca.pem";
    let mut children = Vec::new();
    for line in [
        "exec openssl s_server -quiet -accept 127.0.0.1:8443 -cert server.pem -key server.key -WWW".to_string(),
        format!("exec python3 {peer} --port 50051 --service my.v1.Service"),
        format!("exec python3 {peer} --port 9443 --service mcias.v1.Auth {tls}"),
    ] {
        let mut command = place.sh(&line);
        command.env("PYTHONPATH", grpc()?).env_remove("MCP_ROOT");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        children.push(command.spawn().unwrap());
    }
    place.shell("mcp deploy --record-only --all");
    Some(Servers { _registry: registry, children })
}

/// The folder with gRPC for Python.
fn grpc() -> Option<PathBuf> {
    let named = std::env::var_os("MCP_TEST_GRPC").filter(|v| !v.is_empty()).map(PathBuf::from);
    let folder = named.unwrap_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("test-grpc"));
    if !folder.join("grpc_health").is_dir() {
        skip(TEST, "no gRPC for Python: set MCP_TEST_GRPC, or run scripts/lib/get-test-grpc TARGET/test-grpc");
        return None;
    }
    guest_init().map(|_| folder)
}
