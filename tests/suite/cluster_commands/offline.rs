//! Pacemaker's programs, the crm shell and pcs over this machine's, without a running cluster.

use super::{node, source};
use crate::harness::{Answer, Node, finish, have, program, skip};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The environment of `command` for another program.
pub fn with_environment(command: Command, program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> Command {
    let mut other = Command::new(program);
    other.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => other.env(name, value),
            None => other.env_remove(name),
        };
    }
    other.env_remove("CIB_file");
    other
}

/// Pacemaker's programs over this machine's, in a mount namespace of their own.
pub struct Cluster {
    pub node: Node,
    root: PathBuf,
}

const INSIDE: &str = "
    mount -t overlay o -o lowerdir=$1/usr:$2/usr:/usr /usr
    mount -t overlay o -o lowerdir=$1/etc:$2/etc:/etc /etc
    mount -t tmpfs t /var/log && mkdir -p /var/log/crmsh /var/log/pcs
    mount -t tmpfs t /var/lib && mkdir -p /var/lib/pacemaker/cib /var/lib/pcsd
    shift 2
    exec sh -c \"$1\"";

impl Cluster {
    /// One with the services of `node`; `None`, and a line that says so, where it can't be had.
    pub fn new(test: &str) -> Option<Cluster> {
        if !nix::unistd::geteuid().is_root() {
            skip(test, "a mount namespace wants root");
            return None;
        }
        let root = std::env::var_os("MCP_TEST_CLUSTER").map(|dir| PathBuf::from(dir).join("root"));
        let Some(root) = root.filter(|root| root.join("usr/sbin/crm_simulate").is_file()) else {
            skip(test, "no Pacemaker: set MCP_TEST_CLUSTER");
            return None;
        };
        if !have(test, "unshare") {
            return None;
        }
        let cluster = Cluster { node: node(), root };
        let agents = cluster.own().join("usr/lib/ocf/resource.d/mcp");
        fs::create_dir_all(&agents).unwrap();
        fs::copy(source("scripts/ocf/component"), agents.join("component")).unwrap();
        fs::create_dir_all(cluster.own().join("etc")).unwrap();
        for (file, line) in [("passwd", "hacluster:x:190:190::/:/usr/sbin/nologin"), ("group", "haclient:x:190:")] {
            let text = fs::read_to_string(Path::new("/etc").join(file)).unwrap();
            fs::write(cluster.own().join("etc").join(file), format!("{text}{line}\n")).unwrap();
        }
        Some(cluster)
    }

    fn own(&self) -> PathBuf {
        self.node.root.join("inside")
    }

    /// The file of a configuration.
    pub fn cib(&self, name: &str) -> PathBuf {
        self.node.root.join(format!("{name}.xml"))
    }

    /// What the configuration says.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.cib(name)).unwrap()
    }

    /// A configuration with three nodes and nothing else.
    pub fn begin(&self, name: &str) {
        let nodes =
            "<nodes><node id=\"1\" uname=\"n1\"/><node id=\"2\" uname=\"n2\"/><node id=\"3\" uname=\"n3\"/></nodes>";
        let set = "<cluster_property_set id=\"cib-bootstrap-options\"><nvpair id=\"o\" name=\"stonith-enabled\" value=\"false\"/>\
                   </cluster_property_set>";
        let text = self.sh("", "cibadmin --empty").expect(0).out;
        let text = text.replace("<cib ", "<cib have-quorum=\"1\" ").replace("<nodes/>", nodes);
        fs::write(self.cib(name), text.replace("<crm_config/>", &format!("<crm_config>{set}</crm_config>"))).unwrap();
    }

    /// A command where the cluster's configuration is `name`; none where that is empty.
    pub fn command(&self, name: &str, script: &str) -> Command {
        let args = ["--mount", "--propagation", "private", "sh", "-ec", INSIDE, "sh"];
        let mut command = with_environment(self.node.command("mcp-units", &[]), "unshare", &args);
        command.arg(self.own()).arg(&self.root).arg(script);
        let bin = program("mcp-units").parent().unwrap().display().to_string();
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{bin}:{path}:/usr/sbin:/sbin", source("scripts").display()));
        if !name.is_empty() {
            command.env("CIB_file", self.cib(name));
        }
        command
    }

    /// Runs `script` where the cluster's configuration is `name`.
    pub fn sh(&self, name: &str, script: &str) -> Answer {
        finish(self.command(name, script), script)
    }

    /// A part that is not always there.
    pub fn lacks(&self, test: &str, program: &str) -> bool {
        let lacks = !self.root.join("usr/sbin").join(program).is_file();
        if lacks {
            skip(test, &format!("no {program} in MCP_TEST_CLUSTER"));
        }
        lacks
    }
}

/// Of all nodes, each in another way.
pub const SIZES: &str = "--node n1=1G --node n2=2048M --node n3=1.5G";

/// What a configuration says, whoever wrote it: identifiers of what nobody names are left out.
pub fn meaning(xml: &str) -> String {
    let from = xml.find("<configuration").unwrap();
    let to = xml.find("</configuration>").unwrap();
    let mut stack: Vec<(String, Vec<String>)> = vec![(String::new(), Vec::new())];
    for tag in xml[from..to].split('<').filter(|t| !t.trim().is_empty()).skip(1) {
        let tag = tag.trim_end().trim_end_matches('>');
        if !tag.starts_with('/') {
            let text = tag.trim_end_matches('/');
            let (name, rest) = text.split_once(' ').unwrap_or((text, ""));
            let named = ["primitive", "node", "resource_ref"].contains(&name) || name.starts_with("rsc_");
            let mut attributes: Vec<&str> = rest.split("\" ").map(|a| a.trim_end_matches('"')).collect();
            // pcs writes the default out where Pacemaker is 3.
            attributes.retain(|a| (named || !a.starts_with("id=")) && *a != "boolean-op=\"and");
            attributes.sort_unstable();
            let line = format!("{name} {}", attributes.join(" "))
                .replace("interval=\"0", "interval=\"0s")
                .replace("0ss", "0s");
            stack.push((line, Vec::new()));
        }
        if tag.starts_with('/') || tag.ends_with('/') {
            let (name, mut inside) = stack.pop().unwrap();
            if !name.starts_with("rsc_order") {
                inside.sort();
            }
            let inside: String = inside.concat().lines().map(|l| format!("  {l}\n")).collect();
            stack.last_mut().unwrap().1.push(format!("{name}\n{inside}"));
        }
    }
    let (_, mut all) = stack.pop().unwrap();
    all.sort();
    all.concat()
}
