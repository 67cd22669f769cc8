//! What is inside layers: workers, hostile layers, and our merged root beside what others make of the same image.

mod hostile;
mod judge;

use crate::harness::Node;
use mcp::image::closure::{Request, What};
use mcp::image::oci::Packing;
use mcp::image::oci::RunConfig;
use mcp::image::worker::{self, Index};
use mcp::image::worker::{Settled, Unpacked};
use mcp::model::Digest;
use mcp::sys::Deadline;
use mcp::sys::paths::Paths;
use mcp::sys::user::{self, User};
use std::fs::File;
use std::io::Write;
use std::time::Duration;

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(80))
}

/// A user for workers, as a node has it.
fn reader(node: &Node) -> User {
    worker::use_program(crate::harness::program("mcp-rm"));
    user::take(&Paths::under(&node.root), (1_900_000_000, 1_900_065_535), "layers").unwrap()
}

fn scratch() -> File {
    mcp::sys::tool::memory("test").unwrap().into()
}

fn sample() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(5);
    header.set_mode(0o644);
    tar.append_data(&mut header, "etc/hello", &b"hello"[..]).unwrap();
    tar.into_inner().unwrap()
}

#[test]
fn a_worker_indexes_a_layer() {
    let node = Node::new();
    let user = reader(&node);
    let tar = sample();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).unwrap();
    for (packing, blob) in [(Packing::Plain, tar.clone()), (Packing::Gzip, gzip.finish().unwrap())] {
        let (index, plain) = (scratch(), scratch());
        let mut worker = Index::start(&user, packing, &index, Some(&plain)).unwrap();
        for piece in blob.chunks(7) {
            worker.feed(piece, soon()).unwrap();
        }
        let trailer = worker.finish(soon()).unwrap();
        assert_eq!((trailer.diff_id, trailer.size, trailer.entries), (Digest::of(&tar), tar.len() as u64, 1));
        assert_eq!(plain.metadata().unwrap().len(), tar.len() as u64);
    }
}

/// A layer that has gone through a worker.
fn indexed(user: &User, tar: &[u8]) -> Unpacked {
    let (index, plain) = (scratch(), scratch());
    let mut worker = Index::start(user, Packing::Plain, &index, Some(&plain)).unwrap();
    worker.feed(tar, soon()).unwrap();
    worker.finish(soon()).unwrap();
    Unpacked { index, plain }
}

#[test]
fn a_worker_finds_the_closure_and_says_when_it_needs_the_layer_below() {
    let node = Node::new();
    let user = reader(&node);
    let mut top = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_mode(0o755);
    header.set_size(0);
    top.append_data(&mut header, "app/", &b""[..]).unwrap();
    top.append_path_with_name("/usr/bin/true", "app/true").unwrap();
    let mut base = tar::Builder::new(Vec::new());
    base.append_path_with_name("/lib64/ld-linux-x86-64.so.2", "lib64/ld-linux-x86-64.so.2").unwrap();
    base.append_path_with_name("/lib/x86_64-linux-gnu/libc.so.6", "usr/lib/x86_64-linux-gnu/libc.so.6").unwrap();
    let top = indexed(&user, &top.into_inner().unwrap());
    let base = indexed(&user, &base.into_inner().unwrap());
    let run = RunConfig { entrypoint: vec!["/app/true".into()], ..RunConfig::default() };
    let request = Request { run, args: None, include: Vec::new() };
    let layers = [top, base];
    let below = worker::closure(&user, &layers[..1], false, &request, soon()).unwrap();
    assert!(matches!(below, Settled::Below), "its loader is in the other layer");
    let Settled::Done(answer) = worker::closure(&user, &layers, true, &request, soon()).unwrap() else {
        panic!("it is all there")
    };
    let libc = answer.closure.entries.iter().find(|e| e.path.ends_with("/libc.so.6")).unwrap();
    let What::File(id, _) = libc.what else { panic!("{libc:?}") };
    let place = &answer.places[&id];
    assert_eq!(place.layer, 1);
    let copy = scratch();
    let digest = worker::copy(&place.content, &layers[1].plain, &copy).unwrap();
    assert_eq!(digest, Digest::of(&std::fs::read("/lib/x86_64-linux-gnu/libc.so.6").unwrap()));
    assert_eq!(copy.metadata().unwrap().len(), place.content.size);
}
