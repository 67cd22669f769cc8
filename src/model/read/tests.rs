#![allow(clippy::unwrap_used)]

use super::*;
use crate::model::{
    ContainerOnly, Egress, HealthKind, Node, OnUnhealthy, Restart, RootMode, Runtime, Service, Source, node::Log,
};
use std::path::PathBuf;
use std::time::Duration;

fn lines(text: &str) -> Vec<String> {
    match parse_service(Path::new("/etc/mcp/services/svc.toml"), text.as_bytes()) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(|p| p.to_string().replace("/etc/mcp/services/svc.toml", "F")).collect(),
    }
}

fn good(text: &str) -> Service {
    match parse_service(Path::new("/etc/mcp/services/svc.toml"), text.as_bytes()) {
        Ok(service) => service,
        Err(problems) => panic!("{}", problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")),
    }
}

/// Every key of the contract at once, as far as they go together.
pub(crate) const FULL: &str = r#"
name   = "svc"
active = true

[[components]]
name      = "api"
runtime   = "unikernel"
image     = "registry.example:5000/mcias:v1.2.0"
memory_mb = 512
vcpus     = 2
ports     = ["127.0.0.1:8443:8443", "5353:53/udp"]
args      = ["--verbose"]
env       = { RUST_LOG = "info" }
env_file  = "/etc/mcp/secrets/api.env"
egress    = "none"
volumes   = ["data:/srv/mcias", "cache:/var/cache:1G"]
include   = ["/etc/ssl/certs", "/app/static"]
restart   = "on-failure"
stop_timeout  = "40s"
start_timeout = "1m30s"
root = "persistent"
on_unhealthy = "restart"

  [components.health]
  kind     = "grpc"
  port     = 8443
  service  = "mcias.v1.Auth"
  tls      = true
  ca = "ca.pem"
  server_name = "mcias.example"
  interval = "250ms"
  timeout  = "3s"
  successes = 2
  failures  = 5

[[components]]
name = "web"
image = "localhost/web@sha256:0000000000000000000000000000000000000000000000000000000000000000"
ports = ["[::1]:8443:8443"]
volumes = ["./www:/srv:ro", "named:/data"]
network = "host"
user = "1000:1000"
health.kind = "http"
health.path = "/healthz"

[[components]]
name = "disk"
runtime = "unikernel"
disk = "../images/app.img"
kernel = "kernel.img"

[[components]]
name = "vm"
runtime = "microvm"
kernel = "/boot/vmlinuz"
initrd = "/boot/initrd"
cmdline = "console=ttyS0"

[[components]]
name = "root"
runtime = "microvm"
rootfs = "/srv/root"
"#;

#[test]
fn every_key_is_read() {
    let service = good(FULL);
    assert_eq!((service.name.as_str(), service.active, service.components.len()), ("svc", true, 5));
    let api = &service.components[0];
    assert_eq!((api.memory_mb, api.vcpus, api.ports.len()), (512, 2, 2));
    assert_eq!(api.args, Some(vec!["--verbose".to_string()]));
    assert_eq!(api.env["RUST_LOG"], "info");
    assert_eq!(api.env_file, Some(PathBuf::from("/etc/mcp/secrets/api.env")));
    assert_eq!((api.egress, api.restart, api.root), (Egress::None, Restart::OnFailure, RootMode::Persistent));
    assert_eq!(api.on_unhealthy, OnUnhealthy::Restart);
    assert_eq!(api.volumes[1].size, Some(1 << 30));
    assert_eq!(api.include, ["/etc/ssl/certs", "/app/static"]);
    assert_eq!((api.stop_timeout, api.start_timeout), (Duration::from_secs(40), Duration::from_secs(90)));
    let health = api.health.as_ref().unwrap();
    assert_eq!(
        (health.kind, health.port, health.service.as_str()),
        (Some(HealthKind::Grpc), Some(8443), "mcias.v1.Auth")
    );
    assert_eq!(health.ca, Some(PathBuf::from("/etc/mcp/services/ca.pem")));
    assert_eq!((health.interval, health.timeout), (Duration::from_millis(250), Duration::from_secs(3)));
    assert_eq!((health.successes, health.failures), (2, 5));
    let web = &service.components[1];
    assert_eq!(web.runtime, Runtime::Container);
    assert_eq!(web.volumes[0].name, "/etc/mcp/services/www");
    assert_eq!(web.container, ContainerOnly { network: Some("host".into()), user: Some("1000:1000".into()) });
    assert_eq!(web.health.as_ref().unwrap().path, "/healthz");
    let disk = Source::Disk {
        disk: "/etc/mcp/services/../images/app.img".into(),
        kernel: Some("/etc/mcp/services/kernel.img".into()),
    };
    assert_eq!(service.components[2].source, disk);
    assert!(matches!(&service.components[3].source, Source::Kernel { cmdline: Some(c), .. } if c == "console=ttyS0"));
    assert_eq!(service.components[4].source, Source::Rootfs { rootfs: "/srv/root".into() });
}

#[test]
fn ten_mistakes_are_ten_lines() {
    let text = r#"name = "other"
actve = true

[[components]]
name = "api"
runtime = "unikernel"
image = "Docker.io/Nginx"
memory_mb = "256"
memroy_mb = 256
vcpus = 0
ports = ["8080"]
env = { "A B" = "x" }
restart = on-failure
stop_timeout = "0s"
network = "host"
"#;
    assert_eq!(
        lines(text),
        [
            r#"F:1: name: "other" is not the file's name; write "svc" or rename the file"#,
            r#"F:2: actve: unknown key "actve"; did you mean "active"?"#,
            r#"F:7: components.api.image: "Docker.io/Nginx": the name of an image is lower case"#,
            r#"F:8: components.api.memory_mb: expected a whole number (an amount of MiB, 16 to 1048576), found the string "256"; leave out the quotes"#,
            r#"F:9: components.api.memroy_mb: unknown key "memroy_mb"; did you mean "memory_mb"?"#,
            r#"F:10: components.api.vcpus: 0 is not a number of CPUs: 1 to 255"#,
            r#"F:11: components.api.ports[0]: "8080" names one port; write "8080:8080" (host:guest)"#,
            r#"F:12: components.api.env."A B": "A B" is not the name of a variable: a letter or '_', then letters, digits, '_', '.', '-'"#,
            r#"F:13: restart: a string stands in quotes"#,
            r#"F:14: components.api.stop_timeout: "0s" is too short: at least 1ms"#,
            r#"F:15: components.api.network: is for containers; a VM has a network of its own, see egress"#,
        ]
    );
}

/// Each row: a line to put in place of another one of a good file, and how the one problem begins.
#[test]
fn each_mistake_is_one_line() {
    let base = "name = \"svc\"\nactive = true\n[[components]]\nname = \"api\"\nruntime = \"microvm\"\nimage = \"localhost/a:1\"\nports = [\"80:80\"]\nX = 1\n[components.health]\nkind = \"tcp\"\nY = 1\n";
    assert_eq!(lines(&base.replace("X = 1\n", "").replace("Y = 1\n", "")), Vec::<String>::new());
    let rows: &[(&str, &str, &str)] = &[
        ("active = true", "active = \"true\"", "F:2: active: expected true or false, found the string \"true\"; leave"),
        ("active = true", "active = 1.5", "F:2: active: expected true or false, found the float 1.5"),
        (
            "active = true",
            "runtime = \"microvm\"",
            "F:2: runtime: unknown key \"runtime\" here; it belongs in [[components]]",
        ),
        ("name = \"svc\"", "", "F:1: name: missing; add name = \"svc\""),
        ("name = \"svc\"", "nmae = \"svc\"", "F:1: nmae: unknown key \"nmae\"; did you mean \"name\"?"),
        ("name = \"svc\"", "name = \"SVC\"", "F:1: name: \"SVC\" is not a name"),
        (
            "[[components]]",
            "[components]",
            "F:3: components: expected an array of tables, found one table; write [[components]]",
        ),
        ("[[components]]", "[[components]", "F:3: syntax: unclosed array table"),
        ("name = \"api\"", "", "F:3: components[0].name: missing; add name"),
        ("name = \"api\"", "name = \"a_b\"", "F:4: components[0].name: \"a_b\" is not a name"),
        (
            "runtime = \"microvm\"",
            "runtime = \"mircovm\"",
            "F:5: components.api.runtime: \"mircovm\" is not \"unikernel\" or \"microvm\" or \"container\"; did you mean \"microvm\"?",
        ),
        ("runtime = \"microvm\"", "runtime = microvm", "F:5: runtime: a string stands in quotes"),
        ("image = \"localhost/a:1\"", "", "F:3: components.api: names nothing to run"),
        ("image = \"localhost/a:1\"", "img = \"localhost/a:1\"", "F:6: components.api.img: unknown key \"img\""),
        (
            "image = \"localhost/a:1\"",
            "image = \"\"",
            "F:6: components.api.image: expected an image reference in quotes, but it is empty",
        ),
        (
            "image = \"localhost/a:1\"",
            "image = 5",
            "F:6: components.api.image: expected an image reference in quotes, found the integer 5",
        ),
        (
            "image = \"localhost/a:1\"",
            "initrd = \"/x\"",
            "F:6: components.api.initrd: goes with kernel, which is missing",
        ),
        ("image = \"localhost/a:1\"", "disk = \"\\u0000\"", "F:6: components.api.disk: has a NUL"),
        (
            "image = \"localhost/a:1\"",
            "disk = \"~/a.img\"",
            "F:6: components.api.disk: \"~/a.img\": \"~\" is a shell's",
        ),
        ("X = 1", "disk = \"a\"", "F:8: components.api.disk: a component has one source, and image is there too"),
        ("X = 1", "kernel = \"a\"", "F:8: components.api.kernel: a component has one source, and image is there too"),
        ("X = 1", "cmdline = \"a\"", "F:8: components.api.cmdline: goes with a kernel that boots without a disk"),
        ("X = 1", "user = \"1000\"", "F:8: components.api.user: is for containers"),
        ("X = 1", "memory_mb = 15", "F:8: components.api.memory_mb: 15 is not an amount of MiB: 16 to 1048576"),
        ("X = 1", "memory_mb = -1", "F:8: components.api.memory_mb: -1 is not an amount"),
        (
            "X = 1",
            "memory_mb = 256.0",
            "F:8: components.api.memory_mb: expected a whole number (an amount of MiB, 16 to 1048576), found the float 256.0",
        ),
        (
            "X = 1",
            "memory_mb = 99999999999999999999999",
            "F:8: components.api.memory_mb: 99999999999999999999999 is not",
        ),
        ("X = 1", "vcpus = 256", "F:8: components.api.vcpus: 256 is not a number of CPUs: 1 to 255"),
        (
            "X = 1",
            "vcpus = 1979-05-27",
            "F:8: components.api.vcpus: expected a whole number (a number of CPUs, 1 to 255), found a date",
        ),
        (
            "X = 1",
            "args = \"--verbose\"",
            "F:8: components.api.args: expected an array of strings, like [\"a\", \"b\"], found a string",
        ),
        ("X = 1", "args = [1]", "F:8: components.api.args[0]: expected a string, found an integer; put it in quotes"),
        (
            "X = 1",
            "env = [\"A=b\"]",
            "F:8: components.api.env: expected a table, env = { NAME = \"value\" }, found an array",
        ),
        (
            "X = 1",
            "env = { PORT = 8080 }",
            "F:8: components.api.env.PORT: expected a string, found an integer; put it in quotes",
        ),
        ("X = 1", "env = { A = \"a\\u0000\" }", "F:8: components.api.env.A: has a NUL"),
        ("X = 1", "env = { \"1A\" = \"a\" }", "F:8: components.api.env.1A: \"1A\" is not the name of a variable"),
        (
            "X = 1",
            "egress = false",
            "F:8: components.api.egress: expected \"all\" or \"none\", found the boolean false",
        ),
        (
            "X = 1",
            "volumes = [\"/host:/srv\"]",
            "F:8: components.api.volumes[0]: \"/host:/srv\": a host path is for containers",
        ),
        (
            "X = 1",
            "volumes = [\"a:/x\", \"b:/x/\"]",
            "F:8: components.api.volumes[1]: \"b:/x/\": /x has a volume already",
        ),
        (
            "X = 1",
            "volumes = [\"a:/x\", \"a:/y\"]",
            "F:8: components.api.volumes[1]: \"a:/y\": the disk \"a\" is mounted already",
        ),
        ("X = 1", "include = [\"etc\"]", "F:8: components.api.include[0]: \"etc\" is not an absolute path"),
        (
            "X = 1",
            "stop_timeout = 35",
            "F:8: components.api.stop_timeout: expected a duration in quotes, found the integer 35; write \"35s\"",
        ),
        ("X = 1", "stop_timeout = \"35\"", "F:8: components.api.stop_timeout: \"35\" has no unit; write \"35s\""),
        ("X = 1", "stop_timeout = \"500us\"", "F:8: components.api.stop_timeout: \"500us\" is too short"),
        ("X = 1", "stop_timeout = \"99y\"", "F:8: components.api.stop_timeout: \"99y\" is too long: at most 8760h"),
        ("X = 1", "stop_timeout = \"-1s\"", "F:8: components.api.stop_timeout: \"-1s\" is not a duration"),
        (
            "X = 1",
            "restart = \"on_failure\"",
            "F:8: components.api.restart: \"on_failure\" is not \"no\" or \"on-failure\" or \"always\"; did you mean \"on-failure\"?",
        ),
        (
            "X = 1",
            "kind = \"tcp\"",
            "F:8: components.api.kind: unknown key \"kind\" here; it belongs in [components.health]",
        ),
        ("X = 1", "a.b.c = 1", "F:8: components.api.a: unknown key \"a\"; known are: name, runtime,"),
        ("X = 1", "vcpus = 1\nvcpus = 1", "F:9: vcpus: duplicate key"),
        ("ports = [\"80:80\"]", "ports = [\"80:80\"", "F:7: ports: the array is not closed"),
        ("ports = [\"80:80\"]", "ports = [\"80:80]", "F:7: ports: the string is not closed"),
        (
            "ports = [\"80:80\"]",
            "ports = [80]",
            "F:7: components.api.ports[0]: expected a port like \"8080:80\", found the integer 80; put it in quotes",
        ),
        (
            "ports = [\"80:80\"]",
            "ports = 80",
            "F:7: components.api.ports: expected an array of ports, like [\"8080:80\"], found the integer 80",
        ),
        (
            "ports = [\"80:80\"]",
            "ports = [\"[::1]:80:80\"]",
            "F:7: components.api.ports[0]: \"[::1]:80:80\": an IPv6 bind is for containers only",
        ),
        (
            "ports = [\"80:80\"]",
            "ports = [\"80:80\", \"0.0.0.0:80:81\"]",
            "F:7: components.api.ports[1]: 0.0.0.0:80/tcp on the node is taken by 127.0.0.1:80:80 on line 7",
        ),
        ("ports = [\"80:80\"]", "ports = [\"80:80/udp\"]", "F:9: components.api.health: there is no tcp port to ask"),
        (
            "ports = [\"80:80\"]",
            "prots = [\"80:80\"]",
            "F:7: components.api.prots: unknown key \"prots\"; did you mean \"ports\"?",
        ),
        (
            "[components.health]",
            "[[components.health]]",
            "F:9: components.api.health: expected one table, found an array of them; write [components.health]",
        ),
        ("[components.health]", "[health]", "F:9: health: unknown key \"health\" here; it belongs in [[components]]"),
        ("kind = \"tcp\"", "kind = \"smtp\"", "F:10: components.api.health.kind: \"smtp\" is not \"tcp\""),
        ("Y = 1", "port = 81", "F:11: components.api.health.port: guest port 81 can't be reached"),
        ("Y = 1", "port = 0", "F:11: components.api.health.port: 0 is not a port: 1 to 65535"),
        (
            "Y = 1",
            "port = \"80\"",
            "F:11: components.api.health.port: expected a whole number (a port, 1 to 65535), found the string \"80\"; leave out",
        ),
        ("Y = 1", "path = \"/x\"", "F:11: components.api.health.path: only a check of kind \"http\" has it"),
        ("Y = 1", "service = \"x\"", "F:11: components.api.health.service: only a check of kind \"grpc\" has it"),
        ("Y = 1", "ca = \"x\"", "F:11: components.api.health.ca: means nothing without tls = true"),
        ("Y = 1", "interval = \"0s\"", "F:11: components.api.health.interval: \"0s\" is too short"),
        (
            "Y = 1",
            "timeout = 5",
            "F:11: components.api.health.timeout: expected a duration in quotes, found the integer 5; write \"5s\"",
        ),
        ("Y = 1", "failures = 0", "F:11: components.api.health.failures: 0 is not a number of checks: 1 to 1000"),
        (
            "Y = 1",
            "retries = 3",
            "F:11: components.api.health.retries: unknown key \"retries\"; known are: kind, port,",
        ),
        (
            "Y = 1",
            "[[components]]\nname = \"api\"\nimage = \"localhost/b\"",
            "F:12: components[1].name: a second component \"api\"; the first is on line 4",
        ),
        (
            "Y = 1",
            "[[components]]\nname = \"b\"\nimage = \"localhost/b\"\nports = [\"80:1\"]",
            "F:14: components.b.ports[0]: 127.0.0.1:80/tcp on the node is taken by 127.0.0.1:80:80 on line 7",
        ),
        (
            "Y = 1",
            "[[components]]\nname = \"b\"\ndisk = \"x.img\"",
            "F:13: components.b.disk: is for VMs, and runtime is \"container\" unless said otherwise",
        ),
        ("Y = 1", "[[components]]\nname = \"b\"\nkernel = \"x\"", "F:13: components.b.kernel: is for VMs"),
        (
            "Y = 1",
            "[[components]]\nname = \"b\"\nrootfs = \"x\"",
            "F:13: components.b.rootfs: is for microvms; set runtime to \"microvm\"",
        ),
        (
            "Y = 1",
            "[[components]]\nname = \"b\"\nimage = \"localhost/b\"\nmemory_mb = 64",
            "F:14: components.b.memory_mb: is for VMs, and this is a container; set runtime",
        ),
        (
            "Y = 1",
            "[[components]]\nname = \"b\"\nimage = \"localhost/b\"\nnetwork = \"--x\"",
            "F:14: components.b.network: \"--x\" begins with '-'",
        ),
        (
            "Y = 1",
            "[[components]]\nname = \"b\"\nruntime = \"unikernel\"\ndisk = \"b\"\nargs = []",
            "F:15: components.b.args: a disk brings its own",
        ),
        (
            "Y = 1",
            "[[components]]\nname = \"b\"\nruntime = \"unikernel\"\nkernel = \"b\"\nroot = \"ephemeral\"",
            "F:15: components.b.root: a kernel alone has no root disk",
        ),
    ];
    for (old, new, told) in rows {
        assert!(base.contains(old), "{old}");
        let text = base.replacen(old, new, 1);
        let text = if *old == "X = 1" { text } else { text.replace("X = 1\n", "\n") };
        let text = if *old == "Y = 1" { text } else { text.replace("Y = 1\n", "\n") };
        let found = lines(&text);
        assert!(found.len() == 1 && found[0].starts_with(told), "{new:?}: {found:#?}\nnot {told}");
    }
}

#[test]
fn secrets_stay_out_of_messages() {
    let text = "name = \"svc\"\n[[components]]\nname = \"a\"\nimage = \"localhost/a\"\nargs = [12345]\nenv = { A = 12345, B = 12345.5 }\n";
    let found = lines(text);
    assert_eq!(found.len(), 3);
    assert!(!found.join("\n").contains("12345"), "{found:#?}");
}

#[test]
fn odd_files() {
    let good_text = "name = \"svc\"\n[[components]]\nname = \"a\"\nimage = \"localhost/a\"\n";
    good(&good_text.replace('\n', "\r\n"));
    good(&format!("\u{feff}{good_text}"));
    let of = |bytes: &[u8]| {
        let problems = parse_service(Path::new("svc.toml"), bytes).unwrap_err();
        problems.iter().map(Problem::to_string).collect::<Vec<_>>()
    };
    assert_eq!(of(b"name = \"svc\"\n# \xff\n"), ["svc.toml:2: syntax: not UTF-8 text"]);
    assert_eq!(of(b"\xff\xfen\0"), ["svc.toml:1: syntax: not UTF-8 text"]);
    assert_eq!(
        of(b""),
        [
            "svc.toml:1: name: missing; add name = \"svc\"",
            "svc.toml:1: components: missing; add a [[components]] table"
        ]
    );
    assert_eq!(of(format!("\u{feff}\nx = 1\n{good_text}").as_bytes()).len(), 1);
    assert_eq!(of(good_text.replace("svc", "s\0").as_bytes()).len(), 1);
    let problems = parse_service(Path::new("S.toml"), good_text.as_bytes()).unwrap_err();
    assert!(problems[0].to_string().starts_with("S.toml: the file's name is not a service's"), "{problems:?}");
    // Inline tables and dotted keys are the same as headers.
    let inline =
        "name = \"svc\"\ncomponents = [{ name = \"a\", image = \"localhost/a\", health = { kind = \"none\" } }]\n";
    assert_eq!(good(inline).components[0].health.as_ref().unwrap().kind, Some(HealthKind::None));
}

#[test]
fn the_node_config() {
    let read = |text: &str| parse_node(Path::new("/etc/mcp/mcp.toml"), text.as_bytes());
    let text = r#"
[[boot.sequence]]
name = "foundation"
services = ["mcias", "mcns"]
timeout = "120s"
health = "tcp"

[[boot.sequence]]
name = "core"
services = ["metacrypt"]
health = "grpc"

[boot]
start_command = ["systemctl", "start", "mcp-component@{unit}.service"]
[store]
max_size = "20G"
[qemu]
binary = "./qemu"
accel = "tcg"
machine = "q35"
uid_range = [60000, 60010]
extra_args = ["-no-hpet"]
[ops]
binary = "ops"
home = "/srv/ops"
nanos_version = "0.1.54"
[microvm]
kernel = "vmlinux"
modules = "/lib/modules/x"
[podman]
binary = "/usr/bin/podman"
[log]
max_size = 65536
keep = 3
[registry."registry.example:5000"]
ca = "ca.pem"
insecure = true
auth_file = "/root/auth.json"
"#;
    let (node, problems) = read(text);
    assert_eq!(problems, []);
    assert_eq!(node.stages.len(), 2);
    assert_eq!((node.stages[0].timeout, node.stages[1].timeout), (Duration::from_secs(120), Duration::from_secs(60)));
    assert_eq!(node.stage_health("metacrypt"), Some(HealthKind::Grpc));
    assert_eq!(node.start_command.unwrap()[2], "mcp-component@{unit}.service");
    assert_eq!((node.store_max_size, node.log), (Some(20 << 30), Log { max_size: 65536, keep: 3 }));
    assert_eq!((node.qemu.binary, node.qemu.uid_range), (PathBuf::from("/etc/mcp/qemu"), (60000, 60010)));
    assert_eq!(node.ops.binary, PathBuf::from("ops"));
    assert_eq!(node.microvm.kernel, Some(PathBuf::from("/etc/mcp/vmlinux")));
    assert!(node.registries["registry.example:5000"].insecure);
    let (node, problems) = read("");
    assert_eq!((node, problems), (Node::default(), vec![]));

    let rows: &[(&str, &[&str])] = &[
        ("[bot]\n", &["1: bot: unknown key \"bot\"; did you mean \"boot\"?"]),
        ("sequence = []\n", &["1: sequence: unknown key \"sequence\" here; it belongs in [boot]"]),
        (
            "[boot.sequence]\nname = \"a\"\n",
            &["1: boot.sequence: expected an array of tables, found one table; write [[boot.sequence]]"],
        ),
        ("[[boot.sequence]]\nname = \"a\"\nservices = []\n", &["3: boot.sequence[0].services: is empty"]),
        ("[[boot.sequence]]\n", &["1: boot.sequence[0].name: missing", "1: boot.sequence[0].services: missing"]),
        (
            "[[boot.sequence]]\nname = \"a\"\nservices = [\"x\", \"x\"]\ntimeout = \"0s\"\n[[boot.sequence]]\nname = \"a\"\nservices = [\"y\", \"X\"]\nhealth = \"ping\"\n",
            &[
                "3: boot.sequence[0].services[1]: \"x\" is named twice",
                "4: boot.sequence[0].timeout: \"0s\" is too short",
                "6: boot.sequence[1].name: a second stage \"a\"; the first is on line 2",
                "7: boot.sequence[1].services[1]: \"X\" is not a name",
                "8: boot.sequence[1].health: \"ping\" is not",
            ],
        ),
        (
            "[[boot.sequence]]\nname = \"a\"\nservices = [\"x\"]\n[[boot.sequence]]\nname = \"b\"\nservices = [\"x\"]\n",
            &["6: boot.sequence[1].services[0]: \"x\" is in stage \"a\" already"],
        ),
        ("[boot]\nstart_command = []\n", &["2: boot.start_command: names no program"]),
        ("[boot]\nstart_command = [\"x\"]\n", &["2: boot.start_command: doesn't say which component"]),
        ("[boot]\nstart_command = \"x {unit}\"\n", &["2: boot.start_command: expected an array of strings"]),
        ("[qemu]\naccel = \"hvf\"\n", &["2: qemu.accel: \"hvf\" is not \"auto\" or \"kvm\" or \"tcg\""]),
        ("[qemu]\nuid_range = [5]\n", &["2: qemu.uid_range: expected two user ids"]),
        ("[qemu]\nuid_range = [0, 5000]\n", &["2: qemu.uid_range[0]: 0 is not a user id: 1000 to"]),
        ("[qemu]\nuid_range = [5000, 4000]\n", &["2: qemu.uid_range: the first, 5000, is above the last, 4000"]),
        ("[qemu]\nmachine = \"q 35\"\n", &["2: qemu.machine: \"q 35\" is not a machine type"]),
        (
            "[log]\nmax_size = \"10MB\"\nkeep = -1\n",
            &["2: log.max_size: \"10MB\" is not a size", "3: log.keep: -1 is not"],
        ),
        ("[log]\nmax_size = 1\n", &["2: log.max_size: 1 is too small: at least 4K"]),
        ("[registry.a.example]\ninsecure = true\n", &["1: registry.a: a host name with dots stands in quotes"]),
        ("[registry.\"a b\"]\n", &["1: registry.\"a b\": \"a b\" is not a registry's HOST[:PORT]"]),
        (
            "[registry.\"a.b\"]\ninsecure = \"yes\"\n",
            &["2: registry.\"a.b\".insecure: expected true or false, found the string \"yes\""],
        ),
        ("podman = \"podman\"\n", &["1: podman: expected a table, [podman], found the string \"podman\""]),
        ("[log]\nkeep = 1\n[logs\n", &["3: syntax: unclosed table"]),
    ];
    for (text, told) in rows {
        let found: Vec<String> = read(text).1.iter().map(|p| p.to_string()).collect();
        let same = found.len() == told.len()
            && found.iter().zip(*told).all(|(f, t)| f.starts_with(&format!("/etc/mcp/mcp.toml:{t}")));
        assert!(same, "{text}\n{found:#?}\n{told:#?}");
    }
}

/// Xorshift: the same bytes each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % below.max(1) as u64).unwrap()
    }
}

#[test]
fn no_bytes_make_a_reader_panic() {
    let seeds = [
        FULL,
        "[[boot.sequence]]\nname = \"a\"\nservices = [\"x\"]\n[boot]\nstart_command = [\"x\", \"{unit}\"]\n[registry.\"a:1\"]\nca = \"x\"\n",
    ];
    let snippets: &[&[u8]] = &[
        b"[", b"]", b"{", b"}", b"\"", b"\"\"\"", b"'", b"=", b",", b"\n", b"\r", b"\0", b"\xff", b"[[", b"]]", b".",
        b"#", b"\\u0000", b"1e999", b"0x",
    ];
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for round in 0..1500 {
        let mut bytes = seeds[round % seeds.len()].as_bytes().to_vec();
        for _ in 0..=dice.roll(6) {
            let at = dice.roll(bytes.len());
            match dice.roll(5) {
                0 => drop(bytes.remove(at)),
                1 => bytes[at] = u8::try_from(dice.roll(256)).unwrap(),
                2 => bytes.truncate(at.max(1)),
                3 => {
                    let to = (at + dice.roll(40)).min(bytes.len());
                    let part = bytes[at..to].to_vec();
                    let into = dice.roll(bytes.len());
                    bytes.splice(into..into, part);
                }
                _ => drop(bytes.splice(at..at, snippets[dice.roll(snippets.len())].iter().copied())),
            }
            if bytes.is_empty() {
                bytes.push(b'x');
            }
        }
        each_reader(&bytes);
    }
    for _ in 0..300 {
        let bytes: Vec<u8> = (0..dice.roll(300)).map(|_| u8::try_from(dice.roll(256)).unwrap()).collect();
        each_reader(&bytes);
    }
}

/// What the fuzz targets call.
fn each_reader(bytes: &[u8]) {
    for problem in parse_service(Path::new("svc.toml"), bytes).err().into_iter().flatten() {
        let line = problem.to_string();
        assert!(!line.chars().any(char::is_control), "{line:?}");
        assert!(!problem.reason.is_empty());
    }
    for problem in parse_node(Path::new("mcp.toml"), bytes).1 {
        assert!(!problem.to_string().chars().any(char::is_control));
    }
}

#[test]
fn large_junk_is_refused_in_good_time() {
    let million = 1 << 20;
    let junk = [
        "[".repeat(million),
        "a=[".repeat(million / 3),
        "a = [[[[[[[[[".repeat(9) + &"[".repeat(5000),
        "x".repeat(million),
        "\"".repeat(million),
        "a.".repeat(million / 2),
        "[[components]]\n".repeat(million / 15),
        format!("ports = [{}]\n", "\"1:1\",".repeat(million / 6 - 10)),
        "= \n".repeat(million / 3),
        (0..million / 12).map(|n| format!("k{n} = 1\n")).collect(),
        format!("name = \"{}\"\n", "x".repeat(million - 20)),
    ];
    for text in junk {
        let start = std::time::Instant::now();
        let problems = parse_service(Path::new("svc.toml"), text.as_bytes()).unwrap_err();
        assert!((1..=PROBLEMS_MAX + 1).contains(&problems.len()));
        assert!(problems.iter().all(|p| p.to_string().len() < 1000));
        // Generous: a debug build on a busy machine. What is quadratic takes hours.
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}: {:?}", &text[..20], start.elapsed());
    }
}
