//! A unikernel: a Nanos disk made by `ops` of the files that were pulled.
//!
//! It is always given to `ops` as a package: that way, unlike `ops build`, it never runs the program to learn its
//! libraries, and takes nothing of the node's. See [`super::sysroot`] for what else that way wants.

use super::home::{self, Home};
use super::ops::{Answer, Call};
use super::parts::{Parts, Print};
use super::{Changes, Image, VOLUME_SIZE, key, share};
use crate::image::limits::UNIKERNEL_MAX;
use crate::image::pulled::{Program, Pulled, ROOTFS};
use crate::image::store::{Making, Store};
use crate::model::built::{self, Built, BuiltVolume};
use crate::model::{Digest, Node, Runtime, Volume};
use crate::sys::{Deadline, Error, Result, disk, file};
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// File name of the disk.
pub const DISK: &str = "disk.raw";
/// What the guest may write to its root before it is full. Nothing of it is written beforehand.
const FREE: u64 = 128 << 20;
/// What Nanos's boot file system takes.
const BOOT: u64 = 16 << 20;
/// Bytes of holes in the files from which on the disk is searched for zeros.
const DIG_FROM: u64 = 1 << 20;
/// What an entry of the file system may take in its log.
const ENTRY: u64 = 4096;
/// The longest label of a Nanos volume (VOLUME_LABEL_MAX_LEN, its closing NUL counted).
const LABEL_MAX: usize = 31;
/// What begins a file system of Nanos.
const MAGIC: &[u8] = b"NVMTFS";
/// The name server of QEMU's user-mode network.
const NAMESERVER: &str = "10.0.2.3";
/// What a container runtime sets where the image says nothing.
const DEFAULTS: [(&str, &str); 2] =
    [("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("HOME", "/root")];

/// All that makes the disk.
#[derive(Debug)]
pub struct Plan<'a> {
    image: &'a Image,
    program: &'a Program,
    secret: &'a [(String, String)],
    parts: Parts,
    argv: Vec<String>,
    env: BTreeMap<String, String>,
    workdir: String,
    volumes: Vec<Volume>,
}

/// What goes into the key. What a build says for people alone, like the reference, does not.
#[derive(Serialize)]
struct Inputs<'a> {
    runtime: Runtime,
    manifest: &'a Digest,
    pulled: &'a str,
    files: Digest,
    program: &'a str,
    argv: &'a [String],
    env: &'a BTreeMap<String, String>,
    secret: String,
    workdir: &'a str,
    volumes: &'a [(String, String, u64)],
    nanos: &'a str,
    parts: &'a [Print],
}

impl<'a> Plan<'a> {
    /// Puts together what `image` and `changes` say. Errors: what can't be, `ops` or Nanos missing.
    pub fn new(node: &Node, image: &'a Image, changes: &'a Changes) -> Result<Plan<'a>> {
        let pulled = &image.pulled;
        let refused = |reason: &str| Err(Error::refused(&pulled.reference, reason));
        let Some(program) = &pulled.program else {
            return refused("pulled without a program; run mcp-pull --for unikernel");
        };
        let argv = argv(pulled, program, changes.args.as_deref())?;
        let mut env = BTreeMap::new();
        for pair in &pulled.run.env {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            env.insert(name.to_string(), value.to_string());
        }
        env.extend(changes.env.clone());
        for (name, value) in DEFAULTS {
            env.entry(name.to_string()).or_insert_with(|| value.to_string());
        }
        let all = argv.iter().chain(env.iter().flat_map(|(name, value)| [name, value]));
        if all.chain([&pulled.run.workdir]).any(|text| text.contains('\0')) {
            return refused("an argument or variable has a NUL byte");
        }
        if env.keys().any(|name| name.is_empty() || name.contains('=')) {
            return refused("a variable of the environment has no name");
        }
        if !(pulled.run.workdir.is_empty() || pulled.run.workdir.starts_with('/')) {
            return refused("its WorkingDir is not an absolute path");
        }
        for volume in &changes.volumes {
            if volume.name.len() > LABEL_MAX {
                let reason = format!("a volume of a unikernel has a name of at most {LABEL_MAX} bytes");
                return Err(Error::refused(&volume.name, reason));
            }
        }
        Ok(Plan {
            image,
            program,
            secret: &changes.secret,
            parts: Parts::find(&node.ops)?,
            argv,
            env,
            workdir: pulled.run.workdir.clone(),
            volumes: changes.volumes.clone(),
        })
    }

    /// The key; `None` where that needs the store's salt, there is none, and none shall be made.
    pub fn key(&self, store: &Store, make_salt: bool) -> Result<Option<String>> {
        let Some(secret) = key::of_secret(self.secret, store, make_salt)? else { return Ok(None) };
        let files = serde_json::to_vec(&self.program.files).map_err(|e| Error::refused("image", e.to_string()))?;
        let volumes: Vec<_> = self.volumes.iter().map(|v| (v.name.clone(), v.path.clone(), size(v))).collect();
        key::of(&Inputs {
            runtime: Runtime::Unikernel,
            manifest: &self.image.pulled.manifest,
            pulled: &self.image.pulled.key,
            files: Digest::of(&files),
            program: &self.program.path,
            argv: &self.argv,
            env: &self.env,
            secret,
            workdir: &self.workdir,
            volumes: &volumes,
            nanos: &self.parts.version,
            parts: &self.parts.prints,
        })
        .map(Some)
    }

    /// Makes it in `out`, under the turn `making`, with `ops` running as `user`. Returns the home of `ops` too, whose
    /// removal takes a while.
    pub fn make(
        &self,
        key: &str,
        store: &Store,
        making: &Making,
        out: &Path,
        user: Option<u32>,
        deadline: Deadline,
    ) -> Result<(Built, Home)> {
        let name = self.kernel_name()?;
        let kernel = out.join(&name);
        if !share(store, out, &name) {
            home::copy(&self.parts.folder.join("kernel.img"), &kernel)?;
        }
        disk::check_kernel(&kernel)?;
        let home = Home::new(&making.aside("home"), &self.parts, &kernel, user)?;
        let ops = open_program(&self.parts.ops, user)?;
        let opened = home.open()?;
        // The disk with its free space and what describes it; or a volume.
        let file_max = self.volumes.iter().map(size).max().unwrap_or(0).max(UNIKERNEL_MAX + (1 << 30));
        let run = |args: &[&str]| Call { program: &ops, home: &opened, user, file_max, args }.run(deadline);
        self.make_disk(&home, &run, &out.join(DISK))?;
        let mut volumes = Vec::new();
        for volume in &self.volumes {
            let empty = format!("volume-{}.raw", volume.name);
            self.make_volume(&home, &run, volume, &out.join(&empty))?;
            volumes.push(BuiltVolume { name: volume.name.clone(), path: volume.path.clone(), empty });
        }
        let pulled = &self.image.pulled;
        let built = Built {
            schema: built::SCHEMA,
            key: key.to_string(),
            runtime: Runtime::Unikernel,
            reference: pulled.reference.clone(),
            manifest: pulled.manifest,
            disk: DISK.into(),
            kernel: Some(name),
            entrypoint: Vec::new(),
            cmd: Vec::new(),
            env: Vec::new(),
            workdir: String::new(),
            user: String::new(),
            stop_signal: String::new(),
            volumes,
            exposed: pulled.run.exposed.clone(),
        };
        Ok((built, home))
    }

    /// The kernel's file name: another for another kernel, so that builds can share it.
    fn kernel_name(&self) -> Result<String> {
        let hex = key::of(&(&self.parts.version, &self.parts.prints))?;
        Ok(format!("kernel-{}.img", hex.chars().take(16).collect::<String>()))
    }

    fn make_disk(&self, home: &Home, run: &dyn Fn(&[&str]) -> Result<Answer>, to: &Path) -> Result<()> {
        let reference = &self.image.pulled.reference;
        let manifest = json!({ "Program": self.program.path, "Args": self.argv, "Version": "1" });
        let mut staged = home.package(&self.image.dir.join(ROOTFS), manifest.to_string().as_bytes())?;
        if !staged.has_file(&self.program.path)? {
            return Err(Error::refused(&self.program.path, "no such file in the image that was pulled; run mcp-pull"));
        }
        // Programs expect one, whatever their image says.
        staged.ensure_folder("/tmp", reference)?;
        staged.ensure_folder(&self.workdir, reference)?;
        let mut mounts = BTreeMap::new();
        for volume in &self.volumes {
            mounts.insert(&volume.name, staged.ensure_folder(&volume.path, &volume.name)?);
        }
        // Without free space a guest can't even write a file of its own. The file is as long, but takes no space.
        let least = staged.bytes + staged.entries * ENTRY + BOOT + FREE;
        home.config(&self.config(&mounts, least))?;
        let args = ["image", "create", "--package", home::PACKAGE, "-l", "--disable-args-copy"];
        let answer = run(&[&args[..], &["-c", "{}/config/config.json", "-i", "disk"]].concat())?;
        let made = home.image("disk");
        let done = |line: &str| line.starts_with("onprem image '") && line.ends_with("created...");
        if !answer.succeeded(done) || !made.exists() {
            return Err(answer.error(reference, self.secret));
        }
        check_image(&made, least).map_err(|e| {
            Error::refused(reference, format!("ops said that all is well, but made no whole image: {e}"))
        })?;
        home.adopt(&made, to)?;
        if staged.holes > DIG_FROM {
            // ops has written them as zeros.
            let disk = OpenOptions::new().read(true).write(true).open(to).map_err(Error::path("open", to))?;
            file::dig_holes(&disk).map_err(Error::path("make holes in", to))?;
        }
        Ok(())
    }

    fn config(&self, mounts: &BTreeMap<&String, String>, least: u64) -> Vec<u8> {
        let mut env = self.env.clone();
        env.extend(self.secret.iter().cloned());
        // What ops sets itself, wrongly where there is a working directory.
        env.entry("PWD".into())
            .or_insert_with(|| if self.workdir.is_empty() { "/".into() } else { self.workdir.clone() });
        // Given straight to Nanos: ops takes a mount whose volume it hasn't made for a folder of the node.
        let mut passed = json!({ "debug_exit": "t" });
        if !(self.workdir.is_empty() || self.workdir == "/") {
            passed["cwd"] = json!(self.workdir);
        }
        if !mounts.is_empty() {
            passed["mounts"] = json!(mounts);
        }
        let config = json!({
            "Env": env,
            "BaseVolumeSz": least.next_multiple_of(disk::SECTOR).to_string(),
            "NameServers": [NAMESERVER],
            "ManifestPassthrough": passed,
        });
        config.to_string().into_bytes()
    }

    fn make_volume(
        &self,
        home: &Home,
        run: &dyn Fn(&[&str]) -> Result<Answer>,
        volume: &Volume,
        to: &Path,
    ) -> Result<()> {
        let size = size(volume);
        let answer = run(&["volume", "create", &volume.name, "-s", &size.to_string()])?;
        let made = match home.volume(&volume.name) {
            Some(made) if answer.ended_well() => made,
            _ => return Err(answer.error(&volume.name, self.secret)),
        };
        // With O_NOFOLLOW: whoever made it may have made it a link.
        let file = open_made(&made)?;
        let about = file.metadata().map_err(Error::path("stat", &made))?;
        if !begins_with_magic(&file, 0) || about.len() != size {
            return Err(Error::refused(&volume.name, "ops said that all is well, but made no whole volume"));
        }
        home.adopt(&made, to)
    }
}

/// Bytes of a volume, in whole sectors.
fn size(volume: &Volume) -> u64 {
    volume.size.unwrap_or(VOLUME_SIZE).next_multiple_of(disk::SECTOR)
}

/// The program's arguments: as they were pulled, or with `args` in the place of the image's Cmd.
fn argv(pulled: &Pulled, program: &Program, args: Option<&[String]>) -> Result<Vec<String>> {
    let Some(args) = args else { return Ok(program.argv.clone()) };
    if !pulled.run.entrypoint.is_empty() {
        return Ok(pulled.run.entrypoint.iter().chain(args).cloned().collect());
    }
    // Without an entry point they name the program as well, and only one was pulled.
    let first = args.first().map(String::as_str);
    let names = [program.argv.first().map(String::as_str), Some(program.path.as_str())];
    if first.is_none() || !names.contains(&first) {
        let reason = format!(
            "it has no Entrypoint, so that its arguments begin with the program, and what was pulled is {}; give the \
             arguments in a definition, and pull that",
            program.path
        );
        return Err(Error::refused(&pulled.reference, reason));
    }
    Ok(args.to_vec())
}

/// Opens the program for one who may not be able to reach it by name.
fn open_program(path: &Path, user: Option<u32>) -> Result<OwnedFd> {
    use std::os::unix::fs::PermissionsExt;
    let about = std::fs::metadata(path).map_err(Error::path("stat", path))?;
    if user.is_some() && about.permissions().mode() & 0o005 != 0o005 {
        let reason = "runs as a user of its own, which may not execute it; chmod o+rx";
        return Err(Error::refused(path.display(), reason));
    }
    File::open(path).map(OwnedFd::from).map_err(Error::path("open", path))
}

fn open_made(path: &Path) -> Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(Error::path("open", path))
}

fn begins_with_magic(file: &File, at: u64) -> bool {
    let mut head = [0; MAGIC.len()];
    file.read_exact_at(&mut head, at).is_ok() && head == *MAGIC
}

/// A whole Nanos image: boot record, boot file system, and a root that reaches to the end of the file.
fn check_image(path: &Path, least: u64) -> Result<()> {
    let file = open_made(path)?;
    let about = file.metadata().map_err(Error::path("stat", path))?;
    let wrong = |why: &str| Err(Error::refused("its disk", why));
    if !about.is_file() {
        return wrong("not a file");
    }
    let partitions = disk::check_disk(path, true)?;
    let [boot, root] = partitions.as_slice() else { return wrong("not two partitions") };
    if root.end != about.len() || about.len() < least {
        return wrong("cut off");
    }
    if ![boot, root].iter().all(|p| begins_with_magic(&file, p.from)) {
        return wrong("no file system of Nanos in a partition");
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::image::oci::RunConfig;
    use std::io::{Seek, SeekFrom, Write};

    fn pulled(entrypoint: &[&str], argv: &[&str]) -> Pulled {
        let own = |words: &[&str]| words.iter().map(|w| w.to_string()).collect::<Vec<_>>();
        let digest = Digest::of(b"");
        Pulled {
            schema: 1,
            key: "k".into(),
            reference: "host/x".into(),
            tagged: digest,
            manifest: digest,
            config: digest,
            runtime: Runtime::Unikernel,
            run: RunConfig { entrypoint: own(entrypoint), ..RunConfig::default() },
            layers: Vec::new(),
            program: Some(Program {
                path: "/usr/bin/app".into(),
                argv: own(argv),
                interpreter: None,
                libraries: Vec::new(),
                files: Vec::new(),
                warnings: Vec::new(),
            }),
        }
    }

    fn argued(pulled: &Pulled, args: Option<&[&str]>) -> std::result::Result<Vec<String>, String> {
        let args: Option<Vec<String>> = args.map(|a| a.iter().map(|w| w.to_string()).collect());
        argv(pulled, pulled.program.as_ref().unwrap(), args.as_deref()).map_err(|e| e.to_string())
    }

    #[test]
    fn arguments_take_the_place_of_cmd() {
        let with = pulled(&["/app", "-a"], &["/app", "-a", "cmd"]);
        assert_eq!(argued(&with, None).unwrap(), ["/app", "-a", "cmd"]);
        assert_eq!(argued(&with, Some(&["", "x"])).unwrap(), ["/app", "-a", "", "x"]);
        assert_eq!(argued(&with, Some(&[])).unwrap(), ["/app", "-a"]);
        // Without an entry point they name the program too.
        let without = pulled(&[], &["app", "cmd"]);
        assert_eq!(argued(&without, Some(&["app", "x"])).unwrap(), ["app", "x"]);
        assert_eq!(argued(&without, Some(&["/usr/bin/app"])).unwrap(), ["/usr/bin/app"]);
        for other in [&["-x"][..], &[]] {
            assert!(argued(&without, Some(other)).unwrap_err().contains("what was pulled is /usr/bin/app"));
        }
    }

    #[test]
    fn only_a_whole_image_counts() {
        let path = std::env::temp_dir().join(format!("mcp-check-image-{}", std::process::id()));
        let told = |size: u64, least: u64| {
            File::options().write(true).open(&path).unwrap().set_len(size).unwrap();
            check_image(&path, least).map_err(|e| e.to_string())
        };
        let mut file = File::create(&path).unwrap();
        let mut sector = [0_u8; 512];
        for (at, value) in [(8, 2_u32), (12, 4), (24, 6), (28, 10)] {
            sector[446 + at..450 + at].copy_from_slice(&value.to_le_bytes());
        }
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        file.write_all(&sector).unwrap();
        for start in [2, 6] {
            file.seek(SeekFrom::Start(start * 512)).unwrap();
            file.write_all(MAGIC).unwrap();
        }
        assert_eq!(told(16 * 512, 16 * 512), Ok(()));
        assert!(told(16 * 512, 16 * 512 + 1).unwrap_err().contains("cut off"));
        assert!(told(17 * 512, 0).unwrap_err().contains("cut off"));
        assert!(told(15 * 512, 0).unwrap_err().contains("truncated"));
        assert!(told(3000, 0).unwrap_err().contains("truncated"));
        told(6 * 512, 0).unwrap_err();
        assert!(told(16 * 512, 0).unwrap_err().contains("no file system of Nanos"));
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        check_image(&path, 0).unwrap_err();
        std::fs::remove_file(path).unwrap();
    }
}
