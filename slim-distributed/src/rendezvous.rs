//! A prefix for the keys of one attempt, on which the living processes agree.
//!
//! The store of `torchrun`'s agent outlives an attempt, and with it the addresses of processes that
//! are dead. So each attempt has keys of its own. The number of the attempt would not do, since
//! nodes may count differently. Rank 0 offers a random prefix; each other process answers under it
//! with a random token; rank 0 confirms the tokens. A process that has found the offer of a dead
//! rank 0 does not find its own token in the confirmation, and looks for the next offer. An offer
//! to another number of processes is of an earlier attempt, or of a process that was started
//! wrongly. Nobody answers it, since Gloo waits forever for processes that count differently.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::ffi::Store;

const PAUSE: Duration = Duration::from_millis(20);

/// The prefix of this attempt.
///
/// # Errors
/// The store's words, or who did not come within the timeout.
pub(crate) fn prefix(
    store: &Store,
    (rank, world_size): (usize, usize),
    timeout: Duration,
) -> Result<String, String> {
    // `None` for a timeout of more years than the clock has.
    let deadline = Instant::now().checked_add(timeout);
    let offers = format!("slim/{world_size}/");
    let mut random = fastrand::Rng::new();
    // The process's number, too: seeds may be equal in processes that start together.
    let token = format!("{:x}-{:016x}", std::process::id(), random.u64(..));
    if rank == 0 {
        let prefix = format!("{offers}{token}");
        store.set("slim/offer", &prefix)?;
        let answers = (1..world_size).map(|rank| {
            let answer = || store.get(&format!("{prefix}/answer/{rank}"));
            wait(deadline, answer)?.ok_or(format!("rank {rank} has not come within {timeout:?}"))
        });
        let tokens = answers.collect::<Result<Vec<_>, _>>()?;
        store.set(&format!("{prefix}/confirmed"), &tokens.join(" "))?;
        return Ok(prefix);
    }
    let mut offered = String::new();
    let confirmed = || {
        let offer = store.get("slim/offer")?;
        let Some(prefix) = offer.filter(|prefix| prefix.starts_with(&offers)) else {
            return Ok(None);
        };
        if prefix != offered {
            store.set(&format!("{prefix}/answer/{rank}"), &token)?;
            offered.clone_from(&prefix);
        }
        let confirmed = store.get(&format!("{prefix}/confirmed"))?;
        let is_own = |tokens: &String| tokens.split(' ').any(|confirmed| confirmed == token);
        Ok(confirmed.filter(is_own).map(|_| prefix))
    };
    wait(deadline, confirmed)?
        .ok_or(format!("rank 0 of {world_size} processes has not come within {timeout:?}"))
}

/// Asks until there is an answer, or the deadline has passed.
fn wait(
    deadline: Option<Instant>,
    mut ask: impl FnMut() -> Result<Option<String>, String>,
) -> Result<Option<String>, String> {
    loop {
        if let Some(answer) = ask()? {
            return Ok(Some(answer));
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok(None);
        }
        sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;
    use std::time::Duration;

    use super::prefix;
    use crate::ffi::Store;

    /// What ranks 0 and 1 agree on, each of which counts its own number of processes.
    fn agreed(counts: [usize; 2], timeout: Duration) -> [Result<String, String>; 2] {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        thread::scope(|scope| {
            let one = |rank: usize| {
                scope.spawn(move || {
                    let limit = Duration::from_secs(60);
                    let store = Store::new("127.0.0.1", port, rank == 0, limit).unwrap();
                    let agreed = prefix(&store, (rank, counts[rank]), timeout);
                    // The store lives until the other process has asked for the last time.
                    thread::sleep(Duration::from_millis(500));
                    agreed
                })
            };
            [one(0), one(1)].map(|thread| thread.join().unwrap())
        })
    }

    #[test]
    fn processes_agree_on_a_prefix() {
        for timeout in [Duration::from_secs(60), Duration::MAX] {
            let [first, second] = agreed([2, 2], timeout);
            assert!(first.is_ok());
            assert_eq!(first, second);
        }
    }

    #[test]
    fn processes_that_count_differently_do_not_meet() {
        let [first, second] = agreed([2, 3], Duration::from_millis(300));
        assert_eq!(first.unwrap_err(), "rank 1 has not come within 300ms");
        assert_eq!(second.unwrap_err(), "rank 0 of 3 processes has not come within 300ms");
    }
}
