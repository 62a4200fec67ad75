//! Inception v3 ([Szegedy et al., 2015](https://arxiv.org/abs/1512.00567)), without its auxiliary
//! head. Parameter names and function are torchvision's.

use std::borrow::Borrow;

use slim_runtime::nn::{
    AdaptiveAvgPool2d, BatchNorm, Conv2D, Linear, adaptive_avg_pool2d, batch_norm2d, conv, linear,
};
use slim_runtime::{Prunable, forward};
use tch::Tensor;
use tch::nn::{BatchNormConfig, ConvConfigND, Init, ModuleT, Path};

use super::torchvision::{apply_all, linear_config};

/// Two rows of convolutions with a max-pool behind each, modules of parallel branches, and a linear
/// layer.
#[derive(Debug, Prunable)]
#[prune(input = 3)]
pub struct InceptionV3 {
    stem: (Vec<BasicConv>, Vec<BasicConv>),
    mixed: Vec<Mixed>,
    avgpool: AdaptiveAvgPool2d,
    fc: Linear,
}

/// Parallel branches whose outputs are concatenated.
#[derive(Debug, Prunable)]
struct Mixed {
    branches: Vec<Branch>,
}

/// A pool, convolutions in a row, and two convolutions beside each other, as far as there are any.
#[derive(Debug, Prunable)]
struct Branch {
    pool: Option<Pool>,
    row: Vec<BasicConv>,
    fork: Option<(BasicConv, BasicConv)>,
}

/// The pool of a branch, over 3×3 positions.
#[derive(Debug, Clone, Copy)]
enum Pool {
    /// Keeps the size of the image.
    Average,
    /// Halves the size of the image.
    Max,
}

/// Convolution, batch norm, ReLU.
#[derive(Debug, Prunable)]
struct BasicConv {
    conv: Conv2D,
    bn: BatchNorm,
}

/// A convolution by its name, width, kernel, and what it does to the size of the image.
type Spec = (&'static str, i64, [i64; 2], Size);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Size {
    /// Padding keeps it.
    Same,
    /// The kernel has to fit.
    Valid,
    /// The kernel has to fit at every second position.
    Halved,
}

use Size::{Halved, Same, Valid};

/// inception_v3 of torchvision, for images `[N, 3, H, W]` of at least 75×75 pixels.
pub fn inception_v3<'a>(p: impl Borrow<Path<'a>>, classes: i64) -> InceptionV3 {
    let p = p.borrow();
    let first: [Spec; 3] = [
        ("Conv2d_1a_3x3", 32, [3, 3], Halved),
        ("Conv2d_2a_3x3", 32, [3, 3], Valid),
        ("Conv2d_2b_3x3", 64, [3, 3], Same),
    ];
    let second: [Spec; 2] =
        [("Conv2d_3b_1x1", 80, [1, 1], Same), ("Conv2d_4a_3x3", 192, [3, 3], Valid)];
    let mixed = vec![
        module_a(&(p / "Mixed_5b"), 192, 32),
        module_a(&(p / "Mixed_5c"), 256, 64),
        module_a(&(p / "Mixed_5d"), 288, 64),
        module_b(&(p / "Mixed_6a"), 288),
        module_c(&(p / "Mixed_6b"), 768, 128),
        module_c(&(p / "Mixed_6c"), 768, 160),
        module_c(&(p / "Mixed_6d"), 768, 160),
        module_c(&(p / "Mixed_6e"), 768, 192),
        module_d(&(p / "Mixed_7a"), 768),
        module_e(&(p / "Mixed_7b"), 1280),
        module_e(&(p / "Mixed_7c"), 2048),
    ];
    InceptionV3 {
        stem: (row(p, 3, &first), row(p, 64, &second)),
        mixed,
        avgpool: adaptive_avg_pool2d(1),
        fc: linear(p / "fc", 2048, classes, linear_config(2048)),
    }
}

/// Figure 5 of the paper.
fn module_a(p: &Path, inputs: i64, pooled: i64) -> Mixed {
    let five = [("branch5x5_1", 48, [1, 1], Same), ("branch5x5_2", 64, [5, 5], Same)];
    let double = [
        ("branch3x3dbl_1", 64, [1, 1], Same),
        ("branch3x3dbl_2", 96, [3, 3], Same),
        ("branch3x3dbl_3", 96, [3, 3], Same),
    ];
    let one = [("branch1x1", 64, [1, 1], Same)];
    Mixed {
        branches: vec![
            Branch::new(p, inputs, &one),
            Branch::new(p, inputs, &five),
            Branch::new(p, inputs, &double),
            Branch::pooled(p, inputs, pooled),
        ],
    }
}

/// Figure 10 of the paper, which halves the size of the image.
fn module_b(p: &Path, inputs: i64) -> Mixed {
    let double = [
        ("branch3x3dbl_1", 64, [1, 1], Same),
        ("branch3x3dbl_2", 96, [3, 3], Same),
        ("branch3x3dbl_3", 96, [3, 3], Halved),
    ];
    Mixed {
        branches: vec![
            Branch::new(p, inputs, &[("branch3x3", 384, [3, 3], Halved)]),
            Branch::new(p, inputs, &double),
            Branch::max_pooled(),
        ],
    }
}

/// Figure 6 of the paper.
fn module_c(p: &Path, inputs: i64, width: i64) -> Mixed {
    let seven = [
        ("branch7x7_1", width, [1, 1], Same),
        ("branch7x7_2", width, [1, 7], Same),
        ("branch7x7_3", 192, [7, 1], Same),
    ];
    let double = [
        ("branch7x7dbl_1", width, [1, 1], Same),
        ("branch7x7dbl_2", width, [7, 1], Same),
        ("branch7x7dbl_3", width, [1, 7], Same),
        ("branch7x7dbl_4", width, [7, 1], Same),
        ("branch7x7dbl_5", 192, [1, 7], Same),
    ];
    Mixed {
        branches: vec![
            Branch::new(p, inputs, &[("branch1x1", 192, [1, 1], Same)]),
            Branch::new(p, inputs, &seven),
            Branch::new(p, inputs, &double),
            Branch::pooled(p, inputs, 192),
        ],
    }
}

/// Like figure 10 of the paper, with 7×7 convolutions; halves the size of the image.
fn module_d(p: &Path, inputs: i64) -> Mixed {
    let three = [("branch3x3_1", 192, [1, 1], Same), ("branch3x3_2", 320, [3, 3], Halved)];
    let seven = [
        ("branch7x7x3_1", 192, [1, 1], Same),
        ("branch7x7x3_2", 192, [1, 7], Same),
        ("branch7x7x3_3", 192, [7, 1], Same),
        ("branch7x7x3_4", 192, [3, 3], Halved),
    ];
    Mixed {
        branches: vec![
            Branch::new(p, inputs, &three),
            Branch::new(p, inputs, &seven),
            Branch::max_pooled(),
        ],
    }
}

/// Figure 7 of the paper.
fn module_e(p: &Path, inputs: i64) -> Mixed {
    let double = [("branch3x3dbl_1", 448, [1, 1], Same), ("branch3x3dbl_2", 384, [3, 3], Same)];
    Mixed {
        branches: vec![
            Branch::new(p, inputs, &[("branch1x1", 320, [1, 1], Same)]),
            Branch::new(p, inputs, &[("branch3x3_1", 384, [1, 1], Same)])
                .forked(p, ["branch3x3_2a", "branch3x3_2b"]),
            Branch::new(p, inputs, &double).forked(p, ["branch3x3dbl_3a", "branch3x3dbl_3b"]),
            Branch::pooled(p, inputs, 192),
        ],
    }
}

impl Branch {
    fn new(p: &Path, inputs: i64, specs: &[Spec]) -> Self {
        Branch { pool: None, row: row(p, inputs, specs), fork: None }
    }

    fn pooled(p: &Path, inputs: i64, width: i64) -> Self {
        let projection = [("branch_pool", width, [1, 1], Same)];
        Branch { pool: Some(Pool::Average), ..Self::new(p, inputs, &projection) }
    }

    fn max_pooled() -> Self {
        Branch { pool: Some(Pool::Max), row: Vec::new(), fork: None }
    }

    /// With a 1×3 and a 3×1 convolution beside each other at its end.
    fn forked(self, p: &Path, [first, second]: [&'static str; 2]) -> Self {
        let fork = (
            BasicConv::new(p, 384, (first, 384, [1, 3], Same)),
            BasicConv::new(p, 384, (second, 384, [3, 1], Same)),
        );
        Branch { fork: Some(fork), ..self }
    }
}

fn row(p: &Path, mut inputs: i64, specs: &[Spec]) -> Vec<BasicConv> {
    let conv = |&spec: &Spec| BasicConv::new(p, std::mem::replace(&mut inputs, spec.1), spec);
    specs.iter().map(conv).collect()
}

impl BasicConv {
    fn new(p: &Path, inputs: i64, (name, width, kernel, size): Spec) -> Self {
        let (stride, p) = (if size == Halved { 2 } else { 1 }, &(p / name));
        let config = ConvConfigND {
            stride: [stride; 2],
            padding: if size == Same { kernel.map(|side| side / 2) } else { [0; 2] },
            dilation: [1; 2],
            groups: 1,
            bias: false,
            ws_init: Init::Randn { mean: 0., stdev: 0.1 },
            ..ConvConfigND::default()
        };
        let bn = BatchNormConfig { eps: 0.001, ws_init: Init::Const(1.), ..Default::default() };
        BasicConv {
            conv: conv(p / "conv", inputs, width, kernel, config),
            bn: batch_norm2d(p / "bn", width, bn),
        }
    }
}

#[forward]
impl ModuleT for InceptionV3 {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let pooled = |xs: Tensor| xs.max_pool2d([3, 3], [2, 2], [0, 0], [1, 1], false);
        let xs = pooled(apply_all(&self.stem.0, xs, train));
        let xs = pooled(apply_all(&self.stem.1, &xs, train));
        let xs = apply_all(&self.mixed, &xs, train);
        xs.apply(&self.avgpool).dropout(0.5, train).flatten(1, -1).apply(&self.fc)
    }
}

#[forward]
impl ModuleT for Mixed {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let branches: Vec<Tensor> =
            self.branches.iter().map(|branch| xs.apply_t(branch, train)).collect();
        Tensor::cat(&branches, 1)
    }
}

#[forward]
impl ModuleT for Branch {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let xs = match self.pool {
            None => xs.shallow_clone(),
            Some(Pool::Average) => xs.avg_pool2d([3, 3], [1, 1], [1, 1], false, true, None),
            Some(Pool::Max) => xs.max_pool2d([3, 3], [2, 2], [0, 0], [1, 1], false),
        };
        let xs = apply_all(&self.row, &xs, train);
        match &self.fork {
            None => xs,
            Some((first, second)) => {
                Tensor::cat(&[xs.apply_t(first, train), xs.apply_t(second, train)], 1)
            }
        }
    }
}

#[forward]
impl ModuleT for BasicConv {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        xs.apply(&self.conv).apply_t(&self.bn, train).relu_()
    }
}
