//! Whether this node can do what its files ask: a list of findings, each with what to do. Nothing is started, made or
//! written, and it works on a node on which nothing is configured yet.

mod clock;
mod cluster;
mod definitions;
mod init;
mod places;
mod ports;
mod programs;
mod rights;
mod room;

use crate::model::{Component, ComponentId, Loaded, Runtime, load};
use crate::node::{Entry, inventory};
use crate::sys::paths::Paths;
use crate::sys::{Error, Result};

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// All is well.
    Ok,
    /// Worth knowing; the node does all the same what its definitions ask.
    Note,
    /// It keeps the node from doing what its definitions ask.
    Fail,
}

impl Grade {
    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Grade::Ok => "ok",
            Grade::Note => "note",
            Grade::Fail => "fail",
        }
    }
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Stable name of the check, for programs.
    pub id: &'static str,
    /// How much it matters.
    pub grade: Grade,
    /// The program, folder, component or port that it is about.
    pub subject: String,
    /// What was found.
    pub text: String,
    /// What to do about it, where there is something.
    pub way_out: Option<String>,
}

impl Finding {
    fn new(id: &'static str, grade: Grade, subject: impl ToString, text: impl Into<String>) -> Finding {
        Finding { id, grade, subject: subject.to_string(), text: text.into(), way_out: None }
    }

    fn ok(id: &'static str, subject: impl ToString, text: impl Into<String>) -> Finding {
        Finding::new(id, Grade::Ok, subject, text)
    }

    fn note(id: &'static str, subject: impl ToString, text: impl Into<String>) -> Finding {
        Finding::new(id, Grade::Note, subject, text)
    }

    fn fail(id: &'static str, subject: impl ToString, text: impl Into<String>) -> Finding {
        Finding::new(id, Grade::Fail, subject, text)
    }

    fn way_out(mut self, way_out: impl Into<String>) -> Finding {
        self.way_out = Some(way_out.into());
        self
    }

    /// An error of a start, which tells its way out after a semicolon.
    fn of_error(id: &'static str, grade: Grade, error: &Error) -> Finding {
        let (subject, told) = match error {
            Error::Refused { object, reason } | Error::Busy { object, reason } => (object.clone(), reason.clone()),
            Error::Os { action, object, source } => {
                (object.clone(), format!("{action}: {}", crate::sys::error::os_reason(source)))
            }
            other => (id.to_string(), other.to_string()),
        };
        let found = Finding::new(id, grade, subject, "");
        match told.split_once("; ") {
            Some((text, way_out)) => Finding { text: text.into(), ..found }.way_out(way_out),
            None => Finding { text: told, ..found },
        }
    }
}

/// What is looked at.
struct Patient<'a> {
    /// `None`: nobody knows where its files are.
    paths: Option<&'a Paths>,
    loaded: &'a Loaded,
    entries: &'a [Entry<'a>],
}

impl<'a> Patient<'a> {
    /// The components that shall run, and those that the cluster may put here, with what they shall run as.
    fn wanted(&self) -> impl Iterator<Item = (&'a Entry<'a>, &'a Component)> + use<'a> {
        let wanted = self.entries.iter().filter(|e| (e.wanted() != Some(false) || e.may_come()) && !e.foreign);
        wanted.filter_map(|e| {
            let declared = e.declared.map(|d| d.component);
            Some((e, declared.or_else(|| e.record.get().and_then(|r| r.spec()))?))
        })
    }

    /// The names of those of a runtime, in a few words; `None` where there is none.
    fn names_of(&self, wanted: impl Fn(&Component) -> bool) -> Option<String> {
        let ids: Vec<&ComponentId> = self.wanted().filter(|(_, c)| wanted(c)).map(|(e, _)| &e.id).collect();
        let (first, more) = (ids.first()?, ids.len() - 1);
        Some(if more == 0 { first.to_string() } else { format!("{first} and {more} more") })
    }

    fn has(&self, runtime: Runtime) -> bool {
        self.wanted().any(|(_, c)| c.runtime == runtime)
    }
}

/// Looks at the node whose files `paths` names. That nobody knows where they are is a finding, as is all else.
pub fn examine(paths: Result<Paths>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (paths, mut loaded) = match paths {
        Ok(paths) => (Some(paths), Loaded::default()),
        Err(e) => {
            findings.push(Finding::of_error("directories", Grade::Fail, &e));
            (None, Loaded::default())
        }
    };
    if let Some(paths) = &paths {
        loaded = load::load(paths);
    }
    let entries = match paths.as_ref().map(|p| inventory::collect(p, &loaded)) {
        Some(Ok(entries)) => entries,
        Some(Err(e)) => {
            findings.push(Finding::of_error("directories", Grade::Fail, &e));
            Vec::new()
        }
        None => Vec::new(),
    };
    let patient = Patient { paths: paths.as_ref(), loaded: &loaded, entries: &entries };
    for look in [
        programs::look,
        rights::look,
        places::look,
        definitions::look,
        ports::look,
        init::look,
        clock::look,
        room::look,
    ] {
        findings.extend(look(&patient));
    }
    // What keeps them from here may be told already.
    let is_new = |finding: &Finding, told: &[Finding]| {
        !told.iter().any(|t| t.grade == Grade::Fail && t.subject == finding.subject && t.text.contains(&finding.text))
    };
    for finding in cluster::look(&patient) {
        if is_new(&finding, &findings) {
            findings.push(finding);
        }
    }
    findings
}
