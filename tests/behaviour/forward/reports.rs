//! Reports of a wiring, and features that reading the wiring makes possible.

use slim_runtime::error::SelectionError;
use slim_runtime::{
    Absorption, Error, Flow, PartVisitor, Plan, Prunable, Result, Slimming, Tracer, forward,
    nn as own,
};
use tch::nn::{self, ModuleT, VarStore};
use tch::{Kind, Tensor};

use super::{bn, built, conv, images, left, linear, net, slimmed_is_masked};

#[derive(Debug, Prunable)]
#[prune(sequential)]
struct Declared {
    conv1: own::Conv2D,
    bn1: nn::BatchNorm,
    conv2: own::Conv2D,
    bn2: nn::BatchNorm,
    conv3: own::Conv2D,
}

impl ModuleT for Declared {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let xs = xs.apply(&self.conv1).apply_t(&self.bn1, train).relu();
        xs.apply(&self.conv2).apply_t(&self.bn2, train).relu().apply(&self.conv3)
    }
}

fn own_conv(p: nn::Path, inputs: i64, width: i64) -> own::Conv2D {
    own::conv2d(p, inputs, width, 3, nn::ConvConfig { padding: 1, ..Default::default() })
}

fn declared(vs: &VarStore) -> Declared {
    let p = vs.root();
    Declared {
        conv1: own_conv(&p / "conv1", 3, 8),
        bn1: bn(&(&p / "bn1"), 8),
        conv2: own_conv(&p / "conv2", 8, 8),
        bn2: bn(&(&p / "bn2"), 8),
        conv3: own_conv(&p / "conv3", 8, 4),
    }
}

#[test]
fn a_declared_wiring_is_said_until_a_verification_has_passed() {
    let says = "wiring      of `Declared` is declared, not read from `forward`; compare them with `verify`";
    let (mut net, _vs) = built(declared);
    let plan = net.plan(&Slimming::ratio(0.5)).unwrap();
    assert_eq!(plan.declared(), ["Declared"]);
    assert!(plan.to_string().contains(says), "{plan}");
    let json = plan.to_json().unwrap();
    assert!(json.contains("\"format\": 3"), "{json}");
    assert_eq!(Plan::from_json(&json).unwrap(), plan);
    let verified = Slimming::ratio(0.5)
        .verify(&images(), |net: &Declared, xs| net.forward_t(xs, false))
        .slim(&mut net)
        .unwrap();
    assert!(verified.slimmed.plan().declared().is_empty());
    assert!(!verified.slimmed.to_string().contains("declared"));
    assert!(verified.slimmed.plan().to_json().unwrap().contains("\"format\": 2"));
}

#[test]
fn a_verification_that_fails_says_the_order_in_which_layers_run() {
    #[derive(Debug, Prunable)]
    #[prune(sequential)]
    struct Swapped {
        conv1: own::Conv2D,
        bn1: nn::BatchNorm,
        conv3: own::Conv2D,
        bn2: nn::BatchNorm,
        conv2: own::Conv2D,
        fc: own::Linear,
    }
    let forward = |net: &Swapped, xs: &Tensor| {
        let xs = xs.apply(&net.conv1).apply_t(&net.bn1, false).relu();
        let xs = xs.apply(&net.conv2).relu().apply(&net.conv3).apply_t(&net.bn2, false);
        xs.relu().adaptive_avg_pool2d([1, 1]).flatten(1, -1).apply(&net.fc)
    };
    let (mut net, _vs) = built(|vs| {
        let p = vs.root();
        Swapped {
            conv1: own_conv(&p / "conv1", 3, 8),
            bn1: bn(&(&p / "bn1"), 8),
            conv3: own_conv(&p / "conv3", 8, 8),
            bn2: bn(&(&p / "bn2"), 8),
            conv2: own_conv(&p / "conv2", 8, 8),
            fc: own::linear(&p / "fc", 8, 3, Default::default()),
        }
    });
    let error = Slimming::ratio(0.5).verify(&images(), forward).slim(&mut net).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("`forward` runs `conv2` where the fields of `Swapped` declare `conv3`"),
        "{text}"
    );
}

#[test]
fn sizes_that_no_view_uses_are_named_and_a_sample_or_a_shape_answers_them() {
    net! { Net {
        conv1: nn::Conv2D = |p| conv(p, 3, 8),
        bn1: nn::BatchNorm = |p| bn(p, 8),
        conv2: nn::Conv2D = |p| conv(p, 8, 4),
    } |net, xs, train| {
        let xs = xs.apply(&net.conv1).apply_t(&net.bn1, train).relu();
        let ys = xs.adaptive_avg_pool2d([8, 8]);
        let xs = if xs.size() == ys.size() { xs.sigmoid() } else { ys };
        xs.apply(&net.conv2)
    } }
    let line = line!() - 3;
    let (net, _vs) = built(Net::new);
    let plan = net.plan(&Slimming::ratio(0.5)).unwrap();
    let text = plan.to_string();
    let warning = format!(
        "warning     tests/behaviour/forward/reports.rs:{line}:24: `forward` asks for sizes, and does the same for all sizes that were tried"
    );
    assert!(text.contains(&warning), "{text}");
    assert_eq!(Plan::from_json(&plan.to_json().unwrap()).unwrap(), plan);
    assert_eq!(left(&plan, "bn1"), 3);
    // For images of 8 × 8, `forward` takes the sigmoid, behind which no channel may go.
    let error = net.plan_on(&[&images()], &Slimming::ratio(0.5)).unwrap_err();
    assert!(matches!(error, Error::Selection(SelectionError::NothingToPrune { .. })), "{error}");
    let other = Tensor::zeros([1, 3, 9, 9], (Kind::Double, tch::Device::Cpu));
    let plan = net.plan_on(&[&other], &Slimming::ratio(0.5)).unwrap();
    assert!(!plan.to_string().contains("tried"), "{plan}");
}

#[test]
fn cost_is_known_without_running_anything() {
    #[derive(Debug, Prunable)]
    #[prune(input = [3, 17, 12])]
    struct Net {
        conv1: own::Conv2D,
        bn1: nn::BatchNorm,
        down: own::Conv2D,
        depthwise: own::Conv2D,
        up: own::ConvTranspose2D,
        fc: own::Linear,
    }

    #[forward]
    impl ModuleT for Net {
        fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
            let xs = xs.apply(&self.conv1).apply_t(&self.bn1, train).relu();
            let xs = xs.max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], true).apply(&self.down);
            let xs = xs.apply(&self.depthwise).apply(&self.depthwise).apply(&self.up);
            xs.flatten(2, -1).transpose(1, 2).apply(&self.fc)
        }
    }

    let build = |vs: &VarStore| {
        let p = vs.root();
        let stride = nn::ConvConfig { stride: 2, padding: 1, ..Default::default() };
        Net {
            conv1: own_conv(&p / "conv1", 3, 8),
            bn1: bn(&(&p / "bn1"), 8),
            down: own::conv2d(&p / "down", 8, 12, 3, stride),
            depthwise: own::conv2d(
                &p / "depthwise",
                12,
                12,
                3,
                nn::ConvConfig { groups: 12, padding: 1, ..Default::default() },
            ),
            up: own::conv_transpose2d(
                &p / "up",
                12,
                6,
                2,
                nn::ConvTransposeConfig { stride: 2, ..Default::default() },
            ),
            fc: own::linear(&p / "fc", 6, 5, Default::default()),
        }
    };
    let (net, _vs) = built(build);
    let sample = Tensor::zeros([1, 3, 17, 12], (Kind::Double, tch::Device::Cpu));
    let recorded = net.cost(|net| net.forward_t(&sample, false)).unwrap();
    let read = net.cost_by_shape(&[]).unwrap();
    assert_eq!(read, recorded);
    let plan = net.plan(&Slimming::ratio(0.5)).unwrap();
    assert_eq!(read.after(&plan).unwrap(), recorded.after(&plan).unwrap());
}

#[test]
fn explanations_and_dependencies_say_the_line() {
    net! { Net {
        conv1: nn::Conv2D = |p| conv(p, 3, 8),
        bn1: nn::BatchNorm = |p| bn(p, 8),
        conv2: nn::Conv2D = |p| conv(p, 8, 8),
        bn2: nn::BatchNorm = |p| bn(p, 8),
        conv3: nn::Conv2D = |p| conv(p, 8, 4),
    } |net, xs, train| {
        let xs = xs.apply(&net.conv1).apply_t(&net.bn1, train).sigmoid();
        xs.apply(&net.conv2).apply_t(&net.bn2, train).relu().apply(&net.conv3)
    } }
    let line = line!() - 2;
    let (net, _vs) = built(Net::new);
    let at = |line: u32, column| format!("tests/behaviour/forward/reports.rs:{line}:{column}");
    let explanation = net.explain(&Slimming::ratio(0.5), "bn1").unwrap();
    assert_eq!(explanation.at, Some(at(line - 1, 39)));
    assert_eq!(explanation.channels[0].held_at, Some(at(line, 12)));
    let text = explanation.to_string();
    assert!(text.contains(&format!("can set them to zero ({})", at(line, 12))), "{text}");
    let dependencies = net.dependencies().unwrap();
    assert_eq!(dependencies.layers[0].at, Some(at(line - 1, 21)));
}

/// A composite that traces its parts by hand. `VISITS` tells whether it visits them.
#[derive(Debug)]
struct ByHand<const VISITS: bool>(nn::Conv2D, nn::BatchNorm);

impl<const VISITS: bool> Prunable for ByHand<VISITS> {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        let flow = cx.field(0, |cx| self.0.trace(cx, input))?;
        cx.field(1, |cx| self.1.trace(cx, flow))
    }

    fn parts(&self, visit: &mut PartVisitor<'_>) -> Result<()> {
        if !VISITS {
            return visit.layer(|cx, input| self.trace(cx, input));
        }
        visit.field(0, &self.0)?;
        visit.field(1, &self.1)
    }
}

#[test]
fn sparsity_visits_each_scale_once_and_needs_no_symbolic_pass() {
    #[derive(Debug, Prunable)]
    struct Net<const VISITS: bool> {
        body: ByHand<VISITS>,
        tied: nn::BatchNorm,
        #[prune(skip)]
        skipped: nn::BatchNorm,
    }

    // The symbolic pass cannot read this body, and need not.
    #[forward]
    impl<const VISITS: bool> ModuleT for Net<VISITS> {
        fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
            xs.roll(1, 1).apply_t(&self.tied, train)
        }
    }

    fn build<const VISITS: bool>(vs: &VarStore) -> Net<VISITS> {
        let p = vs.root();
        let mut tied = bn(&(&p / "tied"), 4);
        let body = bn(&(&p / "body"), 4);
        tied.ws = body.ws.as_ref().map(Tensor::shallow_clone);
        Net {
            body: ByHand(conv(&(&p / "conv"), 3, 4), body),
            tied,
            skipped: bn(&(&p / "skipped"), 4),
        }
    }

    let (net, vs) = built(build::<true>);
    let loss = vs
        .trainable_variables()
        .iter()
        .fold(Tensor::from(0.), |sum, variable| sum + variable.sum(Kind::Double) * 0.);
    loss.backward();
    net.add_l1_subgradient(0.25).unwrap();
    let gradients =
        |norm: &nn::BatchNorm| Vec::<f64>::try_from(norm.ws.as_ref().unwrap().grad()).unwrap();
    assert_eq!(gradients(&net.body.1), [0.25; 4]);
    assert_eq!(gradients(&net.skipped), [0.; 4]);

    let (net, _vs) = built(build::<false>);
    let text = net.add_l1_subgradient(0.25).unwrap_err().to_string();
    assert_eq!(
        text,
        "`body`: it has parts, such as `body.0`, that its hand-written `Prunable` does not visit; implement `Prunable::parts`"
    );
}

#[test]
fn absorption_knows_activations_and_borders() {
    net! { Net {
        conv1: nn::Conv2D = |p| conv(p, 3, 8),
        bn1: nn::BatchNorm = |p| bn(p, 8),
        unpadded: nn::Conv2D = |p| nn::conv2d(p, 8, 8, 3, Default::default()),
        bn2: nn::BatchNorm = |p| bn(p, 8),
        padded: nn::Conv2D = |p| nn::conv2d(p, 8, 6, 3, Default::default()),
        fc: nn::Linear = |p| linear(p, 6, 4),
    } |net, xs, train| {
        let xs = xs.apply(&net.conv1).apply_t(&net.bn1, train).silu();
        let xs = xs.apply(&net.unpadded).apply_t(&net.bn2, train).relu();
        let xs = xs.constant_pad_nd([1, 1, 1, 1]).apply(&net.padded);
        xs.adaptive_avg_pool2d([1, 1]).flatten(1, -1).apply(&net.fc)
    } }
    let (mut net, _vs) = built(Net::new);
    let plan = net.plan(&Slimming::ratio(0.5).local().absorb()).unwrap();
    let slimmed = net.apply(&plan).unwrap();
    let exact: Vec<_> = slimmed
        .absorbed()
        .iter()
        .map(|absorbed| match &absorbed.absorption {
            Absorption::Into { exact, .. } => (absorbed.path.as_str(), Some(*exact)),
            _ => (absorbed.path.as_str(), None),
        })
        .collect();
    // A border that `forward` pads by itself counts, too.
    assert_eq!(exact, [("unpadded", Some(true)), ("padded", Some(false))]);
}

#[test]
fn absorption_leaves_a_mean_over_a_padded_border_alone() {
    net! { Net {
        conv: nn::Conv2D = |p| conv(p, 3, 8),
        bn: nn::BatchNorm = |p| bn(p, 8),
        fc: nn::Linear = |p| linear(p, 8, 4),
    } |net, xs, train| {
        let xs = xs.apply(&net.conv).apply_t(&net.bn, train).silu();
        xs.constant_pad_nd([1, 1, 1, 1]).adaptive_avg_pool2d([1, 1]).flatten(1, -1).apply(&net.fc)
    } }
    let (mut net, _vs) = built(Net::new);
    let slimmed = net.apply(&net.plan(&Slimming::ratio(0.5).absorb()).unwrap()).unwrap();
    let [absorbed] = slimmed.absorbed() else { panic!("{:?}", slimmed.absorbed()) };
    assert!(!matches!(absorbed.absorption, Absorption::Into { .. }), "{absorbed:?}");
}

#[test]
fn a_gate_of_one_channel_produces_what_it_multiplies() {
    net! { Net {
        conv1: nn::Conv2D = |p| conv(p, 3, 8),
        bn1: nn::BatchNorm = |p| bn(p, 8),
        gate: nn::Conv2D = |p| conv(p, 8, 1),
        conv2: nn::Conv2D = |p| conv(p, 8, 4),
    } |net, xs, train| {
        let xs = xs.apply(&net.conv1).apply_t(&net.bn1, train).relu();
        (&xs * xs.apply(&net.gate).sigmoid()).apply(&net.conv2)
    } }
    let (net, _vs) = built(Net::new);
    let dependencies = net.dependencies().unwrap();
    let path = |layer: usize| dependencies.layers[layer].path.as_str();
    let readers = dependencies.edges.iter().filter(|edge| path(edge.to) == "conv2");
    let mut from: Vec<_> = readers.map(|edge| path(edge.from)).collect();
    from.sort_unstable();
    assert_eq!(from, ["bn1", "gate"]);
}

#[test]
fn a_sum_over_a_window_is_no_mean_to_absorption() {
    // tch's default divisor is one.
    net! { Net {
        conv1: nn::Conv2D = |p| conv(p, 3, 8),
        bn1: nn::BatchNorm = |p| bn(p, 8),
        conv2: nn::Conv2D = |p| nn::conv2d(p, 8, 4, 1, Default::default()),
    } |net, xs, train| {
        let xs = xs.apply(&net.conv1).apply_t(&net.bn1, train).silu();
        xs.avg_pool2d_default(2).apply(&net.conv2)
    } }
    let (mut net, _vs) = built(Net::new);
    let plan = net.plan(&Slimming::ratio(0.5).absorb()).unwrap();
    let slimmed = net.apply(&plan).unwrap();
    let exact = |absorbed: &&slim_runtime::Absorbed| {
        matches!(absorbed.absorption, Absorption::Into { exact: true, .. })
    };
    assert_eq!(slimmed.absorbed().iter().filter(exact).count(), 0);
}

#[test]
fn verification_compares_absorption_where_it_is_exact() {
    net! { Net {
        conv1: nn::Conv2D = |p| conv(p, 3, 8),
        bn1: nn::BatchNorm = |p| bn(p, 8),
        conv2: nn::Conv2D = |p| nn::conv2d(p, 8, 4, 1, Default::default()),
    } |net, xs, train| xs.apply(&net.conv1).apply_t(&net.bn1, train).silu().apply(&net.conv2) }
    let (mut net, _vs) = built(Net::new);
    let verified = Slimming::ratio(0.5)
        .absorb()
        .verify(&images(), |net: &Net, xs| net.forward_t(xs, false))
        .slim(&mut net)
        .unwrap();
    assert_eq!(verified.slimmed.absorbed().len(), 1);
    slimmed_is_masked(Net::new, &Slimming::ratio(0.5), &images());
}
