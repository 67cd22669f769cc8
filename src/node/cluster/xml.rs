//! A small bounded reader of XML: tags, attributes and text, which is all that Pacemaker's programs print.
//!
//! What it has no use for is refused, not skipped: a document type, and with it every entity but the five of XML itself,
//! so that nothing can grow while it is read. The text is never copied where nothing in it is escaped.

use std::borrow::Cow;

/// Elements within elements: Pacemaker's have some eight.
const DEPTH_MAX: usize = 64;
/// Attributes of one element: Pacemaker's have some twenty.
const ATTRIBUTES_MAX: usize = 256;

/// One element's start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag<'a> {
    /// Its name.
    pub name: &'a str,
    attributes: Vec<(&'a str, Cow<'a, str>)>,
}

impl<'a> Tag<'a> {
    /// The value of attribute `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_ref())
    }

    /// The same as text of its own; empty where there is none.
    pub fn text(&self, name: &str) -> String {
        self.get(name).unwrap_or_default().to_string()
    }

    /// Whether attribute `name` is `true`.
    pub fn is(&self, name: &str) -> bool {
        self.get(name) == Some("true")
    }
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// An element begins.
    Open(Tag<'a>),
    /// The element that began last ends.
    Close,
    /// Text that is not only white space.
    Text(Cow<'a, str>),
}

/// Reads one document.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a str,
    open: Vec<&'a str>,
    /// The last element was an empty one, whose end has not been told yet.
    ending: bool,
    begun: bool,
}

impl<'a> Reader<'a> {
    /// A reader of `text`.
    pub fn new(text: &'a str) -> Reader<'a> {
        Reader { rest: text.trim_start_matches('\u{feff}'), open: Vec::new(), ending: false, begun: false }
    }

    /// The names of the elements that have begun and not ended, the outermost first.
    pub fn path(&self) -> &[&'a str] {
        &self.open
    }

    /// What comes next; `None`: the document ended, whole. The error says what is wrong with it.
    pub fn event(&mut self) -> Result<Option<Event<'a>>, String> {
        if std::mem::take(&mut self.ending) {
            self.open.pop();
            return Ok(Some(Event::Close));
        }
        loop {
            let (text, markup) = match self.rest.find('<') {
                Some(at) => self.rest.split_at(at),
                None => (self.rest, ""),
            };
            if !text.trim().is_empty() {
                if self.open.is_empty() {
                    return Err("not XML".into());
                }
                self.rest = markup;
                return Ok(Some(Event::Text(unescape(text.trim())?)));
            }
            self.rest = markup;
            if markup.is_empty() {
                return match self.begun && self.open.is_empty() {
                    true => Ok(None),
                    false => Err("cut short".into()),
                };
            }
            if markup.starts_with("<!--") {
                self.skip_to("-->")?;
            } else if markup.starts_with("<?") {
                self.skip_to("?>")?;
            } else if let Some(data) = markup.strip_prefix("<![CDATA[") {
                let end = data.find("]]>").ok_or("cut short")?;
                let (text, after) = data.split_at(end);
                if self.open.is_empty() {
                    return Err("text outside the document".into());
                }
                self.rest = after.strip_prefix("]]>").unwrap_or_default();
                return Ok(Some(Event::Text(text.into())));
            } else if ["<!--", "<![CDATA["].iter().any(|whole| whole.starts_with(markup)) {
                return Err("cut short".into());
            } else if markup.starts_with("<!") {
                return Err("has a document type, which Pacemaker never writes".into());
            } else if let Some(name) = markup.strip_prefix("</") {
                let end = name.find('>').ok_or("cut short")?;
                let (name, after) = name.split_at(end);
                if self.open.pop() != Some(name.trim_end()) {
                    return Err("an element ends that did not begin".into());
                }
                self.rest = after.strip_prefix('>').unwrap_or_default();
                return Ok(Some(Event::Close));
            } else {
                return self.element().map(|tag| Some(Event::Open(tag)));
            }
        }
    }

    fn skip_to(&mut self, mark: &str) -> Result<(), String> {
        let at = self.rest.find(mark).ok_or("cut short")?;
        self.rest = self.rest.get(at + mark.len()..).unwrap_or_default();
        Ok(())
    }

    /// An element's start, at whose `<` we are.
    fn element(&mut self) -> Result<Tag<'a>, String> {
        if self.begun && self.open.is_empty() {
            return Err("more than one document".into());
        }
        let (name, mut rest) = name(self.rest.strip_prefix('<').unwrap_or_default())?;
        let mut attributes = Vec::new();
        loop {
            let trimmed = rest.trim_start();
            if let Some(after) = trimmed.strip_prefix('>') {
                rest = after;
                break;
            }
            if let Some(after) = trimmed.strip_prefix("/>") {
                rest = after;
                self.ending = true;
                break;
            }
            if trimmed.is_empty() || trimmed == "/" {
                return Err("cut short".into());
            }
            if trimmed.len() == rest.len() {
                return Err(format!("<{}>: no space before an attribute", short(name)));
            }
            let (value, after) = attribute(trimmed)?;
            if attributes.len() == ATTRIBUTES_MAX {
                return Err(format!("<{}>: more than {ATTRIBUTES_MAX} attributes", short(name)));
            }
            attributes.push(value);
            rest = after;
        }
        if self.open.len() == DEPTH_MAX {
            return Err(format!("deeper than {DEPTH_MAX} elements"));
        }
        self.rest = rest;
        self.begun = true;
        self.open.push(name);
        Ok(Tag { name, attributes })
    }
}

/// A name, and what follows it.
fn name(text: &str) -> Result<(&str, &str), String> {
    let ends = |c: char| c.is_whitespace() || matches!(c, '/' | '>' | '=');
    let (name, rest) = text.split_at(text.find(ends).ok_or("cut short")?);
    match name.is_empty() || name.contains(['<', '&', '"', '\'']) {
        true => Err("a tag without a name".into()),
        false => Ok((name, rest)),
    }
}

/// `name="value"`, and what follows it.
#[allow(clippy::type_complexity)]
fn attribute(text: &str) -> Result<((&str, Cow<'_, str>), &str), String> {
    let (name, rest) = name(text)?;
    let rest = rest.trim_start();
    if rest.is_empty() {
        return Err("cut short".into());
    }
    let rest = rest.strip_prefix('=').ok_or_else(|| format!("attribute {}: no value", short(name)))?.trim_start();
    let Some(quote) = rest.chars().next() else { return Err("cut short".into()) };
    if quote != '"' && quote != '\'' {
        return Err(format!("attribute {}: its value has no quotes", short(name)));
    }
    let rest = rest.get(1..).unwrap_or_default();
    let (value, after) = rest.split_at(rest.find(quote).ok_or("cut short")?);
    if value.contains('<') {
        return Err(format!("attribute {}: a tag in its value", short(name)));
    }
    Ok(((name, unescape(value)?), after.get(1..).unwrap_or_default()))
}

/// `text` with its character references and XML's own five entities replaced; others are errors.
pub fn unescape(text: &str) -> Result<Cow<'_, str>, String> {
    if !text.contains('&') {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        let (entity, after) = after.split_once(';').ok_or("an entity without its end")?;
        out.push(match entity {
            "lt" => '<',
            "gt" => '>',
            "amp" => '&',
            "quot" => '"',
            "apos" => '\'',
            other => other.strip_prefix('#').and_then(character).ok_or_else(|| format!("entity {}", short(other)))?,
        });
        rest = after;
    }
    out.push_str(rest);
    Ok(Cow::Owned(out))
}

/// The character that `#N` or `#xN` means.
fn character(number: &str) -> Option<char> {
    let code = match number.strip_prefix('x') {
        Some(hex) => u32::from_str_radix(hex, 16).ok()?,
        None => number.parse().ok()?,
    };
    char::from_u32(code)
}

/// The beginning of a name that may be anything.
fn short(name: &str) -> String {
    name.chars().take(30).flat_map(char::escape_default).collect()
}

#[cfg(test)]
mod tests;
