//! The three files, written from what the programs say.

use super::help::{Kind, Opt, Program};
use std::fmt::Write;

const NOTE: &str = "Written by a test out of the programs' own --help; see tests/suite/completion.rs.";

fn names(all: &[Program]) -> String {
    all.iter().map(|p| p.name.as_str()).collect::<Vec<_>>().join(" ")
}

/// The word that stands for a kind in the shells' functions.
fn word(kind: &Kind) -> String {
    match kind {
        Kind::Dirs => "dirs".into(),
        Kind::Files => "files".into(),
        Kind::Targets => "targets".into(),
        Kind::Services => "services".into(),
        Kind::Stages => "stages".into(),
        Kind::Any => "any".into(),
        Kind::Words(list) => list.iter().map(|w| w.split(':').next().unwrap_or(w)).collect::<Vec<_>>().join(" "),
    }
}

/// Cases of `$1:$2`, those with the same answer in one.
fn cases(all: &[Program]) -> String {
    let mut answers: Vec<(String, Vec<String>)> = Vec::new();
    for program in all {
        for o in program.options.iter().filter(|o| !o.optional) {
            let Some((_, kind)) = &o.value else { continue };
            let short = o.short.map(|c| format!("-{c}"));
            for name in short.iter().chain([&o.long]) {
                let (case, answer) = (format!("{}:{name}", program.name), word(kind));
                match answers.iter_mut().find(|(a, _)| *a == answer) {
                    Some((_, list)) => list.push(case),
                    None => answers.push((answer, vec![case])),
                }
            }
        }
    }
    let mut out = String::new();
    for (answer, list) in answers {
        let _ = writeln!(out, "    {})\n        echo '{answer}'\n        ;;", list.join(" | \\\n    "));
    }
    out
}

pub fn bash(all: &[Program]) -> String {
    let mut options = String::new();
    let mut operands = String::new();
    for p in all {
        let list = p.options.iter().map(|o| o.long.as_str()).collect::<Vec<_>>().join(" ");
        let _ = writeln!(options, "    {}) echo '{list}' ;;", p.name);
        if let Some((_, kind)) = &p.operand {
            let help = if p.name == "mcp" { " help" } else { "" };
            let _ = writeln!(operands, "    {}) echo '{}{help}' ;;", p.name, word(kind));
        }
    }
    include_str!("mcp.bash.in")
        .replace("@NOTE@", NOTE)
        .replace("    @OPTIONS@\n", &options)
        .replace("    @VALUES@\n", &cases(all))
        .replace("    @OPERANDS@\n", &operands)
        .replace("@NAMES@", &names(all))
}

/// For zsh, in single quotes and in brackets.
fn zsh_quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('[', "\\[").replace(']', "\\]").replace('\'', "'\\''")
}

fn zsh_action(kind: &Kind) -> String {
    match kind {
        Kind::Dirs => "_files -/".into(),
        Kind::Files => "_files".into(),
        Kind::Any => " ".into(),
        Kind::Words(_) => format!("({})", word(kind)),
        _ => format!("_mcp_{}", word(kind)),
    }
}

fn zsh_option(o: &Opt) -> String {
    let about = zsh_quoted(&o.about);
    let value = match &o.value {
        Some((name, kind)) if o.optional => format!("::{name}:{}", zsh_action(kind)),
        Some((name, kind)) => format!(":{}:{}", name.replace(':', "\\:"), zsh_action(kind)),
        None => String::new(),
    };
    let long = match &o.value {
        Some(_) if o.optional => format!("{}=-", o.long),
        // One dash: the value is the next word.
        Some(_) if o.long.starts_with("--") => format!("{}=", o.long),
        _ => o.long.clone(),
    };
    let last = matches!(o.long.as_str(), "--help" | "--version");
    match o.short {
        None if o.repeats => format!("'*{long}[{about}]{value}'"),
        None => format!("'{long}[{about}]{value}'"),
        Some(c) => {
            let plus = if o.value.is_some() { "+" } else { "" };
            let before = match (last, o.repeats) {
                (true, _) => "(- *)".to_string(),
                (_, true) => "*".to_string(),
                _ => format!("(-{c} {})", o.long),
            };
            format!("'{before}'{{-{c}{plus},{long}}}'[{about}]{value}'")
        }
    }
}

pub fn zsh(all: &[Program]) -> String {
    let mut programs = String::new();
    let mut jobs = String::new();
    for p in all {
        let options = p.options.iter().map(zsh_option);
        if p.name == "mcp" {
            if let Some((_, Kind::Words(words))) = &p.operand {
                for w in words {
                    let _ = writeln!(jobs, "        '{}'", w.replace('\'', "'\\''"));
                }
            }
            let list: Vec<String> = options.map(|o| format!("            {o} \\\n")).collect();
            programs = programs.replace("@MCP@", "") + &format!("@MCP@{}@END@", list.concat());
            continue;
        }
        let mut list: Vec<String> = options.collect();
        if let Some((name, kind)) = &p.operand {
            list.push(format!("'*:{name}:{}'", zsh_action(kind)));
        }
        let _ = writeln!(
            programs,
            "    {})\n        _arguments -s \\\n            {}\n        ;;",
            p.name,
            list.join(" \\\n            ")
        );
    }
    let (own, rest) = programs.split_once("@END@").unwrap_or_default();
    include_str!("_mcp.in")
        .replace("@NOTE@", NOTE)
        .replace("            @MCP@\n", own.trim_start_matches("@MCP@"))
        .replace("    @PROGRAMS@\n", rest)
        .replace("        @JOBS@\n", &jobs)
        .replace("@NAMES@", &names(all))
}

fn fish_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

fn fish_value(kind: &Kind) -> String {
    match kind {
        Kind::Dirs => "-x -a '(__fish_complete_directories)'".into(),
        Kind::Files => "-r -F".into(),
        Kind::Any => "-x".into(),
        Kind::Words(_) => format!("-x -a '{}'", word(kind)),
        _ => format!("-x -a '(__mcp_{})'", word(kind)),
    }
}

pub fn fish(all: &[Program]) -> String {
    let mut out = String::new();
    for p in all {
        let _ = writeln!(out, "\ncomplete -c {} -f", p.name);
        // What follows `mcp PROGRAM` is that program's to say.
        let first = if p.name == "mcp" { " -n __mcp_at_program" } else { "" };
        for o in &p.options {
            let _ = write!(out, "complete -c {}{first}", p.name);
            if let Some(c) = o.short {
                let _ = write!(out, " -s {c}");
            }
            let _ = match o.long.strip_prefix("--") {
                Some(long) => write!(out, " -l {long}"),
                None => write!(out, " -o {}", o.long.trim_start_matches('-')),
            };
            if let (Some((_, kind)), false) = (&o.value, o.optional) {
                let _ = write!(out, " {}", fish_value(kind));
            }
            let _ = writeln!(out, " -d {}", fish_quoted(&o.about));
        }
        match &p.operand {
            Some((_, Kind::Words(words))) if p.name == "mcp" => {
                for (name, job) in words.iter().filter_map(|w| w.split_once(':')) {
                    let _ = writeln!(out, "complete -c mcp{first} -a {name} -d {}", fish_quoted(job));
                }
                let _ = writeln!(out, "complete -c mcp{first} -a help -d 'show a man page'");
                let _ = writeln!(out, "complete -c mcp -n 'not __mcp_at_program' -a '(__mcp_of_program)'");
            }
            Some((_, kind)) => {
                let value = fish_value(kind).replace("-x ", "").replace("-r -F", "-F");
                let _ = writeln!(out, "complete -c {} {value}", p.name);
            }
            None => {}
        }
    }
    include_str!("mcp.fish.in").replace("@NOTE@", NOTE).replace("@PROGRAMS@\n", out.trim_start())
}
