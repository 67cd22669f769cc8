//! Examples, out of the texts that have them.

use super::Place;
use crate::harness::finish;
use std::path::Path;
use std::process::{Command, Stdio};

/// A command that a text shows to its readers.
#[derive(Debug, Clone)]
pub struct Example {
    /// The file, or the program whose `--help` it is.
    pub source: String,
    /// Its line there, from 1.
    pub line: usize,
    /// For `sh -c`.
    pub command: String,
}

impl Example {
    pub fn new(source: &str, line: usize, command: &str) -> Example {
        Example { source: source.into(), line, command: command.into() }
    }
}

/// A block of lines that a text sets apart, with the number of each.
type Block = Vec<(usize, String)>;

/// The commands of a block. Where lines begin with `$ `, those are the commands and the others are what they print; else
/// all lines are. A command goes on for as many lines as the shell needs to understand it. A line of a crontab is the
/// command that cron would run.
pub fn commands(source: &str, block: &[(usize, String)]) -> Vec<Example> {
    let prompts = block.iter().any(|(_, line)| line.starts_with("$ "));
    let mut found: Vec<Example> = Vec::new();
    let mut open = false;
    for (number, line) in block {
        if open {
            let last = found.last_mut().unwrap();
            last.command += &format!("\n{line}");
        } else {
            let line = match prompts {
                true => line.strip_prefix("$ "),
                false => Some(line.as_str()).filter(|l| !l.is_empty() && !l.starts_with('#')),
            };
            let Some(line) = line else { continue };
            found.push(Example::new(source, *number, &by_cron(line)));
        }
        open = !is_whole(&found.last().unwrap().command);
    }
    assert!(!open, "{source}: a command without an end: {:?}", found.last());
    found
}

/// What cron runs of a line of /etc/crontab; other lines as they are.
fn by_cron(line: &str) -> String {
    let fields: Vec<&str> = line.splitn(7, ' ').collect();
    let time = |field: &&str| !field.is_empty() && field.chars().all(|c| c.is_ascii_digit() || "*/,-".contains(c));
    match fields.as_slice() {
        [times @ .., _user, command] if times.len() == 5 && times.iter().all(time) => command.replace("\\%", "%"),
        _ => line.to_string(),
    }
}

/// Whether a shell needs no further line.
fn is_whole(command: &str) -> bool {
    let parsed = Command::new("/bin/sh").args(["-n", "-c", command]).stderr(Stdio::null()).status().unwrap();
    parsed.success() && !command.ends_with('\\')
}

/// The commands in the EXAMPLES of a man page, and its definitions: those are the blocks of TOML.
pub fn of_page(page: &Path) -> (Vec<Example>, Vec<(usize, String)>) {
    let text = std::fs::read_to_string(page).unwrap();
    let source = format!("man/{}", page.file_name().unwrap().to_str().unwrap());
    let (mut examples, mut definitions) = (Vec::new(), Vec::new());
    for block in blocks(&text) {
        let first = block.first().map_or("", |(_, line)| line.as_str());
        if first.starts_with('[') || first.contains(" = ") {
            let text: Vec<&str> = block.iter().map(|(_, line)| line.as_str()).collect();
            definitions.push((block[0].0, text.join("\n")));
        } else {
            examples.extend(commands(&source, &block));
        }
    }
    (examples, definitions)
}

/// The blocks (`.nf`, `.EX`) of the section EXAMPLES, as they are read on a terminal.
fn blocks(page: &str) -> Vec<Block> {
    let (mut found, mut section, mut block) = (Vec::new(), "", None::<Block>);
    for (at, line) in page.lines().enumerate() {
        if let Some(title) = line.strip_prefix(".SH ") {
            section = title;
        }
        match line {
            _ if section != "EXAMPLES" => {}
            ".nf" | ".EX" => block = Some(Vec::new()),
            ".fi" | ".EE" => found.extend(block.take()),
            _ if line.starts_with('.') => {}
            _ => block.iter_mut().for_each(|b| b.push((at + 1, plain(line)))),
        }
    }
    found
}

/// A line of a man page without its escapes.
fn plain(line: &str) -> String {
    let mut text = line.to_string();
    for (from, to) in [("\\-", "-"), ("\\(aq", "'"), ("\\(dq", "\""), ("\\&", ""), ("\\e", "\\"), ("\\\\", "\\")] {
        text = text.replace(from, to);
    }
    text
}

/// The commands in the Examples of a program's `--help`: what stands before two spaces or more.
pub fn of_help(place: &Place, program: &str) -> Vec<Example> {
    let call = format!("{program} --help");
    let help = finish(place.sh(&call), &call).expect(0).out;
    let numbered = help.lines().enumerate().skip_while(|(_, l)| *l != "Examples:").skip(1);
    let lines = numbered.take_while(|(_, l)| l.starts_with("  "));
    let command = |line: &str| line.trim().split("  ").next().unwrap_or_default().to_string();
    let block: Block = lines.map(|(at, line)| (at + 1, command(line))).collect();
    commands(&call, &block)
}
