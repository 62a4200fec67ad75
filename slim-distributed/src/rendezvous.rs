//! A prefix for the keys of one attempt, on which the living processes agree.
//!
//! The store of `torchrun`'s agent outlives an attempt, and with it the addresses of processes that
//! are dead. So each attempt has keys of its own. The number of the attempt would not do, since
//! nodes may count differently. Rank 0 offers a random prefix; each other process answers under it
//! with a random token; rank 0 confirms the tokens. A process that has found the offer of a dead
//! rank 0 does not find its own token in the confirmation, and looks for the next offer.

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
    let deadline = Instant::now() + timeout;
    let mut random = fastrand::Rng::new();
    // The process's number, too: seeds may be equal in processes that start together.
    let token = format!("{:x}-{:016x}", std::process::id(), random.u64(..));
    if rank == 0 {
        let prefix = format!("slim/{token}");
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
        let Some(prefix) = store.get("slim/offer")? else { return Ok(None) };
        if prefix != offered {
            store.set(&format!("{prefix}/answer/{rank}"), &token)?;
            offered.clone_from(&prefix);
        }
        let confirmed = store.get(&format!("{prefix}/confirmed"))?;
        let is_own = |tokens: &String| tokens.split(' ').any(|confirmed| confirmed == token);
        Ok(confirmed.filter(is_own).map(|_| prefix))
    };
    wait(deadline, confirmed)?.ok_or(format!("rank 0 has not come within {timeout:?}"))
}

/// Asks until there is an answer, or the deadline has passed.
fn wait(
    deadline: Instant,
    mut ask: impl FnMut() -> Result<Option<String>, String>,
) -> Result<Option<String>, String> {
    loop {
        if let Some(answer) = ask()? {
            return Ok(Some(answer));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        sleep(PAUSE);
    }
}
