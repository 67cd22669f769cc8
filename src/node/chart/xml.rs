//! Writes XML that is well-formed whatever the texts in it are.

use super::words;
use std::fmt::{Display, Write};

/// A document that grows.
#[derive(Debug, Default)]
pub struct Xml(String);

/// A number with at most one digit behind its point: an eighth of a millimetre on paper.
pub fn number(n: f64) -> String {
    let text = format!("{n:.1}");
    text.strip_suffix(".0").unwrap_or(&text).to_string()
}

/// `text` as character data or as the value of an attribute. Lines stay apart.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (i, line) in text.split('\n').enumerate() {
        if i > 0 {
            out.push('\n');
        }
        for c in words::clean(line).chars() {
            match c {
                '&' => out.push_str("&amp;"),
                '<' => out.push_str("&lt;"),
                '>' => out.push_str("&gt;"),
                '"' => out.push_str("&quot;"),
                '\'' => out.push_str("&#39;"),
                c => out.push(c),
            }
        }
    }
    out
}

impl Xml {
    /// Text of ours, as it is.
    pub fn raw(&mut self, text: impl Display) {
        let _ = writeln!(self.0, "{text}");
    }

    /// `<name attributes>`; a title is its tooltip.
    pub fn open(&mut self, name: &str, attributes: &str, title: Option<&str>) {
        let _ = write!(self.0, "<{name}{}{attributes}>", if attributes.is_empty() { "" } else { " " });
        if let Some(title) = title {
            let _ = write!(self.0, "<title>{}</title>", escape(title));
        }
        self.0.push('\n');
    }

    /// `</name>`.
    pub fn close(&mut self, name: &str) {
        let _ = writeln!(self.0, "</{name}>");
    }

    /// An element without contents but its tooltip.
    pub fn shape(&mut self, name: &str, attributes: &str, title: Option<&str>) {
        match title {
            Some(title) => {
                let _ = writeln!(self.0, "<{name} {attributes}><title>{}</title></{name}>", escape(title));
            }
            None => {
                let _ = writeln!(self.0, "<{name} {attributes}/>");
            }
        }
    }

    /// A rectangle of class `class`.
    pub fn rect(&mut self, class: &str, (x, y): (f64, f64), (width, height): (f64, f64), title: Option<&str>) {
        let [x, y, width, height] = [x, y, width, height].map(number);
        self.shape(
            "rect",
            &format!("class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\""),
            title,
        );
    }

    /// A line of class `class`.
    pub fn line(&mut self, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64), title: Option<&str>) {
        let [x1, y1, x2, y2] = [x1, y1, x2, y2].map(number);
        self.shape("line", &format!("class=\"{class}\" x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\""), title);
    }

    /// A path of class `class`.
    pub fn path(&mut self, class: &str, path: &str, title: Option<&str>) {
        self.shape("path", &format!("class=\"{class}\" d=\"{path}\""), title);
    }

    /// One line of text of class `class`, its baseline beginning at the point.
    pub fn text(&mut self, class: &str, (x, y): (f64, f64), text: &str) {
        let _ =
            writeln!(self.0, "<text class=\"{class}\" x=\"{}\" y=\"{}\">{}</text>", number(x), number(y), escape(text));
    }

    /// The whole document.
    pub fn finish(self) -> String {
        self.0
    }
}
