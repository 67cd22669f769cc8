//! Which image of podman's a reference means: pulled, found again without a network, brought back by its digest.
//!
//! What a tag names is asked of the registry by our own client, with its words and its mirrors; podman then pulls exactly
//! that manifest. So a pin is exact, and a registry that answers podman something else is of no consequence.

mod door;
mod keep;
mod note;

pub use keep::{keep, release};
pub use note::clean;

use crate::container::image::{self, Image};
use crate::container::podman::Podman;
use crate::image::pull::{Meter, Plan, Pull, Request};
use crate::image::registry::{Patience, Registry};
use crate::model::reference::Named;
use crate::model::{ComponentId, Node, Pin, Reference, Runtime};
use crate::sys::paths::Paths;
use crate::sys::{Deadline, Error, Result};
use note::Note;

/// What podman calls its own storage: the place of an image in an answer of ours.
pub const STORAGE: &str = "containers-storage";

/// What a pull came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// Exactly which image.
    pub pin: Pin,
    /// Whether it had to be fetched; false: podman had it.
    pub new: bool,
    /// Whether it is of this node alone, and nothing was asked.
    pub local: bool,
    /// Its layers, where they were looked at.
    pub layers: Option<usize>,
}

/// Where the image `build` of a pin is, for people and scripts.
pub fn place(build: &str) -> String {
    format!("{STORAGE}:{build}")
}

/// What a pull would do.
pub fn plan(paths: &Paths, node: &Node, podman: &Podman, reference: &Reference, deadline: Deadline) -> Result<Plan> {
    if let Some(named) = local(reference) {
        return find_local(podman, named).map(|image| nothing_to_do(&image));
    }
    let plan = match ask(paths, node, reference, deadline) {
        Ok(plan) => plan,
        Err(e) => return only_here(paths, podman, reference, e).map(|image| nothing_to_do(&image)),
    };
    let there = there(paths, podman, reference, &plan)?.is_some();
    let (fetch, fetch_layers) = if there { (0, 0) } else { (plan.total, plan.layers) };
    Ok(Plan { there, fetch, fetch_layers, ..plan })
}

/// Has podman pull what `reference` names now, unless it has that. What is of this node alone is used as it is.
pub fn pull(paths: &Paths, node: &Node, podman: &Podman, reference: &Reference, deadline: Deadline) -> Result<Pulled> {
    if let Some(named) = local(reference) {
        let pin = find_local(podman, named)?.pin();
        return Ok(Pulled { pin, new: false, local: true, layers: None });
    }
    let plan = match ask(paths, node, reference, deadline) {
        Ok(plan) => plan,
        Err(e) => {
            let pin = only_here(paths, podman, reference, e)?.pin();
            return Ok(Pulled { pin, new: false, local: true, layers: None });
        }
    };
    let layers = Some(plan.layers);
    if let Some(image) = there(paths, podman, reference, &plan)? {
        let pin = image.pin_of(plan.tagged, plan.manifest);
        name(podman, reference, &image)?;
        note::write(paths, &Note::new(reference, &pin))?;
        return Ok(Pulled { pin, new: false, local: false, layers });
    }
    let pin = fetch(paths, node, podman, reference, &plan, deadline)?;
    note::write(paths, &Note::new(reference, &pin))?;
    Ok(Pulled { pin, new: true, local: false, layers })
}

/// What `reference` was last pulled as, or means in podman's storage, where that is there; no network.
pub fn last(paths: &Paths, podman: &Podman, reference: &Reference) -> Result<Option<Pin>> {
    let note = note::read(paths, reference)?;
    let named = match reference {
        Reference::Registry(named) => image::inspect(podman, &full_name(named))?,
        _ => None,
    };
    Ok(match (note, named) {
        // Somebody has pulled or built another under that name since, with podman itself.
        (Some(note), Some(image)) if image.id.hex() != note.pin.build => Some(image.pin()),
        (Some(note), Some(_)) => Some(note.pin),
        (Some(note), None) => image::exists(podman, &note.pin.build)?.then_some(note.pin),
        (None, Some(image)) => Some(image.pin()),
        (None, None) => None,
    })
}

/// Whether podman has the image of `pin`.
pub fn is_there(podman: &Podman, pin: &Pin) -> Result<bool> {
    image::exists(podman, &pin.build)
}

/// Has podman pull the image of `pin`, a version of `id`, again by its digest, and keeps it. One that differs is an error.
pub fn bring_back(
    paths: &Paths,
    node: &Node,
    podman: &Podman,
    id: &ComponentId,
    reference: &Reference,
    pin: &Pin,
    deadline: Deadline,
) -> Result<()> {
    if local(reference).is_some() {
        let reason = format!(
            "its image {} is in podman's storage no more, and {reference} was of this node alone: build it again, then mcp \
             deploy {id}",
            short(&pin.build)
        );
        return Err(Error::refused(id, reason));
    }
    let same = |image: &Image| image.id.hex() == pin.build;
    let another = || {
        let reason = format!("{reference} holds another image than was deployed, {}; mcp deploy {id}", pin.manifest);
        Error::refused(id, reason)
    };
    if let Reference::Registry(named) = reference {
        let (image, known_as) = fetch_from(paths, node, podman, named, &pin.manifest, deadline)?;
        if !same(&image) {
            return Err(another());
        }
        keep(paths, podman, id, pin)?;
        drop_name(podman, &image, &known_as);
        return Ok(());
    }
    // There is no way to ask these for a digest: what they hold now is compared.
    let plan = ask(paths, node, reference, deadline)?;
    let brought = fetch(paths, node, podman, reference, &plan, deadline)?;
    if brought.build != pin.build {
        return Err(another());
    }
    keep(paths, podman, id, pin)
}

/// What a source says that `reference` names, and the manifest for this machine.
fn ask(paths: &Paths, node: &Node, reference: &Reference, deadline: Deadline) -> Result<Plan> {
    if *reference == Reference::Archive(None) {
        let reason = "for a container, podman load reads an archive from standard input; name the image that it loads";
        return Err(Error::refused(reference, reason));
    }
    let (request, meter) = (Request::new(Runtime::Container), Meter::default());
    Pull { reference, request: &request, node, paths, meter: &meter, deadline }.plan()
}

/// The image of `plan`, where podman has it.
fn there(paths: &Paths, podman: &Podman, reference: &Reference, plan: &Plan) -> Result<Option<Image>> {
    if let Some(note) = note::read(paths, reference)?
        && (note.pin.manifest == plan.manifest || note.pin.tagged == plan.tagged)
        && let Some(image) = image::inspect(podman, &note.pin.build)?
    {
        return Ok(Some(image));
    }
    match reference {
        Reference::Registry(named) => image::inspect(podman, &by_digest(&named.host, named, plan)),
        _ => Ok(None),
    }
}

/// Has podman fetch what `plan` says, and names it as the reference does.
fn fetch(
    paths: &Paths,
    node: &Node,
    podman: &Podman,
    reference: &Reference,
    plan: &Plan,
    deadline: Deadline,
) -> Result<Pin> {
    let Reference::Registry(named) = reference else {
        let object = reference.to_string();
        let image = match reference {
            Reference::Oci { dir, reference } => {
                image::pull_layout(podman, &object, dir, reference.as_deref(), deadline)?
            }
            _ => image::pull(podman, &object, &object, &image::Door::default(), deadline)?,
        };
        // podman makes a manifest of its own for an archive, which has none.
        return Ok(match reference {
            Reference::Oci { .. } => image.pin_of(plan.tagged, plan.manifest),
            _ => image.pin_of(plan.tagged, image.digest),
        });
    };
    let (image, known_as) = fetch_from(paths, node, podman, named, &plan.manifest, deadline)?;
    name(podman, reference, &image)?;
    if named.digest.is_none() {
        drop_name(podman, &image, &known_as);
    }
    Ok(image.pin_of(plan.tagged, plan.manifest))
}

/// Takes away the name by its digest, with which it would stay for ever: it goes with its tag, as one that was pulled by
/// that.
fn drop_name(podman: &Podman, image: &Image, known_as: &str) {
    if let Err(e) = image::untag(podman, &image.id.hex(), known_as) {
        log::info!("{e}");
    }
}

/// Has podman pull the manifest from the first place that gives it: mirrors, then the registry. The image, and the name
/// that it has by that.
fn fetch_from(
    paths: &Paths,
    node: &Node,
    podman: &Podman,
    named: &Named,
    manifest: &crate::model::Digest,
    deadline: Deadline,
) -> Result<(Image, String)> {
    let pull = |place: &str, deadline: Deadline| -> Result<(Image, String)> {
        let known_as = format!("{}@{manifest}", repository(place, named));
        let host = place.split('/').next().unwrap_or_default();
        let door = door::of(paths, node, host)?;
        let image = image::pull(podman, &named.to_string(), &format!("docker://{known_as}"), &door, deadline)?;
        Ok((image, known_as))
    };
    // podman waits for minutes where a mirror asks it to, without a word.
    for mirror in Registry::new(named, node, Patience::default()).good_mirrors(*manifest, deadline) {
        match pull(&mirror, Deadline::after(deadline.left() / 2)) {
            Err(e) => log::warn!("mirror {mirror}: {e}; asking elsewhere"),
            pulled => return pulled,
        }
    }
    pull(&named.host, deadline)
}

/// Gives the image the name that was asked for, as a pull by that name would.
fn name(podman: &Podman, reference: &Reference, image: &Image) -> Result<()> {
    let Reference::Registry(named) = reference else { return Ok(()) };
    if named.tag.is_none() || named.digest.is_some() || image.names.contains(&full_name(named)) {
        return Ok(());
    }
    image::tag(podman, &image.id.hex(), &full_name(named))
}

/// As podman knows it: with the tag, or else the digest.
fn full_name(named: &Named) -> String {
    match (&named.digest, &named.tag) {
        (Some(digest), _) => format!("{}@{digest}", repository(&named.host, named)),
        (None, tag) => format!("{}:{}", repository(&named.host, named), tag.as_deref().unwrap_or("latest")),
    }
}

fn by_digest(host: &str, named: &Named, plan: &Plan) -> String {
    format!("{}@{}", repository(host, named), plan.manifest)
}

fn repository(host: &str, named: &Named) -> String {
    format!("{host}/{}", named.name)
}

/// The reference, where it is podman's name for what is on this node alone.
fn local(reference: &Reference) -> Option<&Named> {
    match reference {
        Reference::Registry(named) if named.is_local() => Some(named),
        _ => None,
    }
}

fn find_local(podman: &Podman, named: &Named) -> Result<Image> {
    let name = full_name(named);
    image::inspect(podman, &name)?.ok_or_else(|| {
        let reason = "podman has no such image, and localhost is no registry: podman build or podman load makes one, or name \
                      the registry that has it";
        Error::refused(named, reason)
    })
}

/// The image of that name that was built here under a registry's name, and that the registry has not got. `error` is why
/// it could not be asked for: anything else than that there is none stays an error.
fn only_here(paths: &Paths, podman: &Podman, reference: &Reference, error: Error) -> Result<Image> {
    let is_nowhere = matches!(&error, Error::Refused { reason, .. } if reason.contains("has no such"));
    match reference {
        Reference::Registry(named) if is_nowhere && note::read(paths, reference)?.is_none() => {
            image::inspect(podman, &full_name(named))?.ok_or(error)
        }
        _ => Err(error),
    }
}

fn nothing_to_do(image: &Image) -> Plan {
    let (tagged, manifest) = (image.digest, image.digest);
    Plan { tagged, manifest, there: true, fetch: 0, fetch_layers: 0, at_least: false, total: 0, layers: 0 }
}

/// As much of an id as podman shows.
fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
