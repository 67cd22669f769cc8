//! From a component's specification to all that its start needs, checked before anything is started.

use super::argv::{self, Plan};
use super::podman::{Podman, QUESTION};
use super::{image, listing};
use crate::model::{ComponentId, env_file};
use crate::supervise::{Context, reserve};
use crate::sys::{Deadline, Error, Result};
use std::path::Path;

/// The longest line that podman reads of an `--env-file`, in bytes.
const ENV_LINE_MAX: usize = 65_535;

/// Everything that is worked out before a start.
#[derive(Debug)]
pub struct Prepared {
    /// What starts it.
    pub podman: Podman,
    /// Its version.
    pub version: String,
    /// What podman is given.
    pub argv: Vec<String>,
    /// The container's name.
    pub name: String,
    /// Digest of its image, in hex.
    pub image: String,
    /// The lines of its `env_file`, secret.
    pub secrets: Option<String>,
}

/// Works out a start and checks what it needs; starts nothing.
pub fn prepare(context: &Context<'_>) -> Result<Prepared> {
    let (id, component) = (context.id, context.component);
    let podman = Podman::find(context.node)?;
    let version = podman.version(Deadline::after(QUESTION))?;
    let prepared = plan(context, podman, version)?;
    if !argv::is_on_host(component) {
        // Held no longer than this: podman binds them itself.
        drop(reserve::all(context.paths, id, &component.ports, &[])?);
    }
    check_folders(context)?;
    Ok(prepared)
}

/// Whether [`prepare`] would come to its end but for what passes: ports that others have. Nothing is taken or started, and
/// the image is taken to be there.
pub fn check(context: &Context<'_>) -> Result<()> {
    plan(context, Podman::find(context.node)?, String::new())?;
    check_folders(context)
}

fn check_folders(context: &Context<'_>) -> Result<()> {
    let mut folders = context.component.volumes.iter().filter(|v| v.name.starts_with('/'));
    match folders.find(|folder| !Path::new(&folder.name).exists()) {
        Some(gone) => {
            Err(Error::refused(context.id, format!("volume {}: no such file or directory on this node", gone.name)))
        }
        None => Ok(()),
    }
}

/// The argument vector as a start would have it, with nothing checked that may pass.
pub fn dry_run(context: &Context<'_>) -> Result<Vec<String>> {
    let podman = Podman::find(context.node)?;
    let program = podman.program().display().to_string();
    let prepared = plan(context, podman, String::new())?;
    Ok(std::iter::once(program).chain(prepared.argv).collect())
}

fn plan(context: &Context<'_>, podman: Podman, version: String) -> Result<Prepared> {
    let (id, component) = (context.id, context.component);
    let image = image_of(context)?;
    let secrets = component.env_file.as_deref().map(|path| secrets(id, path)).transpose()?;
    let names: Vec<String> = secrets.iter().flatten().map(|(name, _)| name.clone()).collect();
    // Podman takes the image's own arguments where none are given, unless the entry point is named.
    let bare = match component.args.as_deref() {
        Some([]) if component.entrypoint.is_none() => Some(entrypoint(id, &podman, &image)?),
        _ => None,
    };
    let plan = Plan { image: &image, entrypoint: bare.as_deref(), secret_names: &names };
    let argv = argv::argv(context, &plan);
    if let Some(control) = argv.iter().find(|arg| arg.contains('\0')) {
        return Err(Error::refused(id, format!("{:?} has a NUL byte", control.replace('\0', "\u{fffd}"))));
    }
    let name = argv::name(context.paths, id);
    let text = secrets.map(|pairs| pairs.into_iter().map(|(name, value)| format!("{name}={value}\n")).collect());
    Ok(Prepared { podman, version, argv, name, image, secrets: text })
}

/// The image that was deployed.
fn image_of(context: &Context<'_>) -> Result<String> {
    let id = context.id;
    let pin = context.pin.ok_or_else(|| Error::refused(id, format!("never deployed: mcp deploy {id}")))?;
    Ok(pin.build.clone())
}

fn secrets(id: &ComponentId, path: &Path) -> Result<Vec<(String, String)>> {
    let pairs = env_file::read(path)?;
    match pairs.iter().find(|(name, value)| name.len() + 1 + value.len() > ENV_LINE_MAX) {
        Some((name, _)) => Err(Error::refused(
            id,
            format!("env_file {}: {name} has more than the {ENV_LINE_MAX} bytes that podman takes", path.display()),
        )),
        None => Ok(pairs),
    }
}

fn entrypoint(id: &ComponentId, podman: &Podman, image: &str) -> Result<Vec<String>> {
    let about = image::inspect(podman, image)?.ok_or_else(|| image_gone(id, image))?;
    match about.entrypoint.is_empty() {
        true => Err(Error::refused(id, "args = [] leaves nothing to run: its image has no entry point")),
        false => Ok(about.entrypoint),
    }
}

/// The error for an image that podman has no more.
pub fn image_gone(id: &ComponentId, image: &str) -> Error {
    let short = image.get(..12).unwrap_or(image);
    Error::refused(id, format!("its image {short} is not among podman's on this node; mcp deploy {id}"))
}

/// The error for a name that a container has which is not ours.
pub fn name_taken(id: &ComponentId, name: &str) -> Error {
    Error::refused(
        id,
        format!(
            "a container named {name} is there that has no label {} of this mcp; podman rename it, or podman rm it",
            listing::COMPONENT
        ),
    )
}
