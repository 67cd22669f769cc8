//! The fenced blocks of a Markdown page, and what its commands are shown to print.

use crate::examples::{Example, commands};

/// A block between two fences.
#[derive(Debug)]
pub struct Block {
    /// What stands behind the first fence.
    pub language: String,
    /// Its lines, with the number of each in the page.
    pub lines: Vec<(usize, String)>,
}

/// A command of a page.
#[derive(Debug)]
pub struct Step {
    pub example: Example,
    /// The lines that the page shows as its answer; `None` where it shows commands alone.
    pub shown: Option<Vec<String>>,
}

impl Step {
    /// The exit code that the page tells.
    pub fn code(&self) -> i32 {
        let told = self.example.command.lines().next().and_then(|l| l.split_once("# exits with "));
        told.map_or(0, |(_, rest)| rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap())
    }

    /// Whether the command only looks, so that a reader would look again after a moment.
    pub fn looks(&self) -> bool {
        let lookers =
            ["mcp status", "mcp logs", "mcp health", "systemctl status", "systemctl is-", "journalctl", "curl"];
        lookers.iter().any(|l| self.example.command.starts_with(l))
    }
}

/// All blocks of a page.
pub fn blocks(text: &str) -> Vec<Block> {
    let (mut found, mut open) = (Vec::new(), None::<Block>);
    for (at, line) in text.lines().enumerate() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(language), None) => open = Some(Block { language: language.trim().into(), lines: Vec::new() }),
            (Some(_), Some(_)) => found.extend(open.take()),
            (None, Some(block)) => block.lines.push((at + 1, line.into())),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block without an end: {open:?}");
    found
}

/// The commands of a block of shell.
pub fn steps(source: &str, block: &Block) -> Vec<Step> {
    let examples = commands(source, &with_documents(&block.lines));
    let starts: Vec<usize> = examples.iter().map(|e| e.line).chain([usize::MAX]).collect();
    let with_answers = block.language == "console";
    let step = |(index, example): (usize, Example)| {
        let after = example.line + example.command.lines().count();
        let shown = block.lines.iter().filter(|(at, _)| (after..starts[index + 1]).contains(at));
        let shown = with_answers.then(|| shown.map(|(_, line)| line.clone()).collect());
        Step { example, shown }
    };
    examples.into_iter().enumerate().map(step).collect()
}

/// The lines with each here-document put to the line that begins it: `sh -n` calls one without an end whole.
fn with_documents(lines: &[(usize, String)]) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut end: Option<String> = None;
    for (at, line) in lines {
        match &end {
            Some(word) => {
                let last = &mut found.last_mut().unwrap().1;
                *last += &format!("\n{line}");
                end = Some(word.clone()).filter(|w| w != line);
            }
            None => {
                let word =
                    line.split_once("<<").map(|(_, rest)| rest.split([' ', '|', ';']).next().unwrap_or_default());
                end = word.map(|w| w.trim_matches('\'').to_string()).filter(|w| !w.is_empty());
                found.push((*at, line.clone()));
            }
        }
    }
    found
}

/// What is left of an answer when all that differs from run to run and from machine to machine is taken away: numbers
/// with their units, digests, the width of columns, and the note that there is no KVM.
pub fn stable(line: &str) -> Option<String> {
    if line.contains("no KVM") {
        return None;
    }
    let mut words = Vec::new();
    for word in line.split_whitespace() {
        let mut plain = String::new();
        let mut number = false;
        for c in word.chars() {
            match c {
                '0'..='9' => number = true,
                '.' if number => {}
                _ => {
                    plain += if std::mem::take(&mut number) { "#" } else { "" };
                    plain.push(c);
                }
            }
        }
        plain += if number { "#" } else { "" };
        let digest = word.len() >= 12 && word.chars().all(|c| c.is_ascii_hexdigit());
        let time = ["#ms", "#s", "#m#s", "#m", "#h#m", "#h"].contains(&plain.trim_matches(['(', ')', ',']));
        let unit = ["ms", "s", "B", "kB", "MB", "GB"].contains(&word.trim_matches(['(', ')', ',']));
        match (digest, time, unit) {
            (true, ..) => words.push("DIGEST".into()),
            (_, true, _) => words.push("TIME".into()),
            // `82 ms` is as good as `1.2 s`.
            (.., true) if words.last().is_some_and(|w: &String| w.ends_with('#')) => words.push("UNIT".into()),
            _ => words.push(plain),
        }
    }
    Some(words.join(" "))
}

/// Whether `said` is what the page shows, where `[…]` stands for any number of lines.
pub fn agrees(shown: &[String], said: &str) -> bool {
    let shown: Vec<String> = shown.iter().filter_map(|l| stable(l)).collect();
    let said: Vec<String> = said.lines().filter_map(stable).collect();
    fits(&shown, &said)
}

fn fits(shown: &[String], said: &[String]) -> bool {
    match (shown.split_first(), said.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if first == "[…]" => (0..=said.len()).any(|skip| fits(rest, &said[skip..])),
        (Some((first, rest)), Some((line, more))) => first == line && fits(rest, more),
        _ => false,
    }
}

#[test]
fn docs_answers_are_held_to_what_is_stable() {
    let shown = |lines: &[&str]| lines.iter().map(|l| l.to_string()).collect::<Vec<_>>();
    assert!(agrees(
        &shown(&["a  running  3s", "[…]", "z 82 ms (0 of 320)"]),
        "a running 1m2s\nb\nc\nz 1.2 s (0 of 9)\n"
    ));
    assert!(agrees(&shown(&["x"]), "mcp-run-vm: no KVM (why): emulating\nx\n"));
    assert!(!agrees(&shown(&["a running"]), "a stopped\n"));
    assert!(!agrees(&shown(&["a"]), "a\nb\n"));
    assert!(!agrees(&shown(&["a", "[…]", "b"]), "a\nc\n"));
}
