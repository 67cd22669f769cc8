//! Names that keep what records pin: `podman image prune` takes away what has no name.

use crate::container::image;
use crate::container::podman::{Podman, QUESTION};
use crate::model::{ComponentId, Digest, Pin};
use crate::sys::paths::Paths;
use crate::sys::{Deadline, Result};
use serde::Deserialize;

/// Gives the image of `pin` a name of the component's, so that nothing but a removal by name or id takes it away.
pub fn keep(paths: &Paths, podman: &Podman, id: &ComponentId, pin: &Pin) -> Result<()> {
    image::tag(podman, &pin.build, &name(paths, id, pin))
}

/// Takes such names of the component from images that none of `needed` is. The images stay: what becomes of those that
/// have no other name is podman's and its operator's affair.
pub fn release(paths: &Paths, podman: &Podman, id: &ComponentId, needed: &[&Pin]) -> Result<()> {
    let prefix = format!("{}:", repository(paths, id));
    let wanted: Vec<String> = needed.iter().map(|pin| name(paths, id, pin)).collect();
    let filter = format!("reference={prefix}*");
    let args = ["images", "--all", "--format", "json", "--filter", &filter];
    let listed: Vec<Listed> = podman.ask_json(&id.to_string(), args, Deadline::after(QUESTION))?;
    // One with several names is listed once for each.
    let names = listed.into_iter().flat_map(|one| {
        let id = one.id;
        one.names.unwrap_or_default().into_iter().map(move |name| (name, id.clone()))
    });
    let mut going: Vec<_> = names.filter(|(name, _)| name.starts_with(&prefix) && !wanted.contains(name)).collect();
    going.sort();
    going.dedup();
    for (name, image) in going {
        image::untag(podman, &image, &name)?;
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    #[serde(default)]
    names: Option<Vec<String>>,
}

/// Of one node's usual places the plain name; any other root has one of its own, as podman's storage is one for all.
fn repository(paths: &Paths, id: &ComponentId) -> String {
    let lib = paths.lib.display().to_string();
    match lib.as_str() {
        "/var/lib/mcp" => format!("localhost/mcp/{id}"),
        _ => format!("localhost/mcp-{}/{id}", Digest::of(lib.as_bytes()).hex().get(..8).unwrap_or_default()),
    }
}

fn name(paths: &Paths, id: &ComponentId, pin: &Pin) -> String {
    format!("{}:{}", repository(paths, id), super::short(&pin.build))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn names_are_podmans_and_of_one_root() {
        let id = ComponentId { service: "shop".into(), component: "a--b".into() };
        let digest = Digest::of(b"x");
        let pin = Pin { tagged: digest, manifest: digest, build: digest.hex() };
        let mut paths = Paths::under(Path::new("/tmp/r"));
        let of_root = name(&paths, &id, &pin);
        assert!(of_root.starts_with("localhost/mcp-") && of_root.ends_with("/shop/a--b:2d711642b726"), "{of_root}");
        paths.lib = "/var/lib/mcp".into();
        assert_eq!(name(&paths, &id, &pin), "localhost/mcp/shop/a--b:2d711642b726");
    }
}
