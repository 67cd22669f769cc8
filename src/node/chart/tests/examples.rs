//! Boots to look at. `MCP_CHART_DIR=DIR cargo test --lib chart` leaves their pictures and tables in DIR.

use crate::model::boot_record::{
    BootRecord, Component, Event, Kind, LeftOut, Mode, Outcome, Run, SCHEMA, Stage, StageOutcome,
};
use crate::model::{HealthKind, Runtime};
use std::time::Duration;

/// A record with nothing in it.
pub fn empty() -> BootRecord {
    BootRecord {
        schema: SCHEMA,
        boot_id: "9f0c1f7e-7f2a-4a51-a1d5-1f3a0e3e9b52".into(),
        began: "2026-11-23T10:20:30.123Z".into(),
        zero_ms: 12_345,
        ended: None,
        ended_ms: None,
        outcome: Outcome::Running,
        mode: Mode::Whole,
        runs: vec![Run {
            id: "812-4711-0".into(),
            stage: None,
            began_ms: 0,
            ended_ms: None,
            outcome: Outcome::Running,
        }],
        stages: Vec::new(),
        read_ms: None,
    }
}

/// The same, ended.
pub fn ended(stages: Vec<Stage>, outcome: Outcome, at_ms: u64) -> BootRecord {
    let mut record = BootRecord { stages, outcome, ended_ms: Some(at_ms), ..empty() };
    record.runs[0].outcome = outcome;
    record.runs[0].ended_ms = Some(at_ms);
    record
}

pub fn stage(name: &str, from: u64, to: u64, outcome: StageOutcome, components: Vec<Component>) -> Stage {
    Stage {
        run: 0,
        name: name.into(),
        health: HealthKind::Grpc,
        timeout: Duration::from_secs(60),
        foundation: name == "foundation",
        began_ms: (outcome != StageOutcome::Waiting).then_some(from),
        ended_ms: (!matches!(outcome, StageOutcome::Waiting | StageOutcome::Running)).then_some(to),
        outcome,
        components,
    }
}

pub fn component(id: &str, runtime: Runtime, events: &[(u64, Kind, &str)]) -> Component {
    let count = |kind| events.iter().filter(|e| e.1 == kind).count() as u32;
    Component {
        id: id.into(),
        runtime,
        retries: count(Kind::Retry),
        deaths: count(Kind::Died),
        events: events.iter().map(|(at, kind, text)| Event { at_ms: *at, kind: *kind, text: (*text).into() }).collect(),
        left_out: None,
    }
}

/// One that came up as it should.
pub fn good(id: &str, runtime: Runtime, start: u64, started: u64, ready: u64, healthy: u64) -> Component {
    use Kind::*;
    let waiting = "guest does not answer on 8443";
    component(
        id,
        runtime,
        &[
            (start, Start, ""),
            (started, Started, ""),
            (started + 1, Unhealthy, waiting),
            (ready, Ready, ""),
            (healthy, Healthy, "grpc 127.0.0.1:8443 SERVING"),
        ],
    )
}

/// `count` good ones that began at `from`, all healthy within about `span`.
fn many(service: &str, count: u64, runtime: Runtime, from: u64, span: u64) -> Vec<Component> {
    let one = |i: u64| {
        let wobble = (i * 7919 + 13) % 97;
        let start = from + i * 9;
        let started = start + 60 + wobble;
        let ready = start + span * (55 + wobble / 4) / 100;
        let healthy = ready + span * (3 + wobble % 19) / 100;
        good(
            &format!("{service}-{:02}/{}", i + 1, ["api", "db", "cache"][i as usize % 3]),
            runtime,
            start,
            started,
            ready,
            healthy,
        )
    };
    (0..count).map(one).collect()
}

/// 30 components in four stages, all well but for one that is slow and one that died once.
pub fn whole() -> BootRecord {
    use Kind::*;
    let mut core = many("registry", 6, Runtime::Unikernel, 1430, 1100);
    core[2] = component(
        "registry-03/cache",
        Runtime::Unikernel,
        &[
            (1448, Start, ""),
            (1520, Started, ""),
            (1900, Died, "program ended with exit code 1: \"no such table: blobs\""),
            (2150, Retry, ""),
            (2230, Started, ""),
            (2700, Ready, ""),
            (2790, Healthy, ""),
        ],
    );
    let mut apps = many("shop", 9, Runtime::Unikernel, 2790, 1500);
    apps.extend(many("jobs", 7, Runtime::Container, 2800, 1900));
    apps[4] = component("shop-05/db", Runtime::Microvm, &[(2826, Skipped, "")]);
    let mut edge = many("edge", 3, Runtime::Microvm, 4990, 3330);
    edge.push(component(
        "proxy/main",
        Runtime::Container,
        &[(4990, Already, ""), (5012, Healthy, "http 127.0.0.1:80 200")],
    ));
    edge.push(component(
        "metrics/scraper",
        Runtime::Microvm,
        &[(4991, Adopted, ""), (5020, Unhealthy, "connection refused"), (6300, Healthy, "tcp 127.0.0.1:9090")],
    ));
    let foundation = vec![
        good("mcias/api", Runtime::Unikernel, 4, 108, 980, 1310),
        good("mcns/resolver", Runtime::Unikernel, 6, 121, 840, 1430),
        good("mcns/zones", Runtime::Microvm, 7, 95, 1200, 1290),
    ];
    ended(
        vec![
            stage("foundation", 3, 1430, StageOutcome::Healthy, foundation),
            stage("core", 1430, 2790, StageOutcome::Healthy, core),
            stage("apps", 2790, 4990, StageOutcome::Healthy, apps),
            stage("edge", 4990, 8190, StageOutcome::Healthy, edge),
        ],
        Outcome::Ready,
        8195,
    )
}

/// A foundation that waited ten minutes for something, and tried again all the while.
pub fn waited(minutes: u64) -> BootRecord {
    use Kind::*;
    let end = minutes * 60_000;
    let mut events = vec![(5, Start, ""), (90, Started, ""), (300, Died, "program ended with exit code 3")];
    let (mut at, mut pause) = (300, 1000);
    while at + pause + 900 < end {
        at += pause;
        events.push((at, Retry, ""));
        events.push((at + 80, Started, ""));
        at += 400;
        events.push((at, Died, "program ended with exit code 3: \"can't reach 10.0.2.2:5432\""));
        pause = (pause * 2).min(30_000);
    }
    events.extend([(end, Retry, ""), (end + 85, Started, ""), (end + 700, Ready, ""), (end + 820, Healthy, "")]);
    let mut waited = component("mcias/api", Runtime::Unikernel, &events);
    if waited.events.len() > 32 {
        let count = waited.events.len() - 32;
        waited.events.drain(8..8 + count);
        waited.left_out = Some(LeftOut { after: 8, count: count as u32 });
    }
    let gate = end + 820;
    let foundation = vec![
        waited,
        good("mcns/resolver", Runtime::Unikernel, 6, 121, 840, 1430),
        good("mcns/zones", Runtime::Microvm, 7, 95, 1200, 1290),
    ];
    ended(
        vec![
            stage("foundation", 3, gate, StageOutcome::Healthy, foundation),
            stage("core", gate, gate + 1300, StageOutcome::Healthy, many("core", 4, Runtime::Unikernel, gate, 1100)),
            stage(
                "apps",
                gate + 1300,
                gate + 3400,
                StageOutcome::Healthy,
                many("app", 5, Runtime::Container, gate + 1300, 1900),
            ),
        ],
        Outcome::Ready,
        gate + 3405,
    )
}

/// A boot with all kinds of trouble, and a stage that was never reached.
pub fn failed() -> BootRecord {
    use Kind::*;
    let foundation = vec![good("mcias/api", Runtime::Unikernel, 4, 108, 980, 1310)];
    let core = vec![
        good("metacrypt/api", Runtime::Unikernel, 1312, 1400, 2100, 2250),
        component(
            "mcr/api",
            Runtime::Microvm,
            &[
                (1313, Start, ""),
                (1420, Started, ""),
                (2500, Unhealthy, "accepted by the port forward but not by the guest: 8443"),
                (61_310, Warned, "not healthy within 1 min"),
            ],
        ),
        component(
            "mcr/gc",
            Runtime::Container,
            &[
                (1314, Start, ""),
                (
                    1700,
                    Failed,
                    "image registry.example:5000/mcr-gc@sha256:0123456789abcdef0123456789abcdef is not on this node, and was never deployed: mcp deploy mcr",
                ),
                (61_310, Warned, "not healthy within 1 min"),
            ],
        ),
        component(
            "mcr/indexer",
            Runtime::Unikernel,
            &[
                (1315, Start, ""),
                (1500, Started, ""),
                (30_000, Died, "killed by SIGSEGV"),
                (61_310, Warned, "not healthy within 1 min"),
            ],
        ),
    ];
    let apps = vec![
        good("shop/api", Runtime::Unikernel, 61_312, 61_400, 68_000, 69_250),
        component(
            "shop/db",
            Runtime::Microvm,
            &[
                (61_312, Start, ""),
                (61_400, Started, ""),
                (62_000, Unhealthy, "TLS: certificate for \"localhost\", not \"shop\""),
            ],
        ),
        component("shop/old", Runtime::Container, &[(61_312, Skipped, "")]),
    ];
    let edge = vec![component("edge/proxy", Runtime::Container, &[]), component("edge/metrics", Runtime::Microvm, &[])];
    ended(
        vec![
            stage("foundation", 3, 1310, StageOutcome::Healthy, foundation),
            stage("core", 1311, 61_311, StageOutcome::TimedOut, core),
            stage("apps", 61_311, 75_000, StageOutcome::Interrupted, apps),
            stage("edge", 0, 0, StageOutcome::Waiting, edge),
        ],
        Outcome::Interrupted,
        75_000,
    )
}

/// One component, up in 20 ms.
pub fn tiny() -> BootRecord {
    let one = good("a/a", Runtime::Container, 0, 9, 12, 19);
    ended(vec![stage("foundation", 0, 20, StageOutcome::Healthy, vec![one])], Outcome::Ready, 20)
}

/// 300 components.
pub fn huge() -> BootRecord {
    let stages = (0..10_u64).map(|i| {
        let components =
            many(&format!("fleet{i}"), 30, [Runtime::Unikernel, Runtime::Microvm][i as usize % 2], i * 3000, 2500);
        stage(&format!("stage-{i}"), i * 3000, (i + 1) * 3000, StageOutcome::Healthy, components)
    });
    ended(stages.collect(), Outcome::Ready, 30_000)
}

/// Names and texts as bad as they can be.
pub fn hostile() -> BootRecord {
    use Kind::*;
    let long = "a-name-that-has-all-thirty-two-c/a-name-that-has-all-thirty-two-d";
    let evil = "</title><script>alert(1)</script>&amp;\"'\u{1b}[2J\u{9b}\u{202e}\0\u{fffe}]]>\nline\ttab 世界";
    let components = vec![
        component(long, Runtime::Microvm, &[(0, Start, ""), (5, Started, evil), (9, Died, evil), (9, Failed, evil)]),
        component(evil, Runtime::Unikernel, &[(0, Start, evil), (8, Unhealthy, evil), (400, Warned, evil)]),
        // Times that go back, and beyond all bounds.
        component(
            "z/z",
            Runtime::Unikernel,
            &[(500, Start, ""), (3, Healthy, ""), (u64::MAX, Died, ""), (7, Retry, "")],
        ),
    ];
    let mut record = ended(
        vec![
            stage(evil, 0, 500, StageOutcome::TimedOut, components),
            stage("none", u64::MAX, 0, StageOutcome::Healthy, Vec::new()),
        ],
        Outcome::Failed,
        500,
    );
    record.began = evil.into();
    record
}

/// One that goes on, stage by stage.
pub fn running() -> BootRecord {
    use Kind::*;
    let apps = vec![
        good("shop/api", Runtime::Unikernel, 1320, 1400, 1900, 2250),
        component(
            "shop/db",
            Runtime::Microvm,
            &[(1320, Start, ""), (1450, Started, ""), (2300, Unhealthy, "connection refused")],
        ),
        component("shop/cache", Runtime::Container, &[(1320, Start, "")]),
    ];
    let foundation = vec![good("mcias/api", Runtime::Unikernel, 4, 108, 980, 1310)];
    let mut record = BootRecord {
        mode: Mode::Stages,
        stages: vec![
            stage("foundation", 3, 1310, StageOutcome::Healthy, foundation),
            stage("apps", 1318, 0, StageOutcome::Running, apps),
        ],
        read_ms: Some(4000),
        ..empty()
    };
    record.runs = ["foundation", "apps"].map(|name| Run { stage: Some(name.into()), ..record.runs[0].clone() }).into();
    record.stages[1].run = 1;
    record
}

/// All of them.
pub fn all() -> Vec<(&'static str, BootRecord)> {
    let none = ended(Vec::new(), Outcome::Ready, 0);
    vec![
        ("whole", whole()),
        ("waited-10min", waited(10)),
        ("waited-3days", waited(3 * 24 * 60)),
        ("failed", failed()),
        ("tiny", tiny()),
        ("huge", huge()),
        ("hostile", hostile()),
        ("running", running()),
        ("none", none),
    ]
}
