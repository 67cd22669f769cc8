//! Layers over layers, whole and in part.
#![allow(clippy::unwrap_used)]

use super::super::super::closure::{Files, Found, Stop};
use super::super::files::Image;
use super::super::index::{Content, Entry, Kind, Piece, Trailer, Writer};
use super::super::path::canonical;
use super::*;
use crate::model::Digest;

/// An entry by a short word: `a/` a directory, `a` a file, `a->b` a link, `a=b` a hard link, `-a` a whiteout, `a/*`
/// opaque. A file's contents are told by `n`.
fn entry(word: &str, n: usize) -> Entry {
    let path = |p: &str| canonical(p.as_bytes()).unwrap();
    let (path, kind) = if let Some((name, target)) = word.split_once("->") {
        (path(name), Kind::Symlink(target.as_bytes().to_vec()))
    } else if let Some((name, target)) = word.split_once('=') {
        (path(name), Kind::Hardlink(path(target)))
    } else if let Some(name) = word.strip_prefix('-') {
        (path(name), Kind::Whiteout)
    } else if let Some(name) = word.strip_suffix("/*") {
        (path(name), Kind::Opaque)
    } else if word.ends_with('/') {
        (path(word), Kind::Directory)
    } else {
        let piece = Piece { at: 0, from: n as u64 * 512, length: 1 };
        (path(word), Kind::File(Content { size: 1, pieces: vec![piece] }))
    };
    Entry { path, kind, mode: 0o644 + n as u32, uid: n as u32, gid: 0, mtime: 1, xattrs: Vec::new() }
}

fn index(words: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes);
    for (n, word) in words.split_whitespace().enumerate() {
        writer.add(&entry(word, n)).unwrap();
    }
    let entries = writer.entries();
    writer.finish(&Trailer { diff_id: Digest::of(b""), size: 0, entries }).unwrap();
    bytes
}

fn build(closed: bool, layers: &[&str]) -> Result<Tree> {
    let mut tree = Tree::new(closed);
    for (number, words) in layers.iter().enumerate() {
        tree.apply(number, index(words).as_slice())?;
    }
    Ok(tree)
}

/// All that is there: directories with `/`, files with the layer and the number of their contents, links, and names of
/// one inode by the first.
fn listing(tree: &Tree) -> String {
    let mut found = Vec::new();
    let mut stack: Vec<NodeId> = tree.children(0).collect();
    while let Some(node) = stack.pop() {
        let path = String::from_utf8(tree.path(node)).unwrap();
        found.push(match tree.kind(node) {
            Some(super::Kind::Directory) => format!("{path}/"),
            Some(super::Kind::File(_)) => {
                let (layer, content) = tree.content(tree.about(node).unwrap().inode).unwrap();
                format!("{path}:{layer}.{}", content.pieces[0].from / 512)
            }
            Some(super::Kind::Symlink(target)) => format!("{path}->{}", String::from_utf8_lossy(target)),
            other => format!("{path}:{other:?}"),
        });
        stack.extend(tree.children(node));
    }
    found.sort();
    found.join(" ")
}

fn merged(layers: &[&str]) -> String {
    listing(&build(true, layers).unwrap())
}

#[test]
fn later_layers_and_later_entries_win() {
    assert_eq!(merged(&["a b d/ d/x", "b d/ d/y"]), "a:0.0 b:1.0 d/ d/x:0.3 d/y:1.2");
    assert_eq!(merged(&["a a a"]), "a:0.2");
    assert_eq!(merged(&["d/ d/x", "d"]), "d:1.0");
    assert_eq!(merged(&["d/ d/x", "d d/"]), "d/");
    assert_eq!(merged(&["d/ d/x", "d", "d/ d/y"]), "d/ d/y:2.1");
    assert_eq!(merged(&["a", "a->b"]), "a->b");
    assert_eq!(merged(&["l->d d/ d/x", "l/"]), "d/ d/x:0.2 l/");
    let tree = build(true, &["d/ d/x", "a b d/"]).unwrap();
    let Step::To(node) = tree.step(0, b"d") else { panic!() };
    assert_eq!(tree.about(node).unwrap().uid, 2, "a directory takes the new owner");
}

#[test]
fn paths_follow_links_inside_the_root() {
    assert_eq!(merged(&["usr/ usr/lib/ lib->usr/lib", "lib/x"]), "lib->usr/lib usr/ usr/lib/ usr/lib/x:1.0");
    assert_eq!(merged(&["d/ l->../../../d", "l/x"]), "d/ d/x:1.0 l->../../../d");
    assert_eq!(merged(&["l->/d", "l/x"]), "d/ d/x:1.0 l->/d", "a link to what isn't there makes it there");
    assert_eq!(merged(&["d/ d/x l->d", "-l/x"]), "d/ l->d");
    assert_eq!(merged(&["d/ d/x l->d", "-l"]), "d/ d/x:0.1");
    for bad in [&["f", "f/x"][..], &["l->l", "l/x"], &["a->b b->a", "a/x/y"]] {
        assert!(build(true, bad).is_err(), "{bad:?}");
    }
}

#[test]
fn parents_that_nobody_names_are_made() {
    let tree = build(true, &["a/b/c"]).unwrap();
    assert_eq!(listing(&tree), "a/ a/b/ a/b/c:0.0");
    let Walked::To(node) = tree.walk(b"/a/b", true, false) else { panic!() };
    let about = tree.about(node).unwrap();
    assert_eq!((about.mode, about.uid), (0o755, 0));
}

#[test]
fn whiteouts_hide_what_is_below_alone() {
    assert_eq!(merged(&["a b d/ d/x", "-a -d"]), "b:0.1");
    // In any order within the layer.
    assert_eq!(merged(&["d/ d/x", "-d d/ d/y"]), "d/ d/y:1.2");
    assert_eq!(merged(&["d/ d/x", "d/ d/y -d"]), "d/ d/y:1.1");
    assert_eq!(merged(&["d/ d/x", "d/y -d"]), "d/ d/y:1.0");
    assert_eq!(merged(&["a", "a -a"]), "a:1.0");
    assert_eq!(merged(&["a", "-a a"]), "a:1.1");
    assert_eq!(merged(&["a", "-a", "a"]), "a:2.0");
    assert_eq!(merged(&["a", "-b -c/d"]), "a:0.0");
    assert_eq!(merged(&["d/ d/e/ d/e/x", "-d", "d/e/y"]), "d/ d/e/ d/e/y:2.0");
}

#[test]
fn opaque_directories_hide_what_is_below_alone() {
    assert_eq!(merged(&["d/ d/x d/e/ d/e/z", "d/ d/* d/y"]), "d/ d/y:1.2");
    assert_eq!(merged(&["d/ d/x", "d/ d/y d/*"]), "d/ d/y:1.1");
    assert_eq!(merged(&["d/ d/e/ d/e/x", "d/ d/e/ d/e/y d/*"]), "d/ d/e/ d/e/y:1.2");
    assert_eq!(merged(&["a d/ d/x", "./*"]), "");
    assert_eq!(merged(&["d/ d/x", "d/*", "d/z"]), "d/ d/z:2.0");
}

#[test]
fn hard_links_share_what_they_name() {
    let tree = build(true, &["a b=a", "c=b", "a"]).unwrap();
    assert_eq!(listing(&tree), "a:2.0 b:0.0 c:0.0", "the old contents stay under the other names");
    let inode = |name: &[u8]| match tree.step(0, name) {
        Step::To(node) => tree.about(node).unwrap().inode,
        other => panic!("{other:?}"),
    };
    assert_eq!(inode(b"b"), inode(b"c"));
    assert_ne!(inode(b"a"), inode(b"b"));
    assert_eq!(merged(&["l->x h=l"]), "h->x l->x");
    assert_eq!(merged(&["d/ d/x l->d h=l/x"]), "d/ d/x:0.1 h:0.1 l->d");
    for bad in ["h=x", "d/ h=d", "f h=f/x", "a -a h=b"] {
        assert!(build(true, &[bad]).is_err(), "{bad}");
    }
    assert!(build(true, &["a", "-a h=a"]).is_err(), "what is hidden can't be linked");
}

/// A name per question: what can be told without the layers below.
fn partial(layers: &[&str]) -> impl Fn(&str) -> String {
    let image = Image { tree: build(false, layers).unwrap(), layers: Vec::new() };
    move |path| match image.look(path.as_bytes(), true) {
        Ok(Found::Nothing) => "nothing".into(),
        Ok(Found::Directory) => match image.list(path.as_bytes()) {
            Ok(names) => format!("directory of {}", names.len()),
            Err(_) => "directory".into(),
        },
        Ok(Found::File(file)) => format!("file {}", file.mode & 0o77),
        Ok(other) => format!("{other:?}"),
        Err(Stop::Below) => "below".into(),
        Err(Stop::Failed(e)) => panic!("{e}"),
    }
}

#[test]
fn without_the_base_only_what_is_sure_is_told() {
    let ask = partial(&["d/ d/x gone/ n/ n/* n/y l->d/x m->below o/", "-gone f o/"]);
    assert_eq!(ask("/d/x"), "file 37", "what is there is there");
    assert_eq!(ask("/d/y"), "below");
    assert_eq!(ask("/"), "directory");
    assert_eq!(ask("/d"), "directory");
    assert_eq!(ask("/gone"), "nothing");
    assert_eq!(ask("/gone/x"), "nothing");
    assert_eq!(ask("/n"), "directory of 1");
    assert_eq!(ask("/n/x"), "nothing");
    assert_eq!(ask("/l"), "file 37");
    assert_eq!(ask("/m"), "below");
    assert_eq!(ask("/x/y"), "below");
    assert_eq!(ask("/f/x"), "nothing", "a file has nothing in it");
    // Made over what was no directory, or after a whiteout: nothing from below shows.
    let ask = partial(&["a b/", "a/ -b b/ b/c/", "-q q/"]);
    assert_eq!(
        (ask("/a"), ask("/b"), ask("/b/c")),
        ("directory of 0".into(), "directory of 1".into(), "directory of 0".into())
    );
    assert_eq!(ask("/q/x"), "nothing");
    // A hard link to what is below.
    let ask = partial(&["d/ h=d/x"]);
    assert_eq!((ask("/h"), ask("/d")), ("below".into(), "directory".into()));
}

#[test]
fn where_an_entry_lands_is_not_guessed() {
    // `a` may be a link anywhere.
    for layers in [&["a/x d/ d/y"][..], &["d/ d/y", "-a/x"], &["d/ d/y a/*"], &["l->q d/ d/y", "l/x"]] {
        let ask = partial(layers);
        assert_eq!((ask("/a/x"), ask("/d/y")), ("below".into(), "below".into()), "{layers:?}");
    }
    // Here it can't.
    let ask = partial(&["a/ a/x", "d/ d/* d/e/x"]);
    assert_eq!((ask("/a/x"), ask("/d/e")), ("file 37".into(), "directory of 1".into()));
}

#[test]
fn the_complete_image_is_what_the_parts_say() {
    // Whatever a partial tree tells is so in the whole one.
    let layers = [
        "usr/ usr/lib/ lib->usr/lib usr/lib/x etc/ etc/a",
        "etc/ etc/b -usr/lib/x usr/lib/y",
        "etc/ -etc/a app/ app/s",
    ];
    let whole = Image { tree: build(true, &layers).unwrap(), layers: Vec::new() };
    for from in 1..layers.len() {
        let part = Image { tree: build(false, &layers[from..]).unwrap(), layers: Vec::new() };
        for path in ["/etc/a", "/etc/b", "/app/s", "/usr/lib/x", "/usr/lib/y", "/lib/y", "/etc", "/nothing", "/app/t"] {
            if let Ok(found) = part.look(path.as_bytes(), true) {
                let kind = |f: &Found| std::mem::discriminant(f);
                assert_eq!(kind(&found), kind(&whole.look(path.as_bytes(), true).unwrap()), "{path} from layer {from}");
            }
        }
    }
}

#[test]
fn an_image_has_so_many_entries_and_so_deep_directories() {
    let (down, further) = ("a/".repeat(200), "b/".repeat(100));
    let error = build(true, &[&format!("{down} l->{down}"), &format!("l/{further}")]).err().unwrap();
    assert!(error.to_string().contains("deep"), "{error}");
    let mut tree = build(true, &["a"]).unwrap();
    tree.entries = ENTRIES_MAX - 1;
    assert!(tree.apply(1, index("b").as_slice()).is_ok());
    assert!(tree.apply(2, index("c").as_slice()).is_err());
    tree.entries = ENTRIES_MAX - 3;
    assert!(tree.apply(2, index("x/y/z/f").as_slice()).is_err(), "what is implied counts");
}

#[test]
fn many_whiteouts_of_much_take_no_time() {
    let began = std::time::Instant::now();
    let lower: String = (0..20_000).map(|n| format!("d/{n} ")).collect();
    let upper: String = (0..20_000).map(|n| format!("d/* n{n} -d ")).collect();
    let tree = build(true, &[&format!("d/ {lower}"), &format!("d/ {lower} {upper}")]).unwrap();
    assert_eq!(tree.children(0).count(), 20_001);
    assert!(began.elapsed() < std::time::Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn nobody_waits_for_a_maze_of_links() {
    let began = std::time::Instant::now();
    let target = "a/../".repeat(800);
    let mut words = "a/ l0->a".to_string();
    for n in 0..30 {
        words += &format!(" l{}->{target}l{n}", n + 1);
    }
    for n in 0..200_000 {
        words += &format!(" l30/{n}");
    }
    let error = build(true, &[&words]).err().unwrap();
    assert!(error.to_string().contains("loop"), "{error}");
    assert!(began.elapsed() < std::time::Duration::from_secs(60), "{:?}", began.elapsed());
}
