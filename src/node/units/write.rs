//! Getting an init's files to their place. What we wrote is known by its digest in `LIB/units/INIT.json`; what a person has
//! changed since is theirs, and left alone unless they say otherwise.

use super::{Content, UnitFile};
use crate::model::{Digest, Init};
use crate::sys::paths::Paths;
use crate::sys::{Error, Result, file};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// No file of an init's comes near this.
const SIZE_MAX: u64 = 1 << 20;
const SCHEMA: u32 = 1;

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
#[derive(Debug, Default, Serialize, Deserialize)]
struct Manifest {
    schema: u32,
    files: BTreeMap<PathBuf, String>,
}

fn manifest_of(paths: &Paths, init: Init) -> PathBuf {
    paths.lib.join("units").join(format!("{}.json", init.name()))
}

/// What is to be done, worked out before anything is written.
#[derive(Debug)]
pub struct Work<'f> {
    path: PathBuf,
    manifest: Manifest,
    /// Each file, by its whole path, and what becomes of it; those that go last.
    pub steps: Vec<(PathBuf, Option<&'f UnitFile>, Fate)>,
}

impl<'f> Work<'f> {
    /// What putting `files` below `dest` comes to. `force`: what a person changed is overwritten.
    pub fn new(paths: &Paths, init: Init, dest: &Path, files: &'f [UnitFile], force: bool) -> Result<Work<'f>> {
        let path = manifest_of(paths, init);
        let manifest: Manifest = match file::read_bounded(&path, SIZE_MAX)? {
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|e| {
                let way = "remove it, and mcp-units takes all files for a person's";
                Error::refused(path.display(), format!("damaged: {e}; {way}"))
            })?,
            None => Manifest::default(),
        };
        let mut steps = Vec::new();
        for one in files {
            let at = dest.join(&one.path);
            let there = digest_at(&at)?;
            let fate = match &there {
                None => Fate::New,
                Some(there) if *there == digest(&one.content) => Fate::Same,
                Some(there) if force || manifest.files.get(&at) == Some(there) => Fate::Changed,
                Some(_) => Fate::Kept,
            };
            steps.push((at, Some(one), fate));
        }
        let wanted: BTreeSet<PathBuf> = steps.iter().map(|(at, ..)| at.clone()).collect();
        // From the deepest up, so that folders are empty when it is their turn.
        for (at, ours) in manifest.files.iter().rev().filter(|(at, _)| !wanted.contains(*at)) {
            match digest_at(at)? {
                None => {}
                Some(there) if force || there == *ours => steps.push((at.clone(), None, Fate::Removed)),
                Some(_) => steps.push((at.clone(), None, Fate::Kept)),
            }
        }
        Ok(Work { path, manifest, steps })
    }

    /// Does it. Killed at any moment, it is made whole by doing it again: a file that is about to be ours is in the manifest
    /// before it is in its place.
    pub fn apply(mut self, dest: &Path) -> Result<()> {
        let mut after = BTreeMap::new();
        for (at, one, fate) in &self.steps {
            match (one, fate) {
                (Some(one), Fate::New | Fate::Changed | Fate::Same) => {
                    after.insert(at.clone(), digest(&one.content));
                }
                // It stays theirs, and ours to remember as it was, so that --remove leaves it alone too.
                (_, Fate::Kept) => {
                    if let Some(old) = self.manifest.files.get(at) {
                        after.insert(at.clone(), old.clone());
                    }
                }
                _ => {}
            }
        }
        let fresh = after.iter().filter(|(at, digest)| self.manifest.files.get(*at) != Some(*digest));
        let fresh: Vec<_> = fresh.map(|(at, digest)| (at.clone(), digest.clone())).collect();
        // What changes is known by its old digest until it is in place; only what is new is told before.
        for (at, digest) in fresh {
            self.manifest.files.entry(at).or_insert(digest);
        }
        self.write_manifest()?;
        for (at, one, fate) in &self.steps {
            match (one, fate) {
                (Some(one), Fate::New | Fate::Changed) => put(at, &one.content)?,
                (None, Fate::Removed) => remove(at, dest)?,
                _ => {}
            }
        }
        self.manifest.files = after;
        self.write_manifest()
    }

    fn write_manifest(&mut self) -> Result<()> {
        if self.manifest.files.is_empty() {
            return file::remove_if_there(&self.path);
        }
        self.manifest.schema = SCHEMA;
        if let Some(parent) = self.path.parent() {
            file::create_dirs(parent)?;
        }
        let bytes = serde_json::to_vec_pretty(&self.manifest)
            .map_err(|e| Error::refused(self.path.display(), e.to_string()))?;
        file::write_whole(&self.path, &bytes, true)
    }
}

/// Puts `files` below `dest`, which is made anew each time, and keeps no record of them.
pub fn afresh(dest: &Path, files: &[UnitFile]) -> Result<()> {
    files.iter().try_for_each(|one| put(&dest.join(&one.path), &one.content))
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

/// Puts `content` in its place whole, by a rename. Inits read their folders at any time, so the temporary name begins with a
/// dot, which all of them pass over.
fn put(path: &Path, content: &Content) -> Result<()> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent).map_err(Error::path("create directory", parent))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = parent.join(format!(".{name}.mcp-units"));
    let write = || -> std::io::Result<()> {
        if let Err(e) = fs::remove_file(&temporary)
            && e.kind() != ErrorKind::NotFound
        {
            return Err(e);
        }
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
    file::remove_if_there(path)?;
    for folder in path.ancestors().skip(1).take_while(|f| f.starts_with(dest) && *f != dest) {
        if fs::remove_dir(folder).is_err() {
            break;
        }
    }
    Ok(())
}
