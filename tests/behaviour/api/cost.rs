//! Costs of networks: counted by hand, and reported by name where a layer cannot be counted.

use slim_runtime::error::{ArgumentError, WiringError};
use slim_runtime::nn::{self, ModuleT, PaddingMode, VarStore};
use slim_runtime::{Cost, Error, Flow, LayerKind, Plan, Prunable, Result, Slimming, Tracer};
use slim_tests::device;
use tch::{Kind, Tensor};

use crate::common::{Net as TchsOwn, images};

fn zeros(size: &[i64]) -> Tensor {
    Tensor::zeros(size, (Kind::Float, device()))
}

/// A convolution, a batch norm and a linear layer.
#[derive(Debug, Prunable)]
#[prune(sequential)]
struct Net {
    conv: nn::Conv2D,
    bn: nn::BatchNorm,
    fc: nn::Linear,
}

impl Net {
    fn new(p: &nn::Path, width: i64) -> Self {
        Net {
            conv: nn::conv2d(p / "conv", 3, width, 3, Default::default()),
            bn: nn::batch_norm2d(p / "bn", width, Default::default()),
            fc: nn::linear(p / "fc", width * 16, 5, Default::default()),
        }
    }
}

impl ModuleT for Net {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        xs.apply(&self.conv).apply_t(&self.bn, train).relu().flatten(1, -1).apply(&self.fc)
    }
}

fn net() -> Net {
    Net::new(&VarStore::new(device()).root(), 8)
}

fn cost(net: &Net) -> Cost {
    net.cost(|net| net.forward_t(&images(1), false)).unwrap()
}

/// The MACs of one layer on one sample of this size; `None` if the layer is not counted.
fn macs<L: Prunable + nn::Module>(layer: &L, size: &[i64]) -> Option<i64> {
    let cost = layer.cost(|layer| zeros(size).apply(layer)).unwrap();
    assert_eq!(cost.macs().ok(), cost.layers()[0].macs);
    cost.layers()[0].macs
}

#[test]
fn a_network_of_drop_ins() {
    let cost = cost(&net());
    insta::assert_snapshot!(cost);
    insta::assert_json_snapshot!(cost);
    assert_eq!(cost.macs().unwrap(), 3 * 9 * 8 * 16 + 128 * 5);
    assert_eq!(cost.parameters(), 3 * 9 * 8 + 8 + 2 * 8 + 128 * 5 + 5);
}

#[test]
fn a_network_of_tchs_layers() {
    let vs = VarStore::new(device());
    let net = TchsOwn::new(&vs.root());
    let cost = net.cost(|net| net.forward_t(&images(1), false)).unwrap();
    insta::assert_snapshot!(cost);
    insta::assert_snapshot!(cost.macs().unwrap_err());
    assert_eq!(cost.parameters(), net.plan(&Slimming::ratio(0.)).unwrap().parameters().before);
}

#[test]
fn layers_of_every_form() {
    let vs = VarStore::new(device());
    let config = nn::ConvConfig {
        stride: 2,
        padding: 1,
        dilation: 2,
        padding_mode: PaddingMode::Reflect,
        ..Default::default()
    };
    assert_eq!(
        macs(&nn::conv2d(vs.root() / 0, 4, 6, 3, config), &[1, 4, 9, 11]),
        Some(6 * 4 * 9 * 4 * 5)
    );
    let config = nn::ConvConfig { padding: 1, groups: 2, ..Default::default() };
    assert_eq!(macs(&nn::conv1d(vs.root() / 1, 4, 6, 3, config), &[1, 4, 9]), Some(6 * 2 * 3 * 9));
    let config = nn::ConvConfig { groups: 4, ..Default::default() };
    assert_eq!(
        macs(&nn::conv3d(vs.root() / 2, 4, 8, 2, config), &[1, 4, 3, 4, 5]),
        Some(8 * 8 * 2 * 3 * 4)
    );
    // Without a batch dimension.
    assert_eq!(
        macs(&nn::conv2d(vs.root() / 3, 4, 6, 1, Default::default()), &[4, 2, 3]),
        Some(6 * 4 * 6)
    );

    // Transposed: counted at each position of the input.
    let config = nn::ConvTransposeConfig { stride: 2, groups: 2, ..Default::default() };
    assert_eq!(
        macs(&nn::conv_transpose2d(vs.root() / 4, 4, 6, 3, config), &[1, 4, 5, 7]),
        Some(4 * 3 * 9 * 5 * 7)
    );
    let config = nn::ConvTransposeConfig { groups: 4, ..Default::default() };
    assert_eq!(
        macs(&nn::conv_transpose1d(vs.root() / 5, 4, 8, 3, config), &[1, 4, 5]),
        Some(4 * 2 * 3 * 5)
    );
    assert_eq!(
        macs(&nn::conv_transpose3d(vs.root() / 6, 2, 3, 2, Default::default()), &[1, 2, 2, 2, 2]),
        Some(2 * 3 * 8 * 8)
    );

    // Counted at each position of a sequence.
    let linear = nn::linear(vs.root() / 7, 4, 6, Default::default());
    assert_eq!(macs(&linear, &[1, 4]), Some(24));
    assert_eq!(macs(&linear, &[4]), Some(24));
    assert_eq!(macs(&linear, &[1, 10, 4]), Some(240));
}

#[test]
fn tchs_layers_are_named_with_their_drop_ins() {
    let vs = VarStore::new(device());
    let reason = |layer: &dyn Prunable| layer.cost_of_nothing();
    insta::assert_snapshot!(reason(&tch::nn::conv1d(vs.root() / 0, 4, 6, 3, Default::default())), @"`layer` is tch's own, which cannot be counted; build it with `slim_runtime::nn::conv1d` (same signature)");
    insta::assert_snapshot!(reason(&tch::nn::conv3d(vs.root() / 1, 4, 6, 3, Default::default())), @"`layer` is tch's own, which cannot be counted; build it with `slim_runtime::nn::conv3d` (same signature)");
    insta::assert_snapshot!(reason(&tch::nn::conv_transpose2d(vs.root() / 2, 4, 6, 3, Default::default())), @"`layer` is tch's own, which cannot be counted; build it with `slim_runtime::nn::conv_transpose2d` (same signature)");
    insta::assert_snapshot!(reason(&tch::nn::linear(vs.root() / 3, 4, 6, Default::default())), @"`layer` is tch's own, which cannot be counted; build it with `slim_runtime::nn::linear` (same signature)");
}

/// Why a layer that does not run is not counted.
trait CostOfNothing {
    fn cost_of_nothing(&self) -> String;
}

impl CostOfNothing for dyn Prunable + '_ {
    fn cost_of_nothing(&self) -> String {
        struct Whole<'a>(&'a dyn Prunable);
        impl Prunable for Whole<'_> {
            fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
                cx.field("layer", |cx| self.0.trace(cx, input))
            }
        }
        let cost = Whole(self).cost(|_| ()).unwrap();
        cost.uncounted().next().unwrap().to_owned()
    }
}

#[test]
fn the_linear_layer_is_tchs_but_for_the_counting() {
    let (ours, theirs) = (VarStore::new(device()), VarStore::new(device()));
    let config = nn::LinearConfig { bs_init: Some(nn::Init::Const(2.)), ..Default::default() };
    let (layer, tchs) =
        (nn::linear(ours.root(), 4, 6, config), tch::nn::linear(theirs.root(), 4, 6, config));
    tch::no_grad(|| layer.ws.shallow_clone().copy_(&tchs.ws));
    let xs = Tensor::randn([3, 4], (Kind::Float, device()));
    assert!(xs.apply(&layer).equal(&xs.apply(&tchs)));
    let state = |vs: &VarStore| {
        let mut state: Vec<_> =
            vs.variables().into_iter().map(|(name, variable)| (name, variable.size())).collect();
        state.sort();
        state
    };
    assert_eq!(state(&ours), state(&theirs));
    let bias = nn::linear(ours.root() / "default", 4, 1000, Default::default())
        .bs
        .unwrap()
        .abs()
        .max()
        .double_value(&[]);
    assert!((0.45..=0.5).contains(&bias), "uniform up to 1 / √4");
    assert!(
        nn::linear(ours.root() / "none", 4, 6, nn::LinearConfig { bias: false, ..config })
            .bs
            .is_none()
    );
}

#[test]
fn a_batch_is_said_or_refused() {
    let net = net();
    let refused = net.cost(|net| net.forward_t(&images(8), false)).unwrap_err();
    insta::assert_snapshot!(refused, @"`conv` is given a batch of 8, but costs are counted for one sample: run `forward` on a batch of one, or pass the number of samples to `cost_of_batch` (1 if the batch is made of parts of one sample)");
    assert_eq!(net.cost_of_batch(8, |net| net.forward_t(&images(8), false)).unwrap(), cost(&net));
    let linear = nn::linear(VarStore::new(device()).root(), 4, 6, Default::default());
    assert!(matches!(
        linear.cost(|linear| zeros(&[2, 4]).apply(linear)),
        Err(Error::Argument(ArgumentError::Batch { batch: 2, .. }))
    ));
    // One film of eight frames.
    let film = net.cost_of_batch(1, |net| net.forward_t(&images(8), false)).unwrap();
    assert_eq!(film.macs().unwrap(), 8 * cost(&net).macs().unwrap());

    let refused = net.cost_of_batch(3, |net| net.forward_t(&images(8), false)).unwrap_err();
    insta::assert_snapshot!(refused, @"3 samples: `conv.weight` is used 128 times, which is not a multiple of 3; pass the number of samples that `forward` runs");
    insta::assert_snapshot!(net.cost_of_batch(0, |_| ()).unwrap_err(), @"0 samples: there must be at least one");
    assert_eq!(
        net.cost(|net| net.forward_t(&images(0), false))
            .unwrap_err()
            .to_string()
            .split(':')
            .next()
            .unwrap(),
        "`conv` is given a batch of 0, but costs are counted for one sample"
    );
}

#[test]
fn what_does_not_run_is_named() {
    let cost = net().cost(|net| images(1).apply(&net.conv)).unwrap();
    assert_eq!(cost.layer("conv").unwrap().macs, Some(3 * 9 * 8 * 16));
    insta::assert_snapshot!(cost.macs().unwrap_err(), @r"
    the MACs of this network are not all counted:
      `fc` was not run by `forward`, which must run the whole network
    ");
}

#[test]
fn what_is_outside_the_data_flow_is_named() {
    let (net, other) = (net(), net());
    let cost = net
        .cost(|net| (net.forward_t(&images(1), false), other.forward_t(&images(1), false)))
        .unwrap();
    insta::assert_snapshot!(cost.macs().unwrap_err(), @r"
    the MACs of this network are not all counted:
      2 uses of weights are outside the data flow, the first of shape [8, 3, 3, 3]: layers in fields marked `#[prune(skip)]`, or another model's; let `forward` run the data flow alone
    ");
}

#[test]
fn a_panic_ends_the_recording() {
    let net = net();
    let cost_before = cost(&net);
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        net.cost(|net| net.forward_t(&zeros(&[1, 3, 9, 9]), false))
    }));
    assert!(caught.is_err(), "the linear layer has other features");
    assert_eq!(net.forward_t(&images(4), false).size(), [4, 5]);
    assert_eq!(cost(&net), cost_before);
}

#[test]
fn nothing_is_recorded_for_gradients() {
    let net = net();
    net.cost(|net| assert!(!net.forward_t(&images(1), false).requires_grad())).unwrap();
    assert!(net.forward_t(&images(1), false).requires_grad());
}

/// A convolution that is applied again behind its batch norm.
#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(output = again(bn))]
struct Twice {
    first: nn::Conv2D,
    again: nn::Conv2D,
    bn: nn::BatchNorm,
}

#[test]
fn a_layer_that_runs_twice_counts_twice() {
    let vs = VarStore::new(device());
    let p = &vs.root();
    let config = nn::ConvConfig { padding: 1, bias: false, ..Default::default() };
    let net = Twice {
        first: nn::conv2d(p / "first", 3, 4, 1, config),
        again: nn::conv2d(p / "again", 4, 4, 3, config),
        bn: nn::batch_norm2d(p / "bn", 4, Default::default()),
    };
    let forward = |net: &Twice| {
        zeros(&[1, 3, 4, 4])
            .apply(&net.first)
            .apply(&net.again)
            .apply_t(&net.bn, false)
            .apply(&net.again)
    };
    let cost = net.cost(forward).unwrap();
    // The first application adds a border of one; the others keep the size of 6.
    assert_eq!(cost.layer("again").unwrap().macs, Some(2 * 4 * 4 * 9 * 36));
    assert_eq!(cost.layers().iter().filter(|layer| layer.path == "again").count(), 2);
    assert_eq!(cost.macs().unwrap(), 3 * 4 * 36 + 2 * 4 * 4 * 9 * 36);
    assert_eq!(cost.parameters(), 12 + 144 + 8);
    insta::assert_snapshot!(cost);
}

/// Two linear layers that share one weight.
#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(output = (left, right))]
struct Tied<L, R> {
    left: L,
    #[prune(from = input)]
    right: R,
}

#[test]
fn one_weight_in_two_layers() {
    let vs = VarStore::new(device());
    let left = nn::linear(vs.root() / "left", 4, 2, Default::default());
    let right = nn::Linear { ws: left.ws.shallow_clone(), bs: None };
    let net = Tied { left, right };
    let xs = zeros(&[1, 4]);
    let cost = net.cost(|net| (xs.apply(&net.left), xs.apply(&net.right))).unwrap();
    assert_eq!(
        (cost.layer("left").unwrap().macs, cost.layer("right").unwrap().macs),
        (Some(16), Some(0))
    );
    assert_eq!(cost.parameters(), 10);
    insta::assert_snapshot!(net.cost(|net| xs.apply(&net.left)).unwrap().macs().unwrap_err(), @r"
    the MACs of this network are not all counted:
      `left.weight` is shared by 2 layers (`left`, `right`), and `forward` reports 1 use of it; run each
      `right.weight` is shared by 2 layers (`left`, `right`), and `forward` reports 1 use of it; run each
    ");

    // One of the two layers cannot report its runs, so the other's reports are not all.
    let right = tch::nn::Linear { ws: net.left.ws.shallow_clone(), bs: None };
    let net = Tied { left: net.left, right };
    let cost =
        net.cost(|net| (xs.apply(&net.left), xs.apply(&net.left), xs.apply(&net.right))).unwrap();
    insta::assert_snapshot!(cost.macs().unwrap_err(), @r"
    the MACs of this network are not all counted:
      `right` is tch's own, which cannot be counted; build it with `slim_runtime::nn::linear` (same signature)
    ");
}

/// A user's layer that reports the given MACs.
struct Mix {
    weight: Tensor,
    slope: Tensor,
    reports: Vec<i64>,
}

impl Prunable for Mix {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        let mut layer = cx.layer(LayerKind::other("mix"));
        let written = layer.write("out", self.weight.size()[0])?;
        let read = layer.read("in", &input, self.weight.size()[1])?;
        layer.parameter("weight", &self.weight, &[(0, written), (1, read)])?;
        layer.parameter("slope", &self.slope, &[(0, written)])?;
        layer.pass(written)
    }
}

#[test]
fn a_layer_by_hand_reports_its_uses() {
    let cost = |reports: &[i64]| {
        let mix = Mix { weight: zeros(&[2, 3]), slope: zeros(&[2]), reports: reports.to_vec() };
        mix.cost(|mix| mix.reports.iter().for_each(|&times| nn::record_macs(&mix.weight, times)))
    };
    assert_eq!(cost(&[4, 5]).unwrap().macs().unwrap(), 9 * 6);
    assert_eq!(cost(&[0]).unwrap().macs().unwrap(), 0);
    insta::assert_snapshot!(cost(&[]).unwrap().macs().unwrap_err(), @r"
    the MACs of this network are not all counted:
      `model` does not say how often it uses `weight`; call `slim_runtime::nn::record_macs` in its forward pass, and run it
    ");
    insta::assert_snapshot!(cost(&[4, -1]).unwrap_err(), @"`model`: it reports -1 uses of `weight`; report at least 0, and no more than an `i64` holds");
    insta::assert_snapshot!(cost(&[i64::MAX]).unwrap().macs().unwrap_err(), @r"
    the MACs of this network are not all counted:
      `model` has more MACs than an `i64` can count
    ");
    assert!(matches!(cost(&[i64::MAX, 1]), Err(Error::Wiring(WiringError::Layer { .. }))));
}

/// A gate for all channels, computed by a filter from their mean. The filter follows no channels.
struct Gate(Tensor);

impl Prunable for Gate {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        let mut layer = cx.layer(LayerKind::other("gate"));
        let channels = layer.follow("channels", &input, 3)?;
        layer.buffer("filter", &self.0, &[])?;
        layer.pass(channels)
    }
}

#[test]
fn what_follows_no_channels_may_be_a_weight() {
    for size in [&[3][..], &[3, 3], &[1, 3, 3]] {
        let gate = Gate(zeros(size));
        assert!(gate.cost(|_| ()).unwrap().macs().is_err());
        let cost = gate.cost(|gate| nn::record_macs(&gate.0, 16)).unwrap();
        assert_eq!(
            (cost.macs().unwrap(), cost.parameters()),
            (16 * size.iter().product::<i64>(), 0)
        );
    }
}

fn plan(net: &Net) -> Plan {
    net.plan(&Slimming::ratio(0.5)).unwrap()
}

#[test]
fn what_a_plan_will_leave() {
    let mut net = net();
    let before = cost(&net);
    let plan = plan(&net);
    let after = before.after(&plan).unwrap();
    let kept = plan.layer("bn").unwrap().axes[0].keep.len() as i64;
    assert!(kept < 8);
    assert_eq!(after.macs().unwrap(), 3 * 9 * kept * 16 + kept * 16 * 5);
    net.apply(&plan).unwrap();
    assert_eq!(cost(&net), after);
    // Uncounted layers stay uncounted, and parameters are known.
    let vs = VarStore::new(device());
    let tchs = TchsOwn::new(&vs.root());
    let plan = tchs.plan(&Slimming::ratio(0.5)).unwrap();
    let after = tchs.cost(|net| net.forward_t(&images(1), false)).unwrap().after(&plan).unwrap();
    assert_eq!((after.parameters(), after.uncounted().count()), (plan.parameters().after, 3));
}

#[test]
fn a_plan_of_another_network() {
    let cost = cost(&net());
    let wider = Net::new(&VarStore::new(device()).root(), 9);
    insta::assert_snapshot!(cost.after(&plan(&wider)).unwrap_err(), @"the plan does not fit this model: `conv.weight` has shape [8, 3, 3, 3] in the model, [9, 3, 3, 3] in the plan");
    let vs = VarStore::new(device());
    let other = TchsOwn::new(&vs.root());
    insta::assert_snapshot!(cost.after(&other.plan(&Slimming::ratio(0.5)).unwrap()).unwrap_err(), @"the plan does not fit this model: the model has `conv` (conv) where the plan has `conv1` (conv)");
}
