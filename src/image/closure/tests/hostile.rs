//! What fuzz/fuzz_targets/elf_closure.rs does, with some thousand fixed inputs: whatever the bytes, an answer or a
//! refusal in one line, with little read.

use super::make::{GLIBC, Make, fixed, library, program};
use super::*;
use crate::image::closure::cache::tests::cache;

fn image(program: &[u8], lib: &[u8], loader: &[u8], cached: &[u8]) -> Memory {
    let mut files = Memory::default();
    files.file("/p", program);
    files.file("/opt/liba.so", lib);
    files.file(GLIBC, loader);
    files.file("/etc/ld.so.cache", cached);
    files
}

fn parts() -> [Vec<u8>; 4] {
    let make = Make { rpath: Some("/opt:$ORIGIN/x"), undefined: vec!["fork", "dlopen"], ..program(&["liba.so"]) };
    let lib =
        Make { soname: Some("liba.so"), runpath: Some("$ORIGIN/$LIB"), filter: Some("f.so"), ..library(&["liba.so"]) };
    [make.bytes(), lib.bytes(), library(&[]).bytes(), cache(&[("liba.so", "/opt/liba.so", 0)], true)]
}

/// One line at most, and not all of the image read a hundred times.
fn bounded(files: &Memory) -> bool {
    let answer = settle(files, &request(&["/p"]));
    let (calls, bytes) = files.reads.get();
    assert!(calls < 5_000 && bytes < 4 << 20, "{calls} reads of {bytes} bytes");
    match answer {
        Ok(_) => true,
        Err(Stop::Below) => panic!("nothing is below"),
        Err(Stop::Failed(e)) => {
            assert!(!e.to_string().contains('\n') && e.exit_code() == 100, "{e}");
            false
        }
    }
}

#[test]
fn every_field_may_lie() {
    let good = parts();
    assert!(bounded(&image(&good[0], &good[1], &good[2], &good[3])));
    let (mut taken, mut refused) = (0, 0);
    for part in 0..4 {
        let size = good[part].len() as u64;
        for at in 0..good[part].len() - 8 {
            for value in [0, 1, size - 1, size, 0x7fff_ffff, 1 << 63, u64::MAX] {
                for width in [1, 2, 4, 8] {
                    // Only the header has such narrow fields.
                    if at % width != 0 || width < 4 && (at >= 64 || !matches!(value, 0 | 1 | u64::MAX)) {
                        continue;
                    }
                    let mut bad = good.clone();
                    bad[part][at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
                    match bounded(&image(&bad[0], &bad[1], &bad[2], &bad[3])) {
                        true => taken += 1,
                        false => refused += 1,
                    }
                }
            }
        }
        for end in 0..good[part].len() {
            let mut bad = good.clone();
            bad[part].truncate(end);
            bounded(&image(&bad[0], &bad[1], &bad[2], &bad[3]));
        }
    }
    assert!(taken > 1000 && refused > 1000, "{taken} taken, {refused} refused");
}

#[test]
fn random_bytes_are_refused_or_taken() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut roll = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    let good = parts();
    for round in 0..3000 {
        let mut bad = good.clone();
        let part = roll(4);
        for _ in 0..=round % 6 {
            let at = roll(bad[part].len());
            match roll(8) {
                0 => bad[part].truncate(at.max(1)),
                1 => bad[part].insert(at, u8::try_from(roll(256)).unwrap()),
                2 => bad[part][at] = b"/:$;\0\xff"[roll(6)],
                _ => bad[part][at] = u8::try_from(roll(256)).unwrap(),
            }
        }
        bounded(&image(&bad[0], &bad[1], &bad[2], &bad[3]));
    }
}

#[test]
fn a_library_that_asks_for_itself_under_many_names_ends() {
    let mut files = Memory::default();
    files.file(GLIBC, &library(&[]).bytes());
    files.file("/p", &program(&["l0.so"]).bytes());
    for n in 0..5000 {
        files.file(&format!("/lib/l{n}.so"), &library(&[&format!("l{}.so", n + 1), "l0.so"]).bytes());
    }
    assert!(super::refused(&files, &request(&["/p"])).contains("more than 4096 libraries"));
}

#[test]
fn search_paths_of_absurd_length_end() {
    let mut files = Memory::default();
    files.file(GLIBC, &library(&[]).bytes());
    let long: &'static str = Box::leak("$LIB$PLATFORM:".repeat(290).into_boxed_str());
    files.file("/p", &Make { rpath: Some(long), ..program(&["a.so"]) }.bytes());
    assert!(super::refused(&files, &request(&["/p"])).contains("names more than 512 directories"));
    let dirs: &'static str = Box::leak((0..500).map(|n| format!("/{n}:")).collect::<String>().into_boxed_str());
    let names: Vec<String> = (0..1000).map(|n| format!("$PLATFORM/{n}.so")).collect();
    let mut make = Make { rpath: Some(dirs), ..program(&[]) };
    make.needed = names;
    make.needed.extend((0..1000).map(|n| format!("n{n}")));
    make.needed[..1000].iter_mut().for_each(|n| *n = n.replace("$PLATFORM/", "m"));
    for n in 0..1000 {
        files.file(&format!("/499/m{n}.so"), &library(&[]).bytes());
    }
    files.file("/p", &make.bytes());
    let text = super::refused(&files, &request(&["/p"]));
    assert!(text.contains("places would have to be searched"), "{text}");
}

#[test]
fn a_large_static_program_is_hardly_read() {
    let mut files = Memory::default();
    let mut bytes = fixed();
    bytes.resize(64 << 20, 0);
    files.file("/p", &bytes);
    assert!(settle(&files, &request(&["/p"])).is_ok());
    let (calls, read) = files.reads.get();
    assert!(calls < 10 && read < 4096, "{calls} reads of {read} bytes");
}
