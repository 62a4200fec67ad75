//! Checks that a file computes what the network does.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use tch::{CModule, TchError, Tensor};

use super::{Batch, trace};
use crate::numeric::OutputError;
use crate::numeric::compare::{all_finite, distance, double, is_float};
use crate::panics::caught;

/// How often the sample is run. libtorch optimises a module in its first runs, and the optimised
/// module is what is served.
const RUNS: usize = 3;

/// The output of the network.
///
/// # Errors
/// When the network panics, or its output cannot be compared, in words.
pub(super) fn run(inputs: &[Tensor], run: &impl Fn(&[Tensor]) -> Tensor) -> Result<Tensor, String> {
    let output =
        caught(|| run(inputs)).map_err(|message| format!("its forward pass panics: {message}"))?;
    let finite = double(&output)
        .and_then(|output| all_finite(&output))
        .map_err(|error| error.full_text())?;
    if finite {
        Ok(output)
    } else {
        Err("its output is not finite on this sample; use another".to_owned())
    }
}

/// Compares a module with the network, on the sample and on its values in reversed order.
///
/// # Errors
/// How the module differs, in words.
pub(super) fn check(
    served: &CModule,
    samples: &[Tensor],
    expected: &Tensor,
    run: &impl Fn(&[Tensor]) -> Tensor,
    tolerance: f64,
) -> Result<OutputError, String> {
    let mut closest = OutputError::default();
    for _ in 0..RUNS {
        let found = output(served, samples)
            .map_err(|error| format!("what was written does not run: {error}"))?;
        let again = compare(expected, &found, tolerance).map_err(|how| {
            format!(
                "what was written is another network: {how}; the trace does not record some tensor, such as one that the forward pass makes from Rust numbers (`Tensor::from_slice`: make it beforehand) or draws at random"
            )
        })?;
        closest = closest.max(again);
    }
    let reversed =
        samples.iter().map(reversed).collect::<Result<Vec<_>, _>>().map_err(trace::words)?;
    if let Ok(expected) = self::run(&reversed, run) {
        let same =
            output(served, &reversed).and_then(|found| compare(&expected, &found, tolerance));
        same.map_err(|how| {
            format!(
                "its forward pass depends on the values of its input through Rust code (a branch, a number that is read from a tensor), which a trace does not record; use tensor operations instead: on the sample with its values in reversed order, {how}"
            )
        })?;
    }
    Ok(closest)
}

/// Tries the module on twice the batch, if the trace of twice the batch is the same: `file` has
/// that of the sample.
///
/// Another trace holds the size of its batch. It is not run, because not all of libtorch's
/// operations check their arguments: an LSTM writes beyond the memory of states of another batch.
pub(super) fn batch(
    file: &Path,
    served: &CModule,
    samples: &[Tensor],
    run: &impl Fn(&[Tensor]) -> Tensor,
    tolerance: f64,
) -> Batch {
    let sizes: Vec<_> = samples.iter().map(|sample| sample.size().first().copied()).collect();
    let Some(&Some(size)) = sizes.first() else { return Batch::Unknown };
    if sizes.iter().any(|other| *other != Some(size)) {
        return Batch::Unknown;
    }
    let twice = samples
        .iter()
        .map(|sample| Tensor::f_cat(&[sample, sample], 0))
        .collect::<Result<Vec<_>, _>>();
    let Ok(twice) = twice else { return Batch::Unknown };
    let Ok(expected) = self::run(&twice, run) else { return Batch::Unknown };
    match is_trace_of(file, &twice, run) {
        Some(true) => {}
        Some(false) => {
            let why = "the trace is another one: `forward` may read the size of the batch, as by `xs.size()[0]`, or do something else in each run";
            return Batch::Only { size, why: why.to_owned() };
        }
        None => return Batch::Unknown,
    }
    match output(served, &twice).and_then(|found| compare(&expected, &found, tolerance)) {
        Ok(_) => Batch::Any,
        Err(why) => Batch::Only { size, why },
    }
}

/// Whether the trace on these inputs is the one in `file`; `None` if it cannot be written.
fn is_trace_of(file: &Path, inputs: &[Tensor], run: &impl Fn(&[Tensor]) -> Tensor) -> Option<bool> {
    // The name of an archive is a part of its content, so the other has the same name in a folder
    // of its own.
    let folder = tempfile::Builder::new().prefix(".slim-").tempdir_in(file.parent()?).ok()?;
    let other = folder.path().join(file.file_name()?);
    trace::trace(inputs, run).ok()?.save(&other).ok()?;
    same_content(file, &other).ok()
}

/// Whether two files have the same bytes.
fn same_content(one: &Path, other: &Path) -> io::Result<bool> {
    let (one, other) = (File::open(one)?, File::open(other)?);
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut one, mut other) = (BufReader::new(one), BufReader::new(other));
    loop {
        let (a, b) = (one.fill_buf()?, other.fill_buf()?);
        let read = a.len().min(b.len());
        if a[..read] != b[..read] {
            return Ok(false);
        }
        if read == 0 {
            return Ok(a.len() == b.len());
        }
        one.consume(read);
        other.consume(read);
    }
}

/// The values of the sample from last to first: valid input if the sample is.
fn reversed(sample: &Tensor) -> Result<Tensor, TchError> {
    sample.f_flip((0..sample.dim() as i64).collect::<Vec<_>>())
}

fn output(served: &CModule, inputs: &[Tensor]) -> Result<Tensor, String> {
    served.forward_ts(inputs).map_err(interpreters_words)
}

/// The last line of the error. The lines before it give the position in the file's code.
fn interpreters_words(error: TchError) -> String {
    let words = trace::words(error);
    words.lines().last().unwrap_or_default().trim().to_owned()
}

fn compare(expected: &Tensor, found: &Tensor, tolerance: f64) -> Result<OutputError, String> {
    let form = |tensor: &Tensor| format!("{:?} of {:?}", tensor.size(), tensor.kind());
    if (expected.size(), expected.kind()) != (found.size(), found.kind()) {
        return Err(format!("the output is {} instead of {}", form(found), form(expected)));
    }
    if expected.numel() == 0 {
        return Ok(OutputError::default());
    }
    let tolerance = if is_float(expected.kind()) { tolerance } else { 0. };
    let close = double(expected)
        .and_then(|expected| distance(&expected, &double(found)?))
        .map_err(|error| error.full_text())?;
    if close.is_within(tolerance) {
        return Ok(close);
    }
    let OutputError { difference, magnitude } = close;
    Err(format!("outputs of up to {magnitude:.3} are off by up to {difference:.2e}"))
}
