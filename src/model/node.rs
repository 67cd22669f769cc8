//! The node config, `mcp.toml`.

use super::{HealthKind, Init};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Which accelerator QEMU uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Accel {
    /// KVM where it works, else TCG.
    #[default]
    Auto,
    /// KVM, or an error.
    Kvm,
    /// TCG.
    Tcg,
}

/// `[qemu]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qemu {
    /// The program, found on PATH when it has no slash.
    pub binary: PathBuf,
    /// The accelerator.
    pub accel: Accel,
    /// The machine type; `None`: the fastest for the kind of guest.
    pub machine: Option<String>,
    /// Users that QEMUs run as, one each: first and last.
    pub uid_range: (u32, u32),
    /// Put at the end of the argument vector.
    pub extra_args: Vec<String>,
}

impl Default for Qemu {
    fn default() -> Qemu {
        Qemu {
            binary: "qemu-system-x86_64".into(),
            accel: Accel::Auto,
            machine: None,
            // A range that neither Debian nor systemd nor subordinate ids use.
            uid_range: (1_900_000_000, 1_900_065_535),
            extra_args: Vec::new(),
        }
    }
}

/// `[microvm]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Microvm {
    /// The guest kernel; `None`: what scripts/get-guest-kernel laid down, else the node's own.
    pub kernel: Option<PathBuf>,
    /// Folder of that kernel's modules.
    pub modules: Option<PathBuf>,
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Bytes at which a console log is rotated.
    pub max_size: u64,
    /// How many rotated ones are kept.
    pub keep: u32,
}

impl Default for Log {
    fn default() -> Log {
        Log { max_size: 10 << 20, keep: 5 }
    }
}

/// One `[[boot.sequence]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// The services it starts and waits for.
    pub services: Vec<String>,
    /// How long it waits (not the foundation, which waits for ever).
    pub timeout: Duration,
    /// The kind of check for components that name none.
    pub health: HealthKind,
}

/// `[registry."HOST:PORT"]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RegistryServer {
    /// Certificates to trust besides the system's: a PEM file.
    pub ca: Option<PathBuf>,
    /// A certificate to show where a server asks for one, and its key: PEM files.
    pub cert: Option<PathBuf>,
    /// See `cert`.
    pub key: Option<PathBuf>,
    /// Whether plain HTTP, or TLS without a check, will do.
    pub insecure: bool,
    /// Credentials, in podman's and docker's format.
    pub auth_file: Option<PathBuf>,
    /// `HOST[:PORT][/PATH]` of servers that have its images too, asked first, in this order.
    pub mirrors: Vec<String>,
}

/// `[ops]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ops {
    /// The program.
    pub binary: PathBuf,
    /// The parent of `.ops`.
    pub home: Option<PathBuf>,
    /// The Nanos version.
    pub nanos_version: Option<String>,
}

impl Default for Ops {
    fn default() -> Ops {
        Ops { binary: "ops".into(), home: None, nanos_version: None }
    }
}

/// The whole node config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The stages, foundation first.
    pub stages: Vec<Stage>,
    /// The init system that components are services of; `None`: they run detached.
    pub init: Option<Init>,
    /// How a component is started by boot; `None`: `mcp-run --detach`.
    pub start_command: Option<Vec<String>>,
    /// How the init that it was started through stops it, for now; `None`: its supervisor is told.
    pub stop_command: Option<Vec<String>>,
    /// `[store] max_size` in bytes.
    pub store_max_size: Option<u64>,
    /// `[qemu]`.
    pub qemu: Qemu,
    /// `[ops]`.
    pub ops: Ops,
    /// `[microvm]`.
    pub microvm: Microvm,
    /// `[podman] binary`.
    pub podman: PathBuf,
    /// `[podman] ignore`: names of containers that are none of ours and no drift; a `*` stands for any characters.
    pub podman_ignore: Vec<String>,
    /// `[log]`.
    pub log: Log,
    /// `[registry."…"]`.
    pub registries: BTreeMap<String, RegistryServer>,
}

impl Default for Node {
    fn default() -> Node {
        Node {
            stages: Vec::new(),
            init: None,
            start_command: None,
            stop_command: None,
            store_max_size: None,
            qemu: Qemu::default(),
            ops: Ops::default(),
            microvm: Microvm::default(),
            podman: "podman".into(),
            podman_ignore: Vec::new(),
            log: Log::default(),
            registries: BTreeMap::new(),
        }
    }
}

impl Node {
    /// The stage that `service` is in, if it is in one.
    pub fn stage_of(&self, service: &str) -> Option<&Stage> {
        self.stages.iter().find(|s| s.services.iter().any(|n| n == service))
    }

    /// The kind of check that the stage of `service` names, if it is in one.
    pub fn stage_health(&self, service: &str) -> Option<HealthKind> {
        self.stage_of(service).map(|s| s.health)
    }

    /// Whether a container of this name, which nobody declared, is left out.
    pub fn ignores(&self, container: &str) -> bool {
        self.podman_ignore.iter().any(|pattern| fits(pattern, container))
    }
}

/// Whether `name` is `pattern`, in which `*` stands for any characters, and for none.
fn fits(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(head) else { return false };
    let (middle, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
    // The first place for each part leaves the most for those after it.
    for part in middle.split('*') {
        match name.find(part) {
            Some(at) => name = name.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    name.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_names() {
        for (pattern, name, so) in [
            ("web", "web", true),
            ("web", "web2", false),
            ("web*", "web", true),
            ("web*", "my-web", false),
            ("*web", "my-web", true),
            ("*", "anything", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("**x**", "x", true),
        ] {
            assert_eq!(fits(pattern, name), so, "{pattern} {name}");
        }
    }
}
