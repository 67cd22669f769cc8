//! Everything known of one component, for people.

use super::row::{Row, age, clean, ending};
use crate::model::state::{EndedBy, State};
use crate::model::{Source, Version, Wish, duration};
use crate::node::{Remote, Verdict};
use crate::sys::paths::{Paths, Slot};

/// Lines of a name, a colon and a value.
struct Sheet(String);

impl Sheet {
    fn say(&mut self, name: &str, value: impl AsRef<str>) {
        let label = format!("{name}:");
        self.0.push_str(&format!("  {label:<14}{}\n", clean(value.as_ref())));
    }

    fn maybe(&mut self, name: &str, value: Option<impl AsRef<str>>) {
        if let Some(value) = value {
            self.say(name, value);
        }
    }

    fn list<'a>(&mut self, name: &str, values: impl IntoIterator<Item = &'a String>) {
        let mut values = values.into_iter().peekable();
        if values.peek().is_some() {
            self.0.push_str(&format!("  {name}:\n"));
        }
        for value in values {
            self.0.push_str(&format!("    {}\n", clean(value)));
        }
    }
}

/// The sheet of one component. Values of its environment stay out of it: they may be secrets.
pub fn sheet(paths: &Paths, row: &Row<'_>) -> String {
    let entry = &row.entry;
    let mut sheet = Sheet(format!("{}\n", entry.name()));
    sheet.say("state", row.state());
    sheet.say("wanted", wanted(row));
    sheet.maybe("placement", entry.declared.map(|d| d.service.placement.name()));
    if row.drift.is_empty() {
        sheet.say("drift", "none");
    } else {
        sheet.say("drift", row.drift_names());
    }
    sheet.maybe("record", entry.record.damage());
    sheet.maybe("damage", entry.state.damage());
    health(&mut sheet, row);
    specification(&mut sheet, row);
    versions(&mut sheet, row);
    if let Some(state) = entry.state.get() {
        instance(&mut sheet, row, state);
    }
    container(&mut sheet, row);
    if !entry.foreign {
        files(&mut sheet, paths, row);
    }
    if let Some(state) = entry.state.get() {
        let events: Vec<String> = state.events.iter().map(|e| format!("{} {}", e.at, e.kind)).collect();
        sheet.list("events", &events);
        sheet.list("argv", &state.argv);
    }
    sheet.0
}

fn health(sheet: &mut Sheet, row: &Row<'_>) {
    let (Some(health), Some(words)) = (&row.health, row.health()) else { return };
    match &health.verdict {
        Verdict::Unhealthy(why) | Verdict::Unknown(why) => sheet.say("health", format!("{words}: {why}")),
        _ => sheet.say("health", words),
    }
    sheet.maybe("so since", health.since.as_ref());
}

/// What podman says of it.
fn container(sheet: &mut Sheet, row: &Row<'_>) {
    let entry = &row.entry;
    let Some(seen) = &entry.container else { return };
    let listed = &seen.listed;
    sheet.say("container", format!("{} {} ({})", listed.name(), listed.id, listed.state));
    sheet.say("its image", format!("{} {}", listed.image, listed.image_id));
    sheet.maybe("its record", listed.record());
    if entry.is_alive() {
        sheet.say("its pid", listed.pid.to_string());
    }
    if entry.state.get().is_none() {
        if entry.foreign {
            row.ports().iter().for_each(|p| sheet.say("port", p.forwarding()));
        }
        let ago = row.uptime.map(|u| format!("{} ago", age(u)));
        sheet.maybe("started", ago);
        ended(sheet, row);
    }
}

fn wanted(row: &Row<'_>) -> String {
    let entry = &row.entry;
    let why = match (entry.declared, entry.wish()) {
        _ if entry.foreign => "no component",
        _ if entry.broken => "its definition can't be read",
        (Some(d), _) if !d.service.active => "declared inactive",
        _ if entry.may_come() => "placed by the cluster, and not here now",
        _ if entry.record.damage().is_some() => "its record can't be read",
        (_, Some(Wish::Stop)) => "stopped by an operator",
        _ if entry.is_clusters() => "placed here by the cluster",
        (Some(_), _) => "declared active",
        (None, _) if entry.is_adhoc() => "ad hoc",
        (None, _) => "not declared",
    };
    let answer = match entry.wanted() {
        Some(true) => "yes",
        Some(false) => "no",
        None => "unknown",
    };
    format!("{answer} ({why})")
}

fn specification(sheet: &mut Sheet, row: &Row<'_>) {
    let Some(spec) = row.entry.spec() else { return };
    sheet.maybe("runtime", row.runtime());
    match &spec.source {
        Source::Image { reference } => sheet.say("image", reference),
        Source::Disk { disk, kernel } => {
            sheet.say("disk", disk.to_string_lossy());
            sheet.maybe("kernel", kernel.as_ref().map(|k| k.to_string_lossy()));
        }
        Source::Kernel { kernel, initrd, cmdline } => {
            sheet.say("kernel", kernel.to_string_lossy());
            sheet.maybe("initrd", initrd.as_ref().map(|i| i.to_string_lossy()));
            sheet.maybe("cmdline", cmdline.as_ref());
        }
        Source::Rootfs { rootfs } => sheet.say("rootfs", rootfs.to_string_lossy()),
        Source::Built { built } => sheet.say("build", built.to_string_lossy()),
    }
    if spec.is_vm() {
        sheet.say("memory", format!("{} MiB", spec.memory_mb));
        sheet.say("vcpus", spec.vcpus.to_string());
    }
    for p in row.ports() {
        sheet.say("port", p.forwarding());
    }
    sheet.list("args", spec.args.iter().flatten());
    let names: Vec<&str> = spec.env.keys().map(String::as_str).collect();
    if !names.is_empty() {
        sheet.say("env", names.join(" "));
    }
    sheet.maybe("env_file", spec.env_file.as_ref().map(|f| f.to_string_lossy()));
    for v in &spec.volumes {
        sheet.say("volume", format!("{} on {}", v.name, v.path));
    }
    sheet.say("stop_timeout", duration::format(spec.stop_timeout));
    sheet.say("settle", duration::format(spec.settle));
    sheet.maybe("declared", row.entry.declared.map(|d| d.component.digest()));
    sheet.maybe("recorded", row.entry.record.get().and_then(|r| r.current.as_ref()).map(Version::digest));
}

/// What was deployed: of the current version all, of the others a line.
fn versions(sheet: &mut Sheet, row: &Row<'_>) {
    let record = row.entry.record.get();
    let of_image = row.entry.declared.is_some_and(|d| matches!(d.component.source, Source::Image { .. }));
    let version = |v: &Version| {
        let name = v.spec.source.name().unwrap_or_default();
        let since = if v.at.is_empty() { String::new() } else { format!(" since {}", v.at) };
        let pin = v.pin.as_ref().map(|p| format!(", {} build {}", p.manifest, p.build)).unwrap_or_default();
        (name, since, pin)
    };
    match record.and_then(|r| r.current.as_ref()) {
        Some(current) => {
            let (name, since, _) = version(current);
            sheet.say("deployed", format!("{name}{since}"));
            if let Some(pin) = &current.pin {
                sheet.say("tagged", pin.tagged.to_string());
                sheet.say("manifest", pin.manifest.to_string());
                sheet.say("build", &pin.build);
            }
        }
        None if of_image => sheet.say("deployed", format!("never deployed: mcp deploy {}", row.entry.id)),
        None => {}
    }
    match &row.remote {
        Some(remote @ Remote::Moved(to)) => sheet.say("remote", format!("{}: it names {to}", remote.name())),
        Some(remote) => sheet.say("remote", remote.name()),
        None => {}
    }
    let previous = record.and_then(|r| r.previous.as_ref());
    for (label, other) in [("on trial", record.and_then(|r| r.trial())), ("previous", previous)] {
        if let Some((name, since, pin)) = other.map(version) {
            sheet.say(label, format!("{name}{since}{pin}"));
        }
    }
}

fn instance(sheet: &mut Sheet, row: &Row<'_>, state: &State) {
    let entry = &row.entry;
    let ago = row.uptime.map(|u| format!(" ({} ago)", age(u))).unwrap_or_default();
    sheet.say(if entry.is_alive() { "running" } else { "last run" }, &state.spec);
    sheet.say("started", format!("{}{ago}", state.started_at));
    sheet.maybe("ready", state.ready_at.as_ref());
    sheet.say("restarts", state.restarts.to_string());
    sheet.maybe("restarted", state.restarted_at.last());
    if entry.is_alive() {
        sheet.say("pid", state.pid.to_string());
    }
    sheet.say("uid", state.uid.to_string());
    sheet.say("uuid", &state.uuid);
    match &state.container {
        Some(_) => sheet.say("podman", &state.qemu),
        None => sheet.say("qemu", format!("{} ({})", state.qemu, state.accel)),
    }
    match (&entry.supervisor, entry.supervised) {
        (Some(holder), true) => sheet.say("supervisor", format!("{} {}", holder.program, holder.pid)),
        (None, true) => sheet.say("supervisor", "yes"),
        (_, false) => sheet.say("supervisor", "none"),
    }
    let living: Vec<_> =
        Slot::ALL.iter().zip(entry.alive).filter(|(_, alive)| *alive).map(|(slot, _)| slot.name()).collect();
    if living.len() > 1 {
        sheet.say("instances", living.join(" "));
    }
    ended(sheet, row);
}

fn ended(sheet: &mut Sheet, row: &Row<'_>) {
    let Some(end) = row.end() else { return };
    let by = match end.by {
        EndedBy::Guest => "the guest",
        EndedBy::Operator => "an operator",
        EndedBy::Mcp => "mcp",
        EndedBy::Unknown => "unknown",
    };
    let how = ending(end).map(|h| format!(", {h}")).unwrap_or_default();
    sheet.say("ended", format!("{} by {by}{how}: {}", end.at, end.reason));
    // How an operator stopped it says it all.
    let stopping = row.entry.state.get().and_then(|state| state.stopping.as_ref());
    sheet.maybe("stopped for", stopping.filter(|_| end.by == EndedBy::Mcp).map(|why| why.to_string()));
    sheet.list("last words", &end.console);
}

fn files(sheet: &mut Sheet, paths: &Paths, row: &Row<'_>) {
    let entry = &row.entry;
    let files = paths.component(&entry.id.service, &entry.id.component);
    sheet.maybe("definition", entry.declared.map(|d| d.service.file.to_string_lossy()));
    sheet.say("record file", files.record.to_string_lossy());
    sheet.say("run", files.run.to_string_lossy());
    sheet.say("log", files.log.to_string_lossy());
    if let Some(slot) = entry.slot.filter(|slot| *slot != Slot::C && entry.lives_in(*slot)) {
        sheet.say("monitor", files.instance(slot).qmp().to_string_lossy());
    }
}
