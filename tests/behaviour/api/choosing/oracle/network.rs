//! The random networks of the fixture, built from its metadata and the shapes of its tensors.

use std::collections::BTreeMap;

use serde_json::Value;
use slim_runtime::{Prunable, forward, nn};
use slim_tests::device;
use slim_tests::fixture::Fixture;
use tch::nn::{ConvConfig, ModuleT, Path, VarStore};
use tch::{Kind, Reduction, Tensor};

#[derive(Debug, Prunable)]
pub(super) struct ConvBn {
    conv: nn::Conv2D,
    bn: nn::BatchNorm,
}

#[forward]
impl ModuleT for ConvBn {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        xs.apply(&self.conv).apply_t(&self.bn, train)
    }
}

#[derive(Debug, Prunable)]
#[expect(clippy::large_enum_variant, reason = "a network has a few blocks")]
pub(super) enum Block {
    Plain { layer: ConvBn },
    Dense { layer: ConvBn },
    Residual { first: ConvBn, second: ConvBn, shortcut: Option<ConvBn> },
    Preactivated { bn: nn::BatchNorm, conv: nn::Conv2D },
    Bare { conv: nn::Conv2D, layer: ConvBn },
}

#[forward]
impl ModuleT for Block {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        match self {
            Block::Plain { layer } => xs.apply_t(layer, train).relu(),
            Block::Dense { layer } => {
                Tensor::cat(&[xs.shallow_clone(), xs.apply_t(layer, train).relu()], 1)
            }
            Block::Residual { first, second, shortcut } => {
                let ys = xs.apply_t(first, train).relu().apply_t(second, train);
                let shortcut = match shortcut {
                    Some(shortcut) => xs.apply_t(shortcut, train),
                    None => xs.shallow_clone(),
                };
                (ys + shortcut).relu()
            }
            Block::Preactivated { bn, conv } => xs + xs.apply_t(bn, train).relu().apply(conv),
            Block::Bare { conv, layer } => xs.apply(conv).relu().apply_t(layer, train).relu(),
        }
    }
}

#[derive(Debug, Prunable)]
pub(super) struct Net {
    stem: ConvBn,
    blocks: Vec<Block>,
    head: nn::Linear,
}

#[forward]
impl ModuleT for Net {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let mut xs = xs.apply_t(&self.stem, train).relu();
        for block in &self.blocks {
            xs = xs.apply_t(block, train);
        }
        xs.adaptive_avg_pool2d([1, 1]).flatten(1, -1).apply(&self.head)
    }
}

/// A network of the fixture, in double precision, and what the fixture says of it.
pub(super) struct Case {
    pub(super) net: Net,
    pub(super) vs: VarStore,
    pub(super) about: Value,
    /// The fixture's tensors, by name.
    pub(super) expected: BTreeMap<String, Tensor>,
}

impl Case {
    /// All networks of the fixture.
    pub(super) fn all() -> Vec<Case> {
        let fixture = Fixture::read("choosing");
        let networks: Vec<Value> = fixture.get::<Value>("networks").as_array().unwrap().clone();
        let case = |(at, about)| Case::new(fixture.state(&format!("{at}.")), about);
        networks.into_iter().enumerate().map(case).collect()
    }

    fn new(expected: BTreeMap<String, Tensor>, about: Value) -> Self {
        let mut vs = VarStore::new(device());
        let net = Build(&expected).net(&vs.root(), about["blocks"].as_array().unwrap());
        vs.double();
        let state = |name: &String| &expected[&format!("state.{name}")];
        let variables = vs.variables();
        assert_eq!(
            variables.len(),
            expected.keys().filter(|name| name.starts_with("state.")).count()
        );
        tch::no_grad(|| {
            for (name, mut variable) in variables {
                assert_eq!(variable.size(), state(&name).size(), "{name}");
                variable.copy_(state(&name));
            }
        });
        Case { net, vs, about, expected }
    }

    pub(super) fn tensor(&self, name: &str) -> &Tensor {
        &self.expected[name]
    }

    pub(super) fn number(&self, name: &str) -> f64 {
        self.tensor(name).double_value(&[])
    }

    /// The group of each channel of a layer.
    pub(super) fn groups(&self) -> BTreeMap<String, Vec<usize>> {
        serde_json::from_value(self.about["groups"].clone()).unwrap()
    }

    /// The tensors whose names begin with `prefix`, by the rest of their names.
    pub(super) fn below(&self, prefix: &str) -> BTreeMap<String, &Tensor> {
        let tensors = self.expected.iter();
        tensors.filter_map(|(name, it)| Some((name.strip_prefix(prefix)?.to_owned(), it))).collect()
    }

    pub(super) fn logits(&self) -> Tensor {
        self.net.forward_t(&self.tensor("batch").to_kind(Kind::Double), false)
    }

    /// Gradients of the cross entropy, in place of those that were there.
    pub(super) fn backward(&self) {
        self.vs.trainable_variables().iter_mut().for_each(Tensor::zero_grad);
        // `cross_entropy_for_logits` rounds to float32.
        let labels = self.tensor("labels");
        let loss =
            self.logits().cross_entropy_loss::<Tensor>(labels, None, Reduction::Mean, -100, 0.);
        loss.backward();
    }
}

/// Builds layers of the shapes that the fixture's tensors have.
struct Build<'a>(&'a BTreeMap<String, Tensor>);

impl Build<'_> {
    fn net(&self, p: &Path, kinds: &[Value]) -> Net {
        let blocks = kinds.iter().enumerate().map(|(at, kind)| {
            let q = &(p / "blocks" / at);
            let layer = |name: &str, depthwise| self.conv_bn(&(q / name), depthwise);
            match kind.as_str().unwrap() {
                "plain" => Block::Plain { layer: layer("layer", false) },
                "depthwise" => Block::Plain { layer: layer("layer", true) },
                "dense" => Block::Dense { layer: layer("layer", false) },
                kind @ ("residual" | "projected") => Block::Residual {
                    first: layer("first", false),
                    second: layer("second", false),
                    shortcut: (kind == "projected").then(|| layer("shortcut", false)),
                },
                "preactivated" => Block::Preactivated {
                    bn: self.bn(&(q / "bn")),
                    conv: self.conv(&(q / "conv"), false),
                },
                "bare" => Block::Bare {
                    conv: self.conv(&(q / "conv"), false),
                    layer: layer("layer", false),
                },
                other => panic!("no block is called {other}"),
            }
        });
        let blocks = blocks.collect();
        let size = self.size(&(p / "head"), "weight").unwrap();
        Net {
            stem: self.conv_bn(&(p / "stem"), false),
            blocks,
            head: nn::linear(p / "head", size[1], size[0], Default::default()),
        }
    }

    fn size(&self, p: &Path, name: &str) -> Option<Vec<i64>> {
        self.0.get(&format!("state.{}", p.path(name))).map(Tensor::size)
    }

    fn conv(&self, p: &Path, depthwise: bool) -> nn::Conv2D {
        let size = self.size(p, "weight").unwrap();
        let groups = if depthwise { size[0] } else { 1 };
        let bias = self.size(p, "bias").is_some();
        let config = ConvConfig { padding: size[2] / 2, groups, bias, ..Default::default() };
        nn::conv2d(p, size[1] * groups, size[0], size[2], config)
    }

    fn bn(&self, p: &Path) -> nn::BatchNorm {
        nn::batch_norm2d(p, self.size(p, "weight").unwrap()[0], Default::default())
    }

    fn conv_bn(&self, p: &Path, depthwise: bool) -> ConvBn {
        ConvBn { conv: self.conv(&(p / "conv"), depthwise), bn: self.bn(&(p / "bn")) }
    }
}
