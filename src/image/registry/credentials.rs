//! Users and passwords, where podman and docker keep them: auth.json and config.json (containers-auth.json(5)), and
//! the credential helpers that those name.

use super::helper;
use crate::model::reference::Named;
use crate::sys::{Deadline, Error, Result, file};
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// No auth file comes near this many bytes.
const FILE_MAX: u64 = 1 << 20;

/// Padding or not, as `auth` of different programs has it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Where a secret is from, and it. Never shown.
pub(super) struct Credentials {
    /// The file or the helper, for messages.
    pub from: String,
    pub secret: Secret,
}

/// What opens a registry.
#[derive(PartialEq, Eq)]
pub(super) enum Secret {
    Password {
        user: String,
        password: String,
    },
    /// To be changed for a token at the token server.
    Identity(String),
    /// A token of the registry itself.
    Registry(String),
}

/// Finds the credentials for `named`, in `explicit` alone where the node config names it. `None`: there are none.
pub(super) fn find(named: &Named, explicit: Option<&Path>, deadline: Deadline) -> Result<Option<Credentials>> {
    if let Some(path) = explicit {
        let text = file::read_regular(path, FILE_MAX)?
            .ok_or_else(|| Error::refused(path.display(), "no such file; mcp.toml names it as auth_file"))?;
        return look(path, &text, named, deadline);
    }
    for path in files(&|name| std::env::var_os(name), nix::unistd::geteuid().as_raw()) {
        // A home that we may not read has nothing for us.
        let Ok(Some(text)) = file::read_regular(&path, FILE_MAX) else { continue };
        if let Some(found) = look(&path, &text, named, deadline)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The files to look into, in order.
fn files(env: &dyn Fn(&str) -> Option<OsString>, uid: u32) -> Vec<PathBuf> {
    let dir = |name: &str| env(name).map(PathBuf::from).filter(|p| p.is_absolute());
    if let Some(file) = env("REGISTRY_AUTH_FILE").filter(|v| !v.is_empty()) {
        return vec![file.into()];
    }
    let home = dir("HOME");
    let mut all = Vec::new();
    all.extend(dir("XDG_RUNTIME_DIR").map(|d| d.join("containers/auth.json")));
    all.push(format!("/run/containers/{uid}/auth.json").into());
    let config = dir("XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|h| h.join(".config")));
    all.extend(config.map(|d| d.join("containers/auth.json")));
    let docker = dir("DOCKER_CONFIG").or_else(|| home.map(|h| h.join(".docker")));
    all.extend(docker.map(|d| d.join("config.json")));
    all
}

fn look(path: &Path, text: &[u8], named: &Named, deadline: Deadline) -> Result<Option<Credentials>> {
    let from = path.display().to_string();
    let damaged = || Error::refused(&from, "not an auth file of podman or docker: it must be a JSON object");
    if text.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    let all: Value = serde_json::from_slice(text).map_err(|_| damaged())?;
    let all = all.as_object().ok_or_else(damaged)?;
    let places = places(named);
    // A helper for this registry goes before what the file itself has, and one for all after it.
    let helpers = all.get("credHelpers").and_then(Value::as_object);
    let special = helpers.and_then(|h| h.iter().find(|(key, _)| normal(key) == named.host)).map(|(_, name)| name);
    if let Some(name) = special.and_then(Value::as_str) {
        return helper::get(name, &named.host, deadline);
    }
    if let Some(auths) = all.get("auths").and_then(Value::as_object) {
        for place in &places {
            let found = auths.iter().filter(|(key, _)| normal(key) == *place).find_map(|(_, v)| secret(v));
            if let Some(secret) = found {
                return Ok(Some(Credentials { from, secret }));
            }
        }
    }
    match all.get("credsStore").and_then(Value::as_str).filter(|s| !s.is_empty()) {
        // A desktop's config without the desktop: what needs no login can be had all the same.
        Some(name) if !helper::is_there(name) => {
            log::warn!("{from}: docker-credential-{} is not on PATH; going on without it", super::words::short(name));
            Ok(None)
        }
        Some(name) => helper::get(name, &named.host, deadline),
        None => Ok(None),
    }
}

/// `HOST/a/b`, `HOST/a`, `HOST`.
fn places(named: &Named) -> Vec<String> {
    let whole = format!("{}/{}", named.host, named.name);
    let ends = whole.match_indices('/').map(|(at, _)| at).chain([whole.len()]);
    let mut all: Vec<String> = ends.filter_map(|end| whole.get(..end)).map(str::to_string).collect();
    all.reverse();
    all
}

/// A key as this program writes it. Docker's are URLs, of which only the host counts.
fn normal(key: &str) -> String {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let key = match bare {
        Some(url) => url.split('/').next().unwrap_or_default(),
        None => key.trim_end_matches('/'),
    };
    let (host, path) = key.split_once('/').map_or((key, ""), |(host, path)| (host, path));
    let host = host.to_ascii_lowercase();
    match host.as_str() {
        "docker.io" | "index.docker.io" | super::DOCKER_SERVER if matches!(path, "" | "v1" | "v2") => {
            "docker.io".into()
        }
        _ if path.is_empty() => host,
        _ => format!("{host}/{path}"),
    }
}

/// An entry of `auths`; docker leaves an empty one where a helper has it.
fn secret(entry: &Value) -> Option<Secret> {
    let text = |key: &str| entry.get(key).and_then(Value::as_str).filter(|t| !t.is_empty());
    if let Some(token) = text("identitytoken") {
        return Some(Secret::Identity(token.into()));
    }
    if let Some(token) = text("registrytoken").filter(|t| t.bytes().all(|b| b.is_ascii_graphic())) {
        return Some(Secret::Registry(token.into()));
    }
    let decoded = text("auth").and_then(|a| BASE64.decode(a.trim()).ok()).and_then(|b| String::from_utf8(b).ok());
    let (user, password) = match &decoded {
        Some(pair) => pair.split_once(':')?,
        None => (text("username")?, text("password")?),
    };
    Some(Secret::Password { user: user.into(), password: password.trim_end_matches('\0').into() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::Reference;
    use std::time::Duration;

    fn named(text: &str) -> Named {
        let Reference::Registry(named) = Reference::parse(text).unwrap() else { panic!() };
        named
    }

    fn found(json: &str, reference: &str) -> String {
        let deadline = Deadline::after(Duration::from_secs(5));
        match look(Path::new("/auth.json"), json.as_bytes(), &named(reference), deadline) {
            Ok(Some(Credentials { secret: Secret::Password { user, password }, .. })) => format!("{user}:{password}"),
            Ok(Some(Credentials { secret: Secret::Identity(token), .. })) => format!("identity {token}"),
            Ok(Some(Credentials { secret: Secret::Registry(token), .. })) => format!("token {token}"),
            Ok(None) => String::new(),
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn the_most_specific_key_counts() {
        // user:one, user:two, user:three and user:d.
        let json = r#"{"auths":{"a.b:5000":{"auth":"dXNlcjpvbmU="},"a.b:5000/team":{"auth":"dXNlcjp0d28"},
            "https://A.b/v2/":{"username":"user","password":"three"},"https://index.docker.io/v1/":{"auth":"dXNlcjpk"},
            "id.x":{"identitytoken":"abc","auth":"PHRva2VuPjo="},"tok.x":{"registrytoken":"xyz"},"empty.x":{}}}"#;
        for (reference, told) in [
            ("a.b:5000/x", "user:one"),
            ("a.b:5000/team/x:1", "user:two"),
            ("a.b:5000/teams/x", "user:one"),
            ("a.b/x", "user:three"),
            ("docker.io/nginx", "user:d"),
            ("id.x/y", "identity abc"),
            ("tok.x/y", "token xyz"),
            ("empty.x/y", ""),
            ("a.b:5001/x", ""),
        ] {
            assert_eq!(found(json, reference), told, "{reference}");
        }
    }

    #[test]
    fn damaged_files_tell_no_secret() {
        for json in ["[]", "{\"auths\":", "\"c2VjcmV0\""] {
            let told = found(json, "a.b/x");
            assert!(told.contains("/auth.json: not an auth file") && !told.contains("c2Vj"), "{told}");
        }
        for json in ["", " \n", "{}", r#"{"auths":[]}"#, r#"{"auths":{"a.b":{"auth":"!"}}}"#, r#"{"auths":{"a.b":1}}"#]
        {
            assert_eq!(found(json, "a.b/x"), "", "{json}");
        }
        assert_eq!(found(r#"{"credsStore":"no-such-helper"}"#, "a.b/x"), "");
        let named = found(r#"{"credHelpers":{"a.b":"no-such-helper"}}"#, "a.b/x");
        assert!(named.contains("docker-credential-no-such-helper: not found"), "{named}");
        assert!(found(r#"{"credsStore":"../../bin/sh"}"#, "a.b/x").contains("no name of a credential helper"));
    }

    #[test]
    fn files_are_where_podman_and_docker_have_them() {
        let of = |env: &[(&str, &str)]| -> Vec<String> {
            let get = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, v)| OsString::from(v));
            files(&get, 0).iter().map(|p| p.display().to_string()).collect()
        };
        assert_eq!(of(&[("REGISTRY_AUTH_FILE", "x.json"), ("HOME", "/h")]), ["x.json"]);
        let run = "/run/containers/0/auth.json";
        assert_eq!(of(&[("HOME", "/h")]), [run, "/h/.config/containers/auth.json", "/h/.docker/config.json"]);
        assert_eq!(
            of(&[("XDG_RUNTIME_DIR", "/r"), ("DOCKER_CONFIG", "/d"), ("HOME", "")]),
            ["/r/containers/auth.json", run, "/d/config.json"]
        );
    }
}
