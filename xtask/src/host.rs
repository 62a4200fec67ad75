//! Checks of the machine. The error of each check says what is missing and how to get it.

use crate::workspace::spell_size;
use anyhow::{Result, bail};
use std::{
    env,
    ffi::OsStr,
    io::{ErrorKind, Write},
    path::Path,
    process::{Command, Output, Stdio},
};

/// Checks the platform: PyPI's wheel holds libraries for x86-64 Linux with glibc only.
pub(crate) fn platform() -> Result<()> {
    if cfg!(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu")) {
        return Ok(());
    }
    bail!(
        "setup installs libtorch on x86-64 Linux with glibc only: unpack libtorch 2.11.0 from https://pytorch.org/get-started/locally \
         and set `LIBTORCH` to its folder, or `pip install torch==2.11.0` and set `LIBTORCH_USE_PYTORCH=1`"
    )
}

/// Checks the C++ compiler. torch-sys compiles C++17 with `$CXX`, or else `c++`, and tries no
/// other.
pub(crate) fn compiler() -> Result<()> {
    // Elsewhere Visual C++ is found by other means.
    if cfg!(not(unix)) {
        return Ok(());
    }
    let chosen = env::var("CXX").unwrap_or_default();
    let mut words = chosen.split_whitespace();
    let (program, args) = match words.next() {
        // `CXX` may have arguments, as in `ccache g++`.
        Some(program) if !Path::new(&chosen).is_file() => (program, words.collect()),
        Some(_) => (chosen.as_str(), vec![]),
        None => ("c++", vec![]),
    };
    let mut probe = Command::new(program);
    probe.args(args).args(["-std=c++17", "-fsyntax-only", "-x", "c++", "-"]);
    match output_of(&mut probe, "#include <optional>\n") {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let compiler = if chosen.trim().is_empty() { "c++" } else { &chosen };
            let why = first_line(&output.stderr);
            let why = if why.is_empty() { why } else { format!(" ({why})") };
            bail!(
                "`{compiler}` cannot compile C++17{why}: `apt install g++`, or set `CXX` to a compiler that can"
            )
        }
        Err(_) if !chosen.trim().is_empty() => {
            bail!("`CXX` is `{chosen}`, which does not run: unset it, or set it to a C++ compiler")
        }
        Err(_) => match ["g++", "clang++"].into_iter().find(|other| runs(other, &["--version"])) {
            Some(other) => bail!(
                "no C++ compiler is called `c++` here, but there is `{other}`: `export CXX={other}`"
            ),
            None => bail!("no C++ compiler found: `apt install g++`, or set `CXX` to one"),
        },
    }
}

/// Checks that `python3 -m pip` can fetch wheels for a platform other than its own.
pub(crate) fn pip() -> Result<()> {
    let output = match Command::new("python3")
        .args(["-m", "pip", "--version"])
        .stdin(Stdio::null())
        .output()
    {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!(
                "python3 not found: `apt install python3 python3-pip` (pip fetches libtorch from PyPI)"
            )
        }
        Err(error) => bail!("python3 does not run ({error}): `apt install python3 python3-pip`"),
    };
    if !output.status.success() {
        let why = last_line(&output.stderr);
        if why.contains("No module named") {
            bail!("python3 has no pip: `apt install python3-pip`, or `python3 -m ensurepip`");
        }
        bail!("`python3 -m pip` does not run ({why}): `apt install python3 python3-pip`");
    }
    let version = String::from_utf8_lossy(&output.stdout);
    if pip_version(&version).is_some_and(|version| version < (20, 3)) {
        bail!(
            "pip 20.3 or newer is needed, this is {}: `python3 -m pip install --upgrade pip`",
            first_line(&output.stdout)
        );
    }
    Ok(())
}

/// `pip 23.0.1 from /usr/lib/…` is (23, 0).
fn pip_version(line: &str) -> Option<(u32, u32)> {
    let mut parts = line.strip_prefix("pip ")?.split(['.', ' ']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Whether this machine has an NVIDIA driver, so that programs can use CUDA.
pub(crate) fn nvidia_driver() -> bool {
    // WSL has no such file, but `nvidia-smi`.
    Path::new("/proc/driver/nvidia/version").exists() || runs("nvidia-smi", &[])
}

/// Checks that `needed` bytes are free in `folder`. Passes if the free space cannot be determined.
pub(crate) fn disk(folder: &Path, needed: u64) -> Result<()> {
    let Ok(output) = Command::new("df").arg("-Pk").arg(folder).output() else { return Ok(()) };
    match available(&String::from_utf8_lossy(&output.stdout)) {
        Some(free) if free < needed => bail!(
            "too little disk: {} must be free while libtorch is installed, and {} has {}",
            spell_size(needed),
            folder.display(),
            spell_size(free)
        ),
        _ => Ok(()),
    }
}

/// The available bytes in the output of `df -Pk` for one path.
fn available(df: &str) -> Option<u64> {
    // Blanks in the names at either end would shift the columns: count from the percentage.
    let words: Vec<_> = df.lines().nth(1)?.split_whitespace().collect();
    let percentage = words.iter().rposition(|word| {
        word.strip_suffix('%').is_some_and(|digits| digits.parse::<u32>().is_ok())
    })?;
    words.get(percentage.checked_sub(1)?)?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

/// The version of torch in the Python that torch-sys asks.
pub(crate) fn torch_in_python() -> Result<String> {
    let python = if env::var_os("VIRTUAL_ENV").is_some() { "python" } else { "python3" };
    let script = "import importlib.metadata as m; print(m.version('torch'))";
    match Command::new(python).args(["-c", script]).stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => Ok(first_line(&output.stdout)),
        Ok(_) => bail!(
            "`LIBTORCH_USE_PYTORCH` is set, but `{python}` has no torch: `{python} -m pip install torch==2.11.0`, or unset the variable"
        ),
        Err(_) => bail!(
            "`LIBTORCH_USE_PYTORCH` is set, but `{python}` does not run: install it with torch==2.11.0, or unset the variable"
        ),
    }
}

pub(crate) fn runs(program: impl AsRef<OsStr>, args: &[&str]) -> bool {
    let status = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

fn output_of(command: &mut Command, input: &str) -> std::io::Result<Output> {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends without reading its input says why in its output.
        let _ = stdin.write_all(input.as_bytes());
    }
    child.wait_with_output()
}

fn first_line(text: &[u8]) -> String {
    String::from_utf8_lossy(text).trim().lines().next().unwrap_or_default().to_owned()
}

fn last_line(text: &[u8]) -> String {
    String::from_utf8_lossy(text).trim().lines().last().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn df_is_read_from_the_percentage() {
        let head = "Filesystem     1024-blocks      Used Available Capacity Mounted on\n";
        assert_eq!(
            available(&format!("{head}/dev/vda   263174212 18000000  77000000      19% /\n")),
            Some(77_000_000 * 1024)
        );
        assert_eq!(
            available(&format!("{head}//nas/my share 100 90 10 90% /mnt/at 100% speed\n")),
            None
        );
        assert_eq!(
            available(&format!("{head}//nas/my share 100 90 10 90% /mnt/two words\n")),
            Some(10 * 1024)
        );
        assert_eq!(available(&format!("{head}none 0 0 0 - /proc\n")), None);
        assert_eq!(available(head), None);
        assert_eq!(available(""), None);
    }

    #[test]
    fn versions_of_pip() {
        assert_eq!(
            pip_version("pip 23.0.1 from /usr/lib/python3/dist-packages/pip (python 3.11)\n"),
            Some((23, 0))
        );
        assert_eq!(pip_version("pip 26.1 from /x (python 3.14)"), Some((26, 1)));
        assert_eq!(pip_version("pyenv: pip"), None);
    }
}
