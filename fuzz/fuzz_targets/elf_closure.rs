//! An image of a program, a library, a loader and its cache, all of any bytes: closed or refused.
#![no_main]

use mcp::image::closure::{FileRef, Files, Found, Request, Stop, settle};
use mcp::image::oci::RunConfig;

const PATHS: [&[u8]; 4] = [b"/p", b"/lib/liba.so", b"/lib64/ld-linux-x86-64.so.2", b"/etc/ld.so.cache"];

/// Each file begins at a quarter of the input.
struct Image<'a>([&'a [u8]; 4]);

impl Files for Image<'_> {
    fn look(&self, path: &[u8], _: bool) -> Result<Found, Stop> {
        Ok(match PATHS.iter().position(|p| *p == path) {
            Some(n) => Found::File(FileRef { id: n as u64, size: self.0[n].len() as u64, mode: 0o755 }),
            None if matches!(path, b"/lib" | b"/lib64" | b"/etc") => Found::Directory,
            None => Found::Nothing,
        })
    }

    fn real(&self, _: &[u8]) -> Result<Option<Vec<u8>>, Stop> {
        Ok(None)
    }

    fn list(&self, _: &[u8]) -> Result<Vec<Vec<u8>>, Stop> {
        Ok(Vec::new())
    }

    fn read_at(&self, id: u64, offset: u64, into: &mut [u8]) -> Result<usize, Stop> {
        let all = self.0[id as usize];
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(all.len());
        let length = into.len().min(all.len() - from);
        into[..length].copy_from_slice(&all[from..from + length]);
        Ok(length)
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let quarter = bytes.len() / 4;
    let image = Image([0, 1, 2, 3].map(|n| &bytes[n * quarter..(n + 1) * quarter]));
    let run = RunConfig { entrypoint: vec!["/p".into()], ..RunConfig::default() };
    match settle(&image, &Request { run, args: None, include: Vec::new() }) {
        Err(Stop::Failed(e)) => assert!(!e.to_string().contains('\n')),
        Err(Stop::Below) => panic!("nothing is below"),
        Ok(_) => {}
    }
});
