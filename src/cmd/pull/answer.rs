//! The answer: a line an image on standard output, or one JSON object; for people what was fetched, on standard error.

use super::progress::bytes;
use super::wanted::Wanted;
use crate::image::pull::{Done, Plan, Reading};
use crate::model::{Digest, Runtime};
use crate::node::container_image::{self, Pulled};
use crate::sys::{Error, out};
use serde::Serialize;

/// The version of the JSON object.
const SCHEMA: u32 = 1;

/// What became of one image.
pub(super) struct Answer<'a> {
    pub(super) wanted: &'a Wanted,
    pub(super) outcome: Outcome,
    pub(super) reading: Reading,
}

/// What was done, or would be.
pub(super) enum Outcome {
    Done(Box<Done>),
    Plan(Plan),
    Container(Pulled),
    ContainerPlan(Plan),
}

impl Answer<'_> {
    /// Its line on standard output.
    pub(super) fn print(&self) {
        let name = &self.wanted.reference;
        match &self.outcome {
            Outcome::Done(done) => {
                out::print(format_args!("{name} {} {}\n", done.pulled.manifest, done.path.display()));
            }
            Outcome::Plan(plan) => out::print(format_args!("{name} {} {}\n", plan.manifest, self.would(plan))),
            Outcome::Container(done) => {
                let place = container_image::place(&done.pin.build);
                out::print(format_args!("{name} {} {place}\n", done.pin.manifest));
            }
            Outcome::ContainerPlan(plan) if plan.there => {
                out::print(format_args!("{name} {} nothing new\n", plan.manifest));
            }
            // Which layers it has already, podman tells nobody.
            Outcome::ContainerPlan(plan) => {
                let (total, layers) = (bytes(plan.total), plan.layers);
                out::print(format_args!("{name} {} would fetch at most {total} ({layers} layers)\n", plan.manifest));
            }
        }
        // Who reads it can begin with it.
        out::flush();
    }

    /// What a dry run says.
    fn would(&self, plan: &Plan) -> String {
        if plan.there {
            return "nothing new".into();
        }
        let at_least = if plan.at_least { "at least " } else { "" };
        let (fetch, total) = (bytes(plan.fetch), bytes(plan.total));
        format!("would fetch {at_least}{fetch} of {total} ({} of {} layers)", plan.fetch_layers, plan.layers)
    }

    /// Its closing line on standard error, and what may not work.
    pub(super) fn tell(&self, quiet: bool) {
        let say = |what: &str| {
            super::super::report(super::super::program(), &Error::no(&self.wanted.reference, what));
        };
        let done = match &self.outcome {
            Outcome::Done(done) => done,
            Outcome::Container(_) if quiet => return,
            Outcome::Container(done) if done.local => return say("of this node alone: used as it is"),
            Outcome::Container(done) if !done.new => return say("nothing new"),
            Outcome::Container(_) => return say("pulled by podman"),
            Outcome::Plan(_) | Outcome::ContainerPlan(_) => return,
        };
        for warning in done.pulled.program.iter().flat_map(|p| &p.warnings) {
            say(&format!("warning: {warning}"));
        }
        if quiet {
            return;
        }
        let r = self.reading;
        match (done.new, r.fetched) {
            (false, 0) => say("nothing new"),
            _ => say(&format!(
                "fetched {} of {} ({} of {} layers)",
                bytes(r.fetched),
                bytes(r.total),
                r.layers_fetched,
                r.layers
            )),
        }
    }

    fn json(&self) -> Image<'_> {
        let wanted = self.wanted;
        let mut image = Image {
            reference: wanted.reference.to_string(),
            component: wanted.component.as_deref(),
            runtime: wanted.request.runtime,
            tagged: Digest::of(b""),
            manifest: Digest::of(b""),
            key: None,
            path: None,
            new: None,
            bytes_fetched: Some(self.reading.fetched),
            layers_fetched: Some(self.reading.layers_fetched),
            bytes: Some(self.reading.total),
            layers: Some(self.reading.layers),
            at_least: false,
            warnings: &[],
        };
        match &self.outcome {
            Outcome::Done(done) => {
                (image.tagged, image.manifest) = (done.pulled.tagged, done.pulled.manifest);
                image.key = Some(&done.pulled.key);
                image.path = Some(done.path.display().to_string());
                image.new = Some(done.new);
                image.warnings = done.pulled.program.as_ref().map_or(&[], |p| &p.warnings);
            }
            Outcome::Plan(plan) | Outcome::ContainerPlan(plan) => {
                (image.tagged, image.manifest) = (plan.tagged, plan.manifest);
                (image.bytes_fetched, image.layers_fetched) = (Some(plan.fetch), Some(plan.fetch_layers as u64));
                (image.bytes, image.layers) = (Some(plan.total), Some(plan.layers as u64));
                image.at_least = plan.at_least;
            }
            Outcome::Container(done) => {
                (image.tagged, image.manifest) = (done.pin.tagged, done.pin.manifest);
                image.key = Some(&done.pin.build);
                image.path = Some(container_image::place(&done.pin.build));
                image.new = Some(done.new);
                // What it found in its storage, podman tells nobody.
                (image.bytes_fetched, image.layers_fetched, image.bytes) = (None, None, None);
                image.layers = done.layers.map(|n| n as u64);
            }
        }
        image
    }
}

#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    images: Vec<Image<'a>>,
}

/// One image; after a dry run there is no path, and the figures are what would be fetched. What podman doesn't tell is null.
#[derive(Serialize)]
struct Image<'a> {
    reference: String,
    component: Option<&'a str>,
    runtime: Runtime,
    tagged: Digest,
    manifest: Digest,
    key: Option<&'a str>,
    path: Option<String>,
    new: Option<bool>,
    bytes_fetched: Option<u64>,
    layers_fetched: Option<u64>,
    bytes: Option<u64>,
    layers: Option<u64>,
    at_least: bool,
    warnings: &'a [String],
}

/// Prints all of them as one object.
pub(super) fn print_json(answers: &[Answer<'_>]) {
    let report = Report { schema: SCHEMA, images: answers.iter().map(Answer::json).collect() };
    match serde_json::to_string(&report) {
        Ok(text) => out::print(format_args!("{text}\n")),
        Err(e) => log::error!("print JSON: {e}"),
    }
}
