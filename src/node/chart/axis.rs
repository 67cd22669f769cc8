//! Where a moment is in the picture, and which moments get a tick.
//!
//! Time is drawn to scale. Only where a long wait would squeeze whole stages into nothing (a foundation that waited for
//! days, and then all was up in seconds) is the wait cut short, visibly.

use super::row::Row;
use super::words;
use crate::model::boot_record::{BootRecord, Kind};

/// Width of a wait that is cut short.
const CUT: f64 = 120.0;
/// How many waits are cut short at most.
const CUTS_MAX: usize = 4;
/// Nothing shorter is cut: a boot that goes well is always to scale.
const CUT_MIN_MS: u64 = 20_000;
/// A stage with less than this part of the whole can't be read.
const STAGE_PART: f64 = 1.0 / 120.0;
/// Nor can a component's time to health.
const COMPONENT_PART: f64 = 1.0 / 700.0;
/// What has less than this part of the whole is not worth cutting.
const GAP_PART: f64 = 0.2;
/// Ticks are so far apart at least.
const TICK_WIDTH: f64 = 74.0;

/// A stretch of time.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    /// When it begins.
    pub from: u64,
    /// When it ends.
    pub to: u64,
    /// Where it begins.
    pub left: f64,
    /// Where it ends.
    pub right: f64,
    /// Whether it is cut short.
    pub cut: bool,
}

/// A moment that is written at the axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Tick {
    /// Where.
    pub x: f64,
    /// What is written.
    pub label: String,
    /// Whether it is the first after a cut.
    pub anchor: bool,
}

/// The time axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// Its pieces, in order, without gaps; at least one.
    pub pieces: Vec<Piece>,
}

impl Axis {
    /// From 0 to `end` milliseconds, between `left` and `right`.
    pub fn new(record: &BootRecord, rows: &[Vec<Row<'_>>], end: u64, left: f64, right: f64) -> Axis {
        let cuts = cuts(record, rows, end);
        let kept = end - cuts.iter().map(|(from, to)| to - from).sum::<u64>();
        let scale = (right - left - CUT * cuts.len() as f64) / kept.max(1) as f64;
        let mut pieces = Vec::new();
        let (mut at, mut x) = (0, left);
        let mut add = |to: u64, cut: bool, at: &mut u64| {
            let width = if cut { CUT } else { (to - *at) as f64 * scale };
            if width > 0.0 {
                pieces.push(Piece { from: *at, to, left: x, right: x + width, cut });
                x += width;
            }
            *at = to;
        };
        for (from, to) in cuts {
            add(from, false, &mut at);
            add(to, true, &mut at);
        }
        add(end, false, &mut at);
        Axis { pieces }
    }

    /// Where the moment `ms` is.
    pub fn x(&self, ms: u64) -> f64 {
        let piece = self.pieces.iter().find(|p| ms <= p.to).or(self.pieces.last());
        piece.map_or(0.0, |p| {
            let part = (ms.clamp(p.from, p.to) - p.from) as f64 / (p.to - p.from).max(1) as f64;
            p.left + (p.right - p.left) * part
        })
    }

    /// Whether a wait that is cut short lies there.
    pub fn is_cut(&self, x: f64) -> bool {
        self.pieces.iter().any(|p| p.cut && p.left < x && x < p.right)
    }

    /// Round moments; after a cut they count from it.
    pub fn ticks(&self) -> Vec<Tick> {
        let scaled = self.pieces.iter().find(|p| !p.cut);
        let scale = scaled.map_or(1.0, |p| (p.right - p.left) / (p.to - p.from).max(1) as f64);
        let step = step((TICK_WIDTH / scale).ceil() as u64);
        let mut ticks = Vec::new();
        for piece in self.pieces.iter().filter(|p| !p.cut) {
            let mut at = 0;
            while piece.from.saturating_add(at) <= piece.to {
                let x = piece.left + at as f64 * scale;
                let (label, anchor) = match (piece.from, at) {
                    (0, _) => (words::span(at), false),
                    (from, 0) => (words::span(from), true),
                    _ => (format!("+{}", words::span(at)), false),
                };
                ticks.push(Tick { x, label, anchor });
                at = at.saturating_add(step);
            }
        }
        ticks
    }
}

/// The smallest round number of milliseconds that isn't below `least`.
fn step(least: u64) -> u64 {
    const S: u64 = 1000;
    const MIN: u64 = 60 * S;
    const H: u64 = 60 * MIN;
    const D: u64 = 24 * H;
    const STEPS: [u64; 29] = [
        1,
        2,
        5,
        10,
        20,
        50,
        100,
        200,
        500,
        S,
        2 * S,
        5 * S,
        10 * S,
        15 * S,
        30 * S,
        MIN,
        2 * MIN,
        5 * MIN,
        10 * MIN,
        15 * MIN,
        30 * MIN,
        H,
        2 * H,
        3 * H,
        6 * H,
        12 * H,
        D,
        2 * D,
        5 * D,
    ];
    STEPS.into_iter().find(|s| *s >= least).unwrap_or_else(|| {
        let mut days = 10;
        while days * D < least && days < u64::MAX / D / 10 {
            days *= 10;
        }
        days * D
    })
}

/// The waits that are cut short, in order.
fn cuts(record: &BootRecord, rows: &[Vec<Row<'_>>], end: u64) -> Vec<(u64, u64)> {
    let mut gaps: Vec<(u64, u64)> = Vec::new();
    let mut before = 0;
    for at in progress(record, rows, end) {
        if at.saturating_sub(before) >= CUT_MIN_MS {
            gaps.push((before, at));
        }
        before = at;
    }
    gaps.sort_by_key(|(from, to)| (std::cmp::Reverse(to - from), *from));
    let mut cut: Vec<(u64, u64)> = Vec::new();
    for gap in gaps.into_iter().take(CUTS_MAX) {
        let whole = kept((0, end), &cut);
        let left = whole - (gap.1 - gap.0);
        if left == 0 || ((gap.1 - gap.0) as f64) < whole as f64 * GAP_PART || !squeezed(record, rows, &cut, whole) {
            break;
        }
        cut.push(gap);
    }
    cut.sort_unstable();
    cut
}

/// How much of the span is left by the cuts.
fn kept((from, to): (u64, u64), cuts: &[(u64, u64)]) -> u64 {
    let lost = |cut: &(u64, u64)| cut.1.min(to).saturating_sub(cut.0.max(from));
    to.saturating_sub(from).saturating_sub(cuts.iter().map(lost).sum())
}

/// Whether something can't be read that took some time.
fn squeezed(record: &BootRecord, rows: &[Vec<Row<'_>>], cuts: &[(u64, u64)], whole: u64) -> bool {
    let small = |from: u64, to: u64, part: f64| {
        let ms = kept((from, to), cuts);
        to.saturating_sub(from) >= 50 && (ms as f64) < whole as f64 * part
    };
    let stages = record.stages.iter().filter_map(|s| Some((s.began_ms?, s.ended_ms?)));
    let components = rows.iter().flatten().filter_map(|r| Some((r.start?, r.healthy?)));
    stages.into_iter().any(|(from, to)| small(from, to, STAGE_PART))
        || components.into_iter().any(|(from, to)| small(from, to, COMPONENT_PART))
}

/// The moments at which the boot came on: beginnings and ends of stages, and of each component the first and the last
/// of each step. What happens between a first and a last attempt is waiting.
fn progress(record: &BootRecord, rows: &[Vec<Row<'_>>], end: u64) -> Vec<u64> {
    let mut all = vec![0, end];
    all.extend(record.stages.iter().flat_map(|s| [s.began_ms, s.ended_ms]).flatten());
    for row in rows.iter().flatten() {
        for kinds in [&[Kind::Start, Kind::Retry][..], &[Kind::Started], &[Kind::Ready], &[Kind::Healthy]] {
            let mut of = row.of.events.iter().filter(|e| kinds.contains(&e.kind)).map(|e| e.at_ms);
            all.extend(of.next());
            all.extend(of.next_back());
        }
    }
    all.retain(|at| *at <= end);
    all.sort_unstable();
    all.dedup();
    all
}
