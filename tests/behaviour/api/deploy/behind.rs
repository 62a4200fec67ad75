//! A batch norm behind a ReLU is folded into the layer behind it, where that is exact.

use slim_runtime::forward;

use super::*;

const CHANNELS: i64 = 6;

/// A convolution, a ReLU, a batch norm, and what `$body` makes of it with `$head`.
macro_rules! nets {
    ($($name:ident: $head_type:ty, |$xs:ident, $head:ident| $body:expr;)+) => {$(
        #[derive(Debug, Prunable)]
        #[prune(input = [3, 9, 9])]
        struct $name {
            conv: own::Conv2D,
            bn: own::BatchNorm,
            head: $head_type,
        }

        #[forward]
        impl ModuleT for $name {
            fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
                let $xs = xs.apply(&self.conv).relu().apply_t(&self.bn, train);
                let $head = &self.head;
                $body
            }
        }

        impl $name {
            /// γ of the first channel is negative if `negative`, all others are positive.
            fn new(head: impl Fn(&nn::Path) -> $head_type, negative: bool) -> (Self, VarStore) {
                let (net, mut vs) = built(|p| $name {
                    conv: own::conv2d(p / "conv", 3, CHANNELS, 3, Default::default()),
                    bn: own::batch_norm2d(p / "bn", CHANNELS, Default::default()),
                    head: head(&(p / "head")),
                });
                tch::no_grad(|| {
                    let mut gamma = net.bn.ws.as_ref().unwrap().shallow_clone();
                    gamma.copy_(&(gamma.abs() + 0.1));
                    if negative {
                        let _ = gamma.narrow(0, 0, 1).neg_();
                    }
                });
                vs.double();
                (net, vs)
            }
        }
    )+};
}

nets! {
    Conv: own::Conv2D, |xs, head| xs.apply(head);
    ConvOfTch: nn::Conv2D, |xs, head| xs.apply(head);
    Transposed: own::ConvTranspose2D, |xs, head| xs.apply(head);
    Means: own::Linear, |xs, head| xs.adaptive_avg_pool2d([1, 1]).flatten(1, -1).apply(head);
    Flat: own::Linear, |xs, head| xs.flatten(1, -1).apply(head);
    Pooled: own::Conv2D, |xs, head| xs.max_pool2d_default(2).apply(head);
    ByPosition: own::Linear, |xs, head| {
        xs.max_pool2d_default(2).permute([0, 2, 3, 1]).flatten(1, -1).apply(head)
    };
    Padded: own::Conv2D, |xs, head| xs.zero_pad2d(1, 0, 0, 0).apply(head);
    Averaged: own::Conv2D, |xs, head| xs.avg_pool2d([2, 2], [2, 2], [1, 1], false, true, None).apply(head);
    Clipped: own::Conv2D, |xs, head| xs.relu6().apply(head);
    Twice: own::Conv2D, |xs, head| Tensor::cat(&[xs.apply(head), xs], 1);
    Depthwise: own::Conv2D, |xs, head| xs.apply(head);
    Normed: (own::Conv2D, own::BatchNorm), |xs, head| xs.apply(&head.0).apply_t(&head.1, false).relu();
}

fn conv(kernel: i64, config: nn::ConvConfig) -> impl Fn(&nn::Path) -> own::Conv2D {
    move |p| own::conv2d(p, CHANNELS, 4, kernel, config)
}

fn linear(features: i64) -> impl Fn(&nn::Path) -> own::Linear {
    move |p| own::linear(p, features, 4, Default::default())
}

fn sample() -> Tensor {
    Tensor::randn([2, 3, 9, 9], (Kind::Double, Device::Cpu))
}

/// What `deploy` reports of `bn`, once the outputs have been found to be equal.
fn fate<M: ModuleT + Prunable>((mut net, _vs): (M, VarStore)) -> String {
    let deployed = deployed(&mut net, &sample(), 1e-9);
    match deployed.norms.into_iter().find(|norm| norm.path == "bn").unwrap().fate {
        NormOutcome::Folded { into } => format!("folded into {into}"),
        NormOutcome::Left { reason } => reason
            .strip_prefix("no convolution or linear layer is directly in front of it; behind it, ")
            .unwrap()
            .to_owned(),
        fate => panic!("{fate:?}"),
    }
}

#[test]
fn a_layer_without_a_border_takes_the_batch_norm_in_front_of_it() {
    for negative in [false, true] {
        for bias in [false, true] {
            let config = |groups| nn::ConvConfig { groups, bias, ..Default::default() };
            for kernel in [1, 3] {
                for groups in [1, 2] {
                    let net = Conv::new(conv(kernel, config(groups)), negative);
                    assert_eq!(fate(net), "folded into head");
                }
            }
            let strided = nn::ConvConfig { stride: 2, ..config(1) };
            assert_eq!(fate(Conv::new(conv(3, strided), negative)), "folded into head");
            let of_tch = |p: &nn::Path| nn::conv2d(p, CHANNELS, 4, 3, config(2));
            assert_eq!(fate(ConvOfTch::new(of_tch, negative)), "folded into head");
            let circular =
                nn::ConvConfig { padding: 1, padding_mode: nn::PaddingMode::Circular, ..config(1) };
            assert_eq!(fate(Conv::new(conv(3, circular), negative)), "folded into head");
        }
        assert_eq!(fate(Means::new(linear(CHANNELS), negative)), "folded into head");
        assert_eq!(fate(Flat::new(linear(CHANNELS * 49), negative)), "folded into head");
        for groups in [1, 2] {
            // With one position for each output, the shift is the same for all.
            let transposed = |p: &nn::Path| {
                let config = nn::ConvTransposeConfig { groups, ..Default::default() };
                own::conv_transpose2d(p, CHANNELS, 4, 1, config)
            };
            assert_eq!(fate(Transposed::new(transposed, negative)), "folded into head");
        }
    }
}

#[test]
fn a_layer_takes_the_batch_norms_on_both_sides() {
    let head = |p: &nn::Path| {
        let norm = own::batch_norm2d(p / 1, 4, Default::default());
        (conv(3, Default::default())(&(p / 0)), norm)
    };
    let (mut net, _vs) = Normed::new(head, true);
    let deployed = deployed(&mut net, &sample(), 1e-9);
    assert_eq!(fates(&deployed), [("bn", "folded"), ("head.1", "folded")]);
    let layers: Vec<_> = deployed.norms.iter().map(|norm| &norm.fate).collect();
    assert_eq!(layers[0], layers[1]);
}

#[test]
fn a_max_pool_in_between_needs_scales_that_are_not_negative() {
    let pooled = |negative| fate(Pooled::new(conv(3, Default::default()), negative));
    assert_eq!(pooled(false), "folded into head");
    let reason = "`max_pool2d` is in front of `head`, and the scale of 1 channel is negative";
    assert_eq!(pooled(true), reason);
    let by_position = |negative| fate(ByPosition::new(linear(CHANNELS * 9), negative));
    assert_eq!(by_position(false), "folded into head");
    assert_eq!(by_position(true), reason);
}

#[test]
fn zeros_around_what_is_read_leave_the_batch_norm_unless_it_shifts_nothing() {
    let padded = nn::ConvConfig { padding: 1, ..Default::default() };
    let of_layer = || Conv::new(conv(3, padded), true);
    let of_forward = || Padded::new(conv(3, Default::default()), true);
    assert_eq!(fate(of_layer()), "`head` pads with zeros, where its shift would be missing");
    assert_eq!(
        fate(of_forward()),
        "`zero_pad2d` puts zeros around what `head` reads, where its shift would be missing"
    );
    let unshifted = |norm: &own::BatchNorm| {
        tch::no_grad(|| {
            let _ = norm.running_mean.shallow_clone().zero_();
            let _ = norm.bs.as_ref().unwrap().shallow_clone().zero_();
        });
    };
    let (net, vs) = of_layer();
    unshifted(&net.bn);
    assert_eq!(fate((net, vs)), "folded into head");
    let (net, vs) = of_forward();
    unshifted(&net.bn);
    assert_eq!(fate((net, vs)), "folded into head");
}

#[test]
fn a_batch_norm_stays_where_no_layer_alone_takes_a_scale_and_a_shift() {
    let one = || conv(1, Default::default());
    let comes_first = |name: &str| format!("`{name}` comes before any convolution or linear layer");
    assert_eq!(fate(Clipped::new(one(), false)), comes_first("relu6"));
    assert_eq!(fate(Averaged::new(one(), false)), comes_first("avg_pool2d"));
    assert_eq!(fate(Twice::new(one(), false)), "its output has several readers");
    let depthwise = |p: &nn::Path| {
        let config = nn::ConvConfig { groups: CHANNELS, ..Default::default() };
        own::conv2d(p, CHANNELS, CHANNELS, 3, config)
    };
    let reason = "`head` does not mix channels by a weight";
    assert_eq!(fate(Depthwise::new(depthwise, false)), reason);
    let stride = nn::ConvTransposeConfig { stride: 2, ..Default::default() };
    let transposed = |p: &nn::Path| own::conv_transpose2d(p, CHANNELS, 4, 3, stride);
    let reason = "`head` turns its shift into a pattern, since it has a stride";
    assert_eq!(fate(Transposed::new(transposed, false)), reason);
}

/// A part whose wiring is read, and behind it a ReLU that no field declares.
#[derive(Debug, Prunable)]
#[prune(sequential)]
struct Undeclared {
    first: First,
    second: Last,
}

#[derive(Debug, Prunable)]
#[prune(input = [3, 9, 9])]
struct First {
    conv: own::Conv2D,
    bn: own::BatchNorm,
}

#[derive(Debug, Prunable)]
struct Last {
    conv: own::Conv2D,
    bn: own::BatchNorm,
}

#[forward]
impl ModuleT for First {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        xs.apply(&self.conv).relu().apply_t(&self.bn, train)
    }
}

#[forward]
impl ModuleT for Last {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        xs.apply(&self.conv).apply_t(&self.bn, train)
    }
}

impl ModuleT for Undeclared {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        xs.apply_t(&self.first, train).relu().apply_t(&self.second, train)
    }
}

#[test]
fn a_batch_norm_whose_fold_changes_the_output_stays_and_the_others_are_folded() {
    let norm = |p: &nn::Path, width| own::batch_norm2d(p / "bn", width, Default::default());
    let (mut net, mut vs) = built(|p| Undeclared {
        first: First {
            conv: own::conv2d(p / "first", 3, CHANNELS, 3, Default::default()),
            bn: norm(&(p / "first"), CHANNELS),
        },
        second: Last {
            conv: conv(3, Default::default())(&(p / "second")),
            bn: norm(&(p / "second"), 4),
        },
    });
    vs.double();
    let deployed = deployed(&mut net, &sample(), 1e-9);
    assert_eq!(fates(&deployed), [("first.bn", "left"), ("second.bn", "folded")]);
    let NormOutcome::Left { reason } = &deployed.norms[0].fate else { panic!("{deployed}") };
    assert!(reason.starts_with("folded into `second.conv` behind it, outputs "), "{reason}");
}
