//! Every operation of the table, in a network with random scales that is slimmed and masked.
//!
//! A case is a body between two batch norms and a consumer. `slims` means that channels in front of
//! the body are removed, `stays` that none are, and `refused` that planning returns an error that
//! states the reason and the place.

use std::collections::BTreeSet;
use std::ops::{Add, Div, Mul, Sub};

use slim_runtime::criterion::L2;
use slim_runtime::error::SelectionError;
use slim_runtime::symbolic::OPERATIONS;
use slim_runtime::{Error, Plan, Prunable, Slimming, forward, functional};
use slim_tests::check::assert_close;
use tch::nn::{self, Module, ModuleT, VarStore};
use tch::{Device, IndexOp, Kind, Tensor};

use super::{bn, built, conv, images, linear};

/// The layer that reads the result of an operation.
#[derive(Debug, Clone, Copy)]
enum Reader {
    Conv1d(i64),
    Conv2d(i64),
    Conv3d(i64),
    Linear(i64),
}
use Reader::{Conv1d, Conv2d, Conv3d, Linear};

#[derive(Debug, Clone, Copy)]
enum Expected {
    Slims,
    Stays,
    Refused(&'static str),
}

pub(super) struct Case {
    pub(super) test: &'static str,
    names: &'static [&'static str],
    expected: Expected,
    reader: Reader,
    /// The shape of a tensor of the model; empty if the case has none.
    weight: &'static [i64],
}

#[derive(Debug, Prunable)]
enum Read {
    Conv1d(nn::Conv1D),
    Conv2d(nn::Conv2D),
    Conv3d(nn::Conv3D),
    Linear(nn::Linear),
}

#[forward]
impl Module for Read {
    fn forward(&self, xs: &Tensor) -> Tensor {
        match self {
            Read::Conv1d(conv) => xs.apply(conv),
            Read::Conv2d(conv) => xs.apply(conv),
            Read::Conv3d(conv) => xs.apply(conv),
            Read::Linear(linear) => xs.apply(linear),
        }
    }
}

/// Runs an operation in place on a copy, and returns another handle of the copy.
macro_rules! in_place {
    ($xs:ident $in_place:ident ($($argument:expr),*)) => {{
        let mut ys = $xs.copy();
        let zs = ys.shallow_clone();
        let _ = ys.$in_place($($argument),*);
        zs
    }};
}

/// Concatenates the results of a function and of its form in place.
macro_rules! both {
    ($xs:ident $name:ident $in_place:ident ($($argument:expr),*)) => {
        Tensor::cat(&[$xs.$name($($argument),*), in_place!($xs $in_place ($($argument),*))], 1)
    };
}

/// Runs on images with the positions flattened into one dimension.
macro_rules! rows {
    ($xs:ident => $rows:expr) => {{
        let $xs = $xs.flatten(2, 3);
        $rows
    }};
}

/// Runs on images with a third dimension of positions.
macro_rules! volumes {
    ($xs:ident => $volumes:expr) => {{
        let $xs = $xs.unsqueeze(2);
        $volumes
    }};
}

macro_rules! shape {
    () => {
        &[]
    };
    ($shape:tt) => {
        &$shape
    };
}

/// Doubles on the CPU.
const DOUBLES: (Kind, Device) = (Kind::Double, Device::Cpu);

/// The dimensions of an image's positions.
const POSITIONS: [i64; 2] = [2, 3];

macro_rules! cases {
    (|$net:ident, $xs:ident, $other:ident| $($test:ident [$($name:literal)+] $expected:ident $(($text:literal))? $reader:ident $width:literal $(with $weight:tt)? => $body:expr;)+) => {
        #[derive(Debug, Prunable)]
        #[prune(input = [3, 8, 8])]
        pub(super) struct Net {
            #[prune(skip)]
            test: &'static str,
            conv1: nn::Conv2D,
            bn1: nn::BatchNorm,
            conv2: nn::Conv2D,
            bn2: nn::BatchNorm,
            weight: Option<Tensor>,
            reader: Read,
        }

        #[forward]
        impl ModuleT for Net {
            fn forward_t(&self, images: &Tensor, train: bool) -> Tensor {
                let $net = self;
                let $xs = &images.apply(&self.conv1).apply_t(&self.bn1, train).tanh();
                let $other = &images.apply(&self.conv2).apply_t(&self.bn2, train).relu();
                let ys: Tensor = match self.test {
                    $(stringify!($test) => $body,)+
                    _ => $xs.shallow_clone(),
                };
                self.reader.forward(&ys)
            }
        }

        pub(super) const CASES: &[Case] = &[$(Case {
            test: stringify!($test),
            names: &[$($name),+],
            expected: Expected::$expected $(($text))?,
            reader: $reader($width),
            weight: shape!($($weight)?),
        }),+];

        mod case {
            $(#[test]
            fn $test() {
                super::check(stringify!($test));
            })+
        }
    };
}

cases! {
    |net, xs, other|

    // Layers.
    layers_applied ["apply" "apply_t" "apply_opt" "apply_opt_t" "forward" "forward_t"] Slims Conv2d 8 => {
        let (none, one) = (None::<nn::BatchNorm>, Some(&net.bn1).filter(|_| false));
        assert!(one.is_none());
        xs.apply_opt_t(&none, false).apply_opt(&None::<nn::Conv2D>)
    };
    opaque ["functional::opaque"] Stays Conv2d 8 => functional::opaque(xs, |xs| xs.roll(1, 1));

    // Sums and products.
    sums ["+" "g_add" "add"] Slims Conv2d 8 => (xs + other).g_add(other).add(xs);
    differences ["-" "g_sub" "sub"] Slims Conv2d 8 => (xs - other).g_sub(other).sub(xs * 3.);
    reversed_difference ["rsub"] Slims Conv2d 8 => xs.rsub(other);
    products ["*" "g_mul" "mul"] Slims Conv2d 8 => (xs * other).g_mul(other).mul(xs);
    a_product_with_a_gate ["*"] Slims Conv2d 8 => xs * other.sigmoid();
    quotients ["/" "g_div" "div"] Slims Conv2d 8 => (xs / (other + 1.)).g_div(&(other + 2.)).div(other + 3.);
    a_quotient_the_other_way ["/"] Stays Conv2d 8 => (xs + 2.) / (other + 1.);
    sums_in_place ["+=" "-=" "g_add_" "g_sub_"] Slims Conv2d 24 => {
        let mut ys = xs.copy();
        let zs = ys.shallow_clone();
        ys += other;
        ys += xs;
        ys -= &(other * 3.);
        Tensor::cat(&[zs, in_place!(xs g_add_(other)), in_place!(xs g_sub_(other))], 1)
    };
    products_in_place ["*=" "/=" "g_mul_" "g_div_"] Slims Conv2d 24 => {
        let mut ys = xs.copy();
        let zs = ys.shallow_clone();
        ys *= other;
        ys *= 3.;
        ys /= &(other + 1.);
        Tensor::cat(&[zs, in_place!(xs g_mul_(other)), in_place!(xs g_div_(&(other + 1.)))], 1)
    };
    a_number_added_in_place ["+="] Stays Conv2d 8 => { let mut ys = xs.copy(); ys += 1.; ys };
    in_place_behind_a_view ["relu_ and all others that tch has"] Stays Conv2d 8 => {
        let ys = xs.copy();
        let mut view = ys.view([-1, ys.size()[1], 64]).view([ys.size()[0], -1, 8, 8]);
        let _ = view.sigmoid_();
        view
    };
    in_place_on_a_part ["relu_ and all others that tch has"] Refused("changes a tensor in place") Conv2d 8 => {
        let ys = xs.copy();
        let _ = ys.chunk(2, 1)[0].sigmoid_();
        ys
    };
    extremes ["maximum" "minimum" "fmax" "fmin"] Slims Conv2d 8 => xs.maximum(other).minimum(&(xs * 2.)).fmax(&(other * 0.5)).fmin(&(other * 2.));
    an_extreme_with_a_constant ["maximum"] Stays Conv2d 8 => xs.maximum(&Tensor::ones([1], DOUBLES));
    fused_products ["addcmul"] Slims Conv2d 8 => xs.addcmul(other, other);
    fused_sums ["lerp"] Slims Conv2d 8 => xs.lerp(other, 0.3);
    comparisons ["gt_tensor" "lt_tensor" "ne_tensor"] Slims Conv2d 24 => Tensor::cat(
        &[xs.gt_tensor(other), xs.lt_tensor(other), xs.ne_tensor(other)].map(|xs| xs.to_kind(Kind::Double)), 1
    );
    comparisons_of_equals ["ge_tensor" "le_tensor" "eq_tensor"] Stays Conv2d 24 => Tensor::cat(
        &[xs.ge_tensor(other), xs.le_tensor(other), xs.eq_tensor(other)].map(|xs| xs.to_kind(Kind::Double)), 1
    );
    compared_with_it_in_place ["gt_tensor_" "lt_tensor_" "ne_tensor_" "ge_tensor_" "le_tensor_" "eq_tensor_"] Stays Conv2d 48 => Tensor::cat(
        &[in_place!(xs gt_tensor_(other)), in_place!(xs lt_tensor_(other)), in_place!(xs ne_tensor_(other)),
            in_place!(xs ge_tensor_(other)), in_place!(xs le_tensor_(other)), in_place!(xs eq_tensor_(other))], 1
    );
    angles ["atan2" "hypot" "atan2_" "hypot_"] Slims Conv2d 8 =>
        xs.atan2(&(other + 0.)) + xs.hypot(other) + in_place!(xs atan2_(other)) + in_place!(xs hypot_(other));
    conditions ["where_self"] Slims Conv2d 8 => xs.where_self(&Tensor::from_slice(&[true, false, true, true, false, false, true, false]), other);
    masks ["masked_fill"] Slims Conv2d 8 => xs.masked_fill(&Tensor::from_slice(&[true, false, true, true, false, false, true, false]), 0.);
    masks_of_ones ["masked_fill"] Stays Conv2d 8 => xs.masked_fill(&Tensor::from_slice(&[true, false, true, true, false, false, true, false]), 1.);
    a_constant ["a constant tensor"] Stays Conv2d 8 => xs + Tensor::from_slice(&[1., 2., 3., 4., 5., 6., 7., 8.]);
    a_constant_factor ["a constant tensor"] Slims Conv2d 8 => xs * Tensor::from_slice(&[1., 2., 3., 4., 5., 6., 7., 8.]);
    a_constant_for_each_channel ["a constant tensor"] Refused("sizes differ") Conv2d 8 => xs * Tensor::from_slice(&[1., 2., 3., 4., 5., 6., 7., 8.]).view([8, 1, 1]);
    a_shift_of_the_model ["a tensor of the model"] Stays Conv2d 8 with [8, 1, 1] => xs + net.weight();
    a_quotient_with_the_model_above ["/" "a tensor of the model"] Stays Conv2d 8 with [8, 1, 1] => net.weight() / (xs + 3.);
    a_scale_of_the_model ["a tensor of the model"] Slims Conv2d 8 with [1, 8, 1, 1] => net.weight() * xs;

    // Numbers.
    a_number_added ["+ 1.0" "g_add_scalar"] Stays Conv2d 8 => (xs + 1.0).g_add_scalar(0.5);
    zero_added ["+ 1.0" "- 1.0" "g_add_scalar" "g_sub_scalar"] Slims Conv2d 8 => (xs + 0. - 0.).g_add_scalar(0).g_sub_scalar(0);
    a_number_subtracted ["- 1.0"] Stays Conv2d 8 => xs - 1.0;
    a_number_subtracted_by_name ["g_sub_scalar"] Stays Conv2d 8 => xs.g_sub_scalar(1);
    one_minus ["1.0 - x"] Stays Conv2d 8 => 1.0 - xs;
    one_minus_by_name ["rsub_scalar"] Stays Conv2d 8 => xs.rsub_scalar(1.);
    numbers_in_place ["g_add_scalar_" "g_sub_scalar_"] Stays Conv2d 16 => Tensor::cat(&[in_place!(xs g_add_scalar_(1.)), in_place!(xs g_sub_scalar_(2.))], 1);
    numbers_multiplied ["* 2.0" "/ 2.0" "-x" "g_mul_scalar" "g_div_scalar" "g_mul_scalar_" "g_div_scalar_"] Slims Conv2d 24 => {
        let ys = -(xs * 3.0 / 2.0).g_mul_scalar(2.).g_div_scalar(3.);
        Tensor::cat(&[ys, in_place!(xs g_mul_scalar_(2.)), in_place!(xs g_div_scalar_(2.))], 1)
    };
    one_over ["1.0 / x"] Stays Conv2d 8 => 1.0 / (xs * other + 3.);
    powers ["pow_tensor_scalar" "pow_"] Slims Conv2d 16 => Tensor::cat(&[xs.pow_tensor_scalar(3), in_place!(xs pow_(2))], 1);
    the_zeroth_power ["pow_tensor_scalar"] Stays Conv2d 8 => xs.pow_tensor_scalar(0);

    // Elementwise functions.
    relu ["relu" "relu_"] Slims Conv2d 16 => both!(xs relu relu_());
    relu6 ["relu6" "relu6_"] Slims Conv2d 16 => both!(xs relu6 relu6_());
    leaky_relu ["leaky_relu" "leaky_relu_"] Slims Conv2d 16 => both!(xs leaky_relu leaky_relu_());
    elu ["elu" "elu_"] Slims Conv2d 16 => both!(xs elu elu_());
    celu ["celu" "celu_"] Slims Conv2d 16 => both!(xs celu celu_());
    selu ["selu" "selu_"] Slims Conv2d 16 => both!(xs selu selu_());
    silu ["silu" "silu_"] Slims Conv2d 16 => both!(xs silu silu_());
    gelu ["gelu" "gelu_"] Slims Conv2d 16 => both!(xs gelu gelu_("tanh"));
    mish ["mish" "mish_"] Slims Conv2d 16 => both!(xs mish mish_());
    hardswish ["hardswish" "hardswish_"] Slims Conv2d 16 => both!(xs hardswish hardswish_());
    hardtanh ["hardtanh" "hardtanh_"] Slims Conv2d 16 => both!(xs hardtanh hardtanh_());
    hardshrink ["hardshrink"] Slims Conv2d 8 => xs.hardshrink();
    softshrink ["softshrink"] Slims Conv2d 8 => xs.softshrink();
    tanh ["tanh" "tanh_"] Slims Conv2d 16 => both!(xs tanh tanh_());
    abs ["abs" "abs_"] Slims Conv2d 16 => both!(xs abs abs_());
    square ["square" "square_"] Slims Conv2d 16 => both!(xs square square_());
    sqrt ["sqrt" "sqrt_"] Slims Conv2d 16 => both!(other sqrt sqrt_()) * 0.5 + Tensor::cat(&[xs, xs], 1);
    sin ["sin" "sin_"] Slims Conv2d 16 => both!(xs sin sin_());
    tan ["tan" "tan_"] Slims Conv2d 16 => both!(xs tan tan_());
    sinh ["sinh" "sinh_"] Slims Conv2d 16 => both!(xs sinh sinh_());
    asin ["asin" "asin_"] Slims Conv2d 16 => both!(xs asin asin_());
    atan ["atan" "atan_"] Slims Conv2d 16 => both!(xs atan atan_());
    erf ["erf" "erf_"] Slims Conv2d 16 => both!(xs erf erf_());
    expm1 ["expm1" "expm1_"] Slims Conv2d 16 => both!(xs expm1 expm1_());
    log1p ["log1p" "log1p_"] Slims Conv2d 16 => { let ys = xs.abs(); both!(ys log1p log1p_()) };
    sign ["sign" "sign_"] Slims Conv2d 16 => both!(xs sign sign_());
    round ["round" "round_"] Slims Conv2d 16 => { let ys = xs * 5.; both!(ys round round_()) };
    floor ["floor" "floor_"] Slims Conv2d 16 => { let ys = xs * 5.; both!(ys floor floor_()) };
    ceil ["ceil" "ceil_"] Slims Conv2d 16 => { let ys = xs * 5.; both!(ys ceil ceil_()) };
    trunc ["trunc" "trunc_"] Slims Conv2d 16 => { let ys = xs * 5.; both!(ys trunc trunc_()) };
    frac ["frac" "frac_"] Slims Conv2d 16 => { let ys = xs * 5.; both!(ys frac frac_()) };
    neg ["neg" "neg_"] Slims Conv2d 16 => both!(xs neg neg_());
    negative ["negative" "negative_"] Slims Conv2d 16 => both!(xs negative negative_());
    sigmoid ["sigmoid" "sigmoid_"] Stays Conv2d 16 => both!(xs sigmoid sigmoid_());
    hardsigmoid ["hardsigmoid" "hardsigmoid_"] Stays Conv2d 16 => both!(xs hardsigmoid hardsigmoid_());
    softplus ["softplus"] Stays Conv2d 8 => xs.softplus();
    log_sigmoid ["log_sigmoid"] Stays Conv2d 8 => xs.log_sigmoid();
    exp ["exp" "exp_"] Stays Conv2d 16 => both!(xs exp exp_());
    log ["log" "log_"] Stays Conv2d 16 => { let ys = xs.abs(); both!(ys log log_()) };
    cos ["cos" "cos_"] Stays Conv2d 16 => both!(xs cos cos_());
    cosh ["cosh" "cosh_"] Stays Conv2d 16 => both!(xs cosh cosh_());
    acos ["acos" "acos_"] Stays Conv2d 16 => both!(xs acos acos_());
    erfc ["erfc" "erfc_"] Stays Conv2d 16 => both!(xs erfc erfc_());
    rsqrt ["rsqrt" "rsqrt_"] Stays Conv2d 16 => { let ys = xs.abs(); both!(ys rsqrt rsqrt_()) };
    reciprocal ["reciprocal" "reciprocal_"] Stays Conv2d 16 => both!(xs reciprocal reciprocal_());
    asinh ["asinh" "asinh_"] Slims Conv2d 16 => both!(xs asinh asinh_());
    atanh ["atanh" "atanh_"] Slims Conv2d 16 => { let ys = xs * 0.9; both!(ys atanh atanh_()) };
    erfinv ["erfinv" "erfinv_"] Slims Conv2d 16 => { let ys = xs * 0.9; both!(ys erfinv erfinv_()) };
    sgn ["sgn" "sgn_"] Slims Conv2d 16 => both!(xs sgn sgn_());
    exp2 ["exp2" "exp2_"] Stays Conv2d 16 => both!(xs exp2 exp2_());
    log2 ["log2" "log2_"] Stays Conv2d 16 => { let ys = xs.abs(); both!(ys log2 log2_()) };
    log10 ["log10" "log10_"] Stays Conv2d 16 => { let ys = xs.abs(); both!(ys log10 log10_()) };
    acosh ["acosh" "acosh_"] Stays Conv2d 16 => { let ys = xs + 3.; both!(ys acosh acosh_()) };
    sinc ["sinc" "sinc_"] Stays Conv2d 16 => both!(xs sinc sinc_());
    compared_with_a_number ["gt" "lt" "ge" "le" "eq" "ne"] Slims Conv2d 48 => Tensor::cat(
        &[xs.gt(0.), xs.lt(0.), xs.ge(0.1), xs.le(-0.1), xs.eq(0.5), xs.ne(0.)].map(|xs| xs.to_kind(Kind::Double)), 1
    );
    compared_in_place ["gt_" "lt_" "ge_" "le_" "eq_" "ne_"] Slims Conv2d 48 => Tensor::cat(
        &[in_place!(xs gt_(0.)), in_place!(xs lt_(0.)), in_place!(xs ge_(0.1)), in_place!(xs le_(-0.1)), in_place!(xs eq_(0.5)), in_place!(xs ne_(0.))], 1
    );
    compared_with_zero ["ge" "le" "eq"] Stays Conv2d 24 => Tensor::cat(&[xs.ge(0.), xs.le(0.), xs.eq(0.)].map(|xs| xs.to_kind(Kind::Double)), 1);
    remainders ["fmod" "fmod_" "remainder" "remainder_"] Slims Conv2d 32 => { let ys = xs * 5.; Tensor::cat(&[both!(ys fmod fmod_(0.7)), both!(ys remainder remainder_(0.7))], 1) };
    clamp ["clamp" "clamp_"] Slims Conv2d 16 => both!(xs clamp clamp_(-0.5, 0.3));
    clamp_above_zero ["clamp"] Stays Conv2d 8 => xs.clamp(0.1, 0.3);
    clamp_min ["clamp_min" "clamp_min_"] Slims Conv2d 16 => both!(xs clamp_min clamp_min_(-0.2));
    clamp_min_above_zero ["clamp_min"] Stays Conv2d 8 => xs.clamp_min(0.2);
    clamp_max ["clamp_max" "clamp_max_"] Slims Conv2d 16 => both!(xs clamp_max clamp_max_(0.2));
    clamp_max_below_zero ["clamp_max"] Stays Conv2d 8 => xs.clamp_max(-0.2);
    threshold ["threshold" "threshold_"] Slims Conv2d 16 => both!(xs threshold threshold_(-0.1, 7.));
    threshold_above_zero ["threshold"] Stays Conv2d 8 => xs.threshold(0.1, 7.);
    nan_to_num ["nan_to_num"] Slims Conv2d 8 => xs.nan_to_num(3., None, None);
    prelu ["prelu"] Slims Conv2d 8 with [8] => xs.prelu(net.weight());
    prelu_of_one_slope ["prelu"] Slims Conv2d 8 with [1] => xs.prelu(net.weight());
    map ["functional::map"] Slims Conv2d 8 => functional::map(xs, |xs| xs.erf() * 3.);
    map_that_moves_zero ["functional::map"] Stays Conv2d 8 => functional::map(xs, |xs| xs.erf() + 3.);

    // Operations that change no element.
    the_same ["shallow_clone" "copy" "contiguous" "alias" "detach" "set_requires_grad"] Slims Conv2d 8 =>
        xs.shallow_clone().copy().contiguous().alias().detach().set_requires_grad(false);
    dropout ["dropout" "feature_dropout" "dropout_" "feature_dropout_"] Slims Conv2d 24 => Tensor::cat(
        &[xs.dropout(0.5, false).feature_dropout(0.5, false), in_place!(xs dropout_(0.5, false)), in_place!(xs feature_dropout_(0.5, false))], 1
    );
    kinds_and_devices ["to_kind" "to_device" "totype" "type_as" "kind" "device" "requires_grad" "defined"] Slims Conv2d 8 => {
        assert!(!xs.detach().requires_grad() && xs.defined());
        xs.to_kind(xs.kind()).to_kind(Kind::Double).totype(Kind::Double).to_device(xs.device()).type_as(other)
    };

    // Concatenation and cuts.
    cat ["cat" "concat" "concatenate" "hstack"] Slims Conv2d 64 => Tensor::cat(
        &[Tensor::concat(&[xs, other], 1), Tensor::concatenate(&[other, xs], 1), Tensor::hstack(&[xs, other]), Tensor::cat(&[xs, xs], 1)], 1
    );
    cat_over_positions ["cat"] Slims Conv2d 8 => Tensor::cat(&[xs, other], 2);
    vstack ["vstack"] Slims Conv2d 8 => Tensor::vstack(&[xs, other]);
    cat_with_a_constant ["cat"] Slims Conv2d 10 => Tensor::cat(&[&Tensor::ones([xs.size()[0], 2, 8, 8], DOUBLES), xs], 1);
    stack ["stack"] Slims Conv2d 8 => Tensor::stack(&[xs, other], 2).flatten(2, 3);
    chunk ["chunk"] Slims Conv2d 8 => { let halves = xs.chunk(2, 1); Tensor::cat(&[&halves[1], &halves[0]], 1) };
    chunk_of_positions ["chunk"] Slims Conv2d 8 => { let parts = xs.chunk(3, 2); Tensor::cat(&[&parts[2], &parts[0]], 2) };
    split ["split"] Slims Conv2d 8 => { let parts = xs.split(3, 2); Tensor::cat(&[&parts[2], &parts[0]], 2) };
    split_by_half ["split"] Slims Conv2d 8 => { let parts = xs.split(xs.size()[1] / 2, 1); Tensor::cat(&[&parts[1], &parts[0]], 1) };
    split_by_a_literal ["split"] Refused("`split` of [") Conv2d 4 => xs.split(4, 1).swap_remove(0);
    split_with_sizes ["split_with_sizes"] Slims Conv2d 8 => xs.split_with_sizes([3, 5], 2).swap_remove(1);
    split_with_literals ["split_with_sizes"] Refused("`split_with_sizes` of [") Conv2d 4 => xs.split_with_sizes([4, 4], 1).swap_remove(1);
    narrow ["narrow"] Slims Conv2d 8 => xs.narrow(2, 1, 5).narrow(3, -4, 3);
    narrow_by_a_share ["narrow"] Slims Conv2d 6 => { let c = xs.size()[1]; xs.narrow(1, c / 4, c / 4 * 3) };
    narrow_by_literals ["narrow"] Refused("`narrow` of [") Conv2d 4 => xs.narrow(1, 2, 4);
    slice ["slice"] Slims Conv2d 8 => xs.slice(2, 1, None, 1).slice(3, 0, 7, 2).slice(3, -3, None, 1);
    slice_by_a_half ["slice"] Slims Conv2d 4 => xs.slice(1, xs.size()[1] / 2, None, 1);
    slice_with_a_step ["slice"] Refused("`slice` of [") Conv2d 4 => xs.slice(1, 0, None, 2);
    select ["select" "get"] Slims Conv2d 8 => xs.select(2, -1).unsqueeze(2) + xs.get(0).unsqueeze(0);
    select_a_channel ["select"] Refused("`select` of [") Conv2d 8 => xs.select(1, 0).unsqueeze(1) * xs;
    get_of_a_list ["get"] Refused("`select` of [") Conv1d 8 => xs.transpose(0, 1).get(3).flatten(1, 2).unsqueeze(0);
    unbind ["unbind"] Slims Conv2d 8 => { let rows = xs.unbind(2); Tensor::stack(&[&rows[3], &rows[0]], 3) };
    unbind_of_parts ["unbind"] Slims Conv2d 4 => {
        let (n, c, h, w) = xs.size4().unwrap();
        let parts = xs.view([n, 2, c / 2, h, w]).unbind(1);
        &parts[1] * 2. - &parts[0]
    };
    unbind_of_channels ["unbind"] Refused("`unbind` of [") Conv2d 8 => Tensor::stack(&xs.unbind(1), 1);
    index ["i"] Slims Conv2d 8 => xs.i((.., .., 1..7, ..)).i((0..2, .., .., ..=5)).i((.., .., [2i64, 0].as_slice()));
    index_of_a_channel ["i"] Refused("`select` of [") Conv2d 8 => xs.i((.., 3)).unsqueeze(1) * xs;
    index_select ["index_select"] Slims Conv2d 8 => xs.index_select(2, &Tensor::from_slice(&[3i64, 3, 0]));
    index_select_channels ["index_select"] Refused("`index_select` of [") Conv2d 2 => xs.index_select(1, &Tensor::from_slice(&[3i64, 0]));
    flip ["flip"] Slims Conv2d 8 => xs.flip([2, 1]) + other;
    roll ["roll"] Slims Conv2d 8 => xs.roll([1, 2], [2, 3]);
    roll_channels ["roll"] Refused("`roll` of [") Conv2d 8 => xs.roll([1], [1]);
    pixel_shuffle ["pixel_shuffle"] Slims Conv2d 2 => xs.pixel_shuffle(2);
    pixel_unshuffle ["pixel_unshuffle"] Slims Conv2d 32 => xs.pixel_unshuffle(2);
    channel_shuffle ["channel_shuffle"] Slims Conv2d 8 => xs.channel_shuffle(2) + other;

    // Views.
    views ["view" "reshape" "size" "size4" "size3"] Slims Conv2d 8 => {
        let s = xs.size();
        let rows = xs.view([s[0], s[1], -1]);
        let (n, c, _) = rows.size3().unwrap();
        rows.reshape([n, c, 8, 8])
    };
    a_view_by_a_literal ["view"] Refused("`view` of [") Conv2d 8 => xs.view([-1, 2, 4, 8, 8]).transpose(1, 2).reshape([2, 8, 8, 8]);
    interleaved_by_views ["view" "transpose" "size4"] Slims Conv2d 8 => {
        let (n, c, h, w) = xs.size4().unwrap();
        xs.view([n, 2, c / 2, h, w]).transpose(1, 2).reshape([n, c, h, w]) + other
    };
    flatten ["flatten"] Slims Linear 512 => xs.flatten(1, -1);
    a_flatten_position_by_position ["flatten" "permute"] Slims Linear 512 => xs.permute([0, 2, 3, 1]).flatten(1, -1);
    flat_view ["flat_view"] Slims Linear 512 => xs.flat_view();
    unflatten ["unflatten"] Slims Conv2d 8 => xs.unflatten(1, [2, -1]).transpose(1, 2).flatten(1, 2) + other;
    unflatten_positions ["unflatten"] Slims Conv2d 8 => xs.unflatten(2, [2, 4]).flatten(2, 3);
    views_as ["view_as" "reshape_as"] Slims Conv2d 8 => xs.flatten(2, 3).view_as(xs) + xs.flatten(2, 3).reshape_as(xs);
    permute ["permute"] Slims Linear 8 => xs.permute([0, 2, 3, 1]);
    permute_twice ["permute"] Slims Conv2d 8 => xs.permute([1, 3, 0, 2]).permute([2, 0, 1, 3]);
    transpose ["transpose" "swapaxes" "swapdims"] Slims Linear 8 => xs.transpose(1, 3) + xs.swapaxes(1, -1) * other.swapdims(3, 1);
    movedim ["movedim" "moveaxis"] Slims Linear 8 => xs.movedim([1], [3]) + other.moveaxis([1, 2], [-1, 1]);
    tr ["tr"] Slims Linear 8 => xs.select(2, 0).select(0, 0).tr();
    squeeze ["squeeze_dim" "unsqueeze"] Slims Conv2d 8 => (xs + xs.unsqueeze(2).squeeze_dim(2)).unsqueeze(2).squeeze_dim(0).unsqueeze(-1).squeeze_dim(5).squeeze_dim(2);
    squeeze_all ["squeeze"] Slims Linear 16 => Tensor::cat(&[xs, other], 1).amax(POSITIONS, true).squeeze();
    expand ["expand" "expand_as"] Slims Conv2d 8 => {
        let means = xs.mean_dim(&POSITIONS[..], true, None);
        means.expand([-1, -1, 8, 8], false) + other.amax(POSITIONS, true).expand_as(xs)
    };
    repeat ["repeat"] Slims Conv2d 16 => xs.repeat([1, 2, 2, 1]);
    repeat_interleave ["repeat_interleave_self_int"] Slims Conv2d 16 => xs.repeat_interleave_self_int(2, 1, None).repeat_interleave_self_int(3, -1, None);
    tile ["tile"] Slims Conv2d 16 => xs.tile([2, 1, 3]);

    // Windows.
    max_pool1d ["max_pool1d"] Slims Conv1d 8 => rows!(xs => xs.max_pool1d([3], [2], [1], [1], false));
    max_pool2d ["max_pool2d" "max_pool2d_default"] Slims Conv2d 8 => xs.max_pool2d([3, 2], [1, 2], [1, 0], [1, 1], true).max_pool2d_default(2);
    max_pool3d ["max_pool3d"] Slims Conv3d 8 => volumes!(xs => xs.max_pool3d([1, 2, 2], [1, 2, 2], [0, 0, 0], [1, 1, 1], false));
    avg_pool1d ["avg_pool1d"] Slims Conv1d 8 => rows!(xs => xs.avg_pool1d([3], [2], [1], false, true));
    avg_pool2d ["avg_pool2d" "avg_pool2d_default"] Slims Conv2d 8 => xs.avg_pool2d([3, 3], [1, 1], [1, 1], false, false, None).avg_pool2d_default(2);
    avg_pool3d ["avg_pool3d"] Slims Conv3d 8 => volumes!(xs => xs.avg_pool3d([1, 2, 2], [1, 2, 2], [0, 0, 0], false, true, 3));
    adaptive_avg_pool1d ["adaptive_avg_pool1d"] Slims Conv1d 8 => rows!(xs => xs.adaptive_avg_pool1d(5));
    adaptive_avg_pool2d ["adaptive_avg_pool2d"] Slims Conv2d 8 => xs.adaptive_avg_pool2d([3, 2]);
    adaptive_avg_pool3d ["adaptive_avg_pool3d"] Slims Conv3d 8 => volumes!(xs => xs.adaptive_avg_pool3d([1, 3, 2]));
    adaptive_max_pool1d ["adaptive_max_pool1d"] Slims Conv1d 8 => rows!(xs => xs.adaptive_max_pool1d(5).0);
    adaptive_max_pool2d ["adaptive_max_pool2d"] Slims Conv2d 8 => xs.adaptive_max_pool2d([3, 2]).0;
    adaptive_max_pool3d ["adaptive_max_pool3d"] Slims Conv3d 8 => volumes!(xs => xs.adaptive_max_pool3d([1, 3, 2]).0);
    places_of_the_largest ["adaptive_max_pool2d"] Stays Conv2d 8 => xs.adaptive_max_pool2d([3, 2]).1.to_kind(Kind::Double);
    upsample_nearest1d ["upsample_nearest1d"] Slims Conv1d 8 => rows!(xs => xs.upsample_nearest1d([100], None));
    upsample_nearest2d ["upsample_nearest2d"] Slims Conv2d 8 => xs.upsample_nearest2d([10, 16], None, 2.);
    upsample_nearest3d ["upsample_nearest3d"] Slims Conv3d 8 => volumes!(xs => xs.upsample_nearest3d([2, 9, 9], None, None, None));
    upsample_linear1d ["upsample_linear1d"] Slims Conv1d 8 => rows!(xs => xs.upsample_linear1d([100], true, None));
    upsample_bilinear2d ["upsample_bilinear2d"] Slims Conv2d 8 => xs.upsample_bilinear2d([10, 16], false, None, None);
    upsample_bicubic2d ["upsample_bicubic2d"] Slims Conv2d 8 => xs.upsample_bicubic2d([10, 16], false, None, None);
    upsample_trilinear3d ["upsample_trilinear3d"] Slims Conv3d 8 => volumes!(xs => xs.upsample_trilinear3d([2, 9, 9], true, None, None, None));
    upsample_nearest1d_vec ["upsample_nearest1d_vec"] Slims Conv1d 8 => rows!(xs => xs.upsample_nearest1d_vec(None::<&[i64]>, &[1.5][..]));
    upsample_nearest2d_vec ["upsample_nearest2d_vec"] Slims Conv2d 8 => xs.upsample_nearest2d_vec(None::<&[i64]>, &[1.5, 2.][..]);
    upsample_nearest3d_vec ["upsample_nearest3d_vec"] Slims Conv3d 8 => volumes!(xs => xs.upsample_nearest3d_vec(None::<&[i64]>, &[2., 1., 2.][..]));
    upsample_linear1d_vec ["upsample_linear1d_vec"] Slims Conv1d 8 => rows!(xs => xs.upsample_linear1d_vec(None::<&[i64]>, false, &[1.5][..]));
    upsample_bilinear2d_vec ["upsample_bilinear2d_vec"] Slims Conv2d 8 => xs.upsample_bilinear2d_vec(None::<&[i64]>, true, &[1.5, 2.][..]);
    upsample_bicubic2d_vec ["upsample_bicubic2d_vec"] Slims Conv2d 8 => xs.upsample_bicubic2d_vec(None::<&[i64]>, true, &[1.5, 2.][..]);
    upsample_trilinear3d_vec ["upsample_trilinear3d_vec"] Slims Conv3d 8 => volumes!(xs => xs.upsample_trilinear3d_vec(None::<&[i64]>, false, &[2., 1., 2.][..]));
    zero_pads ["zero_pad1d" "zero_pad2d" "constant_pad_nd"] Slims Conv2d 11 => rows!(xs => xs.zero_pad1d(0, 8)).unflatten(2, [9, 8]).zero_pad2d(0, 1, 2, 3).constant_pad_nd([0, 1, 0, 0, 1, 2]);
    pad ["pad"] Slims Conv2d 8 => xs.pad([1, 1, 0, 2], "constant", None).pad([1, 2, 3, 0], "reflect", None);
    pad_with_ones ["pad"] Stays Conv2d 8 => xs.pad([1, 1, 0, 2], "constant", 1.);
    reflection_pad1d ["reflection_pad1d"] Slims Conv1d 8 => rows!(xs => xs.reflection_pad1d([3, 2]));
    reflection_pad2d ["reflection_pad2d"] Slims Conv2d 8 => xs.reflection_pad2d([3, 2, 1, 0]);
    reflection_pad3d ["reflection_pad3d"] Slims Conv3d 8 => volumes!(xs => xs.reflection_pad3d([3, 2, 1, 0, 0, 0]));
    replication_pad1d ["replication_pad1d"] Slims Conv1d 8 => rows!(xs => xs.replication_pad1d([3, 2]));
    replication_pad2d ["replication_pad2d"] Slims Conv2d 8 => xs.replication_pad2d([3, 2, 1, 0]);
    replication_pad3d ["replication_pad3d"] Slims Conv3d 8 => volumes!(xs => xs.replication_pad3d([3, 2, 1, 0, 1, 2]));

    // Reductions and norms.
    means ["mean_dim" "sum_dim_intlist"] Slims Linear 8 => xs.mean_dim(&POSITIONS[..], false, None) + other.sum_dim_intlist(&POSITIONS[..], false, Kind::Double);
    a_mean_over_channels ["mean_dim"] Stays Conv2d 8 => xs * xs.mean_dim(&[1][..], true, None);
    a_sum_over_channels ["sum_dim_intlist"] Stays Conv2d 8 => xs * xs.sum_dim_intlist(&[-3][..], true, None);
    extremes_over_positions ["amax" "amin"] Slims Linear 8 => xs.amax(POSITIONS, false) + xs.amin(POSITIONS, false);
    an_extreme_over_channels ["amax"] Stays Conv2d 8 => xs * xs.amax([1], true);
    the_largest ["max_dim" "min_dim"] Slims Conv1d 8 => xs.max_dim(2, false).0 + xs.min_dim(2, true).0.squeeze_dim(2);
    deviations ["std_dim" "var_dim"] Slims Conv2d 8 => xs.std_dim(&POSITIONS[..], true, true) + xs * xs.var_dim(&[3][..], false, true);
    norms ["norm_scalaropt_dim"] Slims Conv2d 8 => xs * xs.norm_scalaropt_dim(2, POSITIONS, true) + xs.norm_scalaropt_dim(1.5, [2], true);
    zeroth_norms ["norm_scalaropt_dim"] Stays Conv2d 8 => xs.norm_scalaropt_dim(0, [3], true) + xs.norm_scalaropt_dim(-1, [3], true) + 1.;
    a_norm_over_channels ["norm_scalaropt_dim"] Stays Conv2d 8 => xs / (xs.norm_scalaropt_dim(2, [1], true) + 1.);
    logarithms_of_sums ["logsumexp"] Stays Conv2d 8 => xs.logsumexp([3], true) + xs;
    the_mean ["mean"] Stays Conv2d 8 => xs * xs.mean(None);
    the_sum ["sum"] Stays Conv2d 8 => xs * xs.sum(Kind::Double);
    the_extremes ["max" "min" "prod"] Stays Conv2d 8 => xs * xs.max() * xs.min() * other.prod(None);
    deviations_of_all ["std" "var" "norm"] Stays Conv2d 8 => xs * xs.std(true) * xs.var(false) * xs.norm();
    places ["argmax" "argmin"] Stays Conv2d 8 => xs + (xs.argmax(3, true) + xs.argmin(3, true)).to_kind(Kind::Double);
    a_maxout ["amax" "view"] Slims Conv2d 4 => { let (n, c, h, w) = xs.size4().unwrap(); xs.view([n, c / 2, 2, h, w]).amax([2], false) };
    a_maxout_of_halves ["mean_dim" "view"] Slims Conv2d 4 => { let (n, c, h, w) = xs.size4().unwrap(); xs.view([n, 2, c / 2, h, w]).mean_dim(&[1][..], false, None) };
    branches ["softmax" "view"] Slims Conv2d 4 => {
        let (n, c, h, w) = xs.size4().unwrap();
        let weights = other.mean_dim(&POSITIONS[..], false, None).view([n, 2, c / 2, 1, 1]).softmax(1, None);
        (xs.view([n, 2, c / 2, h, w]) * weights).sum_dim_intlist(&[1][..], false, None)
    };
    triangles ["tril" "triu"] Slims Conv2d 8 => xs.tril(0) - xs.triu(1);
    the_largest_ones ["topk"] Slims Conv2d 8 => xs.topk(5, 3, true, true).0;
    places_of_the_largest_ones ["topk"] Stays Conv2d 8 => xs.topk(5, 3, true, true).1.to_kind(Kind::Double);
    the_largest_channels ["topk"] Refused("`topk` over the channels of [") Conv2d 4 => xs.topk(4, 1, true, true).0;
    sorted ["sort"] Slims Conv2d 8 => xs.sort(2, true).0;
    sorted_channels ["sort"] Stays Conv2d 8 => xs.sort(1, true).0;
    running_products ["cumprod"] Slims Conv2d 8 => xs.cumprod(2, None);
    running_sums_over_parts ["cumsum" "view"] Stays Conv2d 8 => {
        let (n, c, h, w) = xs.size4().unwrap();
        Tensor::cat(&[&other.sigmoid(), xs], 1).view([n, 2, c, h, w]).cumsum(1, None).select(1, 1)
    };
    running_sums ["cumsum"] Slims Conv2d 8 => xs.cumsum(2, None);
    running_sums_over_channels ["cumsum"] Stays Conv2d 8 => xs.cumsum(1, None);
    softmax ["softmax" "log_softmax"] Stays Conv2d 8 => xs.softmax(2, None) + other.log_softmax(-1, Kind::Double);
    softmax_as_a_gate ["softmax"] Slims Conv2d 8 => xs * other.softmax(-1, None);
    softmax_over_channels ["softmax"] Stays Conv2d 8 => xs * xs.softmax(1, None);
    layer_norm ["layer_norm"] Stays Conv2d 8 => xs.layer_norm([8, 8], None::<&Tensor>, None::<&Tensor>, 1e-5, false);
    layer_norm_over_channels ["layer_norm"] Stays Linear 8 with [8] => xs.transpose(1, 3).layer_norm([8], Some(net.weight()), None, 1e-5, false) * other.transpose(1, 3);
    group_norm ["group_norm"] Stays Conv2d 8 with [8] => xs.group_norm(2, Some(net.weight()), None, 1e-5, false);
    instance_norm ["instance_norm"] Slims Conv2d 8 with [8] => xs.instance_norm(Some(net.weight()), None, None, None, true, 0.1, 1e-5, false);
    instance_norm_of_known_statistics ["instance_norm"] Refused("`instance_norm`") Conv2d 8 with [8] =>
        xs.instance_norm(None, None, Some(net.weight()), Some(net.weight()), false, 0.1, 1e-5, false);
    glu ["glu"] Slims Conv2d 4 => xs.glu(1);
    glu_over_positions ["glu"] Slims Conv2d 8 => xs.glu(2);

    // Matrix products.
    matmul ["matmul" "bmm"] Slims Linear 8 => {
        let (queries, keys) = (xs.flatten(2, 3).transpose(1, 2), other.flatten(2, 3));
        let values = (xs + other).flatten(2, 3).transpose(1, -1);
        queries.matmul(&keys).softmax(-1, None).bmm(&values)
    };
    a_matrix ["matmul with a tensor of the model"] Slims Linear 5 with [8, 5] => xs.permute([0, 2, 3, 1]).matmul(net.weight());
    a_transposed_matrix ["linear"] Slims Linear 5 with [5, 8] => xs.permute([0, 2, 3, 1]).linear(net.weight(), None::<&Tensor>);
    attention ["scaled_dot_product_attention"] Slims Linear 8 => {
        let (queries, keys) = (xs.flatten(2, 3).transpose(1, 2), other.flatten(2, 3).transpose(-1, -2));
        Tensor::scaled_dot_product_attention(&queries, &keys, &keys, None::<&Tensor>, 0., false, 0.3, false)
    };
    causal_attention ["scaled_dot_product_attention" "tril"] Slims Linear 8 => {
        let (queries, keys) = (xs.flatten(2, 3).transpose(1, 2), other.flatten(2, 3).transpose(-1, -2));
        let mask = Tensor::ones([64, 64], (Kind::Bool, Device::Cpu)).tril(0);
        Tensor::scaled_dot_product_attention(&queries, &keys, &keys, Some(&mask), 0., false, 0.3, false)
    };
    attention_with_a_mask_for_each_head ["scaled_dot_product_attention"] Refused("sizes differ") Linear 8 => {
        let heads = |xs: &Tensor| { let (n, c, h, w) = xs.size4().unwrap(); xs.view([n, c / 2, 2, h * w]).transpose(2, 3) };
        let mask = Tensor::from_slice(&[0., 1., 2., 3.]).view([4, 1, 1]);
        let ys = Tensor::scaled_dot_product_attention(&heads(xs), &heads(other), &heads(other), Some(&mask), 0., false, 0.3, false);
        ys.transpose(2, 3).flatten(1, 2).transpose(1, 2)
    };
    a_gram_matrix ["matmul"] Stays Conv2d 8 => {
        let (n, c, h, w) = xs.size4().unwrap();
        let rows = xs.view([n, c, h * w]);
        let pairs = rows.matmul(&rows.transpose(1, 2)).softmax(-1, None);
        pairs.matmul(&rows).view([n, c, h, w]) + other
    };
    equations ["einsum"] Slims Linear 8 => {
        let (queries, keys) = (xs.flatten(2, 3).transpose(1, 2), other.flatten(2, 3).transpose(-1, -2));
        let scores = Tensor::einsum("bic,bjc->bij", &[&queries, &keys], None::<&[i64]>);
        Tensor::einsum("bij,bjc->bic", &[&scores, &queries], None::<&[i64]>)
    };
    an_equation ["einsum"] Refused("`einsum` of `nchw->nhwc`") Linear 8 => Tensor::einsum("nchw->nhwc", &[xs], None::<&[i64]>);

    // Constants.
    zeros ["zeros" "new_zeros"] Stays Conv2d 8 => xs + Tensor::zeros([8, 8], DOUBLES) - xs.new_zeros([8, 1], DOUBLES);
    ones ["ones" "full" "arange" "new_ones"] Slims Conv2d 8 => xs * Tensor::ones([8, 8], DOUBLES) * Tensor::full([1, 8], 2., DOUBLES) * Tensor::arange(8, DOUBLES) * xs.new_ones([8, 8], DOUBLES);
    slices ["from_slice" "from_slice2" "Tensor::from"] Slims Conv2d 8 => xs * Tensor::from_slice2(&[[1., 2.], [3., 4.]]).repeat([4, 4]) * Tensor::from(3.) / Tensor::from_slice(&[2.]);
    random ["rand" "randn" "empty"] Slims Conv2d 8 => {
        let numbers = Tensor::rand([8, 8], DOUBLES) + Tensor::randn([8, 8], DOUBLES) + Tensor::empty([8, 8], DOUBLES);
        xs * (numbers.nan_to_num(0., 0., 0.) * 0. + 2.)
    };
    filled ["fill" "fill_" "zero_"] Slims Conv2d 16 => Tensor::cat(&[in_place!(xs zero_()) + in_place!(xs fill_(0.)) + xs.fill(0.), xs.shallow_clone()], 1);
    filled_with_ones ["fill" "fill_"] Slims Conv2d 8 => xs * xs.fill(2.) * in_place!(xs fill_(3.));
    other_constants ["eye" "linspace" "randint"] Slims Conv2d 8 => xs * Tensor::eye(8, DOUBLES) * Tensor::linspace(1., 2., 8, DOUBLES) * (Tensor::randint(5, [8, 8], DOUBLES) * 0. + 1.);
    zeros_like ["zeros_like" "full_like"] Slims Conv2d 24 => Tensor::cat(&[xs.zeros_like(), xs.full_like(0.), xs.shallow_clone()], 1);
    ones_like ["ones_like" "full_like" "bernoulli_p"] Slims Conv2d 8 => xs * xs.ones_like() * other.full_like(2.) * xs.ones_like().bernoulli_p(1.);
    ones_like_added ["ones_like"] Stays Conv2d 8 => xs.ones_like() + other;
    random_like ["empty_like" "rand_like" "randn_like"] Slims Conv2d 8 => {
        let numbers = xs.empty_like() + xs.rand_like() + xs.randn_like();
        xs * (numbers.nan_to_num(0., 0., 0.) * 0. + 2.)
    };

    // Sizes.
    sizes ["size1" "size2" "size5" "size6" "dim" "numel"] Slims Conv2d 8 => {
        assert_eq!((xs.dim(), xs.select(2, 0).dim()), (4, 3));
        let vector = Tensor::ones([8], DOUBLES);
        let (a, (b, _)) = (vector.size1().unwrap(), xs.mean_dim(&POSITIONS[..], false, None).size2().unwrap());
        let five = xs.unsqueeze(0);
        let (_, n, c, h, w) = five.size5().unwrap();
        let (.., last) = five.unsqueeze(0).size6().unwrap();
        let area = xs.numel() as i64 / (n * c);
        xs.view([b, c, area]).view([n, c, h, w]).view([n, c, a, last])
    };
}

impl Net {
    fn new(vs: &VarStore, case: &Case) -> Self {
        let p = vs.root();
        let reader = match case.reader {
            Conv1d(width) => {
                Read::Conv1d(nn::conv1d(&p / "reader", width, 4, 1, Default::default()))
            }
            Conv2d(width) => Read::Conv2d(conv(&(&p / "reader"), width, 4)),
            Conv3d(width) => {
                Read::Conv3d(nn::conv3d(&p / "reader", width, 4, 1, Default::default()))
            }
            Linear(width) => Read::Linear(linear(&(&p / "reader"), width, 4)),
        };
        let init = nn::Init::Randn { mean: 0., stdev: 1. };
        Net {
            test: case.test,
            conv1: conv(&(&p / "conv1"), 3, 8),
            bn1: bn(&(&p / "bn1"), 8),
            conv2: conv(&(&p / "conv2"), 3, 8),
            bn2: bn(&(&p / "bn2"), 8),
            weight: (!case.weight.is_empty()).then(|| p.var("weight", case.weight, init)),
            reader,
        }
    }

    /// The tensor of the model.
    fn weight(&self) -> &Tensor {
        self.weight.as_ref().unwrap()
    }
}

impl Case {
    /// Whether planning is refused.
    #[cfg(feature = "onnx")]
    pub(super) fn is_refused(&self) -> bool {
        matches!(self.expected, Expected::Refused(_))
    }
}

/// The network of a case, with random scales.
pub(super) fn random(case: &Case, seed: u64) -> (Net, VarStore) {
    let (net, vs) = built(|vs| Net::new(vs, case));
    let mut rng = fastrand::Rng::with_seed(seed);
    let _no_grad = tch::no_grad_guard();
    for norm in [&net.bn1, &net.bn2] {
        let scales: Vec<f64> = (0..8).map(|_| 0.2 + rng.f64()).collect();
        norm.ws.as_ref().unwrap().shallow_clone().copy_(&Tensor::from_slice(&scales));
    }
    (net, vs)
}

fn compare(case: &Case, seed: u64, slimming: &Slimming) -> Result<Plan, Error> {
    let (mut masked, _masked) = random(case, seed);
    let plan = masked.plan(slimming)?;
    masked.mask(&plan)?;
    let (mut slimmed, _slimmed) = random(case, seed);
    slimmed.apply(&plan)?;
    let _no_grad = tch::no_grad_guard();
    let images = images();
    let (masked, slimmed) = (masked.forward_t(&images, false), slimmed.forward_t(&images, false));
    assert_close(&slimmed, &masked, 1e-10);
    Ok(plan)
}

fn check(test: &str) {
    let case = CASES.iter().find(|case| case.test == test).unwrap();
    let mut gone = 0;
    for seed in 0..4 {
        let ratio = [0.2, 0.4, 0.6, 0.8][seed as usize];
        match (compare(case, seed, &Slimming::ratio(ratio)), case.expected) {
            (Err(error), Expected::Refused(text)) => {
                let error = error.to_string();
                assert!(error.contains(text), "{error}");
                assert!(error.starts_with("tests/behaviour/forward/operations.rs:"), "{error}");
                let place = error.split(':').skip(1).take(2);
                assert!(place.map(str::parse::<u32>).all(|number| number.is_ok()), "{error}");
                return;
            }
            (Ok(plan), _) => gone += 8 - super::left(&plan, "bn1"),
            (Err(Error::Selection(SelectionError::NothingToPrune { .. })), Expected::Stays) => {}
            (Err(error), _) => panic!("{error}"),
        }
        match compare(case, seed, &Slimming::ratio(ratio).criterion(L2)) {
            Ok(_) | Err(Error::Selection(SelectionError::NothingToPrune { .. })) => {}
            Err(error) => panic!("{error}"),
        }
    }
    match case.expected {
        Expected::Slims => assert!(gone > 0, "nothing is removed"),
        Expected::Stays => assert_eq!(gone, 0, "channels are removed"),
        Expected::Refused(_) => panic!("it is not refused"),
    }
}

/// All names that the cases cover.
fn tried() -> BTreeSet<&'static str> {
    CASES.iter().flat_map(|case| case.names).copied().collect()
}

/// All names of the table.
fn listed() -> BTreeSet<&'static str> {
    OPERATIONS.iter().copied().flatten().flat_map(|row| row.names).copied().collect()
}

#[test]
fn every_name_of_the_table_has_a_case() {
    let missing: Vec<_> = listed().difference(&tried()).copied().collect();
    assert!(missing.is_empty(), "{missing:?} have no case");
}

/// Methods that macros generate although tch does not have them, so no `forward` can call them.
const NOT_IN_TCH: &[&str] = &[
    "fmax_",
    "fmin_",
    "hardshrink_",
    "log_sigmoid_",
    "maximum_",
    "minimum_",
    "add_",
    "sub_",
    "mul_",
    "div_",
    "pow",
    "pow_tensor_scalar_",
    "rsub_scalar_",
    "softplus_",
    "softshrink_",
];

#[test]
fn every_method_is_in_the_table_and_has_a_case() {
    let (listed, tried) = (listed(), tried());
    let methods = methods();
    assert!(methods.len() > 200, "{methods:?}");
    for method in methods.iter().filter(|method| !NOT_IN_TCH.contains(&method.as_str())) {
        // The table covers a form in place by the name without the underscore.
        let name = method.strip_suffix('_').unwrap_or(method);
        assert!(
            listed.contains(name) || listed.contains(method.as_str()),
            "`{method}` is in no row"
        );
        assert!(tried.contains(method.as_str()), "`{method}` has no case");
    }
    for method in NOT_IN_TCH {
        assert!(methods.contains(*method), "`{method}` is gone");
    }
}

/// The public methods of `Traced`, including those that macros generate, from the source text.
fn methods() -> BTreeSet<String> {
    let mut methods = BTreeSet::new();
    let directory = slim_tests::place::path("../slim-runtime/src/symbolic");
    for file in std::fs::read_dir(directory).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let mut makers = BTreeSet::new();
        let blocks = text.split("\n}\n");
        for block in blocks {
            if let Some((_, rest)) = block.split_once("\nmacro_rules! ")
                && block.contains("impl Traced")
            {
                makers.insert(rest.split(' ').next().unwrap().to_owned());
            } else if let Some((_, body)) = block.split_once("\nimpl Traced {") {
                methods.extend(body.split("\n    pub fn ").skip(1).map(identifier));
            } else {
                let called = makers.iter().find_map(|maker| {
                    block
                        .split_once(&format!("\n{maker}! {{"))
                        .or_else(|| block.split_once(&format!("\n{maker}!(")))
                });
                if let Some((_, rows)) = called {
                    methods.extend(made(rows.split(");\n\n").next().unwrap()));
                }
            }
        }
    }
    methods.retain(|method| !method.starts_with("symbolic_"));
    methods
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The names at the start of each row of a macro call.
fn made(rows: &str) -> Vec<String> {
    let lines = rows.lines().map(str::trim).filter(|line| !line.starts_with("//"));
    let is_name = |word: &&str| {
        word.starts_with(|c: char| c.is_ascii_lowercase())
            && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    let names = |line: &str| -> Vec<String> {
        let words = line.split('(').next().unwrap_or_default().split([' ', ';', ')']);
        let number = |word: &&str| word.parse::<u8>().is_ok();
        let names = words.skip_while(number).take_while(is_name);
        names
            .filter(|name| {
                !["true", "false", "stays", "moves"].contains(name) && !name.starts_with("f_")
            })
            .map(str::to_owned)
            .collect()
    };
    lines.flat_map(names).collect()
}
