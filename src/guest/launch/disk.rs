//! Disks of a component's own, made at its first start: a private root, and Nanos volumes.

use crate::model::Built;
use crate::supervise::Context;
use crate::sys::{Error, Result, file};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The component's own copy of its root disk, made at its first start where `make` says so.
pub fn private_root(context: &Context<'_>, image: &Path, make: bool) -> Result<PathBuf> {
    let disk = context.files().disks.join("root.raw");
    if make && !disk.exists() {
        copy(image, &disk)?;
    }
    Ok(disk)
}

/// Makes the volumes that are missing of a unikernel whose build is `built` in `dir`: copies of the empty ones there.
pub fn nanos_volumes(context: &Context<'_>, dir: &Path, built: &Built) -> Result<()> {
    check_nanos_volumes(context, dir, built)?.iter().try_for_each(|(empty, disk)| copy(empty, disk))
}

/// Those that are missing, all of which can be made: the empty one, and what it is to be copied to.
pub fn check_nanos_volumes(context: &Context<'_>, dir: &Path, built: &Built) -> Result<Vec<(PathBuf, PathBuf)>> {
    let mut missing = Vec::new();
    for volume in &context.component.volumes {
        let disk = context.files().volumes.join(format!("{}.raw", volume.name));
        if disk.exists() {
            continue;
        }
        let empty = built.volumes.iter().find(|v| v.name == volume.name && v.path == volume.path).ok_or_else(|| {
            Error::refused(
                dir.display(),
                format!("was built without the volume {}; mcp deploy {} builds it anew", volume.name, context.id),
            )
        })?;
        missing.push((dir.join(&empty.empty), disk));
    }
    // Only once all are known to have been built: that is the reason to be told first.
    missing.iter().try_for_each(|(empty, _)| crate::sys::disk::check_file("empty volume", empty))?;
    Ok(missing)
}

/// Copies `from` to `to` with its holes, so that `to` is there whole or not at all.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let dir = to.parent().unwrap_or(Path::new("/"));
    file::create_dirs(dir)?;
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    let temporary = dir.join(format!(".{name}.tmp"));
    let write = || -> std::io::Result<()> {
        let source = File::open(from)?;
        let target = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&temporary)?;
        target.set_permissions(fs::Permissions::from_mode(0o600))?;
        file::copy_data(&source, &target)?;
        target.sync_all()?;
        fs::rename(&temporary, to)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|e| {
        let _ = fs::remove_file(&temporary);
        Error::path("copy to", to)(e)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::copy;
    use std::fs;
    use std::os::unix::fs::{FileExt, MetadataExt};

    #[test]
    fn a_copy_keeps_holes() {
        let dir = std::env::temp_dir().join(format!("mcp-disk-copy-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let (from, to) = (dir.join("from"), dir.join("new/to.raw"));
        let file = fs::File::create(&from).unwrap();
        file.set_len(64 << 20).unwrap();
        file.write_all_at(b"begin", 0).unwrap();
        file.write_all_at(b"middle", 32 << 20).unwrap();
        copy(&from, &to).unwrap();
        assert!(fs::read(&from).unwrap() == fs::read(&to).unwrap());
        let about = fs::metadata(&to).unwrap();
        assert!(about.blocks() * 512 < 1 << 20, "{}", about.blocks());
        assert_eq!(about.mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.join("new")).unwrap().count(), 1);
        fs::remove_dir_all(dir).unwrap();
    }
}
