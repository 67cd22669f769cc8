//! Holds the picture of the architecture to the code: each program, floor and file in it is there, and none lacks.

use super::{root, text};
use std::collections::BTreeSet;

/// What stands in the elements of a class: `<g class="CLASS">…<text …>NAME</text>` or `<text … class="CLASS">NAME`.
fn named(svg: &str, class: &str) -> BTreeSet<String> {
    let mark = format!("class=\"{class}\"");
    let lines = svg.lines().filter(|l| l.contains(&mark) && l.contains("<text"));
    let name = |line: &str| {
        let text = &line[line.find("<text").unwrap()..];
        let inside = text.split_once('>').unwrap().1;
        inside.split('<').next().unwrap().to_string()
    };
    lines.map(name).collect()
}

/// The pairs of who starts whom.
fn arrows(svg: &str) -> Vec<(String, String)> {
    let value = |line: &str, key: &str| {
        let rest = line.split_once(&format!("{key}=\""))?.1;
        Some(rest.split('"').next()?.to_string())
    };
    svg.lines().filter_map(|l| Some((value(l, "data-from")?, value(l, "data-to")?))).collect()
}

/// Programs of Rust and scripts that are installed beside them.
fn programs() -> BTreeSet<String> {
    let names = std::fs::read_dir(root().join("src/bin")).unwrap().flatten();
    let mut programs: BTreeSet<String> =
        names.map(|e| e.path().file_stem().unwrap().to_str().unwrap().to_string()).collect();
    for (script, name) in [
        ("mcp", "mcp"),
        ("mcp-deploy", "mcp-deploy"),
        ("grpc_health_probe", "grpc_health_probe"),
        ("get-guest-kernel", "mcp-get-guest-kernel"),
        ("cron/mcp-probe", "mcp-probe"),
    ] {
        assert!(root().join("scripts").join(script).is_file());
        programs.insert(name.into());
    }
    programs
}

/// Where `from` starts `to`, by the words of its source.
fn starts(from: &str, to: &str) -> bool {
    let source = match from {
        "mcp-deploy" | "grpc_health_probe" => text(&format!("scripts/{from}")),
        "mcp-boot" => text("src/node/command.rs"),
        "mcp-run" => text("src/cmd/run/mod.rs"),
        "mcp-build" => text("src/image/build/parts.rs") + &text("src/sys/squashfs.rs"),
        "mcp-run-vm" => text("src/model/node.rs") + &text("src/guest/launch/spawn.rs"),
        "mcp-run-container" => text("src/container/podman.rs") + &text("src/model/node.rs"),
        "mcp-guest-init" | "qemu" => text("src/guest/microvm/initramfs.rs"),
        _ => panic!("the picture has an arrow from {from}, of which this test knows no source"),
    };
    let word = match to {
        "qemu" => "qemu-system",
        "mcp-guest-init" => "guest-init",
        other => other,
    };
    source.contains(word)
}

#[test]
fn docs_picture_shows_the_code_as_it_is() {
    let svg = text("docs/architecture.svg");
    assert_eq!(named(&svg, "program"), programs(), "the programs of docs/architecture.svg, and those that there are");

    let folders = std::fs::read_dir(root().join("src")).unwrap().flatten().filter(|e| e.path().is_dir());
    let folders: BTreeSet<String> = folders.map(|e| e.file_name().into_string().unwrap()).collect();
    let mut floors = named(&svg, "floor");
    assert!(floors.insert("bin".into()), "src/bin is told beside the floors");
    assert_eq!(floors, folders, "the floors of docs/architecture.svg, and those that there are");

    let paths = text("src/sys/paths.rs");
    let files = named(&svg, "file");
    assert!(files.len() > 10, "{files:?}");
    let missing: Vec<_> = files.iter().filter(|f| !paths.contains(f.as_str())).collect();
    assert!(missing.is_empty(), "src/sys/paths.rs does not know {missing:?}");

    let arrows = arrows(&svg);
    assert!(arrows.len() > 10, "{arrows:?}");
    // Who sits at the terminal, and an init system, have no source here.
    let ours = arrows.iter().filter(|(from, _)| !["people", "init"].contains(&from.as_str()));
    let wrong: Vec<_> = ours.filter(|(from, to)| !starts(from, to)).collect();
    assert!(wrong.is_empty(), "no such start in the code: {wrong:?}");
}
