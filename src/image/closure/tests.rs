//! Whole closures of small images made here.
#![allow(clippy::unwrap_used)]

mod commands;
mod extras;
mod headers;
mod hostile;
mod layout;
mod make;
mod musl;
mod searches;

use super::memory::Memory;
use super::{Closure, Request, Stop, What, settle};
use crate::image::oci::RunConfig;

/// What runs with these words.
fn request(words: &[&str]) -> Request {
    let run = RunConfig { entrypoint: words.iter().map(|w| w.to_string()).collect(), ..RunConfig::default() };
    Request { run, args: None, include: Vec::new() }
}

#[track_caller]
fn closed(files: &Memory, request: &Request) -> Closure {
    match settle(files, request) {
        Ok(closure) => closure,
        Err(Stop::Below) => panic!("a layer below is wanted"),
        Err(Stop::Failed(e)) => panic!("{e}"),
    }
}

#[track_caller]
fn refused(files: &Memory, request: &Request) -> String {
    match settle(files, request) {
        Ok(closure) => panic!("{closure:?}"),
        Err(Stop::Below) => panic!("a layer below is wanted"),
        Err(Stop::Failed(e)) => {
            assert_eq!(e.exit_code(), 100, "{e}");
            let text = e.to_string();
            assert!(text.len() < 4096 && !text.contains('\n'), "{text}");
            text
        }
    }
}

/// Each entry as a word: `/path`, `/path/` for a directory, `/path -> target` for a link. Directories that every closure
/// has are left out, but for `/tmp`.
fn paths(closure: &Closure) -> Vec<String> {
    let standard = |path: &str| path == "/var" || path != "/tmp" && super::extras::STANDARD.contains(&path);
    let word = |t: &super::Taken| match &t.what {
        What::Directory => format!("{}/", t.path),
        What::Symlink(to) => format!("{} -> {to}", t.path),
        What::File(..) => t.path.clone(),
    };
    closure.entries.iter().filter(|t| !standard(&t.path)).map(word).collect()
}
