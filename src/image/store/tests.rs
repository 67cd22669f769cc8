//! The store as those who use it see it.

use super::*;
use crate::model::Runtime;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

/// A store in a folder that goes with it.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> (Place, Store) {
        let dir = std::env::temp_dir().join(format!("mcp-store-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        let store = Store::open(&Paths::under(&dir)).unwrap();
        (Place(dir), store)
    }

    fn open(&self) -> Store {
        Store::open(&Paths::under(&self.0)).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(10))
}

fn writer(store: &Store, bytes: &[u8]) -> Box<BlobWriter> {
    match store.blob_turn(&Digest::of(bytes), bytes.len() as u64, soon()).unwrap() {
        BlobTurn::Write(writer) => writer,
        BlobTurn::There(_) => panic!("it is there already"),
    }
}

fn names(dir: PathBuf) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_blob_is_seen_when_it_is_whole() {
    let (_place, store) = Place::new("whole");
    let bytes = vec![7; 100_000];
    let digest = Digest::of(&bytes);
    let mut writing = writer(&store, &bytes);
    writing.write(&bytes[..99_999]).unwrap();
    assert!(store.blob(&digest, 100_000).unwrap().is_none());
    assert!(!writing.is_right());
    writing.write(&bytes[99_999..]).unwrap();
    let mut back = Vec::new();
    writing.publish().unwrap().read_to_end(&mut back).unwrap();
    assert_eq!(back, bytes);
    assert_eq!(fs::metadata(store.blob_path(&digest)).unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(store.paths().blobs()).unwrap().mode() & 0o777, 0o700);
    assert!(matches!(store.blob_turn(&digest, 100_000, soon()).unwrap(), BlobTurn::There(_)));
    assert!(store.is_sound(&digest, 100_000).unwrap());
    assert!(names(store.paths().tmp()).is_empty() && names(store.paths().locks()).is_empty());
    // Cut short by a crash of the disk: as if it were not there.
    fs::OpenOptions::new().write(true).open(store.blob_path(&digest)).unwrap().set_len(5).unwrap();
    assert!(store.blob(&digest, 100_000).unwrap().is_none());
    let mut again = writer(&store, &bytes);
    again.write(&bytes).unwrap();
    again.publish().unwrap();
    assert!(store.is_sound(&digest, 100_000).unwrap());
}

#[test]
fn what_is_not_as_promised_never_gets_there() {
    let (_place, store) = Place::new("promised");
    let mut long = writer(&store, b"12345");
    assert!(long.write(b"123456").unwrap_err().to_string().contains("longer than the 5 bytes"));
    drop(long);
    let mut other = writer(&store, b"12345");
    other.write(b"54321").unwrap();
    assert!(!other.is_right());
    let refused = other.publish().unwrap_err();
    assert!(refused.to_string().ends_with("what came has another digest"), "{refused}");
    assert_eq!(refused.exit_code(), 100);
    let huge = store.blob_turn(&Digest::of(b""), 1 << 60, soon()).unwrap_err();
    assert!(huge.to_string().contains("bytes more are needed"), "{huge}");
    assert_eq!(huge.exit_code(), 111);
    for dir in [store.paths().tmp(), store.paths().blobs(), store.paths().locks()] {
        assert!(names(dir).is_empty());
    }
}

#[test]
fn a_broken_download_is_taken_up() {
    let (place, store) = Place::new("taken-up");
    let bytes: Vec<u8> = (0..600_000_u32).map(|n| (n % 251) as u8).collect();
    let mut first = writer(&store, &bytes);
    first.write(&bytes[..500_000]).unwrap();
    drop(first);
    let store = place.open();
    let mut second = writer(&store, &bytes);
    assert_eq!((second.position(), second.resumed()), (500_000, true));
    second.write(&bytes[500_000..]).unwrap();
    second.publish().unwrap();
    // One that is longer than the blob, or wrong, is no beginning of it.
    let digest = Digest::of(b"abc");
    let part = store.paths().tmp().join(format!("blob-{}", digest.hex()));
    fs::write(&part, "abcd").unwrap();
    assert_eq!(writer(&store, b"abc").position(), 0);
    fs::write(&part, "xb").unwrap();
    let mut third = writer(&store, b"abc");
    third.write(b"c").unwrap();
    assert!(!third.is_right() && third.resumed());
    third.restart().unwrap();
    third.write(b"abc").unwrap();
    third.publish().unwrap();
    assert_eq!(names(store.paths().blobs()).len(), 2);
}

#[test]
fn the_second_waits_and_finds_it_there() {
    let (_place, store) = Place::new("second");
    let mut first = writer(&store, b"blob");
    let late = store.blob_turn(&Digest::of(b"blob"), 4, Deadline::after(Duration::from_millis(20))).unwrap_err();
    assert!(late.to_string().contains(&format!("process {}", std::process::id())), "{late}");
    assert_eq!(late.exit_code(), 111);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| store.blob_turn(&Digest::of(b"blob"), 4, soon()).unwrap());
        first.write(b"blob").unwrap();
        first.publish().unwrap();
        assert!(matches!(waits.join().unwrap(), BlobTurn::There(_)));
    });
}

#[test]
fn directories_come_and_go_whole() {
    let (place, store) = Place::new("directories");
    for text in ["old", "new"] {
        let mut making = store.make(Kind::Image, "key", soon()).unwrap();
        let dir = making.begin().unwrap();
        fs::create_dir(dir.join("rootfs")).unwrap();
        for n in 0..20 {
            fs::write(dir.join(format!("rootfs/{n}")), text).unwrap();
        }
        making.finish().unwrap();
        let named = Named::new("example.org/a", Runtime::Unikernel, Digest::of(b"t"), "key");
        store.name(&Digest::of(b"r"), &named, &making).unwrap();
        assert_eq!(store.named(&Digest::of(b"r")).unwrap(), Some(named));
        // Somebody works on it.
        assert!(!store.discard(Kind::Image, "key").unwrap());
        drop(making);
        assert_eq!(fs::read_to_string(store.directory(Kind::Image, "key").join("rootfs/7")).unwrap(), text);
    }
    let making = store.make(Kind::Build, "half", soon()).unwrap();
    fs::write(making.begin().unwrap().join("disk"), "x").unwrap();
    drop(making);
    assert!(!store.directory(Kind::Build, "half").exists());
    assert!(store.discard(Kind::Image, "key").unwrap());
    assert!(store.discard(Kind::Image, "never").unwrap());
    for dir in [store.paths().tmp(), store.paths().images(), store.paths().builds(), store.paths().locks()] {
        assert!(names(dir).is_empty());
    }
    // What the dead left goes, what the living make stays, and so does half a blob.
    let living = store.make(Kind::Build, "living", soon()).unwrap();
    living.begin().unwrap();
    let hex = Digest::of(b"half").hex();
    fs::create_dir_all(store.paths().tmp().join("image-dead/rootfs")).unwrap();
    for name in ["image-dead.ref".to_string(), format!("blob-{hex}"), format!("blob-{hex}.index")] {
        fs::File::create(store.paths().tmp().join(name)).unwrap().write_all(b"x").unwrap();
    }
    fs::write(store.paths().locks().join("image-dead"), "1 1 mcp\n").unwrap();
    place.open();
    assert_eq!(names(store.paths().tmp()), [format!("blob-{hex}"), "build-living".into()]);
    assert_eq!(names(store.paths().locks()), ["build-living"]);
}

#[test]
fn documents_are_checked_at_each_use() {
    let (_place, store) = Place::new("documents");
    let digest = Digest::of(b"{}");
    assert!(store.document(&digest).unwrap().is_none());
    store.keep_document(&digest, b"{}").unwrap();
    assert_eq!(store.document(&digest).unwrap().as_deref(), Some(b"{}".as_slice()));
    fs::write(store.blob_path(&digest), "[]").unwrap();
    assert!(store.document(&digest).unwrap().is_none());
    assert!(names(store.paths().tmp()).is_empty() && names(store.paths().locks()).is_empty());
}
