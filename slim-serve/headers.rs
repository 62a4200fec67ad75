//! Compiles a shim against libtorch's headers, which other versions of libtorch do not share.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// The version whose C++ interface the shims call: it is not stable.
const VERSION: [&str; 2] = ["2", "11"];

/// A compiler for the C++ of the crate `name`. `lib` is the folder of libtorch's libraries.
pub(crate) fn compiler(name: &str, lib: &str) -> Result<cc::Build, Box<dyn Error>> {
    println!("cargo:rerun-if-changed=shim");
    println!("cargo:rerun-if-env-changed=LIBTORCH_INCLUDE");
    println!("cargo:rerun-if-env-changed=LIBTORCH_CXX11_ABI");
    let include = include(lib)?;
    check_version(name, &include)?;
    let abi = env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".to_owned());
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .opt_level(1)
        .debug(false)
        .warnings(false)
        .define("_GLIBCXX_USE_CXX11_ABI", &*abi)
        .include(&include)
        .include(include.join("torch/csrc/api/include"));
    Ok(build)
}

/// The folder of libtorch's headers: that of `LIBTORCH_INCLUDE`, as for torch-sys, or the one
/// beside its libraries.
fn include(lib: &str) -> Result<PathBuf, Box<dyn Error>> {
    let home = match env::var_os("LIBTORCH_INCLUDE") {
        Some(home) => PathBuf::from(home),
        None => Path::new(lib).parent().ok_or("the folder of libtorch has no parent")?.to_owned(),
    };
    Ok(home.join("include"))
}

fn check_version(name: &str, include: &Path) -> Result<(), Box<dyn Error>> {
    let header = include.join("torch/headeronly/version.h");
    let text = fs::read_to_string(&header).map_err(|error| {
        format!(
            "{}: {error}; {name} needs the headers of libtorch {}: set LIBTORCH_INCLUDE to the folder that has `include`",
            header.display(),
            VERSION.join(".")
        )
    })?;
    let part = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix("#define ")?.strip_prefix(name))
            .map(str::trim)
    };
    let found = [part("TORCH_VERSION_MAJOR"), part("TORCH_VERSION_MINOR")];
    if found != VERSION.map(Some) {
        let found = found.map(|part| part.unwrap_or("?")).join(".");
        return Err(format!(
            "{}: libtorch is {found}, and {name} calls parts of {} that other versions do not have; use libtorch {}",
            header.display(),
            VERSION.join("."),
            VERSION.join(".")
        )
        .into());
    }
    Ok(())
}
