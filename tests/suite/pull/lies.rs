//! Images that lie: digests, sizes, diff_ids, what a blob holds. Each is refused, and the store is as it was.

use super::*;

/// Writes `bytes` as a blob of the image's directory; its descriptor's digest and size.
fn put(image: &OciImage, bytes: &[u8]) -> (String, usize) {
    let digest = Digest::of(bytes).to_string();
    fs::write(image.blob(&digest), bytes).unwrap();
    (digest, bytes.len())
}

/// Changes manifest and config, and lets the index name the new ones.
fn change(image: &OciImage, change: impl FnOnce(&mut Value, &mut Value)) {
    let read = |digest: &str| serde_json::from_slice::<Value>(&fs::read(image.blob(digest)).unwrap()).unwrap();
    let (mut manifest, mut config) = (read(&image.manifest), read(&image.config));
    let old = config.clone();
    change(&mut manifest, &mut config);
    if config != old {
        let (digest, size) = put(image, config.to_string().as_bytes());
        manifest["config"]["digest"] = json!(digest);
        manifest["config"]["size"] = json!(size);
    }
    let (digest, size) = put(image, manifest.to_string().as_bytes());
    let path = image.dir.join("index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    index["manifests"][0]["digest"] = json!(digest);
    index["manifests"][0]["size"] = json!(size);
    fs::write(path, index.to_string()).unwrap();
}

#[test]
fn images_that_lie_are_refused() {
    type Lie = fn(&OciImage);
    let lies: [(&str, Lie, &str); 7] = [
        ("contents", |i| damage(i, 3, 1), "digest"),
        ("shorter", |i| cut(i, 3), "manifest says"),
        ("longer", |i| damage(i, 3, 0), "manifest says"),
        ("size up", |i| change(i, |m, _| m["layers"][3]["size"] = json!(9_000_000)), "manifest says"),
        ("size down", |i| change(i, |m, _| m["layers"][3]["size"] = json!(1000)), "manifest says"),
        ("diff_id", |i| change(i, |_, c| c["rootfs"]["diff_ids"][3] = json!(Digest::of(b"x"))), "config says"),
        ("no gzip", no_gzip, "gzip"),
    ];
    for (name, lie, told) in lies {
        for runtime in ["unikernel", "microvm"] {
            let node = Node::new();
            let image = image(&node, "oci");
            lie(&image);
            let answer = node.mcp("mcp-pull", &["--for", runtime, &image.reference()]).expect(100);
            assert_eq!(answer.out, "");
            assert!(answer.err.contains(told), "{name} for {runtime}: {answer:#?}");
            is_settled(&node);
            assert_eq!(names(&store(&node).join("images")), [""; 0]);
            assert_eq!(names(&store(&node).join("refs")), [""; 0]);
            let bad = store(&node).join("blobs").join(image.layers[3].digest.trim_start_matches("sha256:"));
            assert!(!bad.exists(), "{name}: the blob is in the store");
        }
    }
}

/// Changes a byte in the middle of a layer; or adds one.
fn damage(image: &OciImage, layer: usize, change: usize) {
    let path = image.blob(&image.layers[layer].digest);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    match change {
        0 => bytes.push(0),
        _ => bytes[middle] ^= 1,
    }
    fs::write(path, bytes).unwrap();
}

fn cut(image: &OciImage, layer: usize) {
    let path = image.blob(&image.layers[layer].digest);
    let bytes = fs::read(&path).unwrap();
    fs::write(path, &bytes[..bytes.len() - 10]).unwrap();
}

/// A layer with the right digest that is no gzip.
fn no_gzip(image: &OciImage) {
    let (digest, size) = put(image, &[b'x'; 5000]);
    change(image, |manifest, _| {
        manifest["layers"][3]["digest"] = json!(digest);
        manifest["layers"][3]["size"] = json!(size);
    });
}

#[test]
fn a_media_type_that_lies_of_the_packing_changes_nothing() {
    let node = Node::new();
    let image = image(&node, "oci");
    let files = |node: &Node| {
        let answer = node.mcp("mcp-pull", &["--json", &image.reference()]).expect(0);
        let told: Value = serde_json::from_str(&answer.out).unwrap();
        let path = told["images"][0]["path"].as_str().unwrap_or_else(|| panic!("{told:#}")).to_string();
        let pulled: Value = serde_json::from_slice(&fs::read(format!("{path}/image.json")).unwrap()).unwrap();
        pulled["program"]["files"].clone()
    };
    let honest = files(&node);
    assert!(honest.as_array().is_some_and(|f| !f.is_empty()), "{honest:#}");
    change(&image, |manifest, _| {
        for layer in manifest["layers"].as_array_mut().unwrap() {
            layer["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar");
        }
    });
    let fresh = Node::new();
    assert_eq!(files(&fresh), honest);
}

#[test]
fn a_program_that_cannot_be_is_told() {
    let node = Node::new();
    for (name, entrypoint, told) in [
        ("none", json!([]), ""),
        ("missing", json!(["/no/such"]), "/no/such"),
        ("script", json!(["/etc/app/app.conf"]), "app.conf"),
    ] {
        let image = image(&node, "oci");
        change(&image, |_, c| {
            c["config"]["Entrypoint"] = entrypoint;
            c["config"]["Cmd"] = json!([]);
        });
        let answer = node.mcp("mcp-pull", &[&image.reference()]).expect(100);
        assert!(answer.one_line().contains(told), "{name}: {answer:#?}");
        assert_eq!(names(&store(&node).join("images")), [""; 0]);
        is_settled(&node);
    }
}
