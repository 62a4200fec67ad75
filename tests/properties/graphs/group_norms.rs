//! Random residual networks of group norms, whose groups of different sizes meet in one stream.

use proptest::prelude::*;
use slim_runtime::criterion::L2;
use slim_runtime::{Prunable, Slimming, forward, nn};
use slim_tests::check::assert_slimmed_is_masked;
use slim_tests::device;
use slim_tests::fill::{fill, images};
use tch::nn::{ConvConfig, GroupNormConfig, ModuleT, Path, VarStore};
use tch::{Kind, Tensor};

const WIDTH: i64 = 24;

/// A block by its random numbers: the groups of its norms, whether they have γ and β, whether the
/// first convolution is grouped, and whether the stream is normalised in front.
#[derive(Debug, Clone, Copy)]
struct Gene {
    inner: i64,
    stream: Option<i64>,
    affine: bool,
    conv_groups: i64,
}

#[derive(Debug, Prunable)]
struct Block {
    norm: Option<nn::GroupNorm>,
    conv1: nn::Conv2D,
    inner: nn::GroupNorm,
    conv2: nn::Conv2D,
}

#[derive(Debug, Prunable)]
struct Net {
    stem: nn::Conv2D,
    norm: nn::GroupNorm,
    blocks: Vec<Block>,
    head: nn::Conv2D,
}

fn group_norm(p: Path, groups: i64, affine: bool) -> nn::GroupNorm {
    nn::group_norm(p, groups, WIDTH, GroupNormConfig { affine, ..Default::default() })
}

impl Block {
    fn new(p: &Path, gene: Gene) -> Self {
        let conv = |name: &str, groups| {
            nn::conv2d(p / name, WIDTH, WIDTH, 1, ConvConfig { groups, ..Default::default() })
        };
        Self {
            norm: gene.stream.map(|groups| group_norm(p / "norm", groups, gene.affine)),
            conv1: conv("conv1", gene.conv_groups),
            inner: group_norm(p / "inner", gene.inner, gene.affine),
            conv2: conv("conv2", 1),
        }
    }
}

#[forward]
impl ModuleT for Block {
    fn forward_t(&self, xs: &Tensor, _train: bool) -> Tensor {
        let ys = match &self.norm {
            Some(norm) => xs.apply(norm).relu(),
            None => xs.shallow_clone(),
        };
        xs + ys.apply(&self.conv1).apply(&self.inner).relu().apply(&self.conv2)
    }
}

#[forward]
impl ModuleT for Net {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let mut xs = xs.apply(&self.stem).apply(&self.norm);
        for block in &self.blocks {
            xs = xs.apply_t(block, train);
        }
        xs.apply(&self.head)
    }
}

fn groups() -> impl Strategy<Value = i64> {
    prop_oneof![Just(1_i64), Just(2), Just(3), Just(4), Just(6), Just(8), Just(12), Just(24)]
}

fn gene() -> impl Strategy<Value = Gene> {
    let conv_groups = prop_oneof![Just(1_i64), Just(1), Just(2), Just(4)];
    (groups(), proptest::option::of(groups()), any::<bool>(), conv_groups).prop_map(
        |(inner, stream, affine, conv_groups)| Gene { inner, stream, affine, conv_groups },
    )
}

proptest! {
    #![proptest_config(super::cases(100))]

    #[test]
    fn slimmed_networks_of_group_norms_are_masked_ones(
        stem in 2..13_i64,
        genes in proptest::collection::vec(gene(), 1..4),
        ratio in 0.05..0.7,
    ) {
        let stem = if WIDTH % stem == 0 { stem } else { 4 };
        let build = || {
            let mut vs = VarStore::new(device());
            let p = &vs.root();
            let blocks = genes.iter().enumerate();
            let net = Net {
                stem: nn::conv2d(p / "stem", 3, WIDTH, 1, Default::default()),
                norm: group_norm(p / "norm", stem, true),
                blocks: blocks.map(|(i, &gene)| Block::new(&(p / "blocks" / i), gene)).collect(),
                head: nn::conv2d(p / "head", WIDTH, 3, 1, Default::default()),
            };
            fill(&vs);
            vs.double();
            (net, vs)
        };
        let slimming = Slimming::ratio(ratio).criterion(L2).local();
        let (net, _vs) = build();
        // Without a norm of several groups, nothing can go.
        prop_assume!(net.plan(&slimming).is_ok());
        let xs = images(&[2, 3, 4, 4]).to_kind(Kind::Double);
        assert_slimmed_is_masked(build, &xs, &slimming, 1e-8);
    }
}
