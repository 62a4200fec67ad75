//! The sparsity step, as a share of the training step that it is a part of.

use std::time::Instant;

use anyhow::Result;
use slim_runtime::Prunable;
use tch::nn::{ModuleT, OptimizerConfig, Sgd};
use tch::{Kind, Tensor};

use super::Setup;
use crate::network::Network;
use crate::report::{Measure, Row};
use crate::subject::Subject;
use crate::timing::timed;

/// As in the paper.
const BATCH: i64 = 64;
const FACTOR: f64 = 1e-4;
const TARGET: f64 = 0.01;
/// The largest number of rounds, since a training step takes a second.
const MOST_ROUNDS: usize = 7;

pub(super) fn rows(setup: &Setup, network: Network) -> Result<Vec<Row>> {
    let device = setup.options.device;
    let subject = Subject::new(network, device)?;
    let images = subject.images(BATCH);
    let labels = Tensor::randint(network.classes(), [BATCH], (Kind::Int64, device));
    let mut optimizer =
        Sgd { momentum: 0.9, dampening: 0., wd: 1e-4, nesterov: false }.build(&subject.vs, 1e-3)?;
    let mut step = || {
        timed(device, || {
            let loss = subject.net.forward_t(&images, true).cross_entropy_for_logits(&labels);
            optimizer.zero_grad();
            loss.backward();
            // On a GPU this is the time of the host: the clock does not wait for the device, since
            // training does not wait for it, either.
            let begun = Instant::now();
            subject.net.add_l1_subgradient(FACTOR)?;
            let seconds = begun.elapsed().as_secs_f64();
            optimizer.step();
            Ok(seconds)
        })
    };
    step()?;
    let (penalties, steps): (Vec<_>, Vec<_>) = (0..setup.options.rounds.min(MOST_ROUNDS))
        .map(|_| step())
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .unzip();
    let against = format!("training step, {BATCH} images");
    Ok(vec![
        Row::new(
            format!("sparsity step of {network}"),
            &penalties,
            Measure::Share,
            against,
            &steps,
        )
        .target(TARGET),
    ])
}
