//! Bytes that nobody would write.

use super::FULL;
use crate::model::read::{PROBLEMS_MAX, parse_node, parse_service};
use std::path::Path;
use std::time::Duration;

/// Xorshift: the same bytes each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % below.max(1) as u64).unwrap()
    }
}

#[test]
fn no_bytes_make_a_reader_panic() {
    let seeds = [
        FULL,
        "[[boot.sequence]]\nname = \"a\"\nservices = [\"x\"]\n[boot]\nstart_command = [\"x\", \"{unit}\"]\n[registry.\"a:1\"]\nca = \"x\"\n",
    ];
    let snippets: &[&[u8]] = &[
        b"[", b"]", b"{", b"}", b"\"", b"\"\"\"", b"'", b"=", b",", b"\n", b"\r", b"\0", b"\xff", b"[[", b"]]", b".",
        b"#", b"\\u0000", b"1e999", b"0x",
    ];
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for round in 0..1500 {
        let mut bytes = seeds[round % seeds.len()].as_bytes().to_vec();
        for _ in 0..=dice.roll(6) {
            let at = dice.roll(bytes.len());
            match dice.roll(5) {
                0 => drop(bytes.remove(at)),
                1 => bytes[at] = u8::try_from(dice.roll(256)).unwrap(),
                2 => bytes.truncate(at.max(1)),
                3 => {
                    let to = (at + dice.roll(40)).min(bytes.len());
                    let part = bytes[at..to].to_vec();
                    let into = dice.roll(bytes.len());
                    bytes.splice(into..into, part);
                }
                _ => drop(bytes.splice(at..at, snippets[dice.roll(snippets.len())].iter().copied())),
            }
            if bytes.is_empty() {
                bytes.push(b'x');
            }
        }
        each_reader(&bytes);
    }
    for _ in 0..300 {
        let bytes: Vec<u8> = (0..dice.roll(300)).map(|_| u8::try_from(dice.roll(256)).unwrap()).collect();
        each_reader(&bytes);
    }
}

/// What the fuzz targets call.
fn each_reader(bytes: &[u8]) {
    for problem in parse_service(Path::new("svc.toml"), bytes).err().into_iter().flatten() {
        let line = problem.to_string();
        assert!(!line.chars().any(char::is_control), "{line:?}");
        assert!(!problem.reason.is_empty());
    }
    for problem in parse_node(Path::new("mcp.toml"), bytes).1 {
        assert!(!problem.to_string().chars().any(char::is_control));
    }
}

#[test]
fn large_junk_is_refused_in_good_time() {
    let million = 1 << 18;
    let junk = [
        "[".repeat(million),
        "a=[".repeat(million / 3),
        "a = [[[[[[[[[".repeat(9) + &"[".repeat(5000),
        "x".repeat(million),
        "\"".repeat(million),
        "a.".repeat(million / 2),
        "[[components]]\n".repeat(million / 15),
        format!("ports = [{}]\n", "\"1:1\",".repeat(million / 6 - 10)),
        "= \n".repeat(million / 3),
        (0..million / 12).map(|n| format!("k{n} = 1\n")).collect(),
        format!("name = \"{}\"\n", "x".repeat(million - 20)),
    ];
    for text in junk {
        let start = std::time::Instant::now();
        let problems = parse_service(Path::new("svc.toml"), text.as_bytes()).unwrap_err();
        assert!((1..=PROBLEMS_MAX + 1).contains(&problems.len()));
        assert!(problems.iter().all(|p| p.to_string().len() < 1000));
        // Generous: a debug build on a busy machine. What is quadratic takes hours.
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}: {:?}", &text[..20], start.elapsed());
    }
}
