//! Runs the pages for readers, command by command, as they stand.

use super::blocks::{Block, Step, agrees, blocks, steps};
use super::{cluster, markdown, root, text};
use crate::harness::{Answer, finish, guest_init, have, hello, ops, skip, wait_for, which};
use crate::inits::{Kind, Lab, lay_down};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Commands that no test runs, each with its reason.
const NOT_RUN: [(&str, &str); 8] = [
    ("scripts/quickstart", "it installs packages and builds: for a Debian made from nothing"),
    ("scripts/test", "it is what runs this"),
    ("scripts/build", "it is how the programs under test were built"),
    ("scripts/deb .", "tests/suite/install makes packages and installs them"),
    ("apt-get install -y ./mcp_*.deb", "tests/suite/install does that with a package of these programs"),
    ("apt-get update", "it asks the network, and the test's machine has what it needs"),
    (
        "apt-get install -y --no-install-recommends ./mcp_*.deb podman crun netavark iptables nftables busybox-static curl jq",
        "the programs of this tree are tested, not a package",
    ),
    ("mcp-get-guest-kernel", "it downloads a kernel; the test lays down the one that all tests use"),
];

/// Commands of the page about clusters that the lab can't run: its three nodes have all that up already.
pub const BEYOND: [(&str, &str); 8] = [
    (
        "apt-get install -y ./mcp_*.deb corosync pacemaker crmsh resource-agents fence-agents",
        "the lab is made of those packages and of the programs under test",
    ),
    ("corosync-keygen", "the lab's nodes trust each other"),
    (
        "for node in n2 n3; do scp -p /etc/corosync/authkey /etc/corosync/corosync.conf \"$node:/etc/corosync/\"; done",
        "the lab's nodes are made with it",
    ),
    ("systemctl enable corosync pacemaker", "the lab's nodes have no init system"),
    ("systemctl restart corosync pacemaker", "likewise; both are up"),
    (FENCE[0], "the lab has a power switch instead of management boards"),
    (FENCE[1], "likewise"),
    (FENCE[2], "likewise"),
];

const FENCE: [&str; 3] = [
    "crm configure primitive fence-n1 stonith:fence_ipmilan params ip=10.9.1.1 username=fence password=secret lanplus=1 pcmk_host_list=n1",
    "crm configure primitive fence-n2 stonith:fence_ipmilan params ip=10.9.1.2 username=fence password=secret lanplus=1 pcmk_host_list=n2",
    "crm configure primitive fence-n3 stonith:fence_ipmilan params ip=10.9.1.3 username=fence password=secret lanplus=1 pcmk_host_list=n3",
];

/// Pages of contributors: what they show is what CI does.
const NOT_FOR_USERS: [&str; 2] = ["CONTRIBUTING.md", "NEWS.md"];

/// What a block may be besides commands: something to read.
const READ: [&str; 6] = ["toml", "text", "ini", "yaml", "json", "rust"];

/// The pages, by their names from the root of the tree.
fn pages() -> Vec<String> {
    let names = markdown().into_iter().map(|p| p.strip_prefix(root()).unwrap().to_str().unwrap().to_string());
    names.filter(|n| !NOT_FOR_USERS.contains(&n.as_str())).collect()
}

pub fn blocks_of(page: &str) -> Vec<Block> {
    blocks(&std::fs::read_to_string(root().join(page)).unwrap())
}

pub fn is_shell(block: &Block) -> bool {
    ["sh", "console"].contains(&block.language.as_str())
}

fn steps_of(page: &str) -> Vec<Step> {
    blocks_of(page).iter().filter(|b| is_shell(b)).flat_map(|b| steps(page, b)).collect()
}

/// Runs the steps of a page in turn. The first that goes wrong ends it, since the others build on it.
fn run_page(lab: &Lab, page: &str) {
    let steps = steps_of(page);
    assert!(!steps.is_empty(), "{page} has no commands");
    for step in steps {
        let command = &step.example.command;
        if NOT_RUN.iter().any(|(c, _)| c == command) {
            continue;
        }
        if let Some((_, lines)) = BEFORE.iter().find(|(c, _)| c == command) {
            finish(lab.command(&format!("set -e\n{lines}")), lines).expect(0);
        }
        let lines = INSTEAD.iter().find(|(c, _)| c == command).map_or(command.as_str(), |(_, lines)| lines);
        judge(page, &step, || finish(lab.command(&format!("exec 2>&1\ncd /root\n{lines}")), command));
    }
}

/// Runs a step, and fails the test where it does not end and say what the page shows.
pub fn judge(page: &str, step: &Step, run: impl Fn() -> Answer) {
    let once = || {
        let answer = run();
        let right = answer.code == Some(step.code());
        let said = step.shown.as_ref().is_none_or(|shown| agrees(shown, &answer.out));
        (answer, right && said)
    };
    let (mut answer, mut right) = once();
    // Who looks too early looks again.
    if !right && step.looks() {
        wait_for(Duration::from_secs(15), || {
            (answer, right) = once();
            right.then_some(())
        });
    }
    let (line, code, command) = (step.example.line, step.code(), &step.example.command);
    eprintln!("{:.1} s: {command}", answer.took.as_secs_f32());
    assert!(
        right,
        "{page}:{line}: {command}\nexit {:?}, wanted {code}; it said:\n{}\nwanted:\n{}",
        answer.code,
        answer.out,
        step.shown.as_deref().unwrap_or_default().join("\n")
    );
}

/// A machine under systemd that has what an installed `mcp` brings along. `None`, and a line that says so, where it can't
/// be had.
fn machine(test: &str) -> Option<Lab> {
    if !["curl", "jq", "podman", "crun"].into_iter().all(|program| have(test, program)) {
        return None;
    }
    let kernel = std::env::var("MCP_TEST_KERNEL").unwrap_or_default();
    if kernel.is_empty() || guest_init().is_none() {
        skip(test, "no guest kernel or init: set MCP_TEST_KERNEL, run scripts/build");
        return None;
    }
    let lab = Lab::new(test, Kind::Systemd, &[])?;
    // podman's own control groups and limits want rights that a machine inside another may not have, and its storage a
    // folder that is no overlay.
    let limits = "default_ulimits = [\"nofile=1024:4096\", \"nproc=1024:4096\"]";
    let config = format!("[containers]\ncgroups = \"disabled\"\n{limits}\n[network]\nnetwork_backend = \"netavark\"\n");
    lab.write("/etc/containers/containers.conf", &config, 0o644);
    lab.ask("rm -rf /var/lib/containers && mkdir /var/lib/containers && mount -t tmpfs t /var/lib/containers");
    lab.ask(&format!("mkdir -p /var/lib/mcp && ln -s '{kernel}' /var/lib/mcp/kernel"));
    // As the package lays it down and its postinst brings it up.
    lay_down(&lab);
    lab.configure(&text("scripts/deb.d/mcp.toml"));
    let init = guest_init().unwrap();
    lab.ask(&format!("systemctl set-environment MCP_GUEST_INIT='{}'; systemctl daemon-reload", init.display()));
    lab.ask("systemctl enable -q mcp.target && systemctl start mcp.target");
    Some(lab)
}

/// What several pages take for granted: the image of the tutorial, for podman and as a folder.
const HELLO: &str = "mkdir -p /srv/hello && cp /bin/busybox /srv/hello/ && echo hello >/srv/hello/index.html
printf '%s\\n' 'FROM scratch' 'COPY busybox /bin/httpd' 'COPY index.html /www/index.html' \\
    'ENTRYPOINT [\"/bin/httpd\", \"-f\", \"-v\", \"-h\", \"/www\"]' 'CMD [\"-p\", \"8080\"]' >/srv/hello/Containerfile
podman build -q -t localhost/hello:1 /srv/hello
podman save -q --format oci-dir -o /srv/hello/1 localhost/hello:1";

/// The pages with commands, each with what it takes for granted: its first paragraphs say so.
const RUN: [(&str, &[&str]); 9] = [
    ("README.md", &[EXAMPLE]),
    ("docs/tutorial.md", &[]),
    ("docs/how-to/inits.md", &[HELLO, NODE]),
    ("docs/how-to/from-quadlet.md", &[HELLO, QUADLET]),
    ("docs/how-to/from-compose.md", &[HELLO, "echo GREETING=hi >/root/web.env"]),
    ("docs/how-to/from-ops.md", &[OPS]),
    ("docs/how-to/backup.md", &[HELLO, NODE]),
    ("docs/how-to/tls-and-registry.md", &[HELLO, REGISTRY]),
    ("docs/how-to/debug.md", &[HELLO, BROKEN]),
];

/// The unit that quadlet would make of the page's file; Debian's podman is too old to make it itself.
const QUADLET: &str = "echo GREETING=hi >/etc/web.env
mkdir -p /etc/containers/systemd && echo '[Container]' >/etc/containers/systemd/web.container
printf '%s\\n' '[Service]' 'ExecStart=podman run --rm --name systemd-web -v systemd-web:/srv -p 8080:8080 localhost/hello:1' \\
    'ExecStop=podman rm -f -t 0 systemd-web' >/run/systemd/system/web.service
systemctl daemon-reload && systemctl start web.service
until curl -sS -m 2 http://127.0.0.1:8080/ 2>/dev/null; do sleep 0.05; done";

const OPS: &str = "mkdir -p /srv/app/data && cp /srv/hello-program /srv/app/hello
echo '{\"Args\": [\"--port\", \"8080\"], \"Env\": {\"NAME\": \"ops\"}}' >/srv/app/config.json
ops volume create data -s 32m";

/// A node with a volume of a VM and one of podman's.
const NODE: &str = "mkdir -p /etc/mcp/services
printf '%s\\n' 'name = \"hello\"' '[[components]]' 'name = \"web\"' 'runtime = \"microvm\"' 'image = \"oci:/srv/hello/1\"' \\
    'memory_mb = 128' 'ports = [\"127.0.0.1:8080:8080\"]' 'volumes = [\"data:/data:16M\"]' 'stop_timeout = \"5s\"' >/etc/mcp/services/hello.toml
printf '%s\\n' '[[boot.sequence]]' 'name = \"foundation\"' 'services = [\"hello\"]' >>/etc/mcp/mcp.toml
systemctl daemon-reload
podman volume create data
mcp deploy hello";

/// A registry with TLS and a login, on loopback.
const REGISTRY: &str = "echo '127.0.0.1 localhost registry.example' >/etc/hosts
mkdir /root/registry && cd /root/registry
key='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
openssl req -x509 $key -subj /CN=ca -days 2 -keyout ca.key -out /root/ca.pem
echo 'basicConstraints=CA:FALSE
subjectAltName=DNS:registry.example' >names
openssl req $key -subj /CN=registry -keyout server.key -out server.csr
openssl x509 -req -in server.csr -CA /root/ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem
htpasswd -Bbn operator secret >htpasswd
echo secret >/root/password
printf '%s\\n' 'version: 0.1' 'log: {level: error}' 'storage: {filesystem: {rootdirectory: /root/registry/storage}}' 'http:' \\
    '  addr: 127.0.0.1:5000' '  secret: x' \\
    '  tls: {certificate: /root/registry/server.pem, key: /root/registry/server.key}' \\
    'auth: {htpasswd: {realm: tests, path: /root/registry/htpasswd}}' >config.yml
systemd-run -q --unit registry docker-registry serve /root/registry/config.yml
until curl -sk https://127.0.0.1:5000/; do sleep 0.05; done
skopeo --insecure-policy copy -q --dest-tls-verify=false --dest-creds operator:secret oci:/srv/hello/1 \\
    docker://registry.example:5000/hello:1";

/// The example service's image in a registry on loopback, and its definition; and what the lines of cron need.
const EXAMPLE: &str = "mkdir -p /root/registry /srv/example /var/lib/prometheus/node-exporter && cd /srv/example
printf '%s\\n' '#!/bin/sh' 'echo \"$@\"' >/usr/local/bin/page && chmod 755 /usr/local/bin/page
cp /srv/hello-program hello
printf '%s\\n' 'FROM scratch' 'COPY hello /hello' 'ENTRYPOINT [\"/hello\"]' 'CMD [\"--port\", \"8080\"]' >Containerfile
printf '%s\\n' 'version: 0.1' 'log: {level: error}' 'storage: {filesystem: {rootdirectory: /root/registry/storage}}' 'http:' \\
    '  addr: 127.0.0.1:5000' '  secret: x' >/root/registry/config.yml
systemd-run -q --unit registry docker-registry serve /root/registry/config.yml
until curl -s http://127.0.0.1:5000/; do sleep 0.05; done
podman build -q -t localhost:5000/hello:1 .
podman push -q --tls-verify=false localhost:5000/hello:1
mkdir -p /etc/mcp/services";

/// Three services that are wrong, each in its own way.
const BROKEN: &str = "mkdir -p /etc/mcp/services
service() {
    printf '%s\\n' \"name = \\\"$1\\\"\" '[[components]]' 'name = \"web\"' 'runtime = \"microvm\"' 'image = \"oci:/srv/hello/1\"' \\
        'ports = [\"127.0.0.1:8080:8080\"]' 'stop_timeout = \"5s\"' \"$2\" '[components.health]' 'kind = \"http\"' \\
        >/etc/mcp/services/$1.toml
}
service big 'memory_mb = 999999'
sed -i 's/8080:8080/8081:8080/' /etc/mcp/services/big.toml
service wrong 'args = [\"-x\"]'
sed -i 's/8080:8080/8082:8080/' /etc/mcp/services/wrong.toml
service deaf 'args = [\"-p\", \"80\"]'
mcp deploy --record-only deaf";

/// What a reader has done before a command without being told.
const BEFORE: [(&str, &str); 1] = [(
    "tar -C / -xSf /root/node.tar",
    // Gone to another machine.
    "mcp boot --down && rm -rf /etc/mcp /var/lib/mcp/* /run/mcp && podman volume rm data && podman rmi --all --force",
)];

/// What stands for a command that the test's machine can't do.
const INSTEAD: [(&str, &str); 1] = [(
    "systemctl reboot",
    // All goes down, what is of one boot goes, and what is enabled comes up.
    "systemctl stop mcp.target 'mcp-*' && rm -rf /run/mcp && systemctl start $(ls /etc/systemd/system/multi-user.target.wants)",
)];

/// Runs one of [`RUN`].
fn run(page: &str) {
    let test = format!("docs: {page}");
    let Some(lab) = machine(&test) else { return };
    if page.ends_with("from-ops.md") && !with_ops(&test, &lab) {
        return;
    }
    copy(&lab, &hello(), "/srv/hello-program");
    // Installed, it would start a server of its own, so scripts/test unpacks it elsewhere.
    if let Some(registry) = which("docker-registry") {
        copy(&lab, &registry, "/usr/bin/docker-registry");
    }
    if page == "README.md" {
        lab.define("hello", &text("examples/services/hello.toml"));
    }
    for lines in RUN.iter().find(|(p, _)| *p == page).unwrap().1 {
        let answer = finish(lab.command(&format!("cd /root\nset -e\n{lines}")), page);
        assert_eq!(answer.code, Some(0), "what {page} takes for granted: {answer:#?}");
    }
    run_page(&lab, page);
}

/// Puts the real ops where its own installer does, and a static program beside. `false`, and a line, where there is none.
pub fn with_ops(test: &str, lab: &Lab) -> bool {
    let Some((ops, home)) = ops() else {
        skip(test, "no ops: install it (https://ops.city), or set MCP_TEST_OPS and MCP_TEST_OPS_HOME");
        return false;
    };
    copy(lab, &ops, "/usr/local/bin/ops");
    copy(lab, &home.join(".ops"), "/root/.ops");
    true
}

pub fn copy(lab: &Lab, from: &Path, to: &str) {
    std::fs::create_dir_all(lab.path(to).parent().unwrap()).unwrap();
    let done = Command::new("cp").arg("-rLT").arg(from).arg(lab.path(to)).status().unwrap();
    assert!(done.success(), "cp {} {to}", from.display());
}

#[test]
fn docs_readme_runs() {
    if have("docs_readme_runs", "docker-registry") {
        run("README.md");
    }
}

#[test]
fn docs_tutorial_runs() {
    run("docs/tutorial.md");
}

#[test]
fn docs_inits_runs() {
    run("docs/how-to/inits.md");
}

#[test]
fn docs_from_quadlet_runs() {
    run("docs/how-to/from-quadlet.md");
}

#[test]
fn docs_from_compose_runs() {
    run("docs/how-to/from-compose.md");
}

#[test]
fn docs_from_ops_runs() {
    run("docs/how-to/from-ops.md");
}

#[test]
fn docs_tls_and_registry_runs() {
    let test = "docs_tls_and_registry_runs";
    if ["docker-registry", "htpasswd", "openssl", "skopeo"].into_iter().all(|program| have(test, program)) {
        run("docs/how-to/tls-and-registry.md");
    }
}

#[test]
fn docs_debug_runs() {
    run("docs/how-to/debug.md");
}

#[test]
fn docs_backup_runs() {
    run("docs/how-to/backup.md");
}

#[test]
fn docs_have_no_command_that_nothing_runs() {
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for page in pages() {
        for block in blocks_of(&page) {
            let known = is_shell(&block) || READ.contains(&block.language.as_str());
            if !known {
                wrong.push(format!("{page}:{}: a block of {:?}", block.lines[0].0, block.language));
            }
        }
        for step in steps_of(&page) {
            let told = NOT_RUN.iter().chain(&BEYOND).any(|(c, _)| *c == step.example.command);
            if !told && page != cluster::PAGE && !RUN.iter().any(|(p, _)| *p == page) {
                wrong.push(format!("{page}:{}: nothing runs {}", step.example.line, step.example.command));
            }
            seen.insert(step.example.command);
        }
    }
    let idle =
        NOT_RUN.iter().chain(&BEYOND).filter(|(c, _)| !seen.contains(*c)).map(|(c, _)| format!("no page has it: {c}"));
    wrong.extend(idle);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
