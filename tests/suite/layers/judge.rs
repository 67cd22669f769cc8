//! The judge: podman's mount of an image beside ours, file by file.

use super::{reader, scratch, soon};
use crate::harness::{Node, OciImage, oci_image, podman, skip, test_parts};
use mcp::image::oci::Packing;
use mcp::image::worker::{Index, Merge, Packed};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::{self, File};
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
    tool.args(["--no-skip", "-f", "-q", "-c", "zstd", "-X", "level=1"])
        .arg(&to)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped());
    let mut tool = tool.spawn().unwrap();
    let merge = Merge::start(&user, &layers, tool.stdin.take().unwrap().into()).unwrap();
    assert!(merge.finish(soon()).unwrap(), "tar2sqfs has gone away");
    let done = tool.wait_with_output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    to
}

/// Prints all that a tar says of each path, a line each: contents by their digest. The tar crate gives up on values with
/// line ends.
const LIST: &str = r#"
import hashlib, sys, tarfile
t = tarfile.open(sys.argv[1], errors='surrogateescape')
for i in t:
    data = t.extractfile(i).read() if i.isreg() else b''
    xattrs = sorted((k, v) for k, v in i.pax_headers.items() if k.startswith('SCHILY.xattr.'))
    what = (i.type, oct(i.mode), i.uid, i.gid, int(i.mtime), i.linkname, i.devmajor, i.devminor, i.size)
    print(ascii(i.name), ascii(what), hashlib.sha256(data).hexdigest(), ascii(xattrs), sep='\t')
"#;

fn entries(tar: &Path) -> BTreeMap<String, String> {
    let listed = Command::new("python3").args(["-c", LIST]).arg(tar).output().unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let text = String::from_utf8(listed.stdout).unwrap();
    text.lines().map(|l| l.split_once('\t').unwrap()).map(|(name, what)| (name.into(), what.into())).collect()
}

/// What podman makes of the image, and what we do: all that differs. `None` where there is no podman. What is `there`
/// must stand somewhere in the list, or it would prove nothing.
fn differences(test: &str, node: &Node, image: &OciImage, there: &str) -> Option<Vec<String>> {
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
    assert!(theirs.len() > 100 && theirs.values().any(|what| what.contains(there)), "{theirs:?}");
    // The root itself: podman's is its own, whatever the layers say.
    let names: std::collections::BTreeSet<_> = theirs.keys().chain(ours.keys()).filter(|n| *n != "'.'").collect();
    let mut found = Vec::new();
    for name in names {
        if theirs.get(name) != ours.get(name) {
            let (theirs, ours) = (theirs.get(name), ours.get(name));
            found.push(format!("{}:\n    podman {theirs:?}\n    mcp    {ours:?}", name));
        }
    }
    for tar in ["ours.tar", "theirs.tar"] {
        fs::remove_file(dir.join(tar)).unwrap();
    }
    Some(found)
}

#[track_caller]
fn agrees(test: &str, node: &Node, image: &OciImage, there: &str) {
    if let Some(found) = differences(test, node, image, there) {
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
        agrees(test, &node, &image, "0o755");
    }
}

/// A layer with one of everything that a file system has.
const EVERYTHING: &str = r#"
import os, stat
def put(name, data=b'x', mode=0o644, uid=0, gid=0):
    os.makedirs(os.path.dirname(name) or b'.', exist_ok=True)
    with open(name, 'wb') as f: f.write(data)
    os.chown(name, uid, gid); os.chmod(name, mode)
put(b'opt/setuid', mode=0o6755, uid=7, gid=8)
put(b'opt/far-owner', uid=3000000000, gid=2999999999, mode=0o600)
put(b'opt/caf\xe9 \n"back\\slash')
put(b'opt/' + b'n' * 255 + b'/' + b'm' * 200)
put(b'opt/' + b'd/' * 60 + b'deep')
put(b'opt/first', b'hard'); os.link(b'opt/first', b'opt/second'); os.link(b'opt/first', b'also')
os.symlink(b't' * 300, b'opt/long-link'); os.symlink(b'../etc/passwd', b'opt/link')
os.link(b'opt/link', b'opt/link-again', follow_symlinks=False)
os.mkdir(b'opt/sticky'); os.chmod(b'opt/sticky', 0o1777); os.chown(b'opt/sticky', 5, 6)
os.mknod(b'opt/null', 0o666 | stat.S_IFCHR, os.makedev(1, 3))
os.mknod(b'opt/disk', 0o660 | stat.S_IFBLK, os.makedev(254, 70000)); os.mkfifo(b'opt/pipe')
put(b'opt/ping'); os.setxattr(b'opt/ping', 'security.capability', bytes.fromhex('0100000200200000000000000000000000000000'))
put(b'opt/noted'); os.setxattr(b'opt/noted', 'trusted.note', b'a\n\0=\xff')
with open('opt/sparse', 'wb') as f: f.truncate(3 << 20); f.seek(1 << 20); f.write(b'middle')
with open('opt/hole', 'wb') as f: f.truncate(1 << 20)
put(b'opt/empty', b'')
for d in b'full', b'stays', b'becomes-file': put(b'opt/' + d + b'/sub/file', d); put(b'opt/' + d + b'/other', d)
put(b'opt/becomes-dir'); os.symlink(b'stays', b'opt/becomes-real'); put(b'opt/old', b'old')
for root, dirs, files in os.walk(b'.'):
    for n in dirs + files: os.utime(os.path.join(root, n), (1700000000, 1234567890), follow_symlinks=False)
"#;

/// A layer over it that hides and replaces.
const EDITS: &str = r#"
import tarfile, io, sys
t = tarfile.open(sys.argv[1], 'w', format=tarfile.PAX_FORMAT)
def add(name, kind=tarfile.REGTYPE, data=b'', link='', mode=0o644, uid=0):
    i = tarfile.TarInfo(name)
    i.type, i.size, i.linkname, i.mode, i.uid, i.mtime = kind, len(data), link, mode, uid, 1600000000
    t.addfile(i, io.BytesIO(data))
add('opt', tarfile.DIRTYPE, mode=0o755)
add('opt/full', tarfile.DIRTYPE, mode=0o700, uid=9)
add('opt/full/.wh..wh..opq')
add('opt/full/new', data=b'new')
add('opt/stays', tarfile.DIRTYPE, mode=0o711)
add('opt/stays/.wh.sub')
add('opt/stays/more', data=b'more')
add('opt/becomes-file', data=b'a file')
add('opt/becomes-dir', tarfile.DIRTYPE, mode=0o750)
add('opt/becomes-dir/in', data=b'in')
add('opt/becomes-real', tarfile.DIRTYPE, mode=0o755)
add('opt/becomes-real/in', data=b'in')
add('opt/.wh.old')
add('opt/.wh.d')
add('.wh.also')
add('opt/a', data=b'linked')
add('opt/b', tarfile.LNKTYPE, link='opt/a')
add('opt/.wh.setuid')
add('opt/setuid', data=b'new', mode=0o755)
t.close()
"#;

fn python(dir: &Path, script: &str, args: &[&Path]) {
    fs::create_dir_all(dir).unwrap();
    let done = Command::new("python3").args(["-c", script]).args(args).current_dir(dir).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// The layers of one of everything, of GNU tar in the named dialect, and of edits over it.
fn everything(node: &Node, dialect: &str) -> [PathBuf; 2] {
    let (tree, layer, edits) = (node.root.join("tree"), node.root.join("all.tar"), node.root.join("edits.tar"));
    python(&tree, EVERYTHING, &[]);
    let mut tar = Command::new("tar");
    tar.args([&format!("--format={dialect}"), "-C"]).arg(&tree).arg("-cf").arg(&layer);
    if dialect == "pax" {
        // podman knows no holes in GNU's old way.
        tar.args(["-S", "--xattrs", "--xattrs-include=*"]);
    }
    let done = tar.arg(".").output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    python(&tree, EDITS, &[&edits]);
    [layer, edits]
}

#[test]
fn everything_that_a_file_system_has() {
    let test = "everything_that_a_file_system_has";
    if !nix::unistd::geteuid().is_root() {
        skip(test, "devices are for root to make");
        return;
    }
    let Some(parts) = test_parts(test) else { return };
    for dialect in ["pax", "gnu"] {
        let node = Node::new();
        let [all, edits] = everything(&node, dialect);
        let layers = [parts.join("base.tar"), all, edits];
        let image = oci_image(&node.root.join("oci"), "it", &json!({ "Cmd": ["/bin/sh"] }), &layers);
        agrees(test, &node, &image, if dialect == "pax" { "security.capability" } else { "3000000000" });
    }
}

/// An image of an OCI directory that others have made.
fn made(dir: &Path, tag: &str) -> OciImage {
    let read = |path: PathBuf| -> serde_json::Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let blob = |digest: &str| dir.join("blobs/sha256").join(digest.trim_start_matches("sha256:"));
    let text = |v: &serde_json::Value| v.as_str().unwrap().to_string();
    let manifest = text(&read(dir.join("index.json"))["manifests"][0]["digest"]);
    let about = read(blob(&manifest));
    let config = text(&about["config"]["digest"]);
    let diff_ids = read(blob(&config))["rootfs"]["diff_ids"].clone();
    let layer = |(n, v): (usize, &serde_json::Value)| crate::harness::OciLayer {
        digest: text(&v["digest"]),
        size: v["size"].as_u64().unwrap(),
        diff_id: text(&diff_ids[n]),
    };
    let layers = about["layers"].as_array().unwrap().iter().enumerate().map(layer).collect();
    OciImage { dir: dir.into(), tag: tag.into(), manifest, config, layers }
}

/// Layers as buildah writes them when files of an image are changed.
#[test]
fn what_buildah_commits() {
    let test = "what_buildah_commits";
    let Some(parts) = test_parts(test) else { return };
    if !crate::harness::have(test, "buildah") {
        return;
    }
    let node = Node::new();
    let edited = node.root.join("edited");
    let script = format!(
        "buildah='buildah --root ./storage --runroot ./run --storage-driver overlay'\n\
         edit() {{ c=$($buildah from --signature-policy ./policy.json $1); m=$($buildah mount $c); (cd $m; eval \"$3\")\n\
         $buildah umount $c >/dev/null; $buildah commit --signature-policy ./policy.json -q $c $2 >/dev/null; $buildah rm $c >/dev/null; }}\n\
         edit scratch oci:{1}-0:it 'tar -xpf {0}/nginx.tar; tar -xpf {0}/base.tar'\n\
         edit oci:{1}-0:it oci:{1}-1:it 'rm -rf usr/share/doc etc/default; mkdir etc/default; echo new >etc/default/new
            rm -f etc/debian_version; ln -s os-release etc/debian_version; chmod 4711 usr/bin/env; chown 12:34 var
            ln usr/bin/env usr/bin/env-too; rm -rf usr/share/zoneinfo; echo file >usr/share/zoneinfo
            mv usr/lib/terminfo usr/lib/elsewhere 2>/dev/null || mkdir usr/lib/elsewhere'\n\
         edit oci:{1}-1:it oci:{1}:it 'rm usr/share/zoneinfo; mkdir usr/share/zoneinfo; rm usr/bin/env
            rm -rf etc/default; rm -rf usr/share/nginx; touch -d @1000000000 etc/passwd; rm lib; ln -s usr/lib lib'\n\
         $podman rmi -fa >/dev/null",
        parts.display(),
        edited.display(),
    );
    if podman(test, &node, &script).is_none() {
        return;
    }
    let image = made(&edited, "it");
    assert_eq!(image.layers.len(), 3);
    agrees(test, &node, &image, "0o4711");
}
