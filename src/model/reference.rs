//! Image references: `HOST[:PORT]/NAME[:TAG][@sha256:…]`, `oci:DIR[:REF]`, `docker-archive:FILE`.
//!
//! Only the syntax is checked here, after the distribution specification and distribution/reference.

use super::Digest;
use super::problem::quoted;
use std::fmt;
use std::path::{Path, PathBuf};

/// An image, as it is named on a command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// In a registry.
    Registry(Named),
    /// In an OCI directory.
    Oci {
        /// The directory.
        dir: PathBuf,
        /// Which of its images; `None`: the only one.
        reference: Option<String>,
    },
    /// In an archive as `podman save` and `docker save` make it; `None`: on standard input.
    Archive(Option<PathBuf>),
}

/// An image in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// `HOST[:PORT]`, in lower case.
    pub host: String,
    /// The repository.
    pub name: String,
    /// The tag; `None` only where there is a digest.
    pub tag: Option<String>,
    /// The digest that it must have.
    pub digest: Option<Digest>,
}

impl Reference {
    /// Reads what a command line says: relative paths are as they are, `docker://` is accepted and dropped, `latest` is
    /// the default tag. The error says what is wrong.
    pub fn parse(text: &str) -> Result<Reference, String> {
        if let Some(rest) = text.strip_prefix("oci:") {
            path_text(text, rest, "oci:")?;
            // As skopeo has it: a colon ends the directory.
            let (dir, reference) = match rest.split_once(':') {
                Some((dir, reference)) => (dir, Some(reference.to_string())),
                None => (rest, None),
            };
            if dir.is_empty() || reference.as_deref() == Some("") {
                return Err(format!("{}: write oci:DIR or oci:DIR:REF", quoted(text)));
            }
            return Ok(Reference::Oci { dir: dir.into(), reference });
        }
        if let Some(rest) = text.strip_prefix("docker-archive:") {
            path_text(text, rest, "docker-archive:")?;
            return Ok(Reference::Archive((rest != "-").then(|| rest.into())));
        }
        let bare = text.strip_prefix("docker://").unwrap_or(text);
        let named = check(bare).map_err(|reason| format!("{}: {reason}", quoted(text)))?;
        Ok(Reference::Registry(named))
    }
}

impl Named {
    /// Whether it is podman's name for an image of this node alone: `localhost/NAME`, without a port.
    pub fn is_local(&self) -> bool {
        self.host == "localhost"
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reference::Registry(named) => named.fmt(f),
            Reference::Oci { dir, reference: None } => write!(f, "oci:{}", dir.display()),
            Reference::Oci { dir, reference: Some(reference) } => write!(f, "oci:{}:{reference}", dir.display()),
            Reference::Archive(Some(file)) => write!(f, "docker-archive:{}", file.display()),
            Reference::Archive(None) => f.write_str("docker-archive:-"),
        }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.name)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// The longest `HOST/NAME`, as registries have it.
const NAME_MAX: usize = 255;

/// No reference with a name, a tag and a digest is longer.
const TEXT_MAX: usize = 512;

/// Checks `text` and returns it with a relative DIR or FILE resolved against `base`. The error says what is wrong.
pub fn resolve(text: &str, base: &Path) -> Result<String, String> {
    for scheme in ["oci:", "docker-archive:"] {
        let Some(rest) = text.strip_prefix(scheme) else { continue };
        path_text(text, rest, scheme)?;
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

fn path_text(text: &str, rest: &str, scheme: &str) -> Result<(), String> {
    if rest.is_empty() || rest.chars().any(char::is_control) {
        return Err(format!("{} names no path after {scheme}", quoted(text)));
    }
    Ok(())
}

fn check(text: &str) -> Result<Named, String> {
    if text.len() > TEXT_MAX || text.chars().any(char::is_control) {
        return Err("too long, or with control characters in it".into());
    }
    if text.contains("://") {
        return Err("an image reference has no scheme; leave out what stands before and with \"://\"".into());
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    let digest = match digest.map(Digest::parse) {
        Some(Ok(digest)) => Some(digest),
        Some(Err(_)) => return Err("the digest after \"@\" is sha256: and 64 lower-case hex digits".into()),
        None => None,
    };
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
    if !is_name(name) || host.len() + name.len() > NAME_MAX {
        return Err(format!("{} is not an image's name", quoted(name)));
    }
    let host = host.to_ascii_lowercase();
    // Its official images have a short name, which stands for the long one everywhere.
    let docker = matches!(host.as_str(), "docker.io" | "index.docker.io");
    let name = if docker && !name.contains('/') { format!("library/{name}") } else { name.to_string() };
    let host = if docker { "docker.io".into() } else { host };
    let tag = tag.map(str::to_string).or_else(|| digest.is_none().then(|| "latest".into()));
    Ok(Named { host, name, tag, digest })
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

/// Whether `text` is an image's name without host and tag, or the beginning of one.
pub fn is_name(text: &str) -> bool {
    text.split('/').all(is_part)
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
    fn what_a_command_line_says() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for (text, shown) in [
            ("docker://Registry.example:5000/a/b", "registry.example:5000/a/b:latest"),
            ("docker.io/nginx:1", "docker.io/library/nginx:1"),
            ("index.docker.io/me/x", "docker.io/me/x:latest"),
            (&format!("[::1]:5000/x@{digest}"), &format!("[::1]:5000/x@{digest}")),
            (&format!("localhost/x:1@{digest}"), &format!("localhost/x:1@{digest}")),
            ("oci:./out:registry.example/x:1", "oci:./out:registry.example/x:1"),
            ("oci:out", "oci:out"),
            ("docker-archive:-", "docker-archive:-"),
            ("docker-archive:a:b.tar", "docker-archive:a:b.tar"),
        ] {
            let parsed = Reference::parse(text).unwrap();
            assert_eq!(parsed.to_string(), shown);
            assert_eq!(Reference::parse(shown).unwrap(), parsed);
        }
        let Reference::Oci { dir, reference } = Reference::parse("oci:a/b:c:d").unwrap() else { panic!() };
        assert_eq!((dir, reference), (PathBuf::from("a/b"), Some("c:d".to_string())));
        for bad in ["oci:", "oci::x", "oci:a:", "docker-archive:", "docker-archive:a\nb", "docker://", "https://a.b/c"]
        {
            assert!(Reference::parse(bad).is_err(), "{bad}");
        }
    }

    /// What fuzz/fuzz_targets/reference.rs does: anything is refused in one line, or is what it is shown as.
    #[test]
    fn any_text_is_a_reference_or_not() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        let parts = [
            "oci:",
            "docker-archive:",
            "docker://",
            "a",
            ".b",
            ":",
            "/",
            "@",
            &digest,
            "-",
            "_",
            "[::1]",
            "\n",
            "é",
            "5",
        ];
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..20_000 {
            let mut text = String::new();
            for _ in 0..=state % 9 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                text.push_str(parts[usize::try_from(state >> 20).unwrap() % parts.len()]);
            }
            match Reference::parse(&text) {
                Ok(parsed) => assert_eq!(Reference::parse(&parsed.to_string()), Ok(parsed), "{text}"),
                Err(told) => assert!(!told.contains('\n'), "{told:?}"),
            }
        }
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
