//! The times of a network's layers in a file, and the latency of the network.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use slim_runtime::{Benchmark, Latency, LatencyOptions, LatencyTable};
use tch::Tensor;
use tch::nn::ModuleT;

use crate::network::Net;
use crate::terminal::say;

/// The table in a file, with the layers of this network on `image`. What is missing is measured,
/// and the file is written.
///
/// # Errors
/// The file is no table, or one of another device or number of threads; a layer cannot be timed;
/// errors of the disk.
pub(crate) fn table(file: &Path, net: &Net, image: &Tensor) -> Result<LatencyTable> {
    let (options, pass) = (LatencyOptions::new(), |net: &Net| net.forward_t(image, false));
    if !file.exists() {
        // Before the layers are timed, which takes a while.
        let writable = fs::OpenOptions::new().create_new(true).write(true).open(file);
        writable
            .and_then(|_| fs::remove_file(file))
            .with_context(|| format!("cannot write --latency-table {}", file.display()))?;
        say(format_args!("measuring the times of the layers into {} …", file.display()));
        let table = LatencyTable::measure(net, pass, &options)?;
        say(format_args!("{table}"));
        table.save(file)?;
        return Ok(table);
    }
    let before = LatencyTable::load(file)?;
    let mut table = before.clone();
    let added = table.extend(net, pass, &options).with_context(|| {
        format!(
            "--latency-table {} (a table is of one --device and one number of --threads)",
            file.display()
        )
    })?;
    if added > 0 {
        say(format_args!("measured {added} shapes into {}: {table}", file.display()));
    }
    if table != before {
        table.save(file)?;
    }
    Ok(table)
}

/// The latency of a network on `image`.
pub(crate) fn measured(net: &Net, image: &Tensor) -> Result<Latency> {
    let benchmark = Benchmark::new().device(image.device()).batch(1);
    Ok(benchmark.measure(|| net.forward_t(image, false))?)
}
