//! What stands at which height, on the screen and on paper.
//!
//! A picture that is not too high is one sheet of A4, lying or standing. A higher one is cut into sheets by the browser,
//! at heights that are known here: nothing is laid across a cut, and each sheet begins with the time axis.

/// Width of the picture: A4 landscape at 96 dots an inch is a little less.
pub const WIDTH: f64 = 1200.0;
/// Height of a stage's head.
pub const HEAD: f64 = 34.0;
/// Height of a row.
pub const ROW: f64 = 19.0;
/// Height of an axis with its labels.
const AXIS: f64 = 24.0;
/// Pictures with more rows have an axis at the foot too.
const ROWS_HIGH: usize = 24;
/// Up to this height, as part of the width, a picture fits a sheet that lies, and one that stands.
const LYING: f64 = 1.0;
const STANDING: f64 = 1.9;
/// Height of a sheet that stands and is as wide as the picture: A4 with margins of 10 mm.
const SHEET: f64 = WIDTH * 277.0 / 190.0;

/// One stage.
#[derive(Debug, Clone, PartialEq)]
pub struct Band {
    /// Upper edge of its head.
    pub head: f64,
    /// The middle of each row.
    pub rows: Vec<f64>,
    /// Its lower edge.
    pub bottom: f64,
}

/// All of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    /// The stages.
    pub bands: Vec<Band>,
    /// Where a sheet ends and the next one begins, with its axis: from, to.
    pub gaps: Vec<(f64, f64)>,
    /// The lower edge of the last band.
    pub bottom: f64,
    /// Whether there is an axis below that.
    pub foot: bool,
    /// Height of the picture.
    pub height: f64,
    /// How it goes on paper.
    pub paper: &'static str,
}

impl Layout {
    /// For stages with so many rows each, the first head at the height `top`.
    pub fn new(rows: &[usize], top: f64) -> Layout {
        let count: usize = rows.iter().sum();
        let foot = count > ROWS_HIGH;
        let end = if foot { AXIS + 2.0 } else { 12.0 };
        let natural = top + HEAD * rows.len() as f64 + ROW * count as f64 + end;
        let paper = match natural / WIDTH {
            ..LYING => {
                "@page { size: A4 landscape; margin: 10mm; }\n@media print { svg { width: 100vw; height: 100vh; } }"
            }
            ..STANDING => {
                "@page { size: A4 portrait; margin: 10mm; }\n@media print { svg { width: 100vw; height: 100vh; } }"
            }
            _ => "@page { size: A4 portrait; margin: 10mm; }\n@media print { svg { width: 100%; height: auto; } }",
        };
        let sheet = if natural / WIDTH < STANDING { f64::INFINITY } else { SHEET };
        let mut layout = Layout { bands: Vec::new(), gaps: Vec::new(), bottom: top, foot, height: 0.0, paper };
        for rows in rows {
            // A head alone at the end of a sheet says nothing.
            let head = layout.place(sheet, HEAD + if *rows > 0 { ROW } else { 0.0 }, HEAD);
            let rows = (0..*rows).map(|_| layout.place(sheet, ROW, ROW) + ROW / 2.0).collect();
            layout.bands.push(Band { head, rows, bottom: layout.bottom });
        }
        layout.height = layout.bottom + end;
        layout
    }

    /// The height of what is `height` high, and is to be followed on the same sheet up to `needs`.
    fn place(&mut self, sheet: f64, needs: f64, height: f64) -> f64 {
        let next = (self.bottom / sheet).floor() * sheet + sheet;
        if self.bottom + needs > next - 1.0 {
            let from = next + AXIS;
            self.gaps.push((self.bottom, from));
            self.bottom = from;
        }
        let at = self.bottom;
        self.bottom += height;
        at
    }
}
