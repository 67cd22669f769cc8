#![allow(clippy::unwrap_used)]

use super::{Decoder, HEADER, Lines, RECORD_MAX, Record, Stream, contents, find, parse_time, record_before};
use crate::console::tail;
use crate::console::{Series, last_lines};
use crate::sys::paths::{InstancePaths, Paths, Slot};
use std::fs;
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

const TIME: &str = "2026-11-23T07:32:55.104516644+00:00";

/// A small random number generator: xorshift.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

/// All records, as (stream, content, ends).
fn records(bytes: &[u8], all: bool) -> Vec<(Stream, Vec<u8>, bool)> {
    let (mut decoder, mut rest, mut found) = (Decoder::default(), bytes, Vec::new());
    while let Some(record) = decoder.next(rest, all) {
        found.push((record.stream, rest[record.content].to_vec(), record.ends));
        rest = &rest[record.length..];
    }
    found
}

#[test]
fn times() {
    for day in
        ["1970-01-01", "1972-02-29", "1999-12-31", "2000-02-29", "2000-03-01", "2026-11-23", "2100-02-28", "2553-12-31"]
    {
        for clock in ["00:00:00.000000000", "07:32:55.104516644", "23:59:59.999999999"] {
            let want = humantime::parse_rfc3339(&format!("{day}T{clock}Z")).unwrap();
            let want = want.duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
            assert_eq!(parse_time(format!("{day}T{clock}Z").as_bytes()), Some(want), "{day} {clock}");
            assert_eq!(parse_time(format!("{day}T{clock}-00:30").as_bytes()), Some(want + 1800 * 1_000_000_000));
            let before = want.checked_sub(12_600 * 1_000_000_000);
            assert_eq!(parse_time(format!("{day}T{clock}+03:30").as_bytes()), before);
        }
    }
    assert_eq!(parse_time(b"1970-01-01T00:00:01Z"), Some(1_000_000_000));
    assert_eq!(parse_time(b"1970-01-01T00:00:01.5Z"), Some(1_500_000_000));
    for wrong in [
        "",
        "2026",
        "2026-11-23T07:32:55",
        "2026-11-23T07:32:55.Z",
        "2026-11-23T07:32:55.1",
        "2026-13-23T07:32:55Z",
        "2026-11-32T07:32:55Z",
        "2026-11-23T24:32:55Z",
        "2026-11-23T07:60:55Z",
        "2026-11-23T07:32:61Z",
        "1969-11-23T07:32:55Z",
        "9999-11-23T07:32:55Z",
        "2026-11-23T07:32:55+0100",
        "2026-11-23T07:32:55+01:0x",
        "2026-11-23T07:32:55.1234567890Z",
        "2026-11-23t07:32:55Z",
        "2026-11-23T07:32:55ZZ",
        "+026-11-23T07:32:55Z",
    ] {
        assert_eq!(parse_time(wrong.as_bytes()), None, "{wrong}");
    }
}

#[test]
fn what_conmon_writes() {
    use Stream::{Other, Stderr, Stdout};
    let log = format!(
        "{TIME} stdout F one\n{TIME} stderr P two \n{TIME} stdout F \n{TIME} stderr F and a half\nno record\n\
         {TIME} stdin F x\n{TIME} stdout X x\n{TIME} stdout F\n2026-11-23T07:32:55Z stdout F:more  sp\r\n{TIME} stdout P torn"
    );
    let own = |s: &str| s.as_bytes().to_vec();
    let mut want = vec![
        (Stdout, own("one\n"), true),
        (Stderr, own("two "), false),
        (Stdout, own("\n"), true),
        (Stderr, own("and a half\n"), true),
        (Other, own("no record\n"), true),
        (Other, format!("{TIME} stdin F x\n").into_bytes(), true),
        (Other, format!("{TIME} stdout X x\n").into_bytes(), true),
        (Other, format!("{TIME} stdout F\n").into_bytes(), true),
        (Stdout, own(" sp\r\n"), true),
    ];
    assert_eq!(records(log.as_bytes(), false), want);
    want.push((Stdout, own("torn"), false));
    assert_eq!(records(log.as_bytes(), true), want);
    assert_eq!(
        String::from_utf8(contents(format!("{TIME} stdout P a\n{TIME} stderr F b\n{TIME} stdout P c\n").as_bytes()))
            .unwrap(),
        "b\nac"
    );
    // The beginning of a header isn't shown, whatever is cut off.
    let header = format!("{TIME} stdout F ");
    assert_eq!(header.len(), HEADER);
    for length in 1..HEADER {
        assert_eq!(records(&header.as_bytes()[..length], true), [(Other, own(""), false)], "{length}");
    }
    assert_eq!(records(b"12 monkeys", true), [(Other, own("12 monkeys"), false)]);
}

#[test]
fn times_of_records() {
    let log = format!("junk\n{TIME} stdout F a\njunk\n2026-11-23T08:32:55.2+01:00 stdout F b\n{TIME} stderr F c\n");
    let (mut decoder, mut rest, mut times) = (Decoder::new(7), log.as_bytes(), Vec::new());
    while let Some(record) = decoder.next(rest, false) {
        times.push(record.nanos);
        rest = &rest[record.length..];
    }
    let first = parse_time(TIME.as_bytes()).unwrap();
    let second = first - 104_516_644 + 200_000_000;
    assert_eq!(times, [7, first, first, second, first]);
}

#[test]
fn a_record_without_end_comes_in_parts() {
    for tag in ["F", "P"] {
        let content = vec![b'x'; 3 * RECORD_MAX];
        let mut log = format!("{TIME} stderr {tag} ").into_bytes();
        log.extend(&content);
        log.extend(format!("\n{TIME} stderr F end\n").into_bytes());
        let (mut decoder, mut at, mut said) = (Decoder::default(), 0, Vec::<u8>::new());
        let mut ends = 0;
        // As a reader gets it that never has more than so much in memory.
        loop {
            let window = &log[at..log.len().min(at + RECORD_MAX + 100)];
            let Some(record) = decoder.next(window, false) else { break };
            assert_eq!(record.stream, Stream::Stderr);
            said.extend(&window[record.content]);
            ends += u32::from(record.ends);
            at += record.length;
        }
        assert_eq!(at, log.len());
        let between = if tag == "F" { "\n" } else { "" };
        assert_eq!(said, [content.as_slice(), between.as_bytes(), b"end\n"].concat());
        assert_eq!(ends, if tag == "F" { 2 } else { 1 });
    }
}

/// Lines, each with its time.
type Said = Vec<(u64, Vec<u8>)>;

/// A log of a container that says random things, what it said in order of the lines' ends, and the lines without an end.
fn random_log(random: &mut Random, records: usize) -> (Vec<u8>, Said, Said) {
    let (mut log, mut lines) = (Vec::new(), Vec::new());
    let mut open: [Option<(u64, Vec<u8>)>; 2] = [None, None];
    let mut second = 0;
    for _ in 0..records {
        second += random.below(3) as u64;
        let which = random.below(2);
        let is_full = random.below(3) > 0;
        let mut content: Vec<u8> = (0..random.below(30)).map(|_| b"ab \x1b\xff\r 2F"[random.below(9)]).collect();
        if !is_full && content.is_empty() {
            content.push(b'.');
        }
        let name = ["stdout", "stderr"][which];
        let tag = if is_full { "F" } else { "P" };
        let time = humantime::format_rfc3339_nanos(UNIX_EPOCH + std::time::Duration::from_secs(second)).to_string();
        log.extend(format!("{} {name} {tag} ", time.replace('Z', "+00:00")).into_bytes());
        log.extend(&content);
        log.push(b'\n');
        let mut line = open[which].take().unwrap_or((second * 1_000_000_000, Vec::new()));
        line.1.extend(content);
        if is_full {
            line.1.push(b'\n');
            lines.push(line);
        } else {
            open[which] = Some(line);
        }
    }
    let mut rest: Vec<_> = open.into_iter().flatten().collect();
    rest.sort_by_key(|line| line.0);
    (log, lines, rest)
}

/// A folder of its own for each test, gone at its end.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let dir = std::env::temp_dir().join(format!("mcp-cri-{}-{name}", std::process::id()));
        fs::create_dir_all(dir.join("log/s/c/c")).unwrap();
        Dir(dir)
    }

    fn paths(&self) -> InstancePaths {
        Paths::under(&self.0).component("s", "c").instance(Slot::C)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn lines_are_found_by_time_and_from_the_end() {
    let mut random = Random(11);
    for round in 0..120 {
        let dir = Dir::new("find");
        let size = if round % 40 == 39 { 20_000 } else { 60 };
        let (log, lines, rest) = random_log(&mut random, size);
        let text: Vec<u8> = lines.iter().chain(&rest).flat_map(|(_, line)| line.clone()).collect();
        if rest.len() < 2 {
            assert_eq!(contents(&log), text);
        }
        // In some files, cut between records.
        let series = Series::console(&dir.paths());
        let borders: Vec<usize> = memchr::memchr_iter(b'\n', &log).map(|i| i + 1).collect();
        let mut cuts: Vec<usize> = (0..random.below(3)).map(|_| borders[random.below(borders.len())]).collect();
        cuts.sort_unstable();
        let mut at = 0;
        for (i, cut) in cuts.iter().enumerate() {
            fs::write(series.log_path(Some(i as u64 + 1)), &log[at..*cut]).unwrap();
            at = *cut;
        }
        fs::write(series.log_path(None), &log[at..]).unwrap();
        let files = series.open().unwrap();
        let last = lines.last().map_or(0, |l| l.0 / 1_000_000_000) as usize;
        for count in [None, Some(1), Some(2), Some(7), Some(1000)] {
            let mut time = || random.below(last + 3) as u64 * 1_000_000_000;
            let (since, until) = match round % 3 {
                0 => (0, u64::MAX),
                1 => (time(), u64::MAX),
                _ => (time(), time()),
            };
            let window = since..=until;
            let (place, found) = find(&files, &window, count).unwrap();
            // What a reader gets who begins there.
            let flat = files.iter().take(place.file).map(|f| f.length).sum::<u64>() + place.offset;
            let (mut decoder, mut left) = (Decoder::default(), &log[flat as usize..]);
            let mut assembled = Lines::default();
            let mut got = Vec::new();
            while let Some(Record { nanos, stream, content, ends, length }) = decoder.next(left, false) {
                let open = assembled.of(stream);
                open.begin(nanos);
                open.bytes.extend(&left[content]);
                if ends {
                    got.push((open.nanos, open.bytes.clone()));
                    open.end();
                }
                left = &left[length..];
            }
            for stream in assembled.rest() {
                let open = assembled.of(stream);
                got.push((open.nanos, open.bytes.clone()));
            }
            got.retain(|line| window.contains(&line.0));
            let wanted = || lines.iter().chain(&rest).filter(|l| window.contains(&l.0)).cloned();
            match count {
                None => assert_eq!(got, wanted().collect::<Vec<_>>()),
                Some(count) => {
                    assert_eq!(found, got.len() as u64, "{window:?} {count}");
                    let skip = found.saturating_sub(count) as usize;
                    let all: Vec<_> = wanted().collect();
                    assert_eq!(
                        got[skip..],
                        all[all.len().saturating_sub(count as usize)..],
                        "{size} records, {window:?}, {count} of {found}"
                    );
                    assert!(size < 1000 || count > 7 || got.len() < 2000, "it looked at too much: {}", got.len());
                }
            }
        }
    }
}

#[test]
fn last_lines_of_a_container() {
    let dir = Dir::new("last");
    let paths = dir.paths();
    let write = |text: String| fs::write(paths.console(), text).unwrap();
    let last = |count, bytes| last_lines(&paths, None, count, bytes);
    assert_eq!(last(3, 4096), Vec::<String>::new());
    write(format!("{TIME} stdout F one\n{TIME} stdout P two \n{TIME} stderr F \x1b[0m\r\n{TIME} stdout F halves\n"));
    assert_eq!(last(3, 4096), ["one", r"\x1b[0m", "two halves"]);
    assert_eq!(last(1, 4096), ["two halves"]);
    assert_eq!(last(9, 8), [" halves"]);
    let mark = tail::mark(&paths).unwrap();
    assert_eq!(last_lines(&paths, Some(&mark), 3, 4096), Vec::<String>::new());
    let old = fs::read_to_string(paths.console()).unwrap();
    write(format!("{old}{TIME} stdout F after\n{TIME} stderr P the mark\n"));
    assert_eq!(last_lines(&paths, Some(&mark), 3, 4096), ["after", "the mark"]);
    // Rotated: conmon goes on in a file of its own.
    let series = Series::console(&paths);
    fs::rename(paths.console(), series.log_path(Some(1))).unwrap();
    write(format!("{TIME} stderr F is far\n"));
    assert_eq!(
        last_lines(&paths, Some(&mark), 3, 4096),
        ["after", "the mark is far".replace("mark is", "markis").as_str()]
    );
    // The container's last lines, though much stands before them.
    write(format!("{TIME} stdout F {}\n", "x".repeat(8192)).repeat(100));
    assert_eq!(last(2, 4096), ["x".repeat(4095)]);
    write((0..9999).map(|i| format!("{TIME} stdout F line {i}\n")).collect());
    assert_eq!(last(3, 16 << 10), ["line 9996", "line 9997", "line 9998"]);
    assert_eq!(last(100, 16 << 10).len(), 100);
}

#[test]
fn a_record_is_found_by_an_offset_in_it() {
    let dir = Dir::new("before");
    let log = format!("{TIME} stdout F one\n{TIME} stdout F two\n");
    let second = log.len() / 2;
    fs::write(dir.0.join("x"), &log).unwrap();
    let file = fs::File::open(dir.0.join("x")).unwrap();
    for offset in 0..=log.len() {
        let want = if offset == log.len() { offset } else { offset / second * second };
        assert_eq!(record_before(&file, offset as u64).unwrap(), want as u64);
    }
}

/// Takes `log` apart as a whole and as a follower gets it, piece by piece: panics unless both agree and no byte was left
/// out that isn't a header's.
fn check(log: &[u8]) {
    let (mut decoder, mut at) = (Decoder::default(), 0);
    let mut whole = Vec::new();
    while let Some(record) = decoder.next(log.get(at..).unwrap_or_default(), false) {
        assert!(record.length > 0 && record.content.end <= record.length, "{record:?}");
        let content = log.get(at..at + record.length).and_then(|b| b.get(record.content.clone())).unwrap_or_default();
        assert!(record.ends == content.ends_with(b"\n"), "{record:?}");
        assert!(record.stream != Stream::Other || content.len() == record.length, "{record:?}");
        whole.push((record.stream, record.nanos, content));
        at += record.length;
    }
    assert!(log.len() - at < RECORD_MAX, "a rest of {} bytes", log.len() - at);
    let (mut decoder, mut begin) = (Decoder::default(), 0);
    let mut parts = whole.iter();
    for end in (0..log.len()).step_by(7).chain([log.len()]) {
        while let Some(record) = decoder.next(log.get(begin..end).unwrap_or_default(), false) {
            let bytes = log.get(begin..end).and_then(|b| b.get(record.content.clone())).unwrap_or_default();
            // A record that is too long is cut elsewhere.
            let same = parts.next().is_some_and(|part| *part == (record.stream, record.nanos, bytes));
            assert!(same || log.len() >= RECORD_MAX, "{record:?}");
            begin += record.length;
        }
    }
    assert!(begin == at || log.len() >= RECORD_MAX, "{begin} and {at}");
    assert!(contents(log).len() <= log.len() + Stream::ALL.len());
}

/// What fuzz/fuzz_targets/cri.rs does.
#[test]
fn any_bytes_are_a_log() {
    let mut random = Random(5);
    for round in 0..1500 {
        let records = 1 + random.below(40);
        let (mut log, ..) = random_log(&mut random, records);
        for _ in 0..round % 9 {
            let at = random.below(log.len());
            match random.below(4) {
                0 => log[at] = random.below(256) as u8,
                1 => log.truncate(at.max(1)),
                2 => log.insert(at, b"\n FP:-+Z0\0"[random.below(10)]),
                _ => drop(log.drain(at..log.len().min(at + random.below(60)))),
            }
            if log.is_empty() {
                log.push(b'\n');
            }
        }
        check(&log);
    }
    check(&vec![b'x'; 5 * RECORD_MAX]);
    check(&[b'\n'; 100]);
}
