//! The initramfs: our init and the kernel's modules, made once and shared, and a last archive for one start alone.

use super::cpio::Archive;
use super::kernel::GuestKernel;
use super::module;
use crate::init::handover::{self, Handover};
use crate::sys::paths::Paths;
use crate::sys::tool::{self, Tool};
use crate::sys::{Deadline, Error, Result, file};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Goes into the key: to be raised when the same inputs shall give another archive.
const FORM: &str = "1";
const PROGRAM: &str = "mcp-guest-init";
const FILE_MAX: u64 = 64 << 20;
/// How long unpacking one module may take.
const UNPACK_TIMEOUT: Duration = Duration::from_secs(30);

/// The guest's init: `MCP_GUEST_INIT`, else beside our own program, else in ../lib/mcp/ as installed.
pub fn find_init() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("MCP_GUEST_INIT").filter(|v| !v.is_empty()).map(PathBuf::from) {
        return if path.is_file() {
            Ok(path)
        } else {
            Err(Error::refused(path.display(), "no such file (MCP_GUEST_INIT)"))
        };
    }
    let own = std::env::current_exe().map_err(Error::os("find", "our own program"))?;
    let dir = own.parent().unwrap_or(Path::new("/"));
    let places = [dir.join(PROGRAM), dir.join("../lib/mcp").join(PROGRAM)];
    places.iter().find(|p| p.is_file()).cloned().ok_or_else(|| {
        Error::refused(
            PROGRAM,
            format!("not in {} nor ../lib/mcp; run scripts/build, or set MCP_GUEST_INIT", dir.display()),
        )
    })
}

/// The part that all microvms share: made when its inputs (init, kernel, modules) changed, else in a millisecond.
/// Two at once make the same file.
pub fn base(paths: &Paths, kernel: &GuestKernel) -> Result<PathBuf> {
    let init = find_init()?;
    let folder = paths.lib.join("microvm");
    let path = folder.join(format!("initramfs-{}.cpio", key(&init, kernel)?));
    if path.is_file() {
        return Ok(path);
    }
    let mut archive = Archive::new();
    for dir in ["dev", "proc", "sys", "modules"] {
        archive.directory(dir, 0o755);
    }
    let read = |path: &Path| {
        file::read_bounded(path, FILE_MAX)?.ok_or_else(|| Error::busy(path.display(), "vanished while it was read"))
    };
    archive.file("init", 0o755, &read(&init)?);
    for (number, module) in module::in_order(&kernel.modules)?.iter().enumerate() {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        let (name, contents) = match unpacked(module)? {
            Some(contents) => (name.split('.').next().unwrap_or_default().to_string() + ".ko", contents),
            None => (name.into_owned(), read(module)?),
        };
        archive.file(&format!("modules/{number:02}-{name}"), 0o644, &contents);
    }
    file::create_dirs(&folder)?;
    remove_others(&folder, &path);
    // A temporary name of our own, unlike write_whole's: nobody holds a lock here.
    let temporary = folder.join(format!(".initramfs.{}.tmp", std::process::id()));
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(&archive.finish())?;
        file.sync_all()?;
        fs::rename(&temporary, &path)
    };
    write().map_err(|e| {
        let _ = fs::remove_file(&temporary);
        Error::path("write", &path)(e)
    })?;
    Ok(path)
}

/// Whether [`base`] would find it or could make it.
pub fn check(paths: &Paths, kernel: &GuestKernel) -> Result<()> {
    let key = key(&find_init()?, kernel)?;
    match paths.lib.join("microvm").join(format!("initramfs-{key}.cpio")).is_file() {
        true => Ok(()),
        false => module::in_order(&kernel.modules).map(drop),
    }
}

/// A compressed module as the kernel takes it: few kernels unpack modules themselves, and ours would do it at every
/// boot. `None` for one that isn't compressed, or where the program for it is missing, which leaves it to the kernel.
fn unpacked(module: &Path) -> Result<Option<Vec<u8>>> {
    let name = match module.extension().and_then(|e| e.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return Ok(None),
    };
    let Ok(program) = tool::find(name, name) else { return Ok(None) };
    let out = File::from(tool::memory("mcp-module")?);
    let mut command = Command::new(program);
    command.arg("-dc").arg(module).stdin(Stdio::null());
    command.stdout(out.try_clone().map_err(Error::os("duplicate", "descriptor"))?);
    Tool::start(name, &mut command)?.succeed(&module.display().to_string(), module, Deadline::after(UNPACK_TIMEOUT))?;
    let mut contents = Vec::new();
    (&out).seek(SeekFrom::Start(0)).map_err(Error::path("read", module))?;
    out.take(FILE_MAX).read_to_end(&mut contents).map_err(Error::path("read", module))?;
    Ok(Some(contents))
}

/// What one start hands to QEMU as `-initrd /proc/self/fd/N`: the shared part, and the handover after it, in memory
/// so that its secrets are on no disk. Belongs to `owner` alone, the user that QEMU runs as.
pub fn initrd(paths: &Paths, kernel: &GuestKernel, handover: &Handover, owner: Option<u32>) -> Result<OwnedFd> {
    let told = handover::encode(handover).map_err(|e| Error::refused("guest", e))?;
    let shared = open_base(paths, kernel)?;
    let mut archive = Archive::new();
    archive.file(handover::PATH.trim_start_matches('/'), 0o600, &told);
    let mut memory = File::from(tool::sealable("mcp-initrd")?);
    let copied = std::io::copy(&mut &shared, &mut memory).and_then(|_| memory.write_all(&archive.finish()));
    copied.map_err(Error::os("write", "initramfs in memory"))?;
    tool::hand_over(&memory, owner)?;
    Ok(memory.into())
}

fn open_base(paths: &Paths, kernel: &GuestKernel) -> Result<File> {
    // Another program's newer base may have taken the place of ours before we opened it; once is enough.
    for _ in 0..2 {
        let path = base(paths, kernel)?;
        match File::open(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            opened => return opened.map_err(Error::path("open", &path)),
        }
    }
    Err(Error::busy("initramfs", "replaced while it was opened; try again"))
}

/// Changes whenever one of the inputs does. Files are told apart by size, times and inode, as `make` would.
fn key(init: &Path, kernel: &GuestKernel) -> Result<String> {
    let mut digest = Sha256::new();
    let mut put = |bytes: &[u8]| {
        digest.update((bytes.len() as u64).to_le_bytes());
        digest.update(bytes);
    };
    put(FORM.as_bytes());
    put(env!("CARGO_PKG_VERSION").as_bytes());
    let lists = ["modules.dep", "modules.builtin"].map(|name| kernel.modules.join(name));
    for path in [init, &kernel.kernel, &kernel.modules, &lists[0], &lists[1]] {
        put(path.as_os_str().as_encoded_bytes());
        match fs::metadata(path) {
            Ok(m) => {
                for number in [m.dev(), m.ino(), m.size(), m.mtime() as u64, m.mtime_nsec() as u64, m.ctime() as u64] {
                    put(&number.to_le_bytes());
                }
            }
            Err(e) if e.kind() == ErrorKind::NotFound => put(b"none"),
            Err(e) => return Err(Error::path("stat", path)(e)),
        }
    }
    Ok(super::short_hex(digest))
}

/// Bases of earlier inits or kernels, and what killed writers left. A running guest has long read its own.
fn remove_others(folder: &Path, keep: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let old = name.starts_with("initramfs-") && entry.path() != keep;
        let left = name.starts_with(".initramfs.") && super::is_stale(&entry.path());
        if old || left {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_base_is_made_once_and_the_handover_follows_it() {
        let dir = std::env::temp_dir().join(format!("mcp-initramfs-{}", std::process::id()));
        let paths = Paths::under(&dir);
        let kernel = GuestKernel { kernel: dir.join("vmlinux"), modules: dir.join("modules") };
        fs::create_dir_all(&kernel.modules).unwrap();
        fs::write(&kernel.kernel, "k").unwrap();
        for (name, _) in module::WANTED {
            fs::write(kernel.modules.join(format!("{name}.ko")), b"\0depends=\0").unwrap();
        }
        let evdev = kernel.modules.join("evdev.ko");
        assert!(Command::new("gzip").arg(&evdev).status().unwrap().success());
        assert_eq!(unpacked(&kernel.modules.join("evdev.ko.gz")).unwrap().unwrap(), b"\0depends=\0");
        assert!(unpacked(&evdev).unwrap().is_none());
        fs::remove_file(kernel.modules.join("evdev.ko.gz")).unwrap();
        fs::write(evdev, b"\0depends=\0").unwrap();
        let init = dir.join("init");
        fs::write(&init, "init").unwrap();
        // SAFETY: no other test reads or writes this variable.
        unsafe { std::env::set_var("MCP_GUEST_INIT", &init) };
        let first = base(&paths, &kernel).unwrap();
        let made = fs::metadata(&first).unwrap().modified().unwrap();
        assert_eq!(base(&paths, &kernel).unwrap(), first);
        assert_eq!(fs::metadata(&first).unwrap().modified().unwrap(), made);

        let handover = Handover { args: vec!["/bin/sh".into()], ..Handover::default() };
        let mut memory = File::from(initrd(&paths, &kernel, &handover, None).unwrap());
        let mut bytes = Vec::new();
        memory.seek(SeekFrom::Start(0)).unwrap();
        memory.read_to_end(&mut bytes).unwrap();
        let shared = fs::read(&first).unwrap();
        assert!(bytes.starts_with(&shared));
        let told = handover::encode(&handover).unwrap();
        assert!(bytes[shared.len()..].windows(told.len()).any(|w| w == told));
        assert_eq!(memory.metadata().unwrap().mode() & 0o777, 0o400);

        fs::write(&init, "another init").unwrap();
        let second = base(&paths, &kernel).unwrap();
        assert!(second != first && !first.exists());
        fs::remove_dir_all(dir).unwrap();
    }
}
