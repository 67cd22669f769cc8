//! Two views of a boot record: a picture (SVG) and a table for a terminal. The third is the record itself, as JSON.
//!
//! Both are pure: the same record gives the same bytes. What guests and files said is made harmless in both.

mod axis;
mod draw;
mod layout;
mod legend;
mod row;
mod shapes;
mod table;
#[cfg(test)]
mod tests;
mod words;
mod xml;

pub use draw::svg;
pub use table::{Style, text};
