//! The log files of one instance, in order, each with its index.

use super::index::{Cursor, Index, nanos};
use crate::sys::paths::{ComponentPaths, InstancePaths, Slot};
use crate::sys::{Error, Result};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A log that is rotated by number: `NAME`, `NAME.000001`… in one folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    dir: PathBuf,
    log: &'static str,
    index: Option<&'static str>,
    is_cri: bool,
}

/// One file of a series, opened.
#[derive(Debug)]
pub struct LogFile {
    /// The open file. It stays what it is when it is renamed or removed.
    pub file: File,
    /// Where it was when it was opened, for messages.
    pub path: PathBuf,
    /// Its number; `None`: the live one.
    pub number: Option<u64>,
    /// Its inode, not given to another file as long as this one is open.
    pub inode: u64,
    /// Its length in bytes when it was opened.
    pub length: u64,
    index: Option<Index>,
    cursor: Option<Cursor>,
}

/// The number in the name of a rotated file: at least six digits.
fn number_of(name: &str, base: &str) -> Option<u64> {
    let digits = name.strip_prefix(base)?.strip_prefix('.')?;
    (digits.len() >= 6 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

impl Series {
    /// The console of an instance.
    pub fn console(paths: &InstancePaths) -> Series {
        let is_cri = paths.slot == Slot::C;
        Series { dir: paths.log.clone(), log: "console.log", index: Some("console.idx"), is_cri }
    }

    /// What a component's detached supervisors had to say. It has no index.
    pub fn supervisor(paths: &ComponentPaths) -> Series {
        Series { dir: paths.log.clone(), log: "supervisor.log", index: None, is_cri: false }
    }

    /// Whether these are a container's, in CRI's format; else they are the bytes as they came.
    pub fn is_cri(&self) -> bool {
        self.is_cri
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The live log, or the rotated one with that number.
    pub fn log_path(&self, number: Option<u64>) -> PathBuf {
        self.dir.join(numbered(self.log, number))
    }

    /// Its index; `None` for a series without indexes.
    pub fn index_path(&self, number: Option<u64>) -> Option<PathBuf> {
        self.index.map(|base| self.dir.join(numbered(base, number)))
    }

    /// Numbers of the rotated files named after `base`, ascending.
    fn numbers(&self, base: &str) -> Result<Vec<u64>> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(Vec::new());
            }
            Err(e) => return Err(Error::path("read directory", &self.dir)(e)),
        };
        let mut numbers = Vec::new();
        for entry in entries {
            let entry = entry.map_err(Error::path("read directory", &self.dir))?;
            numbers.extend(entry.file_name().to_str().and_then(|name| number_of(name, base)));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Numbers of the rotated logs, oldest first.
    pub fn rotated(&self) -> Result<Vec<u64>> {
        self.numbers(self.log)
    }

    /// The number for the next rotation: above all there are, of logs and of indexes.
    pub fn next_number(&self) -> Result<u64> {
        let mut highest = self.numbers(self.log)?.pop().unwrap_or(0);
        if let Some(base) = self.index {
            highest = highest.max(self.numbers(base)?.pop().unwrap_or(0));
        }
        Ok(highest.saturating_add(1))
    }

    /// Rotated files, logs and indexes, of which only the newest `keep` stay: what is to be removed. An index whose log
    /// is gone is among them.
    pub fn expired(&self, keep: u32) -> Result<Vec<PathBuf>> {
        let logs = self.rotated()?;
        let kept = logs.get(logs.len().saturating_sub(keep as usize)..).unwrap_or_default();
        let gone = |n: &u64| kept.binary_search(n).is_err();
        let mut paths: Vec<PathBuf> = logs.iter().copied().filter(gone).map(|n| self.log_path(Some(n))).collect();
        if let Some(base) = self.index {
            paths.extend(self.numbers(base)?.into_iter().filter(gone).filter_map(|n| self.index_path(Some(n))));
        }
        Ok(paths)
    }

    /// Puts right what a rotation left that was killed between its two renames: an index still called `console.idx`
    /// whose log has a number already gets that number. Only for whoever holds the component's lock.
    pub fn settle(&self) -> Result<()> {
        let Some(from) = self.index_path(None) else { return Ok(()) };
        let Some(index) = Index::open(&from)? else { return Ok(()) };
        // The last rotation is the only one that can be half done.
        let Some(number) = self.rotated()?.pop() else { return Ok(()) };
        let Some(to) = self.index_path(Some(number)) else { return Ok(()) };
        let is_its = fs::symlink_metadata(self.log_path(Some(number))).is_ok_and(|m| m.ino() == index.inode());
        if is_its && !to.exists() {
            fs::rename(&from, &to).map_err(Error::path("rename", &from))?;
        }
        Ok(())
    }

    /// Opens all files, oldest first, the live one last. A snapshot without a gap, whatever is rotated meanwhile.
    pub fn open(&self) -> Result<Vec<LogFile>> {
        // The live one first: what was live before it has its number by now, and is found below. What is rotated from
        // here on is held open already, and found again under its number.
        let live = self.open_log(None)?;
        let mut files = Vec::new();
        for number in self.rotated()? {
            let Some(file) = self.open_log(Some(number))? else { continue };
            if live.as_ref().is_some_and(|l| l.inode == file.inode) {
                break;
            }
            files.push(file);
        }
        files.extend(live);
        for file in &mut files {
            file.index = self.find_index(file)?;
        }
        Ok(files)
    }

    fn open_log(&self, number: Option<u64>) -> Result<Option<LogFile>> {
        let path = self.log_path(number);
        let options = |o: &mut OpenOptions| o.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&path);
        let file = match options(&mut OpenOptions::new()) {
            Ok(file) => file,
            // Removed since it was listed, or between two names.
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => return Ok(None),
            Err(e) => return Err(Error::path("open", &path)(e)),
        };
        let about = file.metadata().map_err(Error::path("stat", &path))?;
        if !about.is_file() {
            return Err(Error::refused(path.display(), "not a file; move it away"));
        }
        let (inode, length) = (about.ino(), about.len());
        Ok(Some(LogFile { file, path, number, inode, length, index: None, cursor: None }))
    }

    /// The index of `file`, wherever a rotation has got to.
    fn find_index(&self, file: &LogFile) -> Result<Option<Index>> {
        let Some(base) = self.index else { return Ok(None) };
        // Paired by number: a log restored from a backup has another inode.
        if let Some(number) = file.number
            && let Some(index) = Index::open(&self.dir.join(numbered(base, Some(number))))?
        {
            return Ok(Some(index));
        }
        let is_its = |index: &Index| index.inode() == file.inode;
        if let Some(index) = Index::open(&self.dir.join(base))?.filter(is_its) {
            return Ok(Some(index));
        }
        if file.number.is_none()
            && let Some(number) = self.numbers(base)?.pop()
        {
            // Rotated after we opened it.
            return Ok(Index::open(&self.dir.join(numbered(base, Some(number))))?.filter(is_its));
        }
        Ok(None)
    }
}

fn numbered(base: &str, number: Option<u64>) -> String {
    number.map_or_else(|| base.to_string(), |n| format!("{base}.{n:06}"))
}

impl LogFile {
    fn failed<E: Into<io::Error>>(&self, action: &'static str) -> impl FnOnce(E) -> Error {
        Error::path(action, &self.path)
    }

    /// Its length in bytes now.
    pub fn length_now(&self) -> Result<u64> {
        Ok(self.file.metadata().map_err(self.failed("stat"))?.len())
    }

    /// Fills `buf` from `offset` as far as the file goes; returns how far.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        super::index::read_at(&self.file, buf, offset).map_err(self.failed("read"))
    }

    /// The time of bytes that have no record (yet): the log's modification time, not before the last record.
    pub fn newest_time(&self) -> Result<u64> {
        let about = self.file.metadata().map_err(self.failed("stat"))?;
        let modified = nanos(about.modified().map_err(self.failed("stat"))?);
        let Some(index) = &self.index else { return Ok(modified) };
        let last = index.last(&self.file).map_err(self.failed("read the index of"))?;
        Ok(modified.max(last.map_or(0, |r| r.nanos)))
    }

    /// Forgets where [`LogFile::times`] has got to: the file was cut short, and is read from its beginning again.
    pub fn rewind(&mut self) {
        self.cursor = None;
    }

    /// Tells `take` when the bytes from `from` to `to` came, as runs: where a run ends, and its Unix time in
    /// nanoseconds. Cheap when called for one range after the other. `series` is where an index that wasn't there yet
    /// is looked for.
    pub fn times(&mut self, series: &Series, from: u64, to: u64, mut take: impl FnMut(u64, u64)) -> Result<()> {
        if self.index.is_none() {
            self.index = series.find_index(self)?;
        }
        let mut at = from;
        if let Some(index) = &self.index {
            let failed = || Error::path("read the index of", &self.path);
            let mut cursor = match self.cursor.take() {
                Some(cursor) => cursor,
                None => index.cursor(&self.file, from).map_err(failed())?,
            };
            while at < to
                && let Some(record) = cursor.record_beyond(index, &self.file, at).map_err(failed())?
            {
                at = record.offset.min(to);
                take(at, record.nanos);
            }
            self.cursor = Some(cursor);
        }
        if at < to {
            take(to, self.newest_time()?);
        }
        Ok(())
    }

    /// Where the bytes that came at `since` or later begin; the file's length when there are none.
    pub fn offset_since(&self, since: u64) -> Result<u64> {
        self.boundary(since, false)
    }

    /// Where the bytes that came at `until` or earlier end.
    pub fn offset_until(&self, until: u64) -> Result<u64> {
        self.boundary(until, true)
    }

    /// The end of the bytes that came before `time`, or at it too.
    fn boundary(&self, time: u64, at_too: bool) -> Result<u64> {
        let newest = self.newest_time()?;
        if newest < time || (at_too && newest == time) {
            return Ok(self.length);
        }
        let Some(index) = &self.index else { return Ok(0) };
        let record = index.last_before(&self.file, time, at_too).map_err(self.failed("read the index of"))?;
        Ok(record.map_or(0, |r| r.offset))
    }
}
