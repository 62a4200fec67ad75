//! Finds or installs Chromium, and renders a file with it.

use crate::host::runs;
use anyhow::{Context, Result, bail};
use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// The names of the program in different packages.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// A page is shown within seconds; a browser that takes longer is stuck.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct Chromium(OsString);

/// The result of rendering a file.
pub(super) struct Shown {
    /// The document at the end, as HTML.
    pub(super) dom: String,
    /// The log of the browser, which includes the pages' console messages.
    pub(super) log: String,
}

impl Chromium {
    /// The browser that `CHROME` names, or else the first in `NAMES` that is installed, or else
    /// Debian's, which is installed if possible. `None` if there is no browser.
    pub(super) fn find() -> Result<Option<Self>> {
        if let Some(chosen) = env::var_os("CHROME").filter(|chosen| !chosen.is_empty()) {
            if !runs(&chosen, &["--version"]) {
                bail!(
                    "`CHROME` is `{}`, which does not run: unset it, or set it to the path of Chromium",
                    chosen.display()
                );
            }
            return Ok(Some(Self(chosen)));
        }
        let installed = || {
            NAMES.into_iter().find(|name| runs(name, &["--version"])).map(|name| Self(name.into()))
        };
        Ok(installed().or_else(|| if install() { installed() } else { None }))
    }

    /// Renders a file without a window. The browser writes its own files to `folder`.
    pub(super) fn show(&self, file: &Path, folder: &Path, dark: bool) -> Result<Shown> {
        let [dom, log, profile] = ["dom.html", "log.txt", "profile"].map(|name| folder.join(name));
        let output = |path: &Path| {
            File::create(path).with_context(|| format!("cannot write {}", path.display()))
        };
        let mut command = Command::new(&self.0);
        command.args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--hide-scrollbars",
        ]);
        command.args([
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
        ]);
        command.args(["--enable-logging=stderr", "--window-size=1700,1000", "--dump-dom"]);
        command.arg(format!("--blink-settings=preferredColorScheme={}", if dark { 0 } else { 1 }));
        let mut argument = OsString::from("--user-data-dir=");
        argument.push(&profile);
        let mut address = OsString::from("file://");
        address
            .push(file.canonicalize().with_context(|| format!("cannot find {}", file.display()))?);
        command
            .arg(argument)
            .arg(address)
            .stdin(Stdio::null())
            .stdout(output(&dom)?)
            .stderr(output(&log)?);
        let mut child =
            command.spawn().with_context(|| format!("cannot run {}", self.0.display()))?;
        let begun = Instant::now();
        let status = loop {
            match child.try_wait()? {
                Some(status) => break status,
                None if begun.elapsed() < PATIENCE => sleep(Duration::from_millis(20)),
                None => {
                    child.kill()?;
                    break child.wait()?;
                }
            }
        };
        let read =
            |path: &Path| fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let shown = Shown { dom: read(&dom)?, log: read(&log)? };
        if !status.success() {
            bail!(
                "{} has not shown {} ({status}):\n{}",
                self.0.display(),
                file.display(),
                shown.log
            );
        }
        Ok(shown)
    }
}

/// Installs Debian's package, if this process may. Returns whether it is installed.
fn install() -> bool {
    let is_root = Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|output| output.stdout.trim_ascii() == b"0");
    if !is_root || !runs("apt-get", &["--version"]) {
        return false;
    }
    println!("installing Debian's chromium");
    let apt = |args: &[&str]| runs("apt-get", &[&["-qq", "-y"], args].concat());
    // The list of packages may be missing, or old.
    apt(&["update"]) && apt(&["install", "--no-install-recommends", "chromium"])
}
