//! Images in podman's storage: looked at, pulled, named. Which image a reference means is for others to know.

use super::podman::{Podman, QUESTION};
use crate::model::{Digest, Pin};
use crate::sys::tool::Tool;
use crate::sys::{Deadline, Error, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// What podman stops a container with where its image says nothing.
const STOP_SIGNAL: &str = "SIGTERM";

/// An image that podman has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its id: the digest of its config. `podman run` takes its hex for an image.
    pub id: Digest,
    /// The digest of a manifest of it. One that was pulled by its index may have that one's here.
    pub digest: Digest,
    /// Its names, each `HOST/NAME:TAG`.
    pub names: Vec<String>,
    /// `HOST/NAME@DIGEST` of all manifests and indexes that it is known as, with each of its names.
    pub digests: Vec<String>,
    /// Bytes, unpacked.
    pub size: u64,
    /// What it wants to be stopped with, as it says it: `SIGTERM`, `15`, …
    pub stop_signal: String,
    /// What it runs, without its arguments.
    pub entrypoint: Vec<String>,
    /// Ports that it says it listens on, each `PORT/PROTOCOL`.
    pub ports: Vec<String>,
}

impl Image {
    /// This image for a record, where nothing but podman's storage has it.
    pub fn pin(&self) -> Pin {
        self.pin_of(self.digest, self.digest)
    }

    /// This image for a record: what the tag named, and the manifest.
    pub fn pin_of(&self, tagged: Digest, manifest: Digest) -> Pin {
        Pin { tagged, manifest, build: self.id.hex() }
    }

    /// Whether it is known as `HOST/NAME@DIGEST`.
    pub fn is_known_as(&self, repository: &str, digest: &Digest) -> bool {
        let told = |d: &String| d.split_once('@').is_some_and(|(r, d)| r == repository && d == digest.to_string());
        self.digests.iter().any(told)
    }
}

/// `podman image inspect`, as podman 4.3 prints it: only the id must be there.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    #[serde(default)]
    digest: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    repo_digests: Option<Vec<String>>,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    config: Option<Config>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Config {
    stop_signal: String,
    entrypoint: Option<Vec<String>>,
    exposed_ports: Option<BTreeMap<String, serde::de::IgnoredAny>>,
}

impl Inspected {
    fn image(self, object: &str) -> Result<Image> {
        let no_id = || Error::refused(object, "podman's answer is not what we know: its id is no digest");
        let id = Digest::from_hex(self.id.strip_prefix("sha256:").unwrap_or(&self.id)).ok_or_else(no_id)?;
        let config = self.config.unwrap_or_default();
        Ok(Image {
            // What was imported has no manifest in some versions: then its config stands for all of it.
            digest: Digest::parse(&self.digest).unwrap_or(id),
            id,
            names: self.repo_tags.unwrap_or_default(),
            digests: self.repo_digests.unwrap_or_default(),
            size: self.size,
            stop_signal: Some(config.stop_signal).filter(|s| !s.is_empty()).unwrap_or_else(|| STOP_SIGNAL.into()),
            entrypoint: config.entrypoint.unwrap_or_default(),
            ports: config.exposed_ports.unwrap_or_default().into_keys().collect(),
        })
    }
}

/// Whether podman has the image `what`: an id, or a whole name. No network.
pub fn exists(podman: &Podman, what: &str) -> Result<bool> {
    let mut command = podman.command(["image", "exists", "--", what]);
    let mut tool = Tool::start("podman", command.stdout(Stdio::null()))?;
    let status = tool.wait(Deadline::after(QUESTION))?;
    match status.code() {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        _ => {
            let told = tool.complaints();
            Err(Error::refused(what, format!("podman {}: {told}", crate::sys::tool::describe(status))))
        }
    }
}

/// The image `what`, an id or a whole name; `None`: podman has none such. No network.
pub fn inspect(podman: &Podman, what: &str) -> Result<Option<Image>> {
    let asked = podman.ask_json(what, ["image", "inspect", "--", what], Deadline::after(QUESTION));
    let all: Vec<Inspected> = match asked {
        Ok(all) => all,
        // It has one exit code for all that can fail.
        Err(e) => return if exists(podman, what)? { Err(e) } else { Ok(None) },
    };
    all.into_iter().next().map(|one| one.image(what)).transpose()
}

/// How podman is to reach a registry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Door {
    /// Folder with the certificates to trust besides the system's, `*.crt`, and one to show, `*.cert` and `*.key`.
    pub certificates: Option<PathBuf>,
    /// Whether plain HTTP, or TLS without a check, will do.
    pub insecure: bool,
    /// Credentials; `None`: where podman looks by itself.
    pub auth_file: Option<PathBuf>,
}

/// Pulls `source`, which is `docker://HOST/NAME@DIGEST`, `oci:DIR[:REF]` or `docker-archive:FILE`; messages call it
/// `object`. Network trouble is [`Error::Busy`].
pub fn pull(podman: &Podman, object: &str, source: &str, door: &Door, deadline: Deadline) -> Result<Image> {
    let mut args: Vec<&OsStr> = vec!["pull".as_ref(), "--quiet".as_ref()];
    if let Some(dir) = &door.certificates {
        args.extend([OsStr::new("--cert-dir"), dir.as_os_str()]);
    }
    if door.insecure {
        args.push("--tls-verify=false".as_ref());
    }
    if let Some(file) = &door.auth_file {
        args.extend([OsStr::new("--authfile"), file.as_os_str()]);
    }
    args.extend([OsStr::new("--"), source.as_ref()]);
    log::debug!("podman {args:?}");
    let told = podman.ask(object, args, deadline).map_err(|e| in_words(object, e))?;
    // The last line: an older podman has others before it.
    let told = String::from_utf8_lossy(&told);
    let id = told.lines().last().unwrap_or_default().trim();
    let Some(id) = Digest::from_hex(id.strip_prefix("sha256:").unwrap_or(id)) else {
        return Err(Error::refused(object, "podman pulled it, and its answer is not what we know: no id"));
    };
    inspect(podman, &id.hex())?.ok_or_else(|| Error::busy(object, "podman pulled it, and somebody removed it at once"))
}

/// The name that an image has which podman pulled as the layout of the folder that it runs in.
const OF_LAYOUT: &str = "localhost/proc/self/cwd:latest";

/// Pulls what `reference` names in the OCI layout `dir`. Podman makes the path of a layout a name, which most paths can't
/// be (capital letters, two dots): it is run there, and that name taken away.
pub fn pull_layout(
    podman: &Podman,
    object: &str,
    dir: &Path,
    reference: Option<&str>,
    deadline: Deadline,
) -> Result<Image> {
    let reference = reference.map(|r| format!(":{r}")).unwrap_or_default();
    let source = format!("oci:/proc/self/cwd{reference}");
    let image = pull(&podman.in_dir(dir), object, &source, &Door::default(), deadline)?;
    if image.names.iter().any(|name| name == OF_LAYOUT)
        && let Err(e) = untag(podman, &image.id.hex(), OF_LAYOUT)
    {
        log::info!("{e}");
    }
    Ok(image)
}

/// What podman says of failures that may pass. It has one exit code for all.
const PASSING: [&str; 16] = [
    "connection refused",
    "connection reset",
    "connection timed out",
    "deadline exceeded",
    "i/o timeout",
    "handshake timeout",
    "no such host",
    "no route to host",
    "network is unreachable",
    "server misbehaving",
    "temporary failure",
    "toomanyrequests",
    "too many requests",
    "unexpected EOF",
    "invalid status code from registry 5",
    "no space left",
];

/// How a failure of podman's begins, before its code and its words.
const ENDED: &str = "podman exited with ";

/// What went wrong in a pull, shortened to its last error and by whether trying again may help.
fn in_words(object: &str, error: Error) -> Error {
    let (reason, may_pass) = match error {
        // Not what it told at its end, but the deadline.
        Error::Busy { reason, .. } if !reason.starts_with(ENDED) => return Error::busy(object, reason),
        Error::Busy { reason, .. } => (reason, true),
        Error::Refused { reason, .. } => (reason, false),
        other => return other,
    };
    let cause = reason.strip_prefix(ENDED).and_then(|code| code.split_once(": ")).map_or(&*reason, |(_, told)| told);
    let cause = cause.rsplit("Error: ").next().unwrap_or(cause);
    let reason = format!("podman can't pull it: {cause}");
    let small = cause.to_ascii_lowercase();
    match may_pass || PASSING.iter().any(|words| small.contains(&words.to_ascii_lowercase())) {
        true => Error::busy(object, reason),
        false => Error::refused(object, reason),
    }
}

/// Gives the image `id` the name `name`, which another image loses.
pub fn tag(podman: &Podman, id: &str, name: &str) -> Result<()> {
    podman.ask(name, ["tag", id, name], Deadline::after(QUESTION)).map(drop)
}

/// Takes the name `name` from the image `id`, which stays.
pub fn untag(podman: &Podman, id: &str, name: &str) -> Result<()> {
    podman.ask(name, ["untag", id, name], Deadline::after(QUESTION)).map(drop)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// As podman 4.3 prints it, shortened.
    const ANSWER: &str = r#"[{"Id": "1b9a5baf13f0a60f6069e2816602906a059f3c665899262e9884726a57196c15",
        "Digest": "sha256:f93473c1400be470d6941d0063236f4aafb75dc088cf3b7d1a29f8e0052f3d9e",
        "RepoTags": ["127.0.0.1:5000/loop:t"], "RepoDigests":
        ["127.0.0.1:5000/loop@sha256:f93473c1400be470d6941d0063236f4aafb75dc088cf3b7d1a29f8e0052f3d9e"],
        "Config": {"Cmd": ["/bin/sh"], "ExposedPorts": {"80/tcp": {}}, "StopSignal": "SIGINT"}, "Size": 1987713,
        "Labels": null, "ManifestType": "application/vnd.oci.image.manifest.v1+json"}]"#;

    fn image(text: &str) -> Result<Image> {
        serde_json::from_str::<Vec<Inspected>>(text).unwrap().remove(0).image("x")
    }

    #[test]
    fn what_podman_says_of_an_image() {
        let told = image(ANSWER).unwrap();
        assert_eq!((told.stop_signal.as_str(), told.ports.as_slice()), ("SIGINT", &["80/tcp".to_string()][..]));
        assert!(told.is_known_as("127.0.0.1:5000/loop", &told.digest));
        assert!(!told.is_known_as("127.0.0.1:5000/loop", &told.id) && !told.is_known_as("x/loop", &told.digest));
        assert_eq!(told.pin(), Pin { tagged: told.digest, manifest: told.digest, build: told.id.hex() });
        let bare = image(&format!(r#"[{{"Id": "{}", "RepoTags": null, "Config": null}}]"#, told.id.hex())).unwrap();
        assert_eq!((bare.digest, bare.stop_signal.as_str(), bare.names.len()), (told.id, "SIGTERM", 0));
        assert!(image(r#"[{"Id": "../x"}]"#).unwrap_err().to_string().contains("not what we know"));
    }

    #[test]
    fn what_went_wrong() {
        for (told, code, words) in [
            (
                r#"time="x" level=warning msg="Failed, retrying in 1s ... (1/3). Error: a"; Error: initializing source docker://h:1/n:1: pinging container registry h:1: Get "http://h:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused"#,
                111,
                "h/x: podman can't pull it: initializing source docker://h:1/n:1: pinging container registry h:1",
            ),
            ("Error: reading manifest 1 in h/nope: manifest unknown: manifest unknown", 100, "manifest unknown"),
            ("Error: writing blob: write /x: no space left on device", 111, "no space left"),
        ] {
            let e = in_words("h/x", Error::refused("h/x", format!("podman exited with 125: {told}")));
            assert_eq!(e.exit_code(), code, "{e}");
            assert!(e.to_string().contains(words) && !e.to_string().contains("retrying"), "{e}");
        }
        let e = in_words("h/x", Error::busy("h/x", "podman exited with 125: writing blob: No space left"));
        assert_eq!(
            (e.exit_code(), e.to_string().as_str()),
            (111, "h/x: podman can't pull it: writing blob: No space left")
        );
        let e = in_words("h/x", Error::busy("h/x", "podman does not answer in time; try again"));
        assert_eq!((e.exit_code(), e.to_string().as_str()), (111, "h/x: podman does not answer in time; try again"));
    }
}
