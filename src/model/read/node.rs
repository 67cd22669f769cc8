//! `mcp.toml`.

use super::health::KINDS;
use super::{Item, Table, document};
use crate::model::init::INITS;
use crate::model::node::{Accel, Log, Microvm, Ops, Qemu, RegistryServer};
use crate::model::problem::quoted;
use crate::model::{HealthKind, Init, Node, Problem, node::Stage, reference};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The tables of the node config.
pub const NODE_KEYS: &[&str] = &["boot", "store", "qemu", "ops", "microvm", "podman", "log", "registry"];
/// The keys of `[boot]`.
pub const BOOT_KEYS: &[&str] = &["sequence", "init", "start_command", "stop_command"];
/// The keys of `[[boot.sequence]]`.
pub const STAGE_KEYS: &[&str] = &["name", "services", "timeout", "health"];
/// The keys of `[store]`.
pub const STORE_KEYS: &[&str] = &["max_size"];
/// The keys of `[qemu]`.
pub const QEMU_KEYS: &[&str] = &["binary", "accel", "machine", "uid_range", "extra_args"];
/// The keys of `[ops]`.
pub const OPS_KEYS: &[&str] = &["binary", "home", "nanos_version"];
/// The keys of `[microvm]`.
pub const MICROVM_KEYS: &[&str] = &["kernel", "modules"];
/// The keys of `[podman]`.
pub const PODMAN_KEYS: &[&str] = &["binary", "ignore"];
/// The keys of `[log]`.
pub const LOG_KEYS: &[&str] = &["max_size", "keep"];
/// The keys of `[registry."HOST"]`.
pub const REGISTRY_KEYS: &[&str] = &["ca", "cert", "key", "insecure", "auth_file", "mirrors"];

/// How long a stage waits when its definition doesn't say.
const STAGE_TIMEOUT: Duration = Duration::from_secs(60);
/// A log smaller than this would be rotated with each line.
const LOG_LEAST: u64 = 4096;
/// Users below belong to the system; 65534 and the last one of 32 bits mean "nobody" and "no change".
const UID_LEAST: u32 = 1000;

/// Reads the node config, the contents of `file`: all that could be read of it, with defaults for the rest, and all of
/// its problems in the order of the lines. Relative paths in it are relative to the folder of `file`.
pub fn parse_node(file: &Path, bytes: &[u8]) -> (Node, Vec<Problem>) {
    let (node, problems) = document(file, bytes, node);
    (node.unwrap_or_default(), problems)
}

fn node(top: &Table<'_>) -> Node {
    let mut node = Node::default();
    let tables: &[(&[&str], &str)] =
        &[(BOOT_KEYS, "[boot]"), (QEMU_KEYS, "[qemu]"), (LOG_KEYS, "[log]"), (STAGE_KEYS, "[[boot.sequence]]")];
    top.only(NODE_KEYS, tables);
    section(top, "boot", "[boot]", BOOT_KEYS, |t| boot(t, &mut node));
    section(top, "store", "[store]", STORE_KEYS, |t| {
        node.store_max_size = t.get("max_size").and_then(|i| i.size(1 << 20));
    });
    section(top, "qemu", "[qemu]", QEMU_KEYS, |t| qemu(t, &mut node.qemu));
    section(top, "ops", "[ops]", OPS_KEYS, |t| ops(t, &mut node.ops));
    section(top, "microvm", "[microvm]", MICROVM_KEYS, |t| {
        let path = |key| t.get(key).and_then(|i| i.path());
        node.microvm = Microvm { kernel: path("kernel"), modules: path("modules") };
    });
    section(top, "podman", "[podman]", PODMAN_KEYS, |t| {
        set(&mut node.podman, program(t));
        set(&mut node.podman_ignore, t.get("ignore").and_then(|i| i.strings()));
    });
    section(top, "log", "[log]", LOG_KEYS, |t| log(t, &mut node.log));
    node.registries = registries(top);
    node
}

fn section(
    top: &Table<'_>,
    key: &'static str,
    header: &str,
    keys: &'static [&'static str],
    read: impl FnOnce(&Table<'_>),
) {
    let Some(item) = top.get(key) else { return };
    let Some(table) = item.table(header) else { return };
    table.only(keys, &[]);
    read(&table);
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

fn program(t: &Table<'_>) -> Option<PathBuf> {
    t.get("binary").and_then(|i| i.program())
}

fn qemu(t: &Table<'_>, qemu: &mut Qemu) {
    set(&mut qemu.binary, program(t));
    let accels = [("auto", Accel::Auto), ("kvm", Accel::Kvm), ("tcg", Accel::Tcg)];
    set(&mut qemu.accel, t.get("accel").and_then(|i| i.choice(&accels)));
    qemu.machine = t.get("machine").and_then(|i| word(&i, "a machine type in quotes, like \"q35\"", "._,=-"));
    set(&mut qemu.uid_range, t.get("uid_range").and_then(|i| uid_range(&i)));
    set(&mut qemu.extra_args, t.get("extra_args").and_then(|i| i.strings()));
}

fn ops(t: &Table<'_>, ops: &mut Ops) {
    set(&mut ops.binary, program(t));
    ops.home = t.get("home").and_then(|i| i.path());
    ops.nanos_version = t.get("nanos_version").and_then(|i| word(&i, "a version in quotes, like \"0.1.54\"", "._-"));
}

fn log(t: &Table<'_>, log: &mut Log) {
    set(&mut log.max_size, t.get("max_size").and_then(|i| i.size(LOG_LEAST)));
    set(&mut log.keep, t.get("keep").and_then(|i| i.number(0..=1000, "a number of files")));
}

/// A word of letters, digits and `also`.
fn word(item: &Item<'_>, expected: &str, also: &str) -> Option<String> {
    let text = item.text(expected)?;
    if !text.chars().all(|c| c.is_ascii_alphanumeric() || also.contains(c)) {
        item.problem(format!("{} is not {expected}", quoted(text)));
        return None;
    }
    Some(text.to_string())
}

/// `[FIRST, LAST]`.
fn uid_range(item: &Item<'_>) -> Option<(u32, u32)> {
    let items = item.array("two user ids, [FIRST, LAST]")?;
    if items.len() != 2 {
        item.problem("expected two user ids, [FIRST, LAST]");
        return None;
    }
    let mut ids = items.map(|i| i.number(UID_LEAST..=u32::MAX - 1, "a user id"));
    let (first, last) = (ids.next().flatten(), ids.next().flatten());
    let (first, last) = (first?, last?);
    if first > last {
        item.problem(format!("the first, {first}, is above the last, {last}"));
        return None;
    }
    Some((first, last))
}

fn boot(t: &Table<'_>, node: &mut Node) {
    node.init = t.get("init").and_then(|i| i.choice(INITS));
    node.start_command = words(t, "start_command", "start").or(node.init.map(Init::start_words));
    node.stop_command = words(t, "stop_command", "stop").or(node.init.map(Init::stop_words));
    let Some(all) = t.get("sequence") else { return };
    let Some(items) = all.tables("[[boot.sequence]]") else { return };
    let mut names: HashMap<String, usize> = HashMap::new();
    let mut placed: HashMap<String, String> = HashMap::new();
    for item in items {
        let Some(table) = item.table("[[boot.sequence]]") else { continue };
        if let Some(stage) = stage(&table, &mut names, &mut placed) {
            node.stages.push(stage);
        }
    }
}

/// A command that does `what` with one component.
fn words(t: &Table<'_>, key: &'static str, what: &str) -> Option<Vec<String>> {
    let item = t.get(key)?;
    let words = item.strings()?;
    let names_one = |word: &String| ["{unit}", "{name}", "{id}"].iter().any(|place| word.contains(place));
    if words.first().is_none_or(String::is_empty) {
        item.problem("names no program");
    } else if !words.iter().any(names_one) {
        item.problem(format!("doesn't say which component to {what}: put {{unit}} in one of its words"));
    }
    Some(words)
}

/// One stage. `names`: the stages so far, and where; `placed`: the services so far, and in which stage.
fn stage(t: &Table<'_>, names: &mut HashMap<String, usize>, placed: &mut HashMap<String, String>) -> Option<Stage> {
    t.only(STAGE_KEYS, &[(&["init", "start_command", "stop_command"], "[boot]")]);
    let name_item = t.required(&["name"], "add name = \"…\"");
    let name = name_item.as_ref().and_then(|i| i.name());
    if let (Some(item), Some(name)) = (&name_item, name) {
        item.once(name, names, "stage");
    }
    let mut services = Vec::new();
    if let Some(all) = t.required(&["services"], "add services = [\"…\"]")
        && let Some(items) = all.array("an array of services, like [\"web\"]")
    {
        if items.len() == 0 {
            all.problem("is empty; name a service, or remove the stage");
        }
        for item in items {
            let Some(service) = item.name() else { continue };
            let here = name.unwrap_or("another");
            match placed.get(service) {
                Some(stage) if stage == here => item.problem(format!("{} is named twice", quoted(service))),
                Some(stage) => item.problem(format!("{} is in stage {} already", quoted(service), quoted(stage))),
                None => drop(placed.insert(service.to_string(), here.to_string())),
            }
            services.push(service.to_string());
        }
    }
    let timeout = t.get("timeout").map_or(Some(STAGE_TIMEOUT), |i| i.duration());
    let health = t.get("health").map_or(Some(HealthKind::Tcp), |i| i.choice(KINDS));
    Some(Stage { name: name?.to_string(), services, timeout: timeout?, health: health? })
}

fn registries(top: &Table<'_>) -> BTreeMap<String, RegistryServer> {
    let mut all = BTreeMap::new();
    let Some(item) = top.get("registry") else { return all };
    let Some(table) = item.table("[registry.\"HOST:PORT\"]") else { return all };
    for (host, item) in table.entries() {
        let nested = |t: &Table<'_>| t.entries().any(|(_, i)| i.value.get_ref().is_table());
        let Some(table) = item.table("[registry.\"HOST:PORT\"]") else { continue };
        if nested(&table) {
            item.problem("a host name with dots stands in quotes: [registry.\"host.example\"]");
            continue;
        }
        // A bare name is a host of the local network; in a reference it takes a port to be known as one.
        if !reference::is_host(host) && !reference::is_host(&format!("{host}:443")) {
            item.problem(format!("{} is not a registry's HOST[:PORT]", quoted(host)));
        }
        table.only(REGISTRY_KEYS, &[]);
        for (key, other, reason) in super::health::PAIR {
            if let Some(item) = table.get(key).filter(|_| !other.iter().all(|o| table.has(o))) {
                item.conflict(other, *reason);
            }
        }
        let server = RegistryServer {
            ca: table.get("ca").and_then(|i| i.path()),
            cert: table.get("cert").and_then(|i| i.path()),
            key: table.get("key").and_then(|i| i.path()),
            insecure: table.get("insecure").and_then(|i| i.bool()).unwrap_or(false),
            auth_file: table.get("auth_file").and_then(|i| i.path()),
            mirrors: table.get("mirrors").map(|i| mirrors(&i, host)).unwrap_or_default(),
        };
        all.insert(host.to_string(), server);
    }
    all
}

/// Mirrors of `host`.
fn mirrors(item: &Item<'_>, host: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for item in item.array("an array of HOST:PORT, like [\"mirror.example:5000\"]").into_iter().flatten() {
        let Some(mirror) = item.text("a mirror's HOST:PORT in quotes") else { continue };
        let (name, path) = mirror.split_once('/').map_or((mirror, None), |(name, path)| (name, Some(path)));
        if !reference::is_host(name) && !reference::is_host(&format!("{name}:443")) {
            item.problem(format!("{} is not a mirror's HOST[:PORT][/PATH]", quoted(mirror)));
        } else if path.is_some_and(|path| !reference::is_name(path)) {
            item.problem(format!("{}: its path is not the beginning of an image's name", quoted(mirror)));
        } else if mirror.eq_ignore_ascii_case(host) || all.iter().any(|m| m.eq_ignore_ascii_case(mirror)) {
            item.problem(format!("{} is asked anyway", quoted(mirror)));
        } else {
            all.push(mirror.to_string());
        }
    }
    all
}
