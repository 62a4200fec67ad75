//! The processes that `torchrun` starts, of which `slim train` makes one run, and other commands
//! leave all but one idle.

use anyhow::{Result, ensure};
use slim_distributed::{Distributed, DistributedConfig, Error, Launch};
use tch::Device;

use crate::device::DeviceOptions;
use crate::options::Usage;

/// Marks an error that another process reports, so that this one ends without a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("another process reports this")]
pub struct ReportedElsewhere;

/// Joins the other processes, on the device that the options name; a process that was started alone
/// joins none.
///
/// # Errors
/// Those of [`DeviceOptions::set_up`]; several processes on one GPU, or on GPUs without NCCL;
/// [`Error`] when the others do not come.
pub fn join(options: &DeviceOptions) -> Result<Distributed> {
    let device = options.set_up()?;
    if Launch::from_env()?.is_none() {
        return Ok(Distributed::alone(device));
    }
    if let Device::Cuda(number) = device {
        ensure!(
            number == 0,
            Usage(format!(
                "each of several processes has the GPU of its local rank, and not all cuda:{number}; say cuda, or cpu"
            ))
        );
        ensure!(
            cfg!(feature = "nccl"),
            Usage(
                "several processes on GPUs need slim with the feature nccl (cargo install --path slim-cli --features nccl); --no-cuda trains on the CPUs".to_owned()
            )
        );
    }
    Ok(DistributedConfig::new().cpu(device == Device::Cpu).join()?)
}

/// Leaves the printing of an error of all processes to rank 0.
pub fn reported_once(dist: &Distributed, error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref() {
        Some(Error::Rank { .. }) if !dist.is_main() => error.context(ReportedElsewhere),
        _ => error,
    }
}

/// Whether this process has nothing to do, because `slim COMMAND` runs in one process and this is
/// not rank 0. Rank 0 says so.
pub fn is_idle(command: &str) -> bool {
    // Variables that are not those of a launcher do not concern a command that joins nobody.
    match Launch::from_env() {
        Ok(Some(Launch { rank, world_size, .. })) if world_size > 1 => {
            if rank == 0 {
                eprintln!(
                    "slim {command} runs in one process: rank 0 of {world_size} does all of it, and the others end"
                );
            }
            rank > 0
        }
        _ => false,
    }
}
