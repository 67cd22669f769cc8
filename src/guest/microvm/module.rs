//! Which modules the guest loads, and in which order.

use crate::sys::{Error, Result, file};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What a microvm needs of its kernel: module name, and whether it can't do without. Also in
/// scripts/get-guest-kernel; a test holds the two together.
pub const WANTED: [(&str, bool); 10] = [
    ("virtio_pci", true),
    ("virtio_blk", true),
    ("virtio_net", true),
    ("virtio_console", true),
    ("squashfs", true),
    ("overlay", true),
    // What ext4 asks for by name only, so nothing depends on it.
    ("crc32c_generic", false),
    ("ext4", true),
    ("button", true),
    ("evdev", true),
];

const MODULE_MAX: u64 = 32 << 20;
const FILES_MAX: usize = 100_000;
const SUFFIXES: [&str; 4] = [".ko", ".ko.xz", ".ko.zst", ".ko.gz"];

/// The files below `modules` to load, dependencies first. What is built into the kernel is left out. Errors: a module
/// that is needed is neither there nor built in.
pub fn in_order(modules: &Path) -> Result<Vec<PathBuf>> {
    let tree = Tree::read(modules)?;
    let mut order = Order { tree: &tree, done: BTreeSet::new(), files: Vec::new() };
    for (name, needed) in WANTED {
        order.add(name, needed, 0)?;
    }
    Ok(order.files)
}

/// What a folder of modules has. Names are written with `_`, as the kernel does.
struct Tree {
    root: PathBuf,
    files: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
    /// Of modules.dep, where there is one: paths relative to the root, and what each needs.
    depends: BTreeMap<String, Vec<String>>,
}

impl Tree {
    fn read(root: &Path) -> Result<Tree> {
        let text = |name: &str| -> Result<String> {
            let bytes = file::read_bounded(&root.join(name), MODULE_MAX)?.unwrap_or_default();
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let builtin = text("modules.builtin")?.lines().filter_map(name_of).collect();
        let mut tree = Tree { root: root.to_path_buf(), files: BTreeMap::new(), builtin, depends: BTreeMap::new() };
        for line in text("modules.dep")?.lines() {
            let Some((path, needs)) = line.split_once(':') else { continue };
            let Some(name) = name_of(path) else { continue };
            tree.files.insert(name.clone(), root.join(path));
            tree.depends.insert(name, needs.split_whitespace().filter_map(name_of).collect());
        }
        if tree.files.is_empty() {
            tree.walk()?;
        }
        Ok(tree)
    }

    /// For a folder that depmod never saw.
    fn walk(&mut self) -> Result<()> {
        let mut folders = vec![self.root.clone()];
        let mut seen = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).map_err(Error::path("read", &folder))? {
                let entry = entry.map_err(Error::path("read", &folder))?;
                seen += 1;
                if seen > FILES_MAX {
                    return Err(Error::refused(self.root.display(), "too many files for a folder of kernel modules"));
                }
                let kind = entry.file_type().map_err(Error::path("stat", &entry.path()))?;
                if kind.is_dir() {
                    folders.push(entry.path());
                } else if let Some(name) = entry.file_name().to_str().and_then(name_of) {
                    self.files.insert(name, entry.path());
                }
            }
        }
        Ok(())
    }

    fn needs(&self, name: &str, path: &Path) -> Result<Vec<String>> {
        if let Some(needs) = self.depends.get(name) {
            return Ok(needs.clone());
        }
        if path.extension().is_none_or(|e| e != "ko") {
            return Err(Error::refused(path.display(), "compressed, and there is no modules.dep; run depmod"));
        }
        let bytes = file::read_bounded(path, MODULE_MAX)?.unwrap_or_default();
        Ok(declared(&bytes))
    }
}

/// What a module declares in its `.modinfo` section, which is a list of NUL-ended `key=value`.
fn declared(module: &[u8]) -> Vec<String> {
    let Some(value) = module.split(|b| *b == 0).find_map(|s| s.strip_prefix(b"depends=")) else { return Vec::new() };
    let names = String::from_utf8_lossy(value).into_owned();
    names.split(',').filter(|n| !n.is_empty()).map(|n| n.replace('-', "_")).collect()
}

/// `kernel/fs/squashfs/squashfs.ko.xz` is `squashfs`; `None` for what is no module.
fn name_of(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    SUFFIXES.iter().find_map(|s| file.strip_suffix(s)).filter(|n| !n.is_empty()).map(|n| n.replace('-', "_"))
}

struct Order<'a> {
    tree: &'a Tree,
    done: BTreeSet<String>,
    files: Vec<PathBuf>,
}

impl Order<'_> {
    fn add(&mut self, name: &str, needed: bool, depth: usize) -> Result<()> {
        // The depth ends circles, which only a damaged modules.dep has.
        if depth > 32 || !self.done.insert(name.to_string()) || self.tree.builtin.contains(name) {
            return Ok(());
        }
        let Some(path) = self.tree.files.get(name) else {
            if needed {
                return Err(Error::refused(
                    self.tree.root.display(),
                    format!("no module {name}, and it is not built in; a microvm needs it: run mcp-get-guest-kernel"),
                ));
            }
            return Ok(());
        };
        for other in self.tree.needs(name, path)? {
            self.add(&other, true, depth + 1)?;
        }
        self.files.push(path.clone());
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;

    fn folder(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("mcp-modules-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    fn names(files: &[PathBuf]) -> Vec<String> {
        files.iter().map(|f| name_of(f.to_str().unwrap()).unwrap()).collect()
    }

    #[test]
    fn dependencies_come_first_by_what_the_modules_declare() {
        let dir = folder("declared");
        for (name, _) in WANTED {
            fs::write(dir.join(format!("{name}.ko")), b"\x7fELF\0depends=\0").unwrap();
        }
        fs::write(dir.join("virtio_net.ko"), b"\0license=GPL\0depends=net-failover,virtio_ring\0name=x\0").unwrap();
        fs::write(dir.join("net_failover.ko"), b"\0depends=failover\0").unwrap();
        fs::write(dir.join("failover.ko"), b"\0depends=\0").unwrap();
        fs::remove_file(dir.join("ext4.ko")).unwrap();
        fs::write(dir.join("modules.builtin"), "kernel/fs/ext4/ext4.ko\nkernel/drivers/virtio/virtio_ring.ko\n")
            .unwrap();
        let order = names(&in_order(&dir).unwrap());
        let at = |n: &str| order.iter().position(|o| o == n).unwrap();
        assert!(at("failover") < at("net_failover") && at("net_failover") < at("virtio_net"));
        assert!(!order.contains(&"ext4".to_string()) && !order.contains(&"virtio_ring".to_string()));
        fs::write(dir.join("virtio_net.ko"), b"\0depends=gone\0").unwrap();
        assert!(in_order(&dir).unwrap_err().to_string().contains("no module gone"));
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn modules_dep_is_used_where_it_is() {
        let dir = folder("dep");
        let mut dep = String::new();
        for (name, _) in WANTED {
            dep.push_str(&format!("kernel/{}.ko.xz: {}\n", name.replace('_', "-"), "kernel/virtio.ko.xz"));
        }
        // A circle, as only a damaged file has it.
        dep.push_str("kernel/virtio.ko.xz: kernel/virtio-blk.ko.xz\n");
        fs::write(dir.join("modules.dep"), dep).unwrap();
        let order = in_order(&dir).unwrap();
        assert_eq!(order.len(), WANTED.len() + 1);
        assert_eq!(order[0], dir.join("kernel/virtio-blk.ko.xz"));
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn the_script_takes_the_same_ones() {
        let script = include_str!("../../../scripts/get-guest-kernel");
        let list = script.split("wanted=\"").nth(1).unwrap().split('"').next().unwrap();
        let ours: Vec<&str> = WANTED.iter().map(|(n, _)| *n).collect();
        assert_eq!(list.split_whitespace().collect::<Vec<_>>(), ours);
    }
}
