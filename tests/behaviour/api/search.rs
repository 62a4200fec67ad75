//! A search comes within its budget, near the known best ratios, and goes on to the bit.

use std::panic::{AssertUnwindSafe, catch_unwind};

use slim_cli::model::Model;
use slim_cli::network::{Arch, Net, Spec};
use slim_runtime::criterion::{Candidate, Criterion, L1, L2};
use slim_runtime::error::{CheckError, SelectionError};
use slim_runtime::{Error, Prunable, Result, Search, Sensitivity, Slimming, Target};
use slim_tests::networks::{Chain, built};
use tch::nn::ModuleT;
use tch::{Kind, Tensor};

use crate::common::{assert_same, images, values};
use crate::planted::{Planted, all, expected, planted, value};

/// The largest value within a budget of parameters, by trying all ratios.
fn optimum(share: f64) -> f64 {
    let most = (expected([0; 3]).1 as f64 * share) as usize;
    let within = all().map(expected).filter(|(_, parameters)| *parameters <= most);
    within.map(|(value, _)| value).max_by(f64::total_cmp).unwrap()
}

/// The value of the network under a slimming.
fn value_of(slimming: &Slimming) -> f64 {
    let (mut net, _vs) = planted();
    net.apply(&net.plan(slimming).unwrap()).unwrap();
    value(&net)
}

/// The least ratio of all layers alike that meets the budget.
fn uniform(share: f64) -> Slimming {
    let (net, _vs) = planted();
    let meets = |slimming: &Slimming| {
        let parameters = net.plan(slimming).unwrap().parameters();
        parameters.after <= (parameters.before as f64 * share) as i64
    };
    let all = (0..100).map(|percent| Slimming::ratio(f64::from(percent) / 100.).local());
    all.into_iter().find(meets).unwrap()
}

#[test]
fn the_planted_network_is_what_arithmetic_says() {
    let (net, _vs) = planted();
    assert_eq!(
        net.plan(&Slimming::ratio(0.)).unwrap().parameters().before,
        expected([0; 3]).1 as i64
    );
    for removed @ [stream, inside, behind] in [[0, 3, 5], [2, 0, 7], [7, 11, 19], [4, 6, 10]] {
        let keep = |left| Target::TopK(left);
        let slimming = Slimming::ratio(0.)
            .layers("bn0", keep(8 - stream))
            .layers("bn1", keep(12 - inside))
            .layers("bn3", keep(20 - behind));
        let parameters = net.plan(&slimming).unwrap().parameters().after;
        let (expected_value, expected_parameters) = expected(removed);
        assert_eq!(parameters, expected_parameters as i64, "{removed:?}");
        assert!((value_of(&slimming) - expected_value).abs() < 1e-5, "{removed:?}");
    }
}

#[test]
fn the_search_comes_near_the_known_optimum_and_beats_its_starts() {
    for (share, seed) in [(0.5, 1), (0.5, 2), (0.3, 3), (0.75, 4)] {
        let (mut net, vs) = planted();
        let before = values(&vs);
        let mut search = Search::new(&net, &Slimming::params(share)).unwrap().seed(seed);
        search.run(&mut net, 12, value).unwrap();
        assert_same(&values(&vs), &before);

        let found = search.found().unwrap();
        let parameters = net.plan(&found).unwrap().parameters();
        assert!(parameters.after <= (parameters.before as f64 * share) as i64);
        let (best, optimum) = (search.best().unwrap().value.unwrap(), optimum(share));
        let start = value_of(&Slimming::params(share)).max(value_of(&uniform(share)));
        assert!(best <= optimum + 1e-4, "{best} is above the optimum {optimum}");
        assert!(best > start, "{best} does not beat the start {start}");
        assert!(
            best >= start + 0.95 * (optimum - start),
            "{best} of {optimum}, from {start}, seed {seed}\n{search}"
        );
    }
}

#[test]
fn a_budget_of_multiply_accumulates_is_met() {
    let (mut net, _vs) = planted();
    let image = images(1);
    let cost = net.cost(|net| net.forward_t(&image, false)).unwrap();
    let slimming = Slimming::macs(0.4, &cost).unwrap().criterion(L2);
    let mut search = Search::new(&net, &slimming).unwrap().population(8);
    search.run(&mut net, 3, value).unwrap();
    let found = search.found().unwrap();
    assert_eq!(found.criterion, slimming.criterion);
    let after = cost.after(&net.plan(&found).unwrap()).unwrap().macs().unwrap();
    let share = after as f64 / cost.macs().unwrap() as f64;
    // Just met: a single channel more of the largest layers is a few percent.
    assert!(share <= 0.4 && share > 0.35, "{share}");
}

#[test]
fn bounds_and_kept_layers_hold_for_what_is_found() {
    let (mut net, _vs) = planted();
    let slimming = Slimming::params(0.5).round_to(4).keep("bn1");
    let mut search = Search::new(&net, &slimming).unwrap().population(6);
    search.run(&mut net, 3, value).unwrap();
    assert_eq!(
        search.groups().iter().map(|group| &group.layers[..]).collect::<Vec<_>>(),
        [&["bn0".to_owned(), "bn2".to_owned()][..], &["bn3".to_owned()]]
    );
    let plan = net.plan(&search.found().unwrap()).unwrap();
    assert!(plan.parameters().after * 2 <= plan.parameters().before);
    assert!(plan.cfg().widths().all(|width| width % 4 == 0), "{}", plan.cfg());
    assert_eq!(plan.layer("bn1").unwrap().axes[0].keep.len(), 12);
}

/// Networks with many kinds of coupling: residual streams, selections, concatenations, shuffles,
/// depthwise and squeeze-and-excitation layers, groups.
#[test]
fn every_individual_meets_the_budget_and_barely() {
    let networks = [
        (Arch::Preresnet, Some(11), Slimming::params(0.5)),
        (Arch::Densenet, Some(10), Slimming::params(0.5)),
        (Arch::Densenet, Some(10), Slimming::params(0.5).round_to(4).at_least(4)),
        (Arch::ShufflenetV2, None, Slimming::params(0.6)),
        (Arch::RegnetY400mf, None, Slimming::params(0.6).criterion(L1)),
    ];
    for (arch, depth, slimming) in networks {
        let mut model =
            Model::new(Spec::new(arch, depth, None, 10).unwrap(), slim_tests::device()).unwrap();
        tch::manual_seed(3);
        model.draw_scales();
        let mut search = Search::new(&model.net, &slimming).unwrap().population(3);
        search.run(&mut model.net, 0, |_: &Net| 1.).unwrap();
        let Target::Params(share) = slimming.target else { panic!() };
        for individual in search.individuals() {
            let found = search.slimming_of(individual);
            let parameters = model.net.plan(&found).unwrap().parameters();
            let left = parameters.after as f64 / parameters.before as f64;
            assert!(left <= share && left > share - 0.05, "{arch}: {left} of {share}");
            // Each number is that of the channels that really go, unless a bound keeps some.
            if slimming.bounds == Slimming::ratio(0.).bounds {
                let plan = model.net.plan(&found).unwrap();
                let gone = (plan.channels().before - plan.channels().after) as usize;
                let asked = individual.removed.iter().sum::<usize>();
                assert!(
                    gone <= asked && gone + search.groups().len() >= asked,
                    "{arch}: {gone} {asked}"
                );
            }
        }
    }
}

#[test]
fn the_first_generation_has_the_global_ranking_and_one_ratio_for_all() {
    let (mut net, _vs) = planted();
    let mut search = Search::new(&net, &Slimming::params(0.5)).unwrap().population(4);
    let mut first = Vec::new();
    let all = |search: &Search| {
        first.push(search.clone());
        Ok(())
    };
    search.run_with(&mut net, 0, value, all).unwrap();
    let [global, uniform, ..] = first[0].individuals() else { panic!() };
    let own = net.plan(&Slimming::params(0.5)).unwrap();
    let gone = |path: &str| {
        let axis = &own.layer(path).unwrap().axes[0];
        axis.width - axis.keep.len()
    };
    assert_eq!(global.removed, [gone("bn0") + gone("bn2"), gone("bn1"), gone("bn3")]);
    let ratios = uniform.removed.iter().zip(search.groups());
    let ratios: Vec<_> =
        ratios.map(|(&removed, group)| removed as f64 / group.removable as f64).collect();
    let ends = [f64::min, f64::max].map(|end| ratios.iter().copied().reduce(end).unwrap());
    // Within a channel of the smallest layer.
    assert!(ends[0] > 0.1 && ends[1] - ends[0] <= 1. / 8., "{ratios:?}");
}

#[test]
fn what_is_found_is_recorded_and_is_what_was_measured() {
    let (mut net, _vs) = planted();
    let mut search = Search::new(&net, &Slimming::params(0.6).criterion(L1)).unwrap().population(6);
    assert_eq!((search.found(), search.best()), (None, None));
    search.run(&mut net, 2, value).unwrap();
    let found = search.found().unwrap();
    let json = serde_json::to_string(&found).unwrap();
    assert_eq!(serde_json::from_str::<Slimming>(&json).unwrap(), found);
    let plan = net.plan(&found).unwrap();
    assert_eq!(plan.slimming().layers, found.layers);
    assert!(found.layers.iter().all(|(_, target)| matches!(target, Target::Ratio(_))));
    net.apply(&plan).unwrap();
    assert_eq!(value(&net), search.best().unwrap().value.unwrap());
}

/// A value without any order: a hash of the widths.
fn lottery(net: &Planted) -> f64 {
    let widths = [&net.bn0, &net.bn1, &net.bn3].map(|norm| norm.running_mean.size()[0] as u64);
    let seed = widths.iter().fold(7_u64, |seed, width| seed.wrapping_mul(0x9e37_79b9) ^ width);
    fastrand::Rng::with_seed(seed).f64()
}

#[test]
fn the_best_is_never_lost() {
    let (mut net, _vs) = planted();
    let mut search = Search::new(&net, &Slimming::params(0.5)).unwrap().population(5).seed(9);
    let mut seen: Vec<f64> = Vec::new();
    let measure = |net: &Planted| {
        let value = lottery(net);
        seen.push(value);
        value
    };
    search.run(&mut net, 8, measure).unwrap();
    let most = seen.iter().copied().reduce(f64::max);
    assert_eq!(search.best().unwrap().value, most);
    assert_eq!(search.history().len(), 9);
    assert!(search.history().is_sorted());
    assert_eq!(search.history().last().copied(), most);
    assert_eq!(search.evaluations(), seen.len());
}

/// The error of a measure that is interrupted.
#[derive(Debug)]
struct Stopped;

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        panic!("{error}");
    }
}

#[test]
fn a_search_that_was_interrupted_goes_on_to_the_bit() {
    let (mut net, vs) = planted();
    let begin =
        |net: &Planted| Search::new(net, &Slimming::params(0.5)).unwrap().population(7).seed(5);
    let mut whole = begin(&net);
    whole.run(&mut net, 5, lottery).unwrap();

    // Some generations, and more.
    let mut search = begin(&net);
    for generations in [0, 2, 2, 5] {
        search.run(&mut net, generations, lottery).unwrap();
        assert_eq!(search.history().len(), generations + 1);
        search = Search::from_json(&search.to_json().unwrap()).unwrap();
    }
    assert_eq!(search.to_json().unwrap(), whole.to_json().unwrap());

    // Interrupted by the measure after each number of evaluations, in another process each time.
    let before = values(&vs);
    for most in 1..=4 {
        let (mut search, mut runs) = (begin(&net), 0);
        loop {
            let mut left = most;
            let measure = |net: &Planted| {
                left -= 1;
                if left < 0 { Err(Stopped) } else { Ok(lottery(net)) }
            };
            let done = search.run(&mut net, 5, measure);
            assert_same(&values(&vs), &before);
            search = Search::from_json(&search.to_json().unwrap()).unwrap();
            runs += 1;
            if done.is_ok() {
                break;
            }
        }
        assert!(runs > 1);
        assert_eq!(search.to_json().unwrap(), whole.to_json().unwrap(), "every {most}");
    }

    // Interrupted after each evaluation, also at the end of a generation.
    let (mut search, mut saved) = (begin(&net), String::new());
    loop {
        let save = |search: &Search| {
            saved = search.to_json()?;
            Err(Error::Check(CheckError::Unverified { reason: "stopped".to_owned() }))
        };
        if search.run_with(&mut net, 5, lottery, save).is_ok() {
            break;
        }
        search = Search::from_json(&saved).unwrap();
    }
    assert_eq!(saved, whole.to_json().unwrap());
}

#[test]
fn seeds_differ_and_repeat() {
    let (mut net, _vs) = planted();
    let mut run = |seed| {
        let mut search =
            Search::new(&net, &Slimming::params(0.5)).unwrap().population(6).seed(seed);
        search.run(&mut net, 2, lottery).unwrap();
        search
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1).individuals(), run(2).individuals());
}

#[test]
fn errors_and_panics_of_the_measure_leave_the_network() {
    let (mut net, vs) = planted();
    let before = values(&vs);
    let mut search = Search::new(&net, &Slimming::params(0.5)).unwrap();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        search.run(&mut net, 1, |_: &Planted| -> f64 { panic!("measure") })
    }));
    assert!(panicked.is_err());
    assert_same(&values(&vs), &before);
    let training = search.run(&mut net, 1, |net: &Planted| {
        net.forward_t(&images(4), true).sum(Kind::Double).double_value(&[])
    });
    assert!(matches!(training, Err(Error::Check(CheckError::TrainingMode { .. }))), "{training:?}");
    assert_same(&values(&vs), &before);
    for wrong in [f64::NAN, f64::INFINITY] {
        let error = search.run(&mut net, 1, |_: &Planted| wrong).unwrap_err().to_string();
        assert!(error.contains("cannot be compared"), "{error}");
    }
    assert_eq!(search.evaluations(), 0);
    search.run(&mut net, 1, value).unwrap();
}

#[test]
fn a_sensitivity_suggests_a_better_start() {
    let (mut net, _vs) = planted();
    let ratios = [0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875];
    // A masked γ is zero, so the sum is that of a slimmed network.
    let sensitivity = Sensitivity::measure(&mut net, &Slimming::ratio(0.5), ratios, value).unwrap();
    let search = || Search::new(&net, &Slimming::params(0.4)).unwrap().population(3);
    let mut plain = search();
    let mut suggested = search().suggested_by(&sensitivity).unwrap();
    plain.run(&mut net, 0, value).unwrap();
    suggested.run(&mut net, 0, value).unwrap();
    let best = |search: &Search| search.best().unwrap().value.unwrap();
    assert!(best(&suggested) > best(&plain), "{} {}", best(&suggested), best(&plain));

    let search = || Search::new(&net, &Slimming::params(0.4).criterion(L1)).unwrap();
    let error = search().suggested_by(&sensitivity).unwrap_err().to_string();
    assert!(error.contains("measured with another slimming"), "{error}");
    let open = Sensitivity::new(&net, &Slimming::ratio(0.5).criterion(L1), ratios).unwrap();
    let error = search().suggested_by(&open).unwrap_err().to_string();
    assert!(error.contains("is not complete"), "{error}");
}

#[test]
fn a_search_of_something_else_is_refused() {
    let (mut net, _vs) = planted();
    let mut search = Search::new(&net, &Slimming::params(0.5)).unwrap().population(4);
    search.run(&mut net, 1, value).unwrap();
    let state = search.to_json().unwrap();
    let refused = |net: &mut Planted| {
        let error = Search::from_json(&state).unwrap().run(net, 2, value).unwrap_err();
        assert!(matches!(error, Error::Check(CheckError::Resume { .. })), "{error}");
        error.to_string()
    };
    let (mut trained, _vs) = planted();
    let _ = tch::no_grad(|| trained.bn3.ws.as_mut().unwrap().get(3).fill_(0.9));
    assert!(refused(&mut trained).contains("the weights have changed"));
    let (mut slimmed, _vs) = planted();
    slimmed.slim(0.1).unwrap();
    assert!(refused(&mut slimmed).contains("whose layers or widths differ"));
    let (mut chain, _vs) = built::<Chain>();
    let other = Search::from_json(&state).unwrap().run(&mut chain, 2, |_: &Chain| 1.).unwrap_err();
    assert!(other.to_string().contains("whose layers or widths differ"), "{other}");
    let (mut same, _vs) = planted();
    Search::from_json(&state).unwrap().run(&mut same, 2, value).unwrap();
}

/// A user's own criterion: |γ|.
#[derive(Debug)]
struct Own;

impl Criterion for Own {
    fn name(&self) -> String {
        "own".to_owned()
    }

    fn scores(&self, layer: &Candidate<'_>) -> Result<Option<Tensor>> {
        Ok(layer.scale().map(Tensor::abs))
    }
}

#[test]
fn a_criterion_of_ones_own_is_given_back_after_reading() {
    let (mut net, _vs) = planted();
    let mut search =
        Search::new(&net, &Slimming::params(0.5).criterion(Own)).unwrap().population(4);
    search.run(&mut net, 1, value).unwrap();
    let mut read = Search::from_json(&search.to_json().unwrap()).unwrap();
    let error = read.run(&mut net, 2, value).unwrap_err();
    let unknown = matches!(error, Error::Selection(SelectionError::UnknownCriterion { .. }));
    assert!(unknown, "{error}");
    let mut read = read.ranked_by(&Slimming::ratio(0.).criterion(Own));
    read.run(&mut net, 2, value).unwrap();
    search.run(&mut net, 2, value).unwrap();
    assert_eq!(read, search);
}

#[test]
fn what_no_search_can_meet_is_refused() {
    let (net, _vs) = planted();
    let refused = |slimming: &Slimming| Search::new(&net, slimming).unwrap_err().to_string();
    assert!(refused(&Slimming::ratio(0.5)).contains("ratio 0.5 is no budget"));
    assert!(refused(&Slimming::params(0.01)).contains("is out of reach"));
    let layers = Slimming::params(0.5).layers("bn1", Target::Ratio(0.5));
    assert!(refused(&layers).contains("layers that match `bn1` have a target of their own"));
    assert!(refused(&Slimming::params(0.5).keep("**")).contains("nothing to prune"));
    let (fresh, _vs) = built::<Chain>();
    let _ = tch::no_grad(|| fresh.bn1.ws.as_ref().unwrap().shallow_clone().fill_(0.5));
    let error = Search::new(&fresh, &Slimming::params(0.5)).unwrap_err();
    assert!(matches!(error, Error::Selection(SelectionError::NoRanking { .. })), "{error}");
}

#[test]
fn hostile_states_are_refused() {
    let (mut net, _vs) = planted();
    let mut search = Search::new(&net, &Slimming::params(0.5)).unwrap().population(4);
    search.run(&mut net, 1, value).unwrap();
    let state: serde_json::Value = serde_json::from_str(&search.to_json().unwrap()).unwrap();
    let refused = |pointer: &str, wrong: serde_json::Value| {
        let mut state = state.clone();
        *state.pointer_mut(pointer).unwrap() = wrong;
        let error = Search::from_json(&state.to_string()).unwrap_err();
        assert!(matches!(error, Error::Check(CheckError::Measurements { .. })), "{error}");
        error.to_string()
    };
    use serde_json::json;
    let report = [
        refused("/format", json!(2)),
        refused("/population/0/removed/0", json!(17)),
        refused("/population/0/removed", json!([1, 2])),
        refused("/population/3/removed", json!([1, 2, -3])),
        refused("/population/0/value", json!(-1e9)),
        refused("/population/0/value", json!(null)),
        refused("/population", json!([])),
        refused("/population", json!([{"removed": [0, 0, 0], "value": 1}])),
        refused("/size", json!(0)),
        refused("/size", json!(u64::MAX)),
        refused("/generation", json!(u64::MAX - 1)),
        refused("/generation", json!(u64::MAX)),
        refused("/history", json!([])),
        refused("/groups", json!([])),
        refused("/groups/0/removable", json!(0)),
        refused("/groups/0/layers", json!([])),
        refused("/slimming/target", json!({"params": -1.0})),
        refused("/suggested", json!([[1]])),
    ];
    insta::assert_snapshot!(report.join("\n"));
    for text in ["", "{}", "[1]", "nonsense", &"[".repeat(100_000)] {
        Search::from_json(text).unwrap_err();
    }
    // A consistent state of other groups is refused by the network.
    let mut other = state.clone();
    other["groups"][0]["pattern"] = json!("bn3");
    let error = Search::from_json(&other.to_string()).unwrap().run(&mut net, 2, value).unwrap_err();
    assert!(error.to_string().contains("their groups of layers"), "{error}");
    // So is an individual that removes nothing.
    let mut above = state.clone();
    above["population"][3]["removed"] = json!([0, 0, 0]);
    let error = Search::from_json(&above.to_string()).unwrap().run(&mut net, 2, value).unwrap_err();
    assert!(error.to_string().contains("an individual is above the budget"), "{error}");
}

#[test]
fn a_search_prints_its_ratios() {
    let (mut net, _vs) = planted();
    let mut search = Search::new(&net, &Slimming::params(0.5)).unwrap().population(4).seed(3);
    assert_eq!(search.to_string(), "nothing is measured yet");
    search.run(&mut net, 1, value).unwrap();
    insta::assert_snapshot!(search);
}
