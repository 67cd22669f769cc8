//! The node's services as files of its init system: what they are (`plan`), what each init's files say (a file an init),
//! how they get to their place (`write`), and the same as lines for scripts (`lines`).

mod dinit;
pub mod lines;
mod openrc;
pub mod plan;
mod runit;
mod s6;
mod s6_rc;
mod systemd;
mod words;
pub mod write;

use self::plan::Plan;
use crate::model::Init;
use std::path::PathBuf;

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A file with this text and these permission bits.
    Text(String, u32),
    /// A symbolic link that leads there.
    Link(PathBuf),
}

/// One file of an init's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitFile {
    /// Below the folder that they all go to.
    pub path: PathBuf,
    /// What stands there.
    pub content: Content,
}

impl UnitFile {
    /// A file that is read.
    pub fn text(path: impl Into<PathBuf>, text: impl Into<String>) -> UnitFile {
        UnitFile { path: path.into(), content: Content::Text(text.into(), 0o644) }
    }

    /// A file that is executed.
    pub fn script(path: impl Into<PathBuf>, text: impl Into<String>) -> UnitFile {
        UnitFile { path: path.into(), content: Content::Text(text.into(), 0o755) }
    }

    /// A symbolic link.
    pub fn link(path: impl Into<PathBuf>, to: impl Into<PathBuf>) -> UnitFile {
        UnitFile { path: path.into(), content: Content::Link(to.into()) }
    }
}

/// What `init` needs for the node of `plan`: the files, in the order of their paths.
pub fn files(init: Init, plan: &Plan) -> Vec<UnitFile> {
    let mut files = match init {
        Init::Systemd => systemd::files(plan),
        Init::S6 => s6::files(plan),
        Init::S6Rc => s6_rc::files(plan),
        Init::Runit => runit::files(plan),
        Init::Openrc => openrc::files(plan),
        Init::Dinit => dinit::files(plan),
    };
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// What systemd's generator makes for the node of `plan`: what is this node's alone.
pub fn generated(plan: &Plan) -> Vec<UnitFile> {
    systemd::of_the_node(plan)
}

/// The folder that they go to when nobody says so.
pub fn folder(init: Init) -> PathBuf {
    match init {
        Init::Systemd => systemd::FOLDER,
        Init::S6 => s6::FOLDER,
        Init::S6Rc => s6_rc::FOLDER,
        Init::Runit => runit::FOLDER,
        Init::Openrc => openrc::FOLDER,
        Init::Dinit => dinit::FOLDER,
    }
    .into()
}

/// What a person does next, so that the init knows of them: lines for the terminal, in which `{dest}` is the folder.
pub fn next_steps(init: Init) -> &'static str {
    match init {
        Init::Systemd => systemd::NEXT,
        Init::S6 => s6::NEXT,
        Init::S6Rc => s6_rc::NEXT,
        Init::Runit => runit::NEXT,
        Init::Openrc => openrc::NEXT,
        Init::Dinit => dinit::NEXT,
    }
}
