//! What is inside a layer is read by a worker: this very program again, as a user with no rights, with nothing but the
//! descriptors that it was handed. Here is the side of those who ask.
//!
//! A worker is killed when the thread that started it ends, and when its handle is dropped.

mod closure;
mod confine;
mod index;
mod job;
mod merge;
mod process;

pub use closure::{Answer, Place, Settled, Unpacked, closure, copy};
pub use index::Index;
pub use merge::{Merge, Packed};

use std::path::PathBuf;
use std::sync::OnceLock;

/// What a program of ours is asked with to be a worker. It is no option: it stands in no help.
const ASKED: &str = "--worker";

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// The program that is started as a worker.
fn program() -> PathBuf {
    PROGRAM.get().cloned().unwrap_or_else(|| "/proc/self/exe".into())
}

/// Makes `program` the one that is started as a worker, for tests: their own program is none of ours. The first counts.
pub fn use_program(program: PathBuf) {
    let _ = PROGRAM.set(program);
}

/// Where the arguments ask for a worker, this process is one and never returns. Call it first in `main`.
pub fn main_if_asked() {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_none_or(|first| first != ASKED) {
        return;
    }
    let args: Option<Vec<String>> = args.map(|a| a.into_string().ok()).collect();
    // Anything else is an unknown option, which the program itself will say.
    if let Some([user, parent, spec, report]) = args.as_deref()
        && let (Ok(parent), Ok(spec), Ok(report)) = (parent.parse(), spec.parse(), report.parse())
    {
        std::process::exit(job::run(user.parse().ok(), parent, spec, report));
    }
}
