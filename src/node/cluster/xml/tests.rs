//! What is read, what is refused, and that nothing that a stranger sends makes it panic, hang or grow.

use super::*;

/// All events of `text` in a line, or the error.
fn told(text: &str) -> String {
    let mut reader = Reader::new(text);
    let mut out = Vec::new();
    loop {
        match reader.event() {
            Ok(Some(Event::Open(tag))) => {
                let attributes: Vec<String> = tag.attributes.iter().map(|(n, v)| format!(" {n}={v:?}")).collect();
                out.push(format!("<{}{}>", tag.name, attributes.concat()));
            }
            Ok(Some(Event::Close)) => out.push("/".into()),
            Ok(Some(Event::Text(text))) => out.push(format!("{text:?}")),
            Ok(None) => return out.join(" "),
            Err(e) => return format!("ERROR {e}"),
        }
    }
}

#[test]
fn documents() {
    for (text, wanted) in [
        ("<a/>", "<a> /"),
        ("<?xml version=\"1.0\"?>\n<!-- x --> <a b='1' c = \"&lt;&#65;&#x42;&amp;amp;\"><d/>t &gt;</a>\n", {
            "<a b=\"1\" c=\"<AB&amp;\"> <d> / \"t >\" /"
        }),
        ("<a ><![CDATA[<&]]></a >", "<a> \"<&\" /"),
        ("<a b=\"x>y/\"/>", "<a b=\"x>y/\"> /"),
    ] {
        assert_eq!(told(text), wanted, "{text}");
    }
}

#[test]
fn refusals() {
    for (text, wanted) in [
        ("", "cut short"),
        ("hello", "not XML"),
        ("<a>", "cut short"),
        ("<a", "cut short"),
        ("<a b", "cut short"),
        ("<a b=", "cut short"),
        ("<a b=\"c", "cut short"),
        ("<a b=\"c\"", "cut short"),
        ("<a b=\"c\"/", "cut short"),
        ("<a><!-- ", "cut short"),
        ("<a></b>", "an element ends that did not begin"),
        ("</a>", "an element ends that did not begin"),
        ("<a/><b/>", "more than one document"),
        ("<a/>text", "not XML"),
        ("<a b=c/>", "attribute b: its value has no quotes"),
        ("<a b/>", "attribute b: no value"),
        ("<a b=\"1\"c=\"2\"/>", "<a>: no space before an attribute"),
        ("<a b=\"<\"/>", "attribute b: a tag in its value"),
        ("<a>&nbsp;</a>", "entity nbsp"),
        ("<a>&#xd800;</a>", "entity #xd800"),
        ("<a>&amp</a>", "an entity without its end"),
        ("<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>", "has a document type, which Pacemaker never writes"),
        ("< a/>", "a tag without a name"),
    ] {
        assert_eq!(told(text), format!("ERROR {wanted}"), "{text}");
    }
}

#[test]
fn bombs() {
    assert!(told(&"<a>".repeat(1_000_000)).starts_with("ERROR deeper than 64"));
    let attributes: String = (0..1000).map(|n| format!(" a{n}=\"\"")).collect();
    assert_eq!(told(&format!("<a{attributes}/>")), "ERROR <a>: more than 256 attributes");
    // Long ones of everything take no longer than reading them does.
    let long = "x".repeat(4 << 20);
    for text in
        [format!("<{long}"), format!("<a {long}"), format!("<a>&{long}"), format!("<a><!--{long}"), long.clone()]
    {
        assert!(told(&text).starts_with("ERROR"));
    }
    assert!(told(&format!("<a>{}</a>", "&lt;".repeat(1 << 20))).len() > 1 << 20);
}

#[test]
fn every_beginning_of_a_document_is_cut_short() {
    let whole = "<?xml version=\"1.0\"?><a b=\"&lt;\"><c d='e'/>text &amp; more<!-- x --></a>";
    for end in 0..whole.len() {
        let told = told(&whole[..end]);
        assert!(told == "ERROR cut short" || told == "ERROR an entity without its end", "{}: {told}", &whole[..end]);
    }
}

#[test]
fn junk() {
    let alphabet =
        ["<", ">", "/", "=", "\"", "'", "&", ";", "a", " ", "!", "--", "[CDATA[", "]]>", "?", "#x", "é", "\0"];
    let mut seed = 7_u64;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize
    };
    for _ in 0..50_000 {
        let text: String = (0..next() % 40).map(|_| alphabet[next() % alphabet.len()]).collect();
        told(&text);
    }
}
