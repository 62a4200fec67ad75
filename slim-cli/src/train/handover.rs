//! A network that rank 0 has read, in all processes.

use anyhow::Result;
use slim_distributed::Distributed;
use tempfile::TempDir;

use super::Resume;
use crate::model::{Model, Wanted};

/// The name of the file by which a network travels.
const FILE: &str = "network.safetensors";
/// What travels: nothing, a network, or a network with a state of training.
const KINDS: [&str; 3] = ["nothing", "network", "training"];

/// Gives all processes the network that rank 0 has read, with the state of training: its files need
/// to be on the machine of rank 0 only. The others' `read` is not looked at. Collective.
///
/// # Errors
/// Errors of the disk, for a temporary file; a process that does not answer.
pub fn hand_over(
    dist: &Distributed,
    read: Option<(Model, Option<Resume>)>,
) -> Result<Option<(Model, Option<Resume>)>> {
    if dist.world_size() == 1 {
        return Ok(read);
    }
    let kind = match &read {
        None => KINDS[0],
        Some((_, None)) => KINDS[1],
        Some((_, Some(_))) => KINDS[2],
    };
    let kind = dist.from_main(|| Ok(kind.to_owned()))?;
    if kind == KINDS[0] {
        return Ok(None);
    }
    let written = || -> Result<(TempDir, Vec<u8>)> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join(FILE);
        match &read {
            Some((model, Some(resume))) if dist.is_main() => resume.write(model, &file)?,
            Some((model, None)) if dist.is_main() => model.writer()?.write(&file)?,
            _ => return Ok((folder, Vec::new())),
        }
        let bytes = std::fs::read(&file)?;
        Ok((folder, bytes))
    };
    let (folder, bytes) = dist.together(written())?;
    let bytes = dist.broadcast_bytes(&bytes, 0)?;
    if dist.is_main() {
        return Ok(read);
    }
    let file = folder.path().join(FILE);
    std::fs::write(&file, bytes)?;
    let (wanted, device) = (Wanted::default(), dist.device());
    Ok(Some(if kind == KINDS[2] {
        let (model, resume) = Resume::read(&file, &wanted, device)?;
        (model, Some(resume))
    } else {
        (Model::read(&file, &wanted, device)?, None)
    }))
}
