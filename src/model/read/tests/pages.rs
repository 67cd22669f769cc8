//! The manual pages of the two formats.

use crate::model::read::*;
use std::path::{Path, PathBuf};

/// The keys of a page, by the heading that they stand under.
fn page_keys(page: &str) -> Vec<(String, Vec<&str>)> {
    let keys = page.split("\n.SH KEYS\n").nth(1).unwrap().split("\n.SH ").next().unwrap();
    let sections = format!("\n{keys}");
    sections
        .split("\n.SS ")
        .skip(1)
        .map(|section| {
            let heading = section.lines().next().unwrap().trim_matches('"').replace("\\(dq", "\"");
            let start = page.find(section).unwrap();
            let text = &page[start..start + section.len()];
            let of = |entry: &'_ str| entry.strip_prefix(".BI ").map(|e| e.split(' ').next().unwrap().len());
            let keys = text
                .split("\n.TP\n")
                .skip(1)
                .map(|entry| &entry[4..4 + of(entry).unwrap_or_else(|| panic!("no .BI after .TP: {entry}"))])
                .collect();
            (heading, keys)
        })
        .collect()
}

/// The examples of a page, as they are read on a terminal.
fn page_examples(page: &str) -> Vec<String> {
    page.split("\n.EX\n").skip(1).map(|e| e.split("\n.EE").next().unwrap().replace("\\-", "-")).collect()
}

#[test]
fn the_pages_have_every_key_and_no_other() {
    let service = include_str!("../../../../man/mcp-service.5");
    let node = include_str!("../../../../man/mcp.toml.5");
    for (page, tables) in [
        (
            service,
            &[
                ("Top of the file", SERVICE_KEYS),
                ("[[components]]", COMPONENT_KEYS),
                ("[components.health]", HEALTH_KEYS),
            ][..],
        ),
        (
            node,
            &[
                ("[boot]", BOOT_KEYS),
                ("[[boot.sequence]]", STAGE_KEYS),
                ("[store]", STORE_KEYS),
                ("[qemu]", QEMU_KEYS),
                ("[ops]", OPS_KEYS),
                ("[microvm]", MICROVM_KEYS),
                ("[podman]", PODMAN_KEYS),
                ("[log]", LOG_KEYS),
                ("[registry.\"HOST:PORT\"]", REGISTRY_KEYS),
            ][..],
        ),
    ] {
        let told = page_keys(page);
        let known: Vec<(String, Vec<&str>)> = tables.iter().map(|(h, k)| (h.to_string(), k.to_vec())).collect();
        assert_eq!(told, known);
    }
}

#[test]
fn the_examples_of_the_pages_are_good() {
    let examples = page_examples(include_str!("../../../../man/mcp-service.5"));
    assert_eq!(examples.len(), 3);
    for text in examples {
        let name = text.split('"').nth(1).unwrap();
        let file = PathBuf::from(format!("/etc/mcp/services/{name}.toml"));
        assert_eq!(parse_service(&file, text.as_bytes()).err(), None);
    }
    let examples = page_examples(include_str!("../../../../man/mcp.toml.5"));
    assert_eq!(examples.len(), 2);
    for text in examples {
        assert_eq!(parse_node(Path::new("/etc/mcp/mcp.toml"), text.as_bytes()).1, []);
    }
}
