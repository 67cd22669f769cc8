//! A microvm's root: the layers, merged by a worker into one tar and packed by `tar2sqfs` as it comes. Nothing of it is
//! ever unpacked on the node.
//!
//! The kernel and the initramfs are the node's own and shared by all: they are no part of a build.

use super::{Changes, Image, key, share};
use crate::image::oci::RunConfig;
use crate::image::store::Store;
use crate::image::worker::{Merge, Packed};
use crate::model::built::{self, Built};
use crate::model::{Digest, Runtime};
use crate::sys::user::User;
use crate::sys::{Deadline, Error, Result, squashfs};
use serde::Serialize;
use std::path::Path;
use std::process::Stdio;

/// What begins a squashfs.
const MAGIC: &[u8] = b"hsqs";

/// All that makes the build.
#[derive(Debug)]
pub struct Plan<'a> {
    image: &'a Image,
    run: RunConfig,
    /// File name of the root: made of its layers alone, so that builds which differ in what they run share it.
    root: String,
}

/// What goes into the key.
#[derive(Serialize)]
struct Inputs<'a> {
    runtime: Runtime,
    manifest: &'a Digest,
    root: &'a str,
    run: &'a RunConfig,
    /// Once more, because earlier builds do not carry it: those of images that have one are made again.
    #[serde(skip_serializing_if = "str::is_empty")]
    stop_signal: &'a str,
}

impl<'a> Plan<'a> {
    /// Puts together what `image` and `changes` say. Errors: what can't be.
    pub fn new(image: &'a Image, changes: &Changes) -> Result<Plan<'a>> {
        let pulled = &image.pulled;
        if !changes.volumes.is_empty() {
            let reason = "a microvm gets its volumes when it starts: give --volume to mcp-run-vm";
            return Err(Error::refused(&pulled.reference, reason));
        }
        if !changes.secret.is_empty() {
            let reason = "a microvm gets its env_file when it starts, not in its build";
            return Err(Error::refused(&pulled.reference, reason));
        }
        let mut run = pulled.run.clone();
        if let Some(args) = &changes.args {
            run.cmd.clone_from(args);
        }
        for (name, value) in &changes.env {
            run.env.retain(|pair| pair.split_once('=').is_none_or(|(n, _)| n != name));
            run.env.push(format!("{name}={value}"));
        }
        let layers: Vec<Digest> = pulled.layers.iter().map(|layer| layer.diff_id).collect();
        let root = format!("root-{}.sqfs", key::of(&layers)?.chars().take(32).collect::<String>());
        Ok(Plan { image, run, root })
    }

    /// The key.
    pub fn key(&self) -> Result<String> {
        let manifest = &self.image.pulled.manifest;
        key::of(&Inputs {
            runtime: Runtime::Microvm,
            manifest,
            root: &self.root,
            run: &self.run,
            stop_signal: &self.run.stop_signal,
        })
    }

    /// Makes it in `out`, with worker and `tar2sqfs` running as `user`.
    pub fn make(&self, key: &str, store: &Store, out: &Path, user: &User, deadline: Deadline) -> Result<Built> {
        if !share(store, out, &self.root) {
            self.pack(store, &out.join(&self.root), user, deadline)?;
        }
        let (pulled, run) = (&self.image.pulled, self.run.clone());
        Ok(Built {
            schema: built::SCHEMA,
            key: key.to_string(),
            runtime: Runtime::Microvm,
            reference: pulled.reference.clone(),
            manifest: pulled.manifest,
            disk: self.root.clone(),
            kernel: None,
            entrypoint: run.entrypoint,
            cmd: run.cmd,
            env: run.env,
            workdir: run.workdir,
            user: run.user,
            stop_signal: run.stop_signal,
            volumes: Vec::new(),
            exposed: run.exposed,
        })
    }

    fn pack(&self, store: &Store, to: &Path, user: &User, deadline: Deadline) -> Result<()> {
        let pulled = &self.image.pulled;
        let mut layers = Vec::new();
        for layer in &pulled.layers {
            let gone =
                || Error::refused(&pulled.reference, format!("layer {} is not in the store; run mcp-pull", layer.blob));
            let (index, _) = store.layer(layer)?.ok_or_else(gone)?;
            let blob = store.blob(&layer.blob, layer.size)?.ok_or_else(gone)?;
            layers.push(Packed { index, blob, packing: layer.packing });
        }
        let root = squashfs::create(to)?;
        let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(Error::os("make", "pipe"))?;
        let mut packer = squashfs::start(Stdio::from(reader), &root, user.other())?;
        let merge = Merge::start(user, &layers, Stdio::from(writer))?;
        drop(layers);
        // A tar that was cut off can look whole to its reader, and one whose reader has gone is no error of the writer's:
        // both have to be well.
        let merged = merge.finish(deadline);
        if let Err(e) = merged {
            // They were sound when they came.
            if matches!(e, Error::Refused { .. }) && store.doubt(&pulled.layers)? {
                let reason = "layers of it were damaged on the disk, and are removed; mcp-pull brings them again";
                return Err(Error::busy(&pulled.reference, reason));
            }
            return Err(e);
        }
        packer.succeed(&pulled.reference, to, deadline)?;
        if !matches!(merged, Ok(true)) {
            return Err(Error::busy(&pulled.reference, "tar2sqfs did not take all of it"));
        }
        let ours = (Some(nix::unistd::geteuid()), Some(nix::unistd::getegid()));
        if user.other().is_some() {
            nix::unistd::fchown(&root, ours.0, ours.1).map_err(Error::path("change owner of", to))?;
        }
        use std::os::unix::fs::FileExt;
        let mut head = [0; MAGIC.len()];
        if root.read_exact_at(&mut head, 0).is_err() || head != *MAGIC {
            return Err(Error::refused(&pulled.reference, "tar2sqfs said that all is well, but made no squashfs"));
        }
        Ok(())
    }
}
