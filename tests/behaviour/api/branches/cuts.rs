//! Flows that are cut: by count, and by stored sizes and positions.

use slim_runtime::{Prunable, nn as own};
use tch::Tensor;
use tch::nn::Module;

use super::{Form, Unit, conv, keep, kept, linear, mean, unit};

/// A gated linear unit.
#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(output = chunk(unit, 2, 0) * chunk(unit, 2, 1))]
struct Glu {
    unit: Unit,
}

#[test]
fn chunks_lose_the_same_channels() {
    let form = Form {
        inputs: &[3],
        new: |p| (Glu { unit: unit(p / 0 / "unit", 3, 8) }, conv(p / 1, 4, 2)),
        forward: |(glu, last), xs| {
            let halves = xs[0].apply(&glu.unit).chunk(2, 1);
            vec![(&halves[0] * halves[1].sigmoid()).apply(last)]
        },
        scales: &[("0.unit.bn", &[9., 1., 2., 1., 1., 8., 2., 1.])],
    };
    let (plan, _) = form.check();
    // The scores are 9 8 2 1, each for two channels, and the threshold is 8.
    assert_eq!(
        (kept(&plan, "0.unit.bn"), keep(&plan, "1", "in")),
        ("0,4".to_owned(), "0".to_owned())
    );
}

/// The number of groups of the shuffle.
const GROUPS: usize = 2;

#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(output = shuffle(unit, GROUPS))]
struct ByCount {
    unit: Unit,
}

#[test]
fn a_shuffle_by_view_loses_the_same_channels_in_every_group() {
    let form = Form {
        inputs: &[3],
        new: |p| (ByCount { unit: unit(p / 0 / "unit", 3, 6) }, conv(p / 1, 6, 2)),
        forward: |(net, last), xs| {
            let xs = xs[0].apply(&net.unit).relu();
            let groups = GROUPS as i64;
            let shuffled = xs
                .view([2, groups, xs.size()[1] / groups, 4, 4])
                .transpose(1, 2)
                .contiguous()
                .view([2, -1, 4, 4]);
            vec![shuffled.apply(last)]
        },
        scales: &[("0.unit.bn", &[1., 1., 9., 8., 1., 1.])],
    };
    let (plan, _) = form.check();
    // Channels 0 and 3 are one group of channels, and so are 2 and 5. The shuffle moves the former
    // to positions 0 and 1, the latter to 4 and 5. The scores are 8 1 9, each for two channels, and
    // the threshold is 8.
    assert_eq!(kept(&plan, "0.unit.bn"), "2,5");
    assert_eq!(keep(&plan, "1", "in"), "4-5");
}

#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(output = pixel_shuffle(unit, 2))]
struct Upsample {
    unit: Unit,
}

#[test]
fn a_pixel_shuffle_loses_blocks() {
    let form = Form {
        inputs: &[3],
        new: |p| (Upsample { unit: unit(p / 0 / "unit", 3, 12) }, conv(p / 1, 3, 2)),
        forward: |(net, last), xs| vec![xs[0].apply(&net.unit).relu().pixel_shuffle(2).apply(last)],
        scales: &[("0.unit.bn", &[1., 1., 1., 9., 2., 2., 2., 2., 8., 1., 1., 1.])],
    };
    let (plan, _) = form.check();
    assert_eq!(
        (kept(&plan, "0.unit.bn"), keep(&plan, "1", "in")),
        ("0-3".to_owned(), "0".to_owned())
    );
}

/// A unit of ShuffleNetV2: one part passes unchanged, the other goes through `work`.
#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(output = [split.0, work])]
struct ShuffleUnit {
    split: own::Split,
    #[prune(from = split.1)]
    work: Unit,
}

#[derive(Debug, Prunable)]
#[prune(sequential)]
struct ShuffleNet {
    stem: Unit,
    units: Vec<(ShuffleUnit, own::Shuffle)>,
    fc: own::Linear,
}

#[test]
fn stored_sizes_and_positions_tie_nothing() {
    let form = Form {
        inputs: &[3],
        new: |p| {
            let work = |i: i64| ShuffleUnit {
                split: own::split([3, 3]),
                work: unit(p / "units" / i / 0 / "work", 3, 3),
            };
            ShuffleNet {
                stem: unit(p / "stem", 3, 6),
                units: (0..2).map(|i| (work(i), own::shuffle(6, 2))).collect(),
                fc: linear(p / "fc", 6, 2),
            }
        },
        forward: |net, xs| {
            let unit = |xs: Tensor, (unit, shuffle): &(ShuffleUnit, own::Shuffle)| {
                let parts = unit.split.forward(&xs);
                shuffle.forward(&Tensor::cat(&[&parts[0], &parts[1].apply(&unit.work).relu()], 1))
            };
            vec![mean(&net.units.iter().fold(xs[0].apply(&net.stem).relu(), unit)).apply(&net.fc)]
        },
        scales: &[
            ("stem.bn", &[9., 1., 8., 1., 1., 7.]),
            ("units.0.0.work.bn", &[1., 9., 1.]),
            ("units.1.0.work.bn", &[9., 8., 1.]),
        ],
    };
    let (plan, net) = form.check();
    assert_eq!(
        (kept(&plan, "stem.bn"), kept(&plan, "units.0.0.work.bn")),
        ("0,2,5".to_owned(), "1".to_owned())
    );
    // The shuffle reads channels 0, 2 and 4 (channel 1 of `work`). Its order is 0 3 1 4 2 5, so
    // they are at positions 0, 4 and 3 of its output.
    assert_eq!(keep(&plan, "units.0.1", "out"), "0,3-4");
    assert_eq!(
        (net.units[0].0.split.sizes(), net.units[0].1.order()),
        ([2, 1].as_slice(), [0, 2, 1].as_slice())
    );
    assert_eq!(
        (net.units[1].0.split.sizes(), net.units[1].1.order()),
        ([1, 2].as_slice(), [0, 1, 2].as_slice())
    );
}
