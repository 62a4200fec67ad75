//! Compiles the shim against libtorch's headers, and makes programs find libtorch at run time.

use std::env;
use std::error::Error;

#[path = "headers.rs"]
mod headers;
#[path = "rpath.rs"]
mod rpath;

fn main() -> Result<(), Box<dyn Error>> {
    rpath::main();
    // Unset with `doc-only`, which links nothing.
    let Ok(lib) = env::var("DEP_TCH_LIBTORCH_LIB") else { return Ok(()) };
    headers::compiler("slim-serve", &lib)?.file("shim/serve.cpp").try_compile("slim_serve")?;
    Ok(())
}
