//! What podman says of containers, laid beside what our own files say: one `podman ps`, however many there are.
//!
//! Whether a container lives is podman's to say; our state has only a hint. Those that nobody declared are entries too:
//! ours by their labels, strangers by their name in podman.

use super::inventory::{self, Entry, Found};
use crate::container::listing::{self, Listed};
use crate::container::storage::{self, Environment};
use crate::container::{Podman, listing::ListedPort};
use crate::model::load::{self, Loaded};
use crate::model::state::{End, EndedBy, Phase, State};
use crate::model::{ComponentId, Port, Protocol, Runtime};
use crate::sys::paths::{Paths, Slot};
use crate::sys::{Deadline, Error, Result, time};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long podman may think about it: it waits for its own locks while something is pulled or started.
const PATIENCE: Duration = Duration::from_secs(10);
/// Published ports of one container that are shown; a range may have thousands.
const PORTS_MAX: usize = 64;

/// What podman says of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its own words.
    pub listed: Listed,
    /// The published ports among them.
    pub ports: Vec<Port>,
    /// How its last run ended, when it doesn't run and did since the node booted.
    pub end: Option<End>,
}

/// Podman's answer.
#[derive(Debug)]
pub struct Answer {
    /// All containers, ours and others.
    pub listed: Result<Vec<Listed>>,
    /// Whether there is a podman at all.
    pub installed: bool,
    /// Just before it was asked.
    pub at: SystemTime,
}

/// Asks podman. Which one it is stands in the node config.
pub fn ask(paths: &Paths) -> Answer {
    let at = SystemTime::now();
    let (node, _) = load::load_node(paths);
    match Podman::find(&node) {
        Ok(podman) => Answer { listed: listing::list_by(&podman, Deadline::after(PATIENCE)), installed: true, at },
        Err(e) => Answer { listed: Err(e), installed: false, at },
    }
}

/// A question that may be under way while files are read.
pub struct Question {
    paths: Paths,
    thread: Option<JoinHandle<Answer>>,
    /// Whether containers that nobody declared are looked for as well.
    strangers: bool,
}

impl Question {
    /// Asks podman at once where `strangers` are wanted and its storage may list any. Else it is asked only if it turns
    /// out that a component is a container.
    pub fn begin(paths: &Paths, strangers: bool) -> Question {
        let strangers = strangers && storage::may_have_containers(&Environment::ours());
        let own = paths.clone();
        let thread = if strangers { std::thread::Builder::new().spawn(move || ask(&own)).ok() } else { None };
        Question { paths: paths.clone(), thread, strangers }
    }

    /// The answer; `None`: there was nothing to ask about. `missed`: something is looked for that is not in `entries`.
    pub fn answer(self, entries: &[Entry<'_>], missed: bool) -> Option<Answer> {
        let may_be = || storage::may_have_containers(&Environment::ours());
        let wanted = self.strangers || entries.iter().any(is_container) || missed && may_be();
        match self.thread {
            Some(thread) => Some(thread.join().unwrap_or_else(|_| Answer {
                listed: Err(Error::busy("podman", "could not be asked")),
                installed: true,
                at: SystemTime::now(),
            })),
            None if wanted => Some(ask(&self.paths)),
            None => None,
        }
    }

    /// The components that podman has containers of, by their labels, each with the one that counts: a running one, else
    /// the newest. None where there can't be any.
    pub fn ours(self) -> Result<BTreeMap<ComponentId, Listed>> {
        let paths = self.paths.clone();
        let listed = match self.answer(&[], false) {
            Some(Answer { listed: Err(e), installed: true, .. }) => return Err(e),
            answer => answer.and_then(|a| a.listed.ok()).unwrap_or_default(),
        };
        let mut own: Vec<_> = listed.into_iter().filter_map(|l| Some((l.of(&paths)?, l))).collect();
        own.sort_by_key(|(_, l)| (l.is_running(), l.created.max(l.started_at)));
        Ok(own.into_iter().collect())
    }
}

/// Whether only podman can tell all of it.
fn is_container(entry: &Entry<'_>) -> bool {
    let recorded = entry.record.get().and_then(|r| r.spec());
    let mut specs = entry.declared.map(|d| d.component).into_iter().chain(recorded);
    entry.slot == Some(Slot::C) || entry.lives_in(Slot::C) || specs.any(|s| s.runtime == Runtime::Container)
}

/// Lays `answer` beside `entries`; containers of ours without an entry get one, and with `strangers` those of others,
/// which come last. Where podman could not be asked, components that are containers are marked as not seen; the error is
/// what is to be said of that.
pub fn merge<'a>(
    entries: &mut Vec<Entry<'a>>,
    paths: &Paths,
    loaded: &'a Loaded,
    answer: Answer,
    strangers: bool,
) -> Option<Error> {
    let listed = match answer.listed {
        Ok(listed) => listed,
        Err(e) => {
            let mut any = false;
            for entry in entries.iter_mut().filter(|e| is_container(e)) {
                any = true;
                entry.unseen = true;
                entry.set_lives_in(Slot::C, false);
            }
            // Without a podman, and without a container of ours, nothing is missing.
            return (any || answer.installed).then_some(e);
        }
    };
    let mut ours: BTreeMap<ComponentId, Vec<Listed>> = BTreeMap::new();
    let mut others = Vec::new();
    for container in listed.into_iter().filter(|l| !l.is_infra) {
        match container.of(paths) {
            Some(id) => ours.entry(id).or_default().push(container),
            // Another mcp's: that one sees to it.
            None if container.labels.get(listing::ROOT).is_some_and(|r| *r != listing::root_label(paths)) => {}
            None => others.push(container),
        }
    }
    for entry in entries.iter_mut() {
        others.extend(fill(paths, entry, ours.remove(&entry.id).unwrap_or_default(), answer.at));
    }
    for (id, found) in ours {
        let mut entry = Entry::new(id);
        entry.broken = loaded.broken.binary_search(&entry.id.service).is_ok();
        inventory::look(paths, &mut entry);
        others.extend(fill(paths, &mut entry, found, answer.at));
        entries.push(entry);
    }
    entries.sort_by(|a, b| a.id.cmp(&b.id));
    if strangers {
        others.retain(|l| !loaded.node.ignores(l.name()));
        others.sort_by(|a, b| a.name().cmp(b.name()));
        entries.extend(others.into_iter().map(stranger));
    }
    None
}

/// A container that is no component.
fn stranger<'a>(listed: Listed) -> Entry<'a> {
    let mut entry = Entry::new(ComponentId { service: String::new(), component: listed.name().to_string() });
    entry.foreign = true;
    entry.set_lives_in(Slot::C, listed.is_running());
    entry.container = Some(Seen::of(listed));
    entry
}

/// Gives `entry` the one of `found`, its containers, that counts: a running one, of these the one that we have written
/// down, else the newest. The others that run are given back: a component has one.
fn fill(paths: &Paths, entry: &mut Entry<'_>, mut found: Vec<Listed>, at: SystemTime) -> Vec<Listed> {
    let hinted = entry.lives_in(Slot::C);
    let state = entry.state.get().filter(|_| entry.slot == Some(Slot::C));
    let known = state.map(|s| s.uuid.clone());
    // Times in files have milliseconds.
    let since = |text: &String| time::parse(text).is_some_and(|t| t + Duration::from_millis(1) >= at);
    let over = |s: &State| matches!(s.phase, Phase::Ended | Phase::Waiting);
    // What we wrote down after podman was asked is newer than its answer.
    let ended_since = state.is_some_and(|s| over(s) && s.end.as_ref().is_some_and(|e| since(&e.at)));
    let began_since = hinted && state.is_some_and(|s| since(&s.started_at));
    found.sort_by_key(|l| Reverse((l.is_running(), known.as_ref() == Some(&l.id), l.created.max(l.started_at))));
    let mut found = found.into_iter();
    let counts = found.next();
    let runs = counts.as_ref().is_some_and(Listed::is_running);
    let is_known = counts.as_ref().map(|l| &l.id) == known.as_ref();
    let lives = if runs { !(ended_since && is_known) } else { began_since };
    entry.set_lives_in(Slot::C, lives);
    entry.container = counts.map(Seen::of);
    if lives && entry.slot != Some(Slot::C) && !Slot::VMS.into_iter().any(|slot| entry.lives_in(slot)) {
        let instance = paths.component(&entry.id.service, &entry.id.component).instance(Slot::C);
        entry.slot = Some(Slot::C);
        if entry.state.damage().is_none() {
            entry.state = Found::from_read(State::read(&instance));
        }
    }
    found.filter(Listed::is_running).collect()
}

impl Seen {
    fn of(listed: Listed) -> Seen {
        let ports = listed.ports.iter().flat_map(published).take(PORTS_MAX).collect();
        let end = (!listed.is_running() && listed.exited_at > 0).then(|| end(&listed)).flatten();
        Seen { ports, end, listed }
    }

    /// Since when it runs, or when it did.
    pub fn started(&self) -> Option<SystemTime> {
        unix(self.listed.started_at)
    }
}

fn end(listed: &Listed) -> Option<End> {
    let at = unix(listed.exited_at).filter(|at| booted().is_none_or(|boot| *at >= boot))?;
    Some(End {
        at: time::rfc3339(at),
        by: EndedBy::Unknown,
        code: u8::try_from(listed.exit_code).ok(),
        signal: None,
        rung: None,
        reason: "as podman tells it".into(),
        console: Vec::new(),
    })
}

/// When the node booted, by its clock of now.
fn booted() -> Option<SystemTime> {
    let up = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).ok()?;
    SystemTime::now().checked_sub(Duration::from(up))
}

fn unix(seconds: i64) -> Option<SystemTime> {
    // Podman's "never" is the year 1. A file's time has four digits for the year.
    const LAST: u64 = 253_402_300_799;
    let seconds = u64::try_from(seconds).ok().filter(|s| (1..=LAST).contains(s))?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// The ports that one published range has.
fn published(range: &ListedPort) -> impl Iterator<Item = Port> {
    let bind = match range.host_ip.as_str() {
        "" => Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        text => text.parse().ok(),
    };
    let protocol = match range.protocol.as_str() {
        "tcp" | "" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        _ => None,
    };
    let (host, guest) = (range.host_port, range.container_port);
    let count = range.range.clamp(1, PORTS_MAX as u16);
    bind.zip(protocol).into_iter().flat_map(move |(bind, protocol)| {
        (0..count)
            .map_while(move |n| Some(Port { bind, host: host.checked_add(n)?, guest: guest.checked_add(n)?, protocol }))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "containers/tests.rs"]
mod tests;
