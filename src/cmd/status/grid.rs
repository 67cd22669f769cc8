//! A table of words: columns as wide as what is in them, cut where a terminal is narrower.

use super::row::clean;

/// One column.
pub struct Column {
    title: &'static str,
    cells: Vec<(String, u8)>,
    /// The narrowest that it may be made; `None`: it is never cut.
    narrowest: Option<usize>,
}

impl Column {
    /// A column of these cells, each with its colour, 0 for none. A cell is one word, for awk and cut: an image may have a
    /// space in its file name. An empty one is `-`.
    pub fn new(title: &'static str, narrowest: Option<usize>, cells: impl IntoIterator<Item = (String, u8)>) -> Column {
        let word = |text: String| if text.is_empty() { "-".into() } else { clean(&text).replace(' ', "\\x20") };
        Column { title, cells: cells.into_iter().map(|(text, colour)| (word(text), colour)).collect(), narrowest }
    }

    fn width(&self) -> usize {
        self.cells.iter().map(|(c, _)| c.chars().count()).chain([self.title.len()]).max().unwrap_or(0)
    }
}

/// The whole table, its lines ending with LF; no wider than `width` as far as columns may be cut.
pub fn draw(mut columns: Vec<Column>, width: Option<usize>, colour: bool) -> String {
    let mut widths: Vec<usize> = columns.iter().map(Column::width).collect();
    if let Some(width) = width {
        fit(&mut columns, &mut widths, width);
    }
    let mut out = String::new();
    let titles: Vec<(&str, u8)> = columns.iter().map(|c| (c.title, 0)).collect();
    line(&mut out, &titles, &widths);
    let height = columns.iter().map(|c| c.cells.len()).max().unwrap_or(0);
    for i in 0..height {
        let cells: Vec<(&str, u8)> = columns
            .iter()
            .map(|c| c.cells.get(i).map_or(("", 0), |(text, paint)| (text.as_str(), if colour { *paint } else { 0 })))
            .collect();
        line(&mut out, &cells, &widths);
    }
    out
}

/// Cuts what may be cut, the widest first, until a line fits `width`, or nothing is left to cut.
fn fit(columns: &mut [Column], widths: &mut [usize], width: usize) {
    let gaps = 2 * columns.len().saturating_sub(1);
    loop {
        let too_much = (widths.iter().sum::<usize>() + gaps).saturating_sub(width);
        let widest = columns
            .iter()
            .zip(widths.iter_mut())
            .filter(|(column, width)| column.narrowest.is_some_and(|n| **width > n))
            .max_by_key(|(_, width)| **width);
        let (true, Some((column, width))) = (too_much > 0, widest) else { break };
        let narrowest = column.narrowest.unwrap_or(0);
        *width = width.saturating_sub(1).max(narrowest);
    }
    for (column, width) in columns.iter_mut().zip(widths.iter()) {
        for (cell, _) in &mut column.cells {
            if cell.chars().count() > *width {
                *cell = cell.chars().take(width.saturating_sub(1)).chain(['…']).collect();
            }
        }
    }
}

fn line(out: &mut String, cells: &[(&str, u8)], widths: &[usize]) {
    let last = cells.len().saturating_sub(1);
    for (i, ((cell, colour), width)) in cells.iter().zip(widths).enumerate() {
        match colour {
            0 => out.push_str(cell),
            colour => out.push_str(&format!("\x1b[{colour}m{cell}\x1b[0m")),
        }
        if i < last {
            let pad = width.saturating_sub(cell.chars().count()) + 2;
            out.extend(std::iter::repeat_n(' ', pad));
        }
    }
    out.push('\n');
}
