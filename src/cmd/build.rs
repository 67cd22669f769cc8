//! `mcp-build`: make the bootable image from what was pulled.

mod gc;

use super::Common;
use crate::image::build::{self, Changes, Image};
use crate::model::{ComponentId, Digest, Node, Runtime, Source, Target, Volume, duration};
use crate::node::resolve::{self, Resolved};
use crate::node::{container_image, provide};
use crate::sys::error::EXIT_OK;
use crate::sys::paths::Paths;
use crate::sys::{Deadline, Error, Result, out};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a build may take where nobody says so: a large root on a slow disk.
const TIMEOUT: Duration = Duration::from_secs(1800);
/// The version of the JSON object.
const SCHEMA: u32 = 1;
/// A line of standard input, in bytes.
const LINE_MAX: u64 = 16 << 10;

const AFTER_HELP: &str = "\
Examples:
  mcp-build shop/api                              what mcp-pull shop/api brought
  mcp-pull oci:./out | mcp-build -                without any definition
  mcp-build --gc --dry-run                        what nobody needs any more

Exit codes: 0 all is there, 2 usage, 100 it can't be built, 111 try again.";

/// Make the bootable image from what was pulled
#[derive(Debug, clap::Parser)]
#[command(name = "mcp-build", version, after_help = AFTER_HELP)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// SERVICE or SERVICE/COMPONENT, a PATH that mcp-pull printed, or - for its lines on standard input
    #[arg(value_name = "WHAT", required_unless_present = "gc")]
    what: Vec<String>,
    /// What it is to run as: a check of what was pulled
    #[arg(long = "for", value_name = "RUNTIME", value_parser = ["unikernel", "microvm", "container"])]
    runtime: Option<String>,
    /// An argument of the program, in the place of the image's; may be repeated
    #[arg(long = "arg", value_name = "ARG", allow_hyphen_values = true)]
    args: Vec<String>,
    /// NAME=VALUE in the environment of the program; may be repeated
    #[arg(long = "env", short = 'e', value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// A named disk of a unikernel: NAME:/PATH[:SIZE]; may be repeated
    #[arg(long = "volume", value_name = "VOLUME", value_parser = Volume::parse_disk)]
    volumes: Vec<Volume>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// How long one build may take, and the wait for another who makes the same [default: 30m]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    timeout: Option<Duration>,
    /// Remove what no record and no running VM needs, until the store has its max_size
    #[arg(long, conflicts_with_all = ["what", "runtime", "args", "env", "volumes"])]
    gc: bool,
    /// Only tell what --gc would remove
    #[arg(long, requires = "gc")]
    dry_run: bool,
}

/// Runs the program and returns its exit code.
pub fn run(args: Args) -> Result<u8> {
    let changes = args.changes()?;
    let paths = Paths::find(args.common.root.as_deref())?;
    let node = resolve::node(&paths)?;
    if args.gc {
        return gc::run(&paths, &node, args.dry_run, args.json);
    }
    let job = Job { args: &args, paths: &paths, node: &node, answers: RefCell::default() };
    let mut worst = EXIT_OK;
    let mut done = |result: Result<()>| {
        if let Err(e) = result {
            super::report(super::program(), &e);
            worst = super::worse(worst, e.exit_code());
        }
    };
    for what in &args.what {
        if what == "-" {
            for line in lines(std::io::stdin().lock()) {
                let line = line?;
                match container_of(&line) {
                    Some((reference, manifest, id)) => done(job.container(reference, manifest, id, None)),
                    None => done(path_of(&line).and_then(|dir| job.path(&dir, &changes))),
                }
            }
        } else if is_path(what) {
            let dir = std::path::absolute(what).map_err(Error::path("resolve", Path::new(what)))?;
            done(job.path(&dir, &changes));
        } else {
            match job.components(what, &changes) {
                Ok(results) => results.into_iter().for_each(&mut done),
                Err(e) => done(Err(e)),
            }
        }
    }
    if args.json {
        out::print(format_args!("{}\n", json!({ "schema": SCHEMA, "builds": job.answers.take() })));
    }
    Ok(worst)
}

/// Names of services have neither dots nor a slash in front.
fn is_path(what: &str) -> bool {
    what.starts_with(['/', '.'])
}

impl Args {
    fn changes(&self) -> Result<Changes> {
        let mut changes = Changes { volumes: self.volumes.clone(), ..Changes::default() };
        changes.args = (!self.args.is_empty()).then(|| self.args.clone());
        for pair in &self.env {
            match pair.split_once('=') {
                Some((name, value)) if !name.is_empty() => {
                    changes.env.insert(name.to_string(), value.to_string());
                }
                _ => return Err(Error::Usage { what: format!("--env {pair:?}: not NAME=VALUE") }),
            }
        }
        Ok(changes)
    }
}

/// What all images of one call share.
struct Job<'a> {
    args: &'a Args,
    paths: &'a Paths,
    node: &'a Node,
    /// What is printed at the end, where that is JSON.
    answers: RefCell<Vec<Value>>,
}

impl Job<'_> {
    /// Builds the image in `dir`.
    fn path(&self, dir: &Path, changes: &Changes) -> Result<()> {
        let image = Image::read(dir)?;
        let is = image.pulled.runtime;
        if let Some(wanted) = self.args.runtime.as_deref().filter(|wanted| *wanted != name(is)) {
            let reason = format!("pulled for a {}; mcp-pull --for {wanted} {}", name(is), image.pulled.reference);
            return Err(Error::refused(dir.display(), reason));
        }
        self.image(&image, changes, None)
    }

    /// Builds the images of the components that `text` means.
    fn components(&self, text: &str, changes: &Changes) -> Result<Vec<Result<()>>> {
        if *changes != Changes::default() {
            let what = format!("{text}: its definition says how it runs; --arg, --env and --volume are for a PATH");
            return Err(Error::Usage { what });
        }
        let target = Target::parse(text)?;
        let (_, found) = resolve::components(self.paths, &target)?;
        Ok(found.iter().map(|one| self.component(one, target.component.is_some())).collect())
    }

    fn component(&self, one: &Resolved, asked_for: bool) -> Result<()> {
        let component = &one.component;
        let no_build = match &component.source {
            Source::Image { reference } => {
                let is = name(component.runtime);
                if let Some(wanted) = self.args.runtime.as_deref().filter(|wanted| *wanted != is) {
                    return Err(Error::refused(&one.id, format!("a {is}, its definition says, not a {wanted}")));
                }
                if component.runtime == Runtime::Container {
                    let version = provide::version_of(self.paths, self.node, &one.id, component.clone())?;
                    let Some(pin) = version.pin else { return Ok(()) };
                    return self.container(reference, &pin.manifest.to_string(), &pin.build, Some(&one.id));
                }
                let missing = || Error::refused(&one.id, format!("its image is not on this node; mcp-pull {}", one.id));
                let image = build::pulled(self.paths, component)?.ok_or_else(missing)?;
                return self.image(&image, &Changes::of(component)?, Some(&one.id));
            }
            _ => "has no image to build: it runs what is on this node",
        };
        if asked_for {
            return Err(Error::refused(&one.id, no_build));
        }
        super::report(super::program(), &Error::no(&one.id, no_build));
        Ok(())
    }

    /// Of a container there is nothing to build: podman runs its image, `id`.
    fn container(&self, reference: &str, manifest: &str, id: &str, component: Option<&ComponentId>) -> Result<()> {
        if let Some(wanted) = self.args.runtime.as_deref().filter(|wanted| *wanted != "container") {
            return Err(Error::refused(
                reference,
                format!("pulled for a container; mcp-pull --for {wanted} {reference}"),
            ));
        }
        let place = container_image::place(id);
        if self.args.json {
            self.answers.borrow_mut().push(json!({
                "reference": reference,
                "component": component.map(ToString::to_string),
                "runtime": "container",
                "manifest": manifest,
                "key": id,
                "path": place,
                "new": false,
            }));
        } else {
            out::print(format_args!("{id} {place}\n"));
            out::flush();
        }
        Ok(())
    }

    fn image(&self, image: &Image, changes: &Changes, component: Option<&ComponentId>) -> Result<()> {
        let deadline = Deadline::after(self.args.timeout.unwrap_or(TIMEOUT));
        // What is there starts nothing, no thread either.
        let done = match build::find(self.paths, self.node, image, changes)? {
            Some(done) => done,
            None => super::ticker::during("building", &image.pulled.reference, || {
                build::build(self.paths, self.node, image, changes, deadline)
            })?,
        };
        if self.args.json {
            self.answers.borrow_mut().push(json!({
                "reference": image.pulled.reference,
                "component": component.map(ToString::to_string),
                "runtime": name(image.pulled.runtime),
                "manifest": image.pulled.manifest,
                "key": done.key,
                "path": done.dir,
                "new": !done.hit,
            }));
        } else {
            out::print(format_args!("{} {}\n", done.key, done.dir.display()));
            // Whoever reads us in a pipeline can go on with this one.
            out::flush();
        }
        Ok(())
    }
}

fn name(runtime: Runtime) -> &'static str {
    match runtime {
        Runtime::Unikernel => "unikernel",
        Runtime::Microvm => "microvm",
        Runtime::Container => "container",
    }
}

/// Lines of bounded length.
fn lines(mut input: impl BufRead) -> impl Iterator<Item = Result<String>> {
    std::iter::from_fn(move || {
        let mut line = Vec::new();
        match input.by_ref().take(LINE_MAX + 1).read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) if line.len() as u64 > LINE_MAX => Some(Err(not_a_line(&line))),
            Ok(_) => Some(String::from_utf8(line).map_err(|e| not_a_line(e.as_bytes()))),
            Err(e) => Some(Err(Error::os("read", "standard input")(e))),
        }
    })
}

/// Reference, digest and image of a line that `mcp-pull` printed for a container.
fn container_of(line: &str) -> Option<(&str, &str, &str)> {
    let (rest, place) = line.trim_end_matches('\n').rsplit_once(' ')?;
    let (reference, manifest) = rest.rsplit_once(' ')?;
    let id = place.strip_prefix(container_image::STORAGE)?.strip_prefix(':')?;
    let valid = Digest::from_hex(id).is_some() && Digest::parse(manifest).is_ok();
    valid.then_some((reference, manifest, id))
}

/// The path in a line that `mcp-pull` printed: `REFERENCE DIGEST PATH`.
fn path_of(line: &str) -> Result<PathBuf> {
    let text = line.trim_end_matches('\n');
    // A reference of a directory and a path may have spaces in them; a digest looks like nothing else.
    let mut digests = text.match_indices(" sha256:");
    let path = digests.find_map(|(at, mark)| {
        let (digest, path) = text.get(at + mark.len()..)?.split_once(' ')?;
        (digest.len() == 64 && path.starts_with('/')).then(|| PathBuf::from(path))
    });
    path.ok_or_else(|| not_a_line(line.as_bytes()))
}

fn not_a_line(line: &[u8]) -> Error {
    let shown: String = String::from_utf8_lossy(line).chars().filter(|c| !c.is_control()).take(60).collect();
    Error::refused("standard input", format!("{shown:?} is not a line of mcp-pull: REFERENCE DIGEST PATH"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_mcp_pull() {
        let hex = "0a".repeat(32);
        let path = |line: &str| path_of(line).map(|p| p.display().to_string()).map_err(|e| e.to_string());
        assert_eq!(path(&format!("host/x:1 sha256:{hex} /a/b\n")), Ok("/a/b".into()));
        assert_eq!(path(&format!("oci:/a b sha256:x sha256:{hex} /c d/e")), Ok("/c d/e".into()));
        let line = format!("oci:/a b sha256:{hex} containers-storage:{hex}\n");
        assert_eq!(container_of(&line), Some(("oci:/a b", &*format!("sha256:{hex}"), &*hex)));
        for bad in [format!("x sha256:{hex} /a"), format!("x sha256:{hex} containers-storage:a"), "x".into()] {
            assert_eq!(container_of(&bad), None);
        }
        for bad in ["", "x", &format!("x sha256:{hex}"), &format!("x sha256:{hex} a"), "x sha256:12 /a"] {
            assert!(path(bad).unwrap_err().contains("is not a line of mcp-pull"), "{bad}");
        }
        let long = "x".repeat(20_000);
        assert!(lines(long.as_bytes()).next().unwrap().is_err());
        assert!(lines(&b"\xff\n"[..]).next().unwrap().is_err());
        assert_eq!(lines(&b"a\nb"[..]).map(|l| l.unwrap()).collect::<Vec<_>>(), ["a\n", "b"]);
    }
}
