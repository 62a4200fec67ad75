//! Benchmarks: which runs are measured, not how long they take.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use slim_runtime::error::CheckError;
use slim_runtime::{Benchmark, Error, Flow, Prunable, Result, Tracer, benchmark};
use tch::nn::{ModuleT, VarStore};
use tch::{Device, Kind, Tensor};

use crate::common::{Net, assert_same, values};

#[test]
fn a_network_is_measured_where_and_as_it_is() {
    // The thread count is global: every test here that sets it sets 1.
    tch::set_num_threads(1);
    let mut vs = VarStore::new(Device::Cpu);
    let net = Net::new(&vs.root());
    vs.double();
    let before = values(&vs);
    let latency = benchmark(&net, [2, 3, 6, 6]).unwrap();
    assert!(latency.runs >= 15);
    assert_eq!((latency.batch, latency.device.as_str(), latency.threads), (Some(2), "cpu", 1));
    let seconds = latency.seconds;
    assert!(
        0. < seconds.lower && seconds.lower <= seconds.median && seconds.median <= seconds.upper
    );
    assert_same(&values(&vs), &before);
}

/// Shape and kind of the input, whether it was a pass in training mode, and whether the output has
/// a gradient.
type Seen = (Vec<i64>, Kind, bool, bool);

/// Records its inputs.
#[derive(Debug)]
struct Spy {
    weight: Tensor,
    seen: RefCell<Vec<Seen>>,
}

impl Prunable for Spy {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
        let mut layer = cx.layer(slim_runtime::LayerKind::other("spy"));
        let channels = layer.follow("channels", &input, self.weight.size()[0])?;
        layer.parameter("weight", &self.weight, &[(0, channels)])?;
        layer.pass(channels)
    }
}

impl ModuleT for Spy {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let output = xs * &self.weight;
        self.seen.borrow_mut().push((xs.size(), xs.kind(), train, output.requires_grad()));
        output
    }
}

#[test]
fn it_runs_in_evaluation_mode_without_gradients_and_in_the_kind_of_the_weights() {
    let vs = VarStore::new(Device::Cpu);
    let weight =
        vs.root().ones("weight", &[5]).to_kind(Kind::BFloat16).detach().set_requires_grad(true);
    let spy = Spy { weight, seen: RefCell::default() };
    let latency = benchmark(&spy, [4, 5]).unwrap();
    let seen = spy.seen.borrow();
    assert!(seen.len() > latency.runs, "it warms up");
    assert!(seen.iter().all(|seen| *seen == (vec![4, 5], Kind::BFloat16, false, false)));
}

#[test]
fn what_cannot_be_measured_is_said() {
    let net = Net::new(&VarStore::new(Device::Cpu).root());
    let said = |shape: &[i64]| benchmark(&net, shape).unwrap_err().to_string();
    insta::assert_snapshot!(said(&[]), @"nothing was measured: an input cannot have the shape []; give the batch first and at least 1 of each, as [1, 3, 224, 224]");
    insta::assert_snapshot!(said(&[1, -3, 6, 6]), @"nothing was measured: an input cannot have the shape [1, -3, 6, 6]; give the batch first and at least 1 of each, as [1, 3, 224, 224]");
    insta::assert_snapshot!(said(&[1, 4, 6, 6]), @"nothing was measured: it panics: Given groups=1, weight of size [8, 3, 3, 3], expected input[1, 4, 6, 6] to have 3 channels, but got 4 channels instead");
    insta::assert_snapshot!(Benchmark::new().runs(0).measure(|| ()).unwrap_err(), @"nothing was measured: 0 runs have no median; ask for at least 1");
    insta::assert_snapshot!(Benchmark::new().runs(0).in_turn().case("", || ()).run().unwrap_err(), @"nothing was measured: 0 runs have no median; ask for at least 1");

    #[derive(Debug, Prunable)]
    #[prune(sequential)]
    struct Nothing;
    impl ModuleT for Nothing {
        fn forward_t(&self, xs: &Tensor, _: bool) -> Tensor {
            xs.shallow_clone()
        }
    }
    insta::assert_snapshot!(benchmark(&Nothing, [1]).unwrap_err(), @"nothing was measured: the network has no tensor of floats, so nothing says where it runs; use `Benchmark::new().measure(…)`");
}

#[test]
fn runs_are_as_many_as_asked_for() {
    let count = Cell::new(0);
    let benchmark = Benchmark::new().warm_up(Duration::ZERO);
    let latency = benchmark.runs(7).batch(3).measure(|| count.set(count.get() + 1)).unwrap();
    assert_eq!((latency.runs, latency.batch, count.get()), (7, Some(3), 1 + 7));

    count.set(0);
    let latency = benchmark.time(Duration::ZERO).measure(|| count.set(count.get() + 1)).unwrap();
    assert_eq!((latency.runs, count.get()), (15, 1 + 15));
}

#[test]
fn cases_take_turns_and_each_is_first_in_turn() {
    let order = RefCell::new(String::new());
    let mark = |name| {
        let order = &order;
        move || order.borrow_mut().push(name)
    };
    let turns = Benchmark::new()
        .warm_up(Duration::ZERO)
        .runs(4)
        .in_turn()
        .case("a", mark('a'))
        .case("b", mark('b'))
        .case("c", mark('c'));
    let compared = turns.run().unwrap();
    assert_eq!(*order.borrow(), ["abc", "abc", "bca", "cab", "abc"].concat());
    assert!(compared.rounds.iter().all(|rounds| rounds.len() == 4));
    assert_eq!(compared.case("b").unwrap().runs, 4);
    assert!(compared.case("d").is_none());
}

#[test]
fn a_case_may_measure_itself() {
    let mut own = [3, 4, 5, 4].into_iter();
    let turns = Benchmark::new()
        .warm_up(Duration::ZERO)
        .runs(3)
        .in_turn()
        .timed_case("own", move || Ok(Duration::from_secs(own.next().unwrap())))
        .case("clock", || ());
    let compared = turns.run().unwrap();
    assert_eq!(compared.rounds[0], [4., 5., 4.]);
    assert!(compared.rounds[1].iter().all(|&seconds| seconds < 1.));

    let fails = || Err(Error::Custom("the process has ended".to_owned()));
    let error = Benchmark::new().in_turn().timed_case("own", fails).run().unwrap_err();
    insta::assert_snapshot!(error, @"the process has ended");
    let panics = || panic!("no process");
    let error = Benchmark::new().in_turn().timed_case("own", panics).run().unwrap_err();
    insta::assert_snapshot!(error, @"nothing was measured: it panics: no process");
}

#[test]
fn ratios_are_those_of_the_rounds() {
    let mut compared =
        Benchmark::new().runs(1).in_turn().case("slow", || ()).case("fast", || ()).run().unwrap();
    // A disturbance that lasts two rounds slows both cases.
    compared.rounds = vec![vec![4., 40., 44., 4.], vec![2., 20., 20., 2.]];
    let ratio = compared.times_as_fast("fast", "slow").unwrap();
    assert_eq!((ratio.lower, ratio.median), (2., 2.));
    assert!((ratio.upper - 2.05).abs() < 1e-12);
    assert_eq!(compared.times_as_fast("slow", "fast").unwrap().median, 0.5);
    assert!(compared.times_as_fast("fast", "other").is_none());
}

#[test]
fn a_comparison_is_a_table() {
    let mut compared = Benchmark::new()
        .runs(1)
        .batch(8)
        .in_turn()
        .case("dense", || ())
        .case("slimmed", || ())
        .run()
        .unwrap();
    compared.rounds = vec![vec![0.061, 0.062, 0.060], vec![0.021, 0.020, 0.022]];
    for ((_, latency), median) in compared.cases.iter_mut().zip([0.061, 0.021]) {
        (latency.seconds.lower, latency.seconds.median, latency.seconds.upper) =
            (0.98 * median, median, 1.02 * median);
        (latency.runs, latency.threads) = (3, 2);
    }
    insta::assert_snapshot!(compared, @r#"
    ───────────────────────────────────────────────
     case       median (quartiles)   times as fast
    ───────────────────────────────────────────────
     dense     61.0 ms (59.8–62.2)
     slimmed   21.0 ms (20.6–21.4)   2.9 (2.8–3.0)
    ───────────────────────────────────────────────
    3 rounds, batch 8, cpu, 2 threads
    "#);
    insta::assert_json_snapshot!(compared.cases[1], @r#"
    [
      "slimmed",
      {
        "seconds": {
          "lower": 0.02058,
          "median": 0.021,
          "upper": 0.02142
        },
        "runs": 3,
        "batch": 8,
        "device": "cpu",
        "threads": 2
      }
    ]
    "#);
    assert_eq!(Benchmark::new().in_turn().run().unwrap().to_string(), "nothing was measured");
}

#[test]
fn a_panic_is_an_error_of_either_way_to_measure() {
    let panics = || -> Tensor {
        Tensor::ones([2], tch::kind::FLOAT_CPU) + Tensor::ones([3], tch::kind::FLOAT_CPU)
    };
    let one = Benchmark::new().measure(panics).unwrap_err();
    let turn =
        Benchmark::new().in_turn().case("fine", || ()).case("broken", panics).run().unwrap_err();
    for error in [one, turn] {
        assert!(
            matches!(&error, Error::Check(CheckError::Benchmark { reason }) if reason.contains("must match the size")),
            "{error}"
        );
    }
}
