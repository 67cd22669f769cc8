//! Volumes: mounted, and a new one filled with what the image has at its path, as container engines do.

use super::disk;
use super::handover::Volume;
use super::mount::{OnDisk, make_directory};
use super::report::{Fail, say};
use super::user::User;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, mknod, utimensat};
use nix::sys::time::TimeSpec;
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};

/// Attribute of the top folder while a volume is filled. An attribute, because a file of that name might come from
/// whoever can upload files to the program; this one only root in the guest can set.
const FILLING: &CStr = c"trusted.mcp.filling";
/// What `mke2fs` makes.
const LOST_FOUND: &str = "lost+found";
/// The longest list of attribute names, and the longest value (limits.h of Linux).
const ATTRIBUTE_MAX: usize = 64 << 10;

/// Mounts the volumes. A new one gets the files, owner and mode of the folder that it covers, or belongs to `user` where
/// there is none.
pub fn mount_all(volumes: &[Volume], user: &User, on_disk: &mut OnDisk) -> Result<(), Fail> {
    for volume in volumes {
        let device = disk::find(&volume.serial)?;
        let path = volume.path.as_str();
        // Kept open: the mount hides it.
        let covered = File::open(path).ok();
        make_directory(path, 0o755)?;
        mount(Some(device.as_str()), path, Some(volume.fstype.as_str()), MsFlags::MS_NOATIME, None::<&str>)
            .map_err(Fail::of("mount volume on", path))?;
        on_disk.add(path, path);
        if volume.fstype == "ext4"
            && let Err(e) = grow(&device, path)
        {
            say(&format!("volume on {path}: the file system could not grow to its disk's size: {e}"));
        }
        let top = Path::new(path);
        if is_new(top) {
            fill(top, covered.as_ref(), user).map_err(|e| {
                Fail::new(format!("copy the files that the image has at {path} into the new volume: {e}"))
            })?;
        }
    }
    Ok(())
}

/// Makes the ext4 file system at `path` as large as `device`, on which it is.
fn grow(device: &str, path: &str) -> io::Result<()> {
    // linux/fs.h and ext4's own: _IOW('f', 16, __u64), the number of blocks.
    const EXT4_IOC_RESIZE_FS: libc::Ioctl = 0x4008_6610;
    let sectors = fs::read_to_string(format!("/sys/block/{}/size", device.trim_start_matches("/dev/")))?;
    let bytes = sectors.trim().parse::<u64>().map_err(io::Error::other)? * 512;
    let top = File::open(path)?;
    let blocks = bytes / top.metadata()?.blksize().max(1);
    // SAFETY: the kernel reads one number of 64 bits.
    let r = unsafe { libc::ioctl(top.as_raw_fd(), EXT4_IOC_RESIZE_FS, &raw const blocks) };
    if r == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether the volume was never used, or its filling was cut off.
fn is_new(top: &Path) -> bool {
    let marked = c_path(top).is_ok_and(|top| {
        // SAFETY: strings that end with NUL; no buffer, as its size is asked for.
        unsafe { libc::getxattr(top.as_ptr(), FILLING.as_ptr(), std::ptr::null_mut(), 0) >= 0 }
    });
    let names = || fs::read_dir(top).ok()?.map(|e| Some(e.ok()?.file_name())).collect::<Option<Vec<_>>>();
    marked || names().is_some_and(|names| names.iter().map(|n| n.as_bytes()).eq([LOST_FOUND.as_bytes()]))
}

/// Fills it. One that is cut off begins anew at the next boot: the mark goes last, when all else is on the disk, and only
/// then does the program start.
fn fill(top: &Path, covered: Option<&File>, user: &User) -> io::Result<()> {
    let handle = File::open(top)?;
    let sync = || nix::unistd::syncfs(&handle).map_err(io::Error::from);
    let name = c_path(top)?;
    // SAFETY: strings that end with NUL, and an empty value.
    check(unsafe { libc::setxattr(name.as_ptr(), FILLING.as_ptr(), std::ptr::null(), 0, 0) })?;
    for entry in fs::read_dir(top)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            _ if entry.file_name() == LOST_FOUND => {}
            true => fs::remove_dir_all(entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    match covered {
        Some(folder) => {
            let about = folder.metadata()?;
            let from = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
            Copy { device: about.dev(), links: HashMap::new() }.folder(&from, top)?;
            chown(top, Some(about.uid()), Some(about.gid()))?;
            fs::set_permissions(top, fs::Permissions::from_mode(about.mode() & 0o7777))?;
        }
        None => chown(top, Some(user.uid), Some(user.gid))?,
    }
    sync()?;
    let _ = fs::remove_dir(top.join(LOST_FOUND));
    // SAFETY: strings that end with NUL.
    check(unsafe { libc::removexattr(name.as_ptr(), FILLING.as_ptr()) })?;
    sync()
}

/// A copy of a tree, with owners, modes, times, attributes and hard links.
struct Copy {
    /// What is mounted below the folder is no part of it.
    device: u64,
    /// Where the first name of a file with several went, by device and inode.
    links: HashMap<(u64, u64), PathBuf>,
}

impl Copy {
    fn folder(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        for entry in fs::read_dir(from)? {
            let name = entry?.file_name();
            if name != LOST_FOUND {
                self.entry(&from.join(&name), &to.join(&name))?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let about = fs::symlink_metadata(from)?;
        let kind = about.file_type();
        if !kind.is_dir() && about.nlink() > 1 {
            if let Some(first) = self.links.get(&(about.dev(), about.ino())) {
                return fs::hard_link(first, to);
            }
            self.links.insert((about.dev(), about.ino()), to.to_path_buf());
        }
        if kind.is_dir() {
            fs::create_dir(to)?;
            if about.dev() == self.device {
                self.folder(from, to)?;
            }
        } else if kind.is_symlink() {
            symlink(fs::read_link(from)?, to)?;
        } else if kind.is_file() {
            io::copy(&mut File::open(from)?, &mut File::create_new(to)?)?;
        } else {
            let special = match () {
                () if kind.is_block_device() => SFlag::S_IFBLK,
                () if kind.is_char_device() => SFlag::S_IFCHR,
                () if kind.is_fifo() => SFlag::S_IFIFO,
                () => SFlag::S_IFSOCK,
            };
            mknod(to, special, Mode::S_IRUSR, about.rdev())?;
        }
        attributes(from, to, &about)
    }
}

/// Gives `to` what `about` says of `from`. The owner first: changing it drops setuid bits and capabilities.
fn attributes(from: &Path, to: &Path, about: &Metadata) -> io::Result<()> {
    lchown(to, Some(about.uid()), Some(about.gid()))?;
    if !about.is_symlink() {
        extended(&c_path(from)?, &c_path(to)?)?;
        fs::set_permissions(to, fs::Permissions::from_mode(about.mode() & 0o7777))?;
    }
    let accessed = TimeSpec::new(about.atime(), about.atime_nsec());
    let modified = TimeSpec::new(about.mtime(), about.mtime_nsec());
    Ok(utimensat(nix::fcntl::AT_FDCWD, to, &accessed, &modified, UtimensatFlags::NoFollowSymlink)?)
}

/// Copies extended attributes, file capabilities among them.
fn extended(from: &CStr, to: &CStr) -> io::Result<()> {
    let mut names = vec![0_u8; ATTRIBUTE_MAX];
    // SAFETY: a string that ends with NUL, a buffer and its length.
    let length = unsafe { libc::listxattr(from.as_ptr(), names.as_mut_ptr().cast(), names.len()) };
    let Ok(length) = usize::try_from(length) else {
        return match Errno::last() {
            Errno::EOPNOTSUPP => Ok(()),
            e => Err(e.into()),
        };
    };
    let mut value = vec![0_u8; ATTRIBUTE_MAX];
    for name in names.get(..length).unwrap_or_default().split_inclusive(|b| *b == 0) {
        let name = CStr::from_bytes_with_nul(name).map_err(io::Error::other)?;
        // SAFETY: strings that end with NUL, a buffer and its length.
        let length = unsafe { libc::getxattr(from.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
        let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
        // SAFETY: the same, and no more of the buffer than was filled.
        check(unsafe { libc::setxattr(to.as_ptr(), name.as_ptr(), value.as_ptr().cast(), length, 0) })?;
    }
    Ok(())
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
