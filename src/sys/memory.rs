//! What memory the node has, and giving ours back before a long sleep.

/// Returns what the allocator holds free to the kernel, and drops the pages of our own program that start-up touched:
/// they come back from the page cache if they are ever needed.
pub fn trim() {
    // SAFETY: no arguments that could be wrong.
    unsafe { libc::malloc_trim(0) };
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return };
    for line in maps.lines() {
        // Program text alone: other read-only mappings hold relocated addresses, which exist nowhere else.
        let mut words = line.split_whitespace();
        let (Some(range), Some(rights), Some(path)) = (words.next(), words.next(), words.nth(3)) else { continue };
        let range = range.split_once('-').map(|(a, b)| (usize::from_str_radix(a, 16), usize::from_str_radix(b, 16)));
        if let Some((Ok(start), Ok(end))) = range
            && rights == "r-xp"
            && path.starts_with('/')
        {
            // SAFETY: a mapping of ours, of a file, that nobody can have written to.
            unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
        }
    }
}

/// Mebibytes that the node has in all.
pub fn total_mib() -> Option<u64> {
    meminfo("MemTotal")
}

/// Mebibytes that are free or can be made so.
pub fn available_mib() -> Option<u64> {
    meminfo("MemAvailable")
}

/// `key` of /proc/meminfo in mebibytes.
fn meminfo(key: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|l| l.split(':').next() == Some(key))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib / 1024)
}
