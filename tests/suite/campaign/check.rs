//! What must hold after each kill.

use super::{Bench, LINES, alive};
use crate::harness::{Node, find, leftovers, wait_for};
use mcp::console::index::{HEADER, RECORD, Record, decode_header};
use mcp::model::state::State;
use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// All VMs that run, of whatever node: process ids and names.
pub fn all_vms() -> Vec<(i32, String)> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let name = |pid: i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0).skip_while(|word| *word != b"-name");
        let name = String::from_utf8_lossy(words.nth(1)?).into_owned();
        alive(pid).then_some((pid, name))
    };
    ids.filter_map(name).collect()
}

/// Process ids of the VMs of component `id`.
pub fn vms(id: &str) -> Vec<i32> {
    all_vms().into_iter().filter(|(_, name)| name == id).map(|(pid, _)| pid).collect()
}

/// All that is read back later is whole.
pub fn whole(node: &Node) -> Result<(), String> {
    for path in find(&node.root.join("run"), &|n| n == "state.json") {
        // The component's link to it may lead nowhere before the first state is written.
        let Ok(text) = fs::read(&path) else { continue };
        serde_json::from_slice::<State>(&text).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    for path in find(&node.root.join("lib/registry"), &|n| n.ends_with(".json")) {
        let text = fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        serde_json::from_slice::<mcp::model::Record>(&text).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    for path in find(&node.root.join("log"), &|n| n.starts_with("console.idx")) {
        index_whole(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(())
}

/// Everything known, for whoever has to find out why.
pub fn describe(node: &Node) -> String {
    let mut text = format!("processes: {:#?}\nfiles:\n", node.processes());
    for dir in ["run", "lib/registry"] {
        for path in find(&node.root.join(dir), &|_| true) {
            let bytes = fs::read(&path).unwrap_or_default();
            let shown: String = String::from_utf8_lossy(&bytes).chars().take(1200).collect();
            text.push_str(&format!("  {}: {shown}\n", path.display()));
        }
    }
    for path in find(&node.root.join("log"), &|n| n == "supervisor.log") {
        let log = fs::read_to_string(&path).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(12).collect();
        text.push_str(&format!("{}:\n", path.display()));
        lines.iter().rev().for_each(|line| text.push_str(&format!("    {line}\n")));
    }
    text
}

impl Bench<'_> {
    pub fn at_most_one(&self) -> Result<(), String> {
        match vms(&self.id) {
            pids if pids.len() > 1 => Err(format!("{} VMs: {pids:?}", pids.len())),
            _ => Ok(()),
        }
    }

    pub fn uuid(&self) -> Result<String, String> {
        let path = self.node.run_dir(&self.id).join("state.json");
        let text = fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        serde_json::from_slice::<State>(&text).map(|s| s.uuid).map_err(|e| format!("{}: {e}", path.display()))
    }

    /// After mcp-stop.
    pub fn nothing_left(&self) -> Result<(), String> {
        let processes = self.node.processes();
        if !processes.is_empty() {
            return Err(format!("processes left after mcp-stop: {processes:#?}"));
        }
        let files = leftovers(&self.node.root);
        if !files.is_empty() {
            return Err(format!("files left after mcp-stop: {files:#?}"));
        }
        let record = self.node.root.join(format!("lib/registry/{}.json", self.id));
        if let Ok(text) = fs::read_to_string(&record)
            && !text.contains("\"wish\": \"stop\"")
        {
            return Err(format!("stopped, but shall run: {text}"));
        }
        let state = self.node.run_dir(&self.id).join("a/state.json");
        if let Ok(text) = fs::read_to_string(&state)
            && serde_json::from_str::<State>(&text).is_ok_and(|s| s.end.is_none())
        {
            return Err(format!("stopped, but no end is written: {text}"));
        }
        TcpListener::bind(("127.0.0.1", self.port)).map(drop).map_err(|e| format!("port {}: {e}", self.port))
    }

    /// Every numbered line of this round once and in order; all of them, unless the VM was stopped meanwhile.
    pub fn lines_whole(&self, prefix: &str, stopped: bool) -> Result<(), String> {
        let start = format!("{prefix} ");
        let last = format!("{start}{LINES:09}\n");
        let all = || wait_for(Duration::from_secs(30), || self.console().contains(&last).then_some(()));
        if !stopped && all().is_none() {
            let tail: Vec<String> = self.console().lines().rev().take(5).map(String::from).collect();
            return Err(format!("the console never has {last:?}; its last lines, backwards: {tail:?}"));
        }
        let text = self.console();
        let mut wanted = 1;
        for line in text.split_inclusive('\n').filter(|l| l.starts_with(&start)) {
            let is = format!("{start}{wanted:09}\n");
            // A guest that was stopped in the middle has a last line without an end.
            if line != is && !(stopped && is.starts_with(line)) {
                return Err(format!("the console has {line:?} where {is:?} is wanted"));
            }
            wanted += 1;
        }
        if !stopped && wanted != LINES + 1 {
            return Err(format!("the console has {} lines, not {LINES}", wanted - 1));
        }
        let told = self.node.mcp("mcp-logs", &["-n", "all", &self.name]);
        let count = told.out.lines().filter(|l| l.starts_with(&start)).count() as u64;
        if count != wanted - 1 {
            return Err(format!("mcp-logs shows {count} lines, the files have {}", wanted - 1));
        }
        Ok(())
    }

    /// The whole console, in order, without what the guest's kernel said in the middle of it.
    fn console(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.console_bytes()).into_owned();
        while let Some(at) = text.find("] en1: assigned") {
            let begin = text[..at].rfind('[').unwrap_or(at);
            let end = text[at..].find('\n').map_or(text.len(), |n| at + n + 1);
            text.replace_range(begin..end, "");
        }
        text
    }

    fn console_bytes(&self) -> Vec<u8> {
        loop {
            let files = self.console_files();
            let bytes = files.iter().flat_map(|(path, _)| fs::read(path).unwrap_or_default()).collect();
            // Else rotated meanwhile, and what was live may have been missed.
            if self.console_files() == files {
                return bytes;
            }
        }
    }

    fn console_files(&self) -> Vec<(PathBuf, u64)> {
        let mut files = find(&self.node.root.join("log"), &|n| n.starts_with("console.log"));
        files.retain(|path| !path.is_symlink());
        // The live one has no number, and is the last.
        files.sort_by_key(|path| (path.extension().is_some_and(|e| e == "log"), path.clone()));
        let with_inode = |path: PathBuf| {
            let inode = path.metadata().map_or(0, |about| about.ino());
            (path, inode)
        };
        files.into_iter().map(with_inode).collect()
    }
}

/// An index is empty, or a header with whole records whose offsets and times never fall.
fn index_whole(path: &Path) -> Result<(), String> {
    let bytes = match fs::read(path) {
        // Rotated since it was listed.
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        read => read.map_err(|e| e.to_string())?,
    };
    let Some((header, records)) = bytes.split_first_chunk::<{ HEADER as usize }>() else {
        // Made, and its writer killed before the header: emptied and begun anew by the next one.
        return if bytes.is_empty() { Ok(()) } else { Err(format!("{} bytes", bytes.len())) };
    };
    decode_header(*header).ok_or("no header")?;
    let whole = records.chunks_exact(RECORD as usize);
    if !whole.remainder().is_empty() {
        return Err(format!("a torn record of {} bytes", whole.remainder().len()));
    }
    let records: Vec<Record> = whole.map(|r| Record::decode(r.try_into().unwrap())).collect();
    match records.windows(2).find(|w| w[0].offset >= w[1].offset || w[0].nanos > w[1].nanos) {
        Some(pair) => Err(format!("out of order: {pair:?}")),
        None => Ok(()),
    }
}
