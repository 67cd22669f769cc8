//! Making room in the store: what nobody needs goes, what was longest not used first.
//!
//! Builds go first, then what was pulled, then blobs and indexes that nothing pulled has any more. What was used a short
//! while ago stays, as does what somebody works on: a pull, a build and a start that follow each other need what no
//! record tells of yet. Everything is moved aside before it is removed, so that who looks sees all of it or nothing.

use crate::image::pulled::Pulled;
use crate::image::store::{Kind, Store};
use crate::model::Digest;
use crate::sys::file::remove_tree;
use crate::sys::{Error, Result, file};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How long a thing stays after its last use.
pub const KEPT: Duration = Duration::from_secs(600);

/// What must stay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needed {
    /// Names of directories: of builds, or of what was pulled.
    pub keys: BTreeSet<String>,
    /// Digests of manifests.
    pub digests: BTreeSet<Digest>,
}

/// A kind of thing in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// What `mcp-build` made.
    Build,
    /// What `mcp-pull` made.
    Image,
    /// A layer, a manifest or a config, and what goes with it.
    Blob,
}

impl What {
    /// As people read it, and the first half of its lock's name.
    pub fn name(self) -> &'static str {
        match self {
            What::Build => "build",
            What::Image => "image",
            What::Blob => "blob",
        }
    }
}

/// A thing that goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thing {
    /// What it is.
    pub what: What,
    /// Its name: a key, or the hex of a digest.
    pub name: String,
    /// Bytes that it takes on the disk.
    pub bytes: u64,
    /// When it was last used.
    pub used: SystemTime,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// What went, in that order.
    pub gone: Vec<Thing>,
    /// Bytes that the rest takes.
    pub left: u64,
}

/// Removes what isn't `needed` until the store has at most `most` bytes; without a limit, all of it. `dry`: only tells.
/// `kept` is how long a thing stays after its last use.
pub fn gc(store: &Store, needed: &Needed, most: Option<u64>, kept: Duration, dry: bool) -> Result<Report> {
    let now = SystemTime::now();
    let young = move |used: SystemTime| now.duration_since(used).map_or(true, |age| age < kept);
    let mut pass = Pass { store, dry, young: &young, report: Report::default(), names: HashMap::new() };
    let builds = pass.things(What::Build)?;
    let images = pass.things(What::Image)?;
    let blobs = pass.blobs()?;
    let fits = |left: u64| most.is_some_and(|most| left <= most);

    for thing in builds.into_iter().filter(|t| !needed.keys.contains(&t.name)) {
        if fits(pass.report.left) {
            return Ok(pass.report);
        }
        pass.remove(thing)?;
    }
    let mut held = BTreeSet::new();
    for thing in images {
        let pulled = pass.pulled(&thing);
        let wanted = pulled.as_ref().is_some_and(|p| needed.digests.contains(&p.manifest));
        if !(wanted || needed.keys.contains(&thing.name) || fits(pass.report.left)) && pass.remove(thing)? {
            continue;
        }
        if let Some(pulled) = pulled {
            held.extend([pulled.tagged, pulled.manifest, pulled.config].map(|digest| digest.hex()));
            held.extend(pulled.layers.iter().map(|layer| layer.blob.hex()));
        }
    }
    // A pull that is on its way has nothing to show for the layers that it found here.
    if fits(pass.report.left) || pass.is_pulling()? {
        return Ok(pass.report);
    }
    for thing in blobs.into_iter().filter(|t| !held.contains(&t.name)) {
        if fits(pass.report.left) {
            break;
        }
        pass.remove(thing)?;
    }
    pass.names()?;
    Ok(pass.report)
}

struct Pass<'a> {
    store: &'a Store,
    dry: bool,
    young: &'a dyn Fn(SystemTime) -> bool,
    report: Report,
    /// Files with several names, which take their place once: how many are left.
    names: HashMap<(u64, u64), u64>,
}

impl Pass<'_> {
    /// Things of one kind, the longest unused first; what they take is counted.
    fn things(&mut self, what: What) -> Result<Vec<Thing>> {
        let dir = self.folder(what);
        let mut things = Vec::new();
        for (name, path) in entries(&dir)? {
            let Ok(about) = fs::symlink_metadata(&path) else { continue };
            let used = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            self.report.left += self.size(&path);
            things.push(Thing { what, name, bytes: 0, used });
        }
        things.sort_by(|a, b| (a.used, &a.name).cmp(&(b.used, &b.name)));
        Ok(things)
    }

    /// Blobs, each with its index; indexes whose blob is gone stand for themselves.
    fn blobs(&mut self) -> Result<Vec<Thing>> {
        let blobs = self.things(What::Blob)?;
        let mut blobs: BTreeMap<String, Thing> = blobs.into_iter().map(|b| (b.name.clone(), b)).collect();
        for (name, path) in entries(&self.store.paths().layers())? {
            self.report.left += self.size(&path);
            let used = fs::symlink_metadata(&path).and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            let alone = || Thing { what: What::Blob, name: name.clone(), bytes: 0, used };
            blobs.entry(name.clone()).or_insert_with(alone);
        }
        let mut blobs: Vec<Thing> = blobs.into_values().collect();
        blobs.sort_by(|a, b| (a.used, &a.name).cmp(&(b.used, &b.name)));
        Ok(blobs)
    }

    fn folder(&self, what: What) -> PathBuf {
        match what {
            What::Build => self.store.paths().builds(),
            What::Image => self.store.paths().images(),
            What::Blob => self.store.paths().blobs(),
        }
    }

    fn pulled(&self, image: &Thing) -> Option<Pulled> {
        let dir = self.store.directory(Kind::Image, &image.name);
        // One that can't be read is of no use to anybody.
        Pulled::try_read(&dir).ok().flatten()
    }

    /// Whether any pull is on its way.
    fn is_pulling(&self) -> Result<bool> {
        let locks = self.store.paths().locks();
        for (name, path) in entries(&locks)? {
            if name.starts_with("image-") && crate::sys::lock::is_held(&path)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes `thing`, unless it was used a short while ago or somebody works on it; whether it is gone.
    fn remove(&mut self, mut thing: Thing) -> Result<bool> {
        if (self.young)(thing.used) {
            return Ok(false);
        }
        let lock_name = format!("{}-{}", thing.what.name(), thing.name);
        if self.dry {
            if crate::sys::lock::is_held(&self.store.paths().locks().join(&lock_name))? {
                return Ok(false);
            }
            thing.bytes = self.freed(&thing);
        } else {
            let Some(lock) = self.store.try_lock(&lock_name)? else { return Ok(false) };
            thing.bytes = self.freed(&thing);
            let gone = self.take_away(&thing, &lock_name);
            lock.remove()?;
            if !gone? {
                return Ok(false);
            }
        }
        self.report.left = self.report.left.saturating_sub(thing.bytes);
        self.report.gone.push(thing);
        Ok(true)
    }

    fn take_away(&self, thing: &Thing, lock_name: &str) -> Result<bool> {
        let from = self.folder(thing.what).join(&thing.name);
        let aside = self.store.paths().tmp().join(format!("{lock_name}.gone"));
        remove_tree(&aside)?;
        match fs::rename(&from, &aside) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::path("remove", &from)(e)),
        }
        // Whoever found it there just before has said so.
        let used = fs::symlink_metadata(&aside).and_then(|m| m.modified());
        if used.is_ok_and(|used| used != thing.used && (self.young)(used)) && !from.exists() {
            fs::rename(&aside, &from).map_err(Error::path("put back", &from))?;
            return Ok(false);
        }
        if thing.what == What::Blob {
            file::remove_if_there(&self.store.paths().layers().join(&thing.name))?;
        }
        remove_tree(&aside)?;
        Ok(true)
    }

    /// Removes what tells of pulls that are gone.
    fn names(&self) -> Result<()> {
        #[derive(serde::Deserialize)]
        struct Named {
            key: String,
        }
        for (_, path) in entries(&self.store.paths().refs())? {
            let Ok(Some(bytes)) = file::read_regular(&path, 64 << 10) else { continue };
            let dir = serde_json::from_slice::<Named>(&bytes).map(|n| self.store.directory(Kind::Image, &n.key));
            if !self.dry && !dir.is_ok_and(|dir| dir.exists()) {
                file::remove_if_there(&path)?;
            }
        }
        Ok(())
    }

    /// Bytes that `path` and all below it take on the disk, without what was counted under another name.
    fn size(&mut self, path: &Path) -> u64 {
        let names = &mut self.names;
        sum(path, &mut |file| match names.entry((file.dev(), file.ino())) {
            _ if file.nlink() < 2 => true,
            Entry::Occupied(_) => false,
            Entry::Vacant(entry) => {
                entry.insert(file.nlink());
                true
            }
        })
    }

    /// Bytes that go with `thing`: not what has another name that stays.
    fn freed(&mut self, thing: &Thing) -> u64 {
        let index = (thing.what == What::Blob).then(|| self.store.paths().layers().join(&thing.name));
        let paths = [Some(self.folder(thing.what).join(&thing.name)), index];
        let names = &mut self.names;
        let mut last = |file: &fs::Metadata| match names.get_mut(&(file.dev(), file.ino())) {
            Some(left) => {
                *left = left.saturating_sub(1);
                *left == 0
            }
            None => true,
        };
        paths.iter().flatten().map(|path| sum(path, &mut last)).sum()
    }
}

/// Bytes that `path` and all below it take on the disk; of files those that `counts`.
fn sum(path: &Path, counts: &mut dyn FnMut(&fs::Metadata) -> bool) -> u64 {
    let Ok(about) = fs::symlink_metadata(path) else { return 0 };
    if about.is_dir() {
        let inside = fs::read_dir(path).into_iter().flatten().flatten();
        return about.blocks() * 512 + inside.map(|entry| sum(&entry.path(), counts)).sum::<u64>();
    }
    if counts(&about) { about.blocks() * 512 } else { 0 }
}

/// Names and paths in `dir`, which need not be there.
fn entries(dir: &Path) -> Result<Vec<(String, PathBuf)>> {
    match fs::read_dir(dir) {
        Ok(entries) => {
            Ok(entries.flatten().filter_map(|e| Some((e.file_name().into_string().ok()?, e.path()))).collect())
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(Error::path("read directory", dir)(e)),
    }
}
