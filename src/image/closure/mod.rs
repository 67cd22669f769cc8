//! The ELF that an image runs, and all that it needs: read, never executed.
//!
//! It asks for files through [`Files`], which knows the upper layers first. What can't be told without a layer below is
//! [`Stop::Below`]: the caller fetches that layer and asks again. It begins with the top layer alone, so that the same
//! image always gives the same answer (see [`extras`]).
//!
//! | file | what it knows |
//! | --- | --- |
//! | [`command`] | Entrypoint, Cmd, PATH: which file runs, and whether a unikernel can run it |
//! | [`elf`], [`imports`] | one ELF file |
//! | [`search`], [`cache`], [`missing`] | where glibc's and musl's loaders look for a library |
//! | [`libraries`] | all of them, breadth first |
//! | [`extras`], [`mod@include`] | files that no ELF names, and directories |
//! | [`tree`], [`walk`] | what `rootfs/` will look like; paths and links of the image |
//!
//! # What it makes for `ops`
//!
//! The entries, laid out as they are, are the `sysroot` of a local package (`ops image create --package`), `Program` being
//! [`Closure::program`] and `Args` [`Closure::argv`]. No top-level link is among them, no link leaves the tree, and none
//! leads to nothing (`ops` would look links up on the host). The program's path has no link in it; argument 0 may differ
//! from it, and programs that look at it (redis-server, busybox) want it kept.

pub mod cache;
pub mod command;
pub mod elf;
pub mod extras;
pub mod imports;
pub mod include;
pub mod libraries;
#[cfg(test)]
pub(crate) mod memory;
pub mod missing;
pub mod read;
pub mod search;
#[cfg(test)]
mod tests;
pub mod tree;
pub mod walk;

use crate::image::oci::RunConfig;
use crate::sys::Error;
use serde::{Deserialize, Serialize};

/// Why an answer can't be had.
#[derive(Debug)]
pub enum Stop {
    /// It depends on a layer that is not there yet.
    Below,
    /// It is an error.
    Failed(Error),
}

/// What a path of the image leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing is there.
    Nothing,
    /// A directory.
    Directory,
    /// A symbolic link and its target (only where links are not followed).
    Symlink(Vec<u8>),
    /// A file.
    File(FileRef),
    /// A device, a pipe: nothing that can be taken along.
    Other,
}

/// A file of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRef {
    /// What [`Files::read_at`] takes.
    pub id: u64,
    /// Bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
}

/// The merged files of an image, as far as its layers are there. Paths are absolute, with or without links in them.
pub trait Files {
    /// What is at `path`. Links in its directories are followed inside the image; at its end too, where `follow` says
    /// so. More than `limits::LINKS_MAX` of them is [`Found::Nothing`].
    fn look(&self, path: &[u8], follow: bool) -> Result<Found, Stop>;

    /// Names in the directory `path`, sorted.
    fn list(&self, path: &[u8]) -> Result<Vec<Vec<u8>>, Stop>;

    /// Real paths of the directories that are known, the upper ones first, at most `most`.
    fn directories(&self, most: usize) -> Vec<Vec<u8>>;

    /// Reads the file `id` from `offset` on; fewer bytes than asked for only at its end.
    fn read_at(&self, id: u64, offset: u64, into: &mut [u8]) -> Result<usize, Stop>;
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// What the image says it runs.
    pub run: RunConfig,
    /// What replaces its Cmd.
    pub args: Option<Vec<String>>,
    /// Further paths to take along, files or directories.
    pub include: Vec<String>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closure {
    /// The ELF, absolute, links resolved.
    pub program: String,
    /// Its arguments, argument 0 among them.
    pub argv: Vec<String>,
    /// The dynamic loader as the ELF names it.
    pub interpreter: Option<String>,
    /// Libraries, absolute, as they will be looked for.
    pub libraries: Vec<String>,
    /// Everything to take along, parents before children, sorted by path.
    pub entries: Vec<Taken>,
    /// What may not work, for people.
    pub warnings: Vec<String>,
}

/// Something to take along.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Absolute in the image; UTF-8, as all that `ops` takes.
    pub path: String,
    /// What it is.
    pub what: What,
}

/// See [`Taken`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// A directory.
    Directory,
    /// A symbolic link to this target.
    Symlink(String),
    /// A file: its id, and its permission bits without setuid and setgid.
    File(u64, u32),
}

/// Finds the program and all that it needs.
///
/// `request.run.env` is what the program will have: LD_LIBRARY_PATH, PATH, TZ, LANG count.
pub fn settle(files: &dyn Files, request: &Request) -> Result<Closure, Stop> {
    let program = command::find(files, request)?;
    let who = walk::show(&program.asked);
    let mut tree = tree::Tree::new(files);
    let mut warnings = Vec::new();
    tree.take(&program.asked)?;
    let mut libraries = match &program.elf.interpreter {
        Some(interpreter) => Some(libraries::Libraries::of(files, &request.run, &program, interpreter)?),
        None => None,
    };
    if libraries.as_ref().is_some_and(|libraries| libraries.kind() == search::Kind::Musl) {
        warnings.push(format!(
            "{who}: is linked with musl (Alpine), with which output is lost and programs hang on Nanos: an image with \
             glibc works, and {}",
            command::WAY_OUT
        ));
    }
    let stop_signal = request.run.stop_signal.trim_start_matches("SIG");
    if !["", "TERM", "15"].contains(&stop_signal) {
        warnings.push(format!(
            "{who}: its image wants SIG{stop_signal} to stop, and Nanos sends SIGTERM; if that is not enough, {}",
            command::WAY_OUT
        ));
    }
    let imports = imports::read(files, &program.file, &program.elf)?;
    if !imports.children.is_empty() {
        warnings.push(format!(
            "{who}: calls {}, and Nanos runs one process: what it does in children will fail; if it can't do without, {}",
            imports.children.join(", "),
            command::WAY_OUT
        ));
    }
    if let Some(language) = command::language(&program) {
        warnings.push(format!("{who}: runs {language}: name its modules and the code in `include`, no ELF names them"));
    } else if imports.dlopen {
        warnings.push(format!("{who}: calls dlopen: if it loads plugins, name them in `include`"));
    }
    include::take(files, &request.include, &mut tree)?;
    warnings.extend(extras::take(files, request, &program, libraries.as_mut(), &mut tree)?);
    let mut paths = Vec::new();
    for path in libraries.iter().flat_map(|l| l.paths()) {
        tree.take(path)?;
        paths.push(utf8(path)?);
    }
    warnings.extend(libraries.map(|l| l.warnings).unwrap_or_default());
    warnings.extend(extras::directories(files, &mut tree)?);
    let interpreter = program.elf.interpreter.as_deref().map(utf8).transpose()?;
    let real = utf8(&program.real)?;
    let (entries, left_out) = tree.finish()?;
    warnings.extend(left_out);
    Ok(Closure { program: real, argv: program.argv, interpreter, libraries: paths, entries, warnings })
}

fn utf8(path: &[u8]) -> Result<String, Stop> {
    let text = std::str::from_utf8(path).map(str::to_string);
    text.map_err(|_| Stop::Failed(Error::refused(walk::show(path), "its name is not UTF-8, and ops takes no other")))
}
