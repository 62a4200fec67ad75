//! RMS norm, instance norm and PReLU: their formulas, and what they let go.

use slim_runtime::nn::{InstanceNorm, PRelu, RmsNorm, instance_norm, prelu, rms_norm};
use slim_runtime::{KeepReason, Prunable, Slimming, criterion, forward, nn};
use slim_tests::check::{assert_close, assert_slimmed_is_masked};
use slim_tests::device;
use slim_tests::fill::{fill, images};
use tch::nn::{Module, ModuleT, VarStore};
use tch::{Kind, Tensor};

fn filled<M>(build: impl Fn(&nn::Path) -> M) -> (M, VarStore) {
    let mut vs = VarStore::new(device());
    let net = build(&vs.root());
    fill(&vs);
    vs.double();
    (net, vs)
}

#[test]
fn they_compute_their_formulas() {
    let xs = images(&[2, 6, 4, 5]).to_kind(Kind::Double);
    let _no_grad = tch::no_grad_guard();
    let column = |values: &Tensor| values.view([1, -1, 1, 1]);

    let (norm, _vs) = filled(|p| instance_norm(p, 6, true));
    let dims = [2, 3].as_slice();
    let centred = &xs - xs.mean_dim(dims, true, None);
    let variance = centred.square().mean_dim(dims, true, None);
    let (scale, shift) = (norm.ws.as_ref().unwrap(), norm.bs.as_ref().unwrap());
    let expected = centred / (variance + 1e-5).sqrt() * column(scale) + column(shift);
    assert_close(&norm.forward(&xs), &expected, 1e-12);

    let (norm, _vs) = filled(|p| rms_norm(p, 5, 1e-6));
    let root = (xs.square().mean_dim([-1].as_slice(), true, None) + 1e-6).sqrt();
    assert_close(&norm.forward(&xs), &(&xs / root * &norm.ws), 1e-12);

    let (activation, _vs) = filled(|p| prelu(p, 6));
    let expected = xs.clamp_min(0.) + xs.clamp_max(0.) * column(&activation.ws);
    assert_close(&activation.forward(&xs), &expected, 1e-12);
}

#[derive(Debug, Prunable)]
struct Images {
    conv1: nn::Conv2D,
    norm: InstanceNorm,
    activation: PRelu,
    conv2: nn::Conv2D,
}

#[forward]
impl ModuleT for Images {
    fn forward_t(&self, xs: &Tensor, _train: bool) -> Tensor {
        xs.apply(&self.conv1).apply(&self.norm).apply(&self.activation).apply(&self.conv2)
    }
}

fn by_weights() -> Slimming {
    Slimming::ratio(0.5).criterion(criterion::L2).local()
}

#[test]
fn channels_that_are_normalised_by_themselves_go_one_by_one() {
    for slopes in [1, 8] {
        let build = || {
            filled(|p| Images {
                conv1: nn::conv2d(p / "conv1", 3, 8, 3, Default::default()),
                norm: instance_norm(p / "norm", 8, true),
                activation: prelu(p / "activation", slopes),
                conv2: nn::conv2d(p / "conv2", 8, 4, 3, Default::default()),
            })
        };
        let xs = images(&[2, 3, 9, 9]).to_kind(Kind::Double);
        let plan = assert_slimmed_is_masked(build, &xs, &by_weights(), 1e-10);
        let width =
            |path: &str, axis: &str| plan.layer(path).unwrap().axis(axis).unwrap().keep.len();
        assert!(width("conv1", "out") < 8, "{plan}");
        assert_eq!(width("conv2", "in"), width("conv1", "out"));
    }
}

#[derive(Debug, Prunable)]
struct Tokens {
    embed: nn::Linear,
    norm: RmsNorm,
    up: nn::Linear,
    down: nn::Linear,
}

#[forward]
impl ModuleT for Tokens {
    fn forward_t(&self, xs: &Tensor, _train: bool) -> Tensor {
        let xs = xs.apply(&self.embed);
        &xs + xs.apply(&self.norm).apply(&self.up).silu().apply(&self.down)
    }
}

#[test]
fn channels_in_front_of_an_rms_norm_stay_and_the_plan_says_why() {
    let build = || {
        filled(|p| Tokens {
            embed: nn::linear(p / "embed", 5, 8, Default::default()),
            norm: rms_norm(p / "norm", 8, 1e-6),
            up: nn::linear(p / "up", 8, 16, Default::default()),
            down: nn::linear(p / "down", 16, 8, Default::default()),
        })
    };
    let xs = images(&[2, 7, 5]).to_kind(Kind::Double);
    let plan = assert_slimmed_is_masked(build, &xs, &by_weights(), 1e-10);
    assert_eq!(plan.layer("embed").unwrap().axis("out").unwrap().keep.len(), 8);
    assert!(plan.layer("up").unwrap().axis("out").unwrap().keep.len() < 16);
    let held = plan.layer("embed").unwrap().scored.as_ref().and_then(|scored| scored.held.clone());
    assert!(matches!(&held, Some(KeepReason::Together { by, .. }) if by == "norm"), "{held:?}");
}
