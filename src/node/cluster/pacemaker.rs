//! What Pacemaker says: `crm_mon --output-as=xml`, and of which component each of its resources is.

use super::xml::{Event, Reader, Tag, unescape};
use crate::model::{Target, name};
use std::collections::{BTreeMap, BTreeSet};

/// The resource agent, with which a resource is one of ours; Pacemaker before 2.0 writes it with two colons.
const AGENTS: [&str; 2] = ["ocf:mcp:component", "ocf::mcp:component"];

/// The cluster, as the node that was asked sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cluster {
    /// The node that decides for all.
    pub dc: Option<String>,
    /// Whether this part of the cluster may run anything.
    pub quorum: bool,
    /// Whether a node that is lost is fenced.
    pub fencing: bool,
    /// Whether Pacemaker looks on and does nothing.
    pub maintenance: bool,
    /// Whether something is being started, stopped or moved just now.
    pub moving: bool,
    /// Its nodes.
    pub nodes: Vec<Member>,
    /// Its resources that are components, by their names.
    pub resources: BTreeMap<String, Resource>,
}

/// A node, as Pacemaker sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Member {
    /// Its name in the cluster.
    pub name: String,
    /// It is in the cluster.
    pub online: bool,
    /// Nothing is placed on it.
    pub standby: bool,
    /// What runs on it is left alone.
    pub maintenance: bool,
    /// It has not come wholly up.
    pub pending: bool,
    /// Nobody knows what runs on it, and it is to be fenced.
    pub unclean: bool,
}

impl Member {
    /// The word for it, stable.
    pub fn state(&self) -> &'static str {
        match self {
            m if m.unclean => "unclean",
            m if !m.online => "offline",
            m if m.pending => "pending",
            m if m.standby => "standby",
            m if m.maintenance => "maintenance",
            _ => "online",
        }
    }
}

/// A resource that is a component, or all those of a service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resource {
    /// What it runs; `None`: neither its parameter nor its name tells.
    pub target: Option<Target>,
    /// Where it is, or is being started or stopped.
    pub nodes: BTreeSet<String>,
    /// Whether it may be on several nodes.
    pub is_clone: bool,
    /// It is being started, stopped or moved.
    pub moving: bool,
    /// It shall not run.
    pub off: bool,
    /// Pacemaker leaves it alone.
    pub unmanaged: bool,
    /// Pacemaker can do no more for it.
    pub blocked: bool,
    /// It has failed, where it is.
    pub failed: bool,
    /// Actions that failed and have not been cleaned up, the latest first.
    pub failures: Vec<Failure>,
}

/// An action of a resource that failed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Failure {
    /// Where.
    pub node: String,
    /// `start`, `stop`, `monitor`.
    pub task: String,
    /// Pacemaker's word for the agent's exit code: `not installed`.
    pub status: String,
    /// The agent's reason; empty where it gave none.
    pub reason: String,
    /// When, as Pacemaker has it.
    pub at: String,
}

impl Failure {
    /// It in words: `start on n2: not installed (no image)`.
    pub fn words(&self) -> String {
        let reason = if self.reason.is_empty() { String::new() } else { format!(" ({})", self.reason) };
        format!("{} on {}: {}{reason}", self.task, self.node, self.status)
    }
}

/// Reads what `crm_mon --output-as=xml` printed. The error says what is wrong with it, or what crm_mon says is wrong.
pub fn read_status(text: &str) -> Result<Cluster, Trouble> {
    let mut reader = Reader::new(text);
    let mut cluster = Cluster { quorum: true, fencing: true, ..Cluster::default() };
    let mut failures = Vec::new();
    let mut current: Option<String> = None;
    let mut errors = Vec::new();
    let mut code = String::new();
    let mut known = false;
    while let Some(event) = reader.event().map_err(Trouble::Junk)? {
        let path = reader.path();
        match event {
            Event::Open(tag) => match path {
                ["pacemaker-result" | "crm_mon"] => {}
                [other] => return Err(Trouble::Junk(format!("<{other}> is not what it prints"))),
                [_, "status"] => code = tag.text("code"),
                [_, "summary", "current_dc"] => {
                    cluster.dc = tag.get("name").map(str::to_string);
                    cluster.quorum = tag.is("with_quorum");
                }
                [_, "summary", "cluster_options"] => {
                    cluster.fencing = tag.is("stonith-enabled");
                    cluster.maintenance = tag.is("maintenance-mode");
                }
                [_, "nodes"] => known = true,
                [_, "nodes", "node"] => cluster.nodes.push(member(&tag)),
                [_, "resources", within @ .., "resource"] => {
                    current = resource(&mut cluster, &tag, within.contains(&"clone"));
                }
                [_, "resources", .., "resource", "node"] => {
                    if let Some(found) = current.as_ref().and_then(|id| cluster.resources.get_mut(id)) {
                        found.nodes.insert(tag.text("name"));
                    }
                }
                [_, "failures", "failure"] => failures.push((of_operation(&tag), failure(&tag))),
                _ => {}
            },
            Event::Text(text) if path.last() == Some(&"error") => errors.push(text.into_owned()),
            Event::Text(_) | Event::Close => {}
        }
    }
    if !known || !matches!(code.as_str(), "" | "0") {
        errors.retain(|e: &String| !e.is_empty());
        let last = errors.pop().unwrap_or_else(|| format!("it tells of no nodes, and has ended with {code:?}"));
        return Err(Trouble::Told(last.strip_prefix("crm_mon: ").unwrap_or(&last).to_string()));
    }
    for (id, failure) in failures {
        if let Some(found) = cluster.resources.get_mut(&id) {
            found.failures.push(failure);
        }
    }
    for found in cluster.resources.values_mut() {
        found.failures.sort_by(|a, b| b.at.cmp(&a.at));
    }
    Ok(cluster)
}

/// Why there is no status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// What was printed is not what we know: why.
    Junk(String),
    /// crm_mon has none itself, and says why.
    Told(String),
}

fn member(tag: &Tag<'_>) -> Member {
    Member {
        name: tag.text("name"),
        online: tag.is("online"),
        standby: tag.is("standby") || tag.is("standby_onfail"),
        maintenance: tag.is("maintenance"),
        pending: tag.is("pending"),
        unclean: tag.is("unclean"),
    }
}

/// Notes what a `<resource>` says. Its name, where it is one of ours; the instances of a clone are one.
fn resource(cluster: &mut Cluster, tag: &Tag<'_>, is_clone: bool) -> Option<String> {
    let moving = matches!(tag.get("role"), Some("Starting" | "Stopping" | "Promoting" | "Demoting" | "Migrating"));
    cluster.moving |= moving;
    if !AGENTS.contains(&tag.get("resource_agent")?) {
        return None;
    }
    let id = without_instance(tag.get("id")?).to_string();
    let found = cluster.resources.entry(id.clone()).or_default();
    if found.target.is_none() {
        found.target = by_name(&id);
    }
    found.is_clone |= is_clone;
    found.moving |= moving;
    found.off |= tag.get("target_role") == Some("Stopped");
    found.unmanaged |= tag.get("managed") == Some("false");
    found.blocked |= tag.is("blocked");
    found.failed |= tag.is("failed");
    Some(id)
}

/// The name of a clone's instance without its number: `web:0` is `web`.
fn without_instance(id: &str) -> &str {
    match id.rsplit_once(':') {
        Some((id, number)) if number.bytes().all(|b| b.is_ascii_digit()) => id,
        _ => id,
    }
}

/// The target by convention: `SERVICE_COMPONENT`, or `SERVICE`.
fn by_name(id: &str) -> Option<Target> {
    let (service, component) = match id.split_once('_') {
        Some((service, component)) => (service, Some(component)),
        None => (id, None),
    };
    let valid = name::is_valid(service) && component.is_none_or(name::is_valid);
    valid.then(|| Target { service: service.into(), component: component.map(str::to_string) })
}

fn failure(tag: &Tag<'_>) -> Failure {
    let reason = tag.text("exitreason");
    Failure {
        node: tag.text("node"),
        task: tag.text("task"),
        status: tag.text("exitstatus"),
        // Pacemaker 2.1.5 escapes it twice.
        reason: unescape(&reason).map(|text| text.into_owned()).unwrap_or(reason),
        at: tag.text("last-rc-change"),
    }
}

/// The resource of a failed operation, whose key is `RESOURCE_TASK_INTERVAL`.
fn of_operation(tag: &Tag<'_>) -> String {
    let key = tag.get("op_key").or(tag.get("id")).unwrap_or_default();
    let id = key.rsplitn(3, '_').nth(2).unwrap_or_default();
    without_instance(id).to_string()
}

/// Reads the parameter `target` of each resource from what `cibadmin --query --scope resources` printed, and notes it.
pub fn read_targets(text: &str, cluster: &mut Cluster) -> Result<(), String> {
    let mut reader = Reader::new(text);
    let mut values: BTreeMap<String, String> = BTreeMap::new();
    let mut templates: BTreeMap<String, String> = BTreeMap::new();
    let mut current = String::new();
    while let Some(event) = reader.event()? {
        let Event::Open(tag) = event else { continue };
        match reader.path() {
            [.., "primitive" | "template"] => {
                current = tag.text("id");
                if let Some(template) = tag.get("template") {
                    templates.insert(current.clone(), template.to_string());
                }
            }
            [.., "primitive" | "template", "instance_attributes", "nvpair"] if tag.get("name") == Some("target") => {
                // The first of several that apply.
                values.entry(current.clone()).or_insert_with(|| tag.text("value"));
            }
            _ => {}
        }
    }
    for (id, resource) in &mut cluster.resources {
        let value = values.get(id).or_else(|| values.get(templates.get(id)?));
        if let Some(value) = value {
            resource.target = Target::parse(value).ok();
        }
    }
    Ok(())
}
