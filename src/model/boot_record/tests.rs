//! What a record keeps, what it refuses, and that its writers lose nothing of each other's.
#![allow(clippy::unwrap_used)]

use super::bounds::{self, TEXT_MAX};
use super::*;
use crate::model::ComponentId;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Instant;

struct Root(PathBuf, Paths);

impl Root {
    fn new(name: &str) -> Root {
        let dir = std::env::temp_dir().join(format!("mcp-boot-record-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        let paths = Paths::under(&dir);
        Root(dir, paths)
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&fs::read(self.1.boot_record()).unwrap()).unwrap()
    }

    fn write(&self, record: &BootRecord) {
        fs::create_dir_all(&self.1.lib).unwrap();
        fs::write(self.1.boot_record(), serde_json::to_vec(record).unwrap()).unwrap();
    }

    fn read(&self) -> BootRecord {
        BootRecord::read(&self.1).unwrap().unwrap()
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn id(name: &str) -> ComponentId {
    let (service, component) = name.split_once('/').unwrap();
    ComponentId { service: service.into(), component: component.into() }
}

fn plan(name: &str, components: &[&str]) -> Plan {
    Plan {
        stage: crate::model::node::Stage {
            name: name.into(),
            services: components.iter().map(|c| id(c).service).collect(),
            timeout: Duration::from_secs(60),
            health: HealthKind::Tcp,
        },
        foundation: name == "foundation",
        components: components.iter().map(|c| (id(c), Runtime::Unikernel)).collect(),
    }
}

/// Runs the one stage `name` to its end.
fn run_stage(root: &Root, name: &str, component: &str) {
    let recorder = Recorder::begin(&root.1, Some(name), &[plan(name, &[component])]);
    recorder.stage_began(name);
    recorder.note(&id(component), Kind::Healthy, "");
    recorder.stage_ended(name, StageOutcome::Healthy);
    recorder.finish(Outcome::Ready);
}

#[test]
fn a_whole_boot() {
    let root = Root::new("whole");
    assert_eq!(BootRecord::read(&root.1).unwrap(), None);
    let recorder = Recorder::begin(&root.1, None, &[plan("foundation", &["a/a"]), plan("core", &["b/b", "b/c"])]);
    assert_eq!(root.read().outcome, Outcome::Running);
    assert_eq!(root.json()["stages"][1]["outcome"], "waiting");
    recorder.stage_began("foundation");
    recorder.note(&id("a/a"), Kind::Start, "");
    recorder.note(&id("a/a"), Kind::Unhealthy, "connection refused");
    recorder.note(&id("a/a"), Kind::Unhealthy, "connection refused");
    recorder.note(&id("a/a"), Kind::Healthy, "tcp 127.0.0.1:80");
    recorder.note(&id("nobody/knows"), Kind::Healthy, "");
    recorder.stage_ended("foundation", StageOutcome::Healthy);
    assert_eq!(BootRecord { read_ms: None, ..root.read() }, recorder.record());
    assert!(root.read().last_ms() >= recorder.record().last_ms());
    recorder.stage_began("core");
    recorder.note(&id("b/b"), Kind::Skipped, "");
    recorder.note(&id("b/c"), Kind::Warned, "not healthy within 60s");
    recorder.stage_ended("core", StageOutcome::TimedOut);
    recorder.finish(Outcome::Ready);

    let mut told = root.json();
    assert_eq!(told["boot_id"], crate::sys::time::boot_id());
    for key in ["began", "ended"] {
        assert!(crate::sys::time::parse(told[key].as_str().unwrap()).is_some());
    }
    // What is left then is the same each time, but for the clock.
    let mut times = Vec::new();
    zero_times(&mut told, &mut times);
    assert!(times.iter().all(|ms| *ms < 600_000), "{times:?}");
    let run = json!({ "id": told["runs"][0]["id"], "stage": null, "began_ms": 0, "ended_ms": 0, "outcome": "ready" });
    let component = |id: &str, events: Value| json!({ "id": id, "runtime": "unikernel", "retries": 0, "deaths": 0, "events": events });
    let stage = |name: &str, foundation: bool, outcome: &str, components: Value| {
        json!({ "run": 0, "name": name, "health": "tcp", "timeout": "1m", "foundation": foundation, "began_ms": 0,
                "ended_ms": 0, "outcome": outcome, "components": components })
    };
    let first = json!([
        { "at_ms": 0, "kind": "start" },
        { "at_ms": 0, "kind": "unhealthy", "text": "connection refused" },
        { "at_ms": 0, "kind": "healthy", "text": "tcp 127.0.0.1:80" },
    ]);
    let expected = json!({
        "schema": 1,
        "boot_id": told["boot_id"],
        "began": told["began"],
        "zero_ms": 0,
        "ended": told["ended"],
        "ended_ms": 0,
        "outcome": "ready",
        "mode": "whole",
        "runs": [run],
        "stages": [
            stage("foundation", true, "healthy", json!([component("a/a", first)])),
            stage("core", false, "timed-out", json!([
                component("b/b", json!([{ "at_ms": 0, "kind": "skipped" }])),
                component("b/c", json!([{ "at_ms": 0, "kind": "warned", "text": "not healthy within 60s" }])),
            ])),
        ],
    });
    assert_eq!(told, expected);
    // Nothing else is left: no lock, no half-written file.
    let left = |dir: &Path| fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name()).collect::<Vec<_>>();
    assert_eq!((left(&root.1.lib), left(&root.1.boot_runs())), (vec!["boot.json".into()], vec![]));
}

/// Makes all times 0, and tells those that count from the beginning.
fn zero_times(value: &mut Value, times: &mut Vec<u64>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value.as_u64() {
                    Some(ms) if key.ends_with("_ms") => {
                        if key != "zero_ms" {
                            times.push(ms);
                        }
                        *value = json!(0);
                    }
                    _ => zero_times(value, times),
                }
            }
        }
        Value::Array(all) => all.iter_mut().for_each(|v| zero_times(v, times)),
        _ => {}
    }
}

#[test]
fn what_is_not_a_record() {
    let root = Root::new("not");
    fs::create_dir_all(&root.1.lib).unwrap();
    let path = root.1.boot_record();
    let told = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let error = BootRecord::read(&root.1).unwrap_err();
        assert_eq!(error.exit_code(), 100);
        error.to_string().replace(&path.display().to_string(), "FILE")
    };
    assert_eq!(told(b""), "FILE: damaged boot record: EOF while parsing a value at line 1 column 0");
    assert_eq!(told(b"{\"schema\":0}"), "FILE: damaged boot record: schema 0");
    assert!(told(b"{\"schema\":1}").starts_with("FILE: damaged boot record: missing field"));
    assert_eq!(
        told(b"{\"schema\":2,\"what\":[]}"),
        "FILE: boot record of schema 2 was written by a newer mcp; this one reads up to 1"
    );
    let mut whole = Recorder::begin(&root.1, None, &[plan("a", &["a/a"])]).record();
    whole.stages[0].run = 7;
    assert_eq!(
        told(&serde_json::to_vec(&whole).unwrap()),
        "FILE: damaged boot record: stage of run 7, which it doesn't have"
    );
    let bytes = serde_json::to_vec(&whole).unwrap();
    for end in 0..bytes.len() {
        assert!(BootRecord::parse(&path, &bytes[..end]).is_err(), "{end} bytes of {}", bytes.len());
    }
    fs::remove_file(&path).unwrap();
    fs::File::create(&path).unwrap().set_len(SIZE_MAX + 1).unwrap();
    assert_eq!(
        BootRecord::read(&root.1).unwrap_err().to_string(),
        format!("{}: larger than 16777216 bytes", path.display())
    );
    // A boot goes on all the same, and what a newer mcp wrote is kept for it.
    fs::write(&path, "{\"schema\":2}").unwrap();
    Recorder::begin(&root.1, None, &[plan("a", &["a/a"])]).finish(Outcome::Ready);
    assert_eq!(root.read().outcome, Outcome::Ready);
    assert_eq!(fs::read_to_string(root.1.boot_record_before()).unwrap(), "{\"schema\":2}");
}

#[test]
fn a_killed_boot_is_interrupted() {
    let root = Root::new("killed");
    let plans = [plan("foundation", &["a/a"]), plan("core", &["b/b"])];
    let recorder = Recorder::begin(&root.1, None, &plans);
    recorder.stage_began("foundation");
    recorder.note(&id("a/a"), Kind::Start, "");
    recorder.flush();
    let id_of_run = root.read().runs[0].id.clone();
    assert!(crate::sys::lock::is_held(&root.1.boot_runs().join(&id_of_run)).unwrap());
    // As SIGKILL does: the lock goes, and nothing is written any more.
    drop(recorder);
    assert_eq!(root.json()["outcome"], "running");
    let found = root.read();
    let heard = found.stages[0].components[0].events[0].at_ms;
    assert_eq!((found.outcome, found.ended_ms, &found.ended), (Outcome::Interrupted, Some(heard), &None));
    assert_eq!((found.stages[0].outcome, found.stages[0].ended_ms), (StageOutcome::Interrupted, Some(heard)));
    assert_eq!(found.stages[1].outcome, StageOutcome::Waiting);

    let next = Recorder::begin(&root.1, None, &plans);
    let before: Value = serde_json::from_slice(&fs::read(root.1.boot_record_before()).unwrap()).unwrap();
    assert_eq!(before["outcome"], "interrupted");
    assert_eq!(BootRecord::read_before(&root.1).unwrap().unwrap(), found);
    assert!(!root.1.boot_runs().join(&id_of_run).exists(), "the dead one's lock is swept away");
    assert_eq!(root.read().outcome, Outcome::Running);
    next.finish(Outcome::Failed);
    assert_eq!(root.read().outcome, Outcome::Failed);
}

#[test]
fn a_record_of_another_boot_of_the_kernel_runs_no_more() {
    let root = Root::new("reboot");
    let recorder = Recorder::begin(&root.1, Some("core"), &[plan("core", &["a/a"])]);
    recorder.stage_began("core");
    // The lock is held, but that is of another time.
    root.write(&BootRecord { boot_id: "other".into(), ..recorder.record() });
    assert_eq!(root.read().outcome, Outcome::Interrupted);
    run_stage(&root, "apps", "b/b");
    assert_eq!(root.read().stages.len(), 1);
    assert_eq!(BootRecord::read_before(&root.1).unwrap().unwrap().boot_id, "other");
    // Nor does one with a name that isn't a lock's.
    let mut odd = recorder.record();
    odd.runs[0].id = "../../etc/passwd".into();
    root.write(&odd);
    assert_eq!(root.read().outcome, Outcome::Interrupted);
}

#[test]
fn stages_of_one_boot_share_a_record() {
    let root = Root::new("stages");
    run_stage(&root, "foundation", "a/a");
    let first = root.read();
    run_stage(&root, "core", "b/b");
    let both = root.read();
    assert_eq!((both.mode, both.outcome, both.zero_ms), (Mode::Stages, Outcome::Ready, first.zero_ms));
    let names: Vec<_> = both.stages.iter().map(|s| (s.run, s.name.as_str())).collect();
    assert_eq!(names, [(0, "foundation"), (1, "core")]);
    assert_eq!(both.stages[0], first.stages[0]);
    assert!(both.runs[1].began_ms >= both.runs[0].ended_ms.unwrap());
    assert!(both.stages[1].began_ms >= both.stages[0].ended_ms);

    // One that is killed and run again goes on with it.
    let killed = Recorder::begin(&root.1, Some("apps"), &[plan("apps", &["c/c"])]);
    killed.stage_began("apps");
    killed.flush();
    drop(killed);
    assert_eq!(root.read().outcome, Outcome::Interrupted);
    run_stage(&root, "apps", "c/c");
    let again = root.read();
    let outcomes: Vec<_> = again.stages.iter().map(|s| (s.name.as_str(), s.outcome)).collect();
    use StageOutcome::{Healthy, Interrupted};
    assert_eq!(outcomes, [("foundation", Healthy), ("core", Healthy), ("apps", Interrupted), ("apps", Healthy)]);
    assert_eq!(again.outcome, Outcome::Ready, "the last run of each stage counts");

    // One that had come to its end is another boot, and so is one long after.
    run_stage(&root, "core", "b/b");
    assert_eq!(root.read().stages.len(), 1);
    assert_eq!(BootRecord::read_before(&root.1).unwrap().unwrap(), again);
    let mut old = root.read();
    old.zero_ms = 0;
    old.boot_id = crate::sys::time::boot_id();
    let since = crate::sys::time::since_boot_ms();
    if since > old.last_ms() + 3_600_000 {
        root.write(&old);
        run_stage(&root, "late", "b/b");
        assert_eq!(root.read().stages.len(), 1);
    }
}

#[test]
fn stages_at_once_lose_nothing() {
    const EACH: u64 = 60;
    let root = Root::new("at-once");
    std::thread::scope(|scope| {
        for name in ["one", "two", "three", "four"] {
            let root = &root;
            scope.spawn(move || {
                let component = format!("{name}/c");
                let recorder = Recorder::begin(&root.1, Some(name), &[plan(name, &[&component])]);
                recorder.stage_began(name);
                for n in 0..EACH {
                    recorder.note(&id(&component), Kind::Retry, &n.to_string());
                    recorder.flush();
                }
                recorder.stage_ended(name, StageOutcome::Healthy);
                recorder.finish(Outcome::Ready);
            });
        }
    });
    let record = root.read();
    // Whoever came after another had ended joins it too: no stage comes twice.
    assert_eq!((record.outcome, record.runs.len(), record.stages.len()), (Outcome::Ready, 4, 4));
    assert!(record.ended.is_some());
    for (i, stage) in record.stages.iter().enumerate() {
        assert_eq!((stage.run, stage.outcome), (i, StageOutcome::Healthy));
        assert_eq!(Some(&stage.name), record.runs[i].stage.as_ref());
        let component = &stage.components[0];
        assert_eq!(u64::from(component.retries), EACH);
        assert_eq!(component.events.last().unwrap().text, (EACH - 1).to_string());
    }
}

#[test]
fn a_second_boot_leaves_the_first_ones_record_alone() {
    let root = Root::new("second");
    let first = Recorder::begin(&root.1, None, &[plan("a", &["a/a"])]);
    let second = Recorder::begin(&root.1, None, &[plan("b", &["b/b"])]);
    second.stage_began("b");
    second.note(&id("b/b"), Kind::Start, "");
    assert_eq!(second.record().stages[0].components[0].events.len(), 1, "in memory it is kept");
    assert!(second.due().is_none());
    second.finish(Outcome::Ready);
    first.finish(Outcome::Ready);
    let record = root.read();
    assert_eq!((record.stages.len(), record.stages[0].name.as_str()), (1, "a"));
    assert!(!root.1.boot_record_before().exists());
}

#[test]
fn no_place_for_it_is_no_reason_to_fail() {
    let root = Root::new("no-place");
    fs::create_dir_all(&root.0).unwrap();
    fs::write(&root.1.lib, "not a folder").unwrap();
    let recorder = Recorder::begin(&root.1, None, &[plan("a", &["a/a"])]);
    recorder.stage_began("a");
    recorder.note(&id("a/a"), Kind::Healthy, "");
    assert_eq!(recorder.record().stages[0].components[0].events.len(), 1);
    recorder.finish(Outcome::Ready);
    assert_eq!(fs::read_to_string(&root.1.lib).unwrap(), "not a folder");
}

#[test]
fn writes_are_few() {
    let root = Root::new("few");
    let recorder = Recorder::begin(&root.1, None, &[plan("a", &["a/a"])]);
    recorder.stage_began("a");
    let began = Instant::now();
    let mut files = vec![fs::metadata(root.1.boot_record()).unwrap().ino()];
    for n in 0..2000 {
        recorder.note(&id("a/a"), Kind::Retry, &n.to_string());
        files.push(fs::metadata(root.1.boot_record()).unwrap().ino());
    }
    // Each writing is another file.
    files.dedup();
    let most = began.elapsed().as_millis() / 200 + 2;
    assert!((files.len() as u128) <= most, "{} writings in {:?}", files.len(), began.elapsed());
    let last = |record: &BootRecord| record.stages[0].components[0].retries;
    if let Some(due) = recorder.due() {
        assert!(due.left() <= Duration::from_millis(200));
        assert!(last(&root.read()) < 2000);
        recorder.flush();
    }
    assert!(recorder.due().is_none());
    assert_eq!(last(&root.read()), 2000);
}

fn long_component() -> Component {
    let mut component = Component {
        id: "a-name-of-thirty-two-characters-a/b".into(),
        runtime: Runtime::Microvm,
        retries: 0,
        deaths: 0,
        events: Vec::new(),
        left_out: None,
    };
    for n in 0..100_u64 {
        component.push(n, Kind::Retry, &"é\"\u{1}".repeat(500));
        component.push(n, Kind::Died, "");
    }
    component
}

#[test]
fn a_component_keeps_its_first_and_last_events() {
    let mut component = long_component();
    assert_eq!((component.events.len(), component.retries, component.deaths), (32, 100, 100));
    assert_eq!(component.left_out, Some(LeftOut { after: 8, count: 168 }));
    let times: Vec<u64> = component.events.iter().map(|e| e.at_ms).collect();
    assert_eq!(times[..9], [0, 0, 1, 1, 2, 2, 3, 3, 88]);
    assert_eq!(times[31], 99);
    let text = &component.events[0].text;
    assert!(text.len() <= TEXT_MAX && text.len() > TEXT_MAX - 5 && text.ends_with('…'), "{}", text.len());
    // What lasts is told once.
    component.push(200, Kind::Unhealthy, "no");
    component.push(201, Kind::Unhealthy, "no");
    component.push(202, Kind::Unhealthy, "still no");
    let last: Vec<u64> = component.events.iter().rev().take(3).map(|e| e.at_ms).collect();
    assert_eq!(last, [202, 200, 99]);
}

#[test]
fn a_record_can_always_be_read_back() {
    let root = Root::new("large");
    let mut record = Recorder::begin(&root.1, None, &[plan("a", &["a/a"])]).record();
    record.stages[0].components = vec![long_component(); 30];
    let whole = bounds::to_bytes(&record).unwrap();
    assert_eq!(BootRecord::parse(Path::new("x"), &whole).unwrap(), record);
    // With a smaller limit, so that the test is quick.
    let kept = |limit: u64| {
        let bytes = bounds::within(&record, limit).unwrap();
        assert!(bytes.len() as u64 <= limit);
        let back = BootRecord::parse(Path::new("x"), &bytes).unwrap();
        assert_eq!(back.stages[0].components.len(), 30);
        let one = back.stages[0].components[0].clone();
        assert_eq!(one.retries, 100);
        (one.events.len(), one.left_out.unwrap())
    };
    assert_eq!(kept(whole.len() as u64), (32, LeftOut { after: 8, count: 168 }));
    assert_eq!(kept(whole.len() as u64 - 1), (9, LeftOut { after: 3, count: 191 }));
    assert_eq!(kept(50_000), (3, LeftOut { after: 1, count: 197 }));
    assert_eq!(kept(9_000), (1, LeftOut { after: 0, count: 199 }));
    let error = bounds::within(&record, 3_000).unwrap_err().to_string();
    assert_eq!(error, "boot record: larger than 3000 bytes even with one event a component");
}
