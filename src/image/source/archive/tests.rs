//! Archives as old programs made them, and as nobody should.
#![allow(clippy::unwrap_used)]

use super::entries::tests::{add, file};
use super::*;
use crate::image::oci::Image;
use std::time::Duration;
use tar::EntryType::{Link, Regular, Symlink};

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

fn read_all(bytes: &[u8]) -> Result<Open> {
    Reading { object: "x", file: file(bytes), deadline: soon() }.all()
}

fn archive(make: impl Fn(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    make(&mut tar);
    tar.into_inner().unwrap()
}

fn source(bytes: &[u8]) -> Archive {
    let open = Some(Arc::new(read_all(bytes).unwrap()));
    Archive { object: "x".into(), path: None, paths: Paths::under(Path::new("/nowhere")), open }
}

/// As docker save wrote them: a folder a layer, the same layer twice as a link.
fn old_docker() -> Vec<u8> {
    let ids = [Digest::of(b"one"), Digest::of(b"two"), Digest::of(b"one")].map(|d| format!("\"{d}\"")).join(",");
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{"Cmd":["/a"]}},"rootfs":{{"type":"layers","diff_ids":[{ids}]}}}}"#
    );
    archive(|tar| {
        add(tar, Regular, "1/layer.tar", "", b"one");
        add(tar, Regular, "2/layer.tar", "", b"\x1f\x8btwo");
        add(tar, Symlink, "3/layer.tar", "../1/layer.tar", b"");
        add(tar, Link, "4/layer.tar", "3/layer.tar", b"");
        add(tar, Regular, "c.json", "", config.as_bytes());
        let saved = r#"[{"Config":"c.json","RepoTags":["a:1"],"Layers":["1/layer.tar","2/layer.tar","4/layer.tar"]}]"#;
        add(tar, Regular, "manifest.json", "", saved.as_bytes());
    })
}

#[test]
fn a_manifest_is_made_always_the_same() {
    let bytes = old_docker();
    let mut source = source(&bytes);
    let top = source.resolve(soon()).unwrap();
    let manifest = source.document(&top, soon()).unwrap();
    assert_eq!(read_all(&bytes).unwrap().top, top);
    let Document::Manifest(parts) = Document::read("x", &top.media_type, &manifest).unwrap() else { panic!() };
    let config = source.document(&parts.config, soon()).unwrap();
    let image = Image::read("x", &manifest, &config).unwrap();
    assert_eq!(image.layers.len(), 3);
    assert_eq!(image.layers[0].blob, image.layers[2].blob);
    let kinds: Vec<&str> = parts.layers.iter().map(|(d, _)| d.media_type.as_str()).collect();
    assert_eq!(kinds[0], OCI_LAYER);
    assert_eq!(kinds[1], format!("{OCI_LAYER}+gzip"));
    let mut text = String::new();
    let mut again = source.again().unwrap();
    let blob = again.blob(&parts.layers[0].0, 1, soon()).unwrap();
    assert_eq!(blob.from, 1);
    { blob.reader }.read_to_string(&mut text).unwrap();
    assert_eq!(text, "ne");
    let gone = described("", Digest::of(b"gone"), 1);
    assert!(source.blob(&gone, 0, soon()).err().unwrap().to_string().contains("not in it"));
}

#[test]
fn archives_that_lie_are_refused() {
    let saved = |text: &str| {
        archive(|tar| {
            add(tar, Regular, "c.json", "", b"{}");
            add(tar, Symlink, "out", "/etc/passwd", b"");
            add(tar, Regular, "manifest.json", "", text.as_bytes());
        })
    };
    let layers = vec!["\"c.json\""; LAYERS_MAX + 1].join(",");
    for (text, part) in [
        ("[]", "holds no image"),
        ("{", "is damaged"),
        (r#"[{"Config":"../../etc/passwd","Layers":[]}]"#, "which is not in it"),
        (r#"[{"Config":"/etc/passwd","Layers":[]}]"#, "which is not in it"),
        (r#"[{"Config":"out","Layers":[]}]"#, "which is not in it"),
        (r#"[{"Config":"c.json","Layers":["a\nb"]}]"#, "names ab, which"),
        (r#"[{"Config":"c.json","RepoTags":null},{"Config":"c.json","RepoTags":["a:1"]}]"#, "podman save a:1"),
        (&format!(r#"[{{"Config":"c.json","Layers":[{layers}]}}]"#), "more than 256 layers"),
        (&" ".repeat(300 << 10), "manifest.json is larger"),
        (&"[".repeat(100 << 10), "is damaged"),
    ] {
        let told = read_all(&saved(text)).map(|_| ()).unwrap_err().to_string();
        assert!(told.contains(part) && !told.contains('\n'), "{told}");
    }
    let layout = archive(|tar| {
        add(tar, Regular, "oci-layout", "", br#"{"imageLayoutVersion":"9.0.0"}"#);
        add(tar, Regular, "index.json", "", b"{}");
    });
    assert!(read_all(&layout).map(|_| ()).unwrap_err().to_string().contains("unknown version"));
}

#[test]
fn damage_anywhere_is_no_panic() {
    let good = old_docker();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..1500 {
        let mut bytes = good.clone();
        for _ in 0..4 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let at = usize::try_from(state >> 8).unwrap() % bytes.len();
            bytes[at] = (state & 0xff) as u8;
        }
        if state.is_multiple_of(3) {
            bytes.truncate(usize::try_from(state >> 8).unwrap() % bytes.len());
        }
        if let Ok(open) = read_all(&bytes) {
            assert!(open.top.size > 0);
        }
    }
}
