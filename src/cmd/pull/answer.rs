//! The answer: a line an image on standard output, or one JSON object; for people what was fetched, on standard error.

use super::progress::bytes;
use super::wanted::Wanted;
use crate::image::pull::{Done, Plan, Reading};
use crate::model::{Digest, Runtime};
use crate::sys::{Error, out};
use serde::Serialize;
use std::path::Path;

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
        let Outcome::Done(done) = &self.outcome else { return };
        let say = |what: &str| {
            super::super::report(super::super::program(), &Error::no(&self.wanted.reference, what));
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
            bytes_fetched: self.reading.fetched,
            layers_fetched: self.reading.layers_fetched,
            bytes: self.reading.total,
            layers: self.reading.layers,
            at_least: false,
            warnings: &[],
        };
        match &self.outcome {
            Outcome::Done(done) => {
                (image.tagged, image.manifest) = (done.pulled.tagged, done.pulled.manifest);
                image.key = Some(&done.pulled.key);
                image.path = Some(&done.path);
                image.new = Some(done.new);
                image.warnings = done.pulled.program.as_ref().map_or(&[], |p| &p.warnings);
            }
            Outcome::Plan(plan) => {
                (image.tagged, image.manifest) = (plan.tagged, plan.manifest);
                (image.bytes_fetched, image.layers_fetched) = (plan.fetch, plan.fetch_layers as u64);
                (image.bytes, image.layers) = (plan.total, plan.layers as u64);
                image.at_least = plan.at_least;
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

/// One image; after a dry run there is no path, and the figures are what would be fetched.
#[derive(Serialize)]
struct Image<'a> {
    reference: String,
    component: Option<&'a str>,
    runtime: Runtime,
    tagged: Digest,
    manifest: Digest,
    key: Option<&'a str>,
    path: Option<&'a Path>,
    new: Option<bool>,
    bytes_fetched: u64,
    layers_fetched: u64,
    bytes: u64,
    layers: u64,
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
