//! A slimmed network, built again: from its plan, from its cfg, and in evaluation mode where tch
//! requires a `Module`.

use slim_runtime::error::PlanError;
use slim_runtime::{Cfg, Error, Prunable, Slimming, model, nn};
use slim_tests::device;
use slim_tests::fill::{fill, images};
use tch::Tensor;
use tch::nn::{ModuleT, VarStore};

model! {
    #[derive(Debug)]
    struct Plain(classes: i64) {
        conv1 = conv2d(3 => 8, kernel = 3, padding = 1, bias = false);
        bn1 = batch_norm(8);
        relu;
        max_pool(2);
        conv2 = conv2d(8 => 12, kernel = 3, padding = 1, bias = false);
        bn2 = batch_norm(12);
        relu;
        flatten;
        fc = linear(48 => classes);
    }
}

fn slimmed() -> (Plain, VarStore, slim_runtime::Plan) {
    let vs = VarStore::new(device());
    let mut net = Plain::new(vs.root(), 5);
    fill(&vs);
    let plan = net.slim(0.5).unwrap().plan().clone();
    (net, vs, plan)
}

fn copy(from: &VarStore, to: &VarStore) {
    let (from, mut to) = (from.variables(), to.variables());
    assert_eq!(from.len(), to.len());
    tch::no_grad(|| from.iter().for_each(|(name, value)| to.get_mut(name).unwrap().copy_(value)));
}

fn output(net: &Plain) -> Tensor {
    net.forward_t(&images(&[2, 3, 4, 4]), false)
}

#[test]
fn from_its_plan_and_from_its_cfg() {
    let (net, vs, plan) = slimmed();
    assert!(plan.channels().removed() > 0.3, "{plan}");
    let rebuilt = VarStore::new(device());
    let again = Plain::from_plan(rebuilt.root(), 5, &plan).unwrap();
    assert!(!output(&again).equal(&output(&net)));
    // The store's variables are narrow, as the network's tensors are.
    copy(&vs, &rebuilt);
    assert!(output(&again).equal(&output(&net)));

    // A cfg does not say which channels stay, which does not matter if the weights are loaded.
    let rebuilt = VarStore::new(device());
    let again =
        Plain::from_cfg(rebuilt.root(), 5, &plan.cfg().to_string().parse().unwrap()).unwrap();
    copy(&vs, &rebuilt);
    assert!(output(&again).equal(&output(&net)));
    // Pruned further, the rebuilt network gives the same plan as the original.
    let (mut net, mut again) = (net, again);
    assert_eq!(net.slim(0.3).unwrap().plan(), again.slim(0.3).unwrap().plan());
}

#[test]
fn a_cfg_of_another_network() {
    let refused = |cfg: &str| {
        Plain::from_cfg(VarStore::new(device()).root(), 5, &cfg.parse().unwrap()).unwrap_err()
    };
    insta::assert_snapshot!(refused("[4, 'M']"), @"cfg `[4, 'M']` does not fit this model: it ends where the model has `bn2` (batch norm)");
    insta::assert_snapshot!(refused("[4, 6]"), @"cfg `[4, 6]` does not fit this model: it has 6 where the model has `max_pool_3` (max-pool)");
    insta::assert_snapshot!(refused("[4, 'M', 6, 6]"), @"cfg `[4, 'M', 6, 6]` does not fit this model: it has more entries than the model");
    insta::assert_snapshot!(refused("[9, 'M', 6]"), @"cfg `[9, 'M', 6]` does not fit this model: it has 9 where `bn1` keeps 1 to 8 of 8 channels");
    assert!(matches!(refused("[9, 'M', 6]"), Error::Plan(PlanError::CfgMismatch { .. })));
}

model! {
    #[derive(Debug)]
    struct Residual {
        conv1 = conv2d(3 => 8, kernel = 1);
        bn1 = batch_norm(8);
        a = relu;
        conv2 = conv2d(8 => 8, kernel = 1);
        bn2 = batch_norm(8);
        sum = bn2 + a;
        last = conv2d(8 => 2, kernel = 1);
    }
}

#[test]
fn a_cfg_in_which_one_stream_has_two_widths() {
    let vs = VarStore::new(device());
    let refused = Residual::from_cfg(vs.root(), &"[4, 6]".parse::<Cfg>().unwrap()).unwrap_err();
    insta::assert_snapshot!(refused, @"cfg `[4, 6]` does not fit this model: it has 6 where `bn2` keeps 4 of 8 channels");
    let vs = VarStore::new(device());
    let net = Residual::from_cfg(vs.root(), &"[6, 6]".parse::<Cfg>().unwrap()).unwrap();
    assert_eq!(net.plan(&Slimming::ratio(0.)).unwrap().cfg().to_string(), "[6, 6]");
}

#[test]
fn in_evaluation_mode() {
    let (net, _vs, _plan) = slimmed();
    let expected = output(&net);
    assert!(super::cost(&net, &images(&[2, 3, 4, 4])).macs().is_ok());
    assert!(images(&[2, 3, 4, 4]).apply(&nn::eval(net)).equal(&expected));
}

/// A derived model with a shuffle, whose order depends on the channels that stay.
#[derive(Debug, Prunable)]
#[prune(sequential)]
struct Shuffled {
    conv: nn::Conv2D,
    bn: nn::BatchNorm,
    shuffle: nn::Shuffle,
    last: nn::Conv2D,
}

#[test]
fn an_order_is_in_the_plan_alone() {
    let new = |vs: &VarStore| {
        let p = &vs.root();
        Shuffled {
            conv: nn::conv2d(p / "conv", 3, 8, 1, Default::default()),
            bn: nn::batch_norm2d(p / "bn", 8, Default::default()),
            shuffle: nn::shuffle(8, 2),
            last: nn::conv2d(p / "last", 8, 2, 1, Default::default()),
        }
    };
    let output = |net: &Shuffled| {
        images(&[1, 3, 2, 2])
            .apply(&net.conv)
            .apply_t(&net.bn, false)
            .apply(&net.shuffle)
            .apply(&net.last)
    };
    let (vs, other) = (VarStore::new(device()), VarStore::new(device()));
    let mut net = new(&vs);
    fill(&vs);
    let slimmed = net.slim(0.5).unwrap();
    insta::assert_snapshot!(slimmed.cfg().narrowed(new(&VarStore::new(device()))).unwrap_err(), @"cfg `[3]` does not fit this model: `shuffle` (shuffle) depends on which channels are removed, which a plan says and a cfg does not; use the plan");
    let again = slimmed.plan().narrowed(new(&other)).unwrap();
    copy(&vs, &other);
    assert!(output(&again).equal(&output(&net)));
}

model! {
    /// A model in which channels are coupled: across convolution groups, and across halves.
    #[derive(Debug)]
    struct Tied {
        conv1 = conv2d(3 => 8, kernel = 1);
        bn1 = batch_norm(8);
        conv2 = conv2d(8 => 16, kernel = 1, groups = 2);
        bn2 = batch_norm(16);
        glu = bn2.chunk(2, 0) * bn2.chunk(2, 1).sigmoid();
        last = conv2d(8 => 2, kernel = 1);
    }
}

#[test]
fn from_a_cfg_of_channels_that_are_tied() {
    let (vs, other) = (VarStore::new(device()), VarStore::new(device()));
    let mut net = Tied::new(vs.root());
    fill(&vs);
    let cfg = net.slim(0.5).unwrap().cfg();
    assert!(cfg.widths().sum::<i64>() < 16, "{cfg}");
    let again = Tied::from_cfg(other.root(), &cfg).unwrap();
    copy(&vs, &other);
    let images = images(&[2, 3, 4, 4]);
    assert!(again.forward_t(&images, false).equal(&net.forward_t(&images, false)));
}
