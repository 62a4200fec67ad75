//! Makes the tests and doctests find libtorch at run time. Any crate that links a program with tch
//! needs these lines; `torch-sys` must be a direct dependency for `DEP_TCH_LIBTORCH_LIB` to be set.

use std::path::Path;

pub(crate) fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    println!("cargo:rerun-if-env-changed=SLIM_BUNDLE");
    // Unset with `doc-only`, which links nothing.
    if let Ok(lib) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        if let Some(version) = libtorch(&lib) {
            println!("cargo:rustc-env=SLIM_LIBTORCH={version}");
        }
        println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");
        // libtorch loads its CUDA half by registration, not by symbol: the linker would drop it as
        // unneeded.
        if Path::new(&lib).join("libtorch_cuda.so").exists() {
            println!("cargo:rustc-link-arg=-Wl,--no-as-needed,-ltorch_cuda,-ltorch,--as-needed");
        } else if std::env::var_os("SLIM_BUNDLE").is_some() {
            // To be run with another libtorch, whose `libtorch.so` brings the half that it has.
            println!("cargo:rustc-link-arg=-Wl,--no-as-needed,-ltorch,--as-needed");
        }
    }
}

/// The version of libtorch, from its headers: `2.11.0`.
fn libtorch(lib: &str) -> Option<String> {
    println!("cargo:rerun-if-env-changed=LIBTORCH_INCLUDE");
    let home = match std::env::var_os("LIBTORCH_INCLUDE") {
        Some(home) => home.into(),
        None => Path::new(lib).parent()?.to_owned(),
    };
    let text = std::fs::read_to_string(home.join("include/torch/headeronly/version.h")).ok()?;
    let part = |name: &str| {
        let value =
            |line: &str| Some(line.strip_prefix(&format!("#define {name} "))?.trim().to_owned());
        text.lines().find_map(value)
    };
    let parts = ["TORCH_VERSION_MAJOR", "TORCH_VERSION_MINOR", "TORCH_VERSION_PATCH"].map(part);
    Some(parts.into_iter().collect::<Option<Vec<_>>>()?.join("."))
}
