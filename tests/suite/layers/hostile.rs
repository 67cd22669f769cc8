//! Layers that were made to do harm: each is refused with a reason, soon, and with little memory.

use super::{reader, sample, scratch, soon};
use crate::harness::Node;
use flate2::Compression;
use flate2::write::GzEncoder;
use mcp::image::limits::RATIO_FREE;
use mcp::image::oci::Packing;
use mcp::image::worker::{Index, Merge, Packed};
use mcp::sys::user::User;
use mcp::sys::{Error, Result};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// The index of a layer that comes in pieces; its error.
fn index(user: &User, pieces: impl Iterator<Item = Vec<u8>>) -> Result<Packed> {
    let out = scratch();
    let mut blob = scratch();
    let mut worker = Index::start(user, Packing::Gzip, &out, None)?;
    for piece in pieces {
        blob.write_all(&piece).unwrap();
        worker.feed(&piece, soon())?;
    }
    worker.finish(soon())?;
    Ok(Packed { index: out, blob, packing: Packing::Gzip })
}

#[track_caller]
fn refused(result: Result<Packed>, with: &str) {
    match result {
        Err(error @ Error::Refused { .. }) => assert!(error.to_string().contains(with), "{error}"),
        Err(error) => panic!("not refused: {error}"),
        Ok(_) => panic!("taken"),
    }
}

fn header(name: &str, kind: tar::EntryType, size: u64, target: &str) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(size);
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The merged tar of layers, as names.
fn names(user: &User, layers: &[Packed]) -> Result<Vec<String>> {
    let mut out = scratch();
    Merge::start(user, layers, Stdio::from(out.try_clone().unwrap()))?.finish(soon())?;
    out.seek(SeekFrom::Start(0)).unwrap();
    let mut archive = tar::Archive::new(out);
    let entries = archive.entries().unwrap();
    Ok(entries.map(|e| String::from_utf8_lossy(&e.unwrap().path_bytes()).into_owned()).collect())
}

#[test]
fn nothing_leads_out_of_an_image() {
    use tar::EntryType::{Directory, Link, Regular, Symlink};
    let node = Node::new();
    let user = reader(&node);
    let one = |bytes: Vec<u8>| index(&user, std::iter::once(bytes));
    for name in ["../escape", "a/../../escape", "/../escape"] {
        refused(one(header(name, Regular, 0, "")), "leads out");
    }
    refused(one(header("a", Link, 0, "../../../etc/passwd")), "leads out");
    // Through a link, and through a directory that a later layer makes a link: it lands inside.
    let link = one(header("out", Symlink, 0, "../../../..")).unwrap();
    let through = one(header("out/escape", Regular, 0, "")).unwrap();
    let found = names(&user, &[link, through]).unwrap();
    assert_eq!(found, ["./", "escape", "out"]);
    let dir = one([header("d/", Directory, 0, ""), header("d/x", Regular, 0, "")].concat()).unwrap();
    let turned = one(header("d", Symlink, 0, "/etc")).unwrap();
    let through = one(header("d/passwd", Regular, 0, "")).unwrap();
    let found = names(&user, &[dir, turned, through]).unwrap();
    assert_eq!(found, ["./", "d", "etc", "etc/passwd"]);
    let missing = one(header("a", Link, 0, "etc/shadow")).unwrap();
    let error = names(&user, &[missing]).unwrap_err();
    assert!(matches!(error, Error::Refused { .. }) && error.to_string().contains("not there"), "{error}");
}

#[test]
fn bombs_are_refused() {
    let node = Node::new();
    let user = reader(&node);
    let began = Instant::now();
    // Of ratio: zstd blocks of one byte, 128 KiB each, behind a tar header that says how much is to come.
    let block = ((128_u32 << 10 << 3) | 2).to_le_bytes();
    let frames = (RATIO_FREE >> 17) as usize + 4096;
    let bomb = [&b"\x28\xb5\x2f\xfd\x00\x38"[..], &[block[0], block[1], block[2], 0].repeat(frames)].concat();
    // A frame of one raw block: the tar header.
    let mut head = b"\x28\xb5\x2f\xfd\x00\x38".to_vec();
    head.extend_from_slice(&((512_u32 << 3) | 1).to_le_bytes()[..3]);
    head.extend_from_slice(&header("bomb", tar::EntryType::Regular, 1 << 35, ""));
    refused(index(&user, [head, bomb].into_iter()), "times its size");
    // Of size, in what a header says.
    let mut big = header("big", tar::EntryType::Regular, 0, "");
    big[124..136].copy_from_slice(b"\x80\0\0\0\0\0\xff\0\0\0\0\0");
    let sum: u32 = big.iter().enumerate().map(|(n, b)| if (148..156).contains(&n) { 32 } else { u32::from(*b) }).sum();
    big[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    refused(index(&user, std::iter::once(big)), "a file of");
    // Of depth.
    let deep = "d/".repeat(300).into_bytes();
    let mut long = [header("././@LongLink", tar::EntryType::GNULongName, deep.len() as u64, ""), deep].concat();
    long.resize(long.len().next_multiple_of(512), 0);
    refused(index(&user, [long, header("x", tar::EntryType::Regular, 0, "")].into_iter()), "directories deep");
    // Of extensions.
    let extensions = header("x", tar::EntryType::XHeader, 1 << 31, "");
    refused(index(&user, std::iter::once(extensions)), "extension headers");
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}

#[test]
fn what_is_broken_is_refused() {
    let node = Node::new();
    let user = reader(&node);
    let one = |bytes: &[u8]| index(&user, std::iter::once(bytes.to_vec()));
    let tar = sample();
    let packed = gzip(&tar);
    refused(one(&packed[..packed.len() - 1]), "ends too early");
    refused(one(&tar[..700]), "ends within");
    refused(one(b"this is no layer"), "neither a tar");
    refused(one(b"\x28\xb5\x2f\xfd\x00\xaf and so on"), "zstd window");
    refused(one(b""), "is empty");
    let mut damaged = packed.clone();
    damaged[packed.len() / 2] ^= 0xff;
    refused(one(&damaged), "broken gzip");
    // An index that is damaged, or another layer's.
    let good = one(&packed).unwrap();
    let other = scratch();
    let mut bytes = vec![0; good.index.metadata().unwrap().len() as usize];
    std::os::unix::fs::FileExt::read_exact_at(&good.index, &mut bytes, 0).unwrap();
    bytes[20] ^= 1;
    std::os::unix::fs::FileExt::write_all_at(&other, &bytes, 0).unwrap();
    let damaged = Packed { index: other, blob: good.blob.try_clone().unwrap(), packing: Packing::Gzip };
    assert!(names(&user, &[damaged]).unwrap_err().to_string().contains("damaged"));
    let foreign = Packed { index: good.index, blob: scratch(), packing: Packing::Plain };
    assert!(names(&user, &[foreign]).is_err());
}

/// What a worker may, asked of the kernel while one waits for its blob.
#[test]
fn a_worker_has_no_rights() {
    let node = Node::new();
    let user = reader(&node);
    let out = scratch();
    let mut worker = Index::start(&user, Packing::Plain, &out, None).unwrap();
    worker.feed(&sample()[..100], soon()).unwrap();
    let ours = std::process::id().to_string();
    let children = || {
        let list = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().into_string().ok());
        let is_ours = |pid: &String| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let parent = stat.rsplit_once(')').and_then(|(_, r)| r.split_whitespace().nth(1).map(str::to_string));
            parent.as_deref() == Some(&ours) && line.starts_with(b"mcp-worker\0")
        };
        list.filter(is_ours).collect::<Vec<_>>()
    };
    let field = |pid: &str, name: &str| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().find_map(|l| Some(l.strip_prefix(name)?.trim_start_matches(':').trim().to_string()))
    };
    let limits = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
    let no_files = |pid: &String| {
        limits(pid).lines().any(|l| l.starts_with("Max open files") && l.split_whitespace().nth(3) == Some("0"))
    };
    // The one whose user is ours: other tests have workers, too.
    let uid = user.uid.to_string();
    let own = |pid: &String| field(pid, "Uid").is_some_and(|u| u.split_whitespace().all(|id| id == uid));
    let pid = crate::harness::wait_for(Duration::from_secs(10), || {
        children().into_iter().find(|pid| own(pid) && no_files(pid))
    });
    let pid = pid.expect("a worker without a right to open anything");
    assert_eq!(field(&pid, "NoNewPrivs").as_deref(), Some("1"));
    assert_eq!(field(&pid, "Groups").as_deref(), Some(""));
    if nix::unistd::geteuid().is_root() {
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(field(&pid, set).as_deref(), Some("0000000000000000"), "{set}");
        }
    }
    // Nothing but what it was handed: in, out, complaints, and three more, of which it has read one.
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    assert!(open <= 6, "{open} descriptors");
    assert!(limits(&pid).lines().any(|l| l.starts_with("Max core file size") && l.contains(" 0 ")));
    // Killed: the error says so, and may pass.
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.parse().unwrap()), nix::sys::signal::Signal::SIGKILL)
        .unwrap();
    let error = worker.finish(soon()).unwrap_err();
    assert_eq!((error.to_string().contains("killed by signal 9"), error.exit_code()), (true, 111), "{error}");
    drop::<File>(out);
}
