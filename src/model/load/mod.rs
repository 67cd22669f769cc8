//! From the files of a node to checked values: the node config and its services.
//!
//! One bad file does not hide the others: what is good is there, and the problems of the rest with it.

use super::read::{Step, line_at, parse_node, parse_service};
use super::{Component, ComponentId, Node, Port, Problem, Protocol, Service, Target, name, problem, suggest};
use crate::sys::error::os_reason;
use crate::sys::paths::Paths;
use crate::sys::{Error, Result, file};
use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// No configuration of ours comes near this many bytes.
pub const FILE_MAX: u64 = 1 << 20;

/// What the files say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Loaded {
    /// The node config; what could not be read of it has its default.
    pub node: Node,
    /// The services whose definitions are good, by name.
    pub services: Vec<Service>,
    /// Names of the services whose definitions are not, sorted.
    pub broken: Vec<String>,
    /// What is wrong, in the order of files and lines: the node config, then the services, then what shows only when
    /// all are compared.
    pub problems: Vec<Problem>,
    /// Whether nothing can be started: the node config or the folder of definitions can't be used. What runs can be
    /// listed, checked and stopped all the same.
    pub bars_starts: bool,
    /// Files beside the definitions that were probably meant to be some, and are not read. They are no problems.
    pub notes: Vec<Problem>,
}

impl Loaded {
    /// The service of that name, if its definition is there and good.
    pub fn service(&self, name: &str) -> Option<&Service> {
        let at = self.services.binary_search_by(|s| s.name.as_str().cmp(name)).ok()?;
        self.services.get(at)
    }

    /// Every component of the good services.
    pub fn components(&self) -> impl Iterator<Item = (ComponentId, &Service, &Component)> {
        self.services.iter().flat_map(|s| s.components.iter().map(move |c| (id(s, c), s, c)))
    }

    /// Itself when nothing is wrong, else all that is as [`Error::Definitions`].
    pub fn whole(self) -> Result<Loaded> {
        problem::unless(self.problems.clone(), self)
    }

    /// Itself where good services can be started, whatever is wrong with others; else all problems as
    /// [`Error::Definitions`].
    pub fn startable(self) -> Result<Loaded> {
        if self.bars_starts { self.whole() } else { Ok(self) }
    }

    /// The problems of the definition of `service`.
    pub fn problems_of(&self, service: &str) -> impl Iterator<Item = &Problem> {
        let is_its = move |p: &&Problem| p.file.file_stem().is_some_and(|s| s == service);
        self.problems.iter().filter(is_its)
    }

    /// The problems that matter for `targets`: those of the node config and of their definitions; all when there are none.
    pub fn problems_for(&self, paths: &Paths, targets: &[Target]) -> Vec<Problem> {
        let of = |p: &Problem, t: &Target| p.file.file_stem().is_some_and(|s| s == t.service.as_str());
        let matters = |p: &&Problem| targets.is_empty() || p.file == paths.config || targets.iter().any(|t| of(p, t));
        self.problems.iter().filter(matters).cloned().collect()
    }
}

fn id(service: &Service, component: &Component) -> ComponentId {
    ComponentId { service: service.name.clone(), component: component.name.clone() }
}

/// The components that `target` means. An unknown service or component is an error that names those there are; a
/// service whose definition is bad is its problems.
pub fn find<'l>(loaded: &'l Loaded, target: &Target) -> Result<Vec<(ComponentId, &'l Component)>> {
    let Some(service) = loaded.service(&target.service) else {
        if loaded.broken.contains(&target.service) {
            return Err(loaded.problems_of(&target.service).cloned().collect::<Vec<_>>().into());
        }
        let names = loaded.services.iter().map(|s| s.name.as_str()).chain(loaded.broken.iter().map(String::as_str));
        return Err(no_such("service", &target.service, &names.collect::<Vec<_>>()));
    };
    let found: Vec<_> = service
        .components
        .iter()
        .filter(|c| target.component.as_ref().is_none_or(|name| *name == c.name))
        .map(|c| (id(service, c), c))
        .collect();
    if found.is_empty() {
        let names: Vec<&str> = service.components.iter().map(|c| c.name.as_str()).collect();
        return Err(no_such("component", &target.to_string(), &names));
    }
    Ok(found)
}

fn no_such(what: &str, object: &str, names: &[&str]) -> Error {
    let word = object.rsplit('/').next().unwrap_or_default();
    Error::refused(object, format!("no such {what}{}", suggest::hint(word, names.iter().copied())))
}

/// Reads the whole node: `mcp.toml` and all definitions, compared with each other. A folder of definitions that can't be
/// read is a problem like others.
pub fn load(paths: &Paths) -> Loaded {
    let mut loaded = Loaded::default();
    (loaded.node, loaded.problems) = load_node(paths);
    loaded.bars_starts = !loaded.problems.is_empty();
    let names = definitions(paths).unwrap_or_else(|problem| {
        loaded.problems.push(problem);
        loaded.bars_starts = true;
        Listed::default()
    });
    loaded.notes = names.near_misses.iter().map(|name| near_miss(&paths.services.join(name))).collect();
    for name in names.definitions {
        if !take(&mut loaded, paths, &name) && name.contains(char::REPLACEMENT_CHARACTER) {
            loaded.problems.push(Problem::of_file(&paths.services.join(&name), "the file's name is not UTF-8"));
        }
    }
    loaded.problems.extend(clashes(&loaded));
    let unknown = unknown_stages(paths, &loaded);
    loaded.bars_starts |= !unknown.is_empty();
    loaded.problems.extend(unknown);
    loaded
}

/// The node config and one service, all of it good: the short way for programs that work on one. A service without a
/// definition is an error.
pub fn load_service(paths: &Paths, name: &str) -> Result<(Node, Service)> {
    match try_service(paths, name)? {
        Some(both) => Ok(both),
        None => Err(no_definition(paths, name)),
    }
}

/// The same; `None` when there is no definition, as for what was started ad hoc.
pub fn try_service(paths: &Paths, name: &str) -> Result<Option<(Node, Service)>> {
    let loaded = load_one(paths, name);
    if loaded.services.is_empty() && loaded.broken.is_empty() {
        return Ok(None);
    }
    let mut loaded = loaded.whole()?;
    Ok(loaded.services.pop().map(|service| (loaded.node, service)))
}

/// The node config and one service, with the problems of both. Without a definition it is in neither list of services.
pub fn load_one(paths: &Paths, name: &str) -> Loaded {
    let mut loaded = Loaded::default();
    (loaded.node, loaded.problems) = load_node(paths);
    loaded.bars_starts = !loaded.problems.is_empty();
    if name::is_valid(name) {
        take(&mut loaded, paths, &format!("{name}.toml"));
    }
    loaded
}

/// The node config, with defaults where there is none or where it could not be read, and its problems.
pub fn load_node(paths: &Paths) -> (Node, Vec<Problem>) {
    match read(&paths.config) {
        Ok(Some(bytes)) => parse_node(&paths.config, &bytes),
        Ok(None) => (Node::default(), Vec::new()),
        Err(problem) => (Node::default(), vec![problem]),
    }
}

/// Reads one definition into `loaded`; false when it is not there.
fn take(loaded: &mut Loaded, paths: &Paths, file_name: &str) -> bool {
    let path = paths.services.join(file_name);
    let result = match read(&path) {
        Ok(None) if path.is_symlink() => Err(vec![Problem::of_file(&path, "a link to nothing")]),
        Ok(None) => return false,
        Ok(Some(bytes)) => parse_service(&path, &bytes),
        Err(problem) => Err(vec![problem]),
    };
    match result {
        Ok(service) => loaded.services.push(service),
        Err(problems) => {
            let stem = file_name.strip_suffix(".toml").unwrap_or(file_name);
            if name::is_valid(stem) {
                loaded.broken.push(stem.to_string());
            }
            loaded.problems.extend(problems);
        }
    }
    true
}

fn read(path: &Path) -> std::result::Result<Option<Vec<u8>>, Problem> {
    file::read_regular(path, FILE_MAX).map_err(|e| unreadable(path, e))
}

fn unreadable(path: &Path, error: Error) -> Problem {
    let reason = match error {
        Error::Os { action, source, .. } => format!("{action}: {}", os_reason(&source)),
        Error::Refused { reason, .. } => reason,
        other => other.to_string(),
    };
    Problem::of_file(path, reason)
}

/// The names of the files in the folder of definitions.
#[derive(Default)]
struct Listed {
    /// Sorted by service.
    definitions: Vec<String>,
    /// Those that look like a definition and are none, by their ending.
    near_misses: Vec<String>,
}

/// File names of all definitions. Hidden files and those of another ending are none.
fn definitions(paths: &Paths) -> std::result::Result<Listed, Problem> {
    let dir = &paths.services;
    if dir.to_str().is_none() {
        // Records are JSON, which has no way to write such a path.
        return Err(Problem::of_file(dir, "the path is not UTF-8; use another folder"));
    }
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Listed::default()),
        Err(e) => return Err(unreadable(dir, Error::path("open", dir)(e))),
    };
    let mut listed = Listed::default();
    for entry in entries {
        let name = entry.map_err(|e| unreadable(dir, Error::path("read", dir)(e)))?.file_name();
        // One that isn't UTF-8 keeps an odd character, isn't found under it, and could be no service anyway.
        let name = name.to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        if name.ends_with(".toml") {
            listed.definitions.push(name);
        } else if is_near_miss(&name) {
            listed.near_misses.push(name);
        }
    }
    listed.definitions.sort_unstable_by(|a, b| stem(a).cmp(stem(b)));
    listed.near_misses.sort_unstable();
    Ok(listed)
}

/// Whether the name has an ending that is easily taken for `.toml`: as other systems or hasty fingers write it. Copies that
/// editors and packages leave (`shop.toml.bak`, `shop.toml~`) have none.
fn is_near_miss(file_name: &str) -> bool {
    let lower = file_name.to_ascii_lowercase();
    [".toml", ".toml.txt", ".tml", ".tom", ".toml "].iter().any(|ending| lower.ends_with(ending))
}

fn near_miss(path: &Path) -> Problem {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let service = name.find(".t").and_then(|at| name.get(..at)).unwrap_or(&name);
    Problem::of_file(path, format!("not read: the name of a definition ends in .toml; rename it to {service}.toml"))
}

fn stem(file_name: &str) -> &str {
    file_name.strip_suffix(".toml").unwrap_or(file_name)
}

fn no_definition(paths: &Paths, name: &str) -> Error {
    let names = definitions(paths).unwrap_or_default().definitions;
    let names: Vec<&str> = names.iter().map(|n| stem(n)).collect();
    let file: PathBuf = paths.services.join(format!("{name}.toml"));
    let hint = suggest::hint(name, names.iter().copied());
    Error::refused(name, format!("no such service: {} is not there{hint}", file.display()))
}

/// Host ports that components of two active services want. Within a file its reader has found them.
fn clashes(loaded: &Loaded) -> Vec<Problem> {
    struct Taken<'l> {
        service: &'l Service,
        component: usize,
        index: usize,
        port: Port,
    }
    let mut taken: HashMap<(Protocol, u16), Vec<Taken<'_>>> = HashMap::new();
    let mut problems = Vec::new();
    let mut texts = Texts::default();
    for service in loaded.services.iter().filter(|s| s.active) {
        for (number, component) in service.components.iter().enumerate() {
            for (index, port) in component.ports.iter().enumerate() {
                let same = taken.entry((port.protocol, port.host)).or_default();
                let other = same.iter().find(|t| t.port.clashes(port) && t.service.name != service.name);
                if let Some(other) = other {
                    let steps = |component, index| {
                        [Step::Key("components"), Step::Index(component), Step::Key("ports"), Step::Index(index)]
                    };
                    let of = other.service.components.get(other.component).map_or("?", |c| c.name.as_str());
                    let mut at = other.service.file.display().to_string();
                    let line = texts.line(&other.service.file, &steps(other.component, other.index));
                    if line > 0 {
                        at.push_str(&format!(":{line}"));
                    }
                    problems.push(Problem {
                        file: service.file.clone(),
                        line: texts.line(&service.file, &steps(number, index)),
                        key: format!("components.{}.ports[{index}]", component.name),
                        reason: format!(
                            "{}/{} on the node is taken by {}/{of} ({at}); change one, or set one service's active = false",
                            port.host_addr(),
                            port.protocol.name(),
                            other.service.name,
                        ),
                    });
                }
                same.push(Taken { service, component: number, index, port: *port });
            }
        }
    }
    problems
}

/// Services of boot stages that have no definition.
fn unknown_stages(paths: &Paths, loaded: &Loaded) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut texts = Texts::default();
    for service in loaded.node.stages.iter().flat_map(|s| &s.services) {
        if loaded.service(service).is_some() || loaded.broken.contains(service) {
            continue;
        }
        let names = loaded.services.iter().map(|s| s.name.as_str());
        let (line, key) = texts.stage(&paths.config, service);
        let reason = format!(
            "no such service: {} is not there{}",
            paths.services.join(format!("{service}.toml")).display(),
            suggest::hint(service, names)
        );
        problems.push(Problem { file: paths.config.clone(), line, key, reason });
    }
    problems
}

/// Files read once more to find the lines of a problem. Readers keep no lines: good files, the usual ones, need none.
#[derive(Default)]
struct Texts {
    files: HashMap<PathBuf, String>,
}

impl Texts {
    fn text(&mut self, file: &Path) -> &str {
        self.files.entry(file.to_path_buf()).or_insert_with(|| {
            read(file).ok().flatten().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
        })
    }

    /// 0 when the file has changed since.
    fn line(&mut self, file: &Path, steps: &[Step<'_>]) -> usize {
        line_at(self.text(file), steps).unwrap_or(0)
    }

    /// Line and key of the stage entry that names `service`.
    fn stage(&mut self, file: &Path, service: &str) -> (usize, String) {
        super::read::stage_entry(self.text(file), service).unwrap_or((0, "boot.sequence".into()))
    }
}

#[cfg(test)]
mod tests;
