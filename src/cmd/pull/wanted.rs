//! From what an operator types to images: references as they stand, services and components by their definitions.

use crate::image::pull::Request;
use crate::model::{Node, Reference, Runtime, Source, Target, reference};
use crate::node::resolve;
use crate::sys::paths::Paths;
use crate::sys::{Error, Result};

/// One image to pull.
pub(super) struct Wanted {
    /// Which component it is for, where it is for one.
    pub(super) component: Option<String>,
    pub(super) reference: Reference,
    pub(super) request: Request,
}

/// Whether `text` names an image, not a service or a component: those have neither dots nor colons in their names.
fn is_reference(text: &str) -> bool {
    text.contains([':', '@', '.']) || text.split_once('/').is_some_and(|(host, _)| reference::is_host(host))
}

/// All images that `targets` need. All that is wrong with them is reported.
pub(super) fn find(paths: &Paths, targets: &[String], runtime: Runtime) -> Result<(Node, Vec<Wanted>)> {
    let mut wanted = Vec::new();
    let mut wrong = Vec::new();
    let mut node = None;
    for text in targets {
        if is_reference(text) {
            match Reference::parse(text) {
                Ok(reference) => {
                    wanted.push(Wanted { component: None, reference, request: Request::new(runtime) });
                }
                Err(reason) => wrong.push(Error::Usage { what: reason }),
            }
            continue;
        }
        match Target::parse(text).and_then(|target| defined(paths, &target)) {
            Ok((found, images)) => {
                node.get_or_insert(found);
                wanted.extend(images);
            }
            Err(e) => wrong.push(e),
        }
    }
    if wanted.iter().filter(|w| matches!(w.reference, Reference::Archive(None))).count() > 1 {
        wrong.push(Error::Usage { what: "docker-archive:- can be read once".into() });
    }
    if let Some(last) = wrong.pop() {
        for error in &wrong {
            crate::cmd::report(crate::cmd::program(), error);
        }
        return Err(last);
    }
    let node = match node {
        Some(node) => node,
        None => resolve::node(paths)?,
    };
    Ok((node, wanted))
}

/// The images of a service or a component.
fn defined(paths: &Paths, target: &Target) -> Result<(Node, Vec<Wanted>)> {
    let (node, found) = resolve::components(paths, target)?;
    let mut wanted = Vec::new();
    for one in found {
        let component = one.component;
        let no_image = match &component.source {
            Source::Image { reference } => {
                let reference = Reference::parse(reference).map_err(|e| Error::refused(&one.id, e))?;
                let request = Request::of(&component);
                wanted.push(Wanted { component: Some(one.id.to_string()), reference, request });
                continue;
            }
            _ => "has no image to pull: it runs what is on this node",
        };
        if target.component.is_some() {
            return Err(Error::refused(&one.id, no_image));
        }
        crate::cmd::report(crate::cmd::program(), &Error::no(&one.id, no_image));
    }
    Ok((node, wanted))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn images_and_components_are_told_apart() {
        for image in ["oci:out", "docker-archive:-", "a.b/c", "localhost/c", "a:5000/c", "x@sha256:0", "nginx:1"] {
            assert!(is_reference(image), "{image}");
        }
        for component in ["demo", "demo/api", "docker/nginx"] {
            assert!(!is_reference(component), "{component}");
        }
    }
}
