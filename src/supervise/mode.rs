//! How a supervised run is to behave, and what it comes to.

use crate::model::Version;
use crate::model::state::End;

/// How a supervised run is to behave.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mode {
    /// The restart policy holds, for there is no init that would restart us as it says.
    pub restarts: bool,
    /// Stop what runs instead of supervising it.
    pub stop_only: bool,
    /// Adopt what runs, and start nothing where nothing runs.
    pub adopt_only: bool,
    /// What is started is on trial: its end before it was ready is not answered by the restart policy.
    pub trial: bool,
    /// What is not healthy in time is left as it is, for somebody to look at.
    pub leave: bool,
    /// Why the version on trial before this one was no good: whoever asked for that is told so when this one is ready.
    pub fallback: Option<String>,
}

/// What a run came to. `I` is an instance that goes on.
pub enum Outcome<I> {
    /// It is over: the last end, which our exit code is made of. `None`: there was nothing to stop.
    Ended(Option<End>),
    /// The version on trial failed: why, and how it ended.
    Failed(String, End),
    /// What ran is stopped, and this is to be started, on trial.
    Start(Box<Version>),
    /// This has taken the place of what ran, which is gone.
    Replaced(Box<Version>, Box<I>),
}

/// Why a new version was no good, in lines.
pub fn failure(reason: &str, console: &[String]) -> String {
    with_console(&format!("the new version: {reason}"), console)
}

/// How it ended, with the console's last lines where there are any to tell.
pub fn ending(end: &End) -> String {
    if end.console.is_empty() { end.reason.clone() } else { with_console(&end.reason, &end.console) }
}

/// `text` and the last lines of a console, in lines.
pub fn with_console(text: &str, console: &[String]) -> String {
    let mut text = format!("{text}; the last lines of its console:");
    if console.is_empty() {
        text.push_str("\n  (it wrote nothing)");
    }
    for line in console {
        text.push_str("\n  ");
        text.extend(line.chars().map(|c| if c.is_control() { '?' } else { c }));
    }
    text
}
