//! Roles of fields, and layers that need an attribute.

use slim_runtime::{Flow, LayerKind, Prunable, Result, Slimming, Tracer, nn as own};
use slim_tests::device;
use tch::Tensor;
use tch::nn::{self, Module, VarStore};

use crate::common::{mask_by_name, values};
use slim_tests::check::assert_close;
use slim_tests::fill::fill;

use super::{Form, Unit, conv, keep, kept, linear, mean, norm, unit};

/// A layer from another crate, which scales the channels by a matrix with one row for each channel.
#[derive(Debug)]
struct Foreign {
    rows: Tensor,
}

fn trace_foreign(layer: &Foreign, cx: &mut Tracer, input: Flow) -> Result<Flow> {
    let width = layer.rows.size()[0];
    let mut described = cx.layer(LayerKind::other("rows"));
    let channels = described.follow("channels", &input, width)?;
    described.parameter("rows", &layer.rows, &[(0, channels)])?;
    described.pass(channels)
}

#[derive(Debug, Prunable)]
#[prune(sequential)]
struct Roles {
    conv: own::Conv2D,
    #[prune(per_channel = shift)]
    shift: Tensor,
    bn: own::BatchNorm,
    #[prune(per_channel)]
    slope: Tensor,
    #[prune(with = trace_foreign)]
    foreign: Foreign,
    last: own::Conv2D,
}

#[test]
fn per_channel_tensors_and_layers_of_other_crates() {
    let form = Form {
        inputs: &[3],
        new: |p| Roles {
            conv: conv(p / "conv", 3, 6),
            shift: (p / "shift").var("value", &[6, 1, 1], nn::Init::Const(0.)),
            bn: norm(p / "bn", 6),
            slope: (p / "slope").var("value", &[6], nn::Init::Const(0.25)),
            foreign: Foreign { rows: (p / "foreign").var("rows", &[6, 3], nn::Init::Const(0.)) },
            last: conv(p / "last", 6, 2),
        },
        forward: |net, xs| {
            let xs =
                (xs[0].apply(&net.conv) + &net.shift).apply_t(&net.bn, false).prelu(&net.slope);
            let rows =
                net.foreign.rows.sum_dim_intlist(1_i64, false, tch::Kind::Double).view([-1, 1, 1]);
            vec![(xs * rows).apply(&net.last)]
        },
        scales: &[("bn", &[1., 6., 2., 5., 3., 4.])],
    };
    let (plan, net) = form.check();
    assert_eq!(["shift", "bn", "slope", "foreign"].map(|path| kept(&plan, path)), ["1,3"; 4]);
    assert_eq!(
        (net.shift.size(), net.slope.size(), net.foreign.rows.size()),
        (vec![2, 1, 1], vec![2], vec![2, 3])
    );
}

/// A network that adds a tensor behind the batch norm.
#[derive(Debug, Prunable)]
#[prune(sequential)]
struct Shifted {
    stem: Unit,
    #[prune(per_channel = shift)]
    shift: Tensor,
    mid: Unit,
    last: own::Conv2D,
}

#[test]
fn a_shift_behind_the_batch_norm_keeps_its_channels() {
    let form = Form {
        inputs: &[3],
        new: |p| Shifted {
            stem: unit(p / "stem", 3, 4),
            shift: (p / "shift").var("value", &[4, 1, 1], nn::Init::Const(0.)),
            mid: unit(p / "mid", 4, 4),
            last: conv(p / "last", 4, 2),
        },
        forward: |net, xs| {
            vec![(xs[0].apply(&net.stem) + &net.shift).apply(&net.mid).apply(&net.last)]
        },
        scales: &[],
    };
    let (plan, _) = form.check();
    assert_eq!((kept(&plan, "stem.bn"), plan.removable()), ("0-3".to_owned(), 4));
}

/// `keep` on one branch also keeps the channels of the branch that is added to it.
#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(output = [left + right, free])]
struct Kept {
    #[prune(keep)]
    left: Unit,
    #[prune(from = input)]
    right: Unit,
    #[prune(from = input)]
    free: Unit,
}

#[test]
fn keep_reaches_what_is_joined() {
    let form = Form {
        inputs: &[3],
        new: |p| {
            let q = &(p / 0);
            (
                Kept {
                    left: unit(q / "left", 3, 4),
                    right: unit(q / "right", 3, 4),
                    free: unit(q / "free", 3, 4),
                },
                conv(p / 1, 8, 2),
            )
        },
        forward: |(net, last), xs| {
            let [left, right, free] =
                [&net.left, &net.right, &net.free].map(|unit| xs[0].apply(unit).relu());
            vec![Tensor::cat(&[left + right, free], 1).apply(last)]
        },
        scales: &[("0.free.bn", &[3., 1., 4., 2.])],
    };
    let (plan, _) = form.check();
    assert_eq!(
        ["0.left.bn", "0.right.bn", "0.free.bn"].map(|bn| kept(&plan, bn)),
        ["0-3", "0-3", "2"]
    );
}

/// A grouped convolution of tch, whose groups keep equally many channels, and a depthwise drop-in.
#[derive(Debug, Prunable)]
#[prune(sequential)]
struct Groups {
    stem: Unit,
    grouped: nn::Conv2D,
    bn: nn::BatchNorm,
    depthwise: own::Conv2D,
    depthwise_bn: own::BatchNorm,
    fc: nn::Linear,
}

#[test]
fn grouped_and_depthwise_convolutions() {
    let form = Form {
        inputs: &[3],
        new: |p| {
            let groups = |groups| nn::ConvConfig { groups, padding: 1, ..Default::default() };
            Groups {
                stem: unit(p / "stem", 3, 8),
                grouped: nn::conv2d(p / "grouped", 8, 6, 3, groups(2)),
                bn: nn::batch_norm2d(p / "bn", 6, Default::default()),
                depthwise: own::conv2d(p / "depthwise", 6, 12, 3, groups(6)),
                depthwise_bn: norm(p / "depthwise_bn", 12),
                fc: nn::linear(p / "fc", 12, 2, Default::default()),
            }
        },
        forward: |net, xs| {
            let xs =
                xs[0].apply(&net.stem).relu().apply(&net.grouped).apply_t(&net.bn, false).relu();
            vec![
                mean(&xs.apply(&net.depthwise).apply_t(&net.depthwise_bn, false).relu())
                    .apply(&net.fc),
            ]
        },
        scales: &[
            ("stem.bn", &[9., 1., 1., 1., 1., 9., 1., 1.]),
            ("bn", &[1., 9., 1., 1., 1., 1.]),
            ("depthwise_bn", &[1., 1., 1., 1., 1., 1., 1., 1., 1., 1., 1., 9.]),
        ],
    };
    // A low ratio: with one channel in each group, tch's convolution could as well be depthwise,
    // which is refused.
    let (plan, net) = form.check_at(0.3);
    // Position 0 of the first group and position 1 of the second score high, so both groups keep
    // both positions.
    assert_eq!(
        (kept(&plan, "stem.bn"), keep(&plan, "grouped", "in")),
        ("0-1,4-5".to_owned(), "0-1".to_owned())
    );
    // The depthwise convolution has two outputs for each channel. Channels 1 and 4 have the same
    // position in their groups, and so have 2 and 5.
    assert_eq!(
        (kept(&plan, "bn"), kept(&plan, "depthwise_bn")),
        ("1-2,4-5".to_owned(), "2-5,8-11".to_owned())
    );
    assert_eq!((net.depthwise.groups(), net.depthwise.ws.size()[0]), (4, 8));
}

/// A pre-activation block of the reference implementation.
#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(output = conv2 + input)]
struct PreActivation {
    select: own::ChannelSelect,
    bn1: own::BatchNorm,
    conv1: own::Conv2D,
    bn2: own::BatchNorm,
    conv2: own::Conv2D,
}

#[derive(Debug, Prunable)]
#[prune(sequential)]
struct PreResNet {
    stem: own::Conv2D,
    blocks: Vec<PreActivation>,
    select: own::ChannelSelect,
    bn: own::BatchNorm,
    fc: own::Linear,
}

#[test]
fn a_stream_that_channels_are_selected_from_keeps_its_width() {
    let form = Form {
        inputs: &[3],
        new: |p| {
            let block = |i: i64| {
                let p = p / "blocks" / i;
                PreActivation {
                    select: own::channel_select(4),
                    bn1: norm(&p / "bn1", 4),
                    conv1: conv(&p / "conv1", 4, 3),
                    bn2: norm(&p / "bn2", 3),
                    conv2: conv(&p / "conv2", 3, 4),
                }
            };
            PreResNet {
                stem: conv(p / "stem", 3, 4),
                blocks: (0..2).map(block).collect(),
                select: own::channel_select(4),
                bn: norm(p / "bn", 4),
                fc: linear(p / "fc", 4, 2),
            }
        },
        forward: |net, xs| {
            let block = |xs: Tensor, block: &PreActivation| {
                let inner =
                    block.select.forward(&xs).apply_t(&block.bn1, false).relu().apply(&block.conv1);
                inner.apply_t(&block.bn2, false).relu().apply(&block.conv2) + xs
            };
            let xs = net.blocks.iter().fold(xs[0].apply(&net.stem), block);
            vec![mean(&net.select.forward(&xs).apply_t(&net.bn, false).relu()).apply(&net.fc)]
        },
        scales: &[
            ("blocks.0.bn1", &[9., 1., 1., 9.]),
            ("blocks.0.bn2", &[1., 1., 9.]),
            ("blocks.1.bn1", &[1., 9., 1., 1.]),
            ("blocks.1.bn2", &[9., 9., 1.]),
            ("bn", &[1., 1., 9., 9.]),
        ],
    };
    let (plan, net) = form.check();
    // As in the reference implementation, every norm selects its own channels of the stream.
    assert_eq!(plan.cfg().to_string(), "[2, 1, 1, 2, 2]");
    assert_eq!(
        (net.blocks[0].select.kept(), net.blocks[1].select.kept(), net.select.kept()),
        ([0, 3].as_slice(), [1].as_slice(), [2, 3].as_slice())
    );
    assert_eq!(
        (net.stem.ws.size()[0], net.blocks[1].conv2.ws.size()[0], net.blocks[1].conv1.ws.size()[1]),
        (4, 4, 1)
    );
}

/// Two linear layers that share one weight.
#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(output = (left, right))]
struct Tied {
    a: Unit,
    #[prune(from = input)]
    b: Unit,
    #[prune(from = a)]
    left: own::Linear,
    #[prune(from = b)]
    right: own::Linear,
}

#[test]
fn weights_tied_between_two_layers() {
    let form = Form {
        inputs: &[3],
        new: |p| {
            let left = linear(p / "left", 4, 2);
            let mut right = linear(p / "right", 4, 2);
            right.ws = left.ws.shallow_clone();
            let mut tied = Tied { a: unit(p / "a", 3, 4), b: unit(p / "b", 3, 4), left, right };
            tied.right.bs = tied.left.bs.as_ref().map(Tensor::shallow_clone);
            tied
        },
        forward: |net, xs| {
            let [a, b] = [&net.a, &net.b].map(|unit| mean(&xs[0].apply(unit).relu()));
            vec![a.apply(&net.left), b.apply(&net.right)]
        },
        scales: &[("a.bn", &[9., 1., 1., 1.]), ("b.bn", &[1., 1., 1., 8.])],
    };
    form.check();
    let (plan, net) = form.check_at(0.25);
    assert_eq!([kept(&plan, "a.bn"), kept(&plan, "b.bn"), keep(&plan, "right", "in")], ["0,3"; 3]);
    assert_eq!(plan.layer("right").unwrap().tensors[0].tied.as_deref(), Some("left.weight"));
    assert_eq!((net.left.ws.data_ptr(), net.left.ws.size()), (net.right.ws.data_ptr(), vec![2, 2]));
}

/// An embedding, a batch norm and a linear layer.
#[derive(Debug, Prunable)]
#[prune(sequential)]
struct Words {
    embedding: nn::Embedding,
    bn: own::BatchNorm,
    fc: own::Linear,
}

#[test]
fn an_embedding_loses_columns() {
    let mut vs = VarStore::new(device());
    let p = vs.root();
    let mut words = Words {
        embedding: nn::embedding(&p / "embedding", 10, 8, Default::default()),
        bn: own::batch_norm1d(&p / "bn", 8, Default::default()),
        fc: linear(&p / "fc", 8, 2),
    };
    vs.double();
    fill(&vs);
    let indices = slim_tests::tensor(&[3_i64, 1, 4, 1, 5]);
    let forward = |words: &Words| {
        tch::no_grad(|| {
            indices.apply(&words.embedding).apply_t(&words.bn, false).relu().apply(&words.fc)
        })
    };
    let plan = words.plan(&Slimming::ratio(0.5)).unwrap();
    let before = values(&vs);
    mask_by_name(&vs, &plan);
    let masked = forward(&words);
    tch::no_grad(|| {
        vs.variables().iter_mut().for_each(|(name, variable)| variable.copy_(&before[name]));
    });
    words.apply(&plan).unwrap();
    assert_eq!(words.embedding.ws.size(), [10, 3]);
    assert_close(&forward(&words), &masked, 1e-9);
}
