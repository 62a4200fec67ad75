//! Compiles the shim against libtorch's headers, and makes programs find libtorch at run time.

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};

#[path = "headers.rs"]
mod headers;
#[path = "rpath.rs"]
mod rpath;

/// What libtorch's header of NCCL's process group includes, and libtorch does not bring: NCCL, and
/// CUDA's toolkit.
const NCCL_HEADERS: [&str; 4] = ["nccl.h", "cuda_runtime_api.h", "crt/host_config.h", "nv/target"];

fn main() -> Result<(), Box<dyn Error>> {
    rpath::main();
    println!("cargo:rerun-if-env-changed=NCCL_INCLUDES");
    // Unset with `doc-only`, which links nothing.
    let Ok(lib) = env::var("DEP_TCH_LIBTORCH_LIB") else { return Ok(()) };
    let mut build = headers::compiler("slim-distributed", &lib)?;
    build
        .include("shim/include")
        .define("USE_C10D_GLOO", None)
        // Templates of libtorch that it compiled itself are not exported a second time.
        .flag("-fvisibility-inlines-hidden")
        .file("shim/distributed.cpp");
    if env::var_os("CARGO_FEATURE_NCCL").is_some() {
        build.define("USE_C10D_NCCL", None).includes(nccl(Path::new(&lib))?);
        println!("cargo:rustc-link-search=native={lib}");
        for library in ["c10_cuda", "torch_cuda"] {
            println!("cargo:rustc-link-lib={library}");
        }
    }
    build.try_compile("slim_distributed")?;
    Ok(())
}

/// The folders of the headers that the feature `nccl` needs: those of `NCCL_INCLUDES`, and those of
/// the wheels that pip installs beside PyTorch.
fn nccl(lib: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    if !lib.join("libtorch_cuda.so").exists() {
        return Err(format!(
            "the feature `nccl` needs libtorch with CUDA, and {} has no libtorch_cuda.so; set LIBTORCH to one that has",
            lib.display()
        )
        .into());
    }
    let mut folders: Vec<PathBuf> = env::var_os("NCCL_INCLUDES")
        .map(|paths| env::split_paths(&paths).collect())
        .unwrap_or_default();
    if let Some(packages) = lib.parent().and_then(Path::parent) {
        let wheels = packages.join("nvidia").read_dir().into_iter().flatten().flatten();
        folders.extend(wheels.map(|wheel| wheel.path().join("include")));
    }
    for header in NCCL_HEADERS {
        if !folders.iter().any(|folder| folder.join(header).exists()) {
            return Err(format!(
                "the feature `nccl` needs {header}, of NCCL or of CUDA's toolkit; set NCCL_INCLUDES to the folders of the headers, with `:` between them"
            )
            .into());
        }
    }
    Ok(folders)
}
