//! How much memory a piece of work takes beside what was there, as Linux counts it.

use std::fs;

use anyhow::{Context, Result};

/// The most bytes that were resident while it ran, beyond those before it.
///
/// Of a process of its own, with `MALLOC_MMAP_THRESHOLD_` set: memory that was freed and kept would
/// be taken again without being seen.
///
/// # Errors
/// Those of the work, and a system without `/proc/self/clear_refs`.
pub fn peak<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, u64)> {
    fs::write("/proc/self/clear_refs", "5")
        .context("cannot reset the peak of memory: this takes Linux")?;
    let before = status("VmRSS")?;
    let made = work()?;
    Ok((made, status("VmHWM")?.saturating_sub(before)))
}

/// Bytes, by the kernel's name for them.
fn status(name: &str) -> Result<u64> {
    let text = fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    field(&text, name).with_context(|| format!("/proc/self/status has no {name}"))
}

fn field(text: &str, name: &str) -> Option<u64> {
    let kilobytes = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    kilobytes
        .trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()
        .map(|kilobytes| kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_freed_again_is_seen() -> Result<()> {
        const SIZE: u64 = 200_000_000;
        let (sum, peak) =
            peak(|| Ok(vec![1_u8; SIZE as usize].iter().map(|&one| u64::from(one)).sum::<u64>()))?;
        assert_eq!(sum, SIZE);
        // Other tests of this process allocate meanwhile.
        assert!((SIZE * 9 / 10..SIZE * 10).contains(&peak), "{peak}");
        Ok(())
    }

    #[test]
    fn the_kernels_lines() {
        let text = "Name:\tcat\nVmHWM:\t    1664 kB\nVmRSS:\t 12 kB\n";
        assert_eq!(field(text, "VmHWM"), Some(1664 * 1024));
        assert_eq!(field(text, "VmRSS"), Some(12 * 1024));
        assert_eq!(field(text, "Vm"), None);
        assert_eq!(field(text, "VmSwap"), None);
    }
}
