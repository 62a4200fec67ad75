//! Several inputs, several outputs, and layers that are applied more than once.

use slim_runtime::{Prunable, nn as own};
use tch::Tensor;

use super::{Form, Unit, conv, keep, kept, linear, mean, unit};

#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(input = (3, 1), output = [image, depth])]
struct TwoInputs {
    #[prune(from = input.0)]
    image: Unit,
    #[prune(from = input.1)]
    depth: Unit,
}

#[test]
fn two_inputs() {
    let form = Form {
        inputs: &[3, 1],
        new: |p| {
            (
                TwoInputs {
                    image: unit(p / 0 / "image", 3, 4),
                    depth: unit(p / 0 / "depth", 1, 4),
                },
                conv(p / 1, 8, 2),
            )
        },
        forward: |(net, last), xs| {
            vec![
                Tensor::cat(&[xs[0].apply(&net.image), xs[1].apply(&net.depth)], 1)
                    .relu()
                    .apply(last),
            ]
        },
        scales: &[("0.image.bn", &[9., 1., 1., 8.]), ("0.depth.bn", &[1., 1., 7., 1.])],
    };
    let (plan, net) = form.check();
    assert_eq!(keep(&plan, "1", "in"), "0,3,6");
    assert_eq!((net.0.image.conv.ws.size()[1], net.0.depth.conv.ws.size()[1]), (3, 1));
}

#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(output = (class, place))]
struct TwoHeads {
    body: Unit,
    class: own::Linear,
    #[prune(from = body)]
    place: own::Conv2D,
}

#[test]
fn two_outputs() {
    let form = Form {
        inputs: &[3],
        new: |p| TwoHeads {
            body: unit(p / "body", 3, 6),
            class: linear(p / "class", 6, 2),
            place: conv(p / "place", 6, 3),
        },
        forward: |net, xs| {
            let xs = xs[0].apply(&net.body).relu();
            vec![mean(&xs).apply(&net.class), xs.apply(&net.place)]
        },
        scales: &[("body.bn", &[6., 1., 5., 2., 4., 3.])],
    };
    let (plan, _) = form.check();
    assert_eq!([keep(&plan, "class", "in"), keep(&plan, "place", "in")], ["0,2"; 2]);
    assert_eq!(
        (keep(&plan, "class", "out"), keep(&plan, "place", "out")),
        ("0-1".to_owned(), "0-2".to_owned())
    );
}

/// Takes two flows and gives two.
#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(output = (a + input.1, input.0))]
struct Exchange {
    #[prune(from = input.0)]
    a: Unit,
}

#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(output = [exchange.0, exchange.1])]
struct Nested {
    left: Unit,
    #[prune(from = input)]
    right: Unit,
    #[prune(from = (left, right))]
    exchange: Exchange,
}

#[test]
fn tuples_between_nested_structs() {
    let form = Form {
        inputs: &[3],
        new: |p| {
            let q = &(p / 0);
            let exchange = Exchange { a: unit(q / "exchange" / "a", 4, 5) };
            (
                Nested { left: unit(q / "left", 3, 4), right: unit(q / "right", 3, 5), exchange },
                conv(p / 1, 9, 2),
            )
        },
        forward: |(net, last), xs| {
            let (left, right) = (xs[0].apply(&net.left).relu(), xs[0].apply(&net.right).relu());
            let sum = left.apply(&net.exchange.a) + right;
            vec![Tensor::cat(&[sum, left], 1).apply(last)]
        },
        scales: &[
            ("0.left.bn", &[9., 1., 1., 9.]),
            ("0.right.bn", &[1., 9., 1., 1., 1.]),
            ("0.exchange.a.bn", &[1., 1., 1., 1., 9.]),
        ],
    };
    let (plan, _) = form.check();
    assert_eq!([kept(&plan, "0.right.bn"), kept(&plan, "0.exchange.a.bn")], ["1,4"; 2]);
    assert_eq!(keep(&plan, "1", "in"), "1,4-5,8");
}

/// One head for two levels of a pyramid.
#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(output = (head, head(low)))]
struct SharedHead {
    high: Unit,
    low: Unit,
    #[prune(from = high)]
    head: (Unit, own::Conv2D),
}

#[test]
fn a_head_for_two_flows() {
    let form = Form {
        inputs: &[3],
        new: |p| SharedHead {
            high: unit(p / "high", 3, 6),
            low: unit(p / "low", 6, 6),
            head: (unit(p / "head" / 0, 6, 4), conv(p / "head" / 1, 4, 2)),
        },
        forward: |net, xs| {
            let high = xs[0].apply(&net.high).relu();
            let low = high.apply(&net.low).relu();
            let head = |xs: &Tensor| xs.apply(&net.head.0).relu().apply(&net.head.1);
            vec![head(&high), head(&low)]
        },
        scales: &[
            ("high.bn", &[9., 1., 1., 1., 1., 1.]),
            ("low.bn", &[1., 1., 1., 1., 9., 1.]),
            ("head.0.bn", &[1., 9., 1., 9.]),
        ],
    };
    let (plan, _) = form.check();
    // Both levels are read by one weight, so they keep the same channels.
    assert_eq!(
        [kept(&plan, "high.bn"), kept(&plan, "low.bn"), keep(&plan, "head.0.conv", "in")],
        ["0,4"; 3]
    );
    assert_eq!(plan.removable(), 6 + 6 + 4);
}
