//! Packed bytes, good, many, cut and hostile.
#![allow(clippy::unwrap_used)]

use super::*;
use flate2::Compression;
use flate2::write::GzEncoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use std::io::Write;

/// A tar's first block, so that plain bytes are known as a tar, and `size` bytes more.
fn plain(size: usize) -> Vec<u8> {
    let mut header = ::tar::Header::new_ustar();
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend((0..size).map(|n| (n * n / 7) as u8));
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    compress_to_vec(bytes, CompressionLevel::Fastest)
}

/// Reads in pieces of seven bytes, as a slow network has them.
struct Dribble<'a>(&'a [u8]);

impl Read for Dribble<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let count = into.len().min(7);
        self.0.read(&mut into[..count])
    }
}

fn unpack_from(from: impl Read, packing: Packing) -> Result<Vec<u8>> {
    let mut unpack = Unpack::new(from, packing)?;
    let (mut all, mut buffer) = (Vec::new(), Vec::with_capacity(1000));
    loop {
        unpack.fill(&mut buffer)?;
        if buffer.is_empty() {
            return Ok(all);
        }
        all.extend_from_slice(&buffer);
    }
}

fn unpack(bytes: &[u8]) -> Result<Vec<u8>> {
    let slow = unpack_from(Dribble(bytes), Packing::Gzip);
    let fast = unpack_from(bytes, Packing::Gzip);
    assert_eq!(slow.as_ref().ok(), fast.as_ref().ok());
    fast
}

fn refused(bytes: &[u8], with: &str) {
    let error = unpack(bytes).unwrap_err();
    assert!(error.to_string().contains(with), "{error}");
    assert_eq!(error.exit_code(), 100, "{error}");
}

#[test]
fn the_first_bytes_tell_how_it_is_packed() {
    let bytes = plain(100_000);
    for packed in [bytes.clone(), gzip(&bytes), zstd(&bytes)] {
        for told in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
            assert!(unpack_from(packed.as_slice(), told).unwrap() == bytes);
        }
        assert!(unpack(&packed).unwrap() == bytes);
    }
    refused(b"BZh91AY&SY", "bzip2");
    refused(b"\xfd7zXZ\0 and more", "xz");
    refused(b"not a layer", "neither a tar nor");
    refused(&[b'x'; 4096], "neither a tar nor");
    refused(b"", "is empty");
    assert_eq!(unpack_from(&b""[..], Packing::Plain).unwrap(), b"");
}

#[test]
fn many_members_and_many_frames() {
    let (a, b) = (plain(70_000), vec![5; 300_000]);
    let both = [a.as_slice(), &b].concat();
    let skipped = [&b"\x5a\x2a\x4d\x18\x05\0\0\0"[..], b"12345"].concat();
    let empty = gzip(b"");
    for packed in [
        [gzip(&a), gzip(&b)].concat(),
        [gzip(&a), empty.clone(), gzip(&b), empty].concat(),
        [gzip(&a), gzip(&b), vec![0; 1000]].concat(),
        [zstd(&a), zstd(&b)].concat(),
        [skipped.clone(), zstd(&a), skipped.clone(), zstd(b""), zstd(&b), skipped.clone()].concat(),
    ] {
        assert!(unpack(&packed).unwrap() == both);
    }
    refused(&[gzip(&a), b"junk".to_vec()].concat(), "broken gzip");
    refused(&[zstd(&a), b"junk".to_vec()].concat(), "broken zstd");
    refused(&[zstd(&a), vec![0; 100]].concat(), "broken zstd");
    refused(&[zstd(&a), skipped[..10].to_vec()].concat(), "ends too early");
}

#[test]
fn what_is_cut_or_damaged_is_refused() {
    let bytes = plain(20_000);
    for (packed, name) in [(gzip(&bytes), "gzip"), (zstd(&bytes), "zstd")] {
        for length in (packed.len() / 2..packed.len()).step_by(11).chain([11, packed.len() - 1]) {
            refused(&packed[..length], &format!("broken {name}"));
        }
    }
    let packed = gzip(&bytes);
    for at in [packed.len() - 1, packed.len() - 5, packed.len() / 2, 3] {
        let mut packed = packed.clone();
        packed[at] ^= 0x55;
        refused(&packed, "broken gzip");
    }
}

#[test]
fn a_bomb_is_refused_before_it_goes_off() {
    // A window of 128 KiB, and blocks of so many times the same byte: four bytes each.
    let block = ((128 << 10 << 3) | (1 << 1) as u32).to_le_bytes();
    let bomb = [&b"\x28\xb5\x2f\xfd\x00\x38"[..], &[block[0], block[1], block[2], b'x'].repeat(4000)].concat();
    let mut unpack = Unpack::new(bomb.as_slice(), Packing::Zstd).unwrap();
    let (mut given, mut buffer) = (0, Vec::with_capacity(1 << 20));
    let error = loop {
        match unpack.fill(&mut buffer) {
            Ok(()) => given += buffer.len() as u64,
            Err(e) => break e.to_string(),
        }
        assert!(!buffer.is_empty(), "all of it came out");
    };
    assert!(error.contains(&format!("{RATIO_MAX} times")), "{error}");
    assert!(given <= RATIO_FREE + (1 << 20));
}

#[test]
fn the_window_of_a_frame_is_bounded() {
    // A frame that asks for 3.75 GB, one of a single segment of 1 GB, and one beyond all.
    for head in [&b"\x28\xb5\x2f\xfd\x00\xaf"[..], b"\x28\xb5\x2f\xfd\xa0\0\0\0\x40", b"\x28\xb5\x2f\xfd\x00\xff"] {
        refused(&[head, &[0; 20]].concat(), "zstd window");
    }
    // A dictionary that nobody has.
    refused(&[&b"\x28\xb5\x2f\xfd\x01\x00\x07"[..], &[0; 20]].concat(), "broken zstd");
}

#[test]
fn any_bytes_have_an_answer() {
    let bytes = plain(3000);
    for good in [gzip(&bytes), zstd(&bytes), [zstd(&bytes), zstd(&bytes)].concat()] {
        for seed in 0..400_usize {
            let mut bytes = good.clone();
            for n in 0..=seed % 3 {
                let at = (seed * 7919 + n * 104_729) % bytes.len();
                bytes[at] = bytes[at].wrapping_add((seed % 255) as u8 + 1);
            }
            let _ = unpack_from(bytes.as_slice(), Packing::Gzip);
        }
    }
}
