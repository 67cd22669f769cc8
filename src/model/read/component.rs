//! `[[components]]`.

use super::{HEALTH_KEYS, Item, SERVICE_KEYS, Table};
use crate::model::problem::quoted;
use crate::model::{
    Component, Egress, OnUnhealthy, Port, Restart, RootMode, Runtime, Source, Volume, health::Health, reference, signal,
};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The keys of `[[components]]`.
pub const COMPONENT_KEYS: &[&str] = &[
    "name",
    "runtime",
    "image",
    "disk",
    "kernel",
    "initrd",
    "cmdline",
    "rootfs",
    "memory_mb",
    "vcpus",
    "ports",
    "entrypoint",
    "args",
    "workdir",
    "env",
    "env_file",
    "egress",
    "volumes",
    "include",
    "restart",
    "stop_signal",
    "stop_timeout",
    "start_timeout",
    "settle",
    "tty",
    "root",
    "on_unhealthy",
    "oneshot",
    "network",
    "user",
    "health",
];

/// Memory of a VM in MiB. Less than 16 boots nothing; more than 1 TiB is a slip of the unit.
const MEMORY_MB: std::ops::RangeInclusive<u32> = 16..=1 << 20;

/// What a component can be made of.
const SOURCES: &[&str] = &["image", "disk", "rootfs", "kernel"];
/// Those, and what decides whether they fit.
const DECIDING: &[&str] = &["runtime", "image", "disk", "rootfs", "kernel"];

/// What Linux takes as a command line on x86, without its closing NUL.
const CMDLINE_MAX: usize = 2047;

/// The component, complete with defaults where nothing (or nothing good) was said.
pub(super) fn component(t: &Table<'_>, name: &str) -> Component {
    let elsewhere: &[(&[&str], &str)] = &[(SERVICE_KEYS, "the top of the file"), (HEALTH_KEYS, "[components.health]")];
    t.only(COMPONENT_KEYS, elsewhere);
    let runtime_item = t.get("runtime");
    let runtime = match &runtime_item {
        None => (!t.meant("runtime")).then_some(Runtime::Container),
        Some(item) => item.choice(&[
            ("unikernel", Runtime::Unikernel),
            ("microvm", Runtime::Microvm),
            ("container", Runtime::Container),
        ]),
    };
    // Said, not only the default: words about the way out differ.
    let said = runtime_item.is_some();
    let source = source(t, runtime, said);
    let mut c = Component::new(name, runtime.unwrap_or(Runtime::Container), source);
    wrong_runtime(t, runtime, said);
    let vm = runtime.is_some() && c.is_vm();

    if let Some(n) = t.get("memory_mb").and_then(|i| i.number(MEMORY_MB, "an amount of MiB")) {
        c.memory_mb = n;
    }
    if let Some(n) = t.get("vcpus").and_then(|i| i.number(1..=255, "a number of CPUs")) {
        c.vcpus = n;
    }
    let ports = match t.get("ports") {
        Some(item) => ports(&item, vm),
        None => (!t.meant("ports")).then(Vec::new),
    };
    if let Some(item) = t.get("args") {
        c.args = item.secret().strings();
    }
    c.entrypoint = t.get("entrypoint").and_then(|i| i.secret().strings());
    c.workdir = t.get("workdir").and_then(|i| workdir(&i));
    c.stop_signal = t.get("stop_signal").and_then(|i| stop_signal(&i));
    c.tty = t.get("tty").and_then(|i| i.bool()).unwrap_or_default();
    if let Some(item) = t.get("env") {
        c.env = env(&item);
    }
    c.env_file = t.get("env_file").and_then(|i| i.path());
    if let Some(e) = t.get("egress").and_then(|i| i.choice(&[("all", Egress::All), ("none", Egress::None)])) {
        c.egress = e;
    }
    if let Some(item) = t.get("volumes") {
        c.volumes = volumes(&item, runtime);
    }
    if let Some(item) = t.get("include") {
        c.include = include(&item);
    }
    let restarts = [("no", Restart::No), ("on-failure", Restart::OnFailure), ("always", Restart::Always)];
    if let Some(r) = t.get("restart").and_then(|i| i.choice(&restarts)) {
        c.restart = r;
    }
    if let Some(d) = t.get("stop_timeout").and_then(|i| i.duration()) {
        c.stop_timeout = d;
    }
    if let Some(d) = t.get("start_timeout").and_then(|i| i.duration()) {
        c.start_timeout = d;
    }
    if let Some(d) = t.get("settle").and_then(|i| i.duration_or_zero()) {
        c.settle = d;
    }
    let modes = [("ephemeral", RootMode::Ephemeral), ("persistent", RootMode::Persistent)];
    if let Some(r) = t.get("root").and_then(|i| i.choice(&modes)) {
        c.root = r;
    }
    let answers = [("none", OnUnhealthy::None), ("restart", OnUnhealthy::Restart)];
    if let Some(o) = t.get("on_unhealthy").and_then(|i| i.choice(&answers)) {
        c.on_unhealthy = o;
    }
    c.oneshot = t.get("oneshot").and_then(|i| i.bool()).unwrap_or(false);
    if let Some(item) = t.get("restart").filter(|_| c.oneshot && c.restart == Restart::Always) {
        item.conflict(&["oneshot"], "a one-shot is over when it has ended with 0");
    }
    for key in ["health", "on_unhealthy"] {
        if let Some(item) = t.get(key).filter(|_| c.oneshot) {
            item.conflict(&["oneshot"], "a one-shot has no check: it is ready when it has ended with 0");
        }
    }
    c.container.network = t.get("network").and_then(|i| podman_word(&i));
    c.container.user = t.get("user").and_then(|i| podman_word(&i));
    if let Some(item) = t.get("ports").filter(|_| c.container.network.as_deref() == Some("host"))
        && let Some(port) = ports.iter().flatten().find(|port| port.host != port.guest)
    {
        let shown = quoted(&port.to_string());
        item.conflict(
            &["network"],
            format!("{shown}: with the node's own network nothing is forwarded; both ports are one"),
        );
    }
    c.health = t.get("health").and_then(|i| read_health(&i, ports.as_deref(), vm));
    c.ports = ports.unwrap_or_default();
    c
}

fn read_health(item: &Item<'_>, ports: Option<&[Port]>, vm: bool) -> Option<Health> {
    let table = item.table("[components.health]")?;
    Some(super::health::health(&table, ports, vm))
}

/// Refuses keys that this runtime, or this kind of guest, would silently ignore.
fn wrong_runtime(t: &Table<'_>, runtime: Option<Runtime>, said: bool) {
    let refuse = |keys: &[&str], reason: &str| {
        for item in keys.iter().filter_map(|k| t.get(k)) {
            item.conflict(DECIDING, reason);
        }
    };
    match runtime {
        Some(Runtime::Container) => {
            let keys = ["memory_mb", "vcpus", "egress", "root"];
            if said {
                refuse(&keys, "is for VMs, and this is a container");
            } else {
                refuse(&keys, "is for VMs, and this is a container; set runtime to \"unikernel\" or \"microvm\"");
            }
        }
        Some(_) => refuse(&["network"], "is for containers; a VM has a network of its own, see egress"),
        None => {}
    }
    if runtime == Some(Runtime::Unikernel) {
        refuse(&["user"], "is for microvms and containers; a unikernel has no users");
        refuse(&["tty"], "is for microvms and containers; a unikernel writes to its console");
        refuse(
            &["stop_signal"],
            "is for microvms and containers; Nanos sends SIGTERM to the program of a unikernel, and no other signal",
        );
    }
    if t.has("image") || t.has("rootfs") {
        return;
    }
    if t.has("disk") {
        let reason = "a disk brings its own; this goes with image or rootfs";
        refuse(&["args", "entrypoint", "workdir", "env", "env_file", "include"], reason);
        if runtime == Some(Runtime::Microvm) {
            refuse(&["user", "stop_signal", "tty"], reason);
        }
    } else if t.has("kernel") {
        let reason = "a kernel alone takes only a cmdline; this goes with image or rootfs";
        refuse(&["args", "entrypoint", "workdir", "env", "env_file", "include"], reason);
        if runtime == Some(Runtime::Microvm) {
            refuse(&["user", "stop_signal", "tty"], reason);
        }
        if t.get("root").is_some() && runtime != Some(Runtime::Container) {
            refuse(&["root"], "a kernel alone has no root disk");
        }
    }
}

fn source(t: &Table<'_>, runtime: Option<Runtime>, said: bool) -> Source {
    let nothing = || Source::Image { reference: String::new() };
    let given: Vec<&str> = SOURCES.iter().copied().filter(|k| t.has(k)).collect();
    match given.as_slice() {
        [] => {
            for key in ["initrd", "cmdline"] {
                if let Some(item) = t.get(key) {
                    item.conflict(DECIDING, "goes with kernel, which is missing");
                    return nothing();
                }
            }
            let reason = "names nothing to run; add image, or for a VM disk, kernel or rootfs";
            t.missing(SOURCES, reason);
            return nothing();
        }
        [_] | ["disk", "kernel"] => {}
        [_, second, ..] => {
            let (second, first) = (if given.starts_with(&["disk", "kernel"]) { &given[2] } else { second }, given[0]);
            if let Some(item) = t.get(second) {
                item.conflict(
                    DECIDING,
                    format!("a component has one source, and {first} is there too; keep one of them"),
                );
            }
            return nothing();
        }
    }
    if !t.has("kernel") || t.has("disk") {
        for item in ["initrd", "cmdline"].iter().filter_map(|k| t.get(k)) {
            item.conflict(DECIDING, "goes with a kernel that boots without a disk");
        }
    }
    let path = |key: &str| t.get(key).and_then(|i| i.path());
    let container = runtime == Some(Runtime::Container);
    let refuse = |key: &str| {
        if let Some(item) = t.get(key).filter(|_| container) {
            let so = if said { "this is a container" } else { "runtime is \"container\" unless said otherwise" };
            item.conflict(DECIDING, format!("is for VMs, and {so}; set runtime to \"unikernel\" or \"microvm\""));
        }
    };
    if let Some(item) = t.get("image") {
        return match image(&item) {
            Some(reference) => Source::Image { reference },
            None => nothing(),
        };
    }
    if t.has("disk") {
        refuse("disk");
        let kernel = path("kernel");
        return path("disk").map_or_else(nothing, |disk| Source::Disk { disk, kernel });
    }
    if let Some(item) = t.get("rootfs") {
        if runtime.is_some_and(|r| r != Runtime::Microvm) {
            item.conflict(DECIDING, "is for microvms; set runtime to \"microvm\"");
        }
        return path("rootfs").map_or_else(nothing, |rootfs| Source::Rootfs { rootfs });
    }
    refuse("kernel");
    let initrd = path("initrd");
    let cmdline = t.get("cmdline").and_then(|i| cmdline(&i));
    path("kernel").map_or_else(nothing, |kernel| Source::Kernel { kernel, initrd, cmdline })
}

fn image(item: &Item<'_>) -> Option<String> {
    let text = item.text("an image reference in quotes")?;
    reference::resolve(text, item.reader.base).map_err(|reason| item.problem(reason)).ok()
}

fn cmdline(item: &Item<'_>) -> Option<String> {
    let text = item.any_str("a kernel command line in quotes")?;
    if text.len() > CMDLINE_MAX {
        item.problem(format!("is longer than {CMDLINE_MAX} bytes, which is all that Linux takes"));
    } else if text.chars().any(char::is_control) {
        item.problem("has control characters in it");
    }
    Some(text.to_string())
}

/// `None` when one of them could not be read.
fn ports(item: &Item<'_>, vm: bool) -> Option<Vec<Port>> {
    let items = item.array("an array of ports, like [\"8080:80\"]")?;
    let count = items.len();
    let mut ports = Vec::with_capacity(count);
    for item in items {
        let Some(text) = item.any_str("a port like \"8080:80\"") else { continue };
        match Port::parse(text) {
            Ok(port) if vm && port.bind.is_ipv6() => item.conflict(
                &["runtime"],
                format!("{}: an IPv6 bind is for containers only; the network of a VM forwards IPv4", quoted(text)),
            ),
            Ok(port) => ports.push(port),
            Err(reason) => item.problem(reason),
        }
    }
    (ports.len() == count).then_some(ports)
}

fn env(item: &Item<'_>) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    let Some(table) = item.table("env = { NAME = \"value\" }") else { return env };
    for (name, value) in table.entries() {
        let start = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
        if !start || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)) {
            value.problem(format!(
                "{} is not the name of a variable: a letter or '_', then letters, digits, '_', '.', '-'",
                quoted(name)
            ));
            continue;
        }
        if let Some(text) = value.secret().any_str("a string") {
            env.insert(name.to_string(), text.to_string());
        }
    }
    env
}

fn volumes(item: &Item<'_>, runtime: Option<Runtime>) -> Vec<Volume> {
    let mut volumes: Vec<Volume> = Vec::new();
    let Some(items) = item.array("an array of volumes, like [\"data:/srv\"]") else { return volumes };
    for item in items {
        let Some(text) = item.any_str("a volume like \"data:/srv\"") else { continue };
        let parsed = match runtime {
            Some(Runtime::Container) => Volume::parse_mount(text, item.reader.base),
            Some(_) => Volume::parse_disk(text),
            // With no known runtime there is no telling what it should be.
            None => continue,
        };
        match parsed {
            Err(reason) => item.conflict(&["runtime"], reason),
            Ok(v) if volumes.iter().any(|other| other.path == v.path) => {
                item.problem(format!("{}: {} has a volume already", quoted(text), v.path));
            }
            // A disk has one writer and is mounted once; podman mounts a volume as often as one likes.
            Ok(v) if runtime != Some(Runtime::Container) && volumes.iter().any(|other| other.name == v.name) => {
                item.problem(format!("{}: the disk \"{}\" is mounted already", quoted(text), v.name));
            }
            Ok(v) => volumes.push(v),
        }
    }
    volumes
}

fn include(item: &Item<'_>) -> Vec<String> {
    let Some(items) = item.array("an array of paths, like [\"/etc/ssl/certs\"]") else { return Vec::new() };
    let mut paths = Vec::with_capacity(items.len());
    for item in items {
        let Some(text) = item.text("a path in quotes") else { continue };
        if !text.starts_with('/') || PathBuf::from(text).components().any(|c| c.as_os_str() == "..") {
            item.problem(format!("{} is not an absolute path within the image", quoted(text)));
        }
        paths.push(text.to_string());
    }
    paths
}

fn workdir(item: &Item<'_>) -> Option<String> {
    let text = item.text("a path in quotes")?;
    if !text.starts_with('/') {
        item.problem(format!("{} is not an absolute path within the image", quoted(text)));
    }
    Some(text.to_string())
}

fn stop_signal(item: &Item<'_>) -> Option<i32> {
    let text = item.text("a signal in quotes, like \"SIGQUIT\"")?;
    let number = signal::parse(text);
    if number.is_none() {
        item.problem(format!("{} is not a signal; write one like \"SIGQUIT\" or \"SIGRTMIN+3\"", quoted(text)));
    }
    number
}

/// A value for an option of podman's: no spaces, and nothing that would be an option itself.
fn podman_word(item: &Item<'_>) -> Option<String> {
    let text = item.text("a string")?;
    if text.starts_with('-') || text.contains(char::is_whitespace) {
        item.problem(format!("{} begins with '-' or has spaces in it", quoted(text)));
    }
    Some(text.to_string())
}
