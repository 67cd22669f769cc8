//! The picture: a band for each stage, a row for each component, a line for each gate, along one time axis.

use super::axis::{Axis, Piece};
use super::layout::{Band, HEAD, Layout, ROW, WIDTH};
use super::row::{self, End, Row};
use super::words::{self, moment, span};
use super::xml::{Xml, number};
use super::{legend, shapes};
use crate::model::boot_record::{BootRecord, Component, Kind, Stage, StageOutcome};

const MARGIN: f64 = 14.0;
/// Room at the right end for the last mark and a few words.
const RIGHT: f64 = 76.0;
/// Widths of the columns before the picture, and the gap after them.
const RUNTIME: f64 = 66.0;
const TOOK: f64 = 98.0;
const GAP: f64 = 22.0;
/// Where a wait is cut short, marks that are closer than this are left out.
const CROWD: f64 = 9.0;
/// A character of a name, of a label, of a stage's name, at most, on average.
const ID: f64 = 6.7;
const LETTER: f64 = 5.8;
/// Longer names are cut.
const ID_MAX: usize = 40;
/// Nothing is drawn that comes after a hundred years.
const LAST_MS: u64 = 100 * 366 * 86_400_000;

/// The picture of `record`, as an SVG document: for a browser, and for paper. `host` is the node's name, if it has one.
pub fn svg(record: &BootRecord, host: &str) -> String {
    let end = record.last_ms().clamp(1, LAST_MS);
    let rows = row::rows(record, end);
    let ids = record.stages.iter().flat_map(|s| &s.components).map(|c| words::clean(&c.id).chars().count());
    let id_width = ids.max().unwrap_or(0).clamp(16, ID_MAX);
    let left = MARGIN + id_width as f64 * ID + RUNTIME + TOOK;
    let right = WIDTH - RIGHT;
    let chart = Chart { record, rows: &rows, axis: Axis::new(record, &rows, end, left, right), left, right, id_width };
    chart.draw(host)
}

/// What a label takes, about.
pub fn width(text: &str) -> f64 {
    // What isn't Latin is often wider.
    text.chars().map(|c| if c < '\u{300}' { LETTER } else { 2.0 * LETTER }).sum()
}

struct Chart<'a> {
    record: &'a BootRecord,
    rows: &'a [Vec<Row<'a>>],
    axis: Axis,
    left: f64,
    right: f64,
    id_width: usize,
}

impl Chart<'_> {
    fn draw(&self, host: &str) -> String {
        let record = self.record;
        let mut body = Xml::default();
        let title = match host {
            "" => "Boot".to_string(),
            host => format!("Boot of {host}"),
        };
        let about = format!("began {}, {}", words::began(record), words::boot_outcome(record));
        let census = words::census(record, self.rows);
        body.text("title", (MARGIN, 30.0), &words::fit(&words::clean(&title), 90));
        body.text("about", (MARGIN, 50.0), &words::fit(&about, 160));
        body.text("about", (MARGIN, 66.0), &census);
        let top = legend::draw(&mut body, record, self.rows, (MARGIN, WIDTH - MARGIN), 88.0) + 22.0;
        let counts: Vec<usize> = self.rows.iter().map(Vec::len).collect();
        let layout = Layout::new(&counts, top);
        let stages = || record.stages.iter().zip(self.rows).zip(&layout.bands);
        self.ground(&mut body, &layout, top);
        for ((stage, _), band) in stages() {
            // Under the marks of those that were the last to be healthy.
            self.gate(&mut body, stage, band);
        }
        self.axes(&mut body, &layout, top);
        for ((stage, rows), band) in stages() {
            self.head(&mut body, stage, rows, band.head);
            for (row, y) in rows.iter().zip(&band.rows) {
                self.row(&mut body, stage, row, *y);
            }
        }
        let height = layout.height;
        let mut xml = Xml::default();
        let size = format!("width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} {1}\"", number(WIDTH), number(height));
        xml.raw("<?xml version=\"1.0\" encoding=\"UTF-8\"?>");
        let attributes = format!(
            "xmlns=\"http://www.w3.org/2000/svg\" {size} role=\"img\" aria-labelledby=\"mcp-title mcp-desc\" lang=\"en\""
        );
        xml.open("svg", &attributes, None);
        xml.raw(format_args!("<title id=\"mcp-title\">{}</title>", super::xml::escape(&title)));
        xml.raw(format_args!(
            "<desc id=\"mcp-desc\">{}</desc>",
            super::xml::escape(&self.description(&about, &census))
        ));
        xml.raw(format_args!("<style>\n{}\n{}</style>", layout.paper, shapes::STYLE));
        xml.rect("paper", (0.0, 0.0), (WIDTH, height), None);
        xml.raw(body.finish().trim_end());
        xml.close("svg");
        xml.finish()
    }

    /// The picture in words.
    fn description(&self, about: &str, census: &str) -> String {
        let mut lines = vec![about.to_string(), census.to_string()];
        for (stage, rows) in self.record.stages.iter().zip(self.rows) {
            lines.push(format!("Stage {} ({}): {}", stage.name, words::gate(stage), verdict(stage, rows)));
        }
        lines.join(".\n") + "."
    }

    /// What lies under all else: waits that are cut short, heads, the time that each stage had, and the grid.
    fn ground(&self, xml: &mut Xml, layout: &Layout, top: f64) {
        let cuts = || self.axis.pieces.iter().filter(|p| p.cut);
        for piece in cuts() {
            xml.rect("cut", (piece.left, top), (piece.right - piece.left, layout.bottom - top), None);
        }
        for (stage, band) in self.record.stages.iter().zip(&layout.bands) {
            xml.rect("head", (0.0, band.head), (WIDTH, HEAD), None);
            if let Some(began) = stage.began_ms {
                let from = self.axis.x(began);
                let to = stage.ended_ms.map_or(self.right, |ms| self.axis.x(ms));
                let y = band.head + HEAD;
                xml.rect("span", (from, y), ((to - from).max(0.0), band.bottom - y), None);
            }
            for y in band.rows.iter().skip(1) {
                let y = y - ROW / 2.0;
                xml.line("rule", (MARGIN, y), (WIDTH - MARGIN, y), None);
            }
        }
        for tick in self.axis.ticks() {
            xml.line("grid", (tick.x, top), (tick.x, layout.bottom), None);
        }
        for piece in cuts() {
            self.tear(xml, piece, top, layout.bottom);
        }
    }

    /// The time axis: at the top, at the top of each further sheet, and at the foot.
    fn axes(&self, xml: &mut Xml, layout: &Layout, top: f64) {
        for (from, to) in &layout.gaps {
            xml.rect("paper", (0.0, *from), (WIDTH, to - from), None);
        }
        let tops = [top].into_iter().chain(layout.gaps.iter().map(|g| g.1)).map(|y| (y, -4.0, -7.0));
        for (y, end, label) in tops.chain(layout.foot.then_some((layout.bottom, 4.0, 14.0))) {
            for tick in self.axis.ticks() {
                xml.line("axis", (tick.x, y), (tick.x, y + end), None);
                xml.text(if tick.anchor { "mid anchor" } else { "mid" }, (tick.x, y + label), &tick.label);
            }
            for piece in self.axis.pieces.iter().filter(|p| !p.cut) {
                xml.line("axis", (piece.left, y), (piece.right, y), None);
            }
        }
        for piece in self.axis.pieces.iter().filter(|p| p.cut) {
            let long = format!("{}, not to scale", span(piece.to - piece.from));
            xml.text("mid dim", ((piece.left + piece.right) / 2.0, top - 18.0), &long);
        }
        for y in layout.gaps.iter().map(|g| g.1).chain([top]) {
            self.titles(xml, y - 7.0);
        }
    }

    /// What is in the columns before the picture.
    fn titles(&self, xml: &mut Xml, y: f64) {
        xml.text("dim", (MARGIN, y), "component");
        xml.text("dim end", (self.left - TOOK, y), "runtime");
        xml.text("dim end", (self.left - GAP, y), "healthy after");
    }

    /// The torn edges of a wait that is cut short.
    fn tear(&self, xml: &mut Xml, piece: &Piece, top: f64, bottom: f64) {
        let long = span(piece.to - piece.from);
        let title = format!("{long} from {} to {}, not to scale", moment(piece.from), moment(piece.to));
        for x in [piece.left, piece.right] {
            let mut path = format!("M{} {}", number(x), number(top - 4.0));
            let (mut y, mut side) = (top - 4.0, 3.0);
            while y < bottom {
                y = (y + 6.0).min(bottom);
                path += &format!("L{} {}", number(x + side), number(y));
                side = -side;
            }
            xml.path("tear", &path, Some(&title));
        }
    }

    fn head(&self, xml: &mut Xml, stage: &Stage, rows: &[Row<'_>], y: f64) {
        // A name that was checked has 32 characters at most.
        let room = self.left - MARGIN;
        xml.text("stage", (MARGIN, y + 14.0), &words::fit(&words::clean(&stage.name), (room / 7.6) as usize));
        xml.text("dim", (MARGIN, y + 27.0), &words::gate(stage));
        let label = verdict(stage, rows);
        let Some(began) = stage.began_ms else {
            return xml.text("dim", (self.left + 4.0, y + 14.0), &label);
        };
        let from = self.axis.x(began);
        let to = stage.ended_ms.map_or(self.right, |ms| self.axis.x(ms)).max(from + 1.0);
        let at = from.min(WIDTH - MARGIN - width(&label)).max(self.left);
        xml.text("", (at, y + 14.0), &label);
        let (h, tip) = (y + 20.0, 4.0_f64.min((to - from) / 2.0));
        let [x1, x2, y1, y2, y3] = [from, to, h, h + 4.0, h + 9.0].map(number);
        let inner = [number(from + tip), number(to - tip)];
        let shape = match stage.ended_ms {
            Some(_) => {
                format!("M{x1} {y1}L{x2} {y1}L{x2} {y3}L{} {y2}L{} {y2}L{x1} {y3}Z", inner[1], inner[0])
            }
            None => format!("M{x1} {y1}L{x2} {y1}L{x2} {y2}L{} {y2}L{x1} {y3}Z", inner[0]),
        };
        let title = format!("stage {}, {}, began at {}: {label}", stage.name, words::gate(stage), moment(began));
        xml.path("sum", &shape, Some(&title));
    }

    /// The line that the next stage waits behind.
    fn gate(&self, xml: &mut Xml, stage: &Stage, band: &Band) {
        let Some(ended) = stage.ended_ms else { return };
        let (class, word) = match stage.outcome {
            StageOutcome::TimedOut => ("late", "timed out"),
            StageOutcome::Interrupted => ("lost", "interrupted"),
            _ => ("gate", "healthy"),
        };
        let x = self.axis.x(ended);
        let title = format!("stage {}: {word} at {}", stage.name, moment(ended));
        xml.line(class, (x, band.head + HEAD - 8.0), (x, band.bottom), Some(&title));
    }

    fn row(&self, xml: &mut Xml, stage: &Stage, row: &Row<'_>, y: f64) {
        xml.open("g", "", Some(&story(row.of)));
        let id = words::fit_middle(&words::clean(&row.of.id), self.id_width);
        xml.text("id", (MARGIN, y + 4.0), &id);
        xml.text("dim end", (self.left - TOOK, y + 3.5), row.of.runtime.name());
        let took = row.start.zip(row.healthy).filter(|_| row.end == End::Healthy && found(row).is_none());
        let took = took.map_or("–".to_string(), |(start, healthy)| span(healthy.saturating_sub(start)));
        xml.text("end", (self.left - GAP, y + 3.5), &took);
        for s in &row.segments {
            let title =
                format!("{}: {}, from {} to {}", s.phase.name(), span(s.to - s.from), moment(s.from), moment(s.to));
            shapes::phase(xml, s.phase, (self.axis.x(s.from), self.axis.x(s.to)), y, Some(&title));
        }
        self.marks(xml, row, y);
        self.label(xml, stage, row, y);
        xml.close("g");
    }

    fn marks(&self, xml: &mut Xml, row: &Row<'_>, y: f64) {
        let mut before = f64::NEG_INFINITY;
        for (i, event) in row.marks.iter().enumerate() {
            let x = self.axis.x(event.at_ms);
            if x - before < CROWD && self.axis.is_cut(x) {
                continue;
            }
            before = x;
            let next = row.marks.get(i + 1).map(|e| self.axis.x(e.at_ms));
            // One that was found healthy has two marks in one place.
            let aside = matches!(event.kind, Kind::Already | Kind::Adopted) && next.is_some_and(|n| n - x < 12.0);
            let x = if aside { x - 8.0 } else { x };
            shapes::mark(xml, event.kind, (x, y), Some(&said(event)));
        }
    }

    /// What there is to say of a component, beside what is drawn of it: behind the gate, before the bar or upon it,
    /// wherever there is room.
    fn label(&self, xml: &mut Xml, stage: &Stage, row: &Row<'_>, y: f64) {
        let Some(text) = remark(row) else { return };
        let marks = row.marks.iter().map(|m| self.axis.x(m.at_ms));
        let gate = stage.ended_ms.map(|ms| self.axis.x(ms)).filter(|_| !row.segments.is_empty());
        let ends = row.segments.iter().map(|s| self.axis.x(s.to));
        let began = self.axis.x(stage.began_ms.unwrap_or(0));
        let last = marks.clone().chain(ends).chain(gate).reduce(f64::max).unwrap_or(began) + 9.0;
        let begins = row.segments.iter().map(|s| self.axis.x(s.from));
        let first = marks.clone().chain(begins).reduce(f64::min).unwrap_or(began) - 9.0;
        let longest = row.segments.iter().map(|s| (self.axis.x(s.from), self.axis.x(s.to)));
        let inside = longest.max_by(|a, b| (a.1 - a.0).total_cmp(&(b.1 - b.0))).unwrap_or_default();
        let places = [
            (WIDTH - 4.0 - last, "halo", last),
            (first - self.left, "halo end", first),
            (inside.1 - inside.0 - 28.0, "halo upon end", inside.1 - 10.0),
        ];
        let roomiest = || places.into_iter().max_by(|a, b| a.0.total_cmp(&b.0));
        let place = places.into_iter().find(|(room, ..)| width(&text) <= *room).or_else(roomiest);
        if let Some((room, class, x)) = place {
            xml.text(class, (x, y + 3.5), &words::fit(&text, (room / LETTER).max(4.0) as usize));
        }
    }
}

/// How a stage came out, and how many of its components are to blame.
fn verdict(stage: &Stage, rows: &[Row<'_>]) -> String {
    let outcome = words::stage_outcome(stage);
    let bad = rows.iter().filter(|r| matches!(r.end, End::Unhealthy | End::Died | End::Failed | End::Open)).count();
    match (stage.outcome, bad) {
        (_, 0) | (StageOutcome::Waiting, _) => outcome,
        (StageOutcome::Running, n) => format!("{outcome}, {n} of {} not healthy yet", rows.len()),
        (_, n) => format!("{outcome}, {n} of {} not healthy", rows.len()),
    }
}

/// How it was found, if it ran before.
fn found(row: &Row<'_>) -> Option<Kind> {
    row.of.events.iter().map(|e| e.kind).find(|k| matches!(k, Kind::Already | Kind::Adopted))
}

/// What there is to say of a component but how long it took; `None`: nothing.
fn remark(row: &Row<'_>) -> Option<String> {
    let retries = Some(row.of.retries).filter(|n| *n > 0);
    let retries = retries.map(|n| words::count(u64::from(n), "retry", "retries"));
    let story = match (row.end, found(row)) {
        (End::Untouched, _) | (End::Healthy, None) => None,
        (End::Healthy, Some(Kind::Adopted)) => Some("adopted".to_string()),
        (End::Healthy, Some(_)) => Some("ran already".to_string()),
        _ => Some(row.last()),
    };
    let parts: Vec<String> = [story, retries].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// One event in words: `1.24 s: healthy: tcp 127.0.0.1:8443`.
fn said(event: &crate::model::boot_record::Event) -> String {
    let kind = words::kind(event.kind);
    match event.text.as_str() {
        "" => format!("{}: {kind}", moment(event.at_ms)),
        text => format!("{}: {kind}: {}", moment(event.at_ms), words::clean(text)),
    }
}

/// All that is known of a component, a line an event.
fn story(of: &Component) -> String {
    let mut lines = vec![format!("{}, {}", words::clean(&of.id), of.runtime.name())];
    for (i, event) in of.events.iter().enumerate() {
        if let Some(left_out) = of.left_out.filter(|l| l.after == i) {
            lines.push(format!("({} left out)", words::count(u64::from(left_out.count), "event", "events")));
        }
        lines.push(said(event));
    }
    lines.join("\n")
}
