//! What is written is read, and damage is found.
#![allow(clippy::unwrap_used)]

use super::*;

fn sample() -> (Vec<Entry>, Vec<u8>) {
    let pieces = vec![Piece { at: 5, from: 1536, length: 7 }, Piece { at: 100, from: 1543, length: 1 }];
    let kinds = [
        ("", Kind::Directory),
        ("usr/bin", Kind::Directory),
        ("usr/bin/file", Kind::File(Content { size: 1 << 35, pieces })),
        ("usr/bin/fill", Kind::Symlink(b"../x\xff".to_vec())),
        ("usr/bin/filter", Kind::Hardlink(b"usr/bin/file".to_vec())),
        ("usr", Kind::Opaque),
        ("usr/gone", Kind::Whiteout),
        ("dev/null", Kind::CharDevice(1, 3)),
        ("dev/vda", Kind::BlockDevice(254, 1 << 19)),
        ("dev/pipe", Kind::Fifo),
    ];
    let make = |(n, (path, kind)): (usize, (&str, Kind))| Entry {
        path: path.into(),
        kind,
        mode: 0o4755,
        uid: u32::MAX - 1,
        gid: n as u32,
        mtime: [1_700_000_000, -1, i64::MAX, i64::MIN][n % 4],
        xattrs: if n == 2 { vec![(b"user.a".to_vec(), vec![0, 10, 255]), (b"b".to_vec(), vec![])] } else { Vec::new() },
    };
    let entries: Vec<Entry> = kinds.into_iter().enumerate().map(make).collect();
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes);
    entries.iter().for_each(|e| writer.add(e).unwrap());
    let entries_count = writer.entries();
    writer.finish(&Trailer { diff_id: Digest::of(b"x"), size: 12345, entries: entries_count }).unwrap();
    (entries, bytes)
}

fn read(bytes: &[u8]) -> crate::sys::Result<(Vec<Entry>, Option<Trailer>)> {
    let mut reader = Reader::new(bytes)?;
    let mut entries = Vec::new();
    while let Some(entry) = reader.entry()? {
        entries.push(entry);
    }
    Ok((entries, reader.trailer()))
}

#[test]
fn what_is_written_is_read() {
    let (entries, bytes) = sample();
    let (read, trailer) = read(&bytes).unwrap();
    assert_eq!(read, entries);
    assert_eq!(trailer, Some(Trailer { diff_id: Digest::of(b"x"), size: 12345, entries: 10 }));
}

#[test]
fn more_than_a_buffer() {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes);
    let (entries, _) = sample();
    for n in 0..20_000 {
        let mut entry = entries[n % entries.len()].clone();
        entry.path = format!("some/where/{n}").into();
        writer.add(&entry).unwrap();
    }
    writer.finish(&Trailer { diff_id: Digest::of(b""), size: 0, entries: 20_000 }).unwrap();
    let (read, _) = read(&bytes).unwrap();
    assert_eq!(read.len(), 20_000);
    assert_eq!(read[19_999].path, b"some/where/19999");
}

#[test]
fn damage_is_an_error() {
    let (_, bytes) = sample();
    for length in 0..bytes.len() {
        assert!(read(&bytes[..length]).is_err(), "cut to {length}");
    }
    for at in 0..bytes.len() {
        for change in [1, 0x80, 0xff] {
            let mut bytes = bytes.clone();
            bytes[at] ^= change;
            assert!(read(&bytes).is_err(), "byte {at}");
        }
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(read(&longer).is_err());
    assert!(read(b"mcp-idx\x02 and so on").unwrap_err().to_string().contains("version"));
}
