//! Whoever wants to know how a boot goes on: people, programs, the init system, and the boot record.

use super::member::News;
use super::plan::{Member, StagePlan};
use crate::model::boot_record::{Kind, Recorder, StageOutcome};
use crate::model::{ComponentId, duration};
use crate::sys::notify::Notify;
use crate::sys::{Deadline, time};
use serde_json::json;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// The version of the JSON lines.
const SCHEMA: u32 = 1;

/// Tells everybody.
pub struct Teller {
    /// The diary.
    pub recorder: Recorder,
    notify: Notify,
    json: bool,
    /// Whether a status line is kept on the terminal.
    live: bool,
    /// What stands there, and when it was last drawn.
    status: String,
    began: Instant,
}

impl Teller {
    /// One that keeps the record with `recorder` and tells readiness by `notify`; `json`: JSON Lines instead of words.
    pub fn new(recorder: Recorder, notify: Notify, json: bool) -> Teller {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let live = std::io::stderr().is_terminal() && !dumb && !json;
        Teller { recorder, notify, json, live, status: String::new(), began: Instant::now() }
    }

    /// The turn of a stage has come.
    pub fn stage_began(&mut self, plan: &StagePlan) {
        let name = &plan.stage.name;
        self.recorder.stage_began(name);
        let count = plan.members.len();
        let patience = match plan.foundation {
            true => "waits until all are healthy".to_string(),
            false => format!("waits {} at most", duration::format(plan.stage.timeout)),
        };
        let plural = if count == 1 { "" } else { "s" };
        self.line(&format!("stage {name}: {count} component{plural}, {patience}"));
        self.object(
            json!({ "event": "stage-began", "stage": name, "foundation": plan.foundation, "components": count }),
        );
    }

    /// A stage is over. `unhealthy`: which of its components are not healthy, and why.
    pub fn stage_ended(
        &mut self,
        name: &str,
        outcome: StageOutcome,
        unhealthy: &[(ComponentId, String)],
        took: Duration,
    ) {
        self.recorder.stage_ended(name, outcome);
        let word = match outcome {
            StageOutcome::Healthy => "healthy",
            StageOutcome::TimedOut => "not all healthy",
            StageOutcome::Interrupted => "interrupted",
            StageOutcome::Waiting | StageOutcome::Running => "not over",
        };
        self.erase();
        for (id, why) in unhealthy {
            self.recorder.note(id, Kind::Warned, why);
            log::warn!("stage {name}: {id} is not healthy: {why}");
        }
        self.line(&format!("stage {name}: {word} after {}", seconds(took)));
        let left: Vec<_> =
            unhealthy.iter().map(|(id, why)| json!({ "component": id.to_string(), "reason": why })).collect();
        self.object(json!({ "event": "stage-ended", "stage": name, "outcome": outcome, "unhealthy": left }));
    }

    /// The definition of `service` was bad, and is good now: these join the stage.
    pub fn mended(&mut self, stage: &str, service: &str, members: &[Member]) {
        self.recorder.joined(stage, members.iter().map(|m| (m.id(), m.found.component.runtime)));
        self.line(&format!("  {service}: its definition is mended"));
        self.object(json!({ "event": "mended", "stage": stage, "service": service }));
    }

    /// A definition has changed and is still bad.
    pub fn bad(&mut self, problems: &[String]) {
        self.erase();
        problems.iter().for_each(|problem| log::warn!("{problem}"));
        self.draw();
    }

    /// Something happened to a component: for the record alone.
    pub fn note(&self, id: &ComponentId, news: &News) {
        let (kind, _, text) = words(news);
        self.recorder.note(id, kind, text);
    }

    /// Something happened to a component that is to be said.
    pub fn member(&mut self, stage: &str, id: &ComponentId, news: &News) {
        let (kind, word, text) = words(news);
        let colon = if text.is_empty() { "" } else { ": " };
        match news {
            News::Died(_) | News::Ended(_) | News::Failed(_) | News::GaveUp(_) if !self.json => {
                self.erase();
                log::warn!("{id}: {word}{colon}{text}");
                self.draw();
            }
            // Health follows on its heels, mostly.
            News::Ready => {}
            _ => self.line(&format!("  {id}: {word}{colon}{text}")),
        }
        self.object(json!({ "event": kind, "stage": stage, "component": id.to_string(), "text": text }));
    }

    /// What is waited for, in a few words. `aloud`: people are told so too.
    pub fn status(&mut self, text: &str, aloud: bool) {
        if self.status != text || aloud {
            self.notify.status(text);
        }
        if aloud {
            self.erase();
            log::warn!("{text}");
        }
        if self.status != text {
            self.erase();
            text.clone_into(&mut self.status);
        }
        self.draw();
    }

    /// The init system is to wait so much longer.
    pub fn extend(&self, more: Duration) {
        self.notify.extend(more);
    }

    /// The boot has come to its end. One that counts as failed is not told to be ready.
    pub fn over(&mut self, unhealthy: usize, failed: bool) {
        self.status.clear();
        self.erase();
        let took = seconds(self.began.elapsed());
        let text = match unhealthy {
            0 => format!("booted in {took}"),
            n => format!("booted in {took}, {n} not healthy"),
        };
        self.notify.status(&text);
        if !failed {
            self.notify.ready();
        }
        self.line(&text);
        self.object(json!({ "event": if failed { "failed" } else { "ready" }, "unhealthy": unhealthy }));
    }

    /// We were told to end.
    pub fn interrupted(&mut self) {
        self.status.clear();
        self.erase();
        self.notify.stopping();
        self.object(json!({ "event": "interrupted" }));
    }

    /// When [`Teller::catch_up`] is to be called.
    pub fn due(&self) -> Option<Deadline> {
        self.recorder.due()
    }

    /// Writes the record as far as it has come.
    pub fn catch_up(&self) {
        self.recorder.flush();
    }

    fn line(&mut self, text: &str) {
        if self.json {
            return;
        }
        self.erase();
        // Whoever read it may have gone: the boot goes on.
        let _ = writeln!(std::io::stdout().lock(), "{text}");
        self.draw();
    }

    fn object(&mut self, mut value: serde_json::Value) {
        if !self.json {
            return;
        }
        if let Some(map) = value.as_object_mut() {
            map.insert("schema".into(), SCHEMA.into());
            map.insert("time".into(), time::now().into());
            map.insert("after_ms".into(), (self.began.elapsed().as_millis() as u64).into());
        }
        let _ = writeln!(std::io::stdout().lock(), "{value}");
    }

    fn erase(&self) {
        if self.live {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }

    fn draw(&self) {
        if self.live && !self.status.is_empty() {
            let text: String = self.status.chars().filter(|c| !c.is_control()).take(100).collect();
            let _ = write!(std::io::stderr(), "\r{text}\x1b[K");
        }
    }
}

/// What of the record it is, the word for it, and more.
fn words(news: &News) -> (Kind, &'static str, &str) {
    match news {
        News::Already => (Kind::Already, "runs already", ""),
        News::Start => (Kind::Start, "starting", ""),
        News::Retry => (Kind::Retry, "starting again", ""),
        News::Adopt => (Kind::Adopted, "runs unsupervised, adopted", ""),
        News::Started => (Kind::Started, "started", ""),
        News::Ready => (Kind::Ready, "ready", ""),
        News::Healthy(detail) => (Kind::Healthy, "healthy", detail.as_str()),
        News::Unhealthy(why) => (Kind::Unhealthy, "not healthy", why.as_str()),
        News::Died(why) | News::Ended(why) => (Kind::Died, "ended", why.as_str()),
        News::Failed(why) | News::GaveUp(why) => (Kind::Failed, "not started", why.as_str()),
        News::Skipped(why) => (Kind::Skipped, "left alone", why.as_str()),
    }
}

/// `0.412 s`.
fn seconds(took: Duration) -> String {
    format!("{:.3} s", took.as_secs_f64())
}
