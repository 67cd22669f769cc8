//! Where everything lives. The one place that knows file names of ours.
//!
//! ```text
//! CONFIG/mcp.toml                          node config
//! CONFIG/services/NAME.toml                service definitions
//! LIB/registry/SERVICE/COMPONENT.json      record of what was last started, and whether it shall run
//! LIB/units/INIT.json                     what mcp-units wrote for that init, with digests
//! LIB/boot.json, boot.json.1                records of the last boot and of the one before it
//! LIB/store/blobs/HEX                      blobs as they were fetched, named by their SHA-256
//! LIB/store/layers/HEX                     what is in the layer whose blob is HEX: see image::layer::index
//! LIB/store/images/KEY/                    what mcp-pull made: image.json, and for a unikernel rootfs/
//! LIB/store/builds/KEY/                    what mcp-build made: boot.json, disk, kernel
//! LIB/store/refs/HEX.json                  what a reference (whose SHA-256 is HEX) was pulled as
//! LIB/store/locks/NAME                     held by whoever makes NAME
//! LIB/store/tmp/                           what is not whole yet
//! LIB/store/salt                           goes into the keys of builds that hold secrets
//! LIB/containers/pulled/HEX.json           what a container's reference (whose SHA-256 is HEX) was pulled as
//! LIB/containers/certs/HOST/ca.crt         a copy of that registry's CA, for podman
//! LIB/volumes/SERVICE/COMPONENT/NAME.raw   named disks of VMs
//! LIB/disks/SERVICE/COMPONENT/root.raw     private root disk (root = "persistent")
//! LIB/microvm/SERVICE/COMPONENT/           squashfs roots, cached
//! LIB/microvm/initramfs-KEY.cpio           the initramfs that all microvms share, cached
//! LIB/kernel/                              the guest kernel that scripts/get-guest-kernel lays down
//! RUN/SERVICE/COMPONENT/lock               held by the supervisor
//! RUN/SERVICE/COMPONENT/{a,b}/             one instance (two only while one replaces the other)
//! RUN/SERVICE/COMPONENT/{a,b}/lock         held by QEMU as long as the VM lives
//! RUN/SERVICE/COMPONENT/{a,b}/qmp.sock     monitor for operators and the other programs
//! RUN/SERVICE/COMPONENT/{a,b}/supervisor.sock, guest.sock
//! RUN/SERVICE/COMPONENT/{a,b}/state.json   see model::state
//! RUN/SERVICE/COMPONENT/c/                 a container
//! RUN/SERVICE/COMPONENT/c/state.json       see model::state
//! RUN/SERVICE/COMPONENT/c/podman           the podman that is changing something, as it signed itself
//! RUN/SERVICE/COMPONENT/c/env              what is handed to podman out of an env_file, while it starts
//! RUN/SERVICE/COMPONENT/{current,qmp.sock,state.json}   links: the serving instance and its files
//! RUN/SERVICE/COMPONENT/{replace.json,replaced.json,replace.lock}   a replace asked for, its answer, whose turn it is
//! RUN/SERVICE/COMPONENT/probe.json         what the last recorded probe said: see model::probed
//! RUN/.boot/RUN                            held by the mcp-boot whose run is called RUN in the boot record
//! RUN/.probe/seen                          what scripts/cron/mcp-probe saw last
//! RUN/.generated.json                      what mcp-units made last as systemd's generator: path below its --dest, and text
//! RUN/.uids/UID                            held by the QEMU that runs as UID
//! LOG/SERVICE/COMPONENT/{a,b}/console.log, console.idx, console.log.NNNNNN, console.idx.NNNNNN
//! LOG/SERVICE/COMPONENT/c/                 the same of a container; conmon writes the logs, in CRI's format
//! LOG/SERVICE/COMPONENT/console.log        link to the serving instance's
//! LOG/SERVICE/COMPONENT/supervisor.log     what a detached supervisor has to say
//! ```

use super::{Error, Result};
use std::path::{Path, PathBuf};

/// The longest path of a Unix socket, in bytes, without the closing NUL.
pub const SOCKET_PATH_MAX: usize = 107;

/// The four folders that all else is below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// The node config file.
    pub config: PathBuf,
    /// Folder of service definitions.
    pub services: PathBuf,
    /// Lasting state.
    pub lib: PathBuf,
    /// Per-boot state.
    pub run: PathBuf,
    /// Console logs.
    pub log: PathBuf,
}

/// Which of the places for an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// The first of a VM's two.
    A,
    /// The second of a VM's two.
    B,
    /// A container's.
    C,
}

impl Slot {
    /// All, in order.
    pub const ALL: [Slot; 3] = [Slot::A, Slot::B, Slot::C];
    /// Those for VMs, of which one may replace the other.
    pub const VMS: [Slot; 2] = [Slot::A, Slot::B];

    /// Its folder name.
    pub fn name(self) -> &'static str {
        match self {
            Slot::A => "a",
            Slot::B => "b",
            Slot::C => "c",
        }
    }
}

impl Paths {
    /// Everything under one folder, as `MCP_ROOT` and `--root` say.
    pub fn under(root: &Path) -> Paths {
        Paths {
            config: root.join("etc/mcp.toml"),
            services: root.join("etc/services"),
            lib: root.join("lib"),
            run: root.join("run"),
            log: root.join("log"),
        }
    }

    /// The one folder, if `--root` or else `MCP_ROOT` names it.
    pub fn root(root: Option<&Path>) -> Result<Option<PathBuf>> {
        let from_env = std::env::var_os("MCP_ROOT").filter(|v| !v.is_empty()).map(PathBuf::from);
        let named = root.map(Path::to_path_buf).or(from_env);
        named.map(|root| std::path::absolute(&root).map_err(Error::path("resolve", &root))).transpose()
    }

    /// From `--root`, else `MCP_ROOT`, else the system's places for root and the XDG ones for others.
    pub fn find(root: Option<&Path>) -> Result<Paths> {
        if let Some(root) = Paths::root(root)? {
            return Ok(Paths::under(&root));
        }
        if nix::unistd::geteuid().is_root() {
            return Ok(Paths {
                config: "/etc/mcp/mcp.toml".into(),
                services: "/etc/mcp/services".into(),
                lib: "/var/lib/mcp".into(),
                run: "/run/mcp".into(),
                log: "/var/log/mcp".into(),
            });
        }
        let dir = |variable: &str, below_home: &str| -> Result<PathBuf> {
            if let Some(value) = std::env::var_os(variable).filter(|v| Path::new(v).is_absolute()) {
                return Ok(value.into());
            }
            match std::env::var_os("HOME").filter(|v| Path::new(v).is_absolute()) {
                Some(home) if !below_home.is_empty() => Ok(Path::new(&home).join(below_home)),
                _ => Err(Error::refused(variable, "not set; set it, or name a folder with --root or MCP_ROOT")),
            }
        };
        let config = dir("XDG_CONFIG_HOME", ".config")?.join("mcp");
        let state = dir("XDG_STATE_HOME", ".local/state")?.join("mcp");
        Ok(Paths {
            config: config.join("mcp.toml"),
            services: config.join("services"),
            log: state.join("log"),
            lib: state,
            run: dir("XDG_RUNTIME_DIR", "")?.join("mcp"),
        })
    }

    /// The image store.
    pub fn store(&self) -> StorePaths {
        StorePaths { root: self.lib.join("store") }
    }

    /// What references of containers were last pulled as.
    pub fn containers_pulled(&self) -> PathBuf {
        self.lib.join("containers/pulled")
    }

    /// Folder with the certificates that podman is to trust of the registry `host`.
    pub fn containers_certificates(&self, host: &str) -> PathBuf {
        self.lib.join("containers/certs").join(host)
    }

    /// The record of the last boot.
    pub fn boot_record(&self) -> PathBuf {
        self.lib.join("boot.json")
    }

    /// The record of the boot before that.
    pub fn boot_record_before(&self) -> PathBuf {
        self.lib.join("boot.json.1")
    }

    /// Folder of the locks that runs of mcp-boot hold. No service's name begins with a dot.
    pub fn boot_runs(&self) -> PathBuf {
        self.run.join(".boot")
    }

    /// Run directory of a component.
    pub fn component(&self, service: &str, component: &str) -> ComponentPaths {
        ComponentPaths {
            run: self.run.join(service).join(component),
            log: self.log.join(service).join(component),
            record: self.lib.join("registry").join(service).join(format!("{component}.json")),
            volumes: self.lib.join("volumes").join(service).join(component),
            disks: self.lib.join("disks").join(service).join(component),
            roots: self.lib.join("microvm").join(service).join(component),
        }
    }
}

/// The image store. Everything in it but `tmp` is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorePaths {
    /// Its folder.
    pub root: PathBuf,
}

impl StorePaths {
    /// Blobs, named by the hex of their digest.
    pub fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }
    /// Indexes of layers, named as their blobs.
    pub fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }
    /// Directories that mcp-pull made.
    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }
    /// Directories that mcp-build made.
    pub fn builds(&self) -> PathBuf {
        self.root.join("builds")
    }
    /// The directory of one build.
    pub fn build(&self, key: &str) -> PathBuf {
        self.builds().join(key)
    }
    /// What each reference was last pulled as.
    pub fn refs(&self) -> PathBuf {
        self.root.join("refs")
    }
    /// Locks of those who make something.
    pub fn locks(&self) -> PathBuf {
        self.root.join("locks")
    }
    /// What is not whole yet.
    pub fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }
    /// What goes into the keys of builds that hold secrets.
    pub fn salt(&self) -> PathBuf {
        self.root.join("salt")
    }
}

/// Where one component's files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentPaths {
    /// Its run directory.
    pub run: PathBuf,
    /// Its log directory.
    pub log: PathBuf,
    /// Its record.
    pub record: PathBuf,
    /// Its named disks.
    pub volumes: PathBuf,
    /// Its private root disk's folder.
    pub disks: PathBuf,
    /// What its root file system was packed into, cached.
    pub roots: PathBuf,
}

impl ComponentPaths {
    /// The supervisor's lock.
    pub fn lock(&self) -> PathBuf {
        self.run.join("lock")
    }

    /// A replace that was asked for.
    pub fn replace_request(&self) -> PathBuf {
        self.run.join("replace.json")
    }

    /// The supervisor's answer to it.
    pub fn replace_answer(&self) -> PathBuf {
        self.run.join("replaced.json")
    }

    /// Held by the one who asks.
    pub fn replace_lock(&self) -> PathBuf {
        self.run.join("replace.lock")
    }

    /// What the last recorded probe said.
    pub fn probe(&self) -> PathBuf {
        self.run.join("probe.json")
    }

    /// The link to the serving instance's directory.
    pub fn current(&self) -> PathBuf {
        self.run.join("current")
    }

    /// The slot that the `current` link names, if there is one.
    pub fn current_slot(&self) -> Option<Slot> {
        let target = std::fs::read_link(self.current()).ok()?;
        Slot::ALL.into_iter().find(|s| Path::new(s.name()) == target)
    }

    /// What a detached supervisor has to say.
    pub fn supervisor_log(&self) -> PathBuf {
        self.log.join("supervisor.log")
    }

    /// Files of one instance.
    pub fn instance(&self, slot: Slot) -> InstancePaths {
        InstancePaths { slot, run: self.run.join(slot.name()), log: self.log.join(slot.name()) }
    }
}

/// Where one instance's files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstancePaths {
    /// Which of the places.
    pub slot: Slot,
    /// Its run directory.
    pub run: PathBuf,
    /// Its log directory.
    pub log: PathBuf,
}

impl InstancePaths {
    /// The lock that QEMU holds.
    pub fn lock(&self) -> PathBuf {
        self.run.join("lock")
    }
    /// The monitor for operators.
    pub fn qmp(&self) -> PathBuf {
        self.run.join("qmp.sock")
    }
    /// The supervisor's own monitor.
    pub fn supervisor(&self) -> PathBuf {
        self.run.join("supervisor.sock")
    }
    /// What a microvm's init has to say.
    pub fn guest(&self) -> PathBuf {
        self.run.join("guest.sock")
    }
    /// The podman that is changing something of a container.
    pub fn podman(&self) -> PathBuf {
        self.run.join("podman")
    }
    /// What a container's podman gets out of an `env_file`, while it starts.
    pub fn env(&self) -> PathBuf {
        self.run.join("env")
    }
    /// The instance's state.
    pub fn state(&self) -> PathBuf {
        self.run.join("state.json")
    }
    /// The live console log.
    pub fn console(&self) -> PathBuf {
        self.log.join("console.log")
    }

    /// How far the copy of the console on standard output has come.
    pub fn console_copied(&self) -> PathBuf {
        self.run.join("copied")
    }

    /// When the bytes of the live console log came.
    pub fn console_index(&self) -> PathBuf {
        self.log.join("console.idx")
    }

    /// Refuses paths that a Unix socket can't have.
    pub fn check_socket_lengths(&self) -> Result<()> {
        let longest = self.supervisor();
        let length = longest.as_os_str().len();
        if length > SOCKET_PATH_MAX {
            return Err(Error::refused(
                longest.display(),
                format!("{length} bytes, and a Unix socket's path can have {SOCKET_PATH_MAX}; choose a shorter --root"),
            ));
        }
        Ok(())
    }
}
