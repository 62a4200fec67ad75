//! Slimming, against the least work that it could do: copying the tensors that stay.

use anyhow::Result;
use slim_runtime::{LayerPlan, Plan, Prunable};
use tch::{Device, Kind, Tensor};

use super::Setup;
use crate::network::Network;
use crate::report::{Measure, Row};
use crate::subject::{RATIO, Subject};
use crate::timing::{in_turn, passes, timed};

const TARGET: f64 = 2.5;

pub(super) fn rows(setup: &Setup, network: Network) -> Result<Vec<Row>> {
    let device = setup.options.device;
    let mut subject = Subject::new(network, device)?;
    let kept = kept(&subject.plan()?, device);
    let slim = || {
        subject.restore();
        let net = &mut subject.net;
        Ok(timed(device, || Ok(net.slim(RATIO)?))?.1)
    };
    let copy =
        || Ok(timed(device, || Ok(kept.iter().map(copied).collect::<Result<Vec<_>, _>>()?))?.1);
    let turns = in_turn(setup.options.rounds, vec![passes(slim), passes(copy)])?;
    Ok(vec![
        Row::new(
            format!("slim(0.5) of {network}"),
            &turns[0],
            Measure::Time,
            "copying what stays",
            &turns[1],
        )
        .target(TARGET),
    ])
}

/// Tensors of the same shapes as those that slimming makes. Slimming does not copy tensors that
/// keep their shape.
fn kept(plan: &Plan, device: Device) -> Vec<Tensor> {
    let shapes = |layer: &LayerPlan| {
        let changed = layer.tensors.iter().filter(|tensor| {
            tensor.tied.is_none() && layer.shape_before(tensor) != layer.shape_after(tensor)
        });
        changed.map(|tensor| layer.shape_after(tensor)).collect::<Vec<_>>()
    };
    plan.layers()
        .iter()
        .flat_map(shapes)
        .map(|shape| Tensor::ones(shape, (Kind::Float, device)))
        .collect()
}

/// `Tensor::copy` would fill the new tensor with zeros first.
fn copied(tensor: &Tensor) -> Result<Tensor, tch::TchError> {
    let mut copy = tensor.f_empty_like()?;
    copy.f_copy_(tensor)?;
    Ok(copy)
}
