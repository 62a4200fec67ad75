//! Bad input gives a clear error that names the field and the fix, and the model does not change.

use slim_runtime::error::{ArgumentError, PlanError, SelectionError};
use slim_runtime::{Error, Plan, Prunable, Slimming};
use slim_tests::{device, tensor};
use tch::nn::{self, VarStore};
use tch::{Kind, Tensor};

use crate::common::{Net, assert_same, values};

fn net() -> (Net, VarStore) {
    let vs = VarStore::new(device());
    (Net::with_known_scores(&vs.root()), vs)
}

/// Asserts that slimming fails and that every bit of the model is unchanged; returns the error.
fn assert_refused<M: Prunable>(mut model: M, vs: &VarStore, ratio: f64) -> Error {
    let before = values(vs);
    let error = model.slim(ratio).unwrap_err();
    assert_same(&values(vs), &before);
    error
}

#[test]
fn ratios_outside_of_zero_to_one() {
    for ratio in [-0.1, 1., 1.5, 50., f64::NAN, f64::INFINITY] {
        let (net, vs) = net();
        assert!(matches!(
            assert_refused(net, &vs, ratio),
            Error::Argument(ArgumentError::Ratio(_))
        ));
    }
    insta::assert_snapshot!(Error::Argument(ArgumentError::Ratio(50.)), @"ratio 50: the share of channels to remove must be in [0, 1), for instance 0.5 for half of them");
}

#[test]
fn the_ratio_just_below_one_leaves_every_layer_a_channel() {
    let (mut net, _vs) = net();
    let slimmed = net.slim(1. - f64::EPSILON / 2.).unwrap();
    assert_eq!(slimmed.cfg().to_string(), "[1, 1]");
    assert_eq!(slimmed.plan().bounded().map(|(path, _)| path).collect::<Vec<_>>(), ["bn1", "bn2"]);
}

#[test]
fn scores_that_are_not_finite() {
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let (net, vs) = net();
        let _ = tch::no_grad(|| net.bn2.ws.as_ref().unwrap().get(3).fill_(value));
        let error = assert_refused(net, &vs, 0.5);
        assert!(
            matches!(&error, Error::Selection(SelectionError::NonFinite { path, channel: 3, .. }) if path == "bn2"),
            "{error}"
        );
        assert!(
            error
                .to_string()
                .starts_with(&format!("by `bn2.weight`, channel 3 has the score {}", value.abs())),
            "{error}"
        );
    }
}

#[test]
fn widths_that_do_not_fit() {
    let (mut net, vs) = net();
    net.conv2 = nn::conv2d(&vs.root() / "other", 5, 6, 3, Default::default());
    insta::assert_snapshot!(assert_refused(net, &vs, 0.5), @"`conv2` takes 5 channels, but `bn1` gives 8; a field reads the one declared before it, unless `from` says otherwise");

    let (mut net, vs) = self::net();
    net.bn2 = nn::batch_norm2d(&vs.root() / "other", 7, Default::default());
    insta::assert_snapshot!(assert_refused(net, &vs, 0.5), @"`bn2` takes 7 channels, but `conv2` gives 6; a field reads the one declared before it, unless `from` says otherwise");

    let (mut net, vs) = self::net();
    net.fc = nn::linear(&vs.root() / "other", 25, 5, Default::default());
    insta::assert_snapshot!(assert_refused(net, &vs, 0.5), @"`fc` takes 25 features, but `bn2` gives 6; flattened, each channel gives the same number of features");

    let (mut net, vs) = self::net();
    net.conv1 = nn::conv2d(&vs.root() / "other", 1, 8, 3, Default::default());
    insta::assert_snapshot!(assert_refused(net, &vs, 0.5), @"`conv1` takes 1 channel, but the model's input gives 3; a field reads the one declared before it, unless `from` says otherwise");
}

/// Two linear layers with nothing between them that could be flattened.
#[derive(Debug, Prunable)]
#[prune(sequential)]
struct Mlp(nn::Linear, nn::BatchNorm, nn::Linear);

#[test]
fn behind_a_linear_layer_there_is_nothing_to_flatten() {
    let vs = VarStore::new(device());
    let p = &vs.root();
    let mlp = Mlp(
        nn::linear(p / 0, 4, 6, Default::default()),
        nn::batch_norm1d(p / 1, 6, Default::default()),
        nn::linear(p / 2, 12, 2, Default::default()),
    );
    insta::assert_snapshot!(assert_refused(mlp, &vs, 0.5), @"`2` takes 12 features, but `1` gives 6; each channel is one value here, so there is nothing to flatten (if it was expanded, say `flatten(a, positions)`)");
}

#[test]
fn a_depthwise_convolution_of_tchs() {
    let config = nn::ConvConfig { groups: 8, ..Default::default() };
    let depthwise = "is a depthwise convolution, and tch keeps its number of groups to itself; build it with the function of the same name in `slim_runtime::nn`, such as `conv2d` (same signature), whose groups follow the weight";
    let (mut net, vs) = net();
    net.conv2 = nn::conv2d(&vs.root() / "other", 8, 8, 3, config);
    assert_eq!(assert_refused(net, &vs, 0.5).to_string(), format!("`conv2` {depthwise}"));

    // As the first layer, where nothing else states the width of the input.
    let vs = VarStore::new(device());
    let p = &vs.root();
    let first = (
        nn::conv2d(p / 0, 3, 6, 1, nn::ConvConfig { groups: 3, ..Default::default() }),
        nn::batch_norm2d(p / 1, 6, Default::default()),
    );
    assert_eq!(assert_refused(first, &vs, 0.5).to_string(), format!("`0` {depthwise}"));
}

#[test]
fn layers_that_cannot_be() {
    use slim_runtime::nn::{channel_select, split};
    let vs = VarStore::new(device());
    let negative = (
        nn::conv2d(vs.root() / 0, 3, 6, 1, Default::default()),
        nn::batch_norm2d(vs.root() / 1, 6, Default::default()),
        split([8, -2]),
    );
    insta::assert_snapshot!(assert_refused(negative, &vs, 0.5), @"`2`: a part has a negative size: [8, -2]");
    insta::assert_snapshot!(channel_select(4).with_kept([0, 4]).unwrap_err(), @"`channel select`: there is no channel 4 in a stream of 4");
    let swapped = channel_select(2).with_kept([1, 0]).unwrap();
    let stream = tensor(&[10_f32, 20.]).view([1, 2]);
    assert!(stream.apply(&swapped).equal(&stream.flip([1])));
}

#[test]
fn scales_that_are_all_equal() {
    let (net, vs) = net();
    crate::common::set(&net.bn1, &[0.5; 8]);
    crate::common::set(&net.bn2, &[-0.5; 6]);
    net.plan(&Slimming::ratio(0.)).unwrap();
    let error = assert_refused(net, &vs, 0.5);
    insta::assert_snapshot!(error, @"every |γ| that could go is 0.5, so nothing tells the channels apart and the rule would remove all of them; train first, with `add_l1_subgradient` between `backward` and `step`");
    // A program whose `main` returns the error prints its `Debug` form.
    assert_eq!(format!("{error:?}"), error.to_string());
}

/// A concatenation of channels with different numbers of positions, flattened without `flatten`.
#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(input = 3, output = fc)]
struct Unlike {
    conv: nn::Conv2D,
    bn: nn::BatchNorm,
    hidden: nn::Linear,
    #[prune(from = [bn, hidden])]
    fc: nn::Linear,
}

#[test]
fn unlike_positions_are_not_flattened_by_guessing() {
    let vs = VarStore::new(device());
    let p = &vs.root();
    let net = Unlike {
        conv: nn::conv2d(p / "conv", 3, 8, 1, Default::default()),
        bn: nn::batch_norm2d(p / "bn", 8, Default::default()),
        hidden: nn::linear(p / "hidden", 32, 16, Default::default()),
        fc: nn::linear(p / "fc", 48, 2, Default::default()),
    };
    insta::assert_snapshot!(assert_refused(net, &vs, 0.5), @"`fc` takes 48 features, but `model` gives 24; its parts may have unlike positions, so say what is flattened, `flatten(a, positions)`, before or after they are concatenated");
}

#[test]
fn tensors_that_overlap_themselves_are_not_written_half() {
    let (mut net, vs) = net();
    net.bn2.bs = Some(Tensor::zeros([1], (Kind::Float, device())).expand([6], false));
    let plan = net.plan(&Slimming::ratio(0.25)).unwrap();
    net.mask(&plan).unwrap();
    assert_eq!(net.bn2.bs.as_ref().unwrap().size(), [6]);
    assert!(values(&vs)["bn1.weight"].get(0).double_value(&[]) == 0.);
}

#[test]
fn memory_that_is_laid_out_in_two_ways() {
    let (mut net, mut vs) = net();
    let p = vs.root();
    net.fc = nn::linear(&p / "square", 24, 24, Default::default());
    let mut tied = (
        net,
        nn::batch_norm1d(&p / "bn", 24, Default::default()),
        nn::linear(&p / "twin", 24, 24, Default::default()),
    );
    drop(p);
    vs.freeze();
    tied.2.ws = tied.0.fc.ws.tr();
    insta::assert_snapshot!(assert_refused(tied, &vs, 0.5), @"`2.weight` shares the memory of `0.fc.weight` but is another tensor (a `detach` or a view), so only one of the two would be slimmed; share it with `shallow_clone`");
}

#[test]
fn libtorchs_words_come_without_its_backtrace() {
    let (mut net, vs) = net();
    net.conv1.bs = Some(Tensor::new());
    let error = assert_refused(net, &vs, 0.5).to_string();
    assert!(error.contains("conv1.bias") && !error.contains("Exception raised from"), "{error}");
}

#[test]
fn a_width_that_the_groups_do_not_fit() {
    let (mut net, vs) = net();
    net.conv2 = nn::conv2d(
        &vs.root() / "other",
        8,
        6,
        3,
        nn::ConvConfig { groups: 2, ..Default::default() },
    );
    net.slim(0.5).unwrap();

    let (mut net, vs) = self::net();
    net.conv2 = nn::conv2d(
        &vs.root() / "other",
        16,
        6,
        3,
        nn::ConvConfig { groups: 2, ..Default::default() },
    );
    insta::assert_snapshot!(assert_refused(net, &vs, 0.5), @"`conv2` takes 16 channels, but `bn1` gives 8; a field reads the one declared before it, unless `from` says otherwise");
}

#[test]
fn a_model_with_nothing_to_prune() {
    let vs = VarStore::new(device());
    let conv = nn::conv2d(vs.root() / "conv", 3, 4, 1, Default::default());
    insta::assert_snapshot!(assert_refused(conv, &vs, 0.5), @"nothing to prune: the data flow has no batch norm with a scale (γ) to rank channels by; put one behind a convolution, check that its field is not marked `#[prune(skip)]`, or rank by weights: `Slimming::ratio(0.5).criterion(criterion::L2)`");

    let affine = nn::BatchNormConfig { affine: false, ..Default::default() };
    let plain = (
        nn::conv2d(vs.root() / "a", 3, 4, 1, Default::default()),
        nn::batch_norm2d(vs.root() / "b", 4, affine),
    );
    assert!(matches!(
        assert_refused(plain, &vs, 0.),
        Error::Selection(SelectionError::NothingToPrune { .. })
    ));

    let output = (
        nn::conv2d(vs.root() / "c", 3, 4, 1, Default::default()),
        nn::batch_norm2d(vs.root() / "d", 4, Default::default()),
    );
    insta::assert_snapshot!(assert_refused(output, &vs, 0.5), @"nothing to prune: every channel that is ranked must stay, the first of them for this reason: model output");

    assert!(matches!(
        assert_refused((), &vs, 0.5),
        Error::Selection(SelectionError::NothingToPrune { .. })
    ));
}

#[test]
fn a_tensor_that_is_computed() {
    let (mut net, vs) = net();
    net.conv1.ws = &net.conv1.ws * 2.;
    insta::assert_snapshot!(assert_refused(net, &vs, 0.5), @"`conv1.weight` is computed from another tensor, so slimming it would not reach the variable in the store; keep the variable itself in the field");
}

#[test]
fn shapes_that_no_layer_has() {
    let (mut net, vs) = net();
    net.conv1.bs = Some(Tensor::zeros([3], (Kind::Float, device())));
    insta::assert_snapshot!(assert_refused(net, &vs, 0.5), @"`conv1.bias` has shape [3], which must have 8 in dimension 0");

    let (mut net, vs) = self::net();
    net.fc.ws = Tensor::zeros([24], (Kind::Float, device()));
    insta::assert_snapshot!(assert_refused(net, &vs, 0.5), @"`fc.weight` has shape [24], which has not the two dimensions [out, in]");

    let (mut net, vs) = self::net();
    net.bn1.running_mean = Tensor::zeros([2, 4], (Kind::Float, device()));
    insta::assert_snapshot!(assert_refused(net, &vs, 0.5), @"`bn1.running_mean` has shape [2, 4], which is not [8], one value per channel");
}

/// A plan of the small network, after `edit` of its JSON.
fn edited(edit: impl Fn(&mut serde_json::Value)) -> slim_runtime::Result<Plan> {
    let mut json = serde_json::to_value(net().0.plan(&Slimming::ratio(0.25)).unwrap()).unwrap();
    edit(&mut json);
    Plan::from_json(&json.to_string())
}

fn assert_plan_refused(plan: &Plan) -> Error {
    let (mut net, vs) = net();
    let before = values(&vs);
    let error = net.apply(plan).unwrap_err();
    assert_same(&values(&vs), &before);
    let mask = net.mask(plan).unwrap_err();
    assert_eq!(mask.to_string(), error.to_string());
    assert_same(&values(&vs), &before);
    error
}

#[test]
fn plans_of_another_network() {
    let vs = VarStore::new(device());
    let mut other = Net::new(&vs.root());
    let wide = other.slim(0.3).unwrap().plan().clone();
    let narrow = other.plan(&Slimming::ratio(0.3)).unwrap();
    assert!(matches!(assert_plan_refused(&narrow), Error::Plan(PlanError::Mismatch { .. })));
    assert!(matches!(other.apply(&wide), Err(Error::Plan(PlanError::Mismatch { .. }))));

    let renamed = edited(|json| json["layers"][2]["path"] = "conv3".into()).unwrap();
    insta::assert_snapshot!(assert_plan_refused(&renamed), @"the plan does not fit this model: the model has `conv2` (conv) where the plan has `conv3` (conv)");
    let short = edited(|json| drop(json["layers"].as_array_mut().unwrap().pop())).unwrap();
    insta::assert_snapshot!(assert_plan_refused(&short), @"the plan does not fit this model: the model has 5 layers, the plan 4");
    let tensor = edited(|json| json["layers"][0]["tensors"][1]["name"] = "offset".into()).unwrap();
    insta::assert_snapshot!(assert_plan_refused(&tensor), @"the plan does not fit this model: `conv1` has the tensors weight, bias in the model, weight, offset in the plan");
    let tied =
        edited(|json| json["layers"][4]["tensors"][0]["tied"] = "conv1.weight".into()).unwrap();
    insta::assert_snapshot!(assert_plan_refused(&tied), @"the plan does not fit this model: `fc.weight` is shared in one of them and not in the other");
}

#[test]
fn plans_that_contradict_themselves() {
    let torn = edited(|json| json["layers"][1]["axes"][0]["keep"] = "0-3".into()).unwrap();
    insta::assert_snapshot!(assert_plan_refused(&torn), @"the plan cannot be used: `bn1` keeps a channel that `conv1` removes (position 0 of `channels` in `bn1`)");
    let empty = edited(|json| json["layers"][0]["axes"][1]["keep"] = "".into()).unwrap();
    insta::assert_snapshot!(assert_plan_refused(&empty), @"the plan cannot be used: it leaves `conv1` no channel of `out`, and the layer needs 1");
    let input = edited(|json| json["layers"][0]["axes"][0]["keep"] = "0-1".into()).unwrap();
    insta::assert_snapshot!(assert_plan_refused(&input), @"the plan cannot be used: it removes position 2 of `in` in `conv1`, which must stay: model input");
}

#[test]
fn plan_files_that_cannot_be() {
    let refused = |edit: &dyn Fn(&mut serde_json::Value)| {
        let error = edited(edit).unwrap_err().to_string();
        let (_, reason) = error.split_once("cannot be used: ").unwrap();
        reason.split(" at line").next().unwrap().to_owned()
    };
    insta::assert_snapshot!(refused(&|json| json["format"] = 1.into()), @"this is a plan of format 1, but only formats 2 to 5 can be read");
    insta::assert_snapshot!(refused(&|json| json["slimming"]["target"]["ratio"] = 2.into()), @"ratio 2: the share of channels to remove must be in [0, 1), for instance 0.5 for half of them");
    insta::assert_snapshot!(refused(&|json| json["layers"][0]["axes"][1]["keep"] = "0-8".into()), @"layer `conv1`: axis `out` keeps position 8 of 8");
    insta::assert_snapshot!(refused(&|json| json["layers"][0]["axes"][1]["keep"] = "3-1".into()), @"`3-1` is out of order: positions ascend");
    insta::assert_snapshot!(refused(&|json| json["layers"][0]["axes"][1]["name"] = "in".into()), @"layer `conv1`: it has the axis `in` twice");
    insta::assert_snapshot!(refused(&|json| json["layers"][0]["tensors"][0]["dims"][0] = "oot".into()), @"layer `conv1`: it has no axis `oot`");
    insta::assert_snapshot!(refused(&|json| json["layers"][0]["tensors"][0]["dims"][3] = (-3).into()), @"layer `conv1`: `weight` has a dimension of -3");
    insta::assert_snapshot!(refused(&|json| json["layers"][0]["tensors"][0]["dims"][3] = i64::MAX.into()), @"layer `conv1`: `weight` has more elements than any tensor");
    insta::assert_snapshot!(refused(&|json| json["layers"][1]["scored"]["axis"] = "out".into()), @"layer `bn1`: it has no axis `out`");
    insta::assert_snapshot!(refused(&|json| json["layers"][1]["scored"]["removable"] = 9.into()), @"layer `bn1`: 9 of 8 channels are removable, which cannot be");
    insta::assert_snapshot!(refused(&|json| json["layers"][1]["scored"]["removable"] = 3.into()), @"layer `bn1`: 3 of 8 channels are removable, which cannot be");
    insta::assert_snapshot!(refused(&|json| json["layers"][0]["axes"][0]["width"] = i64::MAX.into()), @"layer `conv1`: axis `in` has more channels than any network");
}
