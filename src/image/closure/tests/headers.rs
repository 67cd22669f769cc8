//! ELF headers that contradict the file, themselves or the machine.

use super::make::{GLIBC, fixed, library, program};
use super::*;
use crate::image::limits::PROGRAM_MEMORY_MAX;

/// Fields of a file with one program header, as in `fixed`: their offsets.
const ENTRY: usize = 24;
const FLAGS: usize = 64 + 4;
const OFFSET: usize = 64 + 8;
const ADDRESS: usize = 64 + 16;
const FILE_SIZE: usize = 64 + 32;
const MEMORY_SIZE: usize = 64 + 40;

fn with(mut bytes: Vec<u8>, fields: &[(usize, u64)]) -> Vec<u8> {
    for (at, value) in fields {
        let width = if *at == FLAGS { 4 } else { 8 };
        bytes[*at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
    }
    bytes
}

#[test]
fn each_lie_of_a_header_is_one_line() {
    let size = fixed().len() as u64;
    let beyond = "a segment lies beyond its end";
    let no_code = "its entry point is not in an executable segment";
    for (fields, reason) in [
        (&[(FILE_SIZE, size + 1), (MEMORY_SIZE, size + 1)][..], beyond),
        (&[(OFFSET, size)], beyond),
        (&[(OFFSET, 1 << 40)], beyond),
        (&[(OFFSET, u64::MAX)], beyond),
        (&[(OFFSET, u64::MAX - size + 1)], beyond),
        (&[(FILE_SIZE, 1 << 63), (MEMORY_SIZE, 1 << 63)], beyond),
        (&[(MEMORY_SIZE, size - 1)], "a segment has more bytes in the file than in memory"),
        (&[(MEMORY_SIZE, 0)], "a segment has more bytes in the file than in memory"),
        (&[(MEMORY_SIZE, 1 << 63)], "a segment lies beyond the address space"),
        (&[(MEMORY_SIZE, u64::MAX)], "a segment lies beyond the address space"),
        (&[(ADDRESS, u64::MAX - 8)], "a segment lies beyond the address space"),
        (&[(ADDRESS, 1 << 47)], "a segment lies beyond the address space"),
        (&[(MEMORY_SIZE, PROGRAM_MEMORY_MAX + 1)], "its segments take more memory than a unikernel may have"),
        (&[(ENTRY, size)], no_code),
        (&[(ENTRY, 1 << 63)], no_code),
        (&[(FLAGS, 6)], no_code),
        (&[(ADDRESS, 0x40_0000)], no_code),
    ] {
        let mut files = Memory::default();
        files.file("/p", &with(fixed(), fields));
        let text = refused(&files, &request(&["/p"]));
        assert_eq!(text, format!("/p: is a broken ELF file: {reason}{}", if reason == no_code { "" } else { END }));
    }
    let mut files = Memory::default();
    files.file("/p", &with(fixed(), &[(MEMORY_SIZE, PROGRAM_MEMORY_MAX), (ADDRESS, 8), (FLAGS, 1)]));
    closed(&files, &request(&["/p"]));
}

/// What follows a broken program.
const END: &str = "; a guest here runs 64-bit x86-64 Linux programs only, a microvm too";

#[test]
fn libraries_and_loaders_are_checked_too() {
    let image = |lib: &[u8], loader: &[u8]| {
        let mut files = Memory::default();
        files.file("/p", &program(&["liba.so"]).bytes());
        files.file("/lib64/liba.so", lib);
        files.file(GLIBC, loader);
        files
    };
    let good = library(&[]).bytes();
    // A library need not start anywhere.
    closed(&image(&with(good.clone(), &[(ENTRY, 0)]), &good), &request(&["/p"]));
    let bad = with(good.clone(), &[(OFFSET, 1 << 40)]);
    for (files, name) in [(image(&bad, &good), "/lib64/liba.so"), (image(&good, &bad), GLIBC)] {
        let text = refused(&files, &request(&["/p"]));
        assert!(text.starts_with(name) && text.contains("a segment lies beyond its end"), "{text}");
    }
    let text = refused(&image(&good, &with(good.clone(), &[(ENTRY, 0)])), &request(&["/p"]));
    assert!(text.starts_with(GLIBC) && text.ends_with("its entry point is not in an executable segment"), "{text}");
}
