//! Kernel modules.

use super::report::say;
use std::ffi::CStr;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::PathBuf;

/// The kernel unpacks the module itself (xz, zstd or gzip, as it was built with).
const MODULE_INIT_COMPRESSED_FILE: libc::c_int = 4;

/// Loads all of [`super::MODULES`] in the order of their names. What can't be loaded is said and passed over: a disk
/// that then is missing is the error.
pub fn load_all() {
    let mut files: Vec<PathBuf> = match fs::read_dir(super::MODULES) {
        Ok(entries) => entries.flatten().map(|e| e.path()).collect(),
        Err(_) => return,
    };
    files.sort();
    for path in files {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let loaded = File::open(&path).and_then(|file| load(&file, !name.ends_with(".ko")));
        match loaded {
            Err(e) if e.raw_os_error() == Some(libc::EEXIST) => {}
            Err(e) => say(&format!("load module {name}: {e}")),
            Ok(()) => {}
        }
        // The initramfs lives in memory.
        let _ = fs::remove_file(&path);
    }
}

fn load(file: &File, compressed: bool) -> std::io::Result<()> {
    let flags = if compressed { MODULE_INIT_COMPRESSED_FILE } else { 0 };
    let parameters: &CStr = c"";
    // SAFETY: a descriptor that is open and a string that outlives the call.
    let r = unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), parameters.as_ptr(), flags) };
    if r == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
