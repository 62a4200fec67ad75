//! One setup at a time in one workspace.

use std::{io, path::Path};

/// Waits until no other setup of this workspace is at work; `on_wait` is called once if there is
/// one. The lock lasts as long as what is returned.
///
/// The lock is an abstract socket: the kernel frees it however the process ends, so there is no
/// stale lock to clear.
#[cfg(target_os = "linux")]
pub(crate) fn wait(root: &Path, mut on_wait: impl FnMut()) -> io::Result<impl Sized> {
    use std::{
        hash::{DefaultHasher, Hash, Hasher},
        os::{
            linux::net::SocketAddrExt,
            unix::net::{SocketAddr, UnixListener},
        },
        thread::sleep,
        time::Duration,
    };
    // A socket's name is short, a path need not be.
    let mut hasher = DefaultHasher::new();
    root.canonicalize()?.hash(&mut hasher);
    let name =
        SocketAddr::from_abstract_name(format!("slim-xtask-setup-{:016x}", hasher.finish()))?;
    let mut waited = false;
    loop {
        match UnixListener::bind_addr(&name) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                if !std::mem::replace(&mut waited, true) {
                    on_wait();
                }
                sleep(Duration::from_millis(200));
            }
            other => return other,
        }
    }
}

/// Setup installs on Linux only, so elsewhere there is nothing to guard.
#[cfg(not(target_os = "linux"))]
pub(crate) fn wait(_root: &Path, _on_wait: impl FnMut()) -> io::Result<impl Sized> {
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
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
