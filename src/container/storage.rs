//! Whether there may be containers at all: a look at containers/storage's own files, so that a node without any starts
//! no podman to be told so.

use crate::sys::file;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use toml::de::DeTable;

/// No storage.conf comes near this many bytes.
const CONF_MAX: u64 = 1 << 20;
/// What an empty list has, with space to spare.
const EMPTY_MAX: u64 = 64;
/// The node's own settings, and those that the distribution ships.
const CONFS: [&str; 2] = ["/etc/containers/storage.conf", "/usr/share/containers/storage.conf"];

type Conf = BTreeMap<String, Option<String>>;

/// What of the environment decides where podman keeps its containers.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// Whether we are root; podman has other places for others.
    pub root: bool,
    /// Our user id.
    pub uid: u32,
    /// `CONTAINERS_STORAGE_CONF`.
    pub conf: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`, else `HOME/.config`.
    pub config_home: Option<PathBuf>,
    /// `XDG_DATA_HOME`, else `HOME/.local/share`.
    pub data_home: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<PathBuf>,
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// Whether podman's containers are on another machine, or behind a service.
    pub remote: bool,
}

impl Environment {
    /// Ours, which is podman's too.
    pub fn ours() -> Environment {
        let set = |name: &str| std::env::var_os(name).filter(|v: &OsString| !v.is_empty()).map(PathBuf::from);
        let home = set("HOME");
        let below = |dir: &str| home.as_ref().map(|h| h.join(dir));
        Environment {
            root: nix::unistd::geteuid().is_root(),
            uid: nix::unistd::geteuid().as_raw(),
            conf: set("CONTAINERS_STORAGE_CONF"),
            config_home: set("XDG_CONFIG_HOME").or_else(|| below(".config")),
            data_home: set("XDG_DATA_HOME").or_else(|| below(".local/share")),
            runtime_dir: set("XDG_RUNTIME_DIR"),
            home,
            remote: ["CONTAINER_HOST", "CONTAINER_CONNECTION"].into_iter().any(|name| set(name).is_some()),
        }
    }
}

/// Whether podman may have containers. False only when its storage surely lists none; where that can't be told, true.
/// One that was made with `podman run --rootfs` is in no list, and is not seen here.
pub fn may_have_containers(of: &Environment) -> bool {
    if of.remote {
        return true;
    }
    let Some(places) = places(of) else { return true };
    places.iter().any(|place| lists_any(place))
}

/// Where containers are listed: below the graph root, and for those that don't outlive a boot below the run root.
/// `None`: it can't be told.
fn places(of: &Environment) -> Option<[PathBuf; 2]> {
    let mut graph = None;
    let mut run = None;
    let own = match (&of.conf, of.root) {
        (Some(conf), _) => Some(conf.clone()),
        (None, true) => None,
        (None, false) => of.config_home.as_ref().map(|dir| dir.join("containers/storage.conf")),
    };
    // One that is named and isn't there goes before the node's all the same.
    let named = of.conf.is_some();
    let own = match own {
        Some(path) => read(&path)?,
        None => None,
    };
    if let Some(conf) = own {
        (graph, run) = (path(&conf, "graphroot", of)?, path(&conf, "runroot", of)?);
    } else if !named {
        for file in CONFS {
            let Some(conf) = read(Path::new(file))? else { continue };
            if of.root {
                (graph, run) = (path(&conf, "graphroot", of)?, path(&conf, "runroot", of)?);
            } else {
                graph = path(&conf, "rootless_storage_path", of)?;
            }
            break;
        }
    }
    let graph = graph.or_else(|| match of.root {
        true => Some("/var/lib/containers/storage".into()),
        false => of.data_home.as_ref().map(|dir| dir.join("containers/storage")),
    })?;
    let run = run.or_else(|| match of.root {
        true => Some("/run/containers/storage".into()),
        false => of.runtime_dir.as_ref().map(|dir| dir.join("containers")),
    })?;
    Some([graph, run])
}

/// The keys of `[storage]`, and what they say where that is text; `Some(None)`: there is no such file; `None`: it can't be
/// read.
fn read(file: &Path) -> Option<Option<Conf>> {
    let Some(bytes) = file::read_regular(file, CONF_MAX).ok()? else { return Some(None) };
    let text = String::from_utf8(bytes).ok()?;
    let all = DeTable::parse(&text).ok()?;
    let Some(storage) = all.get_ref().get("storage") else { return Some(Some(Conf::new())) };
    let keys = storage.get_ref().as_table()?.iter();
    let said = keys.map(|(key, value)| (key.get_ref().to_string(), value.get_ref().as_str().map(str::to_string)));
    Some(Some(said.collect()))
}

/// A path of it; `Some(None)`: it says nothing; `None`: something that we can't follow.
fn path(conf: &Conf, key: &str, of: &Environment) -> Option<Option<PathBuf>> {
    let text = match conf.get(key) {
        None => return Some(None),
        Some(value) => value.as_ref()?,
    };
    if text.is_empty() {
        return Some(None);
    }
    let home = of.home.as_deref().and_then(Path::to_str).unwrap_or_default();
    let text = text.replace("$HOME", home).replace("$UID", &of.uid.to_string());
    // Another variable, or one that is not set.
    (Path::new(&text).is_absolute() && !text.contains('$')).then(|| Some(text.into()))
}

/// Whether any of the lists below `root` has something in it: `DRIVER-containers/{,volatile-}containers.json`.
fn lists_any(root: &Path) -> bool {
    let entries = match std::fs::read_dir(root) {
        Ok(entries) => entries,
        Err(e) => return e.kind() != std::io::ErrorKind::NotFound,
    };
    for entry in entries {
        let Ok(entry) = entry else { return true };
        if !entry.file_name().as_encoded_bytes().ends_with(b"-containers") {
            continue;
        }
        for name in ["containers.json", "volatile-containers.json"] {
            match file::read_regular(&entry.path().join(name), EMPTY_MAX) {
                Ok(None) => {}
                Ok(Some(bytes)) if matches!(bytes.trim_ascii(), b"" | b"[]" | b"null") => {}
                // Something in it, or more than an empty one has.
                _ => return true,
            }
        }
    }
    false
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Dir {
            let dir = std::env::temp_dir().join(format!("mcp-storage-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&dir).unwrap();
            Dir(dir)
        }

        fn put(&self, path: &str, text: &str) -> PathBuf {
            let path = self.0.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            path
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn none_only_when_the_lists_say_so() {
        let dir = Dir::new("lists");
        let conf =
            format!("[storage]\ndriver = \"vfs\"\ngraphroot = \"{0}/g\"\nrunroot = \"{0}/r\"\n", dir.0.display());
        let conf = dir.put("storage.conf", &conf);
        let of = Environment { root: true, conf: Some(conf.clone()), ..Environment::default() };
        let may = || may_have_containers(&of);
        assert!(!may());
        dir.put("g/vfs-containers/containers.json", "[]");
        dir.put("g/vfs-images/images.json", "[{\"id\":\"x\"}]");
        assert!(!may());
        dir.put("r/vfs-containers/volatile-containers.json", "[{\"id\":\"x\"}]");
        assert!(may());
        dir.put("r/vfs-containers/volatile-containers.json", "[]\n");
        assert!(!may());
        dir.put("g/vfs-containers/containers.json", &format!("[{{\"id\":\"{}\"}}]", "x".repeat(100)));
        assert!(may());
        assert!(may_have_containers(&Environment { remote: true, ..of.clone() }));
    }

    #[test]
    fn what_can_not_be_told_may_be() {
        let dir = Dir::new("doubt");
        let of = |text: &str| {
            let conf = Some(dir.put("storage.conf", text));
            may_have_containers(&Environment { root: true, conf, ..Environment::default() })
        };
        assert!(of("[storage\n"));
        assert!(of("storage = 1\n"));
        assert!(of("[storage]\ngraphroot = \"$SOMEWHERE/x\"\n"));
        assert!(of("[storage]\ngraphroot = 7\n"));
    }

    #[test]
    fn users_have_places_of_their_own() {
        let dir = Dir::new("user");
        let of = Environment {
            uid: 7,
            config_home: Some(dir.0.join("c")),
            data_home: Some(dir.0.join("d")),
            runtime_dir: Some(dir.0.join("r")),
            home: Some(dir.0.clone()),
            ..Environment::default()
        };
        assert!(!may_have_containers(&of));
        let gone = Environment { conf: Some(dir.0.join("gone.conf")), ..of.clone() };
        assert!(!may_have_containers(&gone));
        let list = dir.put("d/containers/storage/overlay-containers/containers.json", "[{}]");
        assert!(may_have_containers(&of) && may_have_containers(&gone));
        std::fs::remove_file(list).unwrap();
        dir.put("c/containers/storage.conf", "[storage]\ngraphroot = \"$HOME/g$UID\"\n");
        assert!(!may_have_containers(&of));
        dir.put("g7/overlay-containers/containers.json", "[{}]");
        assert!(may_have_containers(&of));
    }
}
