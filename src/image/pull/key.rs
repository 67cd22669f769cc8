//! The names that a pull goes by in the store.

use crate::image::oci::RunConfig;
use crate::model::{Component, Digest, Runtime};
use serde::Serialize;

/// The form of what a pull makes. One more makes all nodes pull anew: when the closure takes other files along, or
/// `rootfs/` is laid down in another way.
const FORM: u32 = 2;

/// What is asked of an image, beside which image it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Request {
    /// For which runtime: unikernel or microvm.
    pub runtime: Runtime,
    /// What replaces its Entrypoint, and then its Cmd. As the next two, a microvm gets it at its start.
    pub entrypoint: Option<Vec<String>>,
    /// What replaces its WorkingDir.
    pub workdir: Option<String>,
    /// What replaces its Cmd. A microvm gets it at its start, so it makes no difference there.
    pub args: Option<Vec<String>>,
    /// Further paths to take along, for a unikernel.
    pub include: Vec<String>,
}

impl Request {
    /// `runtime` with nothing more said.
    pub fn new(runtime: Runtime) -> Request {
        Request { runtime, entrypoint: None, workdir: None, args: None, include: Vec::new() }
    }

    /// What a definition asks of its image.
    pub fn of(component: &Component) -> Request {
        let Component { runtime, entrypoint, workdir, args, include, .. } = component.clone();
        Request { runtime, entrypoint, workdir, args, include }
    }

    /// What a unikernel of an image that says `run` runs.
    pub(super) fn run(&self, run: &RunConfig) -> RunConfig {
        let mut run = run.clone();
        if self.runtime != Runtime::Unikernel {
            return run;
        }
        if let Some(words) = &self.entrypoint {
            run.entrypoint.clone_from(words);
            if !words.is_empty() {
                run.cmd.clear();
            }
        }
        if let Some(workdir) = &self.workdir {
            run.workdir.clone_from(workdir);
        }
        run
    }

    /// The name of the directory in `images/`.
    pub(super) fn key(&self, manifest: &Digest) -> String {
        self.digest("image", &manifest.to_string()).hex()
    }

    /// The name under which it is noted what `reference` was pulled as.
    pub(super) fn name(&self, reference: &str) -> Digest {
        self.digest("reference", reference)
    }

    fn digest(&self, kind: &str, what: &str) -> Digest {
        let said = match self.runtime {
            // As it was before the two keys came, so that what was pulled then is found.
            Runtime::Unikernel if self.entrypoint.is_none() && self.workdir.is_none() => {
                serde_json::to_string(&(&self.args, &self.include)).unwrap_or_default()
            }
            Runtime::Unikernel => serde_json::to_string(self).unwrap_or_default(),
            Runtime::Microvm | Runtime::Container => String::new(),
        };
        Digest::of(format!("{kind} {FORM}\n{what}\n{:?}\n{said}\n", self.runtime).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_a_difference_makes_another_key() {
        let manifest = Digest::of(b"m");
        let plain = Request::new(Runtime::Unikernel);
        let args = Request { args: Some(vec!["a".into()]), ..plain.clone() };
        let none = Request { args: Some(Vec::new()), ..plain.clone() };
        let include = Request { include: vec!["a".into()], ..plain.clone() };
        let entrypoint = Request { entrypoint: Some(Vec::new()), ..plain.clone() };
        let workdir = Request { workdir: Some("/".into()), ..plain.clone() };
        let micro = Request::new(Runtime::Microvm);
        let all = [&plain, &args, &none, &include, &entrypoint, &workdir, &micro];
        let mut keys: Vec<String> = all.map(|r| r.key(&manifest)).to_vec();
        keys.push(plain.key(&Digest::of(b"n")));
        keys.push(plain.name(&manifest.to_string()).hex());
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 9);
        assert_eq!(Request { args: Some(vec!["a".into()]), ..micro.clone() }.key(&manifest), micro.key(&manifest));
    }
}
