//! Which containers there are: by one `podman ps`, however many.

use super::podman::{Podman, QUESTION};
use crate::model::ComponentId;
use crate::model::name;
use crate::sys::paths::Paths;
use crate::sys::{Deadline, Result};
use serde::Deserialize;
use std::collections::BTreeMap;

/// The label that names our service.
pub const SERVICE: &str = "mcp.service";
/// The label that names the component in it.
pub const COMPONENT: &str = "mcp.component";
/// The label with the digest of what it was started from.
pub const RECORD: &str = "mcp.record";
/// The label that tells one mcp's containers from another's: its lasting state's folder.
pub const ROOT: &str = "mcp.root";

/// One container, as `podman ps --all --format json` lists it. What is missing is as if it were empty: only the id must be
/// there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Listed {
    /// Its id, in hex.
    pub id: String,
    /// Its names; the first counts.
    #[serde(deserialize_with = "or_empty")]
    pub names: Vec<String>,
    /// What it runs.
    #[serde(deserialize_with = "or_empty")]
    pub command: Vec<String>,
    /// The image's name.
    pub image: String,
    /// The image's digest, in hex.
    #[serde(rename = "ImageID")]
    pub image_id: String,
    /// Its labels; ours among them.
    #[serde(deserialize_with = "or_empty")]
    pub labels: BTreeMap<String, String>,
    /// `created`, `running`, `paused`, `exited`, …
    pub state: String,
    /// Process id of its first process; 0: it doesn't run.
    pub pid: i32,
    /// When it was made: Unix time in seconds.
    pub created: i64,
    /// Unix time in seconds.
    pub started_at: i64,
    /// Unix time in seconds.
    pub exited_at: i64,
    /// What it ended with.
    pub exit_code: i32,
    /// Whether it only holds a pod's namespaces.
    pub is_infra: bool,
    /// Its published ports.
    #[serde(deserialize_with = "or_empty")]
    pub ports: Vec<ListedPort>,
}

/// A published port.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct ListedPort {
    /// Address on the node; empty: all.
    pub host_ip: String,
    /// Port on the node.
    pub host_port: u16,
    /// Port in the container.
    pub container_port: u16,
    /// How many in a row.
    pub range: u16,
    /// `tcp`, `udp`, …
    pub protocol: String,
}

/// Where podman writes null for nothing.
pub(super) fn or_empty<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(
    from: D,
) -> std::result::Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

impl Listed {
    /// The component that it is of, by its labels; `None`: it is none of ours, or another mcp's.
    pub fn of(&self, paths: &Paths) -> Option<ComponentId> {
        component_of(&self.labels, paths)
    }

    /// Its name in podman; where it has none, its id.
    pub fn name(&self) -> &str {
        self.names.first().unwrap_or(&self.id)
    }

    /// Whether some mcp started it.
    pub fn is_some_mcps(&self) -> bool {
        self.labels.contains_key(ROOT)
    }

    /// Digest of what it was started from.
    pub fn record(&self) -> Option<&str> {
        self.labels.get(RECORD).map(String::as_str)
    }

    /// Whether it is that name's storage and nothing more. Storage that buildah has made is somebody's work.
    fn is_remains_of(&self, name: &str) -> bool {
        self.state == "storage" && self.command == ["storage"] && self.names == [name]
    }

    /// Whether it runs (or is paused: its processes are there).
    pub fn is_running(&self) -> bool {
        matches!(self.state.as_str(), "running" | "paused" | "stopping")
    }
}

/// The component that these labels name; `None`: none of ours, or another mcp's.
pub(super) fn component_of(labels: &BTreeMap<String, String>, paths: &Paths) -> Option<ComponentId> {
    let is_ours = labels.get(ROOT).is_some_and(|root| *root == root_label(paths));
    let (service, component) = (labels.get(SERVICE)?, labels.get(COMPONENT)?);
    let valid = is_ours && name::is_valid(service) && name::is_valid(component);
    valid.then(|| ComponentId { service: service.clone(), component: component.clone() })
}

/// What [`ROOT`] is on this node.
pub fn root_label(paths: &Paths) -> String {
    paths.lib.display().to_string()
}

/// All containers that podman knows.
pub fn list(podman: &Podman) -> Result<Vec<Listed>> {
    list_by(podman, Deadline::after(QUESTION))
}

/// The same, with as much patience as the caller has.
pub fn list_by(podman: &Podman, deadline: Deadline) -> Result<Vec<Listed>> {
    podman.ask_json("podman", ["ps", "--all", "--format", "json"], deadline)
}

/// Those of one component, whatever state they are in.
pub fn of_component(podman: &Podman, paths: &Paths, id: &ComponentId) -> Result<Vec<Listed>> {
    let filter = |key: &str, value: &str| format!("label={key}={value}");
    let filters = [filter(ROOT, &root_label(paths)), filter(SERVICE, &id.service), filter(COMPONENT, &id.component)];
    let mut args = vec!["ps", "--all", "--format", "json"];
    for filter in &filters {
        args.extend(["--filter", filter]);
    }
    let listed: Vec<Listed> = podman.ask_json(&id.to_string(), args, Deadline::after(QUESTION))?;
    Ok(listed.into_iter().filter(|l| l.of(paths).as_ref() == Some(id)).collect())
}

/// The storage that a podman which was killed midway of a start has left under that name, by its id: nothing else is known
/// of it, no label either.
pub fn remains(podman: &Podman, name: &str) -> Result<Option<String>> {
    let filter = format!("name={name}");
    let args = ["ps", "--all", "--external", "--format", "json", "--filter", &filter];
    let listed: Vec<Listed> = podman.ask_json(name, args, Deadline::after(QUESTION))?;
    Ok(listed.into_iter().find(|l| l.is_remains_of(name)).map(|l| l.id))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::path::Path;

    /// As podman 4.3 prints it, shortened.
    const ANSWER: &str = r#"[{"AutoRemove": false, "Command": ["/bin/sh"], "CreatedAt": "Less than a second ago", "Exited": false,
        "ExitedAt": -62135596800, "ExitCode": 0, "Id": "89b6280a664a", "Image": "localhost/loop:1", "ImageID": "c0c682b28e7d",
        "IsInfra": false, "Labels": {"mcp.service": "shop", "mcp.component": "api", "mcp.root": "/r/lib", "mcp.record": "ab"},
        "Mounts": [], "Names": ["mcp.shop.api"], "Namespaces": {}, "Networks": [], "Pid": 9032, "Pod": "", "PodName": "",
        "Ports": null, "Size": null, "StartedAt": 1795419175, "State": "running", "Status": "Up", "Created": 1795419174},
        {"Id": "77", "Names": ["mcp.shop.api"], "Labels": null, "Ports": [{"host_ip": "", "container_port": 80,
        "host_port": 8080, "range": 1, "protocol": "tcp"}], "State": "exited", "ExitCode": 3}]"#;

    #[test]
    fn ours_are_known_by_labels_never_by_name() {
        let listed: Vec<Listed> = serde_json::from_str(ANSWER).unwrap();
        let of = |root: &str| listed.iter().map(|l| l.of(&Paths::under(Path::new(root)))).collect::<Vec<_>>();
        let id = ComponentId { service: "shop".into(), component: "api".into() };
        assert_eq!(of("/r"), [Some(id), None]);
        assert_eq!(of("/other"), [None, None]);
        assert_eq!(listed.iter().map(Listed::is_running).collect::<Vec<_>>(), [true, false]);
        assert_eq!(listed.iter().map(|l| l.ports.len()).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn only_podmans_own_remains_of_that_very_name() {
        let is = |command: &str, names: &str, state: &str| {
            let text = format!(r#"{{"Id": "1", "Command": {command}, "Names": {names}, "State": "{state}"}}"#);
            serde_json::from_str::<Listed>(&text).unwrap().is_remains_of("mcp.a.b")
        };
        assert!(is(r#"["storage"]"#, r#"["mcp.a.b"]"#, "storage"));
        assert!(!is(r#"["buildah"]"#, r#"["mcp.a.b"]"#, "storage"));
        assert!(!is(r#"["storage"]"#, r#"["mcp.a.b2"]"#, "storage"));
        assert!(!is(r#"["storage"]"#, r#"["mcp.a.b"]"#, "exited"));
        assert!(!is("null", "null", ""));
    }
}
