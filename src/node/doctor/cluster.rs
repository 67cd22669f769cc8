//! What the cluster needs of this node, for what it may put here: Pacemaker's programs, the resource agent, and all that each
//! component's start wants.

use super::{Finding, Grade, Patient};
use crate::node::installed;
use crate::node::resolve::Resolved;
use crate::sys::tool;
use nix::unistd::{AccessFlags, access};
use std::path::PathBuf;

/// Where Debian's Pacemaker looks for agents, unless OCF_ROOT says otherwise.
const OCF_ROOT: &str = "/usr/lib/ocf";
/// Its programs, and the packages that have them.
const PROGRAMS: [(&str, &str); 2] = [("pacemakerd", "pacemaker"), ("crm_resource", "pacemaker-cli-utils")];

pub(super) fn look(patient: &Patient<'_>) -> Vec<Finding> {
    let services = &patient.loaded.services;
    let placed: Vec<_> = patient.entries.iter().filter(|e| e.is_clusters()).collect();
    if !placed.iter().any(|e| e.declared.is_some_and(|d| d.service.active)) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (name, package) in PROGRAMS {
        found.push(match tool::find(name, package) {
            Ok(path) => Finding::ok("pacemaker", name, path.display().to_string()),
            Err(e) => Finding::of_error("pacemaker", Grade::Fail, &e),
        });
    }
    found.push(agent());
    let Some(paths) = patient.paths else { return found };
    let all = found.len();
    for entry in placed.iter().filter(|e| e.may_come()) {
        let Some(declared) = entry.declared else { continue };
        let resolved = Resolved::declared(entry.id.clone(), declared.service, declared.component);
        if let Err(e) = installed::check(paths, &patient.loaded.node, &resolved) {
            let mut finding = Finding::of_error("placement", Grade::Fail, &e);
            let id = entry.id.to_string();
            if finding.subject != id {
                finding.text += &format!(", so the cluster can't put {id} here");
            }
            found.push(finding);
        }
    }
    if found.len() == all {
        let here = services.iter().filter(|s| s.active && s.placement == crate::model::Placement::Cluster).count();
        let text = format!("{here} services, and all of them could run here");
        found.push(Finding::ok("placement", "placement", text));
    }
    found
}

fn agent() -> Finding {
    let root =
        std::env::var_os("OCF_ROOT").filter(|root| !root.is_empty()).map_or_else(|| OCF_ROOT.into(), PathBuf::from);
    let agent = root.join("resource.d/mcp/component");
    if access(&agent, AccessFlags::X_OK).is_ok() && agent.is_file() {
        return Finding::ok("resource-agent", "resource agent", agent.display().to_string());
    }
    let text = format!("{} is not there, and Pacemaker starts services by it", agent.display());
    let way = "install mcp's package, or link PREFIX/lib/ocf/resource.d/mcp there";
    Finding::new("resource-agent", Grade::Fail, "resource agent", text).way_out(way)
}
