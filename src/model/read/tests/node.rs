use crate::model::read::parse_node;
use crate::model::{HealthKind, Node, node::Log};
use std::path::{Path, PathBuf};
use std::time::Duration;

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
cert = "/etc/mcp/client.pem"
key = "client.key"
insecure = true
auth_file = "/etc/mcp/auth.json"
mirrors = ["mirror.example", "10.0.0.1:5000", "harbor.example:8443/docker-hub/x"]
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
    let registry = &node.registries["registry.example:5000"];
    assert!(registry.insecure);
    assert_eq!(registry.cert, Some(PathBuf::from("/etc/mcp/client.pem")));
    assert_eq!(registry.key.as_ref().and_then(|k| k.file_name()), Some("client.key".as_ref()));
    assert_eq!(registry.mirrors, ["mirror.example", "10.0.0.1:5000", "harbor.example:8443/docker-hub/x"]);
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
        (
            "[registry.\"a.b\"]\nmirrors = [\"a b\", \"A.b\", 1, \"c.d/E\"]\n",
            &[
                "2: registry.\"a.b\".mirrors[0]: \"a b\" is not a mirror's HOST[:PORT][/PATH]",
                "2: registry.\"a.b\".mirrors[1]: \"A.b\" is asked anyway",
                "2: registry.\"a.b\".mirrors[2]: expected a mirror's HOST:PORT in quotes, found the integer 1",
                "2: registry.\"a.b\".mirrors[3]: \"c.d/E\": its path is not the beginning of an image's name",
            ],
        ),
        ("[registry.\"a.b\"]\ncert = \"/c.pem\"\n", &["2: registry.\"a.b\".cert: goes with key, which is missing"]),
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
