//! `[components.health]`.

use super::{Item, Table};
use crate::model::problem::quoted;
use crate::model::{Health, HealthKind, Port, Protocol};
use std::collections::BTreeMap;

/// The keys of `[components.health]`.
pub const HEALTH_KEYS: &[&str] = &[
    "kind",
    "port",
    "service",
    "path",
    "host",
    "headers",
    "tls",
    "tls_verify",
    "ca",
    "server_name",
    "cert",
    "key",
    "interval",
    "timeout",
    "successes",
    "failures",
];

/// Keys that go together.
pub(super) const PAIR: &[(&str, &[&str], &str)] =
    &[("cert", &["key"], "goes with key, which is missing"), ("key", &["cert"], "goes with cert, which is missing")];

/// The words for the kinds of check.
pub(super) const KINDS: &[(&str, HealthKind)] =
    &[("tcp", HealthKind::Tcp), ("http", HealthKind::Http), ("grpc", HealthKind::Grpc), ("none", HealthKind::None)];

/// Reads the table. `ports` are the component's, where they could all be read; `vm` whether it surely is a VM.
pub(super) fn health(t: &Table<'_>, ports: Option<&[Port]>, vm: bool) -> Health {
    t.only(HEALTH_KEYS, &[(super::COMPONENT_KEYS, "[[components]]")]);
    let mut h = Health::default();
    let kind_item = t.get("kind");
    h.kind = kind_item.as_ref().and_then(|i| i.choice(KINDS));
    let kind_known = kind_item.is_some() == h.kind.is_some() && !t.meant("kind");
    let only_for = |key: &str, kind: HealthKind, word: &str| {
        if let (Some(item), Some(given)) = (t.get(key), h.kind)
            && given != kind
        {
            item.conflict(&["kind"], format!("only a check of kind \"{word}\" has it"));
        }
    };
    only_for("service", HealthKind::Grpc, "grpc");
    only_for("path", HealthKind::Http, "http");

    if let Some(text) = t.get("service").and_then(|i| i.any_str("the name of a gRPC service in quotes").map(|s| (i, s)))
    {
        let (item, text) = text;
        if text.len() > 256 || !text.bytes().all(|b| b.is_ascii_graphic()) {
            item.problem(format!("{} is not the name of a gRPC service", quoted(text)));
        }
        h.service = text.to_string();
    }
    if let Some(item) = t.get("path")
        && let Some(text) = item.text("a path in quotes, like \"/healthz\"")
    {
        if !text.starts_with('/') || !text.bytes().all(|b| b.is_ascii_graphic()) {
            item.problem(format!("{} is not a path of HTTP: it begins with / and has no spaces", quoted(text)));
        }
        h.path = text.to_string();
    }
    for (item, given) in ["host", "headers"].iter().filter_map(|key| Some((t.get(key)?, h.kind?))) {
        if !matches!(given, HealthKind::Http | HealthKind::Grpc) {
            item.conflict(&["kind"], "only a check of kind \"http\" or \"grpc\" has it");
        }
    }
    if let Some(item) = t.get("host")
        && let Some(text) = item.text("HOST or HOST:PORT in quotes")
    {
        if text.len() > 300 || !text.bytes().all(|b| b.is_ascii_graphic()) {
            item.problem(format!("{} is not HOST or HOST:PORT", quoted(text)));
        }
        h.host = Some(text.to_string());
    }
    if let Some(item) = t.get("headers") {
        h.headers = headers(&item);
    }
    let tls = t.get("tls").map(|i| i.bool());
    h.tls = tls.flatten().unwrap_or(false);
    for key in ["tls_verify", "ca", "server_name", "cert", "key"] {
        if let Some(item) = t.get(key)
            && !h.tls
            && tls != Some(None)
        {
            item.conflict(&["tls"], "means nothing without tls = true");
        }
    }
    h.tls_verify = t.get("tls_verify").and_then(|i| i.bool()).unwrap_or(true);
    h.ca = t.get("ca").and_then(|i| i.path());
    if let Some(item) = t.get("ca").filter(|_| !h.tls_verify) {
        item.conflict(&["tls_verify"], "means nothing with tls_verify = false");
    }
    h.cert = t.get("cert").and_then(|i| i.path());
    h.key = t.get("key").and_then(|i| i.path());
    for (key, other, reason) in PAIR {
        if let Some(item) = t.get(key).filter(|_| h.tls && !other.iter().all(|o| t.has(o))) {
            item.conflict(other, *reason);
        }
    }
    if let Some(item) = t.get("server_name")
        && let Some(text) = item.text("a host name in quotes")
    {
        if text.len() > 253 || !text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:_".contains(&b)) {
            item.problem(format!("{} is not a host name", quoted(text)));
        }
        h.server_name = Some(text.to_string());
    }
    if let Some(d) = t.get("interval").and_then(|i| i.duration()) {
        h.interval = d;
    }
    if let Some(d) = t.get("timeout").and_then(|i| i.duration()) {
        h.timeout = d;
    }
    if let Some(n) = t.get("successes").and_then(|i| i.number(1..=1000, "a number of checks")) {
        h.successes = n;
    }
    if let Some(n) = t.get("failures").and_then(|i| i.number(1..=1000, "a number of checks")) {
        h.failures = n;
    }
    port(t, &mut h, ports, vm, kind_known);
    h
}

/// Header fields that the check itself sends.
const OWN: [&str; 5] = ["host", "connection", "content-length", "transfer-encoding", "te"];

fn headers(item: &Item<'_>) -> BTreeMap<String, String> {
    let mut headers = BTreeMap::new();
    let Some(table) = item.table("headers = { NAME = \"value\" }") else { return headers };
    for (name, value) in table.entries() {
        let of_name = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if name.is_empty() || !name.bytes().all(of_name) {
            value.problem(format!("{} is not the name of a header field", quoted(name)));
        } else if OWN.iter().any(|own| name.eq_ignore_ascii_case(own)) {
            value.problem(format!("{name} is sent by the check itself; the key host changes the Host header"));
        } else if let Some(text) = value.secret().any_str("a string") {
            if !text.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
                value.problem(format!("the value of {name} is not visible ASCII and spaces"));
            }
            headers.insert(name.to_string(), text.to_string());
        }
    }
    headers
}

fn port(t: &Table<'_>, h: &mut Health, ports: Option<&[Port]>, vm: bool, kind_known: bool) {
    if let Some(item) = t.get("port") {
        let Some(port) = item.number(1..=65535, "a port") else { return };
        h.port = u16::try_from(port).ok();
        let forwarded = |ports: &[Port]| ports.iter().any(|p| p.protocol == Protocol::Tcp && Some(p.guest) == h.port);
        if vm && h.kind != Some(HealthKind::None) && ports.is_some_and(|p| !forwarded(p)) {
            item.conflict(
                &["ports", "kind", "runtime"],
                format!("guest port {port} can't be reached from the node: no tcp entry of ports leads to it"),
            );
        }
        return;
    }
    let asks = kind_known && h.kind.is_some_and(|k| k != HealthKind::None);
    if asks && ports.is_some_and(|p| !p.iter().any(|p| p.protocol == Protocol::Tcp)) {
        let reason = "there is no tcp port to ask: add one to ports, or set kind = \"none\"";
        t.missing(&["port", "ports", "kind"], reason);
    }
}
