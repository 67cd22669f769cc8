//! What phases and marks look like: told apart by shape and hatching as well as by colour, so that grey paper will do.

use super::row::Phase;
use super::xml::{Xml, number};
use crate::model::boot_record::Kind;

/// The gap between lines of a hatching.
const HATCH: f64 = 5.0;

/// Height of a bar.
pub const BAR: f64 = 11.0;

/// Fonts, colours and hatchings. Nothing in it comes from elsewhere.
pub const STYLE: &str = "\
text { font: 10px sans-serif; fill: #1a1a1a; }
.title { font-size: 19px; font-weight: bold; }
.about { font-size: 12px; }
.stage { font-size: 12px; font-weight: bold; }
.id { font: 11px monospace; }
.dim { fill: #5c5c5c; }
.end { text-anchor: end; }
.mid { text-anchor: middle; }
.anchor { font-weight: bold; }
.halo { paint-order: stroke; stroke: #fff; stroke-width: 3px; stroke-linejoin: round; }
.upon { stroke-width: 6px; }
.paper { fill: #fff; }
.head { fill: #e9edf2; }
.span { fill: #f3f6fa; }
.grid { stroke: #dcdcdc; stroke-width: 1; }
.axis { stroke: #555; stroke-width: 1; }
.rule { stroke: #ededed; stroke-width: 1; }
.gate { stroke: #111; stroke-width: 2; }
.late { stroke: #111; stroke-width: 2; stroke-dasharray: 7 4; }
.lost { stroke: #111; stroke-width: 2; stroke-dasharray: 2 3; }
.sum { fill: #111; }
.cut { fill: #f6f6f6; }
.tear { fill: none; stroke: #8a8a8a; stroke-width: 1; }
.starting { fill: #fff; stroke: #33526e; stroke-width: 1; }
.hatch { fill: none; stroke: #33526e; stroke-width: 1.3; }
.booting { fill: #9cc5e3; stroke: #33526e; stroke-width: 1; }
.checking { fill: #ffeccc; stroke: #8a4b00; stroke-width: 1; }
.dots { stroke: #8a4b00; stroke-width: 2.2; stroke-dasharray: 0.01 5; stroke-linecap: round; }
.healthy { fill: #1d6b34; }
.down { stroke: #b3261e; stroke-width: 2; stroke-dasharray: 5 3; }
.leftout { stroke: #666; stroke-width: 2; stroke-dasharray: 1 4; stroke-linecap: round; }
.good { fill: #1d6b34; stroke: #fff; stroke-width: 1; }
.tick { fill: none; stroke: #fff; stroke-width: 1.6; }
.cross { fill: none; stroke: #b3261e; stroke-width: 2.2; }
.box { fill: #fff; stroke: #b3261e; stroke-width: 1.6; }
.again { fill: #fff; stroke: #1a1a1a; stroke-width: 1.2; }
.found { fill: #fff; stroke: #1a1a1a; stroke-width: 1.4; }
.taken { fill: #1a1a1a; stroke: #fff; stroke-width: 1; }
.warn { fill: #ffd75e; stroke: #1a1a1a; stroke-width: 1.2; }
.bang { fill: none; stroke: #1a1a1a; stroke-width: 1.4; }
";

/// Draws a phase from `left` to `right` around the height `y`.
pub fn phase(xml: &mut Xml, phase: Phase, (left, right): (f64, f64), y: f64, title: Option<&str>) {
    // What took no time to speak of is still there.
    let width = (right - left).max(1.0);
    let bar = |xml: &mut Xml, class: &str, height: f64| {
        xml.rect(class, (left, y - height / 2.0), (width, height), title);
    };
    match phase {
        Phase::Starting => {
            bar(xml, "starting", BAR);
            if let Some(path) = hatching((left, left + width), (y - BAR / 2.0, y + BAR / 2.0)) {
                xml.path("hatch", &path, None);
            }
        }
        Phase::Booting => bar(xml, "booting", BAR),
        Phase::Checking => {
            bar(xml, "checking", BAR);
            for (side, from) in [(-2.5, 2.5), (2.5, 5.0)] {
                if width > from + 2.0 {
                    xml.line("dots", (left + from, y + side), (left + width - 1.5, y + side), None);
                }
            }
        }
        Phase::Healthy => bar(xml, "healthy", 4.0),
        Phase::Down => xml.line("down", (left, y), (left + width, y), title),
        Phase::LeftOut => xml.line("leftout", (left, y), (left + width, y), title),
    }
}

/// Slanting lines within a rectangle; `None`: it is too narrow for one. Not a pattern: a browser that prints one makes
/// a picture of each bar, and megabytes of the page.
fn hatching((left, right): (f64, f64), (top, bottom): (f64, f64)) -> Option<String> {
    let (width, height) = (right - left, bottom - top);
    let mut path = String::new();
    let mut foot = HATCH - height;
    while foot < width {
        // From the lower left to the upper right, as far as it lies within.
        let (from, to) = (foot.max(0.0), (foot + height).min(width));
        if to - from > 1.0 {
            let point = |x: f64| format!("{} {}", number(left + x), number(bottom - (x - foot)));
            path += &format!("M{}L{}", point(from), point(to));
        }
        foot += HATCH;
    }
    (!path.is_empty()).then_some(path)
}

/// Draws the mark of an event with its middle at the point; nothing for one that has none.
pub fn mark(xml: &mut Xml, kind: Kind, (x, y): (f64, f64), title: Option<&str>) {
    // Parts of a path, relative to the middle.
    let path = |steps: &[(&str, f64, f64)]| {
        let step = |(letter, dx, dy): &(&str, f64, f64)| match *letter {
            "Z" => "Z".to_string(),
            letter => format!("{letter}{} {}", number(x + dx), number(y + dy)),
        };
        steps.iter().map(step).collect::<String>()
    };
    let cross = |r: f64| path(&[("M", -r, -r), ("L", r, r), ("M", -r, r), ("L", r, -r)]);
    let diamond = |r: f64| path(&[("M", -r, 0.0), ("L", 0.0, -r), ("L", r, 0.0), ("L", 0.0, r), ("Z", 0.0, 0.0)]);
    match kind {
        Kind::Healthy => {
            xml.shape("circle", &format!("class=\"good\" cx=\"{}\" cy=\"{}\" r=\"5.5\"", number(x), number(y)), title);
            xml.path("tick", &path(&[("M", -2.5, 0.2), ("L", -0.7, 2.2), ("L", 2.6, -2.2)]), None);
        }
        Kind::Died => xml.path("cross", &cross(4.0), title),
        Kind::Failed => {
            xml.rect("box", (x - 5.0, y - 5.0), (10.0, 10.0), title);
            xml.path("cross", &cross(2.6), None);
        }
        Kind::Retry => {
            xml.path("again", &path(&[("M", -2.5, -4.5), ("L", 4.5, 0.0), ("L", -2.5, 4.5), ("Z", 0.0, 0.0)]), title);
        }
        Kind::Already => xml.path("found", &diamond(5.5), title),
        Kind::Adopted => xml.path("taken", &diamond(6.0), title),
        Kind::Skipped => {
            let circle = format!("class=\"found\" cx=\"{}\" cy=\"{}\" r=\"4.5\"", number(x), number(y));
            xml.shape("circle", &circle, title);
            xml.path("bang", &path(&[("M", -2.5, 0.0), ("L", 2.5, 0.0)]), None);
        }
        Kind::Warned => {
            xml.path("warn", &path(&[("M", 0.0, -6.0), ("L", 6.0, 5.0), ("L", -6.0, 5.0), ("Z", 0.0, 0.0)]), title);
            xml.path("bang", &path(&[("M", 0.0, -2.6), ("L", 0.0, 1.6), ("M", 0.0, 2.6), ("L", 0.0, 4.0)]), None);
        }
        Kind::Start | Kind::Started | Kind::Ready | Kind::Unhealthy => {}
    }
}

/// What a mark means; `None`: it has none.
pub fn meaning(kind: Kind) -> Option<&'static str> {
    Some(match kind {
        Kind::Healthy => "becomes healthy",
        Kind::Died => "dies",
        Kind::Failed => "can't be started",
        Kind::Retry => "is started again",
        Kind::Already => "ran already",
        Kind::Adopted => "adopted",
        Kind::Skipped => "stays stopped",
        Kind::Warned => "warning",
        Kind::Start | Kind::Started | Kind::Ready | Kind::Unhealthy => return None,
    })
}

/// Marks in the order of the legend.
pub const MARKS: [Kind; 8] =
    [Kind::Healthy, Kind::Already, Kind::Adopted, Kind::Retry, Kind::Died, Kind::Failed, Kind::Warned, Kind::Skipped];
