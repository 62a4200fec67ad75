//! Writes random networks as Rust code, which `tests/networks` compiles and slims. `SLIM_SEED`
//! selects others.

mod generator;
#[path = "../../../slim-runtime/build.rs"]
mod libtorch;

use std::error::Error;
use std::path::Path;

const SEED: u64 = 1;
const COUNT: usize = 40;

fn main() -> Result<(), Box<dyn Error>> {
    libtorch::main();
    println!("cargo:rerun-if-changed=generator");
    println!("cargo:rerun-if-env-changed=SLIM_SEED");
    let seed = match std::env::var("SLIM_SEED") {
        Ok(seed) => seed.parse()?,
        Err(_) => SEED,
    };
    let file = Path::new(&std::env::var("OUT_DIR")?).join("networks.rs");
    std::fs::write(file, generator::module(seed, COUNT))?;
    Ok(())
}
