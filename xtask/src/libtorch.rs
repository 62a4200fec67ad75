//! The files of an installed libtorch, and whether it is complete.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

/// The version that the workspace's `tch` is made for.
pub(crate) const VERSION: &str = "2.11.0";

/// The name of the stamp. It is written last, so an install without it was interrupted.
const STAMP: &str = "slim-setup";

/// The files that compiling, linking and starting a program needs. `libtorch_cpu.so` needs the two
/// CUDA libraries in any case.
const NEEDED: [&str; 7] = [
    "torch/include/torch/csrc/api/include/torch/torch.h",
    "torch/include/ATen/ATen.h",
    "torch/lib/libc10.so",
    "torch/lib/libtorch.so",
    "torch/lib/libtorch_cpu.so",
    "nvidia/cu13/lib/libcudart.so.13",
    "nvidia/cu13/lib/libcupti.so.13",
];
const NEEDED_FOR_CUDA: [&str; 2] = ["torch/lib/libc10_cuda.so", "torch/lib/libtorch_cuda.so"];

/// How much of libtorch is installed. In this order, a greater flavour can do all that a lesser one
/// can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Flavour {
    /// Without CUDA.
    Lean,
    /// Everything in the wheel, and the CUDA libraries that it needs.
    Full,
}

impl Flavour {
    const ALL: [Self; 2] = [Self::Lean, Self::Full];

    /// The word for the flavour in the stamp.
    fn word(self) -> &'static str {
        match self {
            Self::Lean => "lean",
            Self::Full => "full",
        }
    }

    fn needed(self) -> impl Iterator<Item = &'static str> {
        let cuda: &[&str] = match self {
            Self::Lean => &[],
            Self::Full => &NEEDED_FOR_CUDA,
        };
        NEEDED.iter().chain(cuda).copied()
    }
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lean => "without CUDA",
            Self::Full => "with CUDA",
        })
    }
}

/// The state of an install's folder.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum State {
    Absent,
    /// `was` is the flavour in the stamp, if the stamp can be read.
    Broken {
        was: Option<Flavour>,
        why: String,
    },
    Whole(Flavour),
}

/// Compares the install in `home` with its stamp.
pub(crate) fn inspect(home: &Path) -> State {
    // Not `exists`: a dangling link is in the way of an install, too.
    if home.symlink_metadata().is_err() {
        return State::Absent;
    }
    let Ok(stamp) = fs::read_to_string(home.join(STAMP)) else {
        return State::Broken { was: None, why: "it is unfinished".into() };
    };
    let Some(stamp) = Stamp::parse(&stamp) else {
        return State::Broken { was: None, why: format!("`{STAMP}` in it cannot be read") };
    };
    match stamp.fault(home) {
        Some(why) => State::Broken { was: Some(stamp.flavour), why },
        None => State::Whole(stamp.flavour),
    }
}

/// Writes the stamp that declares the install in `home` complete. Fails if a file that a build
/// needs is missing.
pub(crate) fn seal(home: &Path, flavour: Flavour) -> io::Result<()> {
    let mut files = Vec::new();
    for path in libraries(home)?
        .into_iter()
        .chain(NEEDED.iter().map(|path| home.join(path)).filter(|path| !is_library(path)))
    {
        let size = path
            .metadata()
            .map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?
            .len();
        let path = path.strip_prefix(home).unwrap_or(&path).to_string_lossy().into_owned();
        files.push((path, size));
    }
    files.sort();
    let stamp = Stamp { version: VERSION.into(), flavour, files };
    match stamp.fault(home) {
        Some(why) => Err(io::Error::other(why)),
        None => fs::write(home.join(STAMP), stamp.to_string()),
    }
}

/// All shared libraries of the install, below its folder.
pub(crate) fn libraries(home: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![home.join("torch/lib"), home.join("nvidia")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if is_library(&entry.path()) {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}

/// `libc10.so`, `libcudart.so.13`.
fn is_library(path: &Path) -> bool {
    path.file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| name.ends_with(".so") || name.contains(".so."))
}

/// The record of a finished install: `libtorch 2.11.0 lean`, then one line per file with its size
/// and its path.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    version: String,
    flavour: Flavour,
    files: Vec<(String, u64)>,
}

impl Stamp {
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let (version, word) = lines.next()?.strip_prefix("libtorch ")?.split_once(' ')?;
        let flavour = Flavour::ALL.into_iter().find(|flavour| flavour.word() == word)?;
        let files = lines.map(|line| {
            line.split_once(' ')
                .and_then(|(size, path)| Some((path.to_owned(), size.parse().ok()?)))
        });
        Some(Self { version: version.to_owned(), flavour, files: files.collect::<Option<_>>()? })
    }

    /// The first fault of the install in `home`, if any.
    fn fault(&self, home: &Path) -> Option<String> {
        if self.version != VERSION {
            return Some(format!("it is libtorch {}, and {VERSION} is needed", self.version));
        }
        if let Some(path) =
            self.flavour.needed().find(|needed| !self.files.iter().any(|(path, _)| path == needed))
        {
            return Some(format!("`{path}` is missing"));
        }
        self.files.iter().find_map(|(path, size)| match home.join(path).metadata() {
            Err(_) => Some(format!("`{path}` is missing")),
            Ok(file) if file.len() != *size => {
                Some(format!("`{path}` has {} bytes instead of {size}", file.len()))
            }
            Ok(_) => None,
        })
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "libtorch {} {}", self.version, self.flavour.word())?;
        self.files.iter().try_for_each(|(path, size)| writeln!(f, "{size} {path}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A temporary folder with all files that a flavour needs, removed when dropped.
    struct Home(PathBuf);

    impl Home {
        fn new(name: &str, flavour: Flavour) -> io::Result<Self> {
            let home = Self(
                std::env::temp_dir().join(format!("slim-xtask-{name}-{}", std::process::id())),
            );
            for path in flavour.needed() {
                home.write(path, "seven b")?;
            }
            Ok(home)
        }

        fn write(&self, path: &str, text: &str) -> io::Result<()> {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap_or(&self.0))?;
            fs::write(path, text)
        }

        fn fault(&self) -> String {
            match inspect(&self.0) {
                State::Broken { why, .. } => why,
                other => format!("{other:?}"),
            }
        }
    }

    impl Drop for Home {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_sealed_install_is_whole() -> io::Result<()> {
        for flavour in Flavour::ALL {
            let home = Home::new(&format!("whole-{}", flavour.word()), flavour)?;
            assert_eq!(home.fault(), "it is unfinished");
            seal(&home.0, flavour)?;
            assert_eq!(inspect(&home.0), State::Whole(flavour));
        }
        assert_eq!(inspect(Path::new("/nowhere/at/all")), State::Absent);
        Ok(())
    }

    #[test]
    fn damage_is_found() -> io::Result<()> {
        let home = Home::new("damage", Flavour::Lean)?;
        home.write("nvidia/cudnn/lib/libcudnn.so.9", "not needed, but recorded")?;
        seal(&home.0, Flavour::Lean)?;
        home.write("torch/lib/libtorch.so", "seven")?;
        assert_eq!(home.fault(), "`torch/lib/libtorch.so` has 5 bytes instead of 7");
        home.write("torch/lib/libtorch.so", "7 bytes")?;
        assert_eq!(inspect(&home.0), State::Whole(Flavour::Lean));

        for path in ["torch/include/ATen/ATen.h", "nvidia/cudnn/lib/libcudnn.so.9"] {
            let text = fs::read_to_string(home.0.join(path))?;
            fs::remove_file(home.0.join(path))?;
            assert_eq!(home.fault(), format!("`{path}` is missing"));
            home.write(path, &text)?;
            assert_eq!(inspect(&home.0), State::Whole(Flavour::Lean));
        }

        home.write(STAMP, "libtorch 2.11.0 lean\n7 torch/lib/libtorch.so\n")?;
        assert_eq!(home.fault(), format!("`{}` is missing", NEEDED[0]));
        home.write(STAMP, "libtorch 2.10.0 full\n")?;
        assert_eq!(
            inspect(&home.0),
            State::Broken {
                was: Some(Flavour::Full),
                why: "it is libtorch 2.10.0, and 2.11.0 is needed".into()
            }
        );
        home.write(STAMP, "libtorch 2.11.0")?;
        assert_eq!(home.fault(), "`slim-setup` in it cannot be read");
        Ok(())
    }

    #[test]
    fn what_lacks_a_library_is_not_sealed() -> io::Result<()> {
        let home = Home::new("unsealed", Flavour::Lean)?;
        let refused = seal(&home.0, Flavour::Full).map_err(|error| error.to_string());
        assert_eq!(refused, Err("`torch/lib/libc10_cuda.so` is missing".into()));
        assert_eq!(home.fault(), "it is unfinished");
        Ok(())
    }

    #[test]
    fn a_stamp_reads_as_it_was_written() {
        let stamp = Stamp {
            version: "2.11.0".into(),
            flavour: Flavour::Full,
            files: vec![("a path/with blanks.so".into(), 12)],
        };
        assert_eq!(Stamp::parse(&stamp.to_string()), Some(stamp));
        assert_eq!(Stamp::parse("libtorch 2.11.0 huge\n"), None);
        assert_eq!(Stamp::parse("libtorch 2.11.0 lean\nmany torch/lib/libc10.so\n"), None);
    }
}
