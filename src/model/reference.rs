//! Image references: `HOST[:PORT]/NAME[:TAG][@sha256:…]`, `oci:DIR[:REF]`, `docker-archive:FILE`.
//!
//! Only the syntax is checked here, after the distribution specification and distribution/reference.

use super::problem::quoted;
use std::path::Path;

/// The longest `HOST/NAME`, as registries have it.
const NAME_MAX: usize = 255;

/// Checks `text` and returns it with a relative DIR or FILE resolved against `base`. The error says what is wrong.
pub fn resolve(text: &str, base: &Path) -> Result<String, String> {
    for scheme in ["oci:", "docker-archive:"] {
        let Some(rest) = text.strip_prefix(scheme) else { continue };
        if rest.is_empty() || rest.chars().any(char::is_control) {
            return Err(format!("{} names no path after {scheme}", quoted(text)));
        }
        if rest == "-" {
            return Err(format!("{}: standard input is for the command line; name a file", quoted(text)));
        }
        let path: std::path::PathBuf = base.join(rest).components().collect();
        return match path.to_str() {
            Some(path) => Ok(format!("{scheme}{path}")),
            None => Err(format!("{}: the folder it is relative to is not UTF-8", quoted(text))),
        };
    }
    check(text).map_err(|reason| format!("{}: {reason}", quoted(text)))?;
    Ok(text.to_string())
}

fn check(text: &str) -> Result<(), String> {
    if text.contains("://") {
        return Err("an image reference has no scheme; leave out what stands before and with \"://\"".into());
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    if let Some(digest) = digest {
        let hex = digest.strip_prefix("sha256:").unwrap_or_default();
        if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Err("the digest after \"@\" is sha256: and 64 lower-case hex digits".into());
        }
    }
    let Some((host, path)) = rest.split_once('/') else {
        return Err("names no registry; write HOST[:PORT]/NAME[:TAG], like docker.io/library/nginx:1".into());
    };
    if !is_host(host) {
        // Podman's short names depend on a file of the node's; a definition should mean one thing everywhere.
        return Err(if host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)) {
            format!(
                "{} is not a registry's host name; write HOST[:PORT]/NAME[:TAG], like docker.io/{rest}",
                quoted(host)
            )
        } else {
            format!("{} is not a registry's HOST[:PORT]", quoted(host))
        });
    }
    let (name, tag) = match path.rsplit_once(':') {
        Some((name, tag)) => (name, Some(tag)),
        None => (path, None),
    };
    if let Some(tag) = tag {
        let first = tag.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !first || tag.len() > 128 || !tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)) {
            return Err(format!("tag {} is not 1 to 128 letters, digits, '_', '.', '-'", quoted(tag)));
        }
    }
    if name.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err("the name of an image is lower case".into());
    }
    if !name.split('/').all(is_part) || host.len() + name.len() > NAME_MAX {
        return Err(format!("{} is not an image's name", quoted(name)));
    }
    Ok(())
}

/// Whether `text` is `HOST[:PORT]` of a registry: a name with a dot, `localhost`, an address, or anything with a port.
pub fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|t| t.split_once(']')) {
        Some((v6, rest)) => {
            if v6.parse::<std::net::Ipv6Addr>().is_err() || !(rest.is_empty() || rest.starts_with(':')) {
                return false;
            }
            ("localhost", rest.strip_prefix(':'))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port_good = port.is_none_or(|p| p.bytes().all(|b| b.is_ascii_digit()) && p.parse::<u16>().is_ok_and(|n| n > 0));
    let label = |l: &str| {
        !l.is_empty()
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    port_good && host.split('.').all(label) && (port.is_some() || host.contains('.') || host == "localhost")
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_part(part: &str) -> bool {
    let mut run = "";
    let mut rest = part;
    loop {
        let at = rest.find(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit())).unwrap_or(rest.len());
        if at == 0 || !(run.is_empty() || matches!(run, "." | "_" | "__") || run.bytes().all(|b| b == b'-')) {
            return false;
        }
        rest = rest.get(at..).unwrap_or_default();
        if rest.is_empty() {
            return true;
        }
        let end = rest.find(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).unwrap_or(rest.len());
        (run, rest) = rest.split_at(end);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn good_references() {
        let digest = format!("docker.io/library/nginx@sha256:{}", "0a".repeat(32));
        for text in [
            "registry.example:5000/mcias:v1.2.0",
            "localhost/demo",
            "localhost:5000/a/b-c/d__e.f:latest",
            "127.0.0.1:5000/x",
            "[::1]:5000/x:1",
            digest.as_str(),
            "oci:/srv/out",
            "docker-archive:/srv/a.tar",
        ] {
            assert_eq!(resolve(text, Path::new("/etc")).as_deref(), Ok(text));
        }
        assert_eq!(resolve("oci:./out:v1", Path::new("/etc/x")).unwrap(), "oci:/etc/x/out:v1");
    }

    #[test]
    fn bad_references() {
        for (text, told) in [
            ("", "names no registry"),
            ("nginx", "names no registry"),
            ("nginx:1", "names no registry"),
            ("library/nginx", "like docker.io/library/nginx"),
            ("https://docker.io/library/nginx", "no scheme"),
            ("docker.io/library/Nginx", "lower case"),
            ("docker.io/", "is not an image's name"),
            ("docker.io/a//b", "is not an image's name"),
            ("docker.io/a_-b", "is not an image's name"),
            ("docker.io/-a", "is not an image's name"),
            ("docker.io/a-", "is not an image's name"),
            ("docker.io/a:", "tag \"\""),
            ("docker.io/a:x y", "tag \"x y\""),
            ("docker.io/a@sha256:12", "64 lower-case hex"),
            ("docker.io/a@md5:12", "64 lower-case hex"),
            ("host:99999/a", "HOST[:PORT]"),
            ("ho st.x/a", "HOST[:PORT]"),
            ("[::g]:1/a", "HOST[:PORT]"),
            ("oci:", "names no path"),
            ("docker-archive:-", "standard input"),
        ] {
            let error = resolve(text, Path::new("/etc")).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
