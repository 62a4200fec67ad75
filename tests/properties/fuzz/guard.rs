//! Runs inputs one at a time, and limits their time and memory.

use std::cell::Cell;
use std::fmt::Debug;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use peak_alloc::PeakAlloc;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Keeps the memory of one input from being counted for another.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The time limit: far more than any input takes on the slowest machine.
const HANG: Duration = Duration::from_secs(60);

/// The memory that any input may take, which includes the inputs that other tests make meanwhile,
/// and the memory for each byte of the input.
const MEMORY_FOR_ANY: usize = 8 << 20;
const MEMORY_PER_BYTE: usize = 64;

/// Runs `check`, which returns whether it accepted an input, on as many inputs as requested.
/// Asserts that some inputs are accepted and some are not.
pub fn fuzz<S: Strategy>(cases: u32, inputs: S, check: impl Fn(&S::Value) -> bool)
where
    S::Value: AsRef<[u8]> + Debug,
{
    let cases = std::env::var("SLIM_FUZZ_CASES")
        .map_or(cases, |cases| cases.parse().expect("SLIM_FUZZ_CASES is a number"));
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let accepted = Cell::new(0);
    let run = TestRunner::new(config).run(&inputs, |input| {
        guarded(input.as_ref(), || accepted.set(accepted.get() + u32::from(check(&input))));
        Ok(())
    });
    run.unwrap_or_else(|failure| panic!("{failure}"));
    println!("{} of {cases} inputs were accepted", accepted.get());
    assert!((1..cases).contains(&accepted.get()));
}

/// Runs `check` on the files of a folder of the corpus.
pub fn corpus(folder: &str, check: impl Fn(&[u8]) -> bool) {
    let folder = slim_tests::place::path("properties/fuzz/corpus").join(folder);
    let mut files: Vec<_> = folder.read_dir().unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        println!("{}", file.display());
        let input = std::fs::read(file).unwrap();
        guarded(&input, || {
            check(&input);
        });
    }
}

/// Aborts the program when an input takes too long, since a test cannot stop it; panics when it
/// takes too much memory.
fn guarded(input: &[u8], check: impl FnOnce()) {
    // A failed input poisons the lock, which says nothing of the next input.
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (done, ends) = mpsc::channel::<()>();
    let taken = thread::scope(|scope| {
        scope.spawn(move || {
            if ends.recv_timeout(HANG) == Err(RecvTimeoutError::Timeout) {
                eprintln!("a hang: {:?}", String::from_utf8_lossy(input));
                std::process::abort();
            }
        });
        let _ends_with_the_check = done;
        MEMORY.reset_peak_usage();
        let before = MEMORY.current_usage();
        check();
        MEMORY.peak_usage().saturating_sub(before)
    });
    let most = MEMORY_FOR_ANY + MEMORY_PER_BYTE * input.len();
    assert!(taken <= most, "it takes {taken} bytes of memory, and {most} are enough");
}
