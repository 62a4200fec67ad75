//! Numbers that a user's layer stores: they follow its channels, and a mistake in them changes
//! nothing.

use slim_runtime::{
    Axis, Error, Flow, LayerKind, LayerVisitor, Prunable, Result, Slimming, Tracer,
};
use slim_tests::device;
use tch::nn::{self, Module, VarStore};
use tch::{Kind, Tensor};

use crate::common::values;

/// A layer that stores its channel count, and can fail on purpose.
#[derive(Debug)]
struct Counter {
    channels: i64,
    fail: bool,
}

impl Module for Counter {
    fn forward(&self, xs: &Tensor) -> Tensor {
        xs.view([-1, self.channels, 1, 1])
    }
}

impl Prunable for Counter {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        let mut layer = cx.layer(LayerKind::other("counter"));
        let channels: Axis = layer.follow("channels", &input, 6)?;
        layer.size("channels", channels)?;
        layer.pass(channels)
    }

    fn layers_mut(&mut self, visit: &mut LayerVisitor) -> Result<()> {
        visit.size("channels", &mut self.channels)?;
        // Fails once the count is written.
        if self.fail && self.channels != 6 {
            Err(Error::Custom("failed on purpose".to_owned()))
        } else {
            Ok(())
        }
    }
}

#[derive(Debug, Prunable)]
#[prune(sequential)]
struct Counted {
    conv: nn::Conv2D,
    bn: nn::BatchNorm,
    counters: Vec<Counter>,
    last: nn::Conv2D,
}

fn counted(counters: &[(i64, bool)]) -> (Counted, VarStore) {
    let vs = VarStore::new(device());
    let p = vs.root();
    let net = Counted {
        conv: nn::conv2d(&p / "conv", 3, 6, 1, nn::no_bias()),
        bn: nn::batch_norm2d(&p / "bn", 6, Default::default()),
        counters: counters.iter().map(|&(channels, fail)| Counter { channels, fail }).collect(),
        last: nn::conv2d(&p / "last", 6, 2, 1, nn::no_bias()),
    };
    (net, vs)
}

#[test]
fn stored_numbers_follow() {
    let (mut net, _vs) = counted(&[(6, false), (6, false)]);
    net.slim(0.5).unwrap();
    assert_eq!(net.counters.iter().map(|counter| counter.channels).collect::<Vec<_>>(), [2, 2]);
    assert_eq!(
        net.counters[0].forward(&Tensor::zeros([4], (Kind::Float, device()))).size(),
        [2, 2, 1, 1]
    );
}

#[test]
fn a_number_that_was_wrong_before_is_an_error() {
    let (mut net, vs) = counted(&[(6, false), (7, false)]);
    let before = values(&vs);
    let error = net.slim(0.5).unwrap_err();
    insta::assert_snapshot!(error, @"`counters.1`: `channels` should be 6, as the flow is, but is 7");
    crate::common::assert_same(&values(&vs), &before);
}

#[test]
fn a_failure_behind_the_commit_is_taken_back() {
    let (mut net, vs) = counted(&[(6, false), (6, true)]);
    let before = values(&vs);
    let pointer = net.conv.ws.data_ptr();
    assert!(net.slim(0.5).unwrap_err().to_string().contains("on purpose"));
    crate::common::assert_same(&values(&vs), &before);
    assert_eq!(net.conv.ws.data_ptr(), pointer);
    assert_eq!(net.counters.iter().map(|counter| counter.channels).collect::<Vec<_>>(), [6, 6]);
    net.counters[1].fail = false;
    net.slim(0.5).unwrap();
}

#[test]
fn a_number_that_layers_mut_forgets_is_an_error() {
    #[derive(Debug)]
    struct Forgetful(Counted);
    impl Prunable for Forgetful {
        fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
            self.0.trace(cx, input)
        }
    }
    let (net, vs) = counted(&[(6, false)]);
    let before = values(&vs);
    let error = Forgetful(net).slim(0.5).unwrap_err();
    insta::assert_snapshot!(error, @"`counters.0`: `channels` is declared in `trace` but not in `layers_mut`; a hand-written `Prunable` must name its state in both");
    crate::common::assert_same(&values(&vs), &before);
}

/// A composite that does not name its parts: two layers have the same path.
#[derive(Debug)]
struct Unnamed(Counted, Counter);

impl Prunable for Unnamed {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        let flow = cx
            .field("counters", |cx| {
                cx.field(0, |cx| cx.layer(LayerKind::other("narrow")).write("out", 4).map(|_| ()))
            })
            .and_then(|()| self.0.trace(cx, input))?;
        cx.field("counters", |cx| {
            cx.field(0, |cx| {
                let mut layer = cx.layer(LayerKind::other("counter"));
                let channels = layer.follow("channels", &flow, self.1.channels)?;
                layer.size("channels", channels)?;
                layer.pass(channels)
            })
        })
    }
}

#[test]
fn two_layers_with_one_name_are_refused() {
    let (net, _vs) = counted(&[(6, false)]);
    let error =
        Unnamed(net, Counter { channels: 2, fail: false }).plan(&Slimming::ratio(0.5)).unwrap_err();
    insta::assert_snapshot!(error, @"`counters.0`: two layers have `channels` here; give each a name of its own with `Tracer::field`");
}

/// Two layers of the same width at the same path.
#[derive(Debug)]
struct Twins(nn::Conv2D, nn::BatchNorm, Counter, Counter, nn::Conv2D);

impl Prunable for Twins {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        let flow = self.0.trace(cx, input)?;
        let flow = self.1.trace(cx, flow)?;
        let flow = self.2.trace(cx, flow)?;
        let flow = self.3.trace(cx, flow)?;
        self.4.trace(cx, flow)
    }

    fn layers_mut(&mut self, visit: &mut LayerVisitor) -> Result<()> {
        self.2.layers_mut(visit)?;
        self.3.layers_mut(visit)
    }
}

#[test]
fn two_layers_with_one_name_are_refused_also_where_they_are_as_wide() {
    let vs = VarStore::new(device());
    let p = &vs.root();
    let counter = || Counter { channels: 6, fail: false };
    let bn = nn::batch_norm2d(p / 1, 6, Default::default());
    let mut net = Twins(
        nn::conv2d(p / 0, 3, 6, 1, nn::no_bias()),
        bn,
        counter(),
        counter(),
        nn::conv2d(p / 4, 6, 2, 1, nn::no_bias()),
    );
    insta::assert_snapshot!(net.slim(0.5).unwrap_err(), @"`model`: two layers have `channels` here; give each a name of its own with `field`");
    assert_eq!((net.0.ws.size()[0], net.2.channels, net.3.channels), (6, 6, 6));
}
