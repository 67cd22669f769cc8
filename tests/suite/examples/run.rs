//! Runs examples and holds their exit codes against what they should be.

use super::{Example, Place};
use crate::harness::{Answer, finish, wait, wait_for};
use std::collections::BTreeSet;
use std::os::unix::process::CommandExt;
use std::time::{Duration, Instant};

/// No example takes longer, until it is as it should be and until it ends.
const LIMIT: Duration = Duration::from_secs(40);

/// What an example wants beyond being run to its end with exit code 0. It concerns every example of that command.
#[derive(Debug, Clone, Copy)]
pub struct Care {
    command: &'static str,
    before: &'static str,
    after: &'static str,
    code: i32,
    says: &'static str,
    until: Option<(&'static str, &'static str)>,
    not_run: Option<&'static str>,
}

impl Care {
    /// For this command, as the text shows it.
    pub const fn of(command: &'static str) -> Care {
        Care { command, before: "", after: "", code: 0, says: "", until: None, not_run: None }
    }

    /// Lines of shell that run before it, each time.
    pub const fn before(self, before: &'static str) -> Care {
        Care { before, ..self }
    }

    /// Lines of shell that run after it, however it went.
    pub const fn after(self, after: &'static str) -> Care {
        Care { after, ..self }
    }

    /// It exits with this code.
    pub const fn exits(self, code: i32) -> Care {
        Care { code, ..self }
    }

    /// It prints this, among other things.
    pub const fn says(self, says: &'static str) -> Care {
        Care { says, ..self }
    }

    /// It goes on until it is told to end: when `so` succeeds (its own output is in the file `said`), `then` is run, where `$group`
    /// is its process group; and it has to end by that.
    pub const fn until(self, so: &'static str, then: &'static str) -> Care {
        Care { until: Some((so, then)), ..self }
    }

    /// It can't be run here, for this reason.
    pub const fn not_run(self, why: &'static str) -> Care {
        Care { not_run: Some(why), ..self }
    }
}

/// Runs each example in turn; fails the test when one does not do what it should.
#[track_caller]
pub fn run(place: &Place, examples: &[Example], cares: &[Care]) {
    let (mut wrong, mut seen) = (Vec::new(), BTreeSet::new());
    for example in examples {
        let care = cares.iter().find(|c| c.command == example.command);
        seen.insert(example.command.as_str());
        let at = format!("{}:{}: {}", example.source, example.line, example.command);
        let care = care.copied().unwrap_or(Care::of(""));
        if let Some(why) = care.not_run {
            eprintln!("not run: {at}: {why}");
        } else if let Err(how) = run_one(place, &example.command, &care) {
            wrong.push(format!("{at}\n{how}"));
        }
    }
    let idle = cares.iter().filter(|c| !seen.contains(c.command)).map(|c| format!("no text has it: {}", c.command));
    wrong.extend(idle);
    assert!(wrong.is_empty(), "{} examples are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

fn run_one(place: &Place, command: &str, care: &Care) -> Result<(), String> {
    let around = |lines: &str| {
        let answer = finish(place.sh(&format!("set -e\n{lines}")), lines);
        (answer.code == Some(0)).then_some(()).ok_or(format!("around it: {answer:#?}"))
    };
    let began = Instant::now();
    around(care.before)?;
    let answer = to_its_end(place, command, care.until);
    around(care.after)?;
    let answer = answer?;
    let around = (began.elapsed() - answer.took).as_secs_f32();
    eprintln!("{:.1} s, {around:.1} s around it: {command}", answer.took.as_secs_f32());
    let said = answer.out.contains(care.says) || answer.err.contains(care.says);
    match answer.code == Some(care.code) && said {
        true => Ok(()),
        false => Err(format!("wanted: exit {}, {:?}: {answer:#?}", care.code, care.says)),
    }
}

fn to_its_end(place: &Place, command: &str, until: Option<(&str, &str)>) -> Result<Answer, String> {
    let began = Instant::now();
    let path = |name| place.work().join(name);
    let file = |name| std::fs::File::create(path(name)).unwrap();
    let child = place.sh(command).process_group(0).stdout(file("said")).stderr(file("complained")).spawn().unwrap();
    let group = child.id();
    let mut fault = None;
    if let Some((so, then)) = until {
        // What ended by itself is judged by its exit code.
        let became = || (!alive(group) || finish(place.sh(so), so).code == Some(0)).then_some(());
        match wait_for(LIMIT, became) {
            Some(()) => drop(finish(place.sh(&format!("group={group}\n{then}")), then)),
            None => fault = Some(format!("it never became so: {so}")),
        }
    }
    if fault.is_none() && wait_for(LIMIT, || (!alive(group)).then_some(())).is_none() {
        fault = Some(format!("it did not end in {LIMIT:?}"));
    }
    if fault.is_some() {
        // It is ended, else nothing would be known of it.
        // SAFETY: a plain system call.
        unsafe { libc::kill(-(group as i32), libc::SIGTERM) };
    }
    let mut answer = wait(child, command, began);
    let text = |name| std::fs::read_to_string(path(name)).unwrap_or_default();
    (answer.out, answer.err) = (text("said"), text("complained"));
    match fault {
        None => Ok(answer),
        Some(fault) => Err(format!("{fault}: {answer:#?}")),
    }
}

/// Whether it has not ended; one that ended is a zombie until it is waited for.
fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}
