//! The paths of the workspace, and the spelling of sizes and times.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

/// The folder of the workspace's Cargo.toml.
pub(crate) fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// The folder that cargo compiles into.
pub(crate) fn target() -> PathBuf {
    root().join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// Bytes of all files below a folder.
pub(crate) fn size_of(folder: &Path) -> io::Result<u64> {
    let mut size = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let file = entry.metadata()?;
        size += if file.is_dir() { size_of(&entry.path())? } else { file.len() };
    }
    Ok(size)
}

/// `8.3 s`, `1 min 20 s`.
pub(crate) fn spell_time(time: Duration) -> String {
    match time.as_secs() {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        seconds @ 10..60 => format!("{seconds} s"),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

/// `4.6 GB`, `645 MB`.
pub(crate) fn spell_size(bytes: u64) -> String {
    let mega = bytes as f64 / 1e6;
    if mega < 1000.0 { format!("{mega:.0} MB") } else { format!("{:.1} GB", mega / 1000.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_read_well() {
        assert_eq!(spell_time(Duration::from_millis(420)), "0.4 s");
        assert_eq!(spell_time(Duration::from_secs(16)), "16 s");
        assert_eq!(spell_time(Duration::from_secs(80)), "1 min 20 s");
        assert_eq!(spell_size(645_000_000), "645 MB");
        assert_eq!(spell_size(4_600_000_000), "4.6 GB");
    }
}
