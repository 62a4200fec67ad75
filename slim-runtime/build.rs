//! Makes the tests and doctests find libtorch at run time. Any crate that links a program with tch
//! needs these lines; `torch-sys` must be a direct dependency for `DEP_TCH_LIBTORCH_LIB` to be set.

use std::path::Path;

pub(crate) fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    println!("cargo:rerun-if-env-changed=SLIM_BUNDLE");
    // Unset with `doc-only`, which links nothing.
    if let Ok(lib) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
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
