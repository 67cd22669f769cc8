//! How what is differs from what should be.

use super::{Condition, Entry, Found, Verdict};
use crate::model::state::{Phase, State};
use crate::model::{Component, Source, Version, Wish};
use crate::sys::time;
use std::time::{Duration, SystemTime};

/// So many restarts within [`CRASH_LOOP_WITHIN`] are a crash loop.
pub const CRASH_LOOP_RESTARTS: usize = 3;
/// See [`CRASH_LOOP_RESTARTS`].
pub const CRASH_LOOP_WITHIN: Duration = Duration::from_secs(600);

/// The kinds of drift. The names are stable: scripts and metrics use them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Drift {
    /// It shall run and does not.
    Missing,
    /// It runs, or left something, and is neither declared nor ad hoc; or it is a container of somebody else.
    Orphan,
    /// It runs from another image than declared.
    Image,
    /// It runs from another specification than declared.
    Config,
    /// It runs and shall not.
    StoppedButRunning,
    /// It says that it is not healthy.
    Unhealthy,
    /// Its VM or container lives and nobody watches it.
    Unsupervised,
    /// It was restarted again and again.
    CrashLoop,
    /// Its record or its state can't be read.
    Record,
}

impl Drift {
    /// All of them, in the order in which they are told.
    pub const ALL: [Drift; 9] = [
        Drift::Missing,
        Drift::Orphan,
        Drift::Image,
        Drift::Config,
        Drift::StoppedButRunning,
        Drift::Unhealthy,
        Drift::Unsupervised,
        Drift::CrashLoop,
        Drift::Record,
    ];

    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Drift::Missing => "missing",
            Drift::Orphan => "orphan",
            Drift::Image => "image",
            Drift::Config => "config",
            Drift::StoppedButRunning => "stopped-but-running",
            Drift::Unhealthy => "unhealthy",
            Drift::Unsupervised => "unsupervised",
            Drift::CrashLoop => "crash-loop",
            Drift::Record => "record",
        }
    }
}

/// The kinds that apply to `entry` at `now`, in the order of [`Drift::ALL`]. `verdict` is what it answered, if asked.
pub fn drift(entry: &Entry<'_>, verdict: Option<&Verdict>, now: SystemTime) -> Vec<Drift> {
    let condition = Condition::of(entry);
    let state = entry.state.get();
    let alive = entry.is_alive();
    let declared = entry.declared;
    let damaged = entry.record.damage().is_some() || entry.state.damage().is_some();
    let mut found = Vec::new();
    let mut check = |kind: Drift, applies: bool| {
        if applies {
            found.push(kind);
        }
    };

    let unseen = condition == Condition::Unknown;
    let coming = entry.supervised && condition == Condition::Starting;
    let there = alive || coming || condition == Condition::Completed;
    check(Drift::Missing, !unseen && declared.is_some() && entry.wanted() == Some(true) && !there);
    // With a damaged record nobody can tell whether it was ad hoc, with a bad definition not whether it is declared.
    let told = entry.record.damage().is_none() && !entry.broken;
    // The record is written when all is checked, with the lock held before that.
    let beginning = coming && entry.record == Found::Nothing;
    check(Drift::Orphan, declared.is_none() && !entry.is_adhoc() && told && !beginning);
    if let (Some(running), Some(declared)) = (entry.running(), declared) {
        let (image, config) = compare(entry, running, declared.component);
        check(Drift::Image, image);
        check(Drift::Config, config);
    }
    let unwanted = declared.is_some_and(|d| !d.service.active) || entry.wish() == Some(Wish::Stop);
    // On the ladder somebody is already seeing to it.
    let going = entry.supervised && state.is_some_and(|s| s.phase == Phase::Stopping);
    check(Drift::StoppedButRunning, unwanted && alive && !going);
    check(
        Drift::Unhealthy,
        condition == Condition::Running && verdict.is_some_and(|v| matches!(v, Verdict::Unhealthy(_))),
    );
    check(Drift::Unsupervised, alive && !entry.supervised && !entry.foreign);
    // Where the cluster has put elsewhere what failed here, it loops here no more.
    let here = condition != Condition::Stopped && !entry.may_come();
    check(Drift::CrashLoop, here && state.is_some_and(|s| loops(s, now)));
    check(Drift::Record, damaged);
    found
}

/// Whether the running instance, started from what has the digest `spec`, differs from `declared` in its image, and in
/// anything else.
fn compare(entry: &Entry<'_>, spec: &str, declared: &Component) -> (bool, bool) {
    let record = entry.record.get();
    let of_image = matches!(declared.source, Source::Image { .. });
    // A specification alone is all of what runs where there is no image.
    if !of_image && spec == declared.digest() {
        return (false, false);
    }
    let is_running = |version: &&Version| version.digest() == spec;
    let deployed = record.into_iter().flat_map(|r| [&r.current, &r.candidate]).flatten();
    let before = record.and_then(|r| r.previous.as_ref());
    match deployed.clone().find(is_running).or(before.filter(is_running)) {
        Some(running) => {
            let mut as_running = declared.clone();
            as_running.source = running.spec.source.clone();
            let config = as_running != running.spec;
            // Where arguments or environment differ, so does the build, of the same image.
            let differs = |now: &Version| match (&now.pin, &running.pin) {
                (Some(now), Some(running)) => now.manifest != running.manifest || now.build != running.build && !config,
                (now, running) => now != running,
            };
            let outdated = !deployed.clone().any(|v| is_running(&v))
                && record.and_then(|r| r.current.as_ref()).is_some_and(differs);
            (running.spec.source != declared.source || outdated, config)
        }
        // Of an image: an older deployment than those that are recorded. Else what differs can't be told.
        None => (of_image && record.is_some(), !of_image || record.is_none()),
    }
}

fn loops(state: &State, now: SystemTime) -> bool {
    let recent = |at: &String| {
        time::parse(at).is_some_and(|at| now.duration_since(at).is_ok_and(|since| since <= CRASH_LOOP_WITHIN))
    };
    state.restarted_at.iter().filter(|at| recent(at)).count() >= CRASH_LOOP_RESTARTS
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::state::{End, EndedBy, SCHEMA};
    use crate::model::{ComponentId, Digest, Pin, Placement, Record, Runtime, Service};
    use crate::node::inventory::Declared;

    pub(crate) fn running() -> Service {
        let source = Source::Disk { disk: "/images/app.img".into(), kernel: None };
        Service {
            name: "demo".into(),
            active: true,
            placement: Placement::Node,
            components: vec![Component::new("web", Runtime::Unikernel, source)],
            file: "demo.toml".into(),
        }
    }

    pub(crate) fn entry(service: &Service) -> Entry<'_> {
        let component = &service.components[0];
        let id = ComponentId { service: service.name.clone(), component: component.name.clone() };
        Entry { declared: Some(Declared { service, component }), ..Entry::new(id) }
    }

    pub(crate) fn state(phase: Phase, end: Option<(EndedBy, Option<u8>)>) -> State {
        State {
            schema: SCHEMA,
            uuid: "u".into(),
            phase,
            pid: 1,
            supervisor: 2,
            uid: 3,
            started_at: "2026-01-01T00:00:00.000Z".into(),
            ready_answer: None,
            program_started: false,
            settling: false,
            stopping: None,
            stopping_since_ms: None,
            ready_at: None,
            restarts: 0,
            restarted_at: Vec::new(),
            spec: running().components[0].digest(),
            accel: "tcg".into(),
            ports: Vec::new(),
            scratch: Vec::new(),
            image: "/images/app.img".into(),
            qemu: "7.2".into(),
            argv: Vec::new(),
            events: Vec::new(),
            console: None,
            container: None,
            end: end.map(|(by, code)| End {
                at: "2026-01-01T00:00:01.000Z".into(),
                by,
                code,
                signal: None,
                rung: None,
                reason: String::new(),
                console: Vec::new(),
            }),
        }
    }

    fn recorded(service: &Service, wish: Wish, adhoc: bool) -> Record {
        let version = Version { spec: service.components[0].clone(), pin: None, at: String::new() };
        Record { wish, adhoc, current: Some(version), ..Record::new() }
    }

    fn record(service: &Service, wish: Wish) -> Found<Record> {
        Found::Whole(recorded(service, wish, false))
    }

    fn alive(service: &Service) -> Entry<'_> {
        Entry {
            alive: [true, false, false],
            supervised: true,
            state: Found::Whole(state(Phase::Ready, None)),
            record: record(service, Wish::Run),
            ..entry(service)
        }
    }

    fn kinds(entry: &Entry<'_>) -> String {
        let kinds: Vec<_> = drift(entry, None, SystemTime::now()).into_iter().map(Drift::name).collect();
        kinds.join(" ")
    }

    #[test]
    fn what_is_as_it_should_be() {
        let service = running();
        assert_eq!(kinds(&alive(&service)), "");
    }

    #[test]
    fn what_the_cluster_places_drifts_only_where_it_runs() {
        let mut service = running();
        service.placement = Placement::Cluster;
        assert_eq!((kinds(&entry(&service)).as_str(), entry(&service).wanted()), ("", Some(false)));
        assert_eq!((kinds(&alive(&service)).as_str(), alive(&service).wanted()), ("", Some(true)));
        let unsupervised = Entry { supervised: false, ..alive(&service) };
        assert_eq!(kinds(&unsupervised), "unsupervised");
        // It failed here again and again, and the cluster has put it elsewhere.
        let looped =
            State { restarted_at: vec![time::now(); 3], ..state(Phase::Ended, Some((EndedBy::Guest, Some(7)))) };
        let left = Entry { state: Found::Whole(looped), record: record(&service, Wish::Run), ..entry(&service) };
        assert_eq!(kinds(&left), "");
        service.active = false;
        assert_eq!(kinds(&alive(&service)), "stopped-but-running");
        assert!(!entry(&service).may_come());
    }

    #[test]
    fn missing_is_declared_and_not_there() {
        let mut service = running();
        assert_eq!(kinds(&entry(&service)), "missing");
        let coming = Entry { supervised: true, ..entry(&service) };
        assert_eq!(kinds(&coming), "");
        let waiting = Entry { supervised: true, state: Found::Whole(state(Phase::Waiting, None)), ..entry(&service) };
        assert_eq!(kinds(&waiting), "missing");
        let stopped = Entry { record: record(&service, Wish::Stop), ..entry(&service) };
        assert_eq!(kinds(&stopped), "");
        service.active = false;
        assert_eq!(kinds(&entry(&service)), "");
        service.active = true;
        service.components[0].runtime = Runtime::Container;
        assert_eq!(kinds(&entry(&service)), "missing");
        assert_eq!(kinds(&Entry { unseen: true, ..entry(&service) }), "");
    }

    #[test]
    fn runs_and_shall_not() {
        let mut service = running();
        let wished = Entry { record: record(&service, Wish::Stop), ..alive(&service) };
        assert_eq!(kinds(&wished), "stopped-but-running");
        let going = Entry { state: Found::Whole(state(Phase::Stopping, None)), ..wished };
        assert_eq!(kinds(&going), "");
        service.active = false;
        assert_eq!(kinds(&alive(&service)), "stopped-but-running");
    }

    #[test]
    fn orphans() {
        let service = running();
        let mut e = alive(&service);
        e.declared = None;
        assert_eq!(kinds(&e), "orphan");
        e.record = Found::Whole(recorded(&service, Wish::Run, true));
        assert_eq!(kinds(&e), "");
        assert_eq!(kinds(&Entry::new(e.id.clone())), "orphan");
        assert_eq!(kinds(&Entry { supervised: true, ..Entry::new(e.id.clone()) }), "");
        assert_eq!(kinds(&Entry { broken: true, ..Entry::new(e.id.clone()) }), "");
    }

    #[test]
    fn another_specification() {
        let old = running();
        let mut new = running();
        new.components[0].memory_mb = 512;
        fn with_record<'a>(old: &Service, new: &'a Service) -> Entry<'a> {
            Entry { record: record(old, Wish::Run), ..alive(new) }
        }
        assert_eq!(kinds(&with_record(&old, &new)), "config");
        new.components[0].source = Source::Disk { disk: "/images/new.img".into(), kernel: None };
        assert_eq!(kinds(&with_record(&old, &new)), "image config");
        new.components[0].memory_mb = 256;
        assert_eq!(kinds(&with_record(&old, &new)), "image");
        assert_eq!(kinds(&Entry { record: Found::Nothing, ..alive(&new) }), "config");
    }

    fn image(tag: &str) -> Service {
        let mut service = running();
        service.components[0].source = Source::Image { reference: format!("docker.io/x/y:{tag}") };
        service
    }

    fn version(service: &Service, manifest: &str, build: &str) -> Version {
        let digest = Digest::of(manifest.as_bytes());
        let pin = Pin { tagged: digest, manifest: digest, build: build.into() };
        Version { spec: service.components[0].clone(), pin: Some(pin), at: String::new() }
    }

    /// `running` runs; `current` and `candidate` are recorded, and `previous`.
    fn deployed<'a>(declared: &'a Service, running: &Version, versions: [Option<&Version>; 3]) -> Entry<'a> {
        let [current, candidate, previous] = versions.map(Option::<&Version>::cloned);
        let record = Record { current, candidate, previous, ..Record::new() };
        let state = State { spec: running.digest(), ..state(Phase::Ready, None) };
        Entry { record: Found::Whole(record), state: Found::Whole(state), ..alive(declared) }
    }

    #[test]
    fn images_by_what_was_deployed() {
        let service = image("1");
        let now = version(&service, "m1", "b1");
        assert_eq!(kinds(&deployed(&service, &now, [Some(&now), None, None])), "");
        // The definition names another tag, other memory, both.
        let tag = image("2");
        assert_eq!(kinds(&deployed(&tag, &now, [Some(&now), None, None])), "image");
        let mut more = image("1");
        more.components[0].args = Some(vec!["-v".into()]);
        assert_eq!(kinds(&deployed(&more, &now, [Some(&now), None, None])), "config");
        more.components[0].source = tag.components[0].source.clone();
        assert_eq!(kinds(&deployed(&more, &now, [Some(&now), None, None])), "image config");
        // Deployed anew, of another image or by another builder, and the old one still runs.
        for new in [version(&service, "m2", "b2"), version(&service, "m1", "b2")] {
            assert_eq!(kinds(&deployed(&service, &now, [Some(&new), None, Some(&now)])), "image");
            assert_eq!(kinds(&deployed(&service, &now, [Some(&new), None, None])), "image");
        }
        // Only with other arguments: the image is the same, though built anew.
        more.components[0].source = service.components[0].source.clone();
        let new = version(&more, "m1", "b2");
        assert_eq!(kinds(&deployed(&more, &now, [Some(&new), None, Some(&now)])), "config");
    }

    #[test]
    fn a_trial_is_no_drift_by_itself() {
        let (old, new) = (image("1"), image("2"));
        let (current, candidate) = (version(&old, "m1", "b1"), version(&new, "m2", "b2"));
        // Before its turn: the definition has gone ahead.
        assert_eq!(kinds(&deployed(&new, &current, [Some(&current), Some(&candidate), None])), "image");
        assert_eq!(kinds(&deployed(&new, &candidate, [Some(&current), Some(&candidate), None])), "");
        assert_eq!(kinds(&deployed(&new, &candidate, [None, Some(&candidate), None])), "");
        // The same tag, pulled anew: nothing that the definition says differs yet.
        let again = version(&old, "m3", "b3");
        assert_eq!(kinds(&deployed(&old, &current, [Some(&current), Some(&again), None])), "");
    }

    #[test]
    fn images_that_shall_run_and_shall_not() {
        let mut service = image("1");
        assert_eq!(kinds(&entry(&service)), "missing");
        let now = version(&service, "m1", "b1");
        let stopped = Record { wish: Wish::Stop, current: Some(now.clone()), ..Record::new() };
        let runs = deployed(&service, &now, [Some(&now), None, None]);
        assert_eq!(kinds(&Entry { record: Found::Whole(stopped), ..runs }), "stopped-but-running");
        service.active = false;
        assert_eq!(kinds(&deployed(&service, &now, [Some(&now), None, None])), "stopped-but-running");
        // Its record is gone: nobody can tell what differs.
        service.active = true;
        let runs = deployed(&service, &now, [Some(&now), None, None]);
        assert_eq!(kinds(&Entry { record: Found::Nothing, ..runs }), "config");
    }

    #[test]
    fn nobody_watches() {
        let service = running();
        assert_eq!(kinds(&Entry { supervised: false, ..alive(&service) }), "unsupervised");
    }

    #[test]
    fn restarts_count_while_they_are_recent() {
        let service = running();
        let now = SystemTime::now();
        let ago = |s| time::rfc3339(now - Duration::from_secs(s));
        let mut e = alive(&service);
        let mut told = |times: Vec<String>| {
            let mut s = state(Phase::Ready, None);
            s.restarted_at = times;
            e.state = Found::Whole(s);
            kinds(&e)
        };
        assert_eq!(told(vec![ago(1), ago(2)]), "");
        assert_eq!(told(vec![ago(1), ago(2), ago(590)]), "crash-loop");
        assert_eq!(told(vec![ago(1), ago(2), ago(700)]), "");
        assert_eq!(told(vec!["junk".into(), ago(2), ago(3)]), "");
    }

    #[test]
    fn damage_and_verdicts() {
        let service = running();
        assert_eq!(kinds(&Entry { record: Found::Damaged("x".into()), ..alive(&service) }), "record");
        let orphan = Entry { record: Found::Damaged("x".into()), ..Entry::new(entry(&service).id) };
        assert_eq!(kinds(&orphan), "record");
        let bad = Verdict::Unhealthy("refused".into());
        assert_eq!(drift(&alive(&service), Some(&bad), SystemTime::now()), [Drift::Unhealthy]);
        let mut starting = alive(&service);
        starting.state = Found::Whole(state(Phase::Starting, None));
        assert_eq!(drift(&starting, Some(&bad), SystemTime::now()), []);
    }
}
