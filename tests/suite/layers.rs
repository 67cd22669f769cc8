//! What is inside layers: workers, hostile layers, and our merged root beside what others make of the same image.

use crate::harness::Node;
use mcp::image::oci::Packing;
use mcp::image::worker::{self, Index};
use mcp::model::Digest;
use mcp::sys::Deadline;
use mcp::sys::paths::Paths;
use mcp::sys::user::{self, User};
use std::fs::File;
use std::io::Write;
use std::time::Duration;

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(30))
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
        let began = std::time::Instant::now();
        let mut worker = Index::start(&user, packing, &index, Some(&plain)).unwrap();
        for piece in blob.chunks(7) {
            worker.feed(piece, soon()).unwrap();
        }
        let trailer = worker.finish(soon()).unwrap();
        eprintln!("{:?}", began.elapsed());
        assert_eq!((trailer.diff_id, trailer.size, trailer.entries), (Digest::of(&tar), tar.len() as u64, 1));
        assert_eq!(plain.metadata().unwrap().len(), tar.len() as u64);
    }
}
