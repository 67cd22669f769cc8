//! `mcp-record`: what was deployed: show it, put a new version on trial, go back.

use super::Common;
use crate::container::podman::Podman;
use crate::model::{ComponentId, Node, Problem, Record, Runtime, Target, Version, Wish};
use crate::model::{load, state};
use crate::node::resolve::{self, Existing, Resolved};
use crate::node::{Drift, Entry, container_image, drift, inventory, provide, reach, start};
use crate::sys::error::{EXIT_NO, EXIT_OK};
use crate::sys::paths::Paths;
use crate::sys::{Error, Result, listeners, out, time};
use std::time::SystemTime;

/// What `--check` says: the definition is what was deployed.
const CURRENT: &str = "current";
/// Something else was deployed.
const ANOTHER: &str = "another version";

const AFTER_HELP: &str = "\
Examples:
  mcp-record shop/api            what was deployed, and what before
  mcp-record --check shop        is what its definition says what was deployed?
  mcp-record --new shop          what its definition says, pulled and built, is started next
  mcp-record --back shop/api     the version before is started next
  mcp-run --replace shop/api     ... and now

Exit codes: 0 done, or yes; 1 nothing was deployed, no, or a file is bad; 2 usage, 100 failed for good, 111 try again.";

/// Show what was deployed of a component, and choose what is started next
///
/// A version that is started next is on trial: it takes the place of the current one when it is ready, and is forgotten
/// when it isn't. mcp-deploy does all this by itself.
#[derive(Debug, clap::Parser)]
#[command(name = "mcp-record", version, after_help = AFTER_HELP)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Which components: SERVICE or SERVICE/COMPONENT
    #[arg(value_name = "TARGET", required_unless_present = "deployable")]
    targets: Vec<String>,
    /// Start next what the definition says, of the image as it was last pulled and built
    #[arg(long, group = "change")]
    new: bool,
    /// Start next what ran before the current version
    #[arg(long, group = "change")]
    back: bool,
    /// Forget the version on trial
    #[arg(long, group = "change")]
    drop: bool,
    /// Answer whether what the definition says, of the image as it was last pulled and built, is the current version
    #[arg(long, group = "change")]
    check: bool,
    /// Print the services that mcp-deploy may start, one a line, with a note on listeners that their guests can reach; without
    /// TARGET those of all definitions
    #[arg(long, group = "change", conflicts_with = "json")]
    deployable: bool,
    /// With --new or --back: make it current at once, so that nothing leads back by itself
    #[arg(long, conflicts_with_all = ["drop", "check", "deployable"])]
    now: bool,
    /// With --new or --back: what does not run must settle at its next start, also with --now or if it is current already
    #[arg(long, conflicts_with_all = ["drop", "check", "deployable"])]
    settle: bool,
    /// With --now: leave running what is not healthy in time, for somebody to look at, until it is deployed again
    #[arg(long, requires = "now")]
    leave: bool,
    /// Print one JSON object a component
    #[arg(long)]
    json: bool,
}

/// Runs the program and returns its exit code.
pub fn run(args: Args) -> Result<u8> {
    if (args.now || args.settle) && !(args.new || args.back) {
        return Err(Error::Usage { what: "--now and --settle want --new or --back".into() });
    }
    let paths = Paths::find(args.common.root.as_deref())?;
    if args.deployable {
        let targets = args.targets.iter().map(|t| Target::parse(t)).collect::<Result<Vec<_>>>()?;
        return deployable(&paths, &targets);
    }
    let (mut errors, mut answer) = (Vec::new(), EXIT_OK);
    let shows = !(args.new || args.back || args.drop || args.check);
    let mut problems = Vec::new();
    for text in &args.targets {
        let target = Target::parse(text)?;
        if shows {
            // Of these the records tell all.
            let Existing { found, node, problems: bad } = resolve::existing(&paths, Some(&target))?;
            problems.extend(bad.into_iter().filter(|p| !problems.contains(p)).collect::<Vec<_>>());
            errors.extend(found.iter().filter_map(|(id, _)| show(&paths, &node, id, None, args.json).err()));
            continue;
        }
        let (node, found) = resolve::components(&paths, &target)?;
        for one in found {
            let id = one.id.clone();
            if args.check {
                match check(&paths, &node, one).and_then(|word| {
                    show(&paths, &node, &id, Some(("check", word)), args.json)?;
                    Ok(if word == CURRENT { EXIT_OK } else { EXIT_NO })
                }) {
                    Ok(code) => answer = answer.max(code),
                    Err(e) => errors.push(e),
                }
                continue;
            }
            let chosen = match () {
                () if args.new && one.adhoc => Err(Error::refused(&id, "has no definition")),
                () if args.new => provide::version_of(&paths, &node, &id, one.component).map(Some),
                () if args.back => previous(&paths, &node, &id).map(Some),
                () => Ok(None),
            };
            let told = chosen.and_then(|version| match version {
                Some(version) => choose(&paths, &node, &id, version, &args),
                None => drop_trial(&paths, &id),
            });
            let told = told.and_then(|word| show(&paths, &node, &id, word.map(|w| ("change", w)), args.json));
            errors.extend(told.err());
        }
    }
    let answer = answer.max(super::report_problems(problems.iter().map(Problem::to_string).collect()));
    let failed = super::report_all(&errors);
    Ok(if errors.is_empty() { answer } else { failed })
}

/// Prints the services of `targets` that a deploy may start, of all definitions where there is none. One that is named must be
/// defined and active; of all, inactive ones are skipped, and bad ones reported.
fn deployable(paths: &Paths, targets: &[Target]) -> Result<u8> {
    let loaded = load::load(paths);
    let mut names: Vec<&str> = targets.iter().map(|t| t.service.as_str()).collect();
    names.dedup();
    let mut code = EXIT_OK;
    if targets.is_empty() {
        code = super::report_files(&loaded, paths, &[]);
        // What is left of a definition that was removed is no error of a deploy.
        let is_orphan = |e: &&Entry<'_>| drift::drift(e, None, SystemTime::now()).contains(&Drift::Orphan);
        for entry in inventory::collect(paths, &loaded)?.iter().filter(is_orphan) {
            let id = &entry.id;
            log::warn!(
                "{id}: orphan: it has no definition, and is left as it is; mcp-stop {id} && mcp-rm {id} removes it"
            );
        }
        names = loaded.services.iter().map(|s| s.name.as_str()).collect();
    }
    for name in names {
        load::find(&loaded, &Target { service: name.into(), component: None })?;
        let Some(service) = loaded.service(name) else { continue };
        match (service.active, targets.is_empty()) {
            (true, _) => out::print(format_args!("{name}\n")),
            (false, true) => log::warn!("{name}: skipped: its definition has active = false"),
            (false, false) => {
                let file = service.file.display();
                let reason =
                    format!("active = false in {file}, so it must not run; set active = true, or use --record-only");
                return Err(Error::refused(name, reason));
            }
        }
        // Of all, each is asked about once more when its turn comes.
        let reaching = service.components.iter().filter(|c| reach::is_open(c)).map(|c| c.name.as_str());
        let reaching: Vec<&str> = reaching.filter(|_| !targets.is_empty()).collect();
        if !reaching.is_empty()
            && let Some(others) = reach::others(&inventory::collect(paths, &loaded)?, &listeners::all())
        {
            let guests = reaching.join(", ");
            log::warn!(
                "{name}: guests ({guests}) reach this node's loopback as 10.0.2.2, where others listen: {others}; egress = \"none\" closes that"
            );
        }
    }
    Ok(code)
}

/// How the component stands to what its definition says now. Writes nothing.
fn check(paths: &Paths, node: &Node, one: Resolved) -> Result<&'static str> {
    if one.adhoc {
        return Err(Error::refused(&one.id, "has no definition"));
    }
    let record = Record::read(paths, &one.id)?.unwrap_or_default();
    let says_so = |version: &Version| version.spec == one.component;
    if record.current.is_none() && record.candidate.is_none() {
        return Ok("never deployed");
    }
    // Where the specification differs, the image need not be here for the answer.
    if ![&record.current, &record.candidate].into_iter().flatten().any(says_so) {
        return Ok(ANOTHER);
    }
    let version = provide::version_of(paths, node, &one.id, one.component)?;
    Ok(match (record.trial(), &record.current) {
        (Some(candidate), _) if candidate.runs_as(&version) => "on trial",
        (Some(_), _) => "another version on trial",
        (None, Some(current)) if current.runs_as(&version) => CURRENT,
        _ => ANOTHER,
    })
}

fn previous(paths: &Paths, node: &Node, id: &ComponentId) -> Result<Version> {
    let record = Record::read(paths, id)?.unwrap_or_default();
    let version = record.previous.ok_or_else(|| Error::no(id, "nothing was deployed before the current version"))?;
    if !provide::is_there(paths, node, &version)? {
        log::warn!("{id}: the image of that version is not on this node any more; its start pulls it by its digest");
    }
    Ok(Version { at: time::now(), ..version })
}

/// Makes `version` the one that is started next; a word for what that changed.
fn choose(paths: &Paths, node: &Node, id: &ComponentId, version: Version, args: &Args) -> Result<Option<&'static str>> {
    start::check_volumes(paths, node, id, &version.spec)?;
    start::check_sizes(paths, id, &version.spec)?;
    let podman = match version.spec.runtime {
        Runtime::Container => Some(Podman::find(node)?),
        _ => None,
    };
    // Named before it is recorded: at no time may what a record pins be pruned.
    if let (Some(podman), Some(pin)) = (&podman, &version.pin)
        && provide::is_there(paths, node, &version)?
    {
        container_image::keep(paths, podman, id, pin)?;
    }
    // One that is deployed again settles as a new version does; there is no other to go back to.
    let settles = args.settle && !state::any_alive(&paths.component(&id.service, &id.component))?;
    let mut word = "new";
    Record::update(paths, id, |old| {
        let mut record = Record { adhoc: false, leave: args.leave, ..old.unwrap_or_default() };
        if record.current.as_ref().is_some_and(|c| c.runs_as(&version)) {
            word = "unchanged";
            record.candidate = settles.then_some(version);
        } else if args.now {
            record.promote(version.clone());
            record.candidate = args.settle.then_some(version);
        } else {
            record.candidate = Some(version);
        }
        Some(record)
    })?;
    if let Some(podman) = &podman {
        release(paths, podman, id);
    }
    Ok(Some(word))
}

/// Takes our names from images of podman's that the record has no use for any more. Failing that costs space alone.
fn release(paths: &Paths, podman: &Podman, id: &ComponentId) {
    let released = Record::read(paths, id).and_then(|record| {
        let record = record.unwrap_or_default();
        let pins: Vec<_> = record.versions().filter_map(|version| version.pin.as_ref()).collect();
        container_image::release(paths, podman, id, &pins)
    });
    if let Err(e) = released {
        log::warn!("{e}");
    }
}

fn drop_trial(paths: &Paths, id: &ComponentId) -> Result<Option<&'static str>> {
    let mut word = "unchanged";
    Record::update(paths, id, |old| {
        let mut record = old?;
        record.candidate.take()?;
        word = "dropped";
        Some(record)
    })?;
    Ok(Some(word))
}

/// Prints what the record of `id` holds; after a change or a check one line: its name and the word for that.
fn show(paths: &Paths, node: &Node, id: &ComponentId, word: Option<(&str, &str)>, as_json: bool) -> Result<()> {
    let record = Record::read(paths, id)?;
    if as_json {
        let runs = state::any_alive(&paths.component(&id.service, &id.component))?;
        let of = |kind: &str| word.filter(|(k, _)| *k == kind).map(|(_, word)| word);
        let line = serde_json::json!({
            "schema": 1, "component": id.to_string(), "change": of("change"), "check": of("check"), "running": runs,
            "record": record,
        });
        out::print(format_args!("{line}\n"));
        return Ok(());
    }
    if let Some((_, word)) = word {
        out::print(format_args!("{id} {word}\n"));
        return Ok(());
    }
    let Some(record) = record else { return Err(Error::no(id, format!("never deployed: mcp deploy {id}"))) };
    let wish = if record.wish == Wish::Run { "shall run" } else { "shall stay stopped" };
    out::print(format_args!("{id}: {wish}\n"));
    let versions =
        [("on trial", record.trial()), ("current", record.current.as_ref()), ("previous", record.previous.as_ref())];
    for (name, version) in versions {
        let Some(version) = version else { continue };
        let image = version.spec.source.name().unwrap_or_default();
        let since = if version.at.is_empty() { String::new() } else { format!(" since {}", version.at) };
        out::print(format_args!("  {name:<9} {image}{since}\n"));
        if let Some(pin) = &version.pin {
            let gone = match (provide::is_there(paths, node, version), version.spec.runtime) {
                (Ok(true), _) => "",
                (Ok(false), Runtime::Container) => " (not in podman's storage)",
                (Ok(false), _) => " (not in the store)",
                (Err(_), _) => " (podman can't be asked)",
            };
            out::print(format_args!("            {} build {}{gone}\n", pin.manifest, pin.build));
        }
    }
    for (volume, system) in &record.volumes {
        out::print(format_args!("  volume    {volume}: {}\n", system.name()));
    }
    Ok(())
}
