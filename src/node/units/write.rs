//! Getting an init's files to their place. What we wrote is known by its digest in `LIB/units/INIT.json`; what a person has
//! changed since is theirs, and left alone unless they say otherwise.

use super::{Content, UnitFile};
use crate::model::{Digest, Document, Init};
use crate::sys::lock::Lock;
use crate::sys::paths::Paths;
use crate::sys::{Deadline, Error, Result, file};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// No file of an init's comes near this.
const SIZE_MAX: u64 = 1 << 20;
const SCHEMA: u32 = 1;
const DOCUMENT: Document = Document {
    what: "list of unit files",
    schema: SCHEMA,
    remedy: "without it, mcp-units takes all files for a person's",
};
/// How long another one is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// What becomes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It was not there.
    New,
    /// We wrote what was there, and it changes.
    Changed,
    /// It is there as it shall be.
    Same,
    /// A person has changed it, or made it: it is left alone.
    Kept,
    /// It is not needed any more.
    Removed,
}

impl Fate {
    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Fate::New => "new",
            Fate::Changed => "changed",
            Fate::Same => "same",
            Fate::Kept => "kept",
            Fate::Removed => "removed",
        }
    }
}

/// `LIB/units/INIT.json`: what we wrote, by whole path.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
struct Manifest {
    schema: u32,
    /// Digests of ours that the file may have: two while it is about to change.
    files: BTreeMap<PathBuf, BTreeSet<String>>,
}

impl Manifest {
    fn read(path: &Path) -> Result<Manifest> {
        let Some(bytes) = file::read_regular(path, SIZE_MAX)? else { return Ok(Manifest::default()) };
        DOCUMENT.parse(path, &bytes)
    }

    fn write(&mut self, path: &Path) -> Result<()> {
        if self.files.is_empty() {
            return file::remove_if_there(path);
        }
        self.schema = SCHEMA;
        let bytes = serde_json::to_vec_pretty(self).map_err(|e| Error::refused(path.display(), e.to_string()))?;
        file::write_whole(path, &bytes, true)
    }

    fn knows(&self, path: &Path, digest: &str) -> bool {
        self.files.get(path).is_some_and(|known| known.contains(digest))
    }
}

fn folder_of(paths: &Paths) -> PathBuf {
    paths.lib.join("units")
}

/// Keeps two from writing an init's files at once. Hold it from before [`Work::new`] to after [`Work::apply`], then remove it.
pub fn lock(paths: &Paths, init: Init) -> Result<Lock> {
    let path = folder_of(paths).join(format!("{}.lock", init.name()));
    let taken = Lock::wait(&path, Deadline::after(PATIENCE))?;
    taken.ok_or_else(|| Error::busy(init.name(), "another mcp-units is at work; try again when it is done"))
}

/// One file, and what becomes of it.
#[derive(Debug)]
pub struct Step<'f> {
    /// Its whole path.
    pub path: PathBuf,
    /// What it is to be; `None`: nothing.
    pub file: Option<&'f UnitFile>,
    /// What becomes of it.
    pub fate: Fate,
}

/// What is to be done, worked out before anything is written.
#[derive(Debug)]
pub struct Work<'f> {
    manifest_path: PathBuf,
    manifest: Manifest,
    dest: PathBuf,
    /// In the order in which it is done: what goes comes last.
    pub steps: Vec<Step<'f>>,
}

impl<'f> Work<'f> {
    /// What putting `files` below `dest` comes to; what was written elsewhere is left alone. `force`: what a person changed is
    /// overwritten.
    pub fn new(paths: &Paths, init: Init, dest: &Path, files: &'f [UnitFile], force: bool) -> Result<Work<'f>> {
        if fs::metadata(dest).is_ok_and(|there| !there.is_dir()) {
            return Err(Error::refused(dest.display(), "not a directory; --dest names one"));
        }
        let manifest_path = folder_of(paths).join(format!("{}.json", init.name()));
        let manifest = Manifest::read(&manifest_path)?;
        let mut steps = Vec::new();
        for one in files {
            let path = dest.join(&one.path);
            leads_nowhere_else(dest, &path)?;
            let fate = match digest_at(&path)? {
                None => Fate::New,
                Some(there) if there == digest(&one.content) => Fate::Same,
                Some(there) if force || manifest.knows(&path, &there) => Fate::Changed,
                Some(_) => Fate::Kept,
            };
            steps.push(Step { path, file: Some(one), fate });
        }
        let wanted: BTreeSet<PathBuf> = steps.iter().map(|step| step.path.clone()).collect();
        // From the deepest up, so that folders are empty when it is their turn.
        let ours = manifest.files.keys().rev().filter(|path| path.starts_with(dest));
        for path in ours.filter(|path| !wanted.contains(*path)) {
            leads_nowhere_else(dest, path)?;
            let fate = match digest_at(path)? {
                Some(there) if !force && !manifest.knows(path, &there) => Fate::Kept,
                // One that is gone may have left a temporary file.
                _ => Fate::Removed,
            };
            steps.push(Step { path: path.clone(), file: None, fate });
        }
        Ok(Work { manifest_path, manifest, dest: dest.into(), steps })
    }

    /// Does it; `tell` hears of each step when it is done. Killed at any moment, it is made whole by doing it again: what a
    /// file is about to be is in the manifest before it is in its place, beside what it was.
    pub fn apply(mut self, mut tell: impl FnMut(&Step<'_>)) -> Result<()> {
        let before = self.manifest.clone();
        let mut after = before.clone();
        for Step { path, file, fate } in &self.steps {
            match (file, fate) {
                (Some(file), Fate::New | Fate::Changed | Fate::Same) => {
                    let digest = digest(&file.content);
                    self.manifest.files.entry(path.clone()).or_default().insert(digest.clone());
                    after.files.insert(path.clone(), BTreeSet::from([digest]));
                }
                (_, Fate::Removed) => drop(after.files.remove(path)),
                // It stays theirs, and ours to remember as it was, so that --remove leaves it alone too.
                _ => {}
            }
        }
        if self.manifest.files != before.files {
            self.manifest.write(&self.manifest_path)?;
        }
        for step in &self.steps {
            remove_temporary(&step.path)?;
            match (step.file, step.fate) {
                (Some(file), Fate::New | Fate::Changed) => put(&step.path, &file.content)?,
                (None, Fate::Removed) => remove(&step.path, &self.dest)?,
                _ => {}
            }
            tell(step);
        }
        if after.files != self.manifest.files {
            after.write(&self.manifest_path)?;
        }
        Ok(())
    }
}

/// A link in the place of a folder of ours leads out of `dest`, to where nothing of ours belongs.
fn leads_nowhere_else(dest: &Path, path: &Path) -> Result<()> {
    for folder in path.ancestors().skip(1).take_while(|f| f.starts_with(dest) && *f != dest) {
        if fs::symlink_metadata(folder).is_ok_and(|there| !there.is_dir()) {
            let why = "not a directory, and files of ours go into one of this name; remove it";
            return Err(Error::refused(folder.display(), why));
        }
    }
    Ok(())
}

/// Puts `files`, texts all of them, below `dest`, which is made anew each time, and keeps them for [`as_before`].
pub fn afresh(paths: &Paths, dest: &Path, files: &[UnitFile]) -> Result<()> {
    files.iter().try_for_each(|one| put(&dest.join(&one.path), &one.content))?;
    let texts = files.iter().filter_map(|one| match &one.content {
        Content::Text(text, _) => Some((&one.path, text)),
        Content::Link(_) => None,
    });
    let keep = || -> Result<()> {
        let texts: BTreeMap<_, _> = texts.collect();
        let bytes = serde_json::to_vec(&texts).map_err(|e| Error::refused(dest.display(), e.to_string()))?;
        file::create_dirs(&paths.run)?;
        file::write_whole(&kept(paths), &bytes, false)
    };
    // Newer generators may write nowhere else.
    if let Err(e) = keep() {
        log::debug!("{e}");
    }
    Ok(())
}

/// Puts below `dest` what [`afresh`] put there last since this machine is up, if it did.
pub fn as_before(paths: &Paths, dest: &Path) -> Result<()> {
    let Some(bytes) = file::read_regular(&kept(paths), SIZE_MAX)? else { return Ok(()) };
    let texts: BTreeMap<PathBuf, String> =
        serde_json::from_slice(&bytes).map_err(|e| Error::refused(kept(paths).display(), format!("damaged: {e}")))?;
    texts.into_iter().try_for_each(|(path, text)| put(&dest.join(path), &Content::Text(text, 0o644)))
}

/// Nothing is to be put there any more, as far as is known.
pub fn forget(paths: &Paths) {
    let _ = file::remove_if_there(&kept(paths));
}

fn kept(paths: &Paths) -> PathBuf {
    paths.run.join(".generated.json")
}

fn digest(content: &Content) -> String {
    match content {
        Content::Text(text, mode) => of_bytes(text.as_bytes(), mode & 0o111 != 0),
        Content::Link(to) => of_link(to),
    }
}

fn of_bytes(bytes: &[u8], executable: bool) -> String {
    let kind: &[u8] = if executable { b"x\0" } else { b"f\0" };
    Digest::of(&[kind, bytes].concat()).hex()
}

fn of_link(to: &Path) -> String {
    Digest::of(&[b"l\0", to.as_os_str().as_bytes()].concat()).hex()
}

/// What stands at `path`; `None`: nothing.
fn digest_at(path: &Path) -> Result<Option<String>> {
    let there = match fs::symlink_metadata(path) {
        Ok(there) => there,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(e) => return Err(Error::path("stat", path)(e)),
    };
    if there.file_type().is_symlink() {
        return fs::read_link(path).map(|to| Some(of_link(&to))).map_err(Error::path("read link", path));
    }
    let bytes = file::read_regular(path, SIZE_MAX)?.unwrap_or_default();
    Ok(Some(of_bytes(&bytes, there.permissions().mode() & 0o111 != 0)))
}

/// Inits read their folders at any time: the name begins with a dot, which all of them pass over.
fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.mcp-units"))
}

/// What one of us that was killed left.
fn remove_temporary(path: &Path) -> Result<()> {
    match fs::remove_file(temporary(path)) {
        Err(e)
            if !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::ReadOnlyFilesystem) =>
        {
            Err(Error::path("remove", &temporary(path))(e))
        }
        _ => Ok(()),
    }
}

/// Puts `content` in its place whole, by a rename. Nobody has the temporary name.
fn put(path: &Path, content: &Content) -> Result<()> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent).map_err(Error::path("create directory", parent))?;
    let temporary = temporary(path);
    let write = || -> std::io::Result<()> {
        match content {
            Content::Link(to) => symlink(to, &temporary)?,
            Content::Text(text, mode) => {
                let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
                file.write_all(text.as_bytes())?;
                file.set_permissions(Permissions::from_mode(*mode))?;
                file.sync_all()?;
            }
        }
        fs::rename(&temporary, path)
    };
    write().map_err(|e| {
        let _ = fs::remove_file(&temporary);
        Error::path("write", path)(e)
    })
}

/// Removes `path` and the folders above it that this leaves empty, up to `dest`.
fn remove(path: &Path, dest: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Err(Error::path("remove", path)(e));
        }
        _ => {}
    }
    for folder in path.ancestors().skip(1).take_while(|f| f.starts_with(dest) && *f != dest) {
        if fs::remove_dir(folder).is_err() {
            break;
        }
    }
    Ok(())
}
