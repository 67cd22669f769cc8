//! One component: what runs, and how.

use super::{Health, Port};
use serde::{Deserialize, Serialize};
use sha2::Digest;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// How a component runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// Its ELF in a Nanos image, under QEMU.
    Unikernel,
    /// Its root file system under a Linux kernel and our init, under QEMU.
    Microvm,
    /// A podman container.
    Container,
}

impl Runtime {
    /// As definitions have it.
    pub fn name(self) -> &'static str {
        match self {
            Runtime::Unikernel => "unikernel",
            Runtime::Microvm => "microvm",
            Runtime::Container => "container",
        }
    }
}

/// Where its program comes from. Paths are absolute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "from")]
pub enum Source {
    /// An OCI image reference.
    Image {
        /// `HOST[:PORT]/NAME[:TAG][@DIGEST]`.
        reference: String,
    },
    /// A raw bootable image, and the kernel beside it that boots it directly.
    Disk {
        /// The raw image.
        disk: PathBuf,
        /// Its kernel, for a direct boot.
        kernel: Option<PathBuf>,
    },
    /// A kernel that QEMU boots without a disk.
    Kernel {
        /// The kernel image.
        kernel: PathBuf,
        /// The initial RAM disk.
        initrd: Option<PathBuf>,
        /// The kernel's command line.
        cmdline: Option<String>,
    },
    /// A directory that `mcp-build` made, named on the command line.
    Built {
        /// The directory.
        built: PathBuf,
    },
    /// A microvm's root file system, as a directory.
    Rootfs {
        /// The directory.
        rootfs: PathBuf,
    },
}

impl Source {
    /// In a word: the image reference, or the name of the disk, kernel or directory.
    pub fn name(&self) -> Option<String> {
        let path = match self {
            Source::Image { reference } => return Some(reference.clone()),
            Source::Disk { disk, .. } => disk,
            Source::Kernel { kernel, .. } => kernel,
            Source::Rootfs { rootfs } => rootfs,
            Source::Built { built } => built,
        };
        path.file_name().map(|name| name.to_string_lossy().into_owned())
    }
}

/// What a VM may reach beyond its forwarded ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Egress {
    /// Whatever the node can reach, the node's loopback at 10.0.2.2 among it.
    #[default]
    All,
    /// Nothing.
    None,
}

/// When a detached run starts again after its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Never.
    #[default]
    No,
    /// When it ended with anything but 0.
    OnFailure,
    /// Whatever it ended with.
    Always,
}

/// Whether the guest's writes to its root disk outlive it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RootMode {
    /// They are gone with the instance.
    #[default]
    Ephemeral,
    /// They stay, on a private copy of the disk.
    Persistent,
}

/// What the supervisor does about an unhealthy component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnUnhealthy {
    /// Nothing: it doesn't even look.
    #[default]
    None,
    /// Restarts it.
    Restart,
}

/// A place for lasting data: `data:/srv`, `data:/srv:1G`, or for containers `/host/path:/srv`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// The disk's name, or for a container a podman volume's name or a host path.
    pub name: String,
    /// Where the guest sees it: an absolute path.
    pub path: String,
    /// Its size in bytes, for a named disk.
    pub size: Option<u64>,
    /// What follows a container's volume (`ro`, `z`).
    pub options: Option<String>,
}

/// Options of podman.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ContainerOnly {
    /// `--network`.
    pub network: Option<String>,
    /// `--user`; a microVM's init reads it too.
    pub user: Option<String>,
}

/// One component, complete: every default filled in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Component {
    /// Its name within the service.
    pub name: String,
    /// How it runs.
    pub runtime: Runtime,
    /// Where its program comes from.
    pub source: Source,
    /// Memory in MiB (VMs).
    pub memory_mb: u32,
    /// Virtual CPUs (VMs).
    pub vcpus: u32,
    /// Forwarded ports.
    pub ports: Vec<Port>,
    /// Replaces the image's Entrypoint; one that is not empty drops the image's Cmd too, as podman does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's Cmd.
    pub args: Option<Vec<String>>,
    /// Replaces the image's WorkingDir: an absolute path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// Replaces the image's StopSignal: a signal's number (microVMs, containers).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<i32>,
    /// Whether its standard output is a terminal (microVMs, containers).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tty: bool,
    /// Environment of the program.
    pub env: BTreeMap<String, String>,
    /// File with further NAME=value lines. Its contents are secret.
    pub env_file: Option<PathBuf>,
    /// What it may reach (VMs).
    pub egress: Egress,
    /// Lasting data.
    pub volumes: Vec<Volume>,
    /// Further paths of the image to take along (unikernels).
    pub include: Vec<String>,
    /// When a detached run starts again.
    pub restart: Restart,
    /// How long a graceful stop may take.
    #[serde(with = "super::duration")]
    pub stop_timeout: Duration,
    /// How long it may take to become healthy.
    #[serde(with = "super::duration")]
    pub start_timeout: Duration,
    /// How long a new version must stay up and healthy before it counts as deployed; zero turns it off.
    #[serde(with = "super::duration", default = "settle", skip_serializing_if = "is_settle")]
    pub settle: Duration,
    /// Whether writes to the root disk stay.
    pub root: RootMode,
    /// What is done when it is unhealthy.
    pub on_unhealthy: OnUnhealthy,
    /// Whether it has done its work when it has ended with 0: then it is ready, and not missed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub oneshot: bool,
    /// How to tell whether it is healthy; `None` when nothing was said.
    pub health: Option<Health>,
    /// Options of podman.
    pub container: ContainerOnly,
}

/// The default of [`Component::settle`]. Records leave it out, so that digests are those of versions without the key.
fn settle() -> Duration {
    Duration::from_secs(1)
}

fn is_settle(settled: &Duration) -> bool {
    *settled == settle()
}

impl Component {
    /// Whether it runs under QEMU.
    pub fn is_vm(&self) -> bool {
        self.runtime != Runtime::Container
    }

    /// Names of the volumes that podman keeps for it: a container's that are no host paths.
    pub fn podman_volumes(&self) -> impl Iterator<Item = &str> {
        let volumes = self.volumes.iter().filter(|_| !self.is_vm());
        volumes.map(|volume| volume.name.as_str()).filter(|name| !name.starts_with('/'))
    }

    /// SHA-256, in hex, of all that is said of it: two components differ in something exactly when this differs.
    pub fn digest(&self) -> String {
        // Canonical: fields in their order here, maps sorted, no spaces. Only a path that isn't UTF-8 has no JSON, and
        // none can come out of a definition.
        let text = serde_json::to_string(self).unwrap_or_else(|_| format!("{self:?}"));
        sha2::Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// A component with nothing but defaults.
    pub fn new(name: &str, runtime: Runtime, source: Source) -> Component {
        Component {
            name: name.to_string(),
            runtime,
            source,
            memory_mb: 256,
            vcpus: 1,
            ports: Vec::new(),
            entrypoint: None,
            args: None,
            workdir: None,
            stop_signal: None,
            tty: false,
            env: BTreeMap::new(),
            env_file: None,
            egress: Egress::All,
            volumes: Vec::new(),
            include: Vec::new(),
            restart: Restart::No,
            stop_timeout: Duration::from_secs(35),
            start_timeout: Duration::from_secs(60),
            settle: settle(),
            root: RootMode::Ephemeral,
            on_unhealthy: OnUnhealthy::None,
            oneshot: false,
            health: None,
            container: ContainerOnly::default(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_stable_and_sees_every_change() {
        let new = || Component::new("api", Runtime::Microvm, Source::Rootfs { rootfs: "/srv/root".into() });
        // Written down: a changed digest means drift on every node at its next update.
        assert_eq!(new().digest(), "ff19a6ed0f7b780bf09e0f76e4ef07339e323cc86a5e08f400e5029ea9e8c819");
        let back: Component = serde_json::from_str(&serde_json::to_string(&new()).unwrap()).unwrap();
        assert_eq!(back.digest(), new().digest());
        let changes: &[fn(&mut Component)] = &[
            |c| c.name.push('2'),
            |c| c.memory_mb += 1,
            |c| c.vcpus = 2,
            |c| c.args = Some(Vec::new()),
            |c| c.entrypoint = Some(Vec::new()),
            |c| c.workdir = Some("/x".into()),
            |c| c.stop_signal = Some(3),
            |c| c.tty = true,
            |c| c.env.extend([("A".to_string(), "b".to_string())]),
            |c| c.env_file = Some("/x".into()),
            |c| c.egress = Egress::None,
            |c| c.restart = Restart::Always,
            |c| c.stop_timeout += Duration::from_millis(1),
            |c| c.settle = Duration::ZERO,
            |c| c.health = Some(Health::default()),
            |c| c.ports.push(Port::parse("80:80").unwrap()),
            |c| c.ports.push(Port::parse("80:80/udp").unwrap()),
            |c| c.volumes.push(Volume::parse_disk("a:/b").unwrap()),
            |c| c.source = Source::Disk { disk: "/srv/root".into(), kernel: None },
            |c| c.container.user = Some("1".into()),
        ];
        let mut seen = vec![new().digest()];
        for change in changes {
            let mut component = new();
            change(&mut component);
            let digest = component.digest();
            assert!(!seen.contains(&digest));
            seen.push(digest);
        }
    }
}
