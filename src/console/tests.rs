#![allow(clippy::unwrap_used)]

use super::files::Series;
use super::index::{self, HEADER, Index, IndexWriter, RECORD, Record};
use super::tail::{self, Place};
use crate::sys::paths::{InstancePaths, Paths, Slot};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A folder of its own for each test, gone at its end.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Dir {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("mcp-console-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(dir.join("log/s/c/a")).unwrap();
        Dir(dir)
    }

    fn paths(&self) -> InstancePaths {
        Paths::under(&self.0).component("s", "c").instance(Slot::A)
    }

    fn series(&self) -> Series {
        Series::console(&self.paths())
    }

    fn put(&self, number: Option<u64>, text: &[u8]) -> PathBuf {
        let path = self.series().log_path(number);
        fs::write(&path, text).unwrap();
        path
    }

    fn index(&self, number: Option<u64>, inode: u64, records: &[(u64, u64)]) -> PathBuf {
        let mut bytes = index::encode_header(inode).to_vec();
        for (offset, nanos) in records {
            bytes.extend(Record { offset: *offset, nanos: *nanos }.encode());
        }
        let path = self.series().index_path(number).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn set_modified(path: &Path, seconds: u64) {
    OpenOptions::new().write(true).open(path).unwrap().set_modified(at(seconds)).unwrap();
}

/// The runs of times of the file at `position`, in whole seconds.
fn runs(series: &Series, position: usize, from: u64, to: u64) -> Vec<(u64, u64)> {
    let mut files = series.open().unwrap();
    let mut runs = Vec::new();
    files[position].times(series, from, to, |end, nanos| runs.push((end, nanos / 1_000_000_000))).unwrap();
    runs
}

/// A small random number generator: xorshift.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

#[test]
fn format_is_fixed() {
    let header = index::encode_header(0x0102_0304);
    assert_eq!(&header, b"mcpidx1\n\x04\x03\x02\x01\0\0\0\0");
    assert_eq!(index::decode_header(header), Some(0x0102_0304));
    assert_eq!(index::decode_header([7; 16]), None);
    let record = Record { offset: 258, nanos: 1 };
    assert_eq!(&record.encode(), b"\x02\x01\0\0\0\0\0\0\x01\0\0\0\0\0\0\0");
    assert_eq!(Record::decode(record.encode()), record);
}

#[test]
fn writer_goes_on_and_cuts_off_what_is_torn() {
    let dir = Dir::new();
    let log = dir.put(None, &[b'x'; 100]);
    let path = dir.series().index_path(None).unwrap();
    let mut writer = IndexWriter::open(&path, inode(&log)).unwrap();
    writer.append(10, at(100)).unwrap();
    writer.append(10, at(101)).unwrap();
    writer.append(20, at(99)).unwrap();
    drop(writer);
    assert_eq!(fs::metadata(&path).unwrap().len(), HEADER + 2 * RECORD);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);

    OpenOptions::new().append(true).open(&path).unwrap().write_all(b"torn").unwrap();
    let mut writer = IndexWriter::open(&path, inode(&log)).unwrap();
    assert_eq!(writer.last(), Record { offset: 20, nanos: 100_000_000_000 });
    writer.append(50, at(200)).unwrap();
    drop(writer);
    assert_eq!(fs::metadata(&path).unwrap().len(), HEADER + 3 * RECORD);
    assert_eq!(runs(&dir.series(), 0, 0, 50), [(10, 100), (20, 100), (50, 200)]);

    // Another log's: begun anew.
    let writer = IndexWriter::open(&path, 1).unwrap();
    assert_eq!(writer.last(), Record::default());
    assert_eq!(fs::read(&path).unwrap(), index::encode_header(1));
}

#[test]
fn no_index_where_there_is_none() {
    let dir = Dir::new();
    let path = dir.series().index_path(None).unwrap();
    assert!(Index::open(&path).unwrap().is_none());
    for junk in [&b""[..], b"mcpidx1\n", b"not an index at all"] {
        fs::write(&path, junk).unwrap();
        assert!(Index::open(&path).unwrap().is_none());
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(Index::open(&path).unwrap().is_none());
    // The log is then as old as its last change.
    let log = dir.put(None, b"a\nb\n");
    set_modified(&log, 500);
    assert_eq!(runs(&dir.series(), 0, 0, 4), [(4, 500)]);
    let files = dir.series().open().unwrap();
    assert_eq!(files[0].offset_since(500_000_000_000).unwrap(), 0);
    assert_eq!(files[0].offset_since(500_000_000_001).unwrap(), 4);
    assert_eq!(files[0].offset_until(500_000_000_000).unwrap(), 4);
    assert_eq!(files[0].offset_until(499_999_999_999).unwrap(), 0);
}

#[test]
fn times_and_places() {
    let dir = Dir::new();
    let log = dir.put(None, &[b'x'; 100]);
    let second = 1_000_000_000;
    dir.index(None, inode(&log), &[(10, 100 * second), (40, 200 * second), (80, 300 * second)]);
    set_modified(&log, 400);
    let series = dir.series();
    assert_eq!(runs(&series, 0, 0, 100), [(10, 100), (40, 200), (80, 300), (100, 400)]);
    assert_eq!(runs(&series, 0, 40, 41), [(41, 300)]);
    assert_eq!(runs(&series, 0, 39, 41), [(40, 200), (41, 300)]);
    let file = &series.open().unwrap()[0];
    for (time, since, until) in
        [(99, 0, 0), (100, 0, 10), (101, 10, 10), (200, 10, 40), (300, 40, 80), (301, 80, 80), (400, 80, 100)]
    {
        assert_eq!(file.offset_since(time * second).unwrap(), since, "since {time}");
        assert_eq!(file.offset_until(time * second).unwrap(), until, "until {time}");
    }
    assert_eq!(file.offset_since(401 * second).unwrap(), 100);
}

#[test]
fn junk_between_records_is_skipped() {
    let dir = Dir::new();
    let log = dir.put(None, &[b'x'; 100]);
    set_modified(&log, 900);
    let second = 1_000_000_000;
    let good = [(10, 100 * second), (20, 200 * second), (30, 300 * second)];
    for junk in [(0, 0), (u64::MAX, 150 * second), (15, u64::MAX), (5, 150 * second), (15, 1), (101, 150 * second)] {
        for place in 0..=3 {
            let mut records = good.to_vec();
            records.insert(place, junk);
            dir.index(None, inode(&log), &records);
            let runs = runs(&dir.series(), 0, 25, 100);
            assert_eq!(runs, [(30, 300), (100, 900)], "{junk:?} at {place}");
        }
    }
    // A power cut may leave zeros.
    let mut records = good.to_vec();
    records.extend([(0, 0); 1000]);
    let path = dir.index(None, inode(&log), &records);
    assert_eq!(runs(&dir.series(), 0, 0, 30), [(10, 100), (20, 200), (30, 300)]);
    let mut writer = IndexWriter::open(&path, inode(&log)).unwrap();
    writer.append(60, at(500)).unwrap();
    assert_eq!(runs(&dir.series(), 0, 0, 100), [(10, 100), (20, 200), (30, 300), (60, 500), (100, 900)]);
}

#[test]
fn random_bytes_are_survived() {
    let dir = Dir::new();
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    for round in 0..300 {
        let length = 1 + random.below(5000);
        let log = dir.put(None, &vec![b'\n'; length as usize]);
        let mut bytes = index::encode_header(inode(&log)).to_vec();
        for _ in 0..random.below(300) {
            let small = random.below(2) == 0;
            let bound = if small { length + 10 } else { u64::MAX };
            let most = u64::MAX >> random.below(64);
            bytes.extend(Record { offset: random.below(bound), nanos: random.below(most) }.encode());
        }
        bytes.truncate(bytes.len() - random.below(20).min(bytes.len() as u64 - HEADER) as usize);
        let path = dir.series().index_path(None).unwrap();
        fs::write(&path, &bytes).unwrap();
        let (mut end, mut last) = (0, 0);
        for (to, time) in runs(&dir.series(), 0, 0, length) {
            assert!(to > end && to <= length && time >= last, "round {round}");
            (end, last) = (to, time);
        }
        assert_eq!(end, length);
        let files = dir.series().open().unwrap();
        for _ in 0..20 {
            let time = random.below(u64::MAX);
            assert!(files[0].offset_since(time).unwrap() <= length);
            assert!(files[0].offset_until(time).unwrap() <= length);
        }
        let mut writer = IndexWriter::open(&path, inode(&log)).unwrap();
        writer.append(length, SystemTime::now()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len() % RECORD, 0);
    }
}

#[test]
fn a_long_index_is_searched() {
    let dir = Dir::new();
    let log = dir.put(None, b"");
    File::options().write(true).open(&log).unwrap().set_len(1_000_000).unwrap();
    let records: Vec<(u64, u64)> = (1..=10_000).map(|i| (i * 100, i * 1_000_000_000)).collect();
    dir.index(None, inode(&log), &records);
    let file = &dir.series().open().unwrap()[0];
    for i in [1, 2, 63, 64, 65, 4999, 5000, 9999, 10_000u64] {
        assert_eq!(file.offset_since(i * 1_000_000_000).unwrap(), (i - 1) * 100);
        assert_eq!(file.offset_until(i * 1_000_000_000).unwrap(), i * 100);
        assert_eq!(runs(&dir.series(), 0, i * 100 - 1, i * 100), [(i * 100, i)]);
    }
    assert_eq!(runs(&dir.series(), 0, 0, 1_000_000).len(), 10_000);
}

#[test]
fn files_in_order_each_with_its_index() {
    let dir = Dir::new();
    let series = dir.series();
    assert!(series.open().unwrap().is_empty());
    assert_eq!(series.next_number().unwrap(), 1);
    let old = dir.put(Some(2), b"old\n");
    let new = dir.put(Some(10), b"new\n");
    let live = dir.put(None, b"live\n");
    for name in ["console.log.3", "console.log.00000x", "console.log.000003.gz", "console.log.", "other"] {
        fs::write(series.dir().join(name), b"no").unwrap();
    }
    dir.index(Some(2), inode(&old), &[(4, 1_000_000_000)]);
    // A rotation killed between its renames: the newest rotated one's index has no number yet.
    let orphan = dir.index(None, inode(&new), &[(4, 2_000_000_000)]);
    set_modified(&live, 3);
    for file in [&old, &new] {
        set_modified(file, 1);
    }
    let numbers: Vec<_> = series.open().unwrap().iter().map(|f| f.number).collect();
    assert_eq!(numbers, [Some(2), Some(10), None]);
    assert_eq!(runs(&series, 0, 0, 4), [(4, 1)]);
    assert_eq!(runs(&series, 1, 0, 4), [(4, 2)]);
    assert_eq!(runs(&series, 2, 0, 5), [(5, 3)]);
    assert_eq!(series.next_number().unwrap(), 11);

    series.settle().unwrap();
    assert!(!orphan.exists() && series.index_path(Some(10)).unwrap().exists());
    series.settle().unwrap();
    assert_eq!(runs(&series, 1, 0, 4), [(4, 2)]);

    let name = |p: &PathBuf| p.file_name().unwrap().to_str().unwrap().to_string();
    let expired: Vec<_> = series.expired(1).unwrap().iter().map(name).collect();
    assert_eq!(expired, ["console.log.000002", "console.idx.000002"]);
    assert_eq!(series.expired(0).unwrap().len(), 4);
    assert!(series.expired(2).unwrap().is_empty());
    // An index whose log is gone goes too, and its number isn't used again.
    dir.index(Some(20), 1, &[]);
    assert_eq!(series.expired(9).unwrap(), [series.index_path(Some(20)).unwrap()]);
    assert_eq!(series.next_number().unwrap(), 21);
}

#[test]
fn a_live_index_is_not_given_away() {
    let dir = Dir::new();
    dir.put(Some(1), b"old\n");
    let live = dir.put(None, b"live\n");
    let index = dir.index(None, inode(&live), &[(5, 1)]);
    dir.series().settle().unwrap();
    assert!(index.exists());
}

#[test]
fn last_lines_across_files() {
    let dir = Dir::new();
    let paths = dir.paths();
    let last = |n, bytes| tail::last_lines(&paths, None, n, bytes);
    assert!(last(5, 1000).is_empty());
    dir.put(Some(1), b"one\ntwo\r\nth");
    dir.put(Some(2), b"");
    dir.put(Some(3), b"ree\n\nfi");
    dir.put(None, b"ve \x1b[0m\xff\n");
    assert_eq!(last(9, 1000), ["one", "two", "three", "", r"five \x1b[0m\xff"]);
    assert_eq!(last(3, 1000), ["three", "", r"five \x1b[0m\xff"]);
    assert_eq!(last(0, 1000), [""; 0]);
    assert_eq!(last(9, 14), ["e", "", r"five \x1b[0m\xff"]);
    assert_eq!(last(9, 0), [""; 0]);
    dir.put(None, b"ve\nno end");
    assert_eq!(last(2, 1000), ["five", "no end"]);
    // A line without end costs what was allowed.
    dir.put(None, &vec![b'x'; 1 << 20]);
    assert_eq!(last(2, 4096), ["x".repeat(4096)]);
}

#[test]
fn counting_back_agrees_with_counting() {
    let mut random = Random(7);
    for _ in 0..200 {
        let dir = Dir::new();
        let mut all = Vec::new();
        let files = 1 + random.below(4);
        for n in 1..=files {
            let text: Vec<u8> =
                (0..random.below(40)).map(|_| if random.below(4) == 0 { b'\n' } else { b'x' }).collect();
            dir.put((n < files).then_some(n), &text);
            all.extend(text);
        }
        let opened = dir.series().open().unwrap();
        let flat = |p: Place| opened.iter().take(p.file).map(|f| f.length).sum::<u64>() + p.offset;
        let lines: Vec<&[u8]> = all.split_inclusive(|b| *b == b'\n').collect();
        for count in 0..10u64 {
            let (place, found) = tail::last_lines_from(&opened, tail::BEGIN, tail::end(&opened), count).unwrap();
            let want = lines.len().saturating_sub(count as usize);
            assert_eq!(found, (lines.len() - want) as u64);
            assert_eq!(flat(place), lines[..want].concat().len() as u64);
        }
        let mut at = 0;
        for (i, file) in opened.iter().enumerate() {
            for offset in 0..=file.length {
                let here = all.len().min(at + offset as usize);
                let end = match here {
                    0 => 0,
                    _ if all[here - 1] == b'\n' => here,
                    _ => all[here..].iter().position(|b| *b == b'\n').map_or(all.len(), |i| here + i + 1),
                };
                let next = tail::next_line(&opened, Place { file: i, offset }).unwrap();
                assert_eq!(flat(next), end as u64);
            }
            at += file.length as usize;
        }
    }
}

#[test]
fn last_lines_since_an_instance_began() {
    let dir = Dir::new();
    let paths = dir.paths();
    let live = dir.put(None, b"old 1\nold 2, cut sho");
    let mark = tail::mark(&paths).unwrap();
    let since = |mark: &crate::model::state::Mark| tail::last_lines(&paths, Some(mark), 10, 4096);
    assert_eq!(since(&mark), Vec::<String>::new());
    let append = |path: &Path, text: &str| {
        OpenOptions::new().append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    };
    append(&live, "new 1\nnew 2\n");
    assert_eq!(since(&mark), ["new 1", "new 2"]);
    // As state.json has it.
    let kept: crate::model::state::Mark = serde_json::from_str(&serde_json::to_string(&mark).unwrap()).unwrap();
    assert_eq!(since(&kept), ["new 1", "new 2"]);
    // Rotated, once and twice: QEMU goes on in a new file.
    let series = dir.series();
    fs::rename(&live, series.log_path(Some(series.next_number().unwrap()))).unwrap();
    dir.put(None, b"new 3\n");
    assert_eq!(since(&mark), ["new 1", "new 2", "new 3"]);
    fs::rename(&live, series.log_path(Some(series.next_number().unwrap()))).unwrap();
    assert_eq!(since(&mark), ["new 1", "new 2", "new 3"]);
    dir.put(None, b"new 4\n");
    assert_eq!(since(&mark), ["new 1", "new 2", "new 3", "new 4"]);
    // Its first file has expired: what is left is all its own.
    fs::remove_file(series.log_path(Some(1))).unwrap();
    assert_eq!(since(&mark), ["new 3", "new 4"]);
    fs::remove_file(series.log_path(Some(2))).unwrap();
    assert_eq!(since(&mark), ["new 4"]);
    // The next instance in the slot, and one whose log was cut short by somebody.
    let next = tail::mark(&paths).unwrap();
    append(&live, "newer\n");
    assert_eq!(since(&next), ["newer"]);
    fs::write(&live, "x\n").unwrap();
    assert_eq!(since(&next), ["x"]);
    fs::remove_file(&live).unwrap();
    assert_eq!(since(&next), Vec::<String>::new());
}
