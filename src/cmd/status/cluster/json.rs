//! The cluster for programs: one JSON document.

use super::has_drift;
use crate::model::Port;
use crate::node::cluster::answer::{End, Health};
use crate::node::cluster::{ClusterDrift, Picture, Row, Seen};
use crate::sys::time;
use serde::Serialize;
use std::time::SystemTime;

/// The version of the document. It grows when a key changes its meaning or goes, not when one is added.
const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    at: String,
    drift: bool,
    problems: &'a [String],
    cluster: Whole<'a>,
    nodes: Vec<Node<'a>>,
    resources: Vec<Resource<'a>>,
    components: Vec<Component<'a>>,
}

#[derive(Serialize)]
struct Whole<'a> {
    dc: Option<&'a str>,
    quorum: bool,
    fencing: bool,
    maintenance: bool,
    moving: bool,
    drift: Vec<&'static str>,
}

#[derive(Serialize)]
struct Node<'a> {
    node: &'a str,
    state: &'static str,
    online: bool,
    standby: bool,
    maintenance: bool,
    pending: bool,
    unclean: bool,
    answered: bool,
    reason: Option<&'a str>,
    took_ms: u128,
    problems: &'a [String],
    drift: Vec<&'static str>,
}

#[derive(Serialize)]
struct Resource<'a> {
    resource: &'a str,
    target: Option<String>,
    nodes: Vec<&'a str>,
    clone: bool,
    off: bool,
    managed: bool,
    blocked: bool,
    failed: bool,
    moving: bool,
    failures: Vec<Failure<'a>>,
}

#[derive(Serialize)]
struct Failure<'a> {
    node: &'a str,
    task: &'a str,
    status: &'a str,
    reason: &'a str,
    at: &'a str,
}

#[derive(Serialize)]
struct Component<'a> {
    node: Option<&'a str>,
    service: Option<&'a str>,
    component: &'a str,
    resource: Option<&'a str>,
    placed: bool,
    runtime: Option<&'a str>,
    state: &'a str,
    drift: Vec<&'a str>,
    placement: Option<&'a str>,
    wanted: Option<bool>,
    declared: bool,
    active: Option<bool>,
    alive: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<&'a Health>,
    image: Option<&'a str>,
    ports: &'a [Port],
    uptime_seconds: Option<u64>,
    restarts: Option<u64>,
    end: Option<&'a End>,
}

/// The document, ending with LF.
pub fn document(picture: &Picture, problems: &[String], at: SystemTime) -> String {
    let cluster = &picture.cluster;
    let document = Document {
        schema: SCHEMA,
        at: time::rfc3339(at),
        drift: has_drift(picture),
        problems,
        cluster: Whole {
            dc: cluster.dc.as_deref(),
            quorum: cluster.quorum,
            fencing: cluster.fencing,
            maintenance: cluster.maintenance,
            moving: cluster.moving,
            drift: names(&picture.drift),
        },
        nodes: picture.nodes.iter().map(node).collect(),
        resources: cluster.resources.iter().map(|(name, r)| resource(name, r)).collect(),
        components: picture.rows.iter().map(component).collect(),
    };
    // Nothing in it can fail to be written: no maps with odd keys, no writer.
    let mut text = serde_json::to_string_pretty(&document).unwrap_or_default();
    text.push('\n');
    text
}

fn names(drift: &[ClusterDrift]) -> Vec<&'static str> {
    drift.iter().map(|d| d.name()).collect()
}

fn node(seen: &Seen) -> Node<'_> {
    let member = &seen.member;
    Node {
        node: &member.name,
        state: member.state(),
        online: member.online,
        standby: member.standby,
        maintenance: member.maintenance,
        pending: member.pending,
        unclean: member.unclean,
        answered: seen.silent.is_none(),
        reason: seen.silent.as_deref(),
        took_ms: seen.took.as_millis(),
        problems: &seen.problems,
        drift: names(&seen.drift),
    }
}

fn resource<'a>(name: &'a str, found: &'a crate::node::cluster::pacemaker::Resource) -> Resource<'a> {
    let failure = |f: &'a crate::node::cluster::pacemaker::Failure| Failure {
        node: &f.node,
        task: &f.task,
        status: &f.status,
        reason: &f.reason,
        at: &f.at,
    };
    Resource {
        resource: name,
        target: found.target.as_ref().map(ToString::to_string),
        nodes: found.nodes.iter().map(String::as_str).collect(),
        clone: found.is_clone,
        off: found.off,
        managed: !found.unmanaged,
        blocked: found.blocked,
        failed: found.failed,
        moving: found.moving,
        failures: found.failures.iter().map(failure).collect(),
    }
}

fn component(row: &Row) -> Component<'_> {
    let item = &row.item;
    Component {
        node: row.node.as_deref(),
        service: item.service.as_deref(),
        component: &item.component,
        resource: row.resource.as_deref(),
        placed: row.placed,
        runtime: item.runtime.as_deref(),
        state: &item.state,
        drift: row.drift_names(),
        placement: item.placement.as_deref(),
        wanted: item.wanted,
        declared: item.declared,
        active: item.active,
        alive: item.alive,
        health: item.health.as_ref(),
        image: item.image.as_deref(),
        ports: &item.ports,
        uptime_seconds: item.uptime_seconds,
        restarts: item.restarts,
        end: item.end.as_ref(),
    }
}
