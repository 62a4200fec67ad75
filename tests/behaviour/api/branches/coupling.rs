//! Scores of coupled channels: the largest, the mean or the sum.

use slim_runtime::{Coupling, Prunable, Slimming};
use tch::nn;

use super::{Form, Unit, conv, kept, unit};

/// A stream that two batch norms write (`first`, `outer`), and a batch norm of separate channels
/// (`inner`).
#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(output = first + outer)]
struct Stream {
    first: Unit,
    inner: Unit,
    outer: Unit,
}

#[test]
fn the_largest_the_mean_or_the_sum() {
    let form: Form<(Stream, slim_runtime::nn::Conv2D)> = Form {
        inputs: &[3],
        new: |p: &nn::Path| {
            let q = &(p / 0);
            (
                Stream {
                    first: unit(q / "first", 3, 4),
                    inner: unit(q / "inner", 4, 2),
                    outer: unit(q / "outer", 2, 4),
                },
                conv(p / 1, 4, 2),
            )
        },
        forward: |(net, last), xs| {
            let first = xs[0].apply(&net.first).relu();
            vec![(first.apply(&net.inner).relu().apply(&net.outer) + first).apply(last)]
        },
        scales: &[
            ("0.first.bn", &[1., -2., 3., 5.]),
            ("0.outer.bn", &[6., 2., 1., -2.]),
            ("0.inner.bn", &[-4.5, 3.25]),
        ],
    };
    form.check();
    let (net, _vs) = form.build();
    let plan = |coupling| {
        let plan = net.plan(&Slimming::ratio(0.5).coupling(coupling)).unwrap();
        let floored: Vec<String> = plan.bounded().map(|(path, _)| path.to_owned()).collect();
        (plan.threshold().unwrap(), [kept(&plan, "0.first.bn"), kept(&plan, "0.inner.bn")], floored)
    };
    let lists = |stream: &str, inner: &str| [stream.to_owned(), inner.to_owned()];
    // The stream has the scores 6 2 3 5, each for two norms, and `inner` 4.5 3.25. The sixth of the
    // ten is 4.5, so `inner` would be empty.
    assert_eq!(plan(Coupling::Max), (4.5, lists("0,3", "0"), vec!["0.inner.bn".to_owned()]));
    // The stream has 3.5 2 2 3.5. The sixth of the ten is 3.5, so the stream would be empty and
    // keeps the first of its best channels.
    assert_eq!(
        plan(Coupling::Mean),
        (3.5, lists("0", "0"), vec!["0.first.bn".to_owned(), "0.outer.bn".to_owned()])
    );
    // The stream has 7 4 4 7. The sixth of the ten is 4.5.
    assert_eq!(plan(Coupling::Sum), (4.5, lists("0,3", "0"), vec!["0.inner.bn".to_owned()]));
}
