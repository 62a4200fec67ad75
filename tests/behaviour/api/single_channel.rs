//! A channel that is alone in its layer, in views that write ones beside -1.

use slim_runtime::{Prunable, Slimming, forward, nn};
use slim_tests::check::assert_slimmed_is_masked;
use slim_tests::device;
use slim_tests::fill::{fill, images};
use tch::nn::{ModuleT, VarStore};
use tch::{Kind, Tensor};

/// A gate of one channel for all of an image.
#[derive(Debug, Prunable)]
#[prune(input = [3, 6, 6])]
struct Gated {
    conv: nn::Conv2D,
    bn: nn::BatchNorm,
    map: nn::Conv2D,
    head: nn::Conv2D,
    form: usize,
}

#[forward]
impl ModuleT for Gated {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let xs = xs.apply(&self.conv).apply_t(&self.bn, train).relu();
        let (n, _, h, w) = xs.size4().unwrap();
        let map = xs.apply(&self.map);
        let gate = match self.form {
            0 => map.mean_dim([2, 3].as_slice(), false, None).view([n, -1, 1, 1]).sigmoid(),
            1 => map.view([n, 1, h, w, -1]).squeeze_dim(-1),
            _ => map.mean_dim([2, 3].as_slice(), false, None).view([n, 1, 1, -1]),
        };
        (xs * gate).apply(&self.head)
    }
}

#[test]
fn a_gate_of_one_channel_is_viewed_with_ones_around_it() {
    for form in 0..3 {
        let build = || {
            let mut vs = VarStore::new(device());
            let p = &vs.root();
            let net = Gated {
                conv: nn::conv2d(p / "conv", 3, 8, 1, Default::default()),
                bn: nn::batch_norm2d(p / "bn", 8, Default::default()),
                map: nn::conv2d(p / "map", 8, 1, 1, Default::default()),
                head: nn::conv2d(p / "head", 8, 2, 1, Default::default()),
                form,
            };
            fill(&vs);
            vs.double();
            (net, vs)
        };
        let xs = images(&[2, 3, 6, 6]).to_kind(Kind::Double);
        let plan = assert_slimmed_is_masked(build, &xs, &Slimming::ratio(0.5), 1e-9);
        assert!(plan.channels().after < plan.channels().before, "{form}");
    }
}
