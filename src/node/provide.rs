//! What a recorded version runs: a build in the store or an image of podman's, there, or else brought back by its digest.

use super::container_image;
use crate::container::podman::Podman;
use crate::image::build::{self, Changes, Image};
use crate::image::pull::{Meter, Pull, Request};
use crate::model::{ComponentId, Node, Pin, Record, Reference, Runtime, Source, Version, built};
use crate::sys::paths::Paths;
use crate::sys::{Deadline, Error, Result};
use std::time::Duration;

/// How long bringing one back may take.
const TIMEOUT: Duration = Duration::from_secs(3600);

/// Whether all that `version` needs of the store, or of podman's, is there.
pub fn is_there(paths: &Paths, node: &Node, version: &Version) -> Result<bool> {
    let Some(pin) = &version.pin else { return Ok(true) };
    match version.spec.runtime {
        Runtime::Container => container_image::is_there(&Podman::find(node)?, pin),
        _ => Ok(paths.store().build(&pin.build).join(built::FILE).is_file()),
    }
}

/// `version` with what it runs there. What has gone is pulled by its digest and built again, which is said; only then
/// the network is asked.
pub fn ensure(paths: &Paths, node: &Node, id: &ComponentId, version: Version) -> Result<Version> {
    let (Source::Image { reference }, Some(pin)) = (&version.spec.source, &version.pin) else { return Ok(version) };
    if is_there(paths, node, &version)? {
        return Ok(version);
    }
    let parsed = Reference::parse(reference).map_err(|e| Error::refused(id, e))?;
    let deadline = Deadline::after(TIMEOUT);
    if version.spec.runtime == Runtime::Container {
        log::warn!("{id}: its image is not in podman's storage any more; pulled again as {}", pin.manifest);
        container_image::bring_back(paths, node, &Podman::find(node)?, id, &parsed, pin, deadline)?;
        return Ok(version);
    }
    log::warn!("{id}: its image is not in the store any more; pulled again as {}", pin.manifest);
    let by_digest = match parsed {
        Reference::Registry(named) => {
            Reference::Registry(crate::model::reference::Named { tag: None, digest: Some(pin.manifest), ..named })
        }
        // There is no way to ask these for a digest: what they hold now is compared.
        other => other,
    };
    let spec = &version.spec;
    let request = Request::of(spec);
    let meter = Meter::default();
    let pull = Pull { reference: &by_digest, request: &request, node, paths, meter: &meter, deadline };
    let done = pull.run()?;
    if done.pulled.manifest != pin.manifest {
        return Err(Error::refused(
            id,
            format!("{reference} holds another image than was deployed, {}; mcp deploy {id}", pin.manifest),
        ));
    }
    let image = Image { pulled: done.pulled, dir: done.path };
    let build = build::build(paths, node, &image, &Changes::of(spec)?, deadline)?.key;
    if build == pin.build {
        return Ok(version);
    }
    // Another ops or Nanos has come since: the record names what there is now.
    let renewed = Version { pin: Some(Pin { build, ..pin.clone() }), ..version.clone() };
    Record::update(paths, id, |old| {
        let mut record = old?;
        for slot in [&mut record.current, &mut record.candidate, &mut record.previous] {
            if slot.as_ref().is_some_and(|v| v.runs_as(&version)) {
                *slot = Some(renewed.clone());
            }
        }
        Some(record)
    })?;
    Ok(renewed)
}

/// What a deploy of `component` as its definition says would run: its image as it was last pulled and built. Errors: not
/// pulled, not built.
pub fn version_of(paths: &Paths, node: &Node, id: &ComponentId, spec: crate::model::Component) -> Result<Version> {
    let at = crate::sys::time::now();
    let Source::Image { reference } = &spec.source else { return Ok(Version { spec, pin: None, at }) };
    if spec.runtime == Runtime::Container {
        let parsed = Reference::parse(reference).map_err(|e| Error::refused(id, e))?;
        let pin = container_image::last(paths, &Podman::find(node)?, &parsed)?;
        let missing = || Error::refused(id, format!("its image is not on this node; mcp-pull {id}"));
        return Ok(Version { pin: Some(pin.ok_or_else(missing)?), spec, at });
    }
    let Some(image) = build::pulled(paths, &spec)? else {
        return Err(Error::refused(id, format!("its image is not on this node; mcp-pull {id}")));
    };
    let Some(done) = build::find(paths, node, &image, &Changes::of(&spec)?)? else {
        return Err(Error::refused(id, format!("its image is not built; mcp-build {id}")));
    };
    let pin = Pin { tagged: image.pulled.tagged, manifest: image.pulled.manifest, build: done.key };
    Ok(Version { spec, pin: Some(pin), at })
}
