//! The legend: what of the signs is in this picture.

use super::row::{Phase, Row};
use super::shapes;
use super::xml::Xml;
use crate::model::boot_record::{BootRecord, Kind, StageOutcome};

/// Height of a line of it.
const LINE: f64 = 18.0;
/// Width of a sign with the gap after it.
const SIGN: f64 = 32.0;

enum Sign {
    Phase(Phase),
    Mark(Kind),
    Gate(&'static str),
}

/// Draws it with its first line around the height `top`, between `left` and `right`; the height after it.
pub fn draw(xml: &mut Xml, record: &BootRecord, rows: &[Vec<Row<'_>>], (left, right): (f64, f64), top: f64) -> f64 {
    let has_phase = |phase: Phase| rows.iter().flatten().flat_map(|r| &r.segments).any(|s| s.phase == phase);
    let has_mark = |kind: Kind| rows.iter().flatten().flat_map(|r| &r.marks).any(|m| m.kind == kind);
    let has_gate = |outcome: StageOutcome| record.stages.iter().any(|s| s.outcome == outcome && s.ended_ms.is_some());
    let mut items: Vec<(Sign, &str)> = Vec::new();
    items.extend(Phase::ALL.into_iter().filter(|p| has_phase(*p)).map(|p| (Sign::Phase(p), p.name())));
    let marks = shapes::MARKS.into_iter().filter(|m| has_mark(*m));
    items.extend(marks.filter_map(|m| Some((Sign::Mark(m), shapes::meaning(m)?))));
    let gates = [
        (StageOutcome::Healthy, "gate", "stage healthy, on to the next"),
        (StageOutcome::TimedOut, "late", "time is up, on to the next"),
        (StageOutcome::Interrupted, "lost", "interrupted"),
    ];
    let gates = gates.into_iter().filter(|(outcome, ..)| has_gate(*outcome));
    items.extend(gates.map(|(_, class, name)| (Sign::Gate(class), name)));
    let (mut x, mut y) = (left, top);
    for (sign, name) in items {
        let width = SIGN + super::draw::width(name) + 16.0;
        if x > left && x + width > right {
            (x, y) = (left, y + LINE);
        }
        match sign {
            Sign::Phase(phase) => shapes::phase(xml, phase, (x, x + SIGN - 6.0), y, None),
            Sign::Mark(kind) => shapes::mark(xml, kind, (x + SIGN - 14.0, y), None),
            Sign::Gate(class) => xml.line(class, (x + SIGN - 14.0, y - 7.0), (x + SIGN - 14.0, y + 7.0), None),
        }
        xml.text("", (x + SIGN, y + 3.5), name);
        x += width;
    }
    y + LINE
}
