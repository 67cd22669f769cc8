//! Where a dynamic loader looks for a library: ld.so(8) of glibc, and musl's.

use super::cache::{CACHE_MAX, Cache};
use super::command::{variable, workdir};
use super::elf::{self, Elf, Fail, Unfit};
use super::walk::{self, join, name, parent, show};
use super::{FileRef, Files, Stop, read};
use crate::image::limits::PATH_MAX;
use crate::image::oci::RunConfig;
use crate::sys::Error;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;

/// Paths that are tried for one program. A large one with a hundred libraries tries some thousand.
const TRIES_MAX: u32 = 100_000;
/// Directories of one object's search path, those of its askers with it.
const DIRS_MAX: usize = 512;

/// Folders for processors that have more. A guest's processor may have it or not, so what is there is taken beside the
/// plain library. The last four are those of a glibc before 2.37.
const VARIANTS: [&[u8]; 7] = [
    b"glibc-hwcaps/x86-64-v4",
    b"glibc-hwcaps/x86-64-v3",
    b"glibc-hwcaps/x86-64-v2",
    b"haswell/avx512_1",
    b"haswell",
    b"tls",
    b"x86_64",
];

/// A library, found.
#[derive(Debug)]
pub struct Hit {
    /// The path that the loader opens.
    pub asked: Vec<u8>,
    /// The same without links.
    pub real: Vec<u8>,
    /// What it says.
    pub elf: Elf,
}

/// Whose turn it is in a search: the object that needs the library, then the one that needed it, up to the program.
pub struct Asker<'a> {
    /// Its directory, for `$ORIGIN`.
    pub origin: &'a [u8],
    /// What it says.
    pub elf: &'a Elf,
}

/// Which loader it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// ld-linux-x86-64.so.2.
    Glibc,
    /// ld-musl-x86_64.so.1.
    Musl,
}

/// Its rules, with what they depend on.
pub struct Search<'a> {
    files: &'a dyn Files,
    /// Which loader.
    pub kind: Kind,
    workdir: Vec<u8>,
    environment: Vec<Vec<u8>>,
    /// The file that the loader reads.
    pub configuration: Vec<u8>,
    cache: Option<Cache>,
    system: Vec<Vec<u8>>,
    variants: RefCell<HashMap<Vec<u8>, Vec<usize>>>,
    tries: Cell<u32>,
    /// Files that were passed over, and why.
    pub passed: RefCell<Vec<String>>,
}

impl<'a> Search<'a> {
    /// The rules of the loader `interpreter`, whose real path is `real`.
    pub fn new(files: &'a dyn Files, run: &RunConfig, interpreter: &[u8], real: &[u8]) -> Result<Search<'a>, Stop> {
        let musl = [interpreter, real].iter().any(|p| memchr::memmem::find(name(p), b"musl").is_some());
        let kind = if musl { Kind::Musl } else { Kind::Glibc };
        let mut search = Search {
            files,
            kind,
            workdir: workdir(run),
            environment: Vec::new(),
            configuration: b"/etc/ld.so.cache".to_vec(),
            cache: None,
            system: Vec::new(),
            variants: RefCell::default(),
            tries: Cell::new(0),
            passed: RefCell::default(),
        };
        match kind {
            Kind::Glibc => {
                if let Some((_, file)) = walk::file(files, &search.configuration)? {
                    search.cache = read::whole(files, &file, CACHE_MAX)?.and_then(Cache::parse);
                }
                // Debian's loader knows the multiarch ones, others lib64; one made elsewhere its own.
                let known: [&[u8]; 6] = [
                    b"/lib/x86_64-linux-gnu",
                    b"/usr/lib/x86_64-linux-gnu",
                    b"/lib64",
                    b"/usr/lib64",
                    b"/lib",
                    b"/usr/lib",
                ];
                let own = Some(parent(real)).filter(|own| !known.contains(own));
                search.system = known.into_iter().chain(own).map(<[u8]>::to_vec).collect();
            }
            Kind::Musl => {
                // The path stands beside the loader's folder: /lib/ld-musl-x86_64.so.1 and /etc/ld-musl-x86_64.path.
                search.configuration = [parent(parent(interpreter)), b"/etc/ld-musl-x86_64.path"].concat();
                let list = match walk::file(files, &search.configuration)? {
                    Some((_, file)) => read::whole(files, &file, 64 << 10)?,
                    None => None,
                };
                let list = list.unwrap_or_else(|| b"/lib:/usr/local/lib:/usr/lib".to_vec());
                search.system =
                    list.split(|b| matches!(b, b':' | b'\n')).filter(|d| !d.is_empty()).map(<[u8]>::to_vec).collect();
            }
        }
        if let Some(list) = variable(run, "LD_LIBRARY_PATH").filter(|l| !l.is_empty()) {
            let separators: &[u8] = if kind == Kind::Glibc { b":;" } else { b":\n" };
            let dirs = list.as_bytes().split(|b| separators.contains(b));
            search.environment = dirs.take(DIRS_MAX + 1).map(|d| join(&search.workdir, d)).collect();
            if search.environment.len() > DIRS_MAX {
                let reason = format!("names more than {DIRS_MAX} directories");
                return Err(Stop::Failed(Error::refused("LD_LIBRARY_PATH", reason)));
            }
        }
        Ok(search)
    }

    /// Finds the library `wanted` for the first of `askers`; the ones after it are those that asked for that one. First the
    /// plain library, then the same for better processors. Empty: it is not there.
    pub fn find(&self, wanted: &[u8], askers: &[Asker]) -> Result<Vec<Hit>, Stop> {
        let Some(first) = askers.first() else { return Ok(Vec::new()) };
        if wanted.contains(&b'/') {
            for path in expand(wanted, first.origin) {
                let hit = self.attempt(&join(&self.workdir, &path))?;
                if hit.is_some() {
                    return Ok(hit.into_iter().collect());
                }
            }
            return Ok(Vec::new());
        }
        for dir in self.before(askers)? {
            let hits = self.directory(&dir, wanted)?;
            if !hits.is_empty() {
                return Ok(hits);
            }
        }
        let mut hits = Vec::new();
        for cached in self.cache.iter().flat_map(|c| c.places(wanted)) {
            if first.elf.no_default && self.system.iter().any(|d| parent(cached.path) == d) {
                continue;
            }
            if let Some(hit) = self.attempt(cached.path)? {
                let at = if cached.variant { hits.len() } else { 0 };
                hits.insert(at, hit);
            }
        }
        if !hits.is_empty() {
            return Ok(hits);
        }
        for dir in self.system.iter().filter(|_| !first.elf.no_default) {
            let hits = self.directory(dir, wanted)?;
            if !hits.is_empty() {
                return Ok(hits);
            }
        }
        Ok(Vec::new())
    }

    /// The directories before the loader's own ones.
    fn before(&self, askers: &[Asker]) -> Result<Vec<Vec<u8>>, Stop> {
        let Some(first) = askers.first() else { return Ok(Vec::new()) };
        let mut dirs = Vec::new();
        match self.kind {
            // RPATH is inherited, unless the one that asks has a RUNPATH; RUNPATH is not.
            Kind::Glibc => {
                let inherits = first.elf.runpath.is_none();
                for asker in askers.iter().filter(|a| inherits && a.elf.runpath.is_none()) {
                    self.split(asker.elf.rpath.as_ref(), asker, &mut dirs)?;
                }
                dirs.extend(self.environment.iter().cloned());
                self.split(first.elf.runpath.as_ref(), first, &mut dirs)?;
            }
            // One path of each object, RUNPATH before RPATH, and both inherited.
            Kind::Musl => {
                dirs.extend(self.environment.iter().cloned());
                for asker in askers {
                    self.split(asker.elf.runpath.as_ref().or(asker.elf.rpath.as_ref()), asker, &mut dirs)?;
                }
            }
        }
        Ok(dirs)
    }

    /// The directories of an RPATH or RUNPATH, expanded.
    fn split(&self, list: Option<&Vec<u8>>, asker: &Asker, dirs: &mut Vec<Vec<u8>>) -> Result<(), Stop> {
        for dir in list.into_iter().flat_map(|list| list.split(|b| *b == b':')) {
            dirs.extend(expand(dir, asker.origin).into_iter().map(|d| join(&self.workdir, &d)));
            if dirs.len() > DIRS_MAX {
                let reason = format!("its RPATH or RUNPATH names more than {DIRS_MAX} directories");
                return Err(Stop::Failed(Error::refused(show(asker.origin), reason)));
            }
        }
        Ok(())
    }

    /// All the places, for people.
    pub fn places(&self, askers: &[Asker]) -> Result<String, Stop> {
        let mut dirs: Vec<String> = self.before(askers)?.iter().map(|d| show(d)).collect();
        if self.cache.is_some() {
            dirs.push("/etc/ld.so.cache".into());
        }
        dirs.extend(self.system.iter().map(|d| show(d)));
        let more = dirs.len().saturating_sub(12);
        dirs.truncate(12);
        Ok(match more {
            0 => dirs.join(", "),
            more => format!("{} and {more} more", dirs.join(", ")),
        })
    }

    /// A library in one directory, with its variants.
    fn directory(&self, dir: &[u8], wanted: &[u8]) -> Result<Vec<Hit>, Stop> {
        let mut hits: Vec<Hit> = self.attempt(&join(dir, wanted))?.into_iter().collect();
        if self.kind == Kind::Glibc {
            let known = self.variants.borrow().get(dir).cloned();
            let known = match known {
                Some(known) => known,
                None => {
                    let mut there = Vec::new();
                    for (n, variant) in VARIANTS.iter().enumerate() {
                        self.count()?;
                        if walk::walk(self.files, &join(dir, variant))?.is_some() {
                            there.push(n);
                        }
                    }
                    self.variants.borrow_mut().insert(dir.to_vec(), there.clone());
                    there
                }
            };
            for n in known {
                hits.extend(self.attempt(&join(&join(dir, VARIANTS[n]), wanted))?);
            }
        }
        Ok(hits)
    }

    /// The library at `path`, where there is one for this machine. One for another is passed over, as the loader does.
    fn attempt(&self, path: &[u8]) -> Result<Option<Hit>, Stop> {
        self.count()?;
        let Some((real, file)) = walk::file(self.files, path)? else { return Ok(None) };
        match elf::read(self.files, &file) {
            Ok(elf) if !elf.relocatable => {
                Err(Stop::Failed(Error::refused(show(path), "is a program, and a library is needed there")))
            }
            Ok(elf) => Ok(Some(Hit { asked: path.to_vec(), real, elf })),
            Err(Fail::Stop(stop)) => Err(stop),
            Err(Fail::Unfit(unfit @ (Unfit::Bits32(_) | Unfit::BigEndian(_) | Unfit::Machine(_)))) => {
                let mut passed = self.passed.borrow_mut();
                if passed.len() < 4 {
                    passed.push(format!("{} is {}", show(path), unfit.words()));
                }
                Ok(None)
            }
            Err(Fail::Unfit(unfit)) => Err(Stop::Failed(Error::refused(
                show(path),
                format!("a library is needed there, and it is {}", unfit.words()),
            ))),
        }
    }

    fn count(&self) -> Result<(), Stop> {
        let tries = self.tries.get();
        if tries >= TRIES_MAX {
            let reason = format!("more than {TRIES_MAX} places would have to be searched for its libraries");
            return Err(Stop::Failed(Error::refused("unikernel", reason)));
        }
        self.tries.set(tries + 1);
        Ok(())
    }

    /// A file that no search is needed for: an interpreter.
    pub fn named(&self, path: &[u8], file: &FileRef, real: Vec<u8>) -> Result<Hit, Fail> {
        Ok(Hit { asked: path.to_vec(), real, elf: elf::read(self.files, file)? })
    }
}

/// `$ORIGIN`, `$LIB` and `$PLATFORM` of ld.so(8). What the last two mean depends on who made the loader: each is tried.
fn expand(path: &[u8], origin: &[u8]) -> Vec<Vec<u8>> {
    let lib: &[&[u8]] = &[b"lib/x86_64-linux-gnu", b"lib64", b"lib"];
    let platform: &[&[u8]] = &[b"x86_64", b"haswell"];
    let mut all = vec![path.to_vec()];
    for (token, values) in [(&b"ORIGIN"[..], &[origin][..]), (b"LIB", lib), (b"PLATFORM", platform)] {
        all = all.iter().flat_map(|path| substitute(path, token, values)).collect();
    }
    all.retain(|path| path.len() <= PATH_MAX);
    all
}

fn substitute(path: &[u8], token: &[u8], values: &[&[u8]]) -> Vec<Vec<u8>> {
    let braced = [b"${", token, b"}"].concat();
    let plain = [b"$", token].concat();
    let swap = |value: &[u8]| {
        let mut out = Vec::new();
        let mut rest = path;
        while let Some(first) = rest.first() {
            let used = match rest {
                r if r.starts_with(&braced) => braced.len(),
                r if r.starts_with(&plain)
                    && !r.get(plain.len()).is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_') =>
                {
                    plain.len()
                }
                _ => 0,
            };
            if used == 0 || out.len() > PATH_MAX {
                out.push(*first);
                rest = &rest[1..];
            } else {
                out.extend_from_slice(value);
                rest = &rest[used..];
            }
        }
        out
    };
    match memchr::memmem::find(path, &plain).or_else(|| memchr::memmem::find(path, &braced)) {
        Some(_) => values.iter().map(|v| swap(v)).collect(),
        None => vec![path.to_vec()],
    }
}
