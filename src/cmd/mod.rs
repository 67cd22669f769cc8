//! The programs: one file each, with its arguments and its `run`.

pub mod boot;
pub mod build;
pub mod health;
pub mod logs;
mod nagios;
pub mod pull;
pub mod record;
pub mod rm;
pub mod run;
pub mod run_container;
pub mod run_vm;
pub mod status;
pub mod stop;
mod supervise;
mod ticker;
pub mod units;

use crate::model::{Loaded, Problem, Target};
use crate::sys::error::{EXIT_FINAL, EXIT_NO, EXIT_OK, EXIT_USAGE};
use crate::sys::paths::Paths;
use crate::sys::{Error, Result, out};
use clap::Parser;
use clap::error::ErrorKind;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;

static PROGRAM: OnceLock<&'static str> = OnceLock::new();

/// The name of the running program, for messages.
pub fn program() -> &'static str {
    PROGRAM.get().copied().unwrap_or("mcp")
}

/// What every program takes.
#[derive(Debug, Clone, clap::Args)]
pub struct Common {
    /// Keep all files of mcp under DIR instead of the system's places (also: MCP_ROOT)
    #[arg(long, value_name = "DIR", global = true)]
    pub root: Option<PathBuf>,
}

/// The whole life of a program: logger, arguments, `run`, one line for an error, exit code.
pub fn main<A: Parser>(name: &'static str, run: impl FnOnce(A) -> Result<u8>) -> ExitCode {
    crate::image::worker::main_if_asked();
    let _ = PROGRAM.set(name);
    start_logger(name);
    let args = match A::try_parse() {
        Ok(args) => args,
        Err(e) => return ExitCode::from(usage(name, &e)),
    };
    match run(args) {
        Ok(code) => {
            out::flush();
            ExitCode::from(code)
        }
        Err(e) => {
            report(name, &e);
            ExitCode::from(e.exit_code())
        }
    }
}

/// One line to stderr for each line of the error's text, each with the program's name.
pub fn report(name: &str, error: &crate::sys::Error) {
    for line in error.to_string().lines() {
        // Not eprintln!, which panics when stderr is closed.
        let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{name}: {line}\n"));
    }
}

/// Reports what is wrong with the files that `targets` need, all of them for none; the exit code for that: 1, else 0.
pub fn report_files(loaded: &Loaded, paths: &Paths, targets: &[Target]) -> u8 {
    if targets.is_empty() {
        loaded.notes.iter().for_each(|note| log::warn!("{note}"));
    }
    report_problems(loaded.problems_for(paths, targets).iter().map(Problem::to_string).collect())
}

/// Reports `problems` of files; the exit code for them: 1, or 0 where there are none.
pub fn report_problems(problems: Vec<String>) -> u8 {
    if problems.is_empty() {
        return EXIT_OK;
    }
    report(program(), &Error::Definitions { problems });
    EXIT_NO
}

/// Reports all `errors`; the exit code that stands for them, 0 where there are none.
pub fn report_all(errors: &[crate::sys::Error]) -> u8 {
    for error in errors {
        report(program(), error);
    }
    errors.iter().map(crate::sys::Error::exit_code).fold(EXIT_OK, worse)
}

/// Which of two exit codes counts: what can never be done as it is outranks what may be done later, and that a mere no.
pub fn worse(one: u8, other: u8) -> u8 {
    if one == EXIT_FINAL || other == EXIT_FINAL { EXIT_FINAL } else { one.max(other) }
}

fn start_logger(name: &'static str) {
    use std::io::Write;
    env_logger::Builder::from_env(env_logger::Env::default().filter_or("MCP_LOG", "warn"))
        .format(move |f, record| match record.level() {
            log::Level::Error | log::Level::Warn | log::Level::Info => writeln!(f, "{name}: {}", record.args()),
            level => writeln!(f, "{name}: {}: {}", level.as_str().to_lowercase(), record.args()),
        })
        .target(env_logger::Target::Pipe(Box::new(crate::console::own::Stderr)))
        .init();
    // At "trace" the HTTP library writes down whole requests, with the logins in them.
    log::set_max_level(log::max_level().min(log::LevelFilter::Debug));
}

/// clap's answer in our form: help and version go to stdout with 0, an error is one line with 2.
fn usage(name: &str, error: &clap::Error) -> u8 {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        out::print(format_args!("{error}"));
        out::flush();
        return EXIT_OK;
    }
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let told: Vec<&str> =
        text.lines().take_while(|l| !l.starts_with("Usage:")).map(str::trim).filter(|l| !l.is_empty()).collect();
    let line = told.join(" ").replace("For more information, try '--help'.", "");
    let _ = std::io::Write::write_fmt(
        &mut std::io::stderr(),
        format_args!("{name}: {}; see {name} --help\n", line.trim_end()),
    );
    EXIT_USAGE
}
