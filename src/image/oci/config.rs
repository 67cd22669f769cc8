//! An image's config, checked against its manifest (image-spec config.md).

use super::json::{self, Few, Keys, nullable};
use super::platform::{ARCHITECTURE, OS};
use super::{Document, Image, Layer, Platform, RunConfig};
use crate::image::limits::LAYERS_MAX;
use crate::model::Digest;
use crate::sys::{Error, Result};
use serde::Deserialize;

/// Words of one list: more is no image's, and memory that we don't have.
const WORDS_MAX: usize = 4096;

#[derive(Deserialize)]
struct Raw {
    #[serde(default, deserialize_with = "nullable")]
    architecture: String,
    #[serde(default, deserialize_with = "nullable")]
    os: String,
    #[serde(default, deserialize_with = "nullable")]
    config: Run,
    rootfs: Option<Rootfs>,
}

#[derive(Deserialize)]
struct Rootfs {
    #[serde(default, deserialize_with = "nullable")]
    diff_ids: Few<Digest, LAYERS_MAX>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Run {
    entrypoint: Few<String, WORDS_MAX>,
    cmd: Few<String, WORDS_MAX>,
    env: Few<String, WORDS_MAX>,
    #[serde(deserialize_with = "nullable")]
    working_dir: String,
    #[serde(deserialize_with = "nullable")]
    user: String,
    exposed_ports: Keys<WORDS_MAX>,
    #[serde(deserialize_with = "nullable")]
    stop_signal: String,
}

impl Image {
    /// Reads a manifest (no index) and the config that it names; messages call them `object`. Digests and sizes are
    /// checked, as are the number of layers and the machine.
    pub fn read(object: &str, manifest: &[u8], config: &[u8]) -> Result<Image> {
        let refused = |reason: String| Err(Error::refused(object, reason));
        let Document::Manifest(parts) = Document::read(object, "", manifest)? else {
            return refused("is an index, not a manifest".into());
        };
        if Digest::of(config) != parts.config.digest || config.len() as u64 != parts.config.size {
            return refused(format!("its config is not the {} that its manifest names", parts.config.digest));
        }
        let (run, diff_ids) = Image::read_config(object, config)?;
        if diff_ids.len() != parts.layers.len() {
            let reason = format!("its manifest has {} layers, its config names {}", parts.layers.len(), diff_ids.len());
            return refused(reason);
        }
        let layers: Vec<Layer> = parts
            .layers
            .into_iter()
            .zip(diff_ids)
            .map(|((blob, packing), diff_id)| Layer { blob: blob.digest, size: blob.size, packing, diff_id })
            .collect();
        // One blob can't be two things.
        let differ = |a: &Layer, b: &Layer| a.blob == b.blob && (a.diff_id != b.diff_id || a.packing != b.packing);
        if let Some(two) = layers.iter().enumerate().find(|(n, a)| layers.iter().skip(*n).any(|b| differ(a, b))) {
            return refused(format!("its config has two diff_ids for layer {}", two.1.blob));
        }
        Ok(Image { manifest: Digest::of(manifest), config: parts.config.digest, layers, run })
    }

    /// Reads a config alone: what it runs, and the digests of the layers unpacked, the base first.
    pub fn read_config(object: &str, config: &[u8]) -> Result<(RunConfig, Vec<Digest>)> {
        let raw: Raw = json::read(object, "config", config)?;
        let machine = Platform { os: raw.os, architecture: raw.architecture, variant: String::new() };
        let wrong = |have: &str, want: &str| !have.is_empty() && have != want;
        if wrong(&machine.os, OS) || wrong(&machine.architecture, ARCHITECTURE) {
            let reason = format!("is for {machine} only, and guests are {OS}/{ARCHITECTURE}");
            return Err(Error::refused(object, reason));
        }
        Ok((run(object, raw.config)?, raw.rootfs.map(|r| r.diff_ids.0).unwrap_or_default()))
    }
}

fn run(object: &str, raw: Run) -> Result<RunConfig> {
    let run = RunConfig {
        entrypoint: raw.entrypoint.0,
        cmd: raw.cmd.0,
        env: raw.env.0,
        workdir: raw.working_dir,
        user: raw.user,
        exposed: raw.exposed_ports.0,
        stop_signal: raw.stop_signal,
    };
    let lists = [&run.entrypoint, &run.cmd, &run.env, &run.exposed];
    let words = [&run.workdir, &run.user, &run.stop_signal];
    // It would end the word, somewhere below us.
    if lists.into_iter().flatten().chain(words).any(|w| w.contains('\0')) {
        return Err(Error::refused(object, "its config has a NUL character in what it runs"));
    }
    Ok(run)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use super::*;
    use crate::image::oci::Packing;
    use crate::image::oci::document::tests::{descriptor, manifest_json};
    use crate::image::oci::document::{OCI_CONFIG, OCI_LAYER};

    /// A config as Docker writes it.
    pub fn config_json() -> String {
        let ids = [Digest::of(b"a"), Digest::of(b"b")].map(|d| format!("\"{d}\"")).join(",");
        format!(
            r#"{{"architecture":"amd64","os":"linux","created":"2026-01-01T00:00:00Z","config":{{"Env":["PATH=/bin"],
            "Entrypoint":["/app"],"Cmd":null,"WorkingDir":"/srv","User":"","ExposedPorts":{{"8080/tcp":{{}}}},
            "Labels":null,"OnBuild":null}},"history":[{{"empty_layer":true}},{{}},{{}}],
            "rootfs":{{"type":"layers","diff_ids":[{ids}]}}}}"#
        )
    }

    fn read(config: &str) -> Result<Image> {
        let layers = [b"1", b"2"].map(|l| descriptor(&format!("{OCI_LAYER}+gzip"), l, ""));
        let manifest = manifest_json(&descriptor(OCI_CONFIG, config.as_bytes(), ""), &layers);
        Image::read("x", manifest.as_bytes(), config.as_bytes())
    }

    #[test]
    fn a_config_as_docker_writes_it() {
        let image = read(&config_json()).unwrap();
        let run = &image.run;
        assert_eq!((run.entrypoint.as_slice(), run.cmd.len()), (&["/app".to_string()][..], 0));
        assert_eq!((run.workdir.as_str(), run.exposed.as_slice()), ("/srv", &["8080/tcp".to_string()][..]));
        assert_eq!(image.layers[1].diff_id, Digest::of(b"b"));
        assert_eq!((image.layers[0].packing, image.layers[0].size), (Packing::Gzip, 1));
    }

    #[test]
    fn configs_that_lie_are_refused() {
        let good = config_json();
        for (text, part) in [
            (good.replace("amd64", "arm64"), "is for linux/arm64 only"),
            (good.replace("\"linux\"", "\"windows\""), "is for windows/amd64 only"),
            (good.replace(&format!(",\"{}\"", Digest::of(b"b")), ""), "has 2 layers, its config names 1"),
            (good.replace("\"rootfs\"", "\"rootfz\""), "names 0"),
            (good.replace("/app", "/a\\u0000pp"), "NUL"),
            (good.replace("[\"PATH=/bin\"]", "[1]"), "damaged"),
            (good.replace("sha256:", "md5:"), "damaged"),
            ("[".repeat(100), "nests deeper"),
        ] {
            let told = read(&text).unwrap_err().to_string();
            assert!(told.contains(part), "{told}");
        }
        let layer = descriptor(OCI_LAYER, b"1", "");
        let manifest = manifest_json(&descriptor(OCI_CONFIG, good.as_bytes(), ""), &[layer.clone(), layer]);
        let told = Image::read("x", manifest.as_bytes(), good.as_bytes()).unwrap_err().to_string();
        assert!(told.contains("two diff_ids"), "{told}");
        let told = Image::read("x", manifest.as_bytes(), b"{}").unwrap_err().to_string();
        assert!(told.contains("is not the sha256:"), "{told}");
    }
}
