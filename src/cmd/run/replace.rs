//! `mcp-run --replace`: asks the supervisors, and waits for their answers.

use crate::guest::replace::has_one_writer;
use crate::model::{Component, ComponentId, Record, Runtime, Target, Version};
use crate::node::{provide, resolve, start};
use crate::supervise::request;
use crate::sys::error::EXIT_OK;
use crate::sys::paths::Paths;
use crate::sys::{Deadline, Error, Result, out};
use std::time::Duration;

/// What a busy node may take besides the timeouts of both versions.
const SPARE: Duration = Duration::from_secs(60);

/// Replaces each, one after the other: a node that has memory for one more VM need not have it for several.
pub fn run(paths: &Paths, chosen: &[(ComponentId, Runtime)], dry_run: bool) -> Result<u8> {
    let mut worst = EXIT_OK;
    for (id, _) in chosen {
        let one = if dry_run { say_how(paths, id) } else { replace(paths, id) };
        let code = one.unwrap_or_else(|e| {
            crate::cmd::report(crate::cmd::program(), &e);
            e.exit_code()
        });
        worst = worst.max(code);
    }
    Ok(worst)
}

fn replace(paths: &Paths, id: &ComponentId) -> Result<u8> {
    let (now, next) = now_and_next(paths, id)?;
    // Here, where it is seen, and not by the supervisor, which has a container or a VM to watch.
    let next = provide::ensure(paths, &resolve::node(paths)?, id, next)?.spec;
    // Boot, drain, stop; and the same once more where the old version has to come back.
    let once = |c: &Component| c.start_timeout + c.settle + c.stop_timeout * 2;
    let deadline = Deadline::after((once(&next) + once(&now)) * 2 + SPARE);
    let files = paths.component(&id.service, &id.component);
    let answer = request::ask(id, &files, deadline)?;
    if answer.code == EXIT_OK {
        out::print(format_args!("{id} replaced\n"));
    } else {
        // The words are of a supervisor of ours, and of its guest.
        let text = answer.text.strip_prefix(&format!("{id}: ")).unwrap_or(&answer.text);
        crate::cmd::report(crate::cmd::program(), &Error::no(id, text));
    }
    Ok(answer.code)
}

fn say_how(paths: &Paths, id: &ComponentId) -> Result<u8> {
    let (now, Version { spec: next, .. }) = now_and_next(paths, id)?;
    let is_container = || (!next.is_vm()).then_some("it is a container");
    match has_one_writer(&now).or_else(|| has_one_writer(&next)).or_else(is_container) {
        Some(reason) => out::print(format_args!("{id} stopped and started: {reason}\n")),
        None => out::print(format_args!("{id} in place: the new VM boots beside the old one\n")),
    }
    Ok(EXIT_OK)
}

/// The specification that was deployed, and the version that a replace would start.
fn now_and_next(paths: &Paths, id: &ComponentId) -> Result<(Component, Version)> {
    let (_, found) = resolve::one(paths, &Target::parse(&id.to_string())?)?;
    let next = start::choose_next(paths, &found)?;
    let now = Record::read(paths, id)?.and_then(|r| r.current).map_or_else(|| next.spec.clone(), |v| v.spec);
    Ok((now, next))
}
