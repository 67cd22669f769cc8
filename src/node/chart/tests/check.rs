//! A small, strict reader of XML: enough to tell whether a picture is well-formed, and what is in it.

use std::collections::BTreeMap;

/// One element.
#[derive(Debug, Clone)]
pub struct Element {
    pub name: String,
    pub attributes: BTreeMap<String, String>,
    /// Its own text, without its children's.
    pub text: String,
}

impl Element {
    pub fn class(&self) -> &str {
        self.attributes.get("class").map_or("", String::as_str)
    }
}

/// All elements, in the order of their beginnings. The error tells what is not well-formed.
pub fn parse(document: &str) -> Result<Vec<Element>, String> {
    let mut rest = document.strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n").ok_or("no declaration")?;
    let allowed = |c: char| matches!(c, '\n' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    if let Some(c) = document.chars().find(|c| !allowed(*c)) {
        return Err(format!("{c:?} can't be in XML"));
    }
    let mut all: Vec<Element> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    while let Some(at) = rest.find('<') {
        let (before, tag) = rest.split_at(at);
        match open.last() {
            Some(i) => all[*i].text.push_str(&unescape(before)?),
            None if !before.trim().is_empty() => return Err(format!("{before:?} outside of all")),
            None => {}
        }
        let end = tag.find('>').ok_or("a tag without an end")?;
        let inside = &tag[1..end];
        rest = &tag[end + 1..];
        if let Some(name) = inside.strip_prefix('/') {
            let i = open.pop().ok_or(format!("</{name}> too many"))?;
            if all[i].name != name {
                return Err(format!("<{}> ended by </{name}>", all[i].name));
            }
            all[i].text = all[i].text.trim().to_string();
            continue;
        }
        if open.is_empty() && !all.is_empty() {
            return Err("a second root".into());
        }
        let (inside, empty) = match inside.strip_suffix('/') {
            Some(inside) => (inside, true),
            None => (inside, false),
        };
        let (name, attributes) = inside.split_once(' ').unwrap_or((inside, ""));
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase()) {
            return Err(format!("an element called {name:?}"));
        }
        all.push(Element { name: name.into(), attributes: attributes_of(attributes)?, text: String::new() });
        if !empty {
            open.push(all.len() - 1);
        }
    }
    match (open.is_empty(), rest.trim()) {
        (true, "") if !all.is_empty() => Ok(all),
        (true, rest) => Err(format!("{rest:?} at the end")),
        (false, _) => Err("not all is ended".into()),
    }
}

fn attributes_of(mut text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut all = BTreeMap::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"").ok_or(format!("{text:?} is no attribute"))?;
        let (value, rest) = rest.split_once('"').ok_or("an attribute without an end")?;
        if value.contains('<') || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Err(format!("attribute {name:?} = {value:?}"));
        }
        if all.insert(name.to_string(), unescape(value)?).is_some() {
            return Err(format!("{name} twice"));
        }
        text = match rest.strip_prefix(' ') {
            Some(rest) => rest,
            None if rest.is_empty() => rest,
            None => return Err(format!("{rest:?} after an attribute")),
        };
    }
    Ok(all)
}

fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        let (before, entity) = rest.split_at(at);
        let (name, after) = entity[1..].split_once(';').ok_or(format!("a bare & in {text:?}"))?;
        out.push_str(before);
        out.push(match name {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "#39" => '\'',
            _ => return Err(format!("&{name};")),
        });
        rest = after;
    }
    Ok(out + rest)
}

#[test]
fn the_reader_is_strict() {
    let told = |body: &str| parse(&format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{body}")).is_ok();
    assert!(told("<a b=\"1\" c=\"&lt;\"><b/>x &amp; y</a>\n"));
    for bad in
        ["", "<a>", "<a></b>", "<a/><b/>", "<a>&</a>", "<a>\u{1}</a>", "<a b=c/>", "<a b=\"1\" b=\"2\"/>", "<a/>x"]
    {
        assert!(!told(bad), "{bad}");
    }
}
