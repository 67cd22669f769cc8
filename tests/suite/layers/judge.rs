//! The judge: podman's mount of an image beside ours, file by file.

use super::{reader, scratch, soon};
use crate::harness::{Node, OciImage, oci_image, podman, skip, test_parts};
use mcp::image::oci::Packing;
use mcp::image::worker::{Index, Merge, Packed};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Our root of an image: its layers through the workers and tar2sqfs.
fn squash(node: &Node, image: &OciImage) -> PathBuf {
    let user = reader(node);
    let open = |layer: &crate::harness::OciLayer| {
        let (blob, index) = (File::open(image.blob(&layer.digest)).unwrap(), scratch());
        let packing = Packing::Gzip;
        let trailer = Index::of_file(&user, packing, &blob, &index, None).unwrap().finish(soon()).unwrap();
        assert_eq!(trailer.diff_id.to_string(), layer.diff_id);
        Packed { index, blob, packing }
    };
    let layers: Vec<Packed> = image.layers.iter().map(open).collect();
    let to = node.root.join("root.sqfs");
    let mut tool = Command::new("tar2sqfs");
    tool.args(["--no-skip", "-f", "-q", "-c", "gzip"]).arg(&to).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut tool = tool.spawn().unwrap();
    let merge = Merge::start(&user, &layers, tool.stdin.take().unwrap().into()).unwrap();
    assert!(merge.finish(soon()).unwrap(), "tar2sqfs has gone away");
    let done = tool.wait_with_output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    to
}

/// All that a tar says of each path. Contents by their digest.
fn entries(tar: &Path) -> BTreeMap<Vec<u8>, String> {
    let mut archive = tar::Archive::new(File::open(tar).unwrap());
    let mut found = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header().clone();
        let mut xattrs = Vec::new();
        for extension in entry.pax_extensions().unwrap().into_iter().flatten() {
            let extension = extension.unwrap();
            if extension.key_bytes().starts_with(b"SCHILY.xattr.") {
                xattrs.push(format!("{:?}={:?}", extension.key_bytes(), extension.value_bytes()));
            }
        }
        xattrs.sort();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        let what = format!(
            "{:?} {:o} {}:{} {} {:?} {:?}:{:?} {} bytes {} {xattrs:?}",
            header.entry_type(),
            header.mode().unwrap(),
            header.uid().unwrap(),
            header.gid().unwrap(),
            header.mtime().unwrap(),
            entry.link_name_bytes().map(|l| String::from_utf8_lossy(&l).into_owned()),
            header.device_major().unwrap(),
            header.device_minor().unwrap(),
            bytes.len(),
            mcp::model::Digest::of(&bytes),
        );
        found.insert(entry.path_bytes().into_owned(), what);
    }
    found
}

/// What podman makes of the image, and what we do: all that differs. `None` where there is no podman.
fn differences(test: &str, node: &Node, image: &OciImage) -> Option<Vec<String>> {
    let ours = squash(node, image);
    // With times of whole seconds, as a squashfs has them.
    let tar = "tar --sort=name --format=pax --pax-option=delete=mtime,delete=atime,delete=ctime \
        --xattrs --xattrs-include='*' -cf";
    let commands = format!(
        "id=$($podman pull -q --signature-policy ./policy.json {})\n\
         m=$($podman image mount $id); {tar} theirs.tar -C $m .\n\
         mkdir -p ours; if mount -t squashfs -o loop,ro {} ours; then {tar} ours.tar -C ours .; umount ours; fi\n\
         $podman image unmount $id >/dev/null; $podman rmi -f $id >/dev/null",
        image.reference(),
        ours.display(),
    );
    podman(test, node, &commands)?;
    let dir = node.root.join("podman");
    if !dir.join("ours.tar").exists() {
        skip(test, "this machine can't mount a squashfs");
        return None;
    }
    let (theirs, ours) = (entries(&dir.join("theirs.tar")), entries(&dir.join("ours.tar")));
    assert!(!theirs.is_empty());
    // The root itself: podman's is its own, whatever the layers say.
    let names: std::collections::BTreeSet<_> = theirs.keys().chain(ours.keys()).filter(|n| *n != b"./").collect();
    let mut found = Vec::new();
    for name in names {
        if theirs.get(name) != ours.get(name) {
            let (theirs, ours) = (theirs.get(name), ours.get(name));
            found.push(format!("{}:\n    podman {theirs:?}\n    mcp    {ours:?}", String::from_utf8_lossy(name)));
        }
    }
    for tar in ["ours.tar", "theirs.tar"] {
        fs::remove_file(dir.join(tar)).unwrap();
    }
    Some(found)
}

#[track_caller]
fn agrees(test: &str, node: &Node, image: &OciImage) {
    if let Some(found) = differences(test, node, image) {
        assert!(found.is_empty(), "{} differences:\n{}", found.len(), found.join("\n"));
    }
}

#[test]
fn our_root_is_podman_s() {
    let test = "our_root_is_podman_s";
    let Some(parts) = test_parts(test) else { return };
    for names in [&["base"][..], &["base", "redis"], &["base", "nginx"], &["base", "caddy"]] {
        let node = Node::new();
        let layers: Vec<PathBuf> = names.iter().map(|n| parts.join(format!("{n}.tar"))).collect();
        let image = oci_image(&node.root.join("oci"), "it", &json!({ "Cmd": ["/bin/sh"] }), &layers);
        agrees(test, &node, &image);
    }
}
