//! Norms, PReLU and embeddings: what they compute, and what they let go.

use slim_runtime::nn::{InstanceNorm, PRelu, RmsNorm, instance_norm, prelu, rms_norm};
use slim_runtime::{KeepReason, Plan, Prunable, Slimming, criterion, forward, nn};
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
    let held = held(&plan, "embed");
    assert!(matches!(&held, Some(KeepReason::Together { by, .. }) if by == "norm"), "{held:?}");
}

fn held(plan: &Plan, path: &str) -> Option<KeepReason> {
    plan.layer(path).unwrap().scored.as_ref().and_then(|scored| scored.held.clone())
}

#[test]
fn drop_ins_have_tchs_names_and_outputs() {
    let xs = images(&[2, 6, 4, 5]).to_kind(Kind::Double);
    let indices = slim_tests::tensor(&[3_i64, 0, 2]);
    let outputs = |slim: bool| {
        let mut vs = VarStore::new(device());
        let p = vs.root();
        let shape = vec![4, 5];
        let (layer, groups): (Box<dyn Module>, Box<dyn Module>) = if slim {
            let layer = nn::layer_norm(&p / "layer", shape, Default::default());
            (Box::new(layer), Box::new(nn::group_norm(&p / "groups", 3, 6, Default::default())))
        } else {
            let layer = tch::nn::layer_norm(&p / "layer", shape, Default::default());
            let groups = tch::nn::group_norm(&p / "groups", 3, 6, Default::default());
            (Box::new(layer), Box::new(groups))
        };
        let words: Box<dyn Module> = if slim {
            Box::new(nn::embedding(&p / "words", 4, 6, Default::default()))
        } else {
            Box::new(tch::nn::embedding(&p / "words", 4, 6, Default::default()))
        };
        fill(&vs);
        vs.double();
        let mut names: Vec<String> = vs.variables().into_keys().collect();
        names.sort();
        (names, [layer.forward(&xs), groups.forward(&xs), words.forward(&indices)])
    };
    let ((names, ours), (expected_names, expected)) = (outputs(true), outputs(false));
    assert_eq!(names, expected_names);
    for (ours, expected) in ours.iter().zip(&expected) {
        assert_close(ours, expected, 0.);
    }
}

#[derive(Debug, Prunable)]
struct Grouped {
    conv1: nn::Conv2D,
    norm: nn::GroupNorm,
    conv2: nn::Conv2D,
}

#[forward]
impl ModuleT for Grouped {
    fn forward_t(&self, xs: &Tensor, _train: bool) -> Tensor {
        xs.apply(&self.conv1).apply(&self.norm).relu().apply(&self.conv2)
    }
}

/// With `groups` groups of 12 channels, and γ and β if `affine`.
fn grouped(groups: i64, affine: bool) -> (Grouped, VarStore) {
    filled(|p| Grouped {
        conv1: nn::conv2d(p / "conv1", 3, 12, 3, Default::default()),
        norm: nn::group_norm(
            p / "norm",
            groups,
            12,
            nn::GroupNormConfig { affine, ..Default::default() },
        ),
        conv2: nn::conv2d(p / "conv2", 12, 4, 3, Default::default()),
    })
}

#[test]
fn whole_groups_of_a_group_norm_go() {
    let xs = images(&[2, 3, 9, 9]).to_kind(Kind::Double);
    for (groups, affine) in [(4, true), (4, false), (2, true), (12, true)] {
        let build = || grouped(groups, affine);
        let plan = assert_slimmed_is_masked(build, &xs, &by_weights(), 1e-10);
        let keep: Vec<_> = plan.layer("conv1").unwrap().axis("out").unwrap().keep.iter().collect();
        let size = 12 / groups as usize;
        assert!(keep.len() < 12, "{groups} groups: {plan}");
        for group in keep.chunks(size) {
            assert!(group[0] % size == 0 && group[size - 1] == group[0] + size - 1, "{keep:?}");
        }
        let (mut net, _vs) = build();
        net.apply(&plan).unwrap();
        let (channels, kept) = (keep.len() as i64, (keep.len() / size) as i64);
        assert_eq!((net.norm.num_channels, net.norm.num_groups), (channels, kept));
        assert_eq!(net.norm.ws.as_ref().map(Tensor::size), affine.then(|| vec![channels]));
    }
}

#[test]
fn the_channels_of_a_group_norm_of_one_group_stay_and_the_error_says_why() {
    let (net, _vs) = grouped(1, true);
    insta::assert_snapshot!(net.plan(&by_weights()).unwrap_err(), @"nothing to prune: every channel that is ranked must stay, the first of them for this reason: `norm` computes its statistics over several channels");
}

#[test]
fn groups_that_do_not_divide_the_channels_are_refused() {
    let (mut net, _vs) = grouped(4, true);
    net.norm.num_groups = 5;
    let error = net.plan(&by_weights()).unwrap_err().to_string();
    let (_, what) = error.split_once(": ").unwrap();
    insta::assert_snapshot!(what, @"`norm`: a group norm cuts `conv1` (12 channels) into 5 equal parts, but 12 is not a multiple of 5; choose a width that is");
}

/// A group norm behind a batch norm, whose γ ranks the channels.
#[derive(Debug, Prunable)]
struct Ranked {
    conv1: nn::Conv2D,
    bn: nn::BatchNorm,
    norm: nn::GroupNorm,
    conv2: nn::Conv2D,
}

#[forward]
impl ModuleT for Ranked {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let xs = xs.apply(&self.conv1).apply_t(&self.bn, train).apply(&self.norm);
        xs.relu().apply(&self.conv2)
    }
}

/// With |γ| of a batch norm as the criterion, its γ and β alone are zero in the masked network. So
/// the β of a group norm behind it would still reach the next layer.
#[test]
fn a_batch_norm_ranks_the_groups_of_a_group_norm_without_beta() {
    let build = |affine| {
        filled(|p| Ranked {
            conv1: nn::conv2d(p / "conv1", 3, 12, 3, Default::default()),
            bn: nn::batch_norm2d(p / "bn", 12, Default::default()),
            norm: nn::group_norm(
                p / "norm",
                4,
                12,
                nn::GroupNormConfig { affine, ..Default::default() },
            ),
            conv2: nn::conv2d(p / "conv2", 12, 4, 3, Default::default()),
        })
    };
    let xs = images(&[2, 3, 9, 9]).to_kind(Kind::Double);
    let plan = assert_slimmed_is_masked(|| build(false), &xs, &Slimming::ratio(0.5), 1e-10);
    assert!([3, 6].contains(&plan.layer("bn").unwrap().axes[0].keep.len()), "{plan}");
    insta::assert_snapshot!(build(true).0.plan(&Slimming::ratio(0.5)).unwrap_err(), @"nothing to prune: every channel that is ranked must stay, the first of them for this reason: `conv2` reads them where no batch norm can set them to zero");
}

#[derive(Debug, Prunable)]
struct Words {
    embed: nn::Embedding,
    norm: Option<nn::LayerNorm>,
    up: nn::Linear,
    head: nn::Linear,
}

#[forward]
impl ModuleT for Words {
    fn forward_t(&self, xs: &Tensor, _train: bool) -> Tensor {
        let xs = xs.apply(&self.embed);
        let xs = match &self.norm {
            Some(norm) => xs.apply(norm),
            None => xs,
        };
        xs.apply(&self.up).relu().apply(&self.head)
    }
}

#[test]
fn an_embedding_loses_columns_unless_a_layer_norm_reads_them() {
    let indices = slim_tests::tensor(&[3_i64, 1, 4, 1, 5, 0]).view([2, 3]);
    for is_normed in [false, true] {
        let build = || {
            filled(|p| Words {
                embed: nn::embedding(p / "embed", 6, 8, Default::default()),
                norm: is_normed.then(|| nn::layer_norm(p / "norm", vec![8], Default::default())),
                up: nn::linear(p / "up", 8, 16, Default::default()),
                head: nn::linear(p / "head", 16, 3, Default::default()),
            })
        };
        let plan = assert_slimmed_is_masked(build, &indices, &by_weights(), 1e-10);
        let (mut net, _vs) = build();
        net.apply(&plan).unwrap();
        let columns = net.embed.ws.size()[1];
        assert_eq!((net.embed.ws.size()[0], columns == 8), (6, is_normed), "{plan}");
        let expected = is_normed.then(|| KeepReason::Mixed { by: "norm".to_owned() });
        assert_eq!(held(&plan, "embed"), expected);
    }
}

/// Five words, whose embeddings are read one after the other, with the number of words as the
/// struct says it.
macro_rules! sentence {
    ($name:ident, $input:expr) => {
        #[derive(Debug, Prunable)]
        #[prune(input = $input)]
        struct $name {
            embed: nn::Embedding,
            head: nn::Linear,
        }

        #[forward]
        impl ModuleT for $name {
            fn forward_t(&self, xs: &Tensor, _train: bool) -> Tensor {
                let place = Tensor::ones([5, 1], (Kind::Double, device()));
                (xs.apply(&self.embed) * place).flatten(1, -1).apply(&self.head)
            }
        }

        impl $name {
            fn filled() -> (Self, VarStore) {
                filled(|p| $name {
                    embed: nn::embedding(p / "embed", 6, 8, Default::default()),
                    head: nn::linear(p / "head", 5 * 8, 3, Default::default()),
                })
            }
        }
    };
}

sentence!(Width, 5);
sentence!(Shape, [5]);

#[test]
fn a_number_of_words_is_said_as_a_width_or_as_a_shape() {
    let indices = slim_tests::tensor(&[3_i64, 1, 4, 1, 5, 0, 2, 2, 1, 3]).view([2, 5]);
    let width = assert_slimmed_is_masked(Width::filled, &indices, &by_weights(), 1e-10);
    let shape = assert_slimmed_is_masked(Shape::filled, &indices, &by_weights(), 1e-10);
    assert_eq!(width.layers(), shape.layers());
    assert!(width.layer("embed").unwrap().axes[0].keep.len() < 8, "{width}");
}

#[derive(Debug, Prunable)]
struct BehindLinear {
    embed: nn::Linear,
    norm: nn::GroupNorm,
    head: nn::Linear,
}

#[forward]
impl ModuleT for BehindLinear {
    fn forward_t(&self, xs: &Tensor, _train: bool) -> Tensor {
        xs.apply(&self.embed).apply(&self.norm).relu().apply(&self.head)
    }
}

#[test]
fn a_group_norm_whose_dimensions_are_not_known_holds_its_channels() {
    let build = || {
        let mut vs = VarStore::new(device());
        let p = &vs.root();
        let affine = nn::GroupNormConfig { affine: false, ..Default::default() };
        let net = BehindLinear {
            embed: nn::linear(p / "embed", 5, 8, Default::default()),
            norm: nn::group_norm(p / "norm", 4, 8, affine),
            head: nn::linear(p / "head", 8, 3, Default::default()),
        };
        fill(&vs);
        vs.double();
        (net, vs)
    };
    // In `[N, 8, 8]`, the norm would take positions for channels without a word from libtorch.
    let slimming = Slimming::ratio(0.5).criterion(criterion::L2).local();
    let (net, _vs) = build();
    let refused = net.plan(&slimming).unwrap_err().to_string();
    assert!(refused.contains("`norm` computes its statistics over several channels"), "{refused}");
}
