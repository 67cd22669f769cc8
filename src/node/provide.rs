//! The build that a recorded version runs: there, or else brought back by the image's digest.

use crate::image::build::{self, Changes, Image};
use crate::image::pull::{Meter, Pull, Request};
use crate::model::{ComponentId, Node, Pin, Record, Reference, Source, Version, built};
use crate::sys::paths::Paths;
use crate::sys::{Deadline, Error, Result};
use std::time::Duration;

/// How long bringing one back may take.
const TIMEOUT: Duration = Duration::from_secs(3600);

/// Whether all that `version` needs of the store is there.
pub fn is_there(paths: &Paths, version: &Version) -> bool {
    let pinned = |pin: &Pin| paths.store().build(&pin.build).join(built::FILE).is_file();
    version.pin.as_ref().is_none_or(pinned)
}

/// `version` with its build there. One that has gone from the store is pulled by its digest and built again, which is
/// said; only then the network is asked.
pub fn ensure(paths: &Paths, node: &Node, id: &ComponentId, version: Version) -> Result<Version> {
    let (Source::Image { reference }, Some(pin)) = (&version.spec.source, &version.pin) else { return Ok(version) };
    if is_there(paths, &version) {
        return Ok(version);
    }
    log::warn!("{id}: its image is not in the store any more; pulled again as {}", pin.manifest);
    let parsed = Reference::parse(reference).map_err(|e| Error::refused(id, e))?;
    let by_digest = match parsed {
        Reference::Registry(named) => {
            Reference::Registry(crate::model::reference::Named { tag: None, digest: Some(pin.manifest), ..named })
        }
        // There is no way to ask these for a digest: what they hold now is compared.
        other => other,
    };
    let spec = &version.spec;
    let request = Request { runtime: spec.runtime, args: spec.args.clone(), include: spec.include.clone() };
    let (meter, deadline) = (Meter::default(), Deadline::after(TIMEOUT));
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
    if !matches!(spec.source, Source::Image { .. }) {
        return Ok(Version { spec, pin: None, at });
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
