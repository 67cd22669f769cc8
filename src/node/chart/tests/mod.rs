//! What the views say, and that no record breaks them.
#![allow(clippy::unwrap_used)]

mod check;
mod examples;

use super::axis::Axis;
use super::layout::Layout;
use super::row::{End, Phase, rows};
use super::words::{clean, fit_middle, moment, short, span};
use super::{Style, svg, text};
use crate::model::Runtime;
use crate::model::boot_record::{BootRecord, Kind, LeftOut, Outcome, StageOutcome};
use check::{Element, parse};
use examples::{component, ended, stage};

const PLAIN: Style = Style { width: None, colour: false };

/// All elements of a picture.
fn picture(record: &BootRecord) -> Vec<Element> {
    parse(&svg(record, "node7")).unwrap()
}

fn texts(elements: &[Element], name: &str) -> Vec<String> {
    elements.iter().filter(|e| e.name == name).map(|e| e.text.clone()).collect()
}

#[test]
fn examples_can_be_looked_at() {
    for (name, record) in examples::all() {
        let (picture, table) =
            (svg(&record, "node7"), text(&record, "node7", Style { width: Some(120), colour: false }));
        if let Some(dir) = std::env::var_os("MCP_CHART_DIR") {
            let dir = std::path::Path::new(&dir);
            std::fs::write(dir.join(format!("{name}.svg")), &picture).unwrap();
            std::fs::write(dir.join(format!("{name}.txt")), &table).unwrap();
        }
        assert_eq!(picture, svg(&record, "node7"), "{name}: the same record, the same bytes");
        parse(&picture).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(table.lines().all(|l| l.chars().count() <= 120 && !l.ends_with(' ')), "{name}:\n{table}");
    }
}

#[test]
fn spans_as_people_read_them() {
    let told = |ms: &[u64]| ms.iter().map(|ms| span(*ms)).collect::<Vec<_>>().join(", ");
    assert_eq!(told(&[0, 20, 999, 1000, 1004, 1005, 9994]), "0 ms, 20 ms, 999 ms, 1 s, 1 s, 1.01 s, 9.99 s");
    assert_eq!(told(&[9995, 10_000, 12_340, 59_949, 59_950]), "10 s, 10 s, 12.3 s, 59.9 s, 1 min");
    assert_eq!(told(&[61_000, 603_000, 3_599_499, 3_599_500]), "1 min 1 s, 10 min 3 s, 59 min 59 s, 1 h");
    assert_eq!(told(&[7_500_000, 86_400_000, 273_600_000, u64::MAX]), "2 h 5 min, 1 d, 3 d 4 h, 213503982334 d 14 h");
    let told = [315, 1315, 600_820, 3_600_820, 259_800_820].map(moment);
    assert_eq!(told, ["315 ms", "1.315 s", "10:00.820", "1:00:00.820", "3 d 0:10:00.820"]);
    assert_eq!([short(1200), short(603_000), short(20)], ["1.20s", "10m3s", "20ms"]);
}

#[test]
fn texts_are_made_harmless() {
    assert_eq!(clean("a\x1b[2J\u{202e}\n\t\u{ffff}<ä>"), "a\\x1b[2J\\xe2\\x80\\xae\\x0a \\u{ffff}<ä>");
    assert_eq!(fit_middle("registry/api", 7), "reg…api");
    let record = examples::hostile();
    let drawn = svg(&record, "</svg>\u{1}");
    let elements = parse(&drawn).unwrap();
    assert!(!elements.iter().any(|e| e.name == "script"));
    assert_eq!(elements.iter().filter(|e| e.name == "svg").count(), 1);
    assert!(!drawn.chars().any(|c| c.is_control() && c != '\n'));
    assert!(texts(&elements, "text").contains(&"Boot of </svg>\\x01".to_string()));
    let told = text(&record, "\x1b[31m", PLAIN);
    assert!(!told.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'), "{told}");
}

#[test]
fn nothing_from_elsewhere() {
    for (name, record) in examples::all() {
        let drawn = svg(&record, "node7");
        let known = drawn.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
        for foreign in ["http:", "https:", "url(", "href", "@import", "<script", "<image", "onload", "<pattern"] {
            assert!(!known.contains(foreign) || name == "hostile", "{name} has {foreign}");
        }
        assert!(drawn.len() < 2_000_000, "{name}: {} bytes", drawn.len());
    }
}

/// A number in an attribute.
fn number(e: &Element, name: &str) -> f64 {
    e.attributes.get(name).map_or(0.0, |n| n.parse().unwrap())
}

#[test]
fn all_is_within_the_picture() {
    for (name, record) in examples::all() {
        let elements = picture(&record);
        let (width, height) = (number(&elements[0], "width"), number(&elements[0], "height"));
        assert_eq!(width, 1200.0);
        for e in &elements {
            let right = number(e, "x").max(number(e, "x1")).max(number(e, "x2")).max(number(e, "cx"));
            let low = number(e, "y").max(number(e, "y1")).max(number(e, "y2")).max(number(e, "cy"));
            let (right, low) = (right + number(e, "width") % 1200.0, low + number(e, "height") % height);
            assert!(right <= width && low <= height, "{name}: {e:?}");
        }
    }
}

#[test]
fn every_component_has_a_row_and_every_stage_a_gate() {
    for record in [examples::whole(), examples::huge()] {
        let elements = picture(&record);
        let class = |name: &str| elements.iter().filter(|e| e.class() == name).collect::<Vec<_>>();
        let ids: Vec<&str> = class("id").iter().map(|e| e.text.as_str()).collect();
        let all: Vec<&str> = record.stages.iter().flat_map(|s| &s.components).map(|c| c.id.as_str()).collect();
        assert_eq!(ids, all);
        let stages: Vec<&str> = class("stage").iter().map(|e| e.text.as_str()).collect();
        assert_eq!(stages, record.stages.iter().map(|s| s.name.as_str()).collect::<Vec<_>>());
        // One more of each in the legend.
        assert_eq!(class("gate").len(), record.stages.len() + 1);
        let healthy = record.stages.iter().flat_map(|s| &s.components).flat_map(|c| &c.events);
        assert_eq!(class("good").len(), healthy.filter(|e| e.kind == Kind::Healthy).count() + 1);
        // Gates come one after the other, rows below each other.
        let gates: Vec<f64> = class("gate").iter().skip(1).map(|e| number(e, "x1")).collect();
        assert!(gates.is_sorted(), "{gates:?}");
        let rows: Vec<f64> = class("id").iter().map(|e| number(e, "y")).collect();
        assert!(rows.windows(2).all(|w| w[1] - w[0] > 18.8), "{rows:?}");
    }
}

#[test]
fn the_picture_in_words() {
    let elements = picture(&examples::failed());
    assert_eq!(elements.iter().find(|e| e.name == "title").unwrap().text, "Boot of node7");
    let told = texts(&elements, "desc").join("");
    let expected = "\
began 2026-11-23 10:20:30 UTC, interrupted after 1 min 15 s.
4 stages, 10 components: 3 healthy, 4 not healthy, 1 kept stopped, 2 not reached; 1 death.
Stage foundation (waits for ever, grpc): healthy after 1.31 s.
Stage core (waits 1 min at most, grpc): timed out after 1 min, 3 of 4 not healthy.
Stage apps (waits 1 min at most, grpc): interrupted after 13.7 s, 1 of 3 not healthy.
Stage edge (waits 1 min at most, grpc): not reached.";
    assert_eq!(told, expected);
    let titles = texts(&elements, "title");
    let story = titles.iter().find(|t| t.starts_with("mcr/indexer")).unwrap();
    assert_eq!(
        *story,
        "mcr/indexer, unikernel\n1.315 s: start\n1.500 s: started\n30.000 s: died: killed by SIGSEGV\n1:01.310: warning: not healthy within 1 min"
    );
    let labels = texts(&elements, "text");
    for label in [
        "not healthy: accepted by the port forward but not by the guest: 8443",
        "died: killed by SIGSEGV",
        "stays stopped",
        "7.94 s",
    ] {
        assert!(labels.iter().any(|l| l == label), "{label}: {labels:?}");
    }
    assert_eq!(titles.iter().filter(|t| t.contains("left out")).count(), 0);
    let waited = texts(&picture(&examples::waited(60)), "title").join("\n");
    assert!(waited.contains("(341 events left out)"), "{waited}");
}

#[test]
fn a_boot_that_goes_well_is_to_scale() {
    for record in [examples::whole(), examples::tiny(), examples::huge(), examples::failed()] {
        let end = record.last_ms();
        let axis = Axis::new(&record, &rows(&record, end), end, 100.0, 1100.0);
        assert_eq!(axis.pieces.len(), 1);
        assert_eq!((axis.x(0), axis.x(end / 2).round(), axis.x(end)), (100.0, 600.0, 1100.0));
        let ticks = axis.ticks();
        assert!((4..=14).contains(&ticks.len()), "{ticks:?}");
    }
}

#[test]
fn a_long_wait_is_cut_short() {
    for minutes in [5, 10, 24 * 60, 3 * 24 * 60] {
        let record = examples::waited(minutes);
        let end = record.last_ms();
        let axis = Axis::new(&record, &rows(&record, end), end, 100.0, 1100.0);
        let cut: Vec<bool> = axis.pieces.iter().map(|p| p.cut).collect();
        assert_eq!(cut, [false, true, false], "{minutes} min: {:?}", axis.pieces);
        assert!(axis.pieces.windows(2).all(|w| w[0].to == w[1].from && w[0].right == w[1].left));
        assert!((axis.x(end) - 1100.0).abs() < 0.1);
        // The stages after it can be read.
        for stage in &record.stages[1..] {
            let wide = axis.x(stage.ended_ms.unwrap()) - axis.x(stage.began_ms.unwrap());
            assert!(wide > 100.0, "{minutes} min: {} is {wide} wide", stage.name);
        }
        let ticks = axis.ticks();
        assert!(ticks.windows(2).all(|w| w[1].x - w[0].x >= 60.0), "{ticks:?}");
        assert_eq!(
            ticks.iter().filter(|t| t.anchor).map(|t| t.label.clone()).collect::<Vec<_>>(),
            [span(minutes * 60_000)]
        );
        let drawn = texts(&picture(&record), "text");
        assert_eq!(drawn.iter().filter(|t| t.ends_with("not to scale")).count(), 1);
    }
}

#[test]
fn sheets_of_paper() {
    let lying = Layout::new(&[10, 20], 130.0);
    assert!(lying.paper.contains("landscape") && lying.gaps.is_empty());
    let standing = Layout::new(&[30, 50], 130.0);
    assert!(standing.paper.contains("portrait") && standing.gaps.is_empty());
    let many = Layout::new(&[40; 20], 130.0);
    let sheet = 1200.0 * 277.0 / 190.0;
    assert!(many.height > 9.0 * sheet && many.gaps.len() as f64 == (many.height / sheet).floor(), "{:?}", many.gaps);
    for band in &many.bands {
        let row = |y: &f64| (y - 9.5, y + 9.5);
        for (top, bottom) in band.rows.iter().map(row).chain([(band.head, band.head + 34.0)]) {
            assert_eq!((top / sheet).floor(), (bottom / sheet).floor(), "{top} to {bottom}");
        }
        // A head and its first row are on the same sheet.
        assert_eq!((band.head / sheet).floor(), (band.rows[0] / sheet).floor());
    }
}

#[test]
fn phases_follow_events() {
    let of = |events: &[(u64, Kind, &str)], until: Option<u64>| {
        let outcome = if until.is_some() { StageOutcome::TimedOut } else { StageOutcome::Running };
        let stage = stage("core", 0, until.unwrap_or(0), outcome, vec![component("a/a", Runtime::Microvm, events)]);
        let record = ended(vec![stage], Outcome::Ready, 100);
        let row = rows(&record, 100).remove(0).remove(0);
        let phases: Vec<_> = row.segments.iter().map(|s| (s.from, s.to, s.phase)).collect();
        (phases, row.end, row.last())
    };
    let well = [
        (1, Kind::Start, ""),
        (5, Kind::Started, ""),
        (6, Kind::Unhealthy, "no"),
        (20, Kind::Ready, ""),
        (30, Kind::Healthy, "yes"),
    ];
    let phases =
        vec![(1, 5, Phase::Starting), (5, 20, Phase::Booting), (20, 30, Phase::Checking), (30, 50, Phase::Healthy)];
    assert_eq!(of(&well, Some(50)), (phases, End::Healthy, "healthy".into()));
    // Without a word of readiness; then it falls ill.
    let ill = [
        (1, Kind::Start, ""),
        (5, Kind::Started, ""),
        (30, Kind::Healthy, ""),
        (31, Kind::Ready, ""),
        (40, Kind::Unhealthy, "refused"),
    ];
    let phases =
        vec![(1, 5, Phase::Starting), (5, 30, Phase::Booting), (30, 40, Phase::Healthy), (40, 50, Phase::Checking)];
    assert_eq!(of(&ill, Some(50)), (phases, End::Unhealthy, "not healthy: refused".into()));
    let died = [
        (1, Kind::Start, ""),
        (5, Kind::Started, ""),
        (9, Kind::Died, "exit code 1"),
        (20, Kind::Retry, ""),
        (25, Kind::Failed, "no\nimage"),
    ];
    let phases = vec![
        (1, 5, Phase::Starting),
        (5, 9, Phase::Booting),
        (9, 20, Phase::Down),
        (20, 25, Phase::Starting),
        (25, 50, Phase::Down),
    ];
    assert_eq!(of(&died, Some(50)), (phases, End::Failed, "failed: no\\x0aimage".into()));
    assert_eq!(
        of(&died[..3], None),
        (
            vec![(1, 5, Phase::Starting), (5, 9, Phase::Booting), (9, 100, Phase::Down)],
            End::Open,
            "under way: exit code 1".into()
        )
    );
    assert_eq!(of(&[(1, Kind::Skipped, "")], Some(50)), (vec![], End::Skipped, "stays stopped".into()));
    assert_eq!(of(&[], Some(50)), (vec![], End::Untouched, "not reached".into()));
    let kept = [(1, Kind::Skipped, "not active")];
    assert_eq!(of(&kept, Some(50)), (vec![], End::Skipped, "stays stopped: not active".into()));
    let adopted = [(1, Kind::Adopted, ""), (20, Kind::Started, ""), (30, Kind::Healthy, "")];
    let phases = vec![(1, 30, Phase::Checking), (30, 50, Phase::Healthy)];
    assert_eq!(of(&adopted, Some(50)), (phases, End::Healthy, "adopted, healthy".into()));
    let ran = [(1, Kind::Already, ""), (2, Kind::Healthy, "")];
    assert_eq!(
        of(&ran, Some(50)),
        (vec![(1, 2, Phase::Checking), (2, 50, Phase::Healthy)], End::Healthy, "ran already, healthy".into())
    );
    let warned = [
        (1, Kind::Start, ""),
        (2, Kind::Started, ""),
        (3, Kind::Unhealthy, "refused"),
        (50, Kind::Warned, "not in time"),
    ];
    assert_eq!(of(&warned, Some(50)).2, "not healthy: refused");
}

#[test]
fn what_was_left_out_is_not_invented() {
    let mut one = component(
        "a/a",
        Runtime::Microvm,
        &[(0, Kind::Start, ""), (10, Kind::Started, ""), (90, Kind::Died, ""), (95, Kind::Retry, "")],
    );
    one.left_out = Some(LeftOut { after: 2, count: 7 });
    let record =
        ended(vec![stage("foundation", 0, 100, StageOutcome::Interrupted, vec![one])], Outcome::Interrupted, 100);
    let segments = rows(&record, 100).remove(0).remove(0).segments;
    let phases: Vec<_> = segments.iter().map(|s| (s.from, s.to, s.phase)).collect();
    assert_eq!(
        phases,
        [(0, 10, Phase::Starting), (10, 90, Phase::LeftOut), (90, 95, Phase::Down), (95, 100, Phase::Starting)]
    );
}

#[test]
fn the_table() {
    let expected = "\
boot of node7, 2026-11-23 10:20:30 UTC: interrupted after 1 min 15 s
4 stages, 10 components: 3 healthy, 4 not healthy, 1 kept stopped, 2 not reached; 1 death
times of components count from the beginning of their stage

COMPONENT        RUNTIME    START  STARTED  READY  HEALTHY  RETRIES  LAST
stage foundation at 3ms (waits for ever, grpc): healthy after 1.31 s, 1 of 1 healthy
  mcias/api      unikernel    1ms    105ms  977ms    1.31s        0  healthy
stage core at 1.31s (waits 1 min at most, grpc): timed out after 1 min, 1 of 4 healthy
  metacrypt/api  unikernel    1ms     89ms  789ms    939ms        0  healthy
  mcr/api        microvm      2ms    109ms      -        -        0  not healthy: accepted by the p…
  mcr/gc         container    3ms        -      -        -        0  failed: image registry.example…
  mcr/indexer    unikernel    4ms    189ms      -        -        0  died: killed by SIGSEGV
stage apps at 1m1s (waits 1 min at most, grpc): interrupted after 13.7 s, 1 of 2 healthy
  shop/api       unikernel    1ms     89ms  6.69s    7.94s        0  healthy
  shop/db        microvm      1ms     89ms      -        -        0  not healthy: TLS: certificate …
  shop/old       container      -        -      -        -        0  stays stopped
stage edge (waits 1 min at most, grpc): not reached
  edge/proxy     container      -        -      -        -        0  not reached
  edge/metrics   microvm        -        -      -        -        0  not reached
";
    let record = examples::failed();
    assert_eq!(text(&record, "node7", Style { width: Some(100), colour: false }), expected);
    // Colour changes nothing but colour, and a line has the whole reason where there is no width.
    let coloured = text(&record, "node7", Style { width: Some(100), colour: true });
    assert!(coloured.contains("\x1b[31mstage core"));
    let plain =
        ["\x1b[0m", "\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[33m"].iter().fold(coloured, |t, c| t.replace(c, ""));
    assert_eq!(plain, expected);
    assert!(text(&record, "", PLAIN).contains("was never deployed: mcp deploy mcr\n"));
    assert!(text(&record, "", PLAIN).starts_with("boot, 2026"));
    for width in [0, 1, 20, 40, 80] {
        let told = text(&record, "node7", Style { width: Some(width), colour: false });
        assert!(told.lines().all(|l| l.chars().count() <= width.max(1)), "{width}:\n{told}");
        assert_eq!(told.lines().count(), expected.lines().count());
    }
}

/// Numbers that are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        // xorshift64
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    fn time(&mut self) -> u64 {
        match self.below(12) {
            0 => 0,
            1 => u64::MAX - self.below(3),
            2 => self.below(1 << 40),
            3..=5 => self.below(100_000),
            _ => self.below(3000),
        }
    }

    fn record(&mut self) -> BootRecord {
        use StageOutcome::{Healthy, Interrupted, Running, TimedOut, Waiting};
        const KINDS: [Kind; 12] = [
            Kind::Start,
            Kind::Started,
            Kind::Ready,
            Kind::Healthy,
            Kind::Unhealthy,
            Kind::Died,
            Kind::Retry,
            Kind::Already,
            Kind::Adopted,
            Kind::Skipped,
            Kind::Failed,
            Kind::Warned,
        ];
        let mut stages = Vec::new();
        for _ in 0..self.below(5) {
            let mut components = Vec::new();
            for n in 0..self.below(6) {
                let count = self.below(9);
                let event = |d: &mut Dice| {
                    let text: String =
                        (0..d.below(4)).filter_map(|_| char::from_u32(d.below(0x1_1000) as u32)).collect();
                    (d.time(), KINDS[d.below(12) as usize], text)
                };
                let mut events: Vec<_> = (0..count).map(|_| event(self)).collect();
                if self.below(2) == 0 {
                    events.sort_by_key(|e| e.0);
                }
                let events: Vec<_> = events.iter().map(|(at, kind, text)| (*at, *kind, text.as_str())).collect();
                let mut one = component(&format!("a/{n}"), Runtime::Microvm, &events);
                if self.below(4) == 0 {
                    one.left_out = Some(LeftOut { after: self.below(10) as usize, count: u32::MAX });
                }
                components.push(one);
            }
            let outcome = [Healthy, Interrupted, Running, TimedOut, Waiting][self.below(5) as usize];
            stages.push(stage("a", self.time(), self.time(), outcome, components));
        }
        let outcome = [Outcome::Ready, Outcome::Running, Outcome::Failed][self.below(3) as usize];
        ended(stages, outcome, self.time())
    }
}

#[test]
fn no_record_breaks_them() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for n in 0..500 {
        let record = dice.record();
        let drawn = svg(&record, "");
        parse(&drawn).unwrap_or_else(|e| panic!("record {n}: {e}: {record:?}"));
        assert!(!drawn.contains("NaN") && !drawn.contains("inf"), "record {n}: {record:?}");
        assert!(drawn.len() < 200_000, "record {n}: {} bytes: {record:?}", drawn.len());
        let width = dice.below(130) as usize;
        let told = text(&record, "", Style { width: Some(width), colour: false });
        assert!(told.lines().all(|l| l.chars().count() <= width.max(1)), "record {n}:\n{told}");
    }
}
