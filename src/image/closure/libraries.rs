//! All libraries of a program, breadth first as its loader loads them.

use super::command::{Program, variable};
use super::elf::{Elf, Fail};
use super::missing;
use super::search::{Asker, Hit, Kind, Search};
use super::walk::{self, parent, show};
use super::{Files, Stop, read};
use crate::image::oci::RunConfig;
use crate::sys::Error;
use std::collections::HashSet;

/// Libraries of one program; Chromium has some hundred.
const OBJECTS_MAX: usize = 4096;
/// Words on libraries that are missing and may be.
const WARNINGS_MAX: usize = 16;
/// Bytes of all names that they ask for.
const NAMES_MAX: usize = 8 << 20;

/// Something loaded.
#[derive(Debug)]
struct Object {
    asked: Vec<u8>,
    origin: Vec<u8>,
    elf: Elf,
    /// Which object asked for it.
    by: Option<usize>,
    /// The program runs without it, so without what it needs too.
    dispensable: bool,
}

/// What the loader will have loaded.
pub struct Libraries<'a> {
    files: &'a dyn Files,
    search: Search<'a>,
    objects: Vec<Object>,
    /// What an object is known by: what it was asked for as, and its DT_SONAME.
    names: HashSet<Vec<u8>>,
    /// The same file under another name is not loaded again.
    reals: HashSet<Vec<u8>>,
    next: usize,
    bytes: usize,
    /// Odd, but no reason to give up.
    pub warnings: Vec<String>,
}

impl<'a> Libraries<'a> {
    /// All that `program` needs, its interpreter among it.
    pub fn of(
        files: &'a dyn Files,
        run: &RunConfig,
        program: &Program,
        interpreter: &[u8],
    ) -> Result<Libraries<'a>, Stop> {
        let who = show(&program.real);
        let Some((real, file)) = walk::file(files, interpreter)? else {
            let reason = format!("its loader {} is not in the image: the image can't run anywhere", show(interpreter));
            return Err(Stop::Failed(Error::refused(who, reason)));
        };
        let search = Search::new(files, run, interpreter, &real)?;
        let mut all = Libraries {
            files,
            search,
            objects: Vec::new(),
            names: HashSet::new(),
            reals: HashSet::new(),
            next: 0,
            bytes: 0,
            warnings: Vec::new(),
        };
        all.objects.push(Object {
            asked: program.real.clone(),
            origin: parent(&program.real).to_vec(),
            elf: program.elf.clone(),
            by: None,
            dispensable: false,
        });
        all.reals.insert(program.real.clone());
        match all.search.named(interpreter, &file, real) {
            Ok(hit) if !hit.elf.entry_is_code => {
                let reason = format!("is the loader of {who}, and its entry point is not in an executable segment");
                return Err(Stop::Failed(Error::refused(show(interpreter), reason)));
            }
            Ok(hit) => all.admit(hit, walk::name(interpreter), 0, false)?,
            Err(Fail::Stop(stop)) => return Err(stop),
            Err(Fail::Unfit(unfit)) => {
                let reason = format!("is the loader of {who}, and it is {}", unfit.words());
                return Err(Stop::Failed(Error::refused(show(interpreter), reason)));
            }
        }
        all.preloaded(run)?;
        all.settle()?;
        Ok(all)
    }

    /// Which loader it is.
    pub fn kind(&self) -> Kind {
        self.search.kind
    }

    /// The file that the loader reads, where there is one.
    pub fn configuration(&self) -> &[u8] {
        &self.search.configuration
    }

    /// Where they will be opened, in the order of loading; the program is not among them.
    pub fn paths(&self) -> impl Iterator<Item = &[u8]> {
        self.objects.iter().skip(1).map(|o| &o.asked[..])
    }

    /// Whether a library with such a name (its beginning) is among them.
    pub fn has(&self, beginning: &str) -> bool {
        self.paths().any(|p| walk::name(p).starts_with(beginning.as_bytes()))
    }

    /// A library that the C library will ask for while the program runs. Whether it is there.
    pub fn also(&mut self, wanted: &str) -> Result<bool, Stop> {
        if self.names.contains(wanted.as_bytes()) {
            return Ok(true);
        }
        let libc = self.objects.iter().position(|o| walk::name(&o.asked).starts_with(b"libc.so")).unwrap_or(0);
        let hits = self.search.find(wanted.as_bytes(), &askers(&self.objects, libc))?;
        let there = !hits.is_empty();
        for hit in hits {
            self.admit(hit, wanted.as_bytes(), libc, true)?;
        }
        self.settle()?;
        Ok(there)
    }

    /// LD_PRELOAD and /etc/ld.so.preload: what is missing of them the loader passes over with a word.
    fn preloaded(&mut self, run: &RunConfig) -> Result<(), Stop> {
        let mut names: Vec<Vec<u8>> = Vec::new();
        let split = |list: &[u8]| -> Vec<Vec<u8>> {
            let parts = list.split(|b| b.is_ascii_whitespace() || *b == b':');
            parts.filter(|p| !p.is_empty()).take(64).map(<[u8]>::to_vec).collect()
        };
        names.extend(split(variable(run, "LD_PRELOAD").unwrap_or_default().as_bytes()));
        if self.kind() == Kind::Glibc
            && let Some((_, file)) = walk::file(self.files, b"/etc/ld.so.preload")?
        {
            names.extend(split(&read::whole(self.files, &file, 64 << 10)?.unwrap_or_default()));
        }
        for wanted in names {
            self.library(&wanted, 0, true)?;
        }
        Ok(())
    }

    /// Goes on until nothing more is needed.
    fn settle(&mut self) -> Result<(), Stop> {
        while self.next < self.objects.len() {
            let at = self.next;
            self.next += 1;
            let elf = &mut self.objects[at].elf;
            let (needed, filters, audit) =
                (std::mem::take(&mut elf.needed), std::mem::take(&mut elf.filters), std::mem::take(&mut elf.audit));
            for wanted in filters.iter().chain(&audit) {
                self.library(wanted, at, true)?;
            }
            for wanted in needed {
                self.library(&wanted, at, false)?;
            }
        }
        Ok(())
    }

    /// One library that object `by` asks for.
    fn library(&mut self, wanted: &[u8], by: usize, dispensable: bool) -> Result<(), Stop> {
        if self.names.contains(wanted) || (self.kind() == Kind::Musl && in_musl(wanted)) {
            return Ok(());
        }
        let dispensable = dispensable || self.objects[by].dispensable;
        let hits = self.search.find(wanted, &askers(&self.objects, by))?;
        if hits.is_empty() {
            let who = show(&self.objects[by].asked);
            if dispensable {
                if self.warnings.len() < WARNINGS_MAX {
                    self.warnings
                        .push(format!("{}: not in the image; {who} asks for it, and goes without", show(wanted)));
                }
                self.names.insert(wanted.to_vec());
                return Ok(());
            }
            let mut reason = format!("this library is not in the image, and {who} needs it");
            if !wanted.contains(&b'/') {
                let places = self.search.places(&askers(&self.objects, by))?;
                reason.push_str(&format!("; looked in {places}"));
            }
            for passed in self.search.passed.borrow().iter() {
                reason.push_str(&format!("; passed over: {passed}"));
            }
            if let Some(dir) = missing::configured(self.files, wanted)? {
                let dir = show(&dir);
                reason.push_str(&format!(
                    "; {dir} has it, but the image's ld.so.cache doesn't know: run ldconfig where it is made"
                ));
            }
            return Err(Stop::Failed(Error::refused(show(wanted), reason)));
        }
        for hit in hits {
            self.admit(hit, wanted, by, dispensable)?;
        }
        Ok(())
    }

    fn admit(&mut self, hit: Hit, wanted: &[u8], by: usize, dispensable: bool) -> Result<(), Stop> {
        self.names.insert(wanted.to_vec());
        if self.reals.contains(&hit.real) {
            return Ok(());
        }
        if self.objects.len() >= OBJECTS_MAX {
            let reason = format!("needs more than {OBJECTS_MAX} libraries");
            return Err(Stop::Failed(Error::refused(show(&self.objects[0].asked), reason)));
        }
        self.names.extend(hit.elf.soname.clone());
        self.reals.insert(hit.real);
        let origin = parent(&hit.asked).to_vec();
        let elf = &hit.elf;
        let names = elf.needed.iter().chain(&elf.filters).chain(&elf.audit).chain(&elf.rpath).chain(&elf.runpath);
        self.bytes += origin.len() + names.map(Vec::len).sum::<usize>();
        if self.bytes > NAMES_MAX {
            let reason = "its libraries ask for libraries with absurdly long names";
            return Err(Stop::Failed(Error::refused(show(&self.objects[0].asked), reason)));
        }
        self.objects.push(Object { asked: hit.asked, origin, elf: hit.elf, by: Some(by), dispensable });
        Ok(())
    }
}

/// The object, who asked for it, and so on; the program is last in any case.
fn askers(objects: &[Object], at: usize) -> Vec<Asker<'_>> {
    let mut chain = Vec::new();
    let mut at = Some(at);
    while let Some(object) = at.and_then(|at| objects.get(at)) {
        let origin = if object.origin.is_empty() { b"/" } else { &object.origin[..] };
        chain.push(Asker { origin, elf: &object.elf });
        at = object.by;
    }
    chain
}

/// Names that musl's loader takes for itself (ldso/dynlink.c, `load_library`).
fn in_musl(wanted: &[u8]) -> bool {
    let Some(rest) = wanted.strip_prefix(b"lib") else { return false };
    [&b"c."[..], b"pthread.", b"rt.", b"m.", b"dl.", b"util.", b"xnet."].iter().any(|own| rest.starts_with(own))
}
