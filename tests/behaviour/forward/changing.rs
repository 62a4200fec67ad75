//! Forward passes that compute something else on the slimmed network: slimming is undone, or the
//! channels stay.

use slim_runtime::{Error, Prunable, Slimming, checkpoint, criterion, functional};
use tch::nn;
use tch::{Device, Kind, Tensor};

use super::{bn, built, conv, images, left, linear, net, refusal, slimmed_is_masked};

/// Doubles on the CPU.
const DOUBLES: (Kind, Device) = (Kind::Double, Device::Cpu);

/// A network of conv1, bn1, the given body, and a consumer of eight channels.
macro_rules! between {
    ($net:ident, $xs:ident, $train:ident, $body:expr) => {
        net! { Net {
            conv1: nn::Conv2D = |p| conv(p, 3, 8),
            bn1: nn::BatchNorm = |p| bn(p, 8),
            one: nn::Conv2D = |p| conv(p, 8, 1),
            conv2: nn::Conv2D = |p| conv(p, 8, 4),
        } |$net, xs, $train| {
            let $xs = xs.apply(&$net.conv1).apply_t(&$net.bn1, $train).relu();
            // Reads `one` in every network, since only some bodies do.
            let _ = $xs.apply(&$net.one);
            let ys: Tensor = $body;
            ys.apply(&$net.conv2)
        } }
    };
}

/// Asserts that slimming is undone, and that the error names the place.
macro_rules! undone {
    ($($test:ident |$net:ident, $xs:ident| $body:expr;)+) => {$(
        #[test]
        fn $test() {
            between! { $net, $xs, train, $body }
            let (mut net, vs) = built(Net::new);
            let before: Vec<_> = vs.trainable_variables().iter().map(Tensor::copy).collect();
            let error = net.slim(0.5).unwrap_err();
            assert!(matches!(error, Error::Undone { .. }), "{error}");
            let text = error.to_string();
            assert!(text.contains("tests/behaviour/forward/changing.rs:"), "{text}");
            assert!(vs.trainable_variables().iter().zip(&before).all(|(a, b)| a.equal(b)));
        }
    )+};
}

undone! {
    a_tensor_of_a_width |net, xs| { let c = xs.size()[1]; &xs / Tensor::from((c as f64).sqrt()) };
    a_list_of_a_width |net, xs| { let c = xs.size()[1] as f64; &xs * Tensor::from_slice(&[1. / c]) };
    a_filled_tensor_of_a_width |net, xs| { let c = xs.size()[1] as f64; &xs * Tensor::full([1], 1. / c, DOUBLES) };
    a_tensor_like_it_of_a_width |net, xs| { let c = xs.size()[1] as f64; &xs * xs.full_like(1. / c) };
    a_function_of_a_width |net, xs| { let c = xs.size()[1] as f64; functional::map(&xs, move |xs| xs / c) };
    a_tensor_of_a_weights_width |net, xs| { let c = net.conv1.ws.size()[0]; &xs * Tensor::from(1. / c as f64) };
    a_cut_by_a_width |net, xs| { let c = net.conv1.ws.size()[0]; xs.narrow(2, 0, c) };
    a_pool_by_a_width |net, xs| { let c = net.conv1.ws.size()[0]; xs.adaptive_avg_pool2d([c, c]) };
    copies_by_a_width |net, xs| { let c = net.conv1.ws.size()[0]; xs.unsqueeze(-1).repeat([1, 1, 1, 1, c]).sum_dim_intlist(-1, false, Kind::Double) };
    a_sum_of_ones |net, xs| { let c = xs.size()[1]; &xs * Tensor::ones([c], DOUBLES).sum(Kind::Double) };
    a_replacement_of_a_width |net, xs| { let c = xs.size()[1] as f64; xs.nan_to_num(0., c, -c) };
    a_mean_of_statistics |net, xs| &xs / net.bn1.running_var.mean(Kind::Double);
    a_cut_from_a_width |net, xs| { let c = net.conv1.ws.size()[0]; xs.narrow(2, c / 2, 4) };
    a_row_of_a_width |net, xs| { let c = net.conv1.ws.size()[0]; xs.select(2, c / 2).unsqueeze(2) };
    a_border_of_a_width |net, xs| { let c = net.conv1.ws.size()[0] as f64; xs.pad([1, 1, 1, 1], "constant", c) * &xs.constant_pad_nd([1, 1, 1, 1]) };
    a_norm_of_a_weight |net, xs| &xs / tch::no_grad(|| net.conv1.ws.norm());
    a_cut_by_the_smaller |net, xs| { let c = xs.size()[1]; xs.narrow(2, 0, c.min(6)) };
    a_view_by_the_smaller |net, xs| { let c = xs.size()[1]; let ys = Tensor::ones([24], DOUBLES).view([c.min(6), -1]).sum_dim_intlist(0, false, Kind::Double).sum(Kind::Double); &xs * ys };
    a_row_by_the_smaller |net, xs| { let c = xs.size()[1]; xs.select(2, c.min(6)).unsqueeze(2) };
    a_pool_by_the_smaller |net, xs| { let c = xs.size()[1]; xs.adaptive_avg_pool2d([c.min(6), 3]) };
    a_constant_by_the_smaller |net, xs| { let c = xs.size()[1]; let ys = Tensor::ones([c.min(6), 1, 1], DOUBLES).sum_dim_intlist(0, false, Kind::Double); &xs * ys };
    a_norm_of_a_detached_weight |net, xs| &xs / net.conv2.ws.detach().norm();
}

/// Asserts that all channels stay: a consumer reads a nonzero value where they are masked.
macro_rules! stays {
    ($($test:ident |$net:ident, $xs:ident| $body:expr;)+) => {$(
        #[test]
        fn $test() {
            between! { $net, $xs, train, $body }
            assert!(refusal(Net::new).contains("nothing to prune"));
        }
    )+};
}

stays! {
    a_branch_on_the_kind |net, xs| if xs.kind() == Kind::Double { xs.sigmoid() } else { xs };
    one_channel_divided_by_all |net, xs| (xs.apply(&net.one) / &xs).tanh();
    one_channel_where_all_are |net, xs| { let one = xs.apply(&net.one); one.where_self(&xs.to_kind(Kind::Bool), &(&one * 2.)) };
    one_channel_filled_where_all_are |net, xs| xs.apply(&net.one).masked_fill(&xs.to_kind(Kind::Bool), 0.);
    a_constant_where_all_are |net, xs| Tensor::ones([1], DOUBLES).where_self(&xs.to_kind(Kind::Bool), &Tensor::from(-1.));
    a_constant_filled_where_all_are |net, xs| Tensor::ones([1, 1, 1, 1], DOUBLES).masked_fill(&xs.to_kind(Kind::Bool), 0.);
    zero_times_infinity |net, xs| (&xs * xs.log()).nan_to_num(1., 1., 1.);
    zero_times_a_root_of_it |net, xs| (&xs * xs.rsqrt()).nan_to_num(0.5, 0., 0.);
    zero_by_zero_times_zero |net, xs| (&xs / xs.norm_scalaropt_dim(2., [2, 3], true) * &xs).nan_to_num(0.5, 0., 0.);
    zero_times_a_mapped_infinity |net, xs| (&xs * functional::map(&xs, |xs| xs.log() * 1.)).nan_to_num(0.5, 0., 0.);
    zero_by_zero |net, xs| (&xs / xs.norm_scalaropt_dim(2., [2, 3], true)).nan_to_num(0.5, 0., 0.);
}

/// Asserts that slimmed and masked compute the same, and how many channels are left.
macro_rules! slims {
    ($($test:ident $left:literal |$net:ident, $xs:ident, $train:ident| $body:expr;)+) => {$(
        #[test]
        fn $test() {
            between! { $net, $xs, $train, $body }
            let plan = slimmed_is_masked(Net::new, &Slimming::ratio(0.5), &images());
            assert_eq!(left(&plan, "bn1"), $left);
        }
    )+};
}

slims! {
    a_block_that_training_skips_at_random 3 |net, xs, train| if train && fastrand::bool() { &xs * 2. } else { xs };
    a_factor_that_training_draws 3 |net, xs, train| if train { &xs * fastrand::f64() } else { xs };
    a_root_that_is_kept_from_zero 3 |net, xs, train| &xs * (xs.square().mean_dim([2, 3].as_slice(), true, Kind::Double) + 1e-5).rsqrt();
    a_swish_by_hand 3 |net, xs, train| &xs * ((-&xs).exp() + 1.).reciprocal();
    a_view_of_any_number_of_samples 3 |net, xs, train| {
        let (n, c, _, _) = xs.size4().unwrap();
        let one = xs.apply(&net.one).mean_dim([2, 3].as_slice(), false, Kind::Double).view([n, 1, 1, 1]);
        let each = xs.mean_dim([2, 3].as_slice(), false, Kind::Double).view([n, c, 1, 1]);
        &xs * one.sigmoid() * each.sigmoid()
    };
    a_kind_that_is_asked_for 3 |net, xs, train| &xs * Tensor::ones([1, 1, 1, 1], (xs.kind(), xs.device()));
}

#[test]
fn spatial_attention_reads_means_over_channels() {
    net! { Net {
        conv1: nn::Conv2D = |p| conv(p, 3, 8),
        bn1: nn::BatchNorm = |p| bn(p, 8),
        spatial: nn::Conv2D = |p| conv(p, 2, 1),
        conv2: nn::Conv2D = |p| conv(p, 8, 8),
        bn2: nn::BatchNorm = |p| bn(p, 8),
        fc: nn::Linear = |p| linear(p, 8, 4),
    } |net, xs, train| {
        let xs = xs.apply(&net.conv1).apply_t(&net.bn1, train).relu();
        let mean = xs.mean_dim(1, true, Kind::Double);
        let (largest, _) = xs.max_dim(1, true);
        let gate = Tensor::cat(&[mean, largest], 1).apply(&net.spatial).sigmoid();
        let xs = (xs * gate).apply(&net.conv2).apply_t(&net.bn2, train).relu();
        xs.adaptive_avg_pool2d([1, 1]).flatten(1, -1).apply(&net.fc)
    } }
    let plan = slimmed_is_masked(Net::new, &Slimming::ratio(0.5), &images());
    // A mean over channels depends on their number.
    assert_eq!((left(&plan, "bn1"), left(&plan, "bn2")), (8, 3));
}

#[test]
fn a_forward_that_draws_numbers_in_evaluation_is_undone() {
    between! { net, xs, train, &xs * fastrand::f64() }
    let (mut net, _vs) = built(Net::new);
    let text = net.slim(0.5).unwrap_err().to_string();
    assert!(
        text.contains("it does something else each time that it is run in evaluation mode"),
        "{text}"
    );
}

#[test]
fn a_number_for_the_input_is_compared() {
    net! { Net {
        conv1: nn::Conv2D = |p| conv(p, 3, 8),
        bn1: nn::BatchNorm = |p| bn(p, 8),
        conv2: nn::Conv2D = |p| conv(p, 8, 4),
    } |net, xs, train| {
        let xs = xs * (net.conv1.ws.size()[0] as f64);
        xs.apply(&net.conv1).apply_t(&net.bn1, train).relu().apply(&net.conv2)
    } }
    let (mut net, _vs) = built(Net::new);
    let error = net.slim(0.5).unwrap_err();
    assert!(matches!(error, Error::Undone { .. }), "{error}");
}

#[test]
fn a_draw_behind_a_difference_does_not_excuse_it() {
    between! { net, xs, train, if train {
        let ys = &xs / (net.conv1.ws.size()[0] as f64);
        if fastrand::bool() { &ys * 2. } else { ys }
    } else {
        xs
    } }
    let (mut net, _vs) = built(Net::new);
    let error = net.slim(0.5).unwrap_err();
    assert!(matches!(error, Error::Undone { .. }), "{error}");
}

#[test]
fn a_parameter_is_no_divisor_where_it_is_masked() {
    fn scales(p: &nn::Path) -> Tensor {
        p.ones("scales", &[1, 8, 1, 1])
    }
    net! { Divided {
        conv1: nn::Conv2D = |p| conv(p, 3, 8),
        scales: Tensor = scales,
        conv2: nn::Conv2D = |p| conv(p, 8, 4),
    } |net, xs, _train| (xs.apply(&net.conv1) / &net.scales).apply(&net.conv2) }
    net! { Divisor {
        conv1: nn::Conv2D = |p| conv(p, 3, 8),
        bn1: nn::BatchNorm = |p| bn(p, 8),
        scales: Tensor = scales,
        conv2: nn::Conv2D = |p| conv(p, 8, 4),
    } |net, xs, train| {
        let xs = xs.apply(&net.conv1).apply_t(&net.bn1, train).relu();
        (&net.scales / &xs * &xs).nan_to_num(0.5, 0., 0.).apply(&net.conv2)
    } }
    let parameters = Slimming::ratio(0.5).criterion(criterion::L2);
    for slimming in [&parameters, &Slimming::ratio(0.5)] {
        let (net, _vs) = built(Divisor::new);
        let text = net.plan(slimming).unwrap_err().to_string();
        assert!(text.contains("nothing to prune"), "{text}");
    }
    let (net, _vs) = built(Divided::new);
    let text = net.plan(&parameters).unwrap_err().to_string();
    assert!(text.contains("nothing to prune"), "{text}");
}

#[test]
fn a_field_may_be_one_type_with_what_is_computed() {
    net! { Net {
        conv1: nn::Conv2D = |p| conv(p, 3, 8),
        bn1: nn::BatchNorm = |p| bn(p, 8),
        state: Tensor = |p| p.zeros_no_train("state", &[1, 8, 1, 1]),
        conv2: nn::Conv2D = |p| conv(p, 8, 8),
        bn2: nn::BatchNorm = |p| bn(p, 8),
        fc: nn::Conv2D = |p| conv(p, 8, 4),
    } |net, xs, train| {
        #[allow(clippy::useless_conversion)]
        let mut state = Tensor::from(net.state.shallow_clone());
        for step in 0..2 {
            let xs = xs.apply(&net.conv1).apply_t(&net.bn1, train).relu();
            state = if step == 0 { xs + state } else { (xs + state).apply(&net.conv2).apply_t(&net.bn2, train) };
        }
        state.apply(&net.fc)
    } }
    slimmed_is_masked(Net::new, &Slimming::ratio(0.5), &images());
}

#[test]
fn a_map_of_neighbours_is_refused() {
    between! { net, xs, train, functional::map(&xs, |xs| xs - xs.mean(Kind::Double)) }
    let text = refusal(Net::new);
    assert!(text.contains("an operation that is not element-wise"), "{text}");
}

#[test]
fn one_sample_is_tried() {
    between! { net, xs, train, if xs.size()[0] == 1 { xs.sigmoid() } else { xs } }
    let text = refusal(Net::new);
    assert!(text.contains("for one sample"), "{text}");
}

#[test]
fn a_rank_that_nothing_says_is_reported() {
    net! { Net {
        fc1: nn::Linear = |p| linear(p, 6, 8),
        norm: nn::BatchNorm = |p| nn::batch_norm1d(p, 8, Default::default()),
        fc2: nn::Linear = |p| linear(p, 8, 4),
    } |net, xs, train| {
        let xs = if xs.dim() == 2 { xs.shallow_clone() } else { xs.flatten(1, -1) };
        xs.apply(&net.fc1).apply_t(&net.norm, train).relu().apply(&net.fc2)
    } }
    let (net, _vs) = built(Net::new);
    let text = match net.plan(&Slimming::ratio(0.5)) {
        Ok(plan) => plan.to_string(),
        Err(error) => error.to_string(),
    };
    assert!(text.contains("tests/behaviour/forward/changing.rs:"), "{text}");
}

#[test]
fn a_list_of_all_elements_fits_in_memory() {
    between! { net, xs, train, {
        let (_, c, h, w) = xs.size4().unwrap();
        let (elements, pairs) = (vec![0.5; (c * h * w) as usize], vec![0.5; (h * w * h * w) as usize]);
        if elements.len() > pairs.len() * 1_000_000 { xs.sigmoid() } else { xs }
    } }
    let (net, _vs) = built(Net::new);
    net.plan(&Slimming::ratio(0.5)).unwrap();
}

#[test]
fn a_panic_has_its_place() {
    between! { net, xs, train, { let table = [1.; 4]; &xs * table[net.conv1.ws.size()[0] as usize] } }
    let text = refusal(Net::new);
    assert!(text.starts_with("tests/behaviour/forward/changing.rs:"), "{text}");
    assert!(text.contains("index out of bounds"), "{text}");
}

#[test]
fn planning_takes_back_what_forward_does_to_fields() {
    net! { Net {
        conv1: nn::Conv2D = |p| conv(p, 3, 8),
        bn1: nn::BatchNorm = |p| bn(p, 8),
        steps: Tensor = |p| p.zeros_no_train("steps", &[1]),
        conv2: nn::Conv2D = |p| conv(p, 8, 4),
    } |net, xs, train| {
        let _ = tch::no_grad(|| net.steps.shallow_clone().g_add_scalar_(1.));
        xs.apply(&net.conv1).apply_t(&net.bn1, train).apply(&net.conv2)
    } }
    let (mut net, _vs) = built(Net::new);
    let before = net.steps.copy();
    net.slim(0.5).unwrap();
    assert!(net.steps.equal(&before));
}

#[test]
fn a_file_may_change_what_forward_computes_from_statistics() {
    net! { Net {
        conv1: nn::Conv2D = |p| conv(p, 3, 8),
        bn1: nn::BatchNorm = |p| bn(p, 8),
        conv2: nn::Conv2D = |p| conv(p, 8, 4),
        bn2: nn::BatchNorm = |p| bn(p, 4),
    } |net, xs, train| {
        let xs = xs.apply(&net.conv1).apply_t(&net.bn1, train).relu();
        // The output's batch norm keeps its channels.
        xs.apply(&net.conv2).apply_t(&net.bn2, train) / net.bn2.running_var.mean(Kind::Double)
    } }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("net.safetensors");
    let (mut net, vs) = built(Net::new);
    let slimmed = net.slim(0.5).unwrap();
    let _ = tch::no_grad(|| net.bn2.running_var.shallow_clone().g_add_scalar_(0.5));
    checkpoint::save(&file, &vs, &slimmed).unwrap();
    let (mut other, mut vs) = built(Net::new);
    checkpoint::load(&file, &mut vs, &mut other).unwrap();
    let _no_grad = tch::no_grad_guard();
    assert!(images().apply_t(&net, false).equal(&images().apply_t(&other, false)));
}

#[test]
fn another_output_by_a_width_is_undone() {
    net! { Net {
        conv1: nn::Conv2D = |p| conv(p, 3, 8),
        bn1: nn::BatchNorm = |p| bn(p, 8),
        conv2: nn::Conv2D = |p| conv(p, 8, 4),
    } |net, xs, train| {
        let xs = xs.apply(&net.conv1).apply_t(&net.bn1, train).apply(&net.conv2);
        let (a, b) = (xs.relu(), xs.tanh());
        if net.conv1.ws.size()[0] > 6 { a } else { b }
    } }
    let (mut net, _vs) = built(Net::new);
    let text = net.slim(0.5).unwrap_err().to_string();
    assert!(text.contains("another of its tensors is returned"), "{text}");
}
