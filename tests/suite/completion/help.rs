//! What the programs' own `--help` says of their options and operands.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What may stand in a place of the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Dirs,
    Files,
    /// SERVICE and SERVICE/COMPONENT.
    Targets,
    Services,
    Stages,
    Words(Vec<String>),
    /// Nothing that could be known.
    Any,
}

#[derive(Debug)]
pub struct Opt {
    pub short: Option<char>,
    /// With its dashes; grpc_health_probe's have one.
    pub long: String,
    pub value: Option<(String, Kind)>,
    /// Its value stands behind a `=`, or is left out.
    pub optional: bool,
    pub repeats: bool,
    pub about: String,
}

#[derive(Debug)]
pub struct Program {
    pub name: String,
    pub options: Vec<Opt>,
    pub operand: Option<(String, Kind)>,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Where a program is before it is installed.
pub fn source(name: &str) -> PathBuf {
    let script = root().join("scripts").join(match name {
        "mcp-get-guest-kernel" => "get-guest-kernel",
        "mcp-probe" => "cron/mcp-probe",
        name => name,
    });
    if script.exists() { script } else { Path::new(env!("CARGO_BIN_EXE_mcp-status")).with_file_name(name) }
}

/// All programs that are called by people, `mcp` first.
pub fn programs() -> Vec<Program> {
    let dispatcher = std::fs::read_to_string(root().join("scripts/mcp")).unwrap();
    let names = dispatcher.lines().find_map(|l| l.strip_prefix("programs='")?.strip_suffix('\'')).unwrap();
    let mut all = vec![dispatcher_itself(&dispatcher, names)];
    let names = names.split(' ').map(|n| format!("mcp-{n}"));
    for name in names.chain(["mcp-get-guest-kernel", "mcp-probe", "grpc_health_probe"].map(String::from)) {
        all.push(read(&name, &source(&name)));
    }
    all
}

/// The dispatcher's help lists those programs that are beside it; here are all.
fn dispatcher_itself(text: &str, names: &str) -> Program {
    let job = |name: &str| {
        let line = text.lines().map(str::trim).find_map(|l| l.strip_prefix(&format!("{name}) echo \"")));
        line.and_then(|l| l.split('"').next()).unwrap_or_default().to_string()
    };
    let words = names.split(' ').map(|n| format!("{n}:{}", job(n))).collect();
    let flag = |short, long: &str, about: &str| Opt {
        short,
        long: long.into(),
        value: None,
        optional: false,
        repeats: false,
        about: about.into(),
    };
    let options = vec![
        Opt {
            value: Some(("DIR".into(), Kind::Dirs)),
            ..flag(None, "--root", "Keep all files of mcp under DIR instead of the system's places")
        },
        flag(Some('h'), "--help", "Print help"),
        flag(Some('V'), "--version", "Print version"),
    ];
    Program { name: "mcp".into(), options, operand: Some(("PROGRAM".into(), Kind::Words(words))) }
}

fn said(program: &Path, arg: &str) -> String {
    let answer = Command::new(program).arg(arg).output().unwrap();
    String::from_utf8([answer.stdout, answer.stderr].concat()).unwrap()
}

fn read(name: &str, program: &Path) -> Program {
    // clap's short help has one line for each option.
    let help = said(program, "-h");
    let options: Vec<Opt> = help.lines().filter_map(|l| option(l, name, program)).collect();
    assert!(!options.is_empty(), "{name} -h shows no option:\n{help}");
    let usage = help.lines().find(|l| l.to_lowercase().starts_with("usage: ")).unwrap();
    let operands = ["TARGET", "WHAT", "SERVICE", "INIT", "DIR"];
    let word = |w: &str| w.trim_matches(|c| "[]<>.".contains(c)).to_string();
    let operand = usage.split(' ').map(word).find(|w| operands.contains(&w.as_str())).map(|w| {
        let line = help.lines().find(|l| word(l.trim().split(' ').next().unwrap_or_default()) == w);
        let kind = values(line.unwrap_or_default()).unwrap_or_else(|| kind_of(&w, "", program));
        (w, kind)
    });
    Program { name: name.into(), options, operand }
}

/// `  -p, --port <PORT>   Forward a port`, `  --from FILE   install FILE`, `  -addr HOST:PORT   whom to ask`.
fn option(line: &str, name: &str, program: &Path) -> Option<Opt> {
    let line = line.strip_prefix("  ")?.trim_start();
    line.strip_prefix('-')?;
    let (spec, about) = line.split_once("  ").unwrap_or((line, ""));
    let (short, spec) = match spec.split_once(", ") {
        Some((short, spec)) => (short.strip_prefix('-')?.chars().next(), spec),
        None => (None, spec),
    };
    let optional = spec.contains("[=");
    let spec = spec.replace("[=", " ");
    let (long, value) = spec.split_once(' ').map_or((spec.as_str(), None), |(long, value)| (long, Some(value)));
    let value = value.map(|v| v.trim_matches(|c| "[]<>'".contains(c)).to_string());
    let value = value.map(|v| {
        let kind = values(about).unwrap_or_else(|| kind_of(&v, long, program));
        (v, kind)
    });
    let told = about.split(" [possible values").next().unwrap_or_default().trim();
    let ends = ["; may be repeated", "; may be given several times", " (see more", " (see a summary"];
    let told = ends.iter().fold(told, |told, end| told.split(end).next().unwrap_or_default());
    let repeats = ["may be repeated", "several times"].iter().any(|w| about.contains(w));
    assert!(long.starts_with('-') && !told.is_empty(), "{name}: not an option as this reads it: {line}");
    Some(Opt { short, long: long.into(), value, optional, repeats, about: told.into() })
}

/// What clap knows to be possible.
fn values(about: &str) -> Option<Kind> {
    let (_, list) = about.split_once("[possible values: ")?;
    Some(Kind::Words(list.split(']').next()?.split(", ").map(str::to_string).collect()))
}

fn kind_of(value: &str, long: &str, program: &Path) -> Kind {
    match (value, long) {
        ("DIR", _) => Kind::Dirs,
        ("FILE" | "PATH", _) => Kind::Files,
        ("TARGET" | "WHAT", _) => Kind::Targets,
        ("SERVICE", "") => Kind::Services,
        ("NAME", "--stage") => Kind::Stages,
        ("STATE", "--state") => one_of(program, &["--state", "?"]),
        ("DRIFT", "--drift") => one_of(program, &["--drift", "?"]),
        ("INIT", "") => one_of(program, &["?"]),
        _ => Kind::Any,
    }
}

/// The words that a program names when it is given another.
fn one_of(program: &Path, args: &[&str]) -> Kind {
    let told = String::from_utf8(Command::new(program).args(args).output().unwrap().stderr).unwrap();
    let list = told.split("one of ").nth(1).and_then(|t| t.split(';').next()).unwrap_or_else(|| panic!("{told}"));
    Kind::Words(list.split(", ").map(str::to_string).collect())
}
