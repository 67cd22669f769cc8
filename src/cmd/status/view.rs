//! What is shown: one look at the node.

use super::row::Row;
use super::table::Style;
use super::{Args, inspect, json, table};
use crate::model::{Loaded, Problem, Target};
use crate::node::containers::{self, Question};
use crate::node::{Entry, Health, Remote, Verdict, inventory, remote, verdict};
use crate::sys::error::{EXIT_FINAL, EXIT_NO, EXIT_OK};
use crate::sys::paths::Paths;
use crate::sys::{Deadline, Error, Result};
use std::time::{Duration, SystemTime};

/// What is not known of tags by then is left.
const REMOTE_TIMEOUT: Duration = Duration::from_secs(10);

/// After this no further component is asked for its health.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(10);

/// The rows that were asked for, and what was wrong with the question, the definitions or podman.
pub struct View<'a> {
    /// A row a component.
    pub rows: Vec<Row<'a>>,
    /// Problems of definitions.
    pub problems: Vec<String>,
    /// Files that were probably meant to be definitions.
    pub notes: &'a [Problem],
    /// Targets that nobody knows.
    pub unknown: Vec<String>,
    /// Whether podman was asked, and why it could not be.
    pub podman: Option<Option<Error>>,
    /// When it was.
    pub at: SystemTime,
}

impl<'a> View<'a> {
    /// What is asked of podman for `targets`: to be made before files are read, so that both happen at once.
    pub fn question(paths: &Paths, targets: &[Target]) -> Question {
        Question::begin(paths, targets.is_empty())
    }

    /// Looks.
    pub fn take(
        paths: &Paths,
        args: &Args,
        targets: &[Target],
        loaded: &'a Loaded,
        question: Question,
    ) -> Result<View<'a>> {
        let mut entries = inventory::collect(paths, loaded)?;
        let is_wanted = |e: &Entry<'_>| targets.is_empty() || targets.iter().any(|t| t.matches(&e.id));
        entries.retain(is_wanted);
        // One that only podman knows, by its labels.
        let missed = targets.iter().any(|t| !is_known(t, &entries, loaded));
        let mut podman = None;
        if let Some(answer) = question.answer(&entries, missed) {
            podman = Some(containers::merge(&mut entries, paths, loaded, answer, targets.is_empty()));
            entries.retain(is_wanted);
        }
        let unknown = targets.iter().filter(|t| !is_known(t, &entries, loaded)).map(unknown).collect();
        let at = SystemTime::now();
        let mut verdicts = match args.health {
            true => verdict::ask_all(paths, &loaded.node, &entries, Deadline::after(HEALTH_TIMEOUT)),
            false => Vec::new(),
        }
        .into_iter();
        let mut remotes = match args.remote {
            true => remote::ask_all(paths, &loaded.node, &entries, Deadline::after(REMOTE_TIMEOUT)),
            false => Vec::new(),
        }
        .into_iter();
        let row = |entry| {
            let asked = |verdict: Verdict| Health { verdict, at, since: None, recorded: false };
            let health = verdicts.next().map(asked).or_else(|| verdict::recorded(paths, &entry));
            Row::new(entry, health, remotes.next().flatten(), at)
        };
        let mut rows: Vec<Row<'a>> = entries.into_iter().map(row).collect();
        rows.retain(|r| args.state.is_empty() || args.state.contains(&r.condition));
        rows.retain(|r| args.drift.is_empty() || args.drift.iter().any(|drift| r.drift.contains(drift)));
        if let Some(placement) = &args.placement {
            rows.retain(|r| r.entry.declared.is_some_and(|d| d.service.placement.name() == placement));
        }
        let notes = if targets.is_empty() { loaded.notes.as_slice() } else { &[] };
        Ok(View {
            rows,
            notes,
            problems: loaded.problems_for(paths, targets).iter().map(Problem::to_string).collect(),
            unknown,
            podman,
            at,
        })
    }

    /// Why podman could not be asked, if so.
    pub fn unasked(&self) -> Option<&Error> {
        self.podman.as_ref()?.as_ref()
    }

    /// All that is to be said besides the rows.
    pub fn complaints(&self) -> impl Iterator<Item = String> {
        let podman = self.unasked().map(|e| format!("{e}; how its containers are is unknown"));
        self.problems.iter().chain(&self.unknown).cloned().chain(podman)
    }

    /// Says it.
    pub fn complain(&self) {
        self.notes.iter().for_each(|note| log::warn!("{note}"));
        for row in &self.rows {
            if let Some(Remote::Unknown(e)) = &row.remote {
                log::warn!("{}: its registry could not be asked: {e}", row.entry.id);
            }
        }
        let problems: Vec<String> = self.complaints().collect();
        if !problems.is_empty() {
            crate::cmd::report(crate::cmd::program(), &Error::Definitions { problems });
        }
    }

    /// All rows in the form that was asked for.
    pub fn text(&self, paths: &Paths, args: &Args, style: Style, compact: bool) -> String {
        if args.json {
            return json::document(paths, self, compact);
        }
        if args.list {
            // A stranger has no name that another program of ours would take.
            let ours = self.rows.iter().filter(|r| !r.entry.foreign);
            return ours.map(|r| format!("{}\n", r.entry.id)).collect();
        }
        if args.verbose {
            let sheets: Vec<String> = self.rows.iter().map(|r| inspect::sheet(paths, r)).collect();
            return sheets.join("\n");
        }
        table::draw(&self.rows, style)
    }

    /// The exit code of what could not be told, 0 when all could.
    pub fn trouble(&self) -> u8 {
        match self.unasked() {
            _ if !self.unknown.is_empty() => EXIT_FINAL,
            Some(e) => e.exit_code(),
            None if !self.problems.is_empty() => EXIT_NO,
            None => EXIT_OK,
        }
    }

    /// The exit code of the whole.
    pub fn exit_code(&self) -> u8 {
        let drift = self.rows.iter().any(|r| !r.drift.is_empty());
        match self.trouble() {
            EXIT_OK if drift => EXIT_NO,
            code => code,
        }
    }
}

/// Whether there is something to say of `target`. A service whose definition is bad has its problems told instead.
fn is_known(target: &Target, entries: &[Entry<'_>], loaded: &Loaded) -> bool {
    loaded.broken.contains(&target.service) || entries.iter().any(|e| target.matches(&e.id))
}

/// What is said of a target that nobody knows.
pub fn unknown(target: &Target) -> String {
    format!("{target}: no such component: neither declared nor ever started; mcp-status --list names all")
}
