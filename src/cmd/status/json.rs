//! The same for programs: one JSON document.

use super::row::Row;
use crate::model::state::End;
use crate::model::{Pin, Port, Version};
use crate::node::{Remote, Verdict};
use crate::sys::paths::Paths;
use crate::sys::time;
use serde::Serialize;
use std::path::PathBuf;
use std::time::SystemTime;

/// The version of the document. It grows when a key changes its meaning or goes, not when one is added.
const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    at: String,
    drift: bool,
    problems: &'a [String],
    components: Vec<Item<'a>>,
}

#[derive(Serialize)]
struct Item<'a> {
    service: &'a str,
    component: &'a str,
    runtime: Option<&'static str>,
    state: &'static str,
    drift: Vec<&'static str>,
    wanted: Option<bool>,
    declared: bool,
    active: Option<bool>,
    adhoc: bool,
    wish: Option<crate::model::Wish>,
    alive: bool,
    supervised: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<Health<'a>>,
    image: Option<String>,
    ports: &'a [Port],
    uptime_seconds: Option<u64>,
    restarts: Option<u32>,
    started_at: Option<&'a str>,
    ready_at: Option<&'a str>,
    restarted_at: &'a [String],
    supervisor: Option<i32>,
    slot: Option<&'static str>,
    damage: Vec<&'a str>,
    digests: Digests<'a>,
    deployed: Option<Deployed<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote: Option<Asked>,
    files: Files,
    instance: Option<Instance<'a>>,
    end: Option<&'a End>,
}

#[derive(Serialize)]
struct Health<'a> {
    verdict: &'static str,
    reason: Option<&'a str>,
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
    argv: &'a [String],
    events: &'a [(String, String)],
}

/// The document, ending with LF; on a single line when `compact`.
pub fn document(paths: &Paths, rows: &[Row<'_>], problems: &[String], now: SystemTime, compact: bool) -> String {
    let document = Document {
        schema: SCHEMA,
        at: time::rfc3339(now),
        drift: rows.iter().any(|r| !r.drift.is_empty()),
        problems,
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
        service: &entry.id.service,
        component: &entry.id.component,
        runtime: row.runtime(),
        state: row.condition.name(),
        drift: row.drift.iter().map(|d| d.name()).collect(),
        wanted: entry.wanted(),
        declared: entry.declared.is_some(),
        active: entry.declared.map(|d| d.service.active),
        adhoc: entry.is_adhoc(),
        wish: entry.wish(),
        alive: entry.is_alive(),
        supervised: entry.supervised,
        health: row.verdict.as_ref().map(|v| Health {
            verdict: v.name(),
            reason: match v {
                Verdict::Unhealthy(why) | Verdict::Unknown(why) => Some(why),
                _ => None,
            },
        }),
        image: entry.image(),
        ports: row.ports(),
        uptime_seconds: row.uptime.map(|u| u.as_secs()),
        restarts: row.restarts(),
        started_at: state.map(|s| s.started_at.as_str()),
        ready_at: state.and_then(|s| s.ready_at.as_deref()),
        restarted_at: state.map_or(&[], |s| &s.restarted_at),
        supervisor: entry.supervisor.as_ref().map(|h| h.pid),
        slot: entry.slot.map(|s| s.name()),
        damage: entry.record.damage().into_iter().chain(entry.state.damage()).collect(),
        digests: Digests {
            declared: entry.declared.map(|d| d.component.digest()),
            recorded: entry.record.get().and_then(|r| r.current.as_ref()).map(Version::digest),
            running: state.filter(|_| entry.is_alive()).map(|s| s.spec.as_str()),
        },
        deployed: entry.record.get().map(|r| Deployed {
            current: r.current.as_ref().map(recorded),
            candidate: r.candidate.as_ref().map(recorded),
            previous: r.previous.as_ref().map(recorded),
        }),
        remote: row.remote.as_ref().map(|remote| Asked {
            answer: remote.name(),
            names: if let Remote::Moved(to) = remote { Some(to.to_string()) } else { None },
            reason: if let Remote::Unknown(e) = remote { Some(e.to_string()) } else { None },
        }),
        files: Files {
            definition: entry.declared.map(|d| d.service.file.clone()),
            record: files.record,
            run: files.run,
            log: files.log,
        },
        instance: state.map(|s| Instance {
            uuid: &s.uuid,
            pid: s.pid,
            uid: s.uid,
            accel: &s.accel,
            qemu: &s.qemu,
            image: &s.image,
            argv: &s.argv,
            events: &s.events,
        }),
        end: row.end(),
    }
}
