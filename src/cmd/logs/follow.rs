//! Shows what is added to the logs, until somebody ends us.

use super::format::{From, Piece, Sink};
use super::merge::{self, Piecewise};
use super::source::Source;
use super::watch::{Happened, Watch};
use super::{Which, targets};
use crate::model::name::{ComponentId, Target};
use crate::sys::paths::Paths;
use crate::sys::{Deadline, Result};
use std::collections::HashMap;
use std::time::Duration;

/// Where lines of several sources meet, one without its end is waited for, but a prompt is shown after this time.
const QUIET: Duration = Duration::from_millis(250);

/// What is followed.
#[derive(Debug)]
pub struct Follow<'a> {
    /// Where things are.
    pub paths: &'a Paths,
    /// What was asked for.
    pub targets: &'a [Target],
    /// Which logs of a component.
    pub which: Which,
    /// Whether lines without their end are held back always.
    pub whole_lines: bool,
    /// The components found so far.
    pub components: Vec<ComponentId>,
    /// The watches.
    pub watch: Watch,
}

impl Follow<'_> {
    /// Watches all folders that matter. To be done before they are looked into, so that nothing is missed in between.
    pub fn add_watches(&mut self) -> Result<()> {
        for target in self.targets {
            self.watch.add(&self.paths.log, false)?;
            self.watch.add(&self.paths.log.join(&target.service), false)?;
        }
        for id in &self.components {
            for series in self.which.series(self.paths, id) {
                if let Some(above) = series.dir().parent() {
                    self.watch.add(above, false)?;
                }
                self.watch.add(series.dir(), true)?;
            }
        }
        Ok(())
    }

    /// Components that were not there before.
    fn add_components(&mut self, sources: &mut Vec<Source>, sink: &mut Sink) -> Result<()> {
        for target in self.targets {
            for id in targets::find(self.paths, target)? {
                if self.components.contains(&id) {
                    continue;
                }
                let component = self.components.len();
                sink.add(&id.to_string());
                for series in self.which.series(self.paths, &id) {
                    // Without files: the look for new ones that follows finds them all.
                    sources.push(Piecewise::nothing(From::new(sources.len(), component), series).source(true)?);
                }
                self.components.push(id);
            }
        }
        Ok(())
    }

    fn look_again(&mut self, happened: &Happened, sources: &mut Vec<Source>, sink: &mut Sink) -> Result<()> {
        self.add_watches()?;
        self.add_components(sources, sink)?;
        self.add_watches()?;
        for source in sources {
            if happened.gone.iter().any(|dir| dir == source.series().dir()) {
                source.start_over();
            }
            if source.rescan()? {
                let name = self.components.get(source.from().component).map(ToString::to_string).unwrap_or_default();
                log::warn!("{name}: rotated logs were removed before they could be read; raise [log] keep");
            }
        }
        Ok(())
    }

    /// Shows what comes. Ends when the reader of standard output has gone.
    pub fn run(mut self, mut sources: Vec<Source>, sink: &mut Sink) -> Result<()> {
        // What happened between the look into the folders and here is in the queue of events.
        let mut quiet: HashMap<usize, (u64, Option<Deadline>)> = HashMap::new();
        loop {
            let alone = sources.iter().filter(|s| !s.is_empty()).count() < 2;
            let long = if alone && !self.whole_lines { Piece::Begun } else { Piece::Cut };
            let begun = merge::show_lines(&mut sources, sink, long)?;
            quiet.retain(|i, _| begun.contains(i));
            if !self.whole_lines {
                for i in begun {
                    let Some(source) = sources.get_mut(i) else { continue };
                    let entry = quiet.entry(i).or_insert((u64::MAX, None));
                    if entry.0 != source.position() {
                        *entry = (source.position(), Some(Deadline::after(QUIET)));
                    }
                    if (alone && !source.is_mixed()) || entry.1.is_some_and(|d| d.passed()) {
                        entry.1 = None;
                        source.show_begun(sink, Piece::Begun);
                    }
                }
            }
            sink.flush();
            let next = quiet.values().filter_map(|(_, deadline)| *deadline).reduce(Deadline::min);
            let Some(happened) = self.watch.wait(sink.fd(), next)? else { return Ok(()) };
            if happened.names {
                self.look_again(&happened, &mut sources, sink)?;
            }
        }
    }
}
