#![allow(clippy::unwrap_used)]

mod junk;
mod mistakes;
mod node;
mod pages;

use super::{Problem, parse_service};
use crate::model::{ContainerOnly, Egress, HealthKind, OnUnhealthy, Restart, RootMode, Runtime, Service, Source};
use std::path::{Path, PathBuf};
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
const FULL: &str = r#"
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
  cert = "me.pem"
  key = "/etc/ssl/private/me.key"
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
entrypoint = ["/bin/sh", "-c"]
workdir = "/srv"
stop_signal = "SIGQUIT"
tty = true
health.kind = "http"
health.path = "/healthz"
health.host = "shop.example"
health.headers = { X-Token = "t" }
health.tls = true
health.tls_verify = false

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
    let web = service.components[1].health.as_ref().unwrap();
    assert_eq!(
        (web.host.as_deref(), web.headers["X-Token"].as_str(), web.tls_verify),
        (Some("shop.example"), "t", false)
    );
    let health = api.health.as_ref().unwrap();
    assert_eq!(
        (health.kind, health.port, health.service.as_str()),
        (Some(HealthKind::Grpc), Some(8443), "mcias.v1.Auth")
    );
    assert_eq!(health.ca, Some(PathBuf::from("/etc/mcp/services/ca.pem")));
    assert_eq!(health.cert, Some(PathBuf::from("/etc/mcp/services/me.pem")));
    assert_eq!(health.key, Some(PathBuf::from("/etc/ssl/private/me.key")));
    assert_eq!((health.interval, health.timeout), (Duration::from_millis(250), Duration::from_secs(3)));
    assert_eq!((health.successes, health.failures), (2, 5));
    let web = &service.components[1];
    assert_eq!(web.runtime, Runtime::Container);
    assert_eq!(web.volumes[0].name, "/etc/mcp/services/www");
    assert_eq!(web.container, ContainerOnly { network: Some("host".into()), user: Some("1000:1000".into()) });
    assert_eq!(web.entrypoint, Some(vec!["/bin/sh".to_string(), "-c".to_string()]));
    assert_eq!((web.workdir.as_deref(), web.stop_signal, web.tty), (Some("/srv"), Some(3), true));
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
