//! Runs jobs on threads and returns their results in the order of the jobs.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

/// Results in the order of their jobs. Threads compute about `ahead` results in advance.
///
/// Jobs are dealt to the threads in turn, and each thread has its own queue. So results need no
/// sorting, and if a thread dies, its job is known. Dropping the iterator waits until each thread
/// has finished its current job.
pub(super) struct InOrder<T> {
    queues: Vec<Receiver<T>>,
    threads: Vec<JoinHandle<()>>,
    next: usize,
}

impl<T: Send + 'static> InOrder<T> {
    /// Starts the threads.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub(super) fn new<J, W>(jobs: Vec<J>, threads: usize, ahead: usize, work: W) -> io::Result<Self>
    where
        J: Send + Sync + 'static,
        W: Fn(&J) -> T + Send + Sync + 'static,
    {
        let count = threads.clamp(1, jobs.len().max(1));
        let shared = Arc::new((jobs, work));
        let mut started = Self { queues: Vec::new(), threads: Vec::new(), next: 0 };
        for first in 0..count {
            // A queue allocates its capacity at once, so the number of jobs limits it.
            let (results, queue) = sync_channel(ahead.min(shared.0.len()).div_ceil(count));
            let shared = Arc::clone(&shared);
            started.threads.push(
                thread::Builder::new()
                    .spawn(move || run(&shared.0, first, count, &shared.1, &results))?,
            );
            started.queues.push(queue);
        }
        Ok(started)
    }
}

/// Runs every `step`-th job from `first` on.
fn run<J, T>(
    jobs: &[J],
    first: usize,
    step: usize,
    work: impl Fn(&J) -> T,
    results: &SyncSender<T>,
) {
    for job in jobs.iter().skip(first).step_by(step) {
        // The queue is dropped: no more results are wanted.
        if results.send(work(job)).is_err() {
            break;
        }
    }
}

impl<T> Iterator for InOrder<T> {
    type Item = T;

    /// The next result; `None` after the last one, or if the thread died at this job.
    fn next(&mut self) -> Option<T> {
        let queue = self.queues.get(self.next % self.queues.len().max(1))?;
        let result = queue.recv().ok()?;
        self.next += 1;
        Some(result)
    }
}

impl<T> Drop for InOrder<T> {
    fn drop(&mut self) {
        // A thread stops when its queue is dropped.
        self.queues.clear();
        for thread in self.threads.drain(..) {
            // The missing result of a thread that died is reported already.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    #[test]
    fn results_come_in_the_order_of_jobs() -> io::Result<()> {
        for threads in [1, 3, 7, 100] {
            let slow = |job: &u64| {
                thread::sleep(Duration::from_millis(job * 7 % 5));
                job * 2
            };
            let results: Vec<_> = InOrder::new((0..23).collect(), threads, 4, slow)?.collect();
            assert_eq!(results, (0..23).map(|job| job * 2).collect::<Vec<_>>());
        }
        assert_eq!(InOrder::new(Vec::<u64>::new(), 4, 4, |job| *job)?.count(), 0);
        Ok(())
    }

    #[test]
    fn no_more_is_done_ahead_than_was_asked_for() -> io::Result<()> {
        let done = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&done);
        let mut results = InOrder::new((0..1000).collect(), 4, 8, move |_: &usize| {
            counter.fetch_add(1, Ordering::SeqCst)
        })?;
        for taken in 0..20 {
            thread::sleep(Duration::from_millis(2));
            // Besides the results in the queues, each thread holds one that does not fit.
            let done = done.load(Ordering::SeqCst);
            assert!(done <= taken + 8 + 4, "{done} were done when {taken} had been taken");
            assert!(results.next().is_some());
        }
        Ok(())
    }

    #[test]
    fn dropped_half_way_the_threads_stop() -> io::Result<()> {
        let alive = Arc::new(());
        let held = Arc::clone(&alive);
        let mut results = InOrder::new((0..100_000).collect(), 4, 8, move |job: &u64| {
            let _ = &held;
            *job
        })?;
        assert_eq!(results.next(), Some(0));
        drop(results);
        assert_eq!(Arc::strong_count(&alive), 1, "a thread still holds the work");
        Ok(())
    }

    #[test]
    fn a_thread_that_dies_ends_the_results_at_its_job() -> io::Result<()> {
        let mut results = InOrder::new((0..20).collect(), 3, 4, |job: &u64| {
            assert!(*job != 7, "as a decoder might");
            *job
        })?;
        assert_eq!(results.by_ref().collect::<Vec<_>>(), (0..7).collect::<Vec<_>>());
        assert_eq!(results.next(), None);
        Ok(())
    }
}
