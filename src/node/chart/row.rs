//! One component's story: from events to phases and marks.

use super::words;
use crate::model::boot_record::{BootRecord, Component, Event, Kind, Stage, StageOutcome};

/// What a component is in for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Its start command is at work.
    Starting,
    /// It was started, and isn't ready.
    Booting,
    /// It runs, and isn't healthy.
    Checking,
    /// It is healthy.
    Healthy,
    /// It doesn't run, and is to be started again.
    Down,
    /// The record left out what happened.
    LeftOut,
}

impl Phase {
    /// All of them, in the order of the legend.
    pub const ALL: [Phase; 6] =
        [Phase::Starting, Phase::Booting, Phase::Checking, Phase::Healthy, Phase::Down, Phase::LeftOut];

    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Starting => "start command at work",
            Phase::Booting => "started, not ready yet",
            Phase::Checking => "runs, not healthy yet",
            Phase::Healthy => "healthy",
            Phase::Down => "down",
            Phase::LeftOut => "not recorded in full",
        }
    }
}

/// A phase from one moment to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// When it began.
    pub from: u64,
    /// When it ended.
    pub to: u64,
    /// What it was.
    pub phase: Phase,
}

/// How it stood with a component when its stage was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Nothing happened to it.
    Untouched,
    /// Its stage goes on.
    Open,
    /// Healthy.
    Healthy,
    /// It ran, or was being started, and was not healthy.
    Unhealthy,
    /// It had died.
    Died,
    /// It could not be started.
    Failed,
    /// It shall stay stopped.
    Skipped,
}

/// One component with its story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row<'a> {
    /// The component.
    pub of: &'a Component,
    /// Its phases, in order, without those that took no time.
    pub segments: Vec<Segment>,
    /// Events with a mark of their own.
    pub marks: Vec<&'a Event>,
    /// How it stood in the end.
    pub end: End,
    /// When its first start began, or it was found running.
    pub start: Option<u64>,
    /// When it was ready, the last time.
    pub ready: Option<u64>,
    /// Since when it has been healthy.
    pub healthy: Option<u64>,
}

/// The rows of each stage. `end`: the last moment of the picture.
pub fn rows(record: &BootRecord, end: u64) -> Vec<Vec<Row<'_>>> {
    let of = |stage: &Stage| (stage.ended_ms.unwrap_or(end), stage.outcome == StageOutcome::Running);
    let stages = record.stages.iter().map(|s| (s, of(s)));
    stages.map(|(s, (until, open))| s.components.iter().map(|c| Row::new(c, until, open)).collect()).collect()
}

impl<'a> Row<'a> {
    fn new(of: &'a Component, until: u64, open: bool) -> Row<'a> {
        let mut row = Row {
            of,
            segments: Vec::new(),
            marks: Vec::new(),
            end: End::Untouched,
            start: None,
            ready: None,
            healthy: None,
        };
        let mut now: Option<(u64, Phase)> = None;
        let ended = |row: &mut Row<'_>, from: u64, to: u64, phase: Phase| {
            if to > from {
                row.segments.push(Segment { from, to, phase });
            }
        };
        for (i, event) in of.events.iter().enumerate() {
            let at = event.at_ms;
            if of.left_out.is_some_and(|l| l.after == i) {
                // Where nothing came before, it is left out from the beginning of what is known.
                let from = now.take().map(|(from, phase)| {
                    let last = i.checked_sub(1).and_then(|i| of.events.get(i)).map_or(from, |e| e.at_ms);
                    ended(&mut row, from, last, phase);
                    last
                });
                ended(&mut row, from.unwrap_or(at), at, Phase::LeftOut);
            }
            if marked(event.kind) {
                row.marks.push(event);
            }
            let next = row.take(event, now.map(|n| n.1));
            if let (Some(next), true) = (next, next != now.map(|n| n.1)) {
                if let Some((from, phase)) = now {
                    ended(&mut row, from, at, phase);
                }
                now = Some((at, next));
            }
        }
        if let Some((from, phase)) = now {
            ended(&mut row, from, until, phase);
        }
        if open && !matches!(row.end, End::Healthy | End::Skipped | End::Untouched) {
            row.end = End::Open;
        }
        row
    }

    /// What `event` makes of it, and the phase that begins with it; `None`: none does.
    fn take(&mut self, event: &Event, now: Option<Phase>) -> Option<Phase> {
        let at = event.at_ms;
        if !matches!(event.kind, Kind::Healthy | Kind::Warned | Kind::Ready) {
            self.healthy = None;
        }
        match event.kind {
            Kind::Start | Kind::Retry => {
                self.start = self.start.or(Some(at));
                (self.end, self.ready) = (End::Unhealthy, None);
                Some(Phase::Starting)
            }
            Kind::Started => {
                self.end = End::Unhealthy;
                // One that was adopted has run all the while.
                (now != Some(Phase::Checking)).then_some(Phase::Booting)
            }
            Kind::Already | Kind::Adopted => {
                self.start = self.start.or(Some(at));
                self.end = End::Unhealthy;
                Some(Phase::Checking)
            }
            Kind::Ready => {
                self.ready = Some(at);
                // Said again of one that is healthy, it is no news.
                (now != Some(Phase::Healthy)).then_some(Phase::Checking)
            }
            Kind::Healthy => {
                self.healthy = self.healthy.or(Some(at));
                self.end = End::Healthy;
                Some(Phase::Healthy)
            }
            Kind::Unhealthy => {
                self.end = match self.end {
                    End::Died | End::Failed => self.end,
                    _ => End::Unhealthy,
                };
                (now == Some(Phase::Healthy)).then_some(Phase::Checking)
            }
            Kind::Died => {
                (self.end, self.ready) = (End::Died, None);
                Some(Phase::Down)
            }
            Kind::Failed => {
                (self.end, self.ready) = (End::Failed, None);
                Some(Phase::Down)
            }
            Kind::Skipped => {
                self.end = End::Skipped;
                None
            }
            Kind::Warned => None,
        }
    }

    /// The last word about it.
    pub fn last(&self) -> String {
        // The kinds in the order of what they tell.
        let told = |kinds: &[Kind]| {
            let last = |kind: &Kind| self.of.events.iter().rev().find(|e| e.kind == *kind && !e.text.is_empty());
            kinds.iter().find_map(last).map(|e| words::clean(&e.text))
        };
        let with = |word: &str, kinds: &[Kind]| match told(kinds) {
            Some(why) => format!("{word}: {why}"),
            None => word.to_string(),
        };
        let ran = self.of.events.iter().any(|e| e.kind == Kind::Already);
        let adopted = self.of.events.iter().any(|e| e.kind == Kind::Adopted);
        match self.end {
            End::Untouched => "not reached".into(),
            End::Open => with("under way", &[Kind::Unhealthy, Kind::Died, Kind::Failed]),
            End::Healthy if adopted => "adopted, healthy".into(),
            End::Healthy if ran && self.of.retries == 0 => "ran already, healthy".into(),
            End::Healthy => "healthy".into(),
            End::Unhealthy => with("not healthy", &[Kind::Unhealthy, Kind::Warned]),
            End::Died => with("died", &[Kind::Died]),
            End::Failed => with("failed", &[Kind::Failed]),
            End::Skipped => with("stays stopped", &[Kind::Skipped]),
        }
    }
}

/// Whether an event gets a mark: phases alone would not show it.
fn marked(kind: Kind) -> bool {
    !matches!(kind, Kind::Start | Kind::Started | Kind::Ready | Kind::Unhealthy)
}
