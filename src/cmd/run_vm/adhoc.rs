//! A component described by options instead of a definition.

use crate::model::{
    Built, Component, ComponentId, Egress, Health, HealthKind, Placement, Port, Restart, RootMode, Runtime, Source,
    Volume, duration, name,
};
use crate::node::resolve::Resolved;
use crate::sys::{Error, Result};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The options.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Without a definition")]
pub struct Adhoc {
    /// Name of the component NAME/NAME
    #[arg(long)]
    name: Option<String>,
    /// Boot this raw disk image
    #[arg(long, value_name = "FILE", requires = "name", conflicts_with = "rootfs")]
    disk: Option<PathBuf>,
    /// Boot this kernel, with --disk as its disk
    #[arg(long, value_name = "FILE", requires = "name", conflicts_with = "rootfs")]
    kernel: Option<PathBuf>,
    /// Initial RAM disk for --kernel
    #[arg(long, value_name = "FILE", requires = "kernel", conflicts_with = "disk")]
    initrd: Option<PathBuf>,
    /// Command line for --kernel
    #[arg(long, value_name = "TEXT", requires = "kernel", conflicts_with = "disk")]
    cmdline: Option<String>,
    /// Boot this directory as a microvm's root file system
    #[arg(long, value_name = "DIR", requires = "name")]
    rootfs: Option<PathBuf>,
    /// Run what mcp-build made: the directory that it prints
    #[arg(long, value_name = "DIR", requires = "name", conflicts_with_all = ["disk", "kernel", "rootfs"])]
    image: Option<PathBuf>,
    /// Forward a port: [BIND:]HOST:GUEST[/PROTO]; may be repeated
    #[arg(long = "port", short = 'p', value_name = "PORT", requires = "name", value_parser = Port::parse)]
    ports: Vec<Port>,
    /// Memory in MiB
    #[arg(long, value_name = "MIB", requires = "name")]
    memory: Option<u32>,
    /// Virtual CPUs
    #[arg(long, value_name = "N", requires = "name")]
    vcpus: Option<u32>,
    /// What it may reach: all, or none but its forwarded ports
    #[arg(long, value_name = "WHAT", requires = "name", value_parser = ["all", "none"])]
    egress: Option<String>,
    /// A named disk: NAME:/PATH[:SIZE]; may be repeated
    #[arg(long = "volume", value_name = "VOLUME", requires = "name", value_parser = Volume::parse_disk)]
    volumes: Vec<Volume>,
    /// NAME=VALUE in the environment of a microvm's program; may be repeated
    #[arg(long = "env", short = 'e', value_name = "NAME=VALUE", requires = "name", conflicts_with_all = ["disk", "kernel"])]
    env: Vec<String>,
    /// File with NAME=VALUE lines for the same, kept secret
    #[arg(long, value_name = "FILE", requires = "name", conflicts_with_all = ["disk", "kernel"])]
    env_file: Option<PathBuf>,
    /// Keep what the guest writes to its root disk
    #[arg(long, requires = "name")]
    persistent: bool,
    /// When a detached run starts again: no, on-failure or always
    #[arg(long, value_name = "WHEN", requires = "name", value_parser = ["no", "on-failure", "always"])]
    restart: Option<String>,
    /// How long a graceful stop may take, like 35s
    #[arg(long, value_name = "TIME", requires = "name", value_parser = duration::parse)]
    stop_timeout: Option<Duration>,
    /// How long it may take to become healthy, like 60s
    #[arg(long, value_name = "TIME", requires = "name", value_parser = duration::parse)]
    start_timeout: Option<Duration>,
    /// How health is asked: tcp, http, grpc or none
    #[arg(long, value_name = "KIND", requires = "name", value_parser = ["tcp", "http", "grpc", "none"])]
    health: Option<String>,
    /// Path of an http health check
    #[arg(long, value_name = "PATH", requires = "health")]
    health_path: Option<String>,
    /// Service that a grpc health check asks about [default: the server as a whole]
    #[arg(long, value_name = "SERVICE", requires = "health")]
    health_service: Option<String>,
    /// The program and its arguments in a microvm
    #[arg(last = true, value_name = "PROGRAM", requires = "name", conflicts_with_all = ["disk", "kernel"])]
    args: Vec<String>,
}

impl Adhoc {
    /// The component that the options describe.
    pub fn component(&self) -> Result<Resolved> {
        let usage = |what: String| Error::Usage { what };
        let name = self.name.clone().unwrap_or_default();
        if !name::is_valid(&name) {
            return Err(usage(format!("--name {name:?}: must be 1 to 32 of a-z, 0-9 and inner '-'")));
        }
        let absolute = |path: &Path| std::path::absolute(path).map_err(Error::path("resolve", path));
        let mut runtime = if self.rootfs.is_some() { Runtime::Microvm } else { Runtime::Unikernel };
        let source = match (&self.disk, &self.kernel, &self.rootfs) {
            _ if self.image.is_some() => {
                let image = self.image.clone().unwrap_or_default();
                let built = absolute(&image)?;
                runtime = Built::read(&built)?.runtime;
                Source::Built { built }
            }
            (Some(disk), kernel, _) => {
                Source::Disk { disk: absolute(disk)?, kernel: kernel.as_deref().map(absolute).transpose()? }
            }
            (None, Some(kernel), _) => Source::Kernel {
                kernel: absolute(kernel)?,
                initrd: self.initrd.as_deref().map(absolute).transpose()?,
                cmdline: self.cmdline.clone(),
            },
            (None, None, Some(rootfs)) => Source::Rootfs { rootfs: absolute(rootfs)? },
            (None, None, None) => {
                return Err(usage("--name wants --image, --disk, --kernel or --rootfs besides".into()));
            }
        };
        if runtime == Runtime::Unikernel && (!self.args.is_empty() || !self.env.is_empty() || self.env_file.is_some()) {
            return Err(usage(
                "a unikernel's arguments and environment are in its image: give them to mcp-build".into(),
            ));
        }
        let mut c = Component::new(&name, runtime, source);
        for port in &self.ports {
            if port.bind.is_ipv6() {
                return Err(usage(format!(
                    "--port {port}: a VM's port is bound to an IPv4 address; IPv6 is for containers"
                )));
            }
        }
        for (n, port) in self.ports.iter().enumerate() {
            if let Some(other) = self.ports.iter().take(n).find(|other| other.clashes(port)) {
                return Err(usage(format!("--port {port}: clashes with {other}")));
            }
        }
        c.ports = self.ports.clone();
        c.memory_mb = self.memory.unwrap_or(c.memory_mb);
        c.vcpus = self.vcpus.unwrap_or(c.vcpus);
        if !(1..=255).contains(&c.vcpus) || !(8..=16 << 20).contains(&c.memory_mb) {
            return Err(usage("--vcpus must be 1 to 255, --memory 8 or more MiB".into()));
        }
        c.egress = if self.egress.as_deref() == Some("none") { Egress::None } else { Egress::All };
        c.volumes = self.volumes.clone();
        for pair in &self.env {
            let (key, value) = pair.split_once('=').ok_or_else(|| usage(format!("--env {pair:?}: not NAME=VALUE")))?;
            c.env.insert(key.to_string(), value.to_string());
        }
        c.env_file = self.env_file.as_deref().map(absolute).transpose()?;
        c.args = (!self.args.is_empty()).then(|| self.args.clone());
        c.root = if self.persistent { RootMode::Persistent } else { RootMode::Ephemeral };
        c.restart = match self.restart.as_deref() {
            Some("on-failure") => Restart::OnFailure,
            Some("always") => Restart::Always,
            _ => Restart::No,
        };
        c.stop_timeout = self.stop_timeout.unwrap_or(c.stop_timeout);
        c.start_timeout = self.start_timeout.unwrap_or(c.start_timeout);
        if let Some(kind) = &self.health {
            let kind = match kind.as_str() {
                "tcp" => HealthKind::Tcp,
                "http" => HealthKind::Http,
                "grpc" => HealthKind::Grpc,
                _ => HealthKind::None,
            };
            let path = self.health_path.clone().unwrap_or_else(|| "/".into());
            let service = self.health_service.clone().unwrap_or_default();
            c.health = Some(Health { kind: Some(kind), path, service, ..Health::default() });
        }
        let id = ComponentId { service: name.clone(), component: name };
        Ok(Resolved { id, component: c, adhoc: true, placement: Placement::Node })
    }
}
