//! A lock that lets only one setup at a time run in a workspace.

use std::{
    fs::{File, TryLockError},
    io,
    path::Path,
};

/// Waits until no other setup of this workspace runs; calls `on_wait` once if one does. The lock
/// lasts until the returned file is dropped. The kernel frees it however the process ends, so there
/// is no stale lock to clear.
pub(crate) fn wait(root: &Path, on_wait: impl FnOnce()) -> io::Result<File> {
    let workspace = File::open(root)?;
    match workspace.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            on_wait();
            workspace.lock()?;
        }
        Err(TryLockError::Error(error)) => return Err(error),
    }
    Ok(workspace)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::mpsc::channel,
        thread::{sleep, spawn},
        time::Duration,
    };

    #[test]
    fn the_second_waits_for_the_first() -> io::Result<()> {
        let folder = std::env::temp_dir().join(format!("slim-xtask-lock-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let first = wait(&folder, || ())?;
        let (say, heard) = channel();
        let second = spawn({
            let folder = folder.clone();
            move || wait(&folder, || assert!(say.send(()).is_ok())).map(drop)
        });
        assert!(heard.recv_timeout(Duration::from_secs(10)).is_ok(), "the second did not wait");
        sleep(Duration::from_millis(50));
        assert!(!second.is_finished());
        drop(first);
        assert!(matches!(second.join(), Ok(Ok(()))));
        std::fs::remove_dir_all(folder)
    }
}
