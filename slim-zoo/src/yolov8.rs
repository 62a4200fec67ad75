//! YOLOv8 ([Ultralytics, 2023](https://docs.ultralytics.com/models/yolov8)), a detector, with the
//! layer names of its authors. Training code and weights are theirs, under their own licence.

use std::borrow::Borrow;

use slim_runtime::nn::{BatchNorm, Conv2D, batch_norm2d, conv2d};
use slim_runtime::{Prunable, forward};
use tch::nn::{BatchNormConfig, ConvConfig, Init, ModuleT, Path};
use tch::{Kind, Tensor};

/// Bins of the distribution that each side of a box is predicted by.
const BINS: i64 = 16;
/// Pixels from one position to the next of the three maps that boxes are predicted on.
const STRIDES: [i64; 3] = [8, 16, 32];

/// Backbone, feature pyramid in both directions, and a head that predicts boxes and classes on
/// three maps.
#[derive(Debug, Prunable)]
#[prune(input = 3)]
pub struct YoloV8 {
    backbone: Backbone,
    neck: Neck,
    detect: Detect,
}

#[derive(Debug, Prunable)]
struct Backbone {
    stem: ConvBn,
    stages: Vec<(ConvBn, C2f)>,
    sppf: Sppf,
}

/// Merges the maps from small to large, then from large to small.
#[derive(Debug, Prunable)]
struct Neck {
    up: (C2f, C2f),
    down: ((ConvBn, C2f), (ConvBn, C2f)),
}

/// For each map, a branch for boxes and one for classes.
#[derive(Debug, Prunable)]
struct Detect {
    boxes: Vec<Branch>,
    classes: Vec<Branch>,
}

#[derive(Debug, Prunable)]
struct Branch {
    row: (ConvBn, ConvBn),
    last: Conv2D,
}

/// Convolution, batch norm, SiLU: Ultralytics' `Conv`.
#[derive(Debug, Prunable)]
struct ConvBn {
    conv: Conv2D,
    bn: BatchNorm,
}

/// Two halves, of which the second passes bottlenecks in a row; all of them are merged.
#[derive(Debug, Prunable)]
struct C2f {
    cv1: ConvBn,
    m: Vec<Bottleneck>,
    cv2: ConvBn,
}

/// Two 3×3 convolutions, with the input added if `shortcut`.
#[derive(Debug, Prunable)]
struct Bottleneck {
    cv1: ConvBn,
    cv2: ConvBn,
    shortcut: bool,
}

/// Max-pools in a row, and what is in front of each, merged.
#[derive(Debug, Prunable)]
struct Sppf {
    cv1: ConvBn,
    cv2: ConvBn,
}

impl YoloV8 {
    /// The smallest of the family, `yolov8n`, for images `[N, 3, H, W]` whose sides are multiples
    /// of 32.
    pub fn n<'a>(p: impl Borrow<Path<'a>>, classes: i64) -> Self {
        Self::new(p, 16, classes)
    }

    /// A network of the depth of `yolov8n`, whose stem has `width` channels.
    pub fn new<'a>(p: impl Borrow<Path<'a>>, width: i64, classes: i64) -> Self {
        let p = &(p.borrow() / "model");
        let at = |index: i64| p / index;
        let halving = |index, inputs, outputs| ConvBn::new(&at(index), inputs, outputs, 3, 2);
        let stage = |(position, depth): (i64, usize)| {
            let (inputs, outputs) = (width << position, width << (position + 1));
            let index = 2 * position + 1;
            let blocks = C2f::new(&at(index + 1), outputs, outputs, depth, true);
            (halving(index, inputs, outputs), blocks)
        };
        let [small, middle, large] = [2, 3, 4].map(|shift| width << shift);
        YoloV8 {
            backbone: Backbone {
                stem: halving(0, 3, width),
                stages: (0..).zip([1, 2, 2, 1]).map(stage).collect(),
                sppf: Sppf::new(&at(9), large),
            },
            neck: Neck {
                up: (
                    C2f::new(&at(12), large + middle, middle, 1, false),
                    C2f::new(&at(15), middle + small, small, 1, false),
                ),
                down: (
                    (
                        halving(16, small, small),
                        C2f::new(&at(18), small + middle, middle, 1, false),
                    ),
                    (
                        halving(19, middle, middle),
                        C2f::new(&at(21), middle + large, large, 1, false),
                    ),
                ),
            },
            detect: Detect::new(&at(22), [small, middle, large], classes),
        }
    }
}

impl Detect {
    fn new(p: &Path, widths: [i64; 3], classes: i64) -> Self {
        // Ultralytics keeps the bins' numbers as the weight of a convolution.
        let mut weight = (p / "dfl" / "conv").zeros_no_train("weight", &[1, BINS, 1, 1]);
        let numbers = Tensor::arange(BINS, (Kind::Float, p.device())).view([1, BINS, 1, 1]);
        tch::no_grad(|| weight.copy_(&numbers));
        let hidden = [(widths[0] / 4).max(4 * BINS), widths[0].max(classes.min(100))];
        let branches = |name: &str, hidden: i64, outputs: i64| {
            let p = &(p / name);
            let branch = |(index, inputs): (usize, i64)| {
                Branch::new(&(p / index), [inputs, hidden, outputs])
            };
            widths.into_iter().enumerate().map(branch).collect()
        };
        Detect {
            boxes: branches("cv2", hidden[0], 4 * BINS),
            classes: branches("cv3", hidden[1], classes),
        }
    }
}

impl Branch {
    fn new(p: &Path, [inputs, hidden, outputs]: [i64; 3]) -> Self {
        Branch {
            row: (
                ConvBn::new(&(p / 0), inputs, hidden, 3, 1),
                ConvBn::new(&(p / 1), hidden, hidden, 3, 1),
            ),
            last: conv2d(p / 2, hidden, outputs, 1, ConvConfig::default()),
        }
    }
}

impl C2f {
    fn new(p: &Path, inputs: i64, outputs: i64, depth: usize, shortcut: bool) -> Self {
        let half = outputs / 2;
        let bottleneck = |index| {
            let p = &(p / "m" / index);
            Bottleneck {
                cv1: ConvBn::new(&(p / "cv1"), half, half, 3, 1),
                cv2: ConvBn::new(&(p / "cv2"), half, half, 3, 1),
                shortcut,
            }
        };
        C2f {
            cv1: ConvBn::new(&(p / "cv1"), inputs, 2 * half, 1, 1),
            m: (0..depth).map(bottleneck).collect(),
            cv2: ConvBn::new(&(p / "cv2"), (2 + depth as i64) * half, outputs, 1, 1),
        }
    }
}

impl Sppf {
    fn new(p: &Path, width: i64) -> Self {
        Sppf {
            cv1: ConvBn::new(&(p / "cv1"), width, width / 2, 1, 1),
            cv2: ConvBn::new(&(p / "cv2"), 2 * width, width, 1, 1),
        }
    }
}

impl ConvBn {
    fn new(p: &Path, inputs: i64, outputs: i64, kernel: i64, stride: i64) -> Self {
        let conv = ConvConfig { stride, padding: kernel / 2, bias: false, ..Default::default() };
        let bn = BatchNormConfig {
            eps: 1e-3,
            momentum: 0.03,
            ws_init: Init::Const(1.),
            ..Default::default()
        };
        ConvBn {
            conv: conv2d(p / "conv", inputs, outputs, kernel, conv),
            bn: batch_norm2d(p / "bn", outputs, bn),
        }
    }
}

#[forward]
impl ModuleT for ConvBn {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        xs.apply(&self.conv).apply_t(&self.bn, train).silu()
    }
}

#[forward]
impl ModuleT for Bottleneck {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let ys = xs.apply_t(&self.cv1, train).apply_t(&self.cv2, train);
        if self.shortcut { xs + ys } else { ys }
    }
}

#[forward]
impl ModuleT for C2f {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let mut parts = xs.apply_t(&self.cv1, train).chunk(2, 1);
        for bottleneck in &self.m {
            let last = &parts[parts.len() - 1];
            parts.push(last.apply_t(bottleneck, train));
        }
        Tensor::cat(&parts, 1).apply_t(&self.cv2, train)
    }
}

#[forward]
impl ModuleT for Sppf {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let mut parts = vec![xs.apply_t(&self.cv1, train)];
        for index in 0..3 {
            parts.push(parts[index].max_pool2d([5, 5], [1, 1], [2, 2], [1, 1], false));
        }
        Tensor::cat(&parts, 1).apply_t(&self.cv2, train)
    }
}

#[forward]
impl Backbone {
    /// The maps of strides 8, 16 and 32.
    fn forward_t(&self, xs: &Tensor, train: bool) -> (Tensor, Tensor, Tensor) {
        let mut xs = xs.apply_t(&self.stem, train);
        let mut maps = Vec::new();
        for (conv, blocks) in &self.stages {
            xs = xs.apply_t(conv, train).apply_t(blocks, train);
            maps.push(xs.shallow_clone());
        }
        (maps[1].shallow_clone(), maps[2].shallow_clone(), xs.apply_t(&self.sppf, train))
    }
}

#[forward]
impl Neck {
    fn forward_t(
        &self,
        small: &Tensor,
        middle: &Tensor,
        large: &Tensor,
        train: bool,
    ) -> (Tensor, Tensor, Tensor) {
        let join = |xs: &Tensor, ys: &Tensor, blocks: &C2f| {
            Tensor::cat(&[xs, ys], 1).apply_t(blocks, train)
        };
        let twice = |xs: &Tensor| xs.upsample_nearest2d_vec(None::<&[i64]>, [2., 2.]);
        let merged = join(&twice(large), middle, &self.up.0);
        let small = join(&twice(&merged), small, &self.up.1);
        let ((to_middle, middle_blocks), (to_large, large_blocks)) = &self.down;
        let middle = join(&small.apply_t(to_middle, train), &merged, middle_blocks);
        let large = join(&middle.apply_t(to_large, train), large, large_blocks);
        (small, middle, large)
    }
}

#[forward]
impl ModuleT for Branch {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        xs.apply_t(&self.row.0, train).apply_t(&self.row.1, train).apply(&self.last)
    }
}

#[forward]
impl Detect {
    /// The predictions on one map, `[N, 4 · 16 + classes, H, W]`.
    fn forward_t(&self, xs: &Tensor, index: usize, train: bool) -> Tensor {
        let boxes = xs.apply_t(&self.boxes[index], train);
        let classes = xs.apply_t(&self.classes[index], train);
        Tensor::cat(&[boxes, classes], 1)
    }
}

#[forward]
impl YoloV8 {
    /// Predictions on the maps of strides 8, 16 and 32, each `[N, 4 · 16 + classes, H, W]`: the
    /// bins of the four sides of a box, and the logits of the classes. This is what a loss takes.
    pub fn maps(&self, xs: &Tensor, train: bool) -> (Tensor, Tensor, Tensor) {
        let (small, middle, large) = self.backbone.forward_t(xs, train);
        let (small, middle, large) = self.neck.forward_t(&small, &middle, &large, train);
        let detect = &self.detect;
        (
            detect.forward_t(&small, 0, train),
            detect.forward_t(&middle, 1, train),
            detect.forward_t(&large, 2, train),
        )
    }
}

#[forward]
impl ModuleT for YoloV8 {
    /// Predictions at all positions of the three [maps](YoloV8::maps), one map after the other,
    /// `[N, 4 · 16 + classes, positions]`. [`decoded`] makes boxes of them.
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let (small, middle, large) = self.maps(xs, train);
        let flat = |map: Tensor| map.flatten(2, -1);
        Tensor::cat(&[flat(small), flat(middle), flat(large)], 2)
    }
}

/// Boxes and scores of predictions for images of this height and width:
/// `[N, 4 + classes, positions]`, with the centre, width and height of each box in pixels, and the
/// probability of each class.
///
/// # Errors
/// The shapes do not fit.
pub fn decoded(predictions: &Tensor, [height, width]: [i64; 2]) -> Result<Tensor, tch::TchError> {
    let options = (predictions.f_kind()?, predictions.device());
    let (mut anchors, mut strides) = (Vec::new(), Vec::new());
    for stride in STRIDES {
        let (rows, columns) = (height / stride, width / stride);
        let along = |count: i64| Tensor::f_arange(count, options)?.f_add_scalar(0.5);
        let grid = Tensor::f_meshgrid_indexing(&[along(rows)?, along(columns)?], "ij")?;
        let flat = |at: usize| grid[at].f_reshape([-1]);
        anchors.push(Tensor::f_stack(&[flat(1)?, flat(0)?], 0)?);
        strides.push(Tensor::f_full([1, rows * columns], stride, options)?);
    }
    let (anchors, strides) = (Tensor::f_cat(&anchors, 1)?, Tensor::f_cat(&strides, 1)?);
    let size = predictions.size();
    let (batch, positions) = match size[..] {
        [batch, _, positions] => (batch, positions),
        _ => return Err(tch::TchError::Shape(format!("{size:?} is no shape of predictions"))),
    };
    // The expected bin of each side.
    let bins = predictions.f_narrow(1, 0, 4 * BINS)?.f_view([batch, 4, BINS, positions])?;
    let numbers = Tensor::f_arange(BINS, options)?.f_view([1, 1, BINS, 1])?;
    let sides = bins.f_softmax(2, None)?.f_mul(&numbers)?;
    let sides = sides.f_sum_dim_intlist([2].as_slice(), false, None)?;
    let (from, to) = (sides.f_narrow(1, 0, 2)?, sides.f_narrow(1, 2, 2)?);
    let (first, second) = (anchors.f_sub(&from)?, anchors.f_add(&to)?);
    let centre = first.f_add(&second)?.f_div_scalar(2)?;
    let boxes = Tensor::f_cat(&[centre, second.f_sub(&first)?], 1)?.f_mul(&strides)?;
    let classes = predictions.f_narrow(1, 4 * BINS, size[1] - 4 * BINS)?;
    Tensor::f_cat(&[boxes, classes.f_sigmoid()?], 1)
}
