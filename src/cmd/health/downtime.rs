//! `mcp-health --downtime`: asks over and over, and tells the longest time without an answer.

use super::Job;
use super::answer::SCHEMA;
use crate::health::{Cancel, Downtime, downtime};
use crate::sys::error::EXIT_OK;
use crate::sys::signals::Signals;
use crate::sys::{Error, Result, out};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::json;
use std::os::fd::AsFd;

/// Each target has a thread: one that does not answer must not delay a question to another.
const TARGETS_MAX: usize = 1024;

/// What was seen of one; `None`: it has no check.
type Seen = Result<Option<Downtime>>;

/// Asks all side by side until standard input ends or we are told to end.
pub(super) fn run(jobs: Vec<Job>, as_json: bool) -> Result<u8> {
    if jobs.len() > TARGETS_MAX {
        return Err(Error::refused("--downtime", format!("at most {TARGETS_MAX} targets are asked at the same time")));
    }
    let signals = Signals::catch()?;
    let cancel = Cancel::new()?;
    let seen: Vec<(String, Seen)> = std::thread::scope(|scope| {
        let ask = |job: Job| {
            let cancel = &cancel;
            let mut subject = match job.subject {
                Ok(Some(subject)) => subject,
                Ok(None) => return (job.name, Ok(None)),
                Err(e) => return (job.name, Err(e)),
            };
            let hints = job.hints;
            let work = move || downtime(subject.as_mut(), hints.as_ref(), cancel);
            match std::thread::Builder::new().spawn_scoped(scope, work) {
                Ok(thread) => (job.name, Ok(Some(thread))),
                Err(e) => (job.name, Err(Error::os("start", "a thread")(e))),
            }
        };
        let threads: Vec<_> = jobs.into_iter().map(ask).collect();
        wait_for_end(&signals);
        cancel.set();
        let join = |name: String, thread: Result<Option<std::thread::ScopedJoinHandle<'_, Downtime>>>| {
            let seen = thread.and_then(|thread| match thread.map(|t| t.join()) {
                Some(Ok(seen)) => Ok(Some(seen)),
                Some(Err(_)) => Err(Error::busy(&name, "could not be asked")),
                None => Ok(None),
            });
            (name, seen)
        };
        threads.into_iter().map(|(name, thread)| join(name, thread)).collect()
    });
    if as_json {
        print_json(&seen);
    } else {
        print_lines(&seen);
    }
    for error in seen.iter().filter_map(|(_, seen)| seen.as_ref().err()) {
        crate::cmd::report(crate::cmd::program(), error);
    }
    Ok(seen.iter().filter_map(|(_, seen)| seen.as_ref().err().map(Error::exit_code)).max().unwrap_or(EXIT_OK))
}

/// Reads standard input to its end, a signal's coming, or an error.
fn wait_for_end(signals: &Signals) {
    let input = std::io::stdin();
    loop {
        let mut fds = [PollFd::new(input.as_fd(), PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(_) => return,
        }
        let [input_ready, signalled] = fds.map(|fd| fd.any().unwrap_or(true));
        if signalled {
            return;
        }
        if input_ready {
            match nix::unistd::read(&input, &mut [0; 4096]) {
                Ok(1..) | Err(Errno::EINTR | Errno::EAGAIN) => {}
                _ => return,
            }
        }
    }
}

fn print_lines(all: &[(String, Seen)]) {
    for (name, seen) in all {
        match seen {
            Ok(Some(Downtime { longest, asked, failed })) => out::print(format_args!(
                "{name} longest time without an answer: {} ms ({failed} of {asked} asked failed)\n",
                longest.as_millis()
            )),
            Ok(None) => out::print(format_args!("{name} no check\n")),
            Err(_) => {}
        }
    }
}

fn print_json(all: &[(String, Seen)]) {
    let list: Vec<_> = all
        .iter()
        .map(|(name, seen)| {
            let known = seen.as_ref().ok().and_then(Option::as_ref);
            json!({
                "target": name,
                "longest_ms": known.map(|d| d.longest.as_micros() as f64 / 1000.0),
                "asked": known.map(|d| d.asked),
                "failed": known.map(|d| d.failed),
                "message": seen.as_ref().err().map(Error::to_string),
            })
        })
        .collect();
    out::print(format_args!("{}\n", json!({ "schema": SCHEMA, "targets": list })));
}
