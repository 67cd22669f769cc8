//! What an image runs: its ELF and the arguments, from Entrypoint, Cmd, PATH and WorkingDir (image-spec config.md).

use super::elf::{self, Elf, Fail, Unfit};
use super::walk::{self, join, show};
use super::{FileRef, Files, Found, Request, Stop};
use crate::image::oci::RunConfig;
use crate::sys::Error;

/// What every OCI runtime takes where the image says nothing.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Directories of PATH.
const PATHS_MAX: usize = 512;

/// What would run what a unikernel can't.
pub const WAY_OUT: &str = "runtime = \"microvm\" would run it";

/// Shells: each would start other programs.
const SHELLS: [&str; 8] = ["sh", "bash", "dash", "ash", "ksh", "mksh", "zsh", "fish"];

/// Programs whose one job is to start another one.
const WRAPPERS: [&str; 14] = [
    "tini",
    "tini-static",
    "dumb-init",
    "catatonit",
    "docker-init",
    "gosu",
    "su-exec",
    "setpriv",
    "env",
    "nice",
    "nohup",
    "timeout",
    "chpst",
    "s6-svscan",
];

/// A program, found.
#[derive(Debug)]
pub struct Program {
    /// As it was found: below a directory of PATH, below WorkingDir, or as it was named.
    pub asked: Vec<u8>,
    /// Links resolved.
    pub real: Vec<u8>,
    /// The file.
    pub file: FileRef,
    /// What the file says.
    pub elf: Elf,
    /// Its arguments, argument 0 among them.
    pub argv: Vec<String>,
}

/// Entrypoint and Cmd, or what replaces Cmd.
fn argv(request: &Request) -> Result<Vec<String>, Error> {
    let run = &request.run;
    let more = request.args.as_ref().unwrap_or(&run.cmd);
    let argv: Vec<String> = run.entrypoint.iter().chain(more).cloned().collect();
    let Some(first) = argv.first() else {
        return Err(Error::refused(
            "image",
            "names nothing to run: neither Entrypoint nor Cmd; give `args` with a program",
        ));
    };
    if first.is_empty() {
        return Err(Error::refused("image", "the name of the program that it runs is empty"));
    }
    match argv.iter().position(|a| a.contains('\0')) {
        Some(n) => Err(Error::refused("image", format!("argument {n} has a NUL in it, which no program can be given"))),
        None => Ok(argv),
    }
}

/// The working directory; `/` where the image says nothing.
pub fn workdir(run: &RunConfig) -> Vec<u8> {
    join(b"/", run.workdir.as_bytes())
}

/// A variable of the image's environment; the last one of that name counts.
pub fn variable<'a>(run: &'a RunConfig, name: &str) -> Option<&'a str> {
    run.env.iter().rev().find_map(|v| v.split_once('=').filter(|(n, _)| *n == name)).map(|(_, value)| value)
}

/// Finds the program and checks that it can be one of a unikernel.
pub fn find(files: &dyn Files, request: &Request) -> Result<Program, Stop> {
    let argv = argv(request).map_err(Stop::Failed)?;
    starter(&argv).map_err(Stop::Failed)?;
    let (asked, real, file) = locate(files, &request.run, &argv[0])?;
    let object = show(&asked);
    let refused = |reason: String| Stop::Failed(Error::refused(&object, reason));
    let elf = match elf::read(files, &file) {
        Ok(elf) => elf,
        Err(Fail::Stop(stop)) => return Err(stop),
        Err(Fail::Unfit(unfit)) => {
            let end = match &unfit {
                Unfit::Script(_) => format!("; a unikernel runs one ELF program and no script: {WAY_OUT}"),
                Unfit::NotElf | Unfit::Empty => "; nothing here can run it".into(),
                // Debian's kernel runs programs of its ancestor too.
                Unfit::Bits32(3) => format!("; Nanos runs 64-bit ones only: {WAY_OUT}"),
                _ => "; a guest here runs 64-bit x86-64 Linux programs only, a microvm too".into(),
            };
            return Err(refused(format!("is {}{end}", unfit.words())));
        }
    };
    // The links may lead to a shell under another name: busybox, or /bin/sh itself renamed.
    starter(&[String::from_utf8_lossy(walk::name(&real)).into_owned()]).map_err(Stop::Failed)?;
    if elf.interpreter.is_none() && elf.relocatable {
        if elf.soname.is_some() || !elf.needed.is_empty() {
            return Err(refused(
                "is a shared library or a dynamic loader, not a program; name the program itself".into(),
            ));
        }
        if elf.entry == 0 {
            return Err(refused("is a shared library: it has no entry point".into()));
        }
    }
    if elf.entry == 0 {
        return Err(refused("is a broken ELF file: it has no entry point".into()));
    }
    if !elf.entry_is_code {
        return Err(refused("is a broken ELF file: its entry point is not in an executable segment".into()));
    }
    Ok(Program { asked, real, file, elf, argv })
}

/// Refuses what would only start something else.
fn starter(argv: &[String]) -> Result<(), Error> {
    let base = argv[0].rsplit('/').next().unwrap_or_default();
    if SHELLS.contains(&base) {
        let script = argv.iter().skip(1).position(|a| a.starts_with('-') && !a.starts_with("--") && a.contains('c'));
        return Err(match script.and_then(|at| argv.get(at + 2)) {
            Some(script) => Error::refused(
                format!("{base} -c {}", show(script.as_bytes())),
                format!(
                    "this is the shell form of Entrypoint or Cmd, and a unikernel has no shell: use the exec form, \
                     [\"/path/program\", \"argument\"]; {WAY_OUT}"
                ),
            ),
            None => Error::refused(
                show(argv[0].as_bytes()),
                format!("is a shell, which starts other programs; a unikernel runs one: {WAY_OUT}"),
            ),
        });
    }
    if WRAPPERS.contains(&base) {
        let reason = format!(
            "starts another program, which can't be in a unikernel: name that program itself as Entrypoint; {WAY_OUT}"
        );
        return Err(Error::refused(show(argv[0].as_bytes()), reason));
    }
    Ok(())
}

/// The language of an interpreter: what it runs is no ELF.
pub fn language(program: &Program) -> Option<&'static str> {
    let base = walk::name(&program.real);
    let known = [
        ("python", "Python"),
        ("perl", "Perl"),
        ("ruby", "Ruby"),
        ("node", "JavaScript"),
        ("java", "Java"),
        ("php", "PHP"),
        ("lua", "Lua"),
        ("beam", "Erlang"),
    ];
    // With a version behind it, but not with a word: lualatex, nodeset.
    let version = |rest: &[u8]| rest.iter().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-'));
    known.into_iter().find(|(name, _)| base.strip_prefix(name.as_bytes()).is_some_and(version)).map(|(_, word)| word)
}

/// The program's file: as execvp(3) looks for it.
fn locate(files: &dyn Files, run: &RunConfig, name: &str) -> Result<(Vec<u8>, Vec<u8>, FileRef), Stop> {
    let refused = |reason: String| Stop::Failed(Error::refused(show(name.as_bytes()), reason));
    let workdir = workdir(run);
    if name.contains('/') {
        let path = join(&workdir, name.as_bytes());
        return match walk::walk(files, &path)?.map(|w| (w.real, w.found)) {
            None => Err(refused(format!("there is no {} in the image", show(&path)))),
            Some((_, Found::Directory)) => Err(refused("is a directory, not a program".into())),
            Some((real, Found::File(file))) if file.mode & 0o111 != 0 => Ok((path, real, file)),
            Some((_, Found::File(_))) => Err(refused("is not executable: it has no x bit".into())),
            Some(_) => Err(refused("is no regular file".into())),
        };
    }
    let path = variable(run, "PATH").unwrap_or(PATH);
    let mut not_executable = None;
    if path.split(':').count() > PATHS_MAX {
        return Err(Stop::Failed(Error::refused("PATH", format!("names more than {PATHS_MAX} directories"))));
    }
    for dir in path.split(':') {
        // An empty part is the working directory.
        let at = join(&join(&workdir, dir.as_bytes()), name.as_bytes());
        match walk::file(files, &at)? {
            Some((real, file)) if file.mode & 0o111 != 0 => return Ok((at, real, file)),
            Some(_) => not_executable = not_executable.or(Some(at)),
            None => {}
        }
    }
    Err(refused(match not_executable {
        Some(at) => format!("{} is not executable: it has no x bit", show(&at)),
        None => format!("no such program in the image's PATH ({})", show(path.as_bytes())),
    }))
}
