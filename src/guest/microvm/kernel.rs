//! The kernel that microvms boot.

use crate::model::Node;
use crate::sys::paths::Paths;
use crate::sys::{Error, Result};
use std::path::{Path, PathBuf};

/// A kernel and the folder with its modules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestKernel {
    /// `vmlinux`, which starts faster, or `vmlinuz`.
    pub kernel: PathBuf,
    /// Its modules: the flat folder of scripts/get-guest-kernel, or a /lib/modules/RELEASE.
    pub modules: PathBuf,
}

/// Where the node's kernel tells its release.
const RELEASE: &str = "/proc/sys/kernel/osrelease";
const WAY_OUT: &str = "run mcp-get-guest-kernel (scripts/get-guest-kernel), or set kernel and modules under [microvm]";

/// What the node config names, else what scripts/get-guest-kernel laid down, else the node's own. The error tells
/// the way out.
pub fn find_kernel(node: &Node, paths: &Paths) -> Result<GuestKernel> {
    let laid_down = paths.lib.join("kernel");
    if let Some(kernel) = &node.microvm.kernel {
        let modules = node.microvm.modules.clone().unwrap_or_else(|| beside(kernel));
        return check(GuestKernel { kernel: kernel.clone(), modules });
    }
    // Resolved once: the link may be turned to another version while we read.
    if let Ok(folder) = laid_down.canonicalize() {
        for name in ["vmlinux", "vmlinuz"] {
            let kernel = folder.join(name);
            if kernel.is_file() {
                let modules = node.microvm.modules.clone().unwrap_or_else(|| folder.join("modules"));
                return check(GuestKernel { kernel, modules });
            }
        }
    }
    let release = std::fs::read_to_string(RELEASE).map_err(Error::os("read", RELEASE))?;
    let release = release.trim_end();
    let own = GuestKernel {
        kernel: Path::new("/boot").join(format!("vmlinuz-{release}")),
        modules: node.microvm.modules.clone().unwrap_or_else(|| Path::new("/lib/modules").join(release)),
    };
    if own.kernel.is_file() && own.modules.is_dir() {
        return check(own);
    }
    Err(Error::refused(laid_down.display(), format!("no guest kernel for microvms there; {WAY_OUT}")))
}

/// Where a kernel's modules are when only the kernel was named.
fn beside(kernel: &Path) -> PathBuf {
    let name = kernel.file_name().unwrap_or_default().to_string_lossy();
    match name.strip_prefix("vmlinuz-").or_else(|| name.strip_prefix("vmlinux-")) {
        Some(release) => Path::new("/lib/modules").join(release),
        None => kernel.with_file_name("modules"),
    }
}

fn check(found: GuestKernel) -> Result<GuestKernel> {
    // Opened, since a distribution may keep kernels readable for root alone.
    std::fs::File::open(&found.kernel).map_err(|e| {
        let reason = crate::sys::error::os_reason(&e);
        Error::refused(found.kernel.display(), format!("guest kernel: {reason}; {WAY_OUT}"))
    })?;
    if !found.modules.is_dir() {
        return Err(Error::refused(
            found.modules.display(),
            format!("no folder with the guest kernel's modules; {WAY_OUT}"),
        ));
    }
    Ok(found)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_config_wins_over_what_was_laid_down() {
        let dir = std::env::temp_dir().join(format!("mcp-kernel-{}", std::process::id()));
        let paths = Paths::under(&dir);
        let mut node = Node::default();
        fs::create_dir_all(paths.lib.join("kernel/modules")).unwrap();
        fs::write(paths.lib.join("kernel/vmlinuz"), "k").unwrap();
        let found = find_kernel(&node, &paths).unwrap();
        assert!(found.kernel.ends_with("lib/kernel/vmlinuz") && found.modules.ends_with("lib/kernel/modules"));
        fs::write(paths.lib.join("kernel/vmlinux"), "k").unwrap();
        assert!(find_kernel(&node, &paths).unwrap().kernel.ends_with("vmlinux"));
        node.microvm.kernel = Some(dir.join("missing"));
        let told = find_kernel(&node, &paths).unwrap_err().to_string();
        assert!(told.contains("missing") && told.contains("mcp-get-guest-kernel"), "{told}");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn modules_of_a_versioned_kernel_are_the_systems() {
        assert_eq!(beside(Path::new("/boot/vmlinuz-6.1")), Path::new("/lib/modules/6.1"));
        assert_eq!(beside(Path::new("/k/bzImage")), Path::new("/k/modules"));
    }
}
