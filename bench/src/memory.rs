//! Measures the peak of the additional memory that a piece of work takes, as Linux counts it.

use std::fs;

use anyhow::{Context, Result};

/// Runs `work`. Returns its result, and the largest number of bytes that were resident during the
/// work, less those before it.
///
/// Call this in a process of its own, with `MALLOC_MMAP_THRESHOLD_` set. Otherwise the work may
/// reuse memory that the allocator kept after it was freed, which this function does not see.
///
/// # Errors
/// The errors of `work`, and a system without `/proc/self/clear_refs`.
pub fn peak<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, u64)> {
    fs::write("/proc/self/clear_refs", "5")
        .context("cannot reset the peak of memory: this takes Linux")?;
    let before = status("VmRSS")?;
    let made = work()?;
    Ok((made, status("VmHWM")?.saturating_sub(before)))
}

/// A figure of `/proc/self/status` in bytes, by its name.
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
