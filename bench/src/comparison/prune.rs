//! Trace, plan and surgery, against Torch-Pruning's graph, ranking and surgery.

use anyhow::Result;
use slim_runtime::{Prunable, Slimming, checkpoint};
use tch::Device;

use super::Setup;
use crate::agreement;
use crate::network::Network;
use crate::peer::{Input, Model, Request};
use crate::report::{Measure, Row};
use crate::subject::{Subject, half_of_each};
use crate::timing::{in_turn, passes, timed};

pub(super) const NETWORKS: [Network; 5] = [
    Network::Vgg19,
    Network::Resnet50,
    Network::Resnet152,
    Network::Densenet121,
    Network::MobilenetV2,
];

pub(super) const NOTES: [&str; 3] = [
    "pruning: channels that go together are scored by their largest |γ|, and each such group loses half; the tensors that both sides leave are equal to the bit, which was checked",
    "of vgg19, where no channels go together, so was half of all channels ranked as one; elsewhere that is not the same on both sides: slim takes the paper's share of all γ, \
     Torch-Pruning that of all channels, where those that go together count once",
    "Torch-Pruning traces a forward pass of one image, of the size that the network was made for",
];

/// The target: how many times as fast as Torch-Pruning slim should be.
fn target(network: Network) -> Option<f64> {
    match network {
        Network::Vgg19 => Some(10.),
        Network::Resnet50 => Some(40.),
        Network::Densenet121 => Some(200.),
        _ => None,
    }
}

pub(super) fn rows(setup: &Setup, network: Network) -> Result<Vec<Row>> {
    let mut subject = Subject::new(network, setup.options.device)?;
    let weights = setup.file("dense.safetensors");
    subject.save(&weights)?;
    setup.load(Model::Dense, network, &weights)?;
    setup.show(&subject.images(1))?;

    agree(setup, &mut subject, &half_of_each(), false)?;
    if network == Network::Vgg19 {
        let half = subject.plan()?.channels().before as usize / 2;
        agree(setup, &mut subject, &Slimming::top_k(half), true)?;
    }

    let theirs = setup.theirs(|passes| Request::Prune {
        model: Model::Dense,
        input: Input::Images,
        everywhere: false,
        passes,
    });
    let ours = passes(|| prune(&mut subject, &half_of_each()));
    let turns = in_turn(setup.options.rounds, vec![ours, theirs])?;
    Ok(vec![
        Row::new(format!("prune {network}"), &turns[0], Measure::Speed, "Torch-Pruning", &turns[1])
            .target(target(network)),
    ])
}

/// Prunes the dense network. Returns the seconds that it took.
fn prune(subject: &mut Subject, slimming: &Slimming) -> Result<f64> {
    subject.restore();
    let net = &mut subject.net;
    // The result is dropped after the clock has stopped.
    let (_slimmed, seconds) = timed(subject.vs.device(), || Ok(net.apply(&net.plan(slimming)?)?))?;
    Ok(seconds)
}

/// Checks that both sides leave the same weights.
fn agree(
    setup: &Setup,
    subject: &mut Subject,
    slimming: &Slimming,
    everywhere: bool,
) -> Result<()> {
    prune(subject, slimming)?;
    let ours = subject
        .vs
        .variables()
        .into_iter()
        .map(|(name, tensor)| (name, tensor.to_device(Device::Cpu)))
        .collect();
    let file = setup.file("pruned.safetensors");
    setup.ask(&Request::Pruned {
        model: Model::Dense,
        input: Input::Images,
        everywhere,
        file: file.clone(),
    })?;
    agreement::same_weights(subject.network, &ours, &checkpoint::tensors(&file)?)?;
    subject.restore();
    Ok(())
}
