//! Checks HTML pages in a headless browser: at the width of a phone, a tablet and a desktop, in a
//! light and a dark scheme.

mod chromium;

use crate::workspace::target;
use anyhow::{Context, Result, bail};
use chromium::Chromium;
use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// The widths in pixels at which a page is shown. A browser's window cannot be as narrow as the
/// first width, but a frame can.
const WIDTHS: [u32; 4] = [360, 800, 1200, 1600];

/// The script that looks for faults in the frames, and writes one line for each.
const INSPECT: &str = include_str!("inspect.js");

/// A page with every kind of fault. The check is only trusted if it finds the faults in `KNOWN`.
const BAD: &str = include_str!("bad.html");
const KNOWN: [&str; 8] = [
    "the page is wider than the window",
    "<p id=\"beyond\"> “wider than any window” is beyond the page",
    "<b id=\"cut\"> “a third is not to be seen” is cut off",
    "<p id=\"outgrown\"> “thisisonewordandithasnoroom” is narrower than what is in it",
    "<p id=\"pale\"> “hardly to be read” has a contrast of",
    "<text id=\"under\"> “one” is on <text id=\"over\"> “two”",
    "console: \"Uncaught ReferenceError: missing",
    "console: \"not well",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Light,
    Dark,
}

impl Scheme {
    fn name(self) -> &'static str {
        match self {
            Scheme::Light => "light",
            Scheme::Dark => "dark",
        }
    }
}

/// Checks pages. Fails if a page has an error in a script or on the console, is wider than its
/// window, cuts something off, or has text that is too pale. If there is no browser, and none can
/// be installed, it prints a warning and passes.
pub(crate) fn check(pages: &[PathBuf]) -> Result<ExitCode> {
    let Some(chromium) = Chromium::find()? else {
        eprintln!(
            "warning: NOBODY HAS LOOKED AT {} PAGES: there is no Chromium here, and none can be installed.",
            pages.len()
        );
        eprintln!("         `apt install chromium`, or set `CHROME` to the path of one.");
        return Ok(ExitCode::SUCCESS);
    };
    let folder = target().join("browser");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    prove(&chromium, &folder)?;
    let mut sound = true;
    for page in pages {
        let html =
            fs::read_to_string(page).with_context(|| format!("cannot read {}", page.display()))?;
        let mut faults = Vec::new();
        for scheme in [Scheme::Light, Scheme::Dark] {
            faults.extend(look(&chromium, &folder, &html, scheme)?);
        }
        println!("{} {}", if faults.is_empty() { "ok    " } else { "FAILED" }, page.display());
        faults.iter().for_each(|fault| println!("       {fault}"));
        sound &= faults.is_empty();
    }
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Makes sure that the check finds the faults of a bad page, in both schemes.
fn prove(chromium: &Chromium, folder: &Path) -> Result<()> {
    for scheme in [Scheme::Light, Scheme::Dark] {
        let faults = look(chromium, folder, BAD, scheme)?;
        if let Some(missed) =
            KNOWN.into_iter().find(|known| !faults.iter().any(|fault| fault.contains(known)))
        {
            bail!(
                "the check of pages does not work: of a page on which it is so it does not say \"{missed}\", but {faults:#?}"
            );
        }
        // The page has no dark scheme, which is a fault in the dark.
        if faults.iter().any(|fault| fault.contains("is light in the dark"))
            != (scheme == Scheme::Dark)
        {
            bail!("the browser does not show the {} scheme", scheme.name());
        }
    }
    Ok(())
}

/// The faults of a page in one scheme, at all widths.
fn look(chromium: &Chromium, folder: &Path, html: &str, scheme: Scheme) -> Result<Vec<String>> {
    let file = folder.join("page.html");
    fs::write(&file, wrapper(html)).with_context(|| format!("cannot write {}", file.display()))?;
    let shown = chromium.show(&file, folder, scheme == Scheme::Dark)?;
    let mut faults = console(&shown.log);
    match found(&shown.dom) {
        Some(lines) => faults.extend(lines),
        None => bail!("the browser has not looked at the page; it says:\n{}", shown.log),
    }
    let scheme = scheme.name();
    Ok(faults.into_iter().map(|fault| format!("{scheme}, {fault}")).collect())
}

/// A page with the given page in a frame of each width, and the script that inspects the frames.
fn wrapper(html: &str) -> String {
    let frames = WIDTHS.map(|width| {
        format!(
            "<iframe style=\"border: 0; width: {width}px; height: 900px\" srcdoc=\"{}\"></iframe>",
            escaped(html)
        )
    });
    format!(
        "<!DOCTYPE html><meta charset=\"utf-8\"><pre id=\"found\"></pre>{}<script>{INSPECT}</script>",
        frames.concat()
    )
}

/// The lines that the script has written; `None` if it has not finished.
fn found(dom: &str) -> Option<Vec<String>> {
    let (_, rest) = dom.split_once("<pre id=\"found\">")?;
    let (text, _) = rest.split_once("</pre>")?;
    let mut lines: Vec<_> = text.lines().map(unescaped).collect();
    (lines.pop()? == "done").then_some(lines)
}

/// The console messages of pages, each once. They are in lines such as
/// `[…:INFO:CONSOLE:7] "text", source: about:srcdoc (7)`.
fn console(log: &str) -> Vec<String> {
    let said = log.lines().filter_map(|line| line.split_once("CONSOLE")?.1.split_once("] "));
    let mut said: Vec<_> = said.map(|(_, text)| format!("console: {text}")).collect();
    said.sort();
    said.dedup();
    said
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;")
}

fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&nbsp;", "\u{a0}").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_script_leaves_is_read() {
        assert_eq!(
            found("<html><pre id=\"found\">360 px: &lt;p&gt; &amp;amp;\ndone</pre>"),
            Some(vec!["360 px: <p> &amp;".to_owned()])
        );
        assert_eq!(found("<pre id=\"found\">done</pre>"), Some(Vec::new()));
        assert_eq!(found("<pre id=\"found\"></pre>"), None);
        assert_eq!(found("<pre id=\"found\">360 px: half of"), None);
        assert_eq!(found(""), None);
    }

    #[test]
    fn what_is_said_on_the_console_is_read() {
        let line = |text: &str| {
            format!("[1:1:0101/000000.0:INFO:CONSOLE:7] {text}, source: about:srcdoc (7)")
        };
        let log = [
            "DevTools listening",
            &line("\"b\""),
            "[1:1:ERROR:gpu.cc(1)] none",
            &line("\"a\""),
            &line("\"a\""),
        ]
        .join("\n");
        assert_eq!(
            console(&log),
            [
                "console: \"a\", source: about:srcdoc (7)",
                "console: \"b\", source: about:srcdoc (7)"
            ]
        );
    }

    #[test]
    fn a_page_in_a_frame_is_one_attribute() {
        let wrapped = wrapper("<p title=\"a &quot;\">b</p>");
        assert_eq!(
            wrapped.matches("srcdoc=\"<p title=&quot;a &amp;quot;&quot;>b</p>\"></iframe>").count(),
            WIDTHS.len()
        );
    }
}
