//! Podman's words beside our own files, without a podman.

use super::*;
use crate::model::state::{ContainerState, Process};
use crate::model::{Record, Runtime, Service, Source, Version, Wish};
use crate::node::drift::tests::{running, state};
use crate::node::inventory::Declared;
use crate::node::{Condition, Drift, drift};

const ID: &str = "c0ffee";

fn paths() -> Paths {
    Paths::under(std::path::Path::new("/nowhere/mcp-containers"))
}

fn service() -> Service {
    let mut service = running();
    let component = &mut service.components[0];
    component.runtime = Runtime::Container;
    component.source = Source::Image { reference: "localhost/web:1".into() };
    service
}

fn version(service: &Service) -> Version {
    Version { spec: service.components[0].clone(), pin: None, at: String::new() }
}

fn loaded(services: Vec<Service>) -> Loaded {
    Loaded { services, ..Loaded::default() }
}

/// One of ours, by its labels, that runs what `version` says.
fn ours(state: &str, version: &Version) -> Listed {
    let label = |key: &str, value: &str| (key.to_string(), value.to_string());
    Listed {
        id: ID.into(),
        names: vec!["mcp.demo.web".into()],
        image: "localhost/web:1".into(),
        state: state.into(),
        started_at: 1_700_000_000,
        labels: [
            label(listing::ROOT, &listing::root_label(&paths())),
            label(listing::SERVICE, "demo"),
            label(listing::COMPONENT, "web"),
            label(listing::RECORD, &version.digest()),
        ]
        .into(),
        ..Listed::default()
    }
}

fn foreign(name: &str, state: &str) -> Listed {
    Listed { id: format!("id of {name}"), names: vec![name.into()], state: state.into(), ..Listed::default() }
}

fn known(phase: Phase, version: &Version) -> Found<State> {
    let conmon = Process { pid: 1, start_time: 1 };
    let container = ContainerState { name: "x".into(), image: "x".into(), conmon, control: "/x".into() };
    Found::Whole(State { uuid: ID.into(), spec: version.digest(), container: Some(container), ..state(phase, None) })
}

/// The declared component of `loaded`, supervised and recorded, as our own files have it.
fn entry<'a>(loaded: &'a Loaded, version: &Version) -> Entry<'a> {
    let service = &loaded.services[0];
    let component = &service.components[0];
    let id = ComponentId { service: "demo".into(), component: "web".into() };
    Entry {
        declared: Some(Declared { service, component }),
        record: Found::Whole(Record { current: Some(version.clone()), ..Record::new() }),
        state: known(Phase::Ready, version),
        slot: Some(Slot::C),
        alive: [false, false, true],
        supervised: true,
        ..Entry::new(id)
    }
}

fn answer(listed: Vec<Listed>) -> Answer {
    Answer { listed: Ok(listed), installed: true, at: SystemTime::now() }
}

fn kinds(entry: &Entry<'_>) -> String {
    let kinds: Vec<_> = drift::drift(entry, None, SystemTime::now()).into_iter().map(Drift::name).collect();
    kinds.join(" ")
}

/// State and drift of the first entry after `listed` was laid beside it.
fn told<'a>(loaded: &'a Loaded, entry: Entry<'a>, listed: Vec<Listed>) -> (&'static str, String) {
    let mut entries = vec![entry];
    assert!(merge(&mut entries, &paths(), loaded, answer(listed), true).is_none());
    (Condition::of(&entries[0]).name(), kinds(&entries[0]))
}

#[test]
fn podman_says_what_lives() {
    let loaded = loaded(vec![service()]);
    let version = version(&loaded.services[0]);
    let say = |state: &str, change: &dyn Fn(&mut Entry<'_>)| {
        let mut entry = entry(&loaded, &version);
        change(&mut entry);
        let listed = if state.is_empty() { Vec::new() } else { vec![ours(state, &version)] };
        told(&loaded, entry, listed)
    };
    let none: &dyn Fn(&mut Entry<'_>) = &|_| {};
    assert_eq!(say("running", none), ("running", String::new()));
    assert_eq!(say("paused", none), ("running", String::new()));
    // Our hint says that it lives, and podman has it ended, or not at all.
    let alone: &dyn Fn(&mut Entry<'_>) = &|e| e.supervised = false;
    assert_eq!(say("exited", alone), ("failed", "missing".into()));
    assert_eq!(say("", alone), ("failed", "missing".into()));
    assert_eq!(say("running", alone), ("running", "unsupervised".into()));
    // Nothing of ours is left but the labels.
    let lost: &dyn Fn(&mut Entry<'_>) = &|e| {
        (e.state, e.slot, e.alive, e.supervised) = (Found::Nothing, None, [false; 3], false);
    };
    assert_eq!(say("running", lost), ("running", "unsupervised".into()));
    let stop: &dyn Fn(&mut Entry<'_>) = &|e| {
        e.record = Found::Whole(Record { wish: Wish::Stop, current: Some(version.clone()), ..Record::new() });
    };
    assert_eq!(say("running", stop), ("running", "stopped-but-running".into()));
    assert_eq!(say("", stop), ("starting", String::new()));
    // A damaged record or state is told, and the rest all the same.
    let damaged: &dyn Fn(&mut Entry<'_>) = &|e| e.record = Found::Damaged("half".into());
    assert_eq!(say("running", damaged), ("running", "config record".into()));
    let damaged: &dyn Fn(&mut Entry<'_>) = &|e| e.state = Found::Damaged("half".into());
    assert_eq!(say("running", damaged), ("running", "record".into()));
}

#[test]
fn what_runs_is_told_by_the_label() {
    let old = loaded(vec![service()]);
    let mut new = service();
    new.components[0].source = Source::Image { reference: "localhost/web:2".into() };
    let declared = loaded(vec![new]);
    let version = version(&old.services[0]);
    let runs = |listed: Listed| told(&declared, entry(&declared, &version), vec![listed]).1;
    assert_eq!(runs(ours("running", &version)), "image");
    let mut more = service();
    more.components[0].args = Some(vec!["-v".into()]);
    let declared = loaded(vec![more]);
    let runs = |listed: Listed| told(&declared, entry(&declared, &version), vec![listed]).1;
    assert_eq!(runs(ours("running", &version)), "config");
    // Started from something that no record has any more, whatever our state says.
    let mut stranger = ours("running", &version);
    stranger.labels.insert(listing::RECORD.into(), "0123".into());
    assert_eq!(runs(stranger), "image");
}

#[test]
fn exits_are_told_by_podman_where_nobody_watched() {
    let loaded = loaded(vec![service()]);
    let version = version(&loaded.services[0]);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    let say = |code: i32, exited_at: i64, state: Found<State>| {
        let mut entry = entry(&loaded, &version);
        (entry.state, entry.supervised, entry.alive) = (state, false, [false; 3]);
        let listed = Listed { exit_code: code, exited_at, ..ours("exited", &version) };
        let mut entries = vec![entry];
        merge(&mut entries, &paths(), &loaded, answer(vec![listed]), true);
        (Condition::of(&entries[0]).name(), entries[0].end().and_then(|e| e.code))
    };
    assert_eq!(say(7, now, Found::Nothing), ("failed", Some(7)));
    assert_eq!(say(0, now, known(Phase::Ready, &version)), ("exited", Some(0)));
    // Before the node booted, and never.
    assert_eq!(say(7, 1_000_000_000, Found::Nothing), ("absent", None));
    assert_eq!(say(0, -62_135_596_800, Found::Nothing), ("absent", None));
}

#[test]
fn what_was_written_since_podman_was_asked_is_newer() {
    let loaded = loaded(vec![service()]);
    let version = version(&loaded.services[0]);
    let at = SystemTime::now();
    let say = |listed: Vec<Listed>, change: &dyn Fn(&mut State)| {
        let mut entry = entry(&loaded, &version);
        entry.supervised = false;
        if let Found::Whole(state) = &mut entry.state {
            change(state);
        }
        let mut entries = vec![entry];
        let answer = Answer { listed: Ok(listed), installed: true, at };
        merge(&mut entries, &paths(), &loaded, answer, true);
        entries[0].is_alive()
    };
    let later = |seconds| time::rfc3339(at + Duration::from_secs(seconds));
    let ended = |s: &mut State| {
        s.phase = Phase::Ended;
        s.end = state(Phase::Ended, Some((EndedBy::Guest, Some(0)))).end;
        s.end.as_mut().unwrap().at = later(1);
    };
    assert!(!say(vec![ours("running", &version)], &ended));
    assert!(say(vec![ours("running", &version)], &|s| {
        ended(s);
        s.end.as_mut().unwrap().at = "2026-01-01T00:00:00.000Z".into();
    }));
    assert!(say(vec![], &|s| s.started_at = later(1)));
    assert!(!say(vec![], &|_| {}));
}

#[test]
fn what_nobody_declared() {
    let mut loaded = loaded(vec![service()]);
    loaded.node.podman_ignore = vec!["build-*".into()];
    let version = version(&loaded.services[0]);
    let label = |listed: Listed, key: &str, value: &str| {
        let mut listed = listed;
        listed.labels.insert(key.into(), value.into());
        listed
    };
    let undeclared = label(ours("running", &version), listing::COMPONENT, "gone");
    let second = Listed { id: "2".into(), names: vec!["copy".into()], ..ours("running", &version) };
    let infra = Listed { is_infra: true, ..foreign("pod", "running") };
    let others = label(foreign("theirs", "running"), listing::ROOT, "/somewhere/else");
    let listed = vec![
        foreign("zoo", "exited"),
        foreign("build-7", "running"),
        second,
        infra,
        others,
        undeclared,
        ours("running", &version),
        foreign("database", "running"),
    ];
    let mut entries = vec![entry(&loaded, &version)];
    assert!(merge(&mut entries, &paths(), &loaded, answer(listed.clone()), true).is_none());
    let seen: Vec<_> =
        entries.iter().map(|e| format!("{} {} {}", e.name(), Condition::of(e).name(), kinds(e))).collect();
    assert_eq!(
        seen,
        [
            "demo/gone running orphan unsupervised",
            "demo/web running ",
            "copy running orphan",
            "database running orphan",
            "zoo absent orphan"
        ]
    );
    // Asked for some components, nobody wants to hear of the others.
    let mut entries = vec![entry(&loaded, &version)];
    assert!(merge(&mut entries, &paths(), &loaded, answer(listed), false).is_none());
    assert!(entries.iter().all(|e| !e.foreign));
}

#[test]
fn a_podman_that_does_not_answer() {
    let loaded = loaded(vec![service(), Service { name: "vm".into(), ..running() }]);
    let version = version(&loaded.services[0]);
    let vm = || Entry {
        declared: Some(Declared { service: &loaded.services[1], component: &loaded.services[1].components[0] }),
        ..Entry::new(ComponentId { service: "vm".into(), component: "web".into() })
    };
    let silent =
        |installed| Answer { listed: Err(Error::busy("podman", "took too long")), installed, at: SystemTime::now() };
    let mut entries = vec![entry(&loaded, &version), vm()];
    let said = merge(&mut entries, &paths(), &loaded, silent(true), true);
    assert_eq!(said.map(|e| e.to_string()).as_deref(), Some("podman: took too long"));
    assert_eq!((Condition::of(&entries[0]), kinds(&entries[0])), (Condition::Unknown, String::new()));
    assert_eq!((Condition::of(&entries[1]), kinds(&entries[1])), (Condition::Absent, "missing".into()));
    // No podman and no container of ours: nothing is missing.
    assert!(merge(&mut vec![vm()], &paths(), &loaded, silent(false), true).is_none());
    assert!(merge(&mut vec![vm()], &paths(), &loaded, silent(true), true).is_some());
}

#[test]
fn published_ports_may_be_anything() {
    let range = |host_ip: &str, host_port, range, protocol: &str| {
        let ip = host_ip.to_string();
        let listed = ListedPort { host_ip: ip, host_port, container_port: 80, range, protocol: protocol.into() };
        published(&listed).map(|p| format!("{}:{}>{}", p.bind, p.host, p.guest)).collect::<Vec<_>>()
    };
    assert_eq!(range("", 8080, 1, "tcp"), ["0.0.0.0:8080>80"]);
    assert_eq!(range("::1", 8080, 2, "udp"), ["::1:8080>80", "::1:8081>81"]);
    assert_eq!(range("127.0.0.1", 65535, 0, ""), ["127.0.0.1:65535>80"]);
    assert_eq!(range("127.0.0.1", 65535, 9, "tcp").len(), 1);
    assert!(range("junk", 1, 1, "tcp").is_empty() && range("", 1, 1, "sctp").is_empty());
    assert_eq!(range("", 1, u16::MAX, "tcp").len(), PORTS_MAX);
}
