//! What the nodes say held against what Pacemaker says: pure, values in, values out.

use super::answer::Item;
use super::ask::Asked;
use super::pacemaker::{Cluster, Member, Resource};
use crate::model::ComponentId;
use crate::node::Drift;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

/// The kinds of drift that only a cluster has. The names are stable: scripts use them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClusterDrift {
    /// A component: it runs on more than one node.
    Twice,
    /// A component: it runs on a node where Pacemaker has not put it.
    Misplaced,
    /// A component: it shall run, and runs on no node.
    Nowhere,
    /// A component: Pacemaker has it on this node, and it does not run there.
    Missing,
    /// A component: Pacemaker can do no more for it.
    Blocked,
    /// A component: Pacemaker places it, and this node's definition says that the node does.
    Placement,
    /// A node: it gave no answer that could be used.
    Unreachable,
    /// A node: it is not in the cluster.
    Offline,
    /// A node: it is lost, and is to be fenced.
    Unclean,
    /// The cluster: it has no quorum.
    NoQuorum,
}

impl ClusterDrift {
    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            ClusterDrift::Twice => "twice",
            ClusterDrift::Misplaced => "misplaced",
            ClusterDrift::Nowhere => "nowhere",
            ClusterDrift::Missing => Drift::Missing.name(),
            ClusterDrift::Blocked => "blocked",
            ClusterDrift::Placement => "placement",
            ClusterDrift::Unreachable => "unreachable",
            ClusterDrift::Offline => "offline",
            ClusterDrift::Unclean => "unclean",
            ClusterDrift::NoQuorum => "no-quorum",
        }
    }

    /// Whether it may be seen for a moment while something moves, since not all nodes are asked at one time.
    fn may_pass(self) -> bool {
        use ClusterDrift::{Misplaced, Missing, Nowhere, Twice};
        matches!(self, Twice | Misplaced | Nowhere | Missing)
    }
}

/// All nodes at one time.
#[derive(Debug)]
pub struct Picture {
    /// What Pacemaker says.
    pub cluster: Cluster,
    /// How the cluster as a whole differs.
    pub drift: Vec<ClusterDrift>,
    /// Its nodes.
    pub nodes: Vec<Seen>,
    /// Components on nodes, by node, then by name; last those that are on none.
    pub rows: Vec<Row>,
}

/// A node.
#[derive(Debug)]
pub struct Seen {
    /// What Pacemaker says of it.
    pub member: Member,
    /// Why it gave no answer.
    pub silent: Option<String>,
    /// How it differs.
    pub drift: Vec<ClusterDrift>,
    /// What is wrong with its definitions, or keeps it from knowing what runs.
    pub problems: Vec<String>,
    /// The exit code of its own `mcp-status`.
    pub code: u8,
    /// How long it took to answer.
    pub took: Duration,
}

/// A component on a node.
#[derive(Debug)]
pub struct Row {
    /// The node; `None`: it is on none.
    pub node: Option<String>,
    /// Its full name; `None`: it is a container of somebody else.
    pub id: Option<ComponentId>,
    /// What the node says of it, and [`Row::drift`] aside, how it differs.
    pub item: Item,
    /// The name of Pacemaker's resource for it.
    pub resource: Option<String>,
    /// Whether Pacemaker has it on this node.
    pub placed: bool,
    /// Whether it is a component that Pacemaker places.
    pub by_cluster: bool,
    /// How it differs from what the cluster wants.
    pub drift: Vec<ClusterDrift>,
}

impl Row {
    /// Names of all drift kinds.
    pub fn drift_names(&self) -> Vec<&str> {
        let own = self.item.drift.iter().map(String::as_str);
        own.chain(self.drift.iter().map(|d| d.name())).collect()
    }

    /// Whether it has drift that a second look may not find.
    pub fn may_pass(&self) -> bool {
        self.drift.iter().any(|kind| kind.may_pass())
    }

    /// Whether it says nothing: a component that the cluster places, on a node where it isn't.
    pub fn is_idle(&self) -> bool {
        let nothing = matches!(self.item.state.as_str(), "absent" | "stopped" | "exited");
        self.by_cluster && nothing && self.drift_names().is_empty()
    }
}

/// Resources by what they run.
struct Index<'a> {
    components: HashMap<(&'a str, &'a str), (&'a String, &'a Resource)>,
    services: HashMap<&'a str, (&'a String, &'a Resource)>,
}

impl<'a> Index<'a> {
    fn new(cluster: &'a Cluster) -> Index<'a> {
        let mut index = Index { components: HashMap::new(), services: HashMap::new() };
        for found @ (_, resource) in &cluster.resources {
            match resource.target.as_ref().map(|t| (t.service.as_str(), t.component.as_deref())) {
                Some((service, Some(component))) => drop(index.components.insert((service, component), found)),
                Some((service, None)) => drop(index.services.insert(service, found)),
                None => {}
            }
        }
        index
    }

    /// The resource that is component `id`: rather its own than its service's.
    fn find(&self, id: &ComponentId) -> Option<(&'a String, &'a Resource)> {
        let own = self.components.get(&(id.service.as_str(), id.component.as_str()));
        own.or_else(|| self.services.get(id.service.as_str())).copied()
    }
}

/// What nodes answered, in the order of the cluster's, held against what Pacemaker says.
pub fn judge(cluster: Cluster, asked: Vec<Asked>) -> Picture {
    let index = Index::new(&cluster);
    let mut nodes = Vec::new();
    let mut rows = Vec::new();
    for (member, asked) in cluster.nodes.iter().zip(asked) {
        let mut drift = Vec::new();
        if asked.answer.is_err() {
            drift.push(ClusterDrift::Unreachable);
        }
        if member.unclean {
            drift.push(ClusterDrift::Unclean);
        } else if !member.online {
            drift.push(ClusterDrift::Offline);
        }
        let (silent, problems) = match asked.answer {
            Ok(mut answer) => {
                rows.extend(std::mem::take(&mut *answer.components).into_iter().map(|item| row(&index, member, item)));
                let podman = answer.podman.error.map(|e| format!("{e}; how its containers are is unknown"));
                (None, std::mem::take(&mut *answer.problems).into_iter().chain(podman).collect())
            }
            Err(why) => {
                rows.extend(unknown(&cluster, member));
                (Some(why), Vec::new())
            }
        };
        nodes.push(Seen { member: member.clone(), silent, drift, problems, code: asked.code, took: asked.took });
    }
    across(&cluster, &index, &nodes, &mut rows);
    let drift = if cluster.quorum { Vec::new() } else { vec![ClusterDrift::NoQuorum] };
    Picture { cluster, drift, nodes, rows }
}

/// What `member` says of a component, judged as far as that node goes.
fn row(index: &Index<'_>, member: &Member, mut item: Item) -> Row {
    let id = item.id();
    let found = id.as_ref().and_then(|id| index.find(id));
    let by_cluster = found.is_some() || item.placement.as_deref() == Some("cluster");
    let placed = found.is_some_and(|(_, r)| r.nodes.contains(&member.name));
    let mut drift = Vec::new();
    if by_cluster {
        // Whether it shall be here is Pacemaker's to say; a node that is older than this takes it for its own.
        item.drift.retain(|kind| kind != ClusterDrift::Missing.name());
    }
    if let Some((_, resource)) = found {
        let between = matches!(item.state.as_str(), "starting" | "stopping" | "waiting");
        let steady = !between && !resource.moving;
        if item.is_alive() && !placed && steady {
            drift.push(ClusterDrift::Misplaced);
        }
        if item.alive == Some(false) && placed && steady {
            drift.push(ClusterDrift::Missing);
        }
        if placed && resource.blocked {
            drift.push(ClusterDrift::Blocked);
        }
        if item.declared && item.placement.as_deref() == Some("node") {
            drift.push(ClusterDrift::Placement);
        }
    }
    let resource = found.map(|(name, _)| name.clone());
    Row { node: Some(member.name.clone()), id, item, resource, placed, by_cluster, drift }
}

/// What Pacemaker has on a node that does not answer.
fn unknown(cluster: &Cluster, member: &Member) -> Vec<Row> {
    let on_it = cluster.resources.iter().filter(|(_, r)| r.nodes.contains(&member.name));
    let row = |(name, resource): (&String, &Resource)| {
        let mut row = bare(name, resource, "unknown")?;
        row.node = Some(member.name.clone());
        row.placed = true;
        row.drift.extend(resource.blocked.then_some(ClusterDrift::Blocked));
        Some(row)
    };
    on_it.filter_map(row).collect()
}

/// A row with nothing but what Pacemaker knows; `None`: nobody knows which component it is.
fn bare(name: &str, resource: &Resource, state: &str) -> Option<Row> {
    let target = resource.target.as_ref()?;
    let id = ComponentId { service: target.service.clone(), component: target.component.clone()? };
    let (service, component) = (Some(id.service.clone()), id.component.clone());
    Some(Row {
        node: None,
        id: Some(id),
        item: Item { service, component, state: state.into(), ..Item::default() },
        resource: Some(name.to_string()),
        placed: false,
        by_cluster: true,
        drift: Vec::new(),
    })
}

/// Adds what only shows across nodes: what runs on several, and what runs on none.
fn across(cluster: &Cluster, index: &Index<'_>, nodes: &[Seen], rows: &mut Vec<Row>) {
    let mut all: BTreeMap<ComponentId, Vec<usize>> = BTreeMap::new();
    for (index, row) in rows.iter().enumerate() {
        if let (Some(id), true) = (&row.id, row.by_cluster) {
            all.entry(id.clone()).or_default().push(index);
        }
    }
    // What Pacemaker would run and no node knows.
    for (name, resource) in &cluster.resources {
        if let Some(id) = bare(name, resource, "absent").and_then(|row| row.id) {
            all.entry(id).or_default();
        }
    }
    let silent: BTreeSet<&String> = nodes.iter().filter(|n| n.silent.is_some()).map(|n| &n.member.name).collect();
    let mut more = Vec::new();
    for (id, indexes) in all {
        let found = index.find(&id);
        let of_it = || indexes.iter().filter_map(|i| rows.get(*i));
        let alive = of_it().filter(|row| row.item.is_alive()).count();
        let active = of_it().any(|row| row.item.active == Some(true));
        let undeclared = !of_it().any(|row| row.item.active.is_some());
        let shall = match found {
            Some((_, resource)) => !resource.off && (active || undeclared),
            None => active,
        };
        let told = match found {
            // Pacemaker knows best of a resource that is on no node; one that is on a silent one is not known.
            Some((_, resource)) => resource.nodes.is_empty(),
            None => silent.is_empty(),
        };
        // While others start, it may only not have had its turn.
        let coming = |r: &Resource| r.moving || cluster.moving && r.failures.is_empty();
        let coming = found.is_some_and(|(_, resource)| coming(resource))
            || of_it().any(|row| matches!(row.item.state.as_str(), "starting" | "waiting" | "unknown"));
        let twice = alive > 1 && found.is_none_or(|(_, resource)| !resource.is_clone);
        let mut on_none = Vec::new();
        if shall && told && alive == 0 && !coming {
            on_none.push(ClusterDrift::Nowhere);
        }
        if found.is_some_and(|(_, resource)| resource.blocked && resource.nodes.is_empty()) {
            on_none.push(ClusterDrift::Blocked);
        }
        if !on_none.is_empty() {
            let known = of_it().next().map(|row| row.item.clone()).unwrap_or_default();
            let item = Item {
                service: Some(id.service.clone()),
                component: id.component.clone(),
                runtime: known.runtime,
                image: known.image,
                state: "absent".into(),
                ..Item::default()
            };
            let resource = found.map(|(name, _)| name.clone());
            more.push(Row {
                node: None,
                id: Some(id),
                item,
                resource,
                placed: false,
                by_cluster: true,
                drift: on_none,
            });
        }
        for index in indexes.into_iter().filter(|_| twice) {
            if let Some(row) = rows.get_mut(index).filter(|row| row.item.is_alive()) {
                row.drift.insert(0, ClusterDrift::Twice);
            }
        }
    }
    rows.extend(more);
}

impl Picture {
    /// The later of two looks, without what may pass and the earlier one didn't have; the earlier one where a node has
    /// fallen silent in between.
    pub fn confirmed_by(self, mut later: Picture) -> Picture {
        let silent = |p: &Picture| p.nodes.iter().filter(|n| n.silent.is_some()).count();
        if silent(&later) > silent(&self) {
            return self;
        }
        let key = |row: &Row| (row.node.clone(), row.id.clone());
        let before: BTreeMap<_, &Row> = self.rows.iter().map(|row| (key(row), row)).collect();
        for row in &mut later.rows {
            let had = |kind: &ClusterDrift| before.get(&key(row)).is_some_and(|b| b.drift.contains(kind));
            let kept: Vec<ClusterDrift> = row.drift.iter().filter(|k| !k.may_pass() || had(k)).copied().collect();
            row.drift = kept;
        }
        later.rows.retain(|row| row.node.is_some() || !row.drift.is_empty());
        later
    }
}
