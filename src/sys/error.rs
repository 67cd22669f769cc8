//! The one error type. A variant is a kind that a caller treats differently.

use std::fmt;
use std::io;
use std::path::Path;

/// What any fallible function of ours returns.
pub type Result<T> = std::result::Result<T, Error>;

/// Exit code: done, or yes.
pub const EXIT_OK: u8 = 0;
/// Exit code: no (unhealthy, drift, not running).
pub const EXIT_NO: u8 = 1;
/// Exit code: the command line is wrong.
pub const EXIT_USAGE: u8 = 2;
/// Exit code: failed, and trying again will not help.
pub const EXIT_FINAL: u8 = 100;
/// Exit code: failed, and trying again may help.
pub const EXIT_RETRY: u8 = 111;
/// Exit code: a program can't be executed.
pub const EXIT_NOT_EXECUTABLE: u8 = 126;
/// Exit code: a program is not there.
pub const EXIT_NOT_FOUND: u8 = 127;

/// Why something could not be done. Displays as one line without the program's name, except
/// [`Error::Definitions`], which is one line a problem.
#[derive(Debug)]
pub enum Error {
    /// The command line asks for something that does not fit together.
    Usage {
        /// What does not fit, and what would.
        what: String,
    },
    /// Configuration files with problems: one line each, `FILE:LINE: KEY: reason`.
    Definitions {
        /// The problems, in the order of files and lines.
        problems: Vec<String>,
    },
    /// Trying again will not help.
    Refused {
        /// The component, file or address it is about.
        object: String,
        /// Why, and the way out where there is one.
        reason: String,
    },
    /// A program that was to be started can't be executed or is not there: final too, with the code of shells for it.
    NotRun {
        /// The component it is about.
        object: String,
        /// Why.
        reason: String,
        /// [`EXIT_NOT_EXECUTABLE`] or [`EXIT_NOT_FOUND`].
        code: u8,
    },
    /// Trying again may help: busy, short of something, timed out.
    Busy {
        /// The component, file or address it is about.
        object: String,
        /// Why, and the way out where there is one.
        reason: String,
    },
    /// The answer is no: not running, not healthy.
    No {
        /// The component it is about.
        object: String,
        /// Why.
        reason: String,
    },
    /// A system call failed.
    Os {
        /// The verb: `open`, `bind`, `rename`.
        action: &'static str,
        /// What it was done to.
        object: String,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Error {
    /// A final refusal about `object`.
    pub fn refused(object: impl fmt::Display, reason: impl Into<String>) -> Error {
        Error::Refused { object: object.to_string(), reason: reason.into() }
    }

    /// A failure about `object` that may pass.
    pub fn busy(object: impl fmt::Display, reason: impl Into<String>) -> Error {
        Error::Busy { object: object.to_string(), reason: reason.into() }
    }

    /// A plain "no" about `object`.
    pub fn no(object: impl fmt::Display, reason: impl Into<String>) -> Error {
        Error::No { object: object.to_string(), reason: reason.into() }
    }

    /// For `map_err`: a system call `action` on `object` failed.
    pub fn os<E: Into<io::Error>>(action: &'static str, object: impl fmt::Display) -> impl FnOnce(E) -> Error {
        let object = object.to_string();
        move |e| Error::Os { action, object, source: e.into() }
    }

    /// For `map_err`: a system call `action` on `path` failed.
    pub fn path<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> Error {
        Error::os(action, path.display())
    }

    /// The same error about what `name` makes of its object.
    pub fn map_object(self, name: impl FnOnce(String) -> String) -> Error {
        match self {
            Error::Refused { object, reason } => Error::Refused { object: name(object), reason },
            Error::Busy { object, reason } => Error::Busy { object: name(object), reason },
            Error::Os { action, object, source } => Error::Os { action, object: name(object), source },
            other => other,
        }
    }

    /// The exit code that stands for this kind of failure.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Usage { .. } => EXIT_USAGE,
            Error::Definitions { .. } | Error::Refused { .. } => EXIT_FINAL,
            Error::NotRun { code, .. } => *code,
            Error::Busy { .. } => EXIT_RETRY,
            Error::No { .. } => EXIT_NO,
            Error::Os { source, .. } => match source.raw_os_error() {
                Some(
                    libc::ENOSPC
                    | libc::EDQUOT
                    | libc::EAGAIN
                    | libc::EBUSY
                    | libc::ENOMEM
                    | libc::EMFILE
                    | libc::ENFILE
                    | libc::EINTR
                    | libc::ETIMEDOUT
                    | libc::ECONNREFUSED
                    | libc::ECONNRESET
                    | libc::EPIPE
                    | libc::EIO,
                ) => EXIT_RETRY,
                None => EXIT_RETRY,
                Some(_) => EXIT_FINAL,
            },
        }
    }
}

/// What the kernel said, without Rust's "(os error N)".
pub fn os_reason(e: &io::Error) -> String {
    match e.raw_os_error() {
        Some(n) => nix::errno::Errno::from_raw(n).desc().to_string(),
        None => e.to_string(),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Usage { what } => f.write_str(what),
            Error::Definitions { problems } => f.write_str(&problems.join("\n")),
            Error::Refused { object, reason }
            | Error::NotRun { object, reason, .. }
            | Error::Busy { object, reason }
            | Error::No { object, reason } => {
                write!(f, "{object}: {reason}")
            }
            Error::Os { action, object, source } => write!(f, "{action} {object}: {}", os_reason(source)),
        }
    }
}

impl std::error::Error for Error {}
