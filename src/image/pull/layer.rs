//! One layer: from its source into the store and, at the same time, through the worker that indexes it.

use super::meter::Meter;
use super::stream::{CHUNK, stream};
use crate::image::layer::index::Trailer;
use crate::image::oci::Layer;
use crate::image::source::Source;
use crate::image::store::{BlobTurn, BlobWriter, Store};
use crate::image::worker::Index;
use crate::model::Digest;
use crate::sys::user::User;
use crate::sys::{Deadline, Error, Result};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

/// What all layers of one pull share.
pub(super) struct Job<'a> {
    pub(super) store: &'a Store,
    /// Whom the workers run as.
    pub(super) user: &'a User,
    pub(super) meter: &'a Meter,
    pub(super) deadline: Deadline,
    /// Set when a layer has failed: the others stop.
    pub(super) stop: AtomicBool,
    /// Set with it when another try would be of no use.
    pub(super) gives_up: AtomicBool,
}

/// A layer whose blob and index are in the store.
pub(super) struct Fetched {
    pub(super) index: File,
    /// The unpacked layer, where it was asked for.
    pub(super) plain: Option<File>,
    pub(super) trailer: Trailer,
}

/// Why a try at a layer came to nothing.
enum Failed {
    /// What lay in the store, was left of an earlier pull or came from a mirror is damaged: another try fetches it.
    Damaged(Error),
    /// Another try is of no use.
    Final(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Failed {
        Failed::Final(error)
    }
}

impl Job<'_> {
    /// A layer failed of `error`: the others need not go on.
    pub(super) fn fail(&self, error: &Error) {
        self.gives_up.fetch_or(is_final(error) || is_full(error), Ordering::Relaxed);
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Brings `layer` into the store, or finds it there. `unpack`: its contents are wanted as well.
    pub(super) fn layer(&self, source: &mut dyn Source, layer: &Layer, unpack: bool) -> Result<Fetched> {
        if !unpack && let Some((index, trailer)) = self.store.layer(layer)? {
            return Ok(Fetched { index, plain: None, trailer });
        }
        let done = match self.try_layer(source, layer, unpack) {
            Err(Failed::Damaged(why)) => {
                log::warn!("{why}; fetching it again");
                self.try_layer(source, layer, unpack)
            }
            done => done,
        };
        done.map_err(|(Failed::Damaged(e) | Failed::Final(e))| about(&layer.blob, e))
    }

    fn try_layer(&self, source: &mut dyn Source, layer: &Layer, unpack: bool) -> std::result::Result<Fetched, Failed> {
        match self.store.blob_turn(&layer.blob, layer.size, self.deadline)? {
            BlobTurn::There(blob) => match self.index(layer, &blob, unpack) {
                Ok(fetched) => Ok(fetched),
                // The image is to blame, unless it is what we have of it.
                Err(e) if is_final(&e) && !self.store.is_sound(&layer.blob, layer.size)? => {
                    self.store.drop_blob(&layer.blob)?;
                    Err(Failed::Damaged(Error::refused(layer.blob, "damaged in the store")))
                }
                Err(e) => Err(Failed::Final(e)),
            },
            BlobTurn::Write(mut writer) => {
                let resumed = writer.resumed();
                match self.fetch(source, layer, &mut writer, unpack) {
                    Ok(fetched) => {
                        writer.publish()?;
                        Ok(fetched)
                    }
                    Err(e) if is_final(&e) => {
                        writer.discard();
                        let from_mirror = source.distrust();
                        Err(match resumed {
                            true => Failed::Damaged(Error::refused(layer.blob, "what was left of it is damaged")),
                            false if from_mirror => Failed::Damaged(e),
                            false => Failed::Final(e),
                        })
                    }
                    Err(e) => {
                        // What has come is a good beginning, but not where the room is needed, nor where nobody will
                        // want the rest.
                        if is_full(&e) || self.gives_up.load(Ordering::Relaxed) {
                            writer.discard();
                        }
                        Err(Failed::Final(e))
                    }
                }
            }
        }
    }

    /// Indexes a blob of the store.
    fn index(&self, layer: &Layer, blob: &File, unpack: bool) -> Result<Fetched> {
        let (out, plain) = self.outputs(layer, unpack)?;
        let trailer = Index::of_file(self.user, layer.packing, blob, &out, plain.as_ref())?.finish(self.deadline)?;
        self.indexed(layer, blob, out, plain, trailer, unpack)
    }

    /// Fetches what is missing of a blob, and indexes it as it comes.
    fn fetch(&self, source: &mut dyn Source, layer: &Layer, writer: &mut BlobWriter, unpack: bool) -> Result<Fetched> {
        let (out, plain) = self.outputs(layer, unpack)?;
        let mut worker = Index::start(self.user, layer.packing, &out, plain.as_ref())?;
        let blob = writer.reader()?;
        let mut buffer = vec![0; CHUNK];
        let mut at = 0;
        while at < writer.position() {
            let most = buffer.len().min(usize::try_from(writer.position() - at).unwrap_or(usize::MAX));
            let n = blob.read_at(buffer.get_mut(..most).unwrap_or_default(), at);
            let n = n.map_err(Error::os("read", layer.blob))?;
            if n == 0 {
                return Err(Error::busy(layer.blob, "what was left of it has become shorter"));
            }
            worker.feed(buffer.get(..n).unwrap_or_default(), self.deadline)?;
            at += n as u64;
        }
        drop(buffer);
        self.meter.layer(layer.size - at);
        stream(source, layer, at, self.deadline, &self.stop, &mut |bytes| {
            self.meter.came(bytes.len() as u64);
            writer.write(bytes)?;
            worker.feed(bytes, self.deadline)
        })?;
        if !writer.is_right() {
            return Err(Error::refused(layer.blob, "what came has another digest"));
        }
        // While the worker does the rest.
        writer.sync()?;
        let trailer = worker.finish(self.deadline)?;
        self.indexed(layer, &blob, out, plain, trailer, unpack)
    }

    /// Files without a name for what the worker writes. A layer that isn't packed is its own unpacked form: that its two
    /// digests are one says so, the media type may lie.
    fn outputs(&self, layer: &Layer, unpack: bool) -> Result<(File, Option<File>)> {
        let plain = unpack && layer.blob != layer.diff_id;
        Ok((self.store.nameless()?, plain.then(|| self.store.nameless()).transpose()?))
    }

    fn indexed(
        &self,
        layer: &Layer,
        blob: &File,
        out: File,
        plain: Option<File>,
        trailer: Trailer,
        unpack: bool,
    ) -> Result<Fetched> {
        if trailer.diff_id != layer.diff_id {
            let reason = format!("unpacked it is {}, and the image's config says {}", trailer.diff_id, layer.diff_id);
            return Err(Error::refused(layer.blob, reason));
        }
        self.store.keep_index(&layer.blob, &out)?;
        let plain = match (unpack, plain) {
            (true, None) => Some(blob.try_clone().map_err(Error::os("duplicate", layer.blob))?),
            (_, plain) => plain,
        };
        Ok(Fetched { index: out, plain, trailer })
    }
}

/// Whether the contents are to blame, not the way they came.
fn is_final(error: &Error) -> bool {
    matches!(error, Error::Refused { .. })
}

/// Whether a disk is full. A worker can tell that in words alone.
fn is_full(error: &Error) -> bool {
    match error {
        Error::Os { source, .. } => matches!(source.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT)),
        Error::Busy { reason, .. } => [libc::ENOSPC, libc::EDQUOT].iter().any(|number| {
            let words = std::io::Error::from_raw_os_error(*number);
            reason.contains(&crate::sys::error::os_reason(&words))
        }),
        _ => false,
    }
}

/// The error with the layer's digest in it: a worker doesn't know which one it reads.
fn about(layer: &Digest, error: Error) -> Error {
    let named = |object: String| match object.as_str() {
        "layer" | "worker" => layer.to_string(),
        text if text.starts_with("sha256:") || text.starts_with('/') => object,
        _ => format!("{layer}: {object}"),
    };
    match error {
        other @ Error::Os { .. } => other,
        error => error.map_object(named),
    }
}
