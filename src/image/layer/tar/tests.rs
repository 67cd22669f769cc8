//! Tars in every dialect, and broken in every place.
#![allow(clippy::unwrap_used)]

use super::super::super::limits::EXTENSIONS_MAX;
use super::*;

/// One block of a header, with the checksum right.
fn header(name: &[u8], kind: u8, size: u64, change: impl FnOnce(&mut [u8; 512])) -> Vec<u8> {
    let mut header = Header::new_ustar();
    let bytes = header.as_mut_bytes();
    bytes[..name.len()].copy_from_slice(name);
    bytes[156] = kind;
    change(bytes);
    header.set_mode(0o755);
    header.set_size(size);
    header.set_cksum();
    header.as_bytes().to_vec()
}

/// An entry with its contents.
fn entry(name: &str, kind: u8, data: &[u8]) -> Vec<u8> {
    let mut bytes = header(name.as_bytes(), kind, data.len() as u64, |_| ());
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn link(name: &str, kind: u8, target: &str) -> Vec<u8> {
    header(name.as_bytes(), kind, 0, |b| b[157..157 + target.len()].copy_from_slice(target.as_bytes()))
}

fn records(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let length = (rest..).find(|n| *n == rest + n.to_string().len()).unwrap();
        bytes.extend_from_slice(format!("{length} {key}=").as_bytes());
        bytes.extend_from_slice(value);
        bytes.push(b'\n');
    }
    bytes
}

fn pax(list: &[(&str, &[u8])]) -> Vec<u8> {
    entry("pax", b'x', &records(list))
}

const END: [u8; 1024] = [0; 1024];

fn read(parts: &[&[u8]]) -> Result<Vec<Entry>> {
    let bytes = parts.concat();
    let mut tar = Tar::new(Stream::new(bytes.as_slice(), None));
    let mut entries = Vec::new();
    while let Some(entry) = tar.entry()? {
        entries.push(entry);
    }
    let (digest, size) = tar.finish()?;
    assert_eq!((digest, size), (Digest::of(&bytes), bytes.len() as u64));
    Ok(entries)
}

fn paths(parts: &[&[u8]]) -> Vec<String> {
    let paths = read(parts).unwrap().into_iter();
    paths.map(|e| format!("{} {:?}", String::from_utf8_lossy(&e.path), e.kind)).collect()
}

fn refused(parts: &[&[u8]], with: &str) {
    let error = read(parts).unwrap_err().to_string();
    assert!(error.contains(with), "{error}");
    assert!(!error.contains('\n'), "{error}");
}

#[test]
fn files_and_where_they_are() {
    let found = read(&[&entry("./a", b'0', b"12345"), &entry("/b", 0, &[7; 600]), &entry("c/", 0, b""), &END]).unwrap();
    let file = |size, from| Kind::File(Content { size, pieces: vec![Piece { at: 0, from, length: size }] });
    assert_eq!((found[0].path.as_slice(), &found[0].kind), (&b"a"[..], &file(5, 512)));
    assert_eq!((found[1].path.as_slice(), &found[1].kind), (&b"b"[..], &file(600, 1536)));
    assert_eq!(found[2].kind, Kind::Directory, "v7 says it with a slash");
    assert_eq!(found[0].mode, 0o755);
}

#[test]
fn the_end_may_be_missing_but_not_half_there() {
    let file = entry("a", b'0', b"12345");
    for end in [&END[..], &END[..512], b"", &[0; 10240]] {
        assert_eq!(read(&[&file, end]).unwrap().len(), 1);
    }
    assert_eq!(read(&[&END, b"whatever comes after"]).unwrap().len(), 0);
    // GNU tar pads the last block; who doesn't is understood.
    assert_eq!(read(&[&file[..517]]).unwrap().len(), 1);
    for length in (1..517).filter(|n| *n != 512) {
        assert!(read(&[&file[..length]]).is_err(), "{length}");
    }
    refused(&[&file, &END[..512], &file], "lone block of zeros");
    refused(&[&file, &file[..100]], "within a tar header");
    let mut wrong = file.clone();
    wrong[0] ^= 1;
    refused(&[&wrong], "no tar header at byte 0");
}

#[test]
fn long_names_in_all_dialects() {
    let long = "d/".repeat(150) + "f";
    let path = long.clone();
    let expected = format!("{path} {:?}", Kind::Fifo);
    let gnu = entry("././@LongLink", b'L', format!("{long}\0").as_bytes());
    assert_eq!(paths(&[&gnu, &entry("short", b'6', b"")])[0], expected);
    let with_pax = pax(&[("path", long.as_bytes())]);
    assert_eq!(paths(&[&with_pax, &entry("short", b'6', b"")])[0], expected);
    assert_eq!(paths(&[&gnu, &with_pax, &entry("x", b'6', b"")]), [expected]);
    let ustar = header(b"f", b'6', 0, |b| b[345..350].copy_from_slice(b"x/y/z"));
    assert_eq!(paths(&[&ustar]), [format!("x/y/z/f {:?}", Kind::Fifo)]);
    let target = "t".repeat(300);
    let far = entry("././@LongLink", b'K', format!("{target}\0").as_bytes());
    assert_eq!(read(&[&far, &link("l", b'2', "no")]).unwrap()[0].kind, Kind::Symlink(target.clone().into_bytes()));
    let far = pax(&[("linkpath", target.as_bytes())]);
    assert!(read(&[&far, &link("l", b'1', "no")]).is_err(), "a name of 300 bytes");
    // What belongs to one entry is no other's.
    assert_eq!(paths(&[&with_pax, &entry("x", b'6', b""), &entry("y", b'6', b"")])[1], format!("y {:?}", Kind::Fifo));
}

#[test]
fn pax_says_what_a_header_has_no_room_for() {
    let value = b"\x01\0\n=\xff";
    let list: [(&str, &[u8]); 8] = [
        ("uid", b"4000000000"),
        ("gid", b"7"),
        ("mtime", b"-1.5"),
        ("size", b"3"),
        ("SCHILY.xattr.user.a", b"old"),
        ("SCHILY.xattr.security.capability", value),
        ("SCHILY.xattr.user.a", b"new"),
        ("comment", b"none"),
    ];
    let mut file = header(b"f", b'0', 0, |_| ());
    file.extend_from_slice(b"abc");
    let found = read(&[&pax(&list), &file]).unwrap().remove(0);
    assert_eq!((found.uid, found.gid, found.mtime), (4_000_000_000, 7, -2));
    let content = Content { size: 3, pieces: vec![Piece { at: 0, from: 1536, length: 3 }] };
    assert_eq!(found.kind, Kind::File(content));
    let xattrs = [(&b"security.capability"[..], &value[..]), (b"user.a", b"new")];
    assert_eq!(found.xattrs.iter().map(|(n, v)| (n.as_slice(), v.as_slice())).collect::<Vec<_>>(), xattrs);
    let global = entry("pax_global_header", b'g', &records(&[("path", b"everywhere"), ("comment", b"abc")]));
    assert_eq!(read(&[&global, &entry("f", b'0', b"")]).unwrap()[0].path, b"f");
}

#[test]
fn broken_pax_is_refused() {
    let file = entry("f", b'0', b"");
    let bad: [&[u8]; 12] = [
        b"x",
        b"12 a=b\n",
        b"5 a=b\n",
        b"6 a=bc",
        b"4 =\n",
        b"99999999999999999999999 a=b\n",
        b"-1 a=b\n",
        b"10 uid=-1\n",
        b"9 uid=x\n",
        b"19 uid=99999999999\n",
        b"12 path=a\0b\n",
        b"11 mtime=x\n",
    ];
    for text in bad {
        assert!(read(&[&entry("pax", b'x', text), &file]).is_err(), "{}", String::from_utf8_lossy(text));
    }
    let long = vec![b'a'; EXTENSIONS_MAX as usize];
    refused(&[&pax(&[("comment", &long)]), &file], "extension headers");
    let half = vec![b'a'; EXTENSIONS_MAX as usize * 2 / 3];
    refused(&[&pax(&[("comment", &half)]), &pax(&[("comment", &half)]), &file], "extension headers");
    refused(&[&pax(&[("path", b"x")])], "after an extension header");
    let many: Vec<String> = (0..2000).map(|n| format!("SCHILY.xattr.user.{n}")).collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|n| (n.as_str(), &b"x"[..])).collect();
    refused(&[&pax(&many), &file], "broken PAX record");
}

fn sparse(parts: &[&[u8]], size: u64, pieces: &[(u64, u64, u64)]) {
    let found = read(parts).unwrap();
    let pieces = pieces.iter().map(|(at, from, length)| Piece { at: *at, from: *from, length: *length }).collect();
    assert_eq!(found[0].kind, Kind::File(Content { size, pieces }));
    assert_eq!(found[0].path, b"sparse");
    assert_eq!(found[1].path, b"after");
}

#[test]
fn files_with_holes_in_four_ways() {
    let after = entry("after", b'0', b"x");
    let data = [b'd'; 15];
    let version = |n: &'static [u8]| [("GNU.sparse.major", n), ("GNU.sparse.minor", &b"0"[..])];
    // 0.0
    let list: [(&str, &[u8]); 6] = [
        ("GNU.sparse.size", b"10000"),
        ("GNU.sparse.numblocks", b"2"),
        ("GNU.sparse.offset", b"100"),
        ("GNU.sparse.numbytes", b"10"),
        ("GNU.sparse.offset", b"5000"),
        ("GNU.sparse.numbytes", b"5"),
    ];
    sparse(&[&pax(&list), &entry("sparse", b'0', &data), &after], 10_000, &[(100, 1536, 10), (5000, 1546, 5)]);
    // 0.1
    let list: [(&str, &[u8]); 4] = [
        ("GNU.sparse.size", b"10000"),
        ("GNU.sparse.map", b"100,10,5000,5,10000,0"),
        ("GNU.sparse.name", b"sparse"),
        ("path", b"GNUSparseFile.1/sparse"),
    ];
    sparse(&[&pax(&list), &entry("x", b'0', &data), &after], 10_000, &[(100, 1536, 10), (5000, 1546, 5)]);
    // 1.0
    let mut list = version(b"1").to_vec();
    list.extend([("GNU.sparse.realsize", &b"10000"[..]), ("GNU.sparse.name", b"sparse")]);
    let mut with_map = b"2\n100\n10\n5000\n5\n".to_vec();
    with_map.resize(512, 0);
    with_map.extend_from_slice(&data);
    sparse(&[&pax(&list), &entry("x", b'0', &with_map), &after], 10_000, &[(100, 2048, 10), (5000, 2058, 5)]);
    // GNU's old way, with one block more.
    let number = |n: u64| format!("{n:011o}\0").into_bytes();
    let mut file = header(b"sparse", b'S', 15, |b| {
        b[257..265].copy_from_slice(b"ustar  \0");
        b[386..410].copy_from_slice(&[number(100), number(10)].concat());
        b[482] = 1;
        b[483..495].copy_from_slice(&number(10_000));
    });
    let mut more = [number(5000), number(5)].concat();
    more.resize(512, 0);
    file.extend_from_slice(&more);
    file.extend_from_slice(&data);
    file.resize(file.len().next_multiple_of(512), 0);
    sparse(&[&file, &after], 10_000, &[(100, 1024, 10), (5000, 1034, 5)]);
}

#[test]
fn broken_maps_of_holes_are_refused() {
    for map in ["10", "0,5,3,5", "0,99999", "18446744073709551615,1", "0,1,,", "x", "0,5"] {
        let list: [(&str, &[u8]); 2] = [("GNU.sparse.size", b"1000"), ("GNU.sparse.map", map.as_bytes())];
        assert!(read(&[&pax(&list), &entry("f", b'0', b"1234567890")]).is_err(), "{map}");
    }
    let list: [(&str, &[u8]); 3] =
        [("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"1000")];
    for map in ["", "2\n0\n5\n", "99999999\n", "x\n", "1\n0\n11\n", "1\n5\n5", "111111111111111111111\n"] {
        assert!(read(&[&pax(&list), &entry("f", b'0', map.as_bytes())]).is_err(), "{map}");
    }
    let huge: [(&str, &[u8]); 2] = [("GNU.sparse.size", b"9223372036854775807"), ("GNU.sparse.map", b"0,1")];
    assert!(read(&[&pax(&huge), &entry("f", b'0', b"1")]).is_err(), "a bomb without bytes");
    let big: [(&str, &[u8]); 2] = [("GNU.sparse.size", b"40000000000"), ("GNU.sparse.map", b"0,1")];
    let one = [pax(&big), entry("f", b'0', b"1")].concat();
    assert!(read(&[&one]).is_ok());
    refused(&[&one, &one], "holes included");
}

#[test]
fn whiteouts() {
    let fifo = |name: &str| entry(name, b'0', b"");
    let found =
        paths(&[&fifo("a/.wh.b"), &fifo(".wh.c"), &fifo("d/.wh..wh..opq"), &fifo(".wh..wh..opq"), &fifo("e.wh.x")]);
    assert_eq!(&found[..4], ["a/b Whiteout", "c Whiteout", "d Opaque", " Opaque"]);
    assert!(found[4].starts_with("e.wh.x File"));
    assert!(paths(&[&fifo(".wh..wh.aufs"), &fifo(".wh..wh.plnk/1.2"), &fifo("a/.wh..wh.orph")]).is_empty());
    for name in [".wh.", "a/.wh.", ".wh..", "a/.wh...", "x/.wh../"] {
        refused(&[&fifo(name)], "whiteout");
    }
}

#[test]
fn what_leads_out_or_makes_no_sense_is_refused() {
    for name in ["../x", "a/../../x", "/..", "a/.."] {
        refused(&[&entry(name, b'0', b"")], "leads out");
    }
    refused(&[&link("a", b'1', "../../etc/passwd")], "leads out");
    refused(&[&link("a", b'1', "a")], "hard link");
    refused(&[&link("a", b'1', "")], "hard link");
    refused(&[&link("a", b'2', "")], "symbolic link");
    for kind in *b"VMDNAXs" {
        refused(&[&entry("a", kind, b"")], "unknown type");
    }
    refused(&[&header(b"a", b'3', 0, |b| b[329..336].copy_from_slice(b"7777777"))], "a device");
    let size = |bytes: [u8; 12]| {
        let mut block = header(b"a", b'0', 0, |_| ());
        block[124..136].copy_from_slice(&bytes);
        let mut header = Header::new_old();
        header.as_mut_bytes().copy_from_slice(&block);
        header.set_cksum();
        header.as_bytes().to_vec()
    };
    refused(&[&size([0xff; 12])], "negative size");
    refused(&[&size(*b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff")], "a file of");
    refused(&[&size(*b"zzzzzzzzzzzz")], "broken size");
    // Links of the image may lead anywhere: they are followed inside it.
    assert!(read(&[&link("a", b'2', "../../../etc/passwd")]).is_ok());
}

/// Random damage to good tars, as the fuzz target does it: any end but a panic.
#[test]
fn any_bytes_have_an_answer() {
    let long = entry("././@LongLink", b'L', b"./a//b\0");
    let list: [(&str, &[u8]); 3] = [("path", b"p"), ("GNU.sparse.size", b"600"), ("GNU.sparse.map", b"0,5")];
    let good = [
        entry("a/", b'5', b""),
        long,
        entry("a/b", b'0', &[1; 600]),
        link("a/c", b'2', "b"),
        link("a/d", b'1', "a/b"),
        pax(&list),
        entry("s", b'0', b"12345"),
        entry("a/.wh.x", b'0', b""),
        entry(".wh..wh..opq", b'0', b""),
    ]
    .concat();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let mut answers = [0, 0];
    for _ in 0..800 {
        let mut bytes = good.clone();
        for _ in 0..1 + random(4) {
            let at = random(bytes.len());
            bytes[at] = [0, b'/', b'.', 0xff, random(256) as u8][random(5)];
            // The checksum right again, or nothing behind it would be seen.
            for block in bytes.chunks_exact_mut(512) {
                if block[257..262] == *b"ustar" {
                    block[148..156].fill(b' ');
                    let sum: u64 = block.iter().map(|b| u64::from(*b)).sum();
                    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
                }
            }
        }
        bytes.truncate(bytes.len() - random(2) * random(1024));
        answers[usize::from(super::super::fuzz(&bytes))] += 1;
    }
    assert!(answers.iter().all(|n| *n > 50), "{answers:?}");
}
