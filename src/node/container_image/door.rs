//! `[registry."HOST:PORT"]` in the words of podman's command line.

use crate::container::image::Door;
use crate::image::registry;
use crate::model::Node;
use crate::model::node::RegistryServer;
use crate::sys::paths::Paths;
use crate::sys::{Error, Result, file, turns};

/// No bundle of certificates comes near this many bytes.
const CA_MAX: u64 = 16 << 20;

/// What the node config says of a registry.
pub fn configured<'a>(node: &'a Node, host: &str) -> Option<&'a RegistryServer> {
    node.registries.iter().find(|(key, _)| key.eq_ignore_ascii_case(host)).map(|(_, server)| server)
}

/// How podman is to reach `host`, as our own client would: over plain HTTP on loopback, or where it is allowed.
pub fn of(paths: &Paths, node: &Node, host: &str) -> Result<Door> {
    let said = configured(node, host).cloned().unwrap_or_default();
    let files = [("ca", "ca.crt", said.ca), ("cert", "client.cert", said.cert), ("key", "client.key", said.key)];
    let has_files = files.iter().any(|(.., file)| file.is_some());
    let insecure = said.insecure || !has_files && registry::is_loopback(host);
    let mut door = Door { certificates: None, insecure, auth_file: said.auth_file };
    if !has_files {
        return Ok(door);
    }
    // podman takes a folder, in which nothing else may be.
    let dir = paths.containers_certificates(host);
    file::create_dirs(&dir)?;
    for (key, name, source) in files {
        let name = dir.join(name);
        let Some(source) = source else {
            file::remove_if_there(&name)?;
            continue;
        };
        let bytes = file::read_regular(&source, CA_MAX)?
            .ok_or_else(|| Error::refused(source.display(), format!("no such file; mcp.toml names it as {key}")))?;
        turns::update(&name, CA_MAX, |old| Ok((old.as_ref() != Some(&bytes)).then_some(bytes)))?;
    }
    door.certificates = Some(dir);
    Ok(door)
}
