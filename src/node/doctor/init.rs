//! Who brings the node up: the init that runs, and what `[boot]` says of it.

use super::{Finding, Patient};
use crate::model::Init;
use crate::sys::file;
use std::path::Path;

pub(super) fn look(patient: &Patient<'_>) -> Vec<Finding> {
    let node = &patient.loaded.node;
    let runs = running();
    let named = runs.map_or_else(|| format!("PID 1 is {}", pid_1()), |init| format!("{} runs", init.name()));
    let mut found = Vec::new();
    match node.init {
        None if node.start_command.is_some() => {
            found.push(Finding::ok("init", "init", format!("{named}; start_command is set")))
        }
        None => {
            let text = format!("{named}; mcp.toml names none, so components run detached, and no reboot starts them");
            let init = runs.map_or("INIT", Init::name);
            let way = format!("init = \"{init}\" under [boot] in mcp.toml, then mcp-units");
            found.push(Finding::note("init", "init", text).way_out(way));
        }
        // The others need not be PID 1.
        Some(Init::Systemd) if runs != Some(Init::Systemd) => {
            let text = format!("mcp.toml says systemd, and {named}");
            found.push(Finding::fail("init", "init", text).way_out("name the init that runs under [boot] in mcp.toml"));
        }
        Some(init) => found.push(Finding::ok("init", "init", format!("{named}; mcp.toml says {}", init.name()))),
    }
    for (key, words) in [("start_command", &node.start_command), ("stop_command", &node.stop_command)] {
        let Some(program) = words.as_ref().and_then(|words| words.first()) else { continue };
        if !is_there(program) {
            let text = format!("{program}: no such program");
            let way = format!("install it, or name another {key} under [boot] in mcp.toml");
            found.push(Finding::fail("init-command", key, text).way_out(way));
        }
    }
    if let (Some(init), Some(paths)) = (node.init, patient.paths)
        && !paths.lib.join("units").join(format!("{}.json", init.name())).is_file()
        && !(init == Init::Systemd && has_generator())
    {
        let text = format!("mcp-units has written nothing for {}", init.name());
        found.push(Finding::note("units", "units", text).way_out("run mcp-units, unless you wrote the units yourself"));
    }
    found
}

/// Whether systemd's units came with the package, whose generator needs no mcp-units by hand.
fn has_generator() -> bool {
    let folders = ["/usr/lib/systemd", "/usr/local/lib/systemd", "/lib/systemd", "/etc/systemd"];
    folders.iter().any(|folder| Path::new(folder).join("system-generators/mcp-generator").is_file())
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_program = |p: &Path| nix::unistd::access(p, nix::unistd::AccessFlags::X_OK).is_ok() && p.is_file();
    match program.contains('/') {
        true => is_program(Path::new(program)),
        false => std::env::split_paths(&path).any(|dir| is_program(&dir.join(program))),
    }
}

/// The init that runs here, as each tells of itself.
fn running() -> Option<Init> {
    if Path::new("/run/systemd/system").is_dir() {
        return Some(Init::Systemd);
    }
    match pid_1().as_str() {
        "s6-svscan" => Some(Init::S6),
        "runit" | "runsvdir" => Some(Init::Runit),
        "dinit" => Some(Init::Dinit),
        // What OpenRC's own init is called; with another one it keeps its state here.
        "openrc-init" => Some(Init::Openrc),
        _ if Path::new("/run/openrc/softlevel").exists() => Some(Init::Openrc),
        _ => None,
    }
}

fn pid_1() -> String {
    let name = file::read_bounded(Path::new("/proc/1/comm"), 64).ok().flatten().unwrap_or_default();
    let name = String::from_utf8_lossy(&name).trim().escape_default().to_string();
    if name.is_empty() { "not known".into() } else { name }
}
