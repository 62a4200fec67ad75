//! Snapshots of plans as a user reads them, and as a user's own tests can keep them.

use slim_runtime::{Prunable, Slimming};
use slim_zoo::vgg::{self, Vgg};
use tch::Device;
use tch::nn;

use crate::common::Net;

#[test]
fn half_of_the_channels_go_where_they_should() {
    let vs = nn::VarStore::new(Device::Cpu);
    let net = Net::with_known_scores(&vs.root()); // yours, with trained weights
    let plan = net.plan(&Slimming::ratio(0.5)).unwrap();
    insta::assert_snapshot!(plan); // the table
    insta::assert_json_snapshot!(plan); // every channel that stays
}

#[test]
fn a_plan_that_removes_nothing() {
    let vs = nn::VarStore::new(Device::Cpu);
    insta::assert_snapshot!(Net::with_known_scores(&vs.root()).plan(&Slimming::ratio(0.)).unwrap());
}

/// `keep` keeps all channels of a layer, `skip` takes a field out of the flow.
#[derive(Debug, Prunable)]
#[prune(sequential)]
struct Attributed {
    conv1: nn::Conv2D,
    #[prune(keep)]
    bn1: nn::BatchNorm,
    #[prune(skip)]
    unused: nn::Linear,
    conv2: nn::Conv2D,
    bn2: nn::BatchNorm,
    conv3: nn::Conv2D,
}

#[test]
fn attributes_are_in_the_plan() {
    let vs = nn::VarStore::new(Device::Cpu);
    let p = &vs.root();
    let net = Attributed {
        conv1: nn::conv2d(p / "conv1", 3, 4, 1, Default::default()),
        bn1: nn::batch_norm2d(p / "bn1", 4, Default::default()),
        unused: nn::linear(p / "unused", 7, 9, Default::default()),
        conv2: nn::conv2d(p / "conv2", 4, 4, 1, Default::default()),
        bn2: nn::batch_norm2d(p / "bn2", 4, Default::default()),
        conv3: nn::conv2d(p / "conv3", 4, 2, 1, Default::default()),
    };
    crate::common::set(&net.bn1, &[0.; 4]);
    crate::common::set(&net.bn2, &[1., 4., 2., 3.]);
    insta::assert_snapshot!(net.plan(&Slimming::ratio(0.25)).unwrap());
    assert_eq!(net.unused.ws.size(), [9, 7]);
}

#[test]
fn vgg_19_as_the_paper_counts_it() {
    let vs = nn::VarStore::new(Device::Cpu);
    let net = Vgg::new(vs.root(), &vgg::cfg(19).unwrap(), 10).unwrap();
    insta::assert_snapshot!(net.plan(&Slimming::ratio(0.)).unwrap());
}
