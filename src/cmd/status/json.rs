//! The same for programs: one JSON document.

use super::row::Row;
use super::view::View;
use crate::model::event::StopReason;
use crate::model::state::End;
use crate::model::{Pin, Placement, Port, Version};
use crate::node::{Condition, Remote, Verdict};
use crate::sys::paths::Paths;
use crate::sys::{Error, time};
use serde::Serialize;
use std::path::PathBuf;

/// The version of the document. It grows when a key changes its meaning or goes, not when one is added.
const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    at: String,
    drift: bool,
    problems: &'a [String],
    podman: Podman,
    components: Vec<Item<'a>>,
}

/// Whether podman was asked, and why it could not be.
#[derive(Serialize)]
struct Podman {
    asked: bool,
    error: Option<String>,
}

#[derive(Serialize)]
struct Item<'a> {
    service: Option<&'a str>,
    component: &'a str,
    runtime: Option<&'static str>,
    state: &'static str,
    drift: Vec<&'static str>,
    wanted: Option<bool>,
    declared: bool,
    active: Option<bool>,
    placement: Option<Placement>,
    adhoc: bool,
    wish: Option<crate::model::Wish>,
    alive: Option<bool>,
    supervised: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<Health<'a>>,
    image: Option<String>,
    ports: &'a [Port],
    uptime_seconds: Option<u64>,
    restarts: Option<u32>,
    started_at: Option<String>,
    ready_at: Option<&'a str>,
    restarted_at: &'a [String],
    supervisor: Option<i32>,
    slot: Option<&'static str>,
    damage: Vec<&'a str>,
    digests: Digests<'a>,
    deployed: Option<Deployed<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote: Option<Asked>,
    files: Option<Files>,
    instance: Option<Instance<'a>>,
    container: Option<Container<'a>>,
    end: Option<&'a End>,
}

#[derive(Serialize)]
struct Health<'a> {
    verdict: &'static str,
    reason: Option<&'a str>,
    at: String,
    age_s: u64,
    since: Option<&'a str>,
    recorded: bool,
}

/// What podman says of it.
#[derive(Serialize)]
struct Container<'a> {
    id: &'a str,
    name: &'a str,
    image: &'a str,
    image_id: &'a str,
    state: &'a str,
    pid: i32,
    record: Option<&'a str>,
}

#[derive(Serialize)]
struct Digests<'a> {
    declared: Option<String>,
    recorded: Option<String>,
    running: Option<&'a str>,
}

/// What the record holds.
#[derive(Serialize)]
struct Deployed<'a> {
    current: Option<Recorded<'a>>,
    candidate: Option<Recorded<'a>>,
    previous: Option<Recorded<'a>>,
}

#[derive(Serialize)]
struct Recorded<'a> {
    image: Option<String>,
    at: &'a str,
    digest: String,
    pin: Option<&'a Pin>,
}

fn recorded(version: &Version) -> Recorded<'_> {
    Recorded { image: version.spec.source.name(), at: &version.at, digest: version.digest(), pin: version.pin.as_ref() }
}

/// What a registry said of the tag.
#[derive(Serialize)]
struct Asked {
    answer: &'static str,
    names: Option<String>,
    reason: Option<String>,
}

#[derive(Serialize)]
struct Files {
    definition: Option<PathBuf>,
    record: PathBuf,
    run: PathBuf,
    log: PathBuf,
}

#[derive(Serialize)]
struct Instance<'a> {
    uuid: &'a str,
    pid: i32,
    uid: u32,
    accel: &'a str,
    qemu: &'a str,
    image: &'a std::path::Path,
    #[serde(skip_serializing_if = "Option::is_none")]
    stopping: Option<&'a StopReason>,
    argv: &'a [String],
    events: Vec<(&'a str, String)>,
}

/// The document, ending with LF; on a single line when `compact`.
pub fn document(paths: &Paths, view: &View<'_>, compact: bool) -> String {
    let View { rows, problems, podman, at, .. } = view;
    let document = Document {
        schema: SCHEMA,
        at: time::rfc3339(*at),
        drift: rows.iter().any(|r| !r.drift.is_empty()),
        problems,
        podman: Podman {
            asked: podman.is_some(),
            error: podman.as_ref().and_then(|p| p.as_ref().map(Error::to_string)),
        },
        components: rows.iter().map(|row| item(paths, row)).collect(),
    };
    let text = if compact { serde_json::to_string(&document) } else { serde_json::to_string_pretty(&document) };
    // Nothing in it can fail to be written: no maps with odd keys, no writer.
    let mut text = text.unwrap_or_default();
    text.push('\n');
    text
}

fn item<'a>(paths: &Paths, row: &'a Row<'_>) -> Item<'a> {
    let entry = &row.entry;
    let files = paths.component(&entry.id.service, &entry.id.component);
    let state = entry.state.get();
    Item {
        service: (!entry.foreign).then_some(&entry.id.service),
        component: &entry.id.component,
        runtime: row.runtime(),
        state: row.condition.name(),
        drift: row.drift.iter().map(|d| d.name()).collect(),
        wanted: entry.wanted(),
        declared: entry.declared.is_some(),
        active: entry.declared.map(|d| d.service.active),
        placement: entry.declared.map(|d| d.service.placement),
        adhoc: entry.is_adhoc(),
        wish: entry.wish(),
        alive: (row.condition != Condition::Unknown).then_some(entry.is_alive()),
        supervised: entry.supervised,
        health: row.health.as_ref().map(|h| Health {
            verdict: h.verdict.name(),
            reason: match &h.verdict {
                Verdict::Unhealthy(why) | Verdict::Unknown(why) => Some(why),
                _ => None,
            },
            at: time::rfc3339(h.at),
            age_s: h.age(row.at).as_secs(),
            since: h.since.as_deref(),
            recorded: h.recorded,
        }),
        image: entry.image(),
        ports: row.ports(),
        uptime_seconds: row.uptime.map(|u| u.as_secs()),
        restarts: row.restarts(),
        started_at: entry.started().map(time::rfc3339).or(state.map(|s| s.started_at.clone())),
        ready_at: state.and_then(|s| s.ready_at.as_deref()),
        restarted_at: state.map_or(&[], |s| &s.restarted_at),
        supervisor: entry.supervisor.as_ref().map(|h| h.pid),
        slot: entry.slot.map(|s| s.name()),
        damage: entry.record.damage().into_iter().chain(entry.state.damage()).collect(),
        digests: Digests {
            declared: entry.declared.map(|d| d.component.digest()),
            recorded: entry.record.get().and_then(|r| r.current.as_ref()).map(Version::digest),
            running: entry.running(),
        },
        deployed: entry.record.get().map(|r| Deployed {
            current: r.current.as_ref().map(recorded),
            candidate: r.trial().map(recorded),
            previous: r.previous.as_ref().map(recorded),
        }),
        remote: row.remote.as_ref().map(|remote| Asked {
            answer: remote.name(),
            names: if let Remote::Moved(to) = remote { Some(to.to_string()) } else { None },
            reason: if let Remote::Unknown(e) = remote { Some(e.to_string()) } else { None },
        }),
        files: (!entry.foreign).then(|| Files {
            definition: entry.declared.map(|d| d.service.file.clone()),
            record: files.record,
            run: files.run,
            log: files.log,
        }),
        instance: state.map(|s| Instance {
            uuid: &s.uuid,
            pid: s.pid,
            uid: s.uid,
            accel: &s.accel,
            qemu: &s.qemu,
            image: &s.image,
            stopping: s.stopping.as_ref(),
            argv: &s.argv,
            events: s.events.iter().map(|e| (e.at.as_str(), e.kind.to_string())).collect(),
        }),
        container: entry.container.as_ref().map(|seen| Container {
            id: &seen.listed.id,
            name: seen.listed.name(),
            image: &seen.listed.image,
            image_id: &seen.listed.image_id,
            state: &seen.listed.state,
            pid: seen.listed.pid,
            record: seen.listed.record(),
        }),
        end: row.end(),
    }
}
