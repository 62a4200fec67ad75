//! Scores of each criterion, compared with values that are computed by hand.

use slim_runtime::criterion::{
    Candidate, Criterion, Fisher, Fpgm, GateTaylor, L1, L2, Lamp, Masking, Normalisation, Random,
    Taylor,
};
use slim_runtime::error::SelectionError;
use slim_runtime::{
    Coupling, Error, Flow, LayerKind, LayerVisitor, Plan, Prunable, Slimming, Tracer, nn as own,
};
use slim_tests::device;
use tch::nn::{self, Module, VarStore};
use tch::{Kind, Tensor};

/// A network without batch norms: layers with activations between them.
#[derive(Debug, Prunable)]
#[prune(sequential)]
struct Plain {
    conv1: own::Conv2D,
    conv2: own::ConvTranspose2D,
    fc1: nn::Linear,
    fc2: nn::Linear,
}

impl Plain {
    fn new(p: &nn::Path) -> Self {
        Plain {
            conv1: own::conv2d(p / "conv1", 3, 6, 3, Default::default()),
            conv2: own::conv_transpose2d(p / "conv2", 6, 8, 2, Default::default()),
            fc1: nn::linear(p / "fc1", 8, 5, Default::default()),
            fc2: nn::linear(p / "fc2", 5, 2, Default::default()),
        }
    }
}

impl Module for Plain {
    fn forward(&self, xs: &Tensor) -> Tensor {
        let xs = xs.apply(&self.conv1).relu().apply(&self.conv2).relu();
        xs.mean_dim([2_i64, 3].as_slice(), false, Kind::Float)
            .apply(&self.fc1)
            .tanh()
            .apply(&self.fc2)
    }
}

fn plain() -> (Plain, VarStore) {
    let vs = VarStore::new(device());
    let net = Plain::new(&vs.root());
    // Libtorch's generator is shared with tests in other threads, so it is not used.
    slim_tests::fill::fill(&vs);
    (net, vs)
}

/// The values of each output channel's filter. `dim` is the output dimension of the weight.
fn filters(weight: &Tensor, dim: i64) -> Vec<Vec<f64>> {
    (0..weight.size()[dim as usize])
        .map(|i| {
            Vec::try_from(weight.detach().select(dim, i).flatten(0, -1).to_kind(Kind::Double))
                .unwrap()
        })
        .collect()
}

/// The layers whose channels can be removed: their names and scores.
fn all_scores(
    net: &Plain,
    score: impl Fn(&[Vec<f64>], usize) -> f64,
) -> Vec<(&'static str, Vec<f64>)> {
    // `fc2` is not among them: the output's channels stay.
    let layers =
        [("conv1", &net.conv1.ws, 0), ("conv2", &net.conv2.ws, 1), ("fc1", &net.fc1.ws, 0)];
    let scores = layers.map(|(name, weight, dim)| {
        let filters = filters(weight, dim);
        (name, (0..filters.len()).map(|i| score(&filters, i)).collect())
    });
    scores.into()
}

fn assert_scored(net: &Plain, criterion: impl Criterion + 'static, expected: &[(&str, Vec<f64>)]) {
    let slimming = Slimming::ratio(0.5).criterion(criterion);
    for (path, expected) in expected {
        let explained = net.explain(&slimming, path).unwrap();
        let found: Vec<f64> =
            explained.channels.iter().map(|channel| channel.score.unwrap()).collect();
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (found - expected).abs() <= 1e-12 * expected.abs(),
                "{path}: {found} and not {expected}"
            );
        }
    }
}

#[test]
fn norms_of_filters() {
    let (net, _vs) = plain();
    assert_scored(
        &net,
        L1,
        &all_scores(&net, |filters, i| filters[i].iter().map(|w| w.abs()).sum()),
    );
    assert_scored(
        &net,
        L2,
        &all_scores(&net, |filters, i| filters[i].iter().map(|w| w * w).sum::<f64>().sqrt()),
    );
}

#[test]
fn distances_between_filters() {
    let (net, _vs) = plain();
    let distance =
        |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt();
    assert_scored(
        &net,
        Fpgm,
        &all_scores(&net, |filters, i| {
            filters.iter().map(|other| distance(&filters[i], other)).sum()
        }),
    );
}

#[test]
fn taylor_is_what_the_loss_does_to_first_order() {
    let (net, _vs) = plain();
    let loss = || {
        net.forward(&Tensor::ones([2, 3, 5, 5], (Kind::Float, device()))).square().sum(Kind::Float)
    };
    loss().backward();
    let gradients = [net.conv1.ws.grad(), net.conv2.ws.grad(), net.fc1.ws.grad()];
    let weights = [&net.conv1.ws, &net.conv2.ws, &net.fc1.ws];
    let expected = ["conv1", "conv2", "fc1"].iter().zip(weights).zip(&gradients).map(
        |((name, weight), gradient)| {
            let dim = i64::from(*name == "conv2");
            let pairs = filters(weight, dim).into_iter().zip(filters(gradient, dim));
            (
                *name,
                pairs
                    .map(|(w, g)| w.iter().zip(&g).map(|(w, g)| w * g).sum::<f64>().powi(2))
                    .collect(),
            )
        },
    );
    assert_scored(&net, Taylor, &expected.collect::<Vec<_>>());

    // The loss changes as the first-order expansion says when a filter is scaled down a little.
    let channels = net.explain(&Slimming::ratio(0.5).criterion(Taylor), "conv1").unwrap().channels;
    // A filter with an effect on the loss: behind a ReLU some have none.
    let channel =
        channels.iter().max_by(|a, b| a.score.unwrap().total_cmp(&b.score.unwrap())).unwrap();
    let scored = channel.score.unwrap();
    assert!(scored > 0.);
    let before = loss().double_value(&[]);
    let _no_grad = tch::no_grad_guard();
    let _ = net.conv1.ws.get(channel.position as i64).g_mul_scalar_(1. - 1e-3);
    let change = (loss().double_value(&[]) - before) / 1e-3;
    assert!((change.powi(2) - scored).abs() < 0.05 * scored, "{} and not {scored}", change.powi(2));
}

#[test]
fn lamp_divides_by_the_filters_that_are_not_smaller() {
    let (net, _vs) = plain();
    // Two filters of the same norm.
    tch::no_grad(|| net.fc1.ws.get(3).copy_(&-net.fc1.ws.get(1)));
    let square = |filter: &[f64]| filter.iter().map(|w| w * w).sum::<f64>();
    let expected = all_scores(&net, |filters, i| {
        let own = square(&filters[i]);
        let at_least: f64 = filters.iter().map(|other| square(other)).filter(|s| *s >= own).sum();
        own / at_least
    });
    assert_scored(&net, Lamp, &expected);
    let largest = |scores: &[f64]| scores.iter().copied().fold(0., f64::max);
    assert!(expected.iter().all(|(_, scores)| (largest(scores) - 1.).abs() < 1e-12));

    // Filters of zeros have the score 0.
    let _ = tch::no_grad(|| net.fc1.ws.shallow_clone().zero_());
    assert_scored(&net, Lamp, &[("fc1", vec![0.; 5])]);
}

#[test]
fn fisher_is_the_saliency_of_optimal_brain_damage() {
    let (net, _vs) = plain();
    let images = Tensor::ones([2, 3, 5, 5], (Kind::Float, device()));
    net.forward(&images).square().sum(Kind::Float).backward();
    let expected =
        [("conv1", &net.conv1.ws, 0), ("conv2", &net.conv2.ws, 1), ("fc1", &net.fc1.ws, 0)];
    let expected = expected.map(|(name, weight, dim)| {
        let pairs = filters(weight, dim).into_iter().zip(filters(&weight.grad(), dim));
        let saliency = |(w, g): (Vec<f64>, Vec<f64>)| {
            w.iter().zip(&g).map(|(w, g)| (w * g).powi(2)).sum::<f64>() / 2.
        };
        (name, pairs.map(saliency).collect())
    });
    assert_scored(&net, Fisher, &expected);
}

#[test]
fn a_gate_changes_the_loss_as_its_score_says() {
    let vs = VarStore::new(device());
    let p = &vs.root();
    let net = Normed {
        conv: own::conv2d(p / "conv", 3, 6, 3, Default::default()),
        bn: own::batch_norm2d(p / "bn", 6, Default::default()),
        fc: nn::linear(p / "fc", 6, 2, Default::default()),
    };
    slim_tests::fill::fill(&vs);
    let images = slim_tests::fill::images(&[4, 3, 5, 5]).to_device(device());
    let loss = |gates: Option<&Tensor>| {
        let xs = images.apply(&net.conv).apply_t(&net.bn, false);
        let xs = gates.map_or_else(|| xs.shallow_clone(), |gates| &xs * gates.view([1, -1, 1, 1]));
        let xs = xs.relu().mean_dim([2_i64, 3].as_slice(), false, Kind::Float);
        xs.apply(&net.fc).square().sum(Kind::Float)
    };
    loss(None).backward();
    // The gates themselves, as autograd differentiates by them.
    let gates = Tensor::ones([6], (Kind::Float, device())).set_requires_grad(true);
    let derivative = Tensor::run_backward(&[loss(Some(&gates))], &[&gates], false, false);
    let derivative: Vec<f64> = Vec::try_from(derivative[0].to_kind(Kind::Double)).unwrap();
    let slimming = Slimming::ratio(0.5).criterion(GateTaylor);
    let found = net.explain(&slimming, "bn").unwrap().channels;
    for (channel, derivative) in found.iter().zip(derivative) {
        let (score, expected) = (channel.score.unwrap(), derivative.powi(2));
        assert!((score - expected).abs() <= 1e-4 * expected.abs() + 1e-9, "{score}, {expected}");
    }
    assert!(found.iter().any(|channel| channel.score.unwrap() > 1e-6));

    let by_file = serde_json::to_string(&net.plan(&slimming).unwrap()).unwrap();
    let read: Plan = serde_json::from_str(&by_file).unwrap();
    assert_eq!(read.slimming().criterion.name(), "gate_taylor");
}

/// A network with a batch norm.
#[derive(Debug, Prunable)]
#[prune(sequential)]
struct Normed {
    conv: own::Conv2D,
    bn: own::BatchNorm,
    fc: nn::Linear,
}

#[test]
fn taylor_without_gradients_says_so() {
    let (net, _vs) = plain();
    let error = net.plan(&Slimming::ratio(0.5).criterion(Taylor)).unwrap_err();
    insta::assert_snapshot!(error, @"nothing to prune: the criterion `taylor` scores no layer of the data flow; it reads gradients, so call `backward` on a loss before planning");
}

#[test]
fn random_is_the_same_for_the_same_seed() {
    let (net, _vs) = plain();
    let plan = |seed| net.plan(&Slimming::ratio(0.5).criterion(Random { seed })).unwrap();
    assert_eq!(plan(7), plan(7));
    let kept = |plan: Plan| {
        plan.layers()
            .iter()
            .map(|layer| layer.axis("out").unwrap().keep.to_string())
            .collect::<Vec<_>>()
    };
    assert_ne!(kept(plan(7)), kept(plan(8)));
}

#[test]
fn a_network_without_batch_norms_is_slimmed_by_its_weights() {
    let (mut net, vs) = plain();
    assert!(matches!(
        net.plan(&Slimming::ratio(0.5)),
        Err(Error::Selection(SelectionError::NothingToPrune { .. }))
    ));
    let plan = net.plan(&Slimming::ratio(0.5).criterion(L2)).unwrap();
    insta::assert_snapshot!(plan);

    let images = Tensor::randn([2, 3, 5, 5], (Kind::Float, device()));
    let (mut masked, mut masked_vs) = plain();
    masked_vs.copy(&vs).unwrap();
    masked.mask(&plan).unwrap();
    net.apply(&plan).unwrap();
    slim_tests::check::assert_close(
        &net.forward(&images),
        &masked.forward(&images),
        slim_tests::check::rounding(&vs),
    );
}

#[test]
fn normalised_scores_are_of_their_layer() {
    let (net, _vs) = plain();
    let l2 = all_scores(&net, |filters, i| filters[i].iter().map(|w| w * w).sum::<f64>().sqrt());
    for normalisation in [Normalisation::Max, Normalisation::Mean, Normalisation::L2] {
        let slimming = Slimming::ratio(0.5).criterion(L2).normalisation(normalisation);
        for (path, scores) in &l2 {
            let by = match normalisation {
                Normalisation::Max => scores.iter().copied().fold(0., f64::max),
                Normalisation::Mean => scores.iter().sum::<f64>() / scores.len() as f64,
                _ => scores.iter().map(|score| score * score).sum::<f64>().sqrt(),
            };
            let found = net.scores(&slimming).unwrap();
            let found = &found.iter().find(|layer| layer.path == *path).unwrap().scores;
            assert_eq!(found.len(), scores.len());
            for ((channel, score), alone) in
                net.explain(&slimming, path).unwrap().channels.iter().zip(scores).zip(found)
            {
                assert!((channel.score.unwrap() - score / by).abs() < 1e-12);
                assert_eq!(channel.score.unwrap(), *alone);
            }
        }
    }
}

/// A residual sum of two convolutions.
#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(output = head)]
struct Sum {
    a: own::Conv2D,
    #[prune(from = input)]
    b: own::Conv2D,
    #[prune(from = a + b)]
    head: own::Conv2D,
}

#[test]
fn coupled_scores_become_one() {
    let vs = VarStore::new(device());
    let p = &vs.root();
    let conv =
        |name: &str, inputs, outputs| own::conv2d(p / name, inputs, outputs, 1, Default::default());
    let net = Sum { a: conv("a", 3, 4), b: conv("b", 3, 4), head: conv("head", 4, 2) };
    let l1 = |weight: &Tensor| {
        filters(weight, 0).iter().map(|w| w.iter().map(|w| w.abs()).sum()).collect::<Vec<f64>>()
    };
    let (a, b) = (l1(&net.a.ws), l1(&net.b.ws));
    for (coupling, join) in [
        (Coupling::Max, f64::max as fn(f64, f64) -> f64),
        (Coupling::Mean, |a, b| (a + b) / 2.),
        (Coupling::Sum, |a, b| a + b),
    ] {
        let slimming = Slimming::ratio(0.5).criterion(L1).coupling(coupling);
        // The scores of each layer alone do not depend on the coupling.
        for (layer, alone) in net.scores(&slimming).unwrap().iter().zip([&a, &b]) {
            assert!(
                layer.scores.iter().zip(alone).all(|(score, alone)| (score - alone).abs() < 1e-12),
                "{}",
                layer.path
            );
        }
        let explained = net.explain(&slimming, "b").unwrap();
        for (channel, (&a, &b)) in explained.channels.iter().zip(a.iter().zip(&b)) {
            assert!((channel.score.unwrap() - join(a, b)).abs() < 1e-12);
            assert_eq!(channel.together, [format!("a[{}]", channel.position)]);
        }
    }
}

/// A layer without parameters, whose output is ones.
#[derive(Debug)]
struct Ones(i64);

impl Prunable for Ones {
    fn trace(&self, cx: &mut Tracer, _: Flow) -> slim_runtime::Result<Flow> {
        let mut layer = cx.layer(LayerKind::other("ones"));
        let made = layer.write("out", self.0)?;
        layer.size("channels", made)?;
        layer.pass(made)
    }

    fn layers_mut(&mut self, visit: &mut LayerVisitor) -> slim_runtime::Result<()> {
        visit.size("channels", &mut self.0)
    }
}

#[derive(Debug, Prunable)]
#[prune(sequential)]
struct Lifted {
    conv: own::Conv2D,
    #[prune(from = input)]
    ones: Ones,
    #[prune(from = conv + ones)]
    head: own::Conv2D,
}

#[test]
fn what_has_no_parameters_is_not_zero_when_they_are() {
    let vs = VarStore::new(device());
    let p = &vs.root();
    let conv =
        |name: &str, inputs, outputs| own::conv2d(p / name, inputs, outputs, 1, Default::default());
    let net = Lifted { conv: conv("conv", 3, 4), ones: Ones(4), head: conv("head", 4, 2) };
    let error = net.plan(&Slimming::ratio(0.5).criterion(L2)).unwrap_err();
    assert!(error.to_string().contains("`head` reads them"), "{error}");
}

#[test]
fn a_cfg_builds_what_was_slimmed_by_weights() {
    let vs = VarStore::new(device());
    let mut net = crate::common::Net::new(&vs.root());
    let slimmed = net.apply(&net.plan(&Slimming::ratio(0.5).criterion(L2)).unwrap()).unwrap();
    let vs = VarStore::new(device());
    let again = slimmed.cfg().narrowed(crate::common::Net::new(&vs.root())).unwrap();
    assert_eq!(again.conv2.ws.size(), net.conv2.ws.size());
}

#[test]
fn a_file_that_names_a_criterion_means_its_masking() {
    let slimming: Slimming =
        serde_json::from_str(r#"{"target": {"ratio": 0.5}, "criterion": "l2"}"#).unwrap();
    let (net, _vs) = plain();
    assert_eq!(
        net.plan(&slimming).unwrap(),
        net.plan(&Slimming::ratio(0.5).criterion(L2)).unwrap()
    );
}

/// A user's own criterion, which can read all tensors of a layer.
#[derive(Debug)]
struct Bias;

impl Criterion for Bias {
    fn name(&self) -> String {
        "bias".to_owned()
    }

    fn scores(&self, layer: &Candidate<'_>) -> slim_runtime::Result<Option<Tensor>> {
        assert!(layer.scale().is_none() && *layer.kind() != LayerKind::BatchNorm);
        assert_eq!(
            layer.filters()?.map(|filters| filters.size()[0]),
            Some(layer.channels() as i64)
        );
        Ok(layer.tensor("bias").map(Tensor::abs))
    }
}

#[test]
fn a_criterion_of_ones_own() {
    let (net, _vs) = plain();
    let slimming = Slimming::ratio(0.5).criterion(Bias);
    let plan = net.plan(&slimming).unwrap();
    assert_eq!(plan.slimming().masking, Some(Masking::Parameters));
    let explained = net.explain(&slimming, "fc1").unwrap();
    let biases: Vec<f64> =
        Vec::try_from(net.fc1.bs.as_ref().unwrap().detach().abs().to_kind(Kind::Double)).unwrap();
    assert_eq!(
        explained.channels.iter().map(|channel| channel.score.unwrap()).collect::<Vec<_>>(),
        biases
    );

    // A file has only the criterion's name, which is enough to apply the plan.
    let read = Plan::from_json(&plan.to_json().unwrap()).unwrap();
    assert_eq!(read, plan);
    let (mut replica, _replica_vs) = plain();
    replica.apply(&read).unwrap();
    let error = plain().0.plan(read.slimming()).unwrap_err();
    insta::assert_snapshot!(error, @"the criterion `bias` is not one of this crate's, and only its name is in the file; give it again with `Slimming::criterion`");
}

/// A criterion whose scores have the wrong shape.
#[derive(Debug)]
struct Scalar;

impl Criterion for Scalar {
    fn name(&self) -> String {
        "scalar".to_owned()
    }

    fn scores(&self, _: &Candidate<'_>) -> slim_runtime::Result<Option<Tensor>> {
        Ok(Some(Tensor::from(1.)))
    }
}

#[test]
fn scores_of_another_shape_are_refused() {
    let error = plain().0.plan(&Slimming::ratio(0.5).criterion(Scalar)).unwrap_err();
    insta::assert_snapshot!(error, @"the criterion `scalar` gives `conv1` scores of shape [], not one for each of its 6 channels");
}

#[test]
fn a_filter_that_is_not_finite_is_named() {
    let (net, _vs) = plain();
    let _no_grad = tch::no_grad_guard();
    let _ = net.fc1.ws.get(3).fill_(f64::NAN);
    let error = net.plan(&Slimming::ratio(0.5).criterion(L1)).unwrap_err();
    insta::assert_snapshot!(error, @"by `fc1.weight`, channel 3 has the score NaN: scores must be finite; where the weights are not, the training has diverged: load an earlier checkpoint or lower the learning rate");
}
