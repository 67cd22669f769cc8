//! From what was pulled to what a VM boots.
//!
//! ```text
//! LIB/store/builds/KEY/boot.json         what a start needs to know: model::Built
//! LIB/store/builds/KEY/disk.raw          a unikernel: the bootable image
//! LIB/store/builds/KEY/kernel-HEX.img    a unikernel: Nanos's kernel, for a direct boot
//! LIB/store/builds/KEY/volume-NAME.raw   a unikernel: an empty volume, sparse; a first start copies it
//! LIB/store/builds/KEY/root-HEX.sqfs     a microvm: its root; its kernel and initramfs are the node's
//! ```
//!
//! What has a HEX in its name is shared by the builds that have the same, as hard links.
//! KEY is a digest of all that goes in, so what is there already needs no look inside: see [`key`].

pub mod gc;
pub mod home;
pub mod key;
pub mod microvm;
pub mod ops;
pub mod parts;
pub mod sysroot;
pub mod unikernel;

use crate::image::pull::{self, Request};
use crate::image::pulled::Pulled;
use crate::image::store::{Kind, Store};
use crate::model::{Component, Node, Reference, Runtime, Source, Volume, built, env_file};
use crate::sys::paths::Paths;
use crate::sys::{Deadline, Error, Result, file, user};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Bytes of a volume for which no size was said: only what is written takes space.
pub const VOLUME_SIZE: u64 = 1 << 30;

/// What changes the image that was pulled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Replaces its Cmd.
    pub args: Option<Vec<String>>,
    /// Added to its environment.
    pub env: BTreeMap<String, String>,
    /// Added to its environment and told to nobody: not to a command line, not to `boot.json`.
    pub secret: Vec<(String, String)>,
    /// Disks that it mounts (unikernels; a microvm learns them at its start).
    pub volumes: Vec<Volume>,
}

impl Changes {
    /// What a definition changes. A microvm learns it all at its start: nothing of it is in its build.
    pub fn of(component: &Component) -> Result<Changes> {
        if component.runtime != Runtime::Unikernel {
            return Ok(Changes::default());
        }
        let secret = component.env_file.as_deref().map(env_file::read).transpose()?.unwrap_or_default();
        let (args, env, volumes) = (component.args.clone(), component.env.clone(), component.volumes.clone());
        Ok(Changes { args, env, secret, volumes })
    }
}

/// A build that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// Its key.
    pub key: String,
    /// Its directory.
    pub dir: PathBuf,
    /// Whether it was there before.
    pub hit: bool,
}

/// An image of the store, and its directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// What was pulled.
    pub pulled: Pulled,
    /// Where.
    pub dir: PathBuf,
}

impl Image {
    /// Reads that of the directory that `mcp-pull` printed. Errors: not there, damaged, newer.
    pub fn read(dir: &Path) -> Result<Image> {
        Ok(Image { pulled: Pulled::read(dir)?, dir: dir.to_path_buf() })
    }
}

/// What the image of `component` was last pulled as; `None`: it wasn't. No image at all is an error about `component`.
pub fn pulled(paths: &Paths, component: &Component) -> Result<Option<Image>> {
    let Source::Image { reference } = &component.source else {
        return Err(Error::refused(&component.name, "has no image to build: it runs what is on this node"));
    };
    let reference = Reference::parse(reference).map_err(|e| Error::refused(&component.name, e))?;
    let found = pull::last(&Store::look(paths), &reference, &Request::of(component))?;
    Ok(found.map(|(pulled, dir)| Image { pulled, dir }))
}

/// The finished build of `component` from what was last pulled for it, if it is there. No network, no building.
pub fn find_for(paths: &Paths, node: &Node, component: &Component) -> Result<Option<(Image, Done)>> {
    let Some(image) = pulled(paths, component)? else { return Ok(None) };
    let done = find(paths, node, &image, &Changes::of(component)?)?;
    Ok(done.map(|done| (image, done)))
}

/// The build of `image` with `changes`, if it is there. Starts nothing and reads no big file.
pub fn find(paths: &Paths, node: &Node, image: &Image, changes: &Changes) -> Result<Option<Done>> {
    let store = Store::look(paths);
    match Plan::new(node, image, changes)?.key(&store, false)? {
        Some(key) => Ok(look(&store, &key)),
        None => Ok(None),
    }
}

/// The build of `image` with `changes`: what is there, else it is made. Of two at once one makes it, the other waits.
/// Errors: the image can't run so, a program is missing, no space, the deadline.
pub fn build(paths: &Paths, node: &Node, image: &Image, changes: &Changes, deadline: Deadline) -> Result<Done> {
    let plan = Plan::new(node, image, changes)?;
    let store = Store::look(paths);
    if let Some(key) = plan.key(&store, false)?
        && let Some(done) = look(&store, &key)
    {
        return Ok(done);
    }
    let store = Store::open(paths)?;
    let Some(key) = plan.key(&store, true)? else {
        return Err(Error::busy(store.paths().root.display(), "its salt was removed; try again"));
    };
    let mut making = store.make(Kind::Build, &key, deadline)?;
    if let Some(done) = look(&store, &key) {
        return Ok(done);
    }
    image.pulled.touch(&image.dir, &store);
    let out = making.begin()?.to_path_buf();
    let user = user::take(paths, node.qemu.uid_range, &key)?;
    let (built, home) = match &plan {
        Plan::Unikernel(plan) => {
            let (built, home) = plan.make(&key, &store, &making, &out, user.other(), deadline)?;
            (built, Some(home))
        }
        Plan::Microvm(plan) => (plan.make(&key, &store, &out, &user, deadline)?, None),
    };
    let told = serde_json::to_vec_pretty(&built).map_err(|e| Error::refused(&key, e.to_string()))?;
    file::write_whole(&out.join(built::FILE), &told, false)?;
    // Both wait for the disk; side by side that takes half the time.
    let dir = std::thread::scope(|scope| {
        let _ = std::thread::Builder::new().spawn_scoped(scope, move || drop(home));
        making.finish()
    })?;
    Ok(Done { key, dir, hit: false })
}

/// What is to be made.
enum Plan<'a> {
    Unikernel(Box<unikernel::Plan<'a>>),
    Microvm(microvm::Plan<'a>),
}

impl<'a> Plan<'a> {
    fn new(node: &Node, image: &'a Image, changes: &'a Changes) -> Result<Plan<'a>> {
        match image.pulled.runtime {
            Runtime::Unikernel => Ok(Plan::Unikernel(Box::new(unikernel::Plan::new(node, image, changes)?))),
            Runtime::Microvm => microvm::Plan::new(image, changes).map(Plan::Microvm),
            Runtime::Container => {
                Err(Error::refused(image.dir.display(), "an image for a container, which needs no build"))
            }
        }
    }

    /// The key; `None` where it needs the store's salt, there is none, and none shall be made.
    fn key(&self, store: &Store, make_salt: bool) -> Result<Option<String>> {
        match self {
            Plan::Unikernel(plan) => plan.key(store, make_salt),
            Plan::Microvm(plan) => plan.key().map(Some),
        }
    }
}

/// What is there under `key`. Its time is moved to now: what was long not used goes first when room is made.
fn look(store: &Store, key: &str) -> Option<Done> {
    let dir = store.directory(Kind::Build, key);
    dir.join(built::FILE).is_file().then(|| {
        store.touch(&dir);
        Done { key: key.to_string(), dir, hit: true }
    })
}

/// Takes the file `name` of another build over into `out`, where one has it: a name that tells its contents.
fn share(store: &Store, out: &Path, name: &str) -> bool {
    let builds = std::fs::read_dir(store.paths().builds()).into_iter().flatten().flatten();
    let mut same = builds.map(|e| e.path().join(name)).filter(|file| file.is_file());
    same.any(|file| std::fs::hard_link(file, out.join(name)).is_ok())
}
