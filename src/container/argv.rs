//! The argument vector of `podman run`, as a value.

use super::listing::{self, COMPONENT, RECORD, ROOT, SERVICE};
use crate::model::{Component, ComponentId};
use crate::supervise::Context;
use crate::sys::paths::{InstancePaths, Paths, Slot};
use sha2::{Digest, Sha256};
use std::path::Path;

/// What goes into the vector besides the component itself.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// Digest of the image, in hex.
    pub image: &'a str,
    /// The image's entry point, where it is to be run without arguments.
    pub entrypoint: Option<&'a [String]>,
    /// Names that the `env_file` sets: they win over `env`.
    pub secret_names: &'a [String],
}

/// The container's name in podman. Trees of different roots share one podman: theirs have a mark of the root.
pub fn name(paths: &Paths, id: &ComponentId) -> String {
    let name = format!("mcp.{}.{}", id.service, id.component);
    // `--root` puts both side by side; the system's places and a user's are apart.
    if paths.lib.parent() != paths.run.parent() {
        return name;
    }
    let hash = Sha256::digest(listing::root_label(paths));
    let mark: String = hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("{name}.{mark}")
}

/// Whether it has the node's own network: then nothing is forwarded.
pub fn is_on_host(component: &Component) -> bool {
    component.container.network.as_deref() == Some("host")
}

/// What podman is given.
pub fn argv(context: &Context<'_>, plan: &Plan<'_>) -> Vec<String> {
    let (component, id) = (context.component, context.id);
    let files = context.files().instance(Slot::C);
    let mut argv: Vec<String> = ["run", "--detach", "--pull=never"].map(String::from).into();
    let mut add = |option: &str, value: String| argv.extend([option.to_string(), value]);
    add("--name", name(context.paths, id));
    let labels = [
        (SERVICE, id.service.clone()),
        (COMPONENT, id.component.clone()),
        (RECORD, context.digest()),
        (ROOT, listing::root_label(context.paths)),
    ];
    for (key, value) in labels {
        add("--label", format!("{key}={value}"));
    }
    add("--log-driver", "k8s-file".into());
    add("--log-opt", field(&format!("path={}", files.console().display())));
    // We rotate it. conmon itself cuts a log off at its limit, which somebody's containers.conf may set.
    add("--log-opt", "max-size=1000tb".into());
    // What restarts it are its supervisor and init; what tells of its readiness is the supervisor.
    add("--restart", "no".into());
    add("--sdnotify", "ignore".into());
    // Its environment is what was said, whatever the node's is.
    argv.push("--http-proxy=false".into());
    argv.extend(of_component(component, plan, &files));
    if let Some(words) = component.entrypoint.as_deref().or(plan.entrypoint) {
        argv.extend(["--entrypoint".to_string(), serde_json::to_string(words).unwrap_or_default()]);
    }
    argv.push(plan.image.to_string());
    argv.extend(component.args.iter().flatten().cloned());
    argv
}

fn of_component(component: &Component, plan: &Plan<'_>, files: &InstancePaths) -> Vec<String> {
    let mut argv = Vec::new();
    let mut add = |option: &str, value: String| argv.extend([option.to_string(), value]);
    // For whoever stops it with podman.
    add("--stop-timeout", component.stop_timeout.as_millis().div_ceil(1000).to_string());
    if let Some(network) = &component.container.network {
        add("--network", network.clone());
    }
    if !is_on_host(component) {
        for port in &component.ports {
            add("--publish", format!("{}:{}/{}", port.host_addr(), port.guest, port.protocol.name()));
        }
    }
    if let Some(user) = &component.container.user {
        add("--user", user.clone());
    }
    if let Some(workdir) = &component.workdir {
        add("--workdir", workdir.clone());
    }
    if let Some(signal) = component.stop_signal {
        add("--stop-signal", signal.to_string());
    }
    for volume in &component.volumes {
        let options = volume.options.as_ref().map(|o| format!(":{o}")).unwrap_or_default();
        add("--volume", format!("{}:{}{options}", volume.name, volume.path));
    }
    for (name, value) in component.env.iter().filter(|(name, _)| !plan.secret_names.contains(name)) {
        add("--env", format!("{name}={value}"));
    }
    if !plan.secret_names.is_empty() {
        add("--env-file", path_field(&files.env()));
    }
    if component.tty {
        argv.push("--tty".into());
    }
    argv
}

fn path_field(path: &Path) -> String {
    field(&path.display().to_string())
}

/// One value of an option that podman reads as a line of comma-separated values.
fn field(value: &str) -> String {
    if value.contains([',', '"', '\n']) { format!("\"{}\"", value.replace('"', "\"\"")) } else { value.to_string() }
}
