//! The same work on many items, side by side, by a bounded number of threads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{Builder, Scope};

/// The stack of a worker, in bytes.
const STACK: usize = 1 << 20;

struct Pool<I, R, W> {
    /// Those that wait. An iterator that has to wait for its next item holds up those workers alone that have no other.
    items: Mutex<std::iter::Enumerate<I>>,
    answers: Mutex<Vec<(usize, R)>>,
    workers: AtomicUsize,
    at_once: usize,
    work: W,
}

/// Does `work` on each of `items`, on at most `at_once` of them at the same time; answers in their order. The calling
/// thread works too, and others are made as items come: where none can be had, the work only takes longer.
pub fn each<I, R, W>(items: I, at_once: usize, work: W) -> Vec<R>
where
    I: IntoIterator<IntoIter: Send>,
    R: Send,
    W: Fn(I::Item) -> R + Sync,
{
    let pool = Pool {
        items: Mutex::new(items.into_iter().enumerate()),
        answers: Mutex::new(Vec::new()),
        workers: AtomicUsize::new(1),
        at_once,
        work,
    };
    std::thread::scope(|scope| pool.work_on(scope));
    let mut answers = pool.answers.into_inner().unwrap_or_else(PoisonError::into_inner);
    answers.sort_unstable_by_key(|(index, _)| *index);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

impl<I, R, W> Pool<I, R, W>
where
    I: Iterator + Send,
    R: Send,
    W: Fn(I::Item) -> R + Sync,
{
    fn work_on<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        loop {
            let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
            let Some((index, item)) = items.next() else { return };
            let are_more = items.size_hint() != (0, Some(0));
            drop(items);
            if are_more {
                self.hire(scope);
            }
            let answer = (self.work)(item);
            self.answers.lock().unwrap_or_else(PoisonError::into_inner).push((index, answer));
        }
    }

    /// One more worker, if that may be and can be.
    fn hire<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        let more = |workers| (workers < self.at_once).then_some(workers + 1);
        if self.workers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok() {
            let hired = Builder::new().stack_size(STACK).spawn_scoped(scope, || self.work_on(scope));
            if hired.is_err() {
                // Tried again with the next item.
                self.workers.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    #[test]
    fn answers_are_in_order_and_no_more_work_than_allowed_is_under_way() {
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let work = |n: usize| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::yield_now();
            now.fetch_sub(1, Ordering::SeqCst);
            n * 2
        };
        assert_eq!(each(0..1000, 8, work), (0..1000).map(|n| n * 2).collect::<Vec<_>>());
        assert!(most.into_inner() <= 8);
        assert_eq!(each(0..0, 8, |n: usize| n), Vec::<usize>::new());
        let own = std::thread::current().id();
        assert!(each(0..3, 1, |_| std::thread::current().id()).into_iter().all(|id| id == own));
    }

    #[test]
    fn as_many_as_are_allowed_wait_for_each_other() {
        let barrier = Barrier::new(50);
        assert_eq!(each(0..50, 64, |_| barrier.wait().is_leader()).into_iter().filter(|leads| *leads).count(), 1);
    }

    #[test]
    fn where_no_thread_can_be_had_one_does_all() {
        // In a process of its own: the limit is the process's, and here stacks of threads that ended may be left.
        const OWN: &str = "MCP_TEST_POOL";
        if std::env::var_os(OWN).is_none() {
            let name = "sys::pool::tests::where_no_thread_can_be_had_one_does_all";
            let mut command = std::process::Command::new(std::env::current_exe().unwrap());
            let run = command.args(["--exact", name, "--test-threads=1"]).env(OWN, "1").output().unwrap();
            assert!(run.status.success(), "{run:?}");
            return;
        }
        // An address space that has no room for another stack.
        let status = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: u64 = status.split(' ').next().unwrap().parse().unwrap();
        let limit = pages * 4096 + (STACK as u64 / 2);
        nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_AS, limit, limit).unwrap();
        let own = std::thread::current().id();
        let by = each(0..5, 4, |_| std::thread::current().id());
        assert!(by.len() == 5 && by.iter().all(|id| *id == own));
    }
}
