//! Pulling: from a reference to a directory of the store that a build can use.
//!
//! For a microvm all layers are brought, several side by side. For a unikernel the top one, and the next below as long
//! as the closure of its program isn't settled: nothing is fetched that might not be needed.

mod key;
mod layer;
mod meter;
mod rootfs;
mod stream;

pub use key::Request;
pub use meter::{Meter, Reading};

use super::closure;
use super::limits::{ENTRIES_MAX, IMAGE_MAX, UNIKERNEL_ENTRIES_MAX};
use super::oci::{self, Descriptor, Document, Image};
use super::pulled::{FILE, Program, Pulled, ROOTFS, SCHEMA};
use super::source::{self, Source};
use super::store::{Kind, Making, Named, Store};
use super::worker::{self, Settled, Unpacked};
use crate::model::{Digest, Node, Reference, Runtime};
use crate::sys::paths::Paths;
use crate::sys::{Deadline, Error, Result, user};
use layer::{Fetched, Job};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Layers that are fetched side by side.
const SIDE_BY_SIDE: usize = 3;

/// One pull: what, on which node, until when.
pub struct Pull<'a> {
    /// The image.
    pub reference: &'a Reference,
    /// What is asked of it.
    pub request: &'a Request,
    /// The node's config.
    pub node: &'a Node,
    /// The node's files.
    pub paths: &'a Paths,
    /// Shows how far it is.
    pub meter: &'a Meter,
    /// When to give up.
    pub deadline: Deadline,
}

/// What a pull came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// What was pulled.
    pub pulled: Pulled,
    /// Its directory.
    pub path: PathBuf,
    /// Whether anything had to be made; false: it was all there.
    pub new: bool,
}

/// What a pull would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What the reference names.
    pub tagged: Digest,
    /// The manifest for this machine, where it was looked at.
    pub manifest: Digest,
    /// Whether all of it is there.
    pub there: bool,
    /// Bytes that would be fetched.
    pub fetch: u64,
    /// Layers that would be fetched.
    pub fetch_layers: usize,
    /// Whether it may be more: which further layers a unikernel needs, only the upper ones tell.
    pub at_least: bool,
    /// Bytes of the whole image.
    pub total: u64,
    /// Layers of the whole image.
    pub layers: usize,
}

/// An image's documents, and what of them had to be fetched.
struct Told {
    image: Image,
    /// Bytes of manifest and config, and of the indexes above.
    size: u64,
    fetched: u64,
}

impl Pull<'_> {
    /// Pulls it.
    pub fn run(&self) -> Result<Done> {
        self.bring().map_err(|e| self.named(e))
    }

    fn bring(&self) -> Result<Done> {
        let look = Store::look(self.paths);
        let mut source = None;
        let tagged = self.tagged(&mut source)?;
        if let Some(done) = self.there(&look, &tagged.digest)? {
            return Ok(done);
        }
        let mut source = match source {
            Some(source) => source,
            None => source::open(self.reference, self.node, self.paths)?,
        };
        let store = Store::open(self.paths)?;
        let told = self.told(&mut *source, &tagged, &store, true)?;
        let key = self.request.key(&told.image.manifest);
        let mut making = store.make(Kind::Image, &key, self.deadline)?;
        let user = user::take(self.paths, self.node.qemu.uid_range, &format!("image-{key}"))?;
        let job = Job {
            store: &store,
            user: &user,
            meter: self.meter,
            deadline: self.deadline,
            stop: AtomicBool::new(false),
            gives_up: AtomicBool::new(false),
        };
        let mut pulled = self.pulled(&key, &told.image, tagged.digest);
        let mut new = true;
        match Pulled::try_read(making.target()) {
            // Somebody else has just made it, or it was pulled under another name.
            Ok(Some(there)) if there.key == key && there.is_whole(making.target(), &store) => {
                pulled.program = there.program;
                new = false;
            }
            _ => {
                let dir = making.begin()?;
                if self.request.runtime == Runtime::Unikernel {
                    pulled.program = Some(self.unikernel(&job, &mut *source, &told.image, &dir.join(ROOTFS))?);
                } else {
                    microvm(&job, &mut *source, &told.image)?;
                }
                write_json(&dir.join(FILE), &pulled)?;
                store.settle()?;
                making.finish()?;
            }
        }
        self.note(&store, &pulled, &making)?;
        pulled.touch(making.target(), &store);
        Ok(Done { path: making.target().to_path_buf(), pulled, new })
    }

    /// What it would do. Nothing is written.
    pub fn plan(&self) -> Result<Plan> {
        let store = Store::look(self.paths);
        let mut source = None;
        let tagged = self.tagged(&mut source)?;
        if let Some(done) = self.there(&store, &tagged.digest)? {
            let (manifest, total) = (done.pulled.manifest, done.pulled.layers.iter().map(|l| l.size).sum());
            let (tagged, layers) = (tagged.digest, done.pulled.layers.len());
            let (fetch, fetch_layers, at_least) = (0, 0, false);
            return Ok(Plan { tagged, manifest, there: true, fetch, fetch_layers, at_least, total, layers });
        }
        let mut source = match source {
            Some(source) => source,
            None => source::open(self.reference, self.node, self.paths)?,
        };
        let told = self.told(&mut *source, &tagged, &store, false)?;
        let image = &told.image;
        let mut plan = Plan {
            tagged: tagged.digest,
            manifest: image.manifest,
            there: false,
            fetch: told.fetched,
            fetch_layers: 0,
            at_least: false,
            total: told.size + image.layers.iter().map(|l| l.size).sum::<u64>(),
            layers: image.layers.len(),
        };
        let mut seen = Vec::new();
        for layer in image.layers.iter().rev() {
            if !seen.contains(&layer.blob) && store.blob(&layer.blob, layer.size)?.is_none() {
                if self.request.runtime == Runtime::Unikernel && !seen.is_empty() {
                    plan.at_least = true;
                } else {
                    plan.fetch += layer.size;
                    plan.fetch_layers += 1;
                }
            }
            seen.push(layer.blob);
        }
        Ok(plan)
    }

    /// What the reference names: for a tag a question to its source, which is opened for it.
    fn tagged(&self, source: &mut Option<Box<dyn Source + Send>>) -> Result<Descriptor> {
        if let Reference::Registry(named) = self.reference
            && let Some(digest) = named.digest
        {
            let (media_type, annotations) = (String::new(), Default::default());
            return Ok(Descriptor { media_type, digest, size: 0, platform: None, annotations });
        }
        source.insert(source::open(self.reference, self.node, self.paths)?).resolve(self.deadline)
    }

    /// What an earlier pull of the same made, where nothing has changed since.
    fn there(&self, store: &Store, tagged: &Digest) -> Result<Option<Done>> {
        let Some(named) = store.named(&self.request.name(&self.reference.to_string()))? else { return Ok(None) };
        if named.tagged != *tagged {
            return Ok(None);
        }
        let path = store.directory(Kind::Image, &named.key);
        match Pulled::try_read(&path) {
            Ok(Some(mut pulled)) if pulled.key == named.key && pulled.is_whole(&path, store) => {
                pulled.touch(&path, store);
                self.meter.image(pulled.layers.iter().map(|l| l.size).sum(), pulled.layers.len());
                // It may have been made for another name of the same image.
                (pulled.reference, pulled.tagged) = (self.reference.to_string(), *tagged);
                Ok(Some(Done { pulled, path, new: false }))
            }
            // Damaged, or of another version: made anew.
            _ => Ok(None),
        }
    }

    /// Fetches manifest and config, or has them from the store; `keep` puts them there.
    fn told(&self, source: &mut dyn Source, tagged: &Descriptor, store: &Store, keep: bool) -> Result<Told> {
        let object = self.reference.to_string();
        let (mut size, mut fetched) = (0, 0);
        let mut fetch = |what: &Descriptor| -> Result<Vec<u8>> {
            if let Some(bytes) = store.document(&what.digest)? {
                size += bytes.len() as u64;
                return Ok(bytes);
            }
            let bytes = source.document(what, self.deadline)?;
            if Digest::of(&bytes) != what.digest {
                return Err(Error::refused(&object, format!("what came for {} is something else", what.digest)));
            }
            size += bytes.len() as u64;
            fetched += bytes.len() as u64;
            self.meter.document(bytes.len() as u64);
            if keep {
                store.keep_document(&what.digest, &bytes)?;
            }
            Ok(bytes)
        };
        let (descriptor, manifest) = oci::find(&object, tagged, &mut fetch)?;
        let Document::Manifest(parts) = Document::read(&object, &descriptor.media_type, &manifest)? else {
            return Err(Error::refused(&object, "is an index, not a manifest"));
        };
        let config = fetch(&parts.config)?;
        let image = Image::read(&object, &manifest, &config)?;
        self.meter.image(size + image.layers.iter().map(|l| l.size).sum::<u64>(), image.layers.len());
        Ok(Told { image, size, fetched })
    }

    fn pulled(&self, key: &str, image: &Image, tagged: Digest) -> Pulled {
        Pulled {
            schema: SCHEMA,
            key: key.to_string(),
            reference: self.reference.to_string(),
            tagged,
            manifest: image.manifest,
            config: image.config,
            runtime: self.request.runtime,
            run: self.request.run(&image.run),
            layers: image.layers.clone(),
            program: None,
        }
    }

    /// Fetches layers from the top on until the program and all that it needs is there, and lays that down.
    fn unikernel(&self, job: &Job<'_>, source: &mut dyn Source, image: &Image, root: &Path) -> Result<Program> {
        let request = closure::Request {
            run: self.request.run(&image.run),
            args: self.request.args.clone(),
            include: self.request.include.clone(),
        };
        let mut layers: Vec<Unpacked> = Vec::new();
        let mut sum = Sum { for_unikernel: true, ..Sum::default() };
        let mut below = image.layers.len();
        for layer in image.layers.iter().rev() {
            below -= 1;
            let fetched = job.layer(source, layer, true)?;
            sum.add(self.reference, &fetched)?;
            let Some(plain) = fetched.plain else {
                return Err(Error::refused(layer.blob, "was not unpacked"));
            };
            layers.push(Unpacked { index: fetched.index, plain });
            let settled = worker::closure(job.user, &layers, below == 0, &request, self.deadline);
            if let Settled::Done(answer) = settled.map_err(|e| self.about(e))? {
                crate::sys::file::create_dirs(root)?;
                let files = rootfs::lay_down(root, &answer, &layers, self.deadline).map_err(|e| self.about(e))?;
                let told = answer.closure;
                return Ok(Program {
                    path: told.program,
                    argv: told.argv,
                    interpreter: told.interpreter,
                    libraries: told.libraries,
                    files,
                    warnings: told.warnings,
                });
            }
        }
        Err(Error::refused(self.reference, "has no layers, so no program"))
    }

    /// The error with the image's name in it: a worker knows paths in it alone.
    fn about(&self, error: Error) -> Error {
        let named = |object: String| match object.as_str() {
            "image" | "unikernel" | "worker" => self.reference.to_string(),
            _ => format!("{}: {object}", self.reference),
        };
        match error {
            other @ Error::Os { .. } => other,
            error => error.map_object(named),
        }
    }

    /// The error of a layer with the image's name in it, once.
    fn named(&self, error: Error) -> Error {
        let image = self.reference.to_string();
        error.map_object(|object| match object.starts_with("sha256:") {
            true => format!("{image}: {}", object.replacen(&format!(": {image}"), "", 1)),
            false => object,
        })
    }

    /// Writes down what the reference was pulled as.
    fn note(&self, store: &Store, pulled: &Pulled, turn: &Making) -> Result<()> {
        let named = Named::new(&pulled.reference, pulled.runtime, pulled.tagged, &pulled.key);
        store.name(&self.request.name(&pulled.reference), &named, turn)
    }
}

/// What `reference` was last pulled as with this request, where that is whole: without asking its source whether it
/// names something else by now.
pub fn last(store: &Store, reference: &Reference, request: &Request) -> Result<Option<(Pulled, PathBuf)>> {
    let Some(named) = store.named(&request.name(&reference.to_string()))? else { return Ok(None) };
    let path = store.directory(Kind::Image, &named.key);
    // One that is damaged is as good as none: a pull makes it anew.
    let Ok(Some(mut pulled)) = Pulled::try_read(&path) else { return Ok(None) };
    if pulled.key != named.key || !pulled.is_whole(&path, store) {
        return Ok(None);
    }
    // It may have been made for another name of the same image.
    (pulled.reference, pulled.tagged) = (reference.to_string(), named.tagged);
    Ok(Some((pulled, path)))
}

/// What the layers of an image come to, against the limits.
#[derive(Default)]
struct Sum {
    for_unikernel: bool,
    bytes: u64,
    entries: u64,
}

impl Sum {
    fn add(&mut self, object: impl std::fmt::Display, fetched: &Fetched) -> Result<()> {
        self.bytes = self.bytes.saturating_add(fetched.trailer.size);
        self.entries = self.entries.saturating_add(fetched.trailer.entries);
        if self.bytes > IMAGE_MAX {
            return Err(Error::refused(object, format!("its layers are more than {} GiB unpacked", IMAGE_MAX >> 30)));
        }
        if self.for_unikernel && self.entries > UNIKERNEL_ENTRIES_MAX {
            let reason = format!(
                "the layers that its program is looked for in have more than {UNIKERNEL_ENTRIES_MAX} entries; runtime = \
                 \"microvm\" would run it"
            );
            return Err(Error::refused(object, reason));
        }
        if self.entries > ENTRIES_MAX {
            return Err(Error::refused(object, format!("its layers have more than {ENTRIES_MAX} entries")));
        }
        Ok(())
    }
}

/// Brings all layers of `image`, the largest first, several side by side where the source can do that.
fn microvm(job: &Job<'_>, source: &mut dyn Source, image: &Image) -> Result<()> {
    let mut order: Vec<_> = image.layers.iter().collect();
    order.sort_by_key(|l| std::cmp::Reverse(l.size));
    // One blob may be several layers.
    order.dedup_by_key(|l| l.blob);
    let (next, sum, failure) = (AtomicUsize::new(0), Mutex::new(Sum::default()), Mutex::new(None));
    let work = |source: &mut dyn Source| {
        while let Some(layer) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            if job.stop.load(Ordering::Relaxed) {
                return;
            }
            let done = job.layer(source, layer, false).and_then(|fetched| {
                let mut sum = sum.lock().unwrap_or_else(|e| e.into_inner());
                sum.add(image.manifest, &fetched)
            });
            if let Err(e) = done {
                // The others may fail of the stop: the first error is the reason.
                job.fail(&e);
                failure.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(e);
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..SIDE_BY_SIDE.min(order.len()) {
            let Some(mut another) = source.again() else { break };
            let started = std::thread::Builder::new().spawn_scoped(scope, {
                let work = &work;
                move || work(&mut *another)
            });
            if let Err(e) = started {
                log::info!("start thread: {}", crate::sys::error::os_reason(&e));
            }
        }
        work(source);
    });
    let failure = failure.into_inner().unwrap_or_else(|e| e.into_inner());
    failure.map_or(Ok(()), Err)
}

/// Writes image.json; the directory is synced as a whole later.
fn write_json(path: &Path, pulled: &Pulled) -> Result<()> {
    let mut bytes = serde_json::to_vec_pretty(pulled).map_err(|e| Error::refused(path.display(), e.to_string()))?;
    bytes.push(b'\n');
    let mut options = std::fs::OpenOptions::new();
    let opened = options.write(true).create_new(true).mode(0o600).open(path);
    opened.and_then(|mut file| file.write_all(&bytes)).map_err(Error::path("write", path))
}
