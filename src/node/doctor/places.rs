//! The folders: whose they are, who may look into them, on what they lie, and how much room there is.

use super::{Finding, Patient};
use crate::sys::paths::{Paths, Slot};
use nix::sys::statfs::statfs;
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{AccessFlags, access};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const MIB: u64 = 1 << 20;
/// With less room than this no image, no disk and no console log can be counted on.
const ROOM_MIN: u64 = 32 * MIB;
/// The same for new files.
const INODES_MIN: u64 = 256;
/// Magic numbers of file systems whose locks or sockets are not of one node alone (statfs(2), and AFS's and Ceph's own).
const REMOTE: [(i64, &str); 7] = [
    (0x6969, "NFS"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x0102_1997, "9p"),
    (0x00c3_6400, "Ceph"),
    (0x5346_414f, "AFS"),
    (0x7461_636f, "OCFS2"),
];

pub(super) fn look(patient: &Patient<'_>) -> Vec<Finding> {
    let Some(paths) = patient.paths else { return Vec::new() };
    let mut found = vec![];
    for (id, dir) in [("lib", &paths.lib), ("run", &paths.run), ("log", &paths.log)] {
        found.extend(folder(id, dir));
    }
    found.extend(room(patient, paths));
    found.extend(sockets(patient, paths));
    found
}

/// The folder, or the nearest above it that is there.
fn nearest(dir: &Path) -> PathBuf {
    let there = dir.ancestors().find(|d| d.exists());
    there.unwrap_or(Path::new("/")).to_path_buf()
}

fn folder(id: &'static str, dir: &Path) -> Vec<Finding> {
    let shown = &dir.display();
    let own = nix::unistd::geteuid().as_raw();
    let at = nearest(dir);
    let mut found = Vec::new();
    match std::fs::metadata(dir) {
        Ok(about) if !about.is_dir() => {
            found.push(Finding::fail(id, shown, "is not a directory").way_out("move it away"));
            return found;
        }
        Ok(about) if about.uid() != own => {
            let text = format!("belongs to user {}, and this is user {own}", about.uid());
            found
                .push(Finding::fail(id, shown, text).way_out(format!("chown {own} {shown}, or run this as its owner")));
        }
        Ok(about) if about.mode() & 0o077 != 0 => {
            let text = format!("has mode {:04o}, so others can look into it", about.mode() & 0o7777);
            found.push(Finding::fail(id, shown, text).way_out(format!("chmod 0700 {shown}")));
        }
        Ok(_) => found.push(Finding::ok(id, shown, "mode 0700, ours")),
        Err(_) if access(&at, AccessFlags::W_OK | AccessFlags::X_OK).is_ok() => {
            found.push(Finding::ok(id, shown, "not there yet, and can be made"));
        }
        Err(_) => {
            let text = format!("not there, and user {own} can't make it in {}", at.display());
            let way = format!("as root, run install -d -m 0700 -o {own} {shown}");
            found.push(Finding::fail(id, shown, text).way_out(way));
        }
    }
    if let Ok(about) = statfs(&at) {
        let kind = about.filesystem_type().0;
        if let Some((_, name)) = REMOTE.iter().find(|(magic, _)| *magic == kind) {
            let text = format!("lies on {name}, where locks and sockets of this node can't be relied on");
            found.push(Finding::fail(id, shown, text).way_out("put it on a file system of this node"));
        }
    }
    found
}

/// Room for images and logs: one finding a file system.
fn room(patient: &Patient<'_>, paths: &Paths) -> Vec<Finding> {
    let log = &patient.loaded.node.log;
    let components = patient.wanted().count() as u64;
    let logs = components.saturating_mul(log.max_size.saturating_mul(u64::from(log.keep) + 1));
    let mut found = Vec::new();
    for (dir, grows) in [(&paths.lib, 0), (&paths.log, logs)] {
        let Ok(stat) = statvfs(&nearest(dir)) else { continue };
        let shown = dir.display();
        if stat.flags().contains(FsFlags::ST_RDONLY) {
            found.push(Finding::fail("room", shown, "on a read-only file system").way_out("mount it writable"));
            continue;
        }
        let free = stat.blocks_available().saturating_mul(stat.fragment_size());
        // Some file systems make inodes as they need them, and tell of none.
        let inodes = if stat.files() == 0 { u64::MAX } else { stat.files_available() };
        found.push(if free < ROOM_MIN {
            Finding::fail("room", shown, format!("{} MiB free", free / MIB)).way_out("make room; mcp-build --gc helps")
        } else if inodes < INODES_MIN {
            Finding::fail("room", shown, format!("{inodes} inodes free"))
                .way_out("remove files, or make a bigger file system")
        } else if free < grows {
            let text = format!("{} MiB free, and the console logs may grow to {} MiB", free / MIB, grows / MIB);
            Finding::note("room", shown, text).way_out("make room, or lower [log] max_size or keep in mcp.toml")
        } else {
            Finding::ok("room", shown, format!("{} MiB free", free / MIB))
        });
    }
    found
}

/// Whether the sockets of each VM fit into a path.
fn sockets(patient: &Patient<'_>, paths: &Paths) -> Vec<Finding> {
    let vms = patient.wanted().filter(|(_, c)| c.is_vm()).map(|(e, _)| &e.id);
    let checked = vms.map(|id| paths.component(&id.service, &id.component).instance(Slot::A).check_socket_lengths());
    checked.filter_map(|c| c.err()).map(|e| Finding::of_error("sockets", super::Grade::Fail, &e)).collect()
}
