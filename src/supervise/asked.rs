//! One instance's health, asked for by somebody else, and how long it may take to become ready.

use super::Context;
use super::report::{self, Health, Reporter, Reports, Watcher};
use crate::model::{Component, duration};
use crate::sys::{Deadline, Error, Result};
use std::os::fd::BorrowedFd;
use std::time::Instant;

/// Whoever asks for an instance's health, and what was told.
pub struct Asked {
    /// By when it must be ready; `None`: it is, or nobody asks.
    pub start_deadline: Option<Deadline>,
    watcher: Option<Box<dyn Watcher>>,
    reports: Reports,
    /// Why it is not healthy yet, and since when that is so.
    not_yet: Option<(String, Instant)>,
}

impl Asked {
    /// Has `start` begin to ask; it gives `None` where there is nothing to ask.
    pub fn begin(
        context: &Context<'_>,
        is_ready: bool,
        start: impl FnOnce(Reporter) -> Result<Option<Box<dyn Watcher>>>,
    ) -> Result<Asked> {
        let (reporter, reports) = report::pair().map_err(Error::os("create", "a socket pair"))?;
        let watcher = start(reporter)?;
        let waits = watcher.is_some() && !is_ready;
        let start_deadline = waits.then(|| Deadline::after(context.component.start_timeout));
        Ok(Asked { start_deadline, watcher, reports, not_yet: None })
    }

    /// What to poll for reading; `None` once nobody is left to report.
    pub fn pollable(&self) -> Option<BorrowedFd<'_>> {
        self.reports.pollable()
    }

    /// What was last told.
    pub fn take(&mut self) -> Option<Health> {
        loop {
            match self.reports.take()? {
                Health::NotYet(why) => self.not_yet = Some((why, Instant::now())),
                told => return Some(told),
            }
        }
    }

    /// Begins the settle time of `component`.
    pub fn settles(&mut self, component: &Component) {
        // The checking thread reports before this.
        self.start_deadline = Some(Deadline::after(component.settle + component.start_timeout));
    }

    /// Ends the checking thread and discards reports that were not taken.
    pub fn no_more(&mut self) {
        self.watcher = None;
        self.start_deadline = None;
        while self.reports.take().is_some() {}
    }

    /// Why it did not become healthy in time, where that time is over; told once.
    pub fn late(&mut self, component: &Component) -> Option<String> {
        self.start_deadline.take_if(|d| d.passed())?;
        let text = format!("not healthy after start_timeout ({})", duration::format(component.start_timeout));
        Some(match &self.not_yet {
            Some((why, since)) => format!("{text}: {why}, for {} s", since.elapsed().as_secs()),
            None => text,
        })
    }
}

/// The reason where the check after the settle time fails.
pub fn unsettled(context: &Context<'_>, reason: &str) -> String {
    let settle = duration::format(context.component.settle);
    format!("was healthy, and is not after its settle time of {settle}: {reason}")
}
