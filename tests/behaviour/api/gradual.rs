//! Gradual pruning: schedules, masks by independent plans, regrowth, the cut, resumed training.

use std::collections::BTreeMap;

use slim_runtime::error::SelectionError;
use slim_runtime::{
    Error, GradualPruning, Plan, Prunable, Schedule, Slimming, Target, criterion, model,
};
use slim_tests::device;
use slim_tests::fill::{fill, images};
use tch::nn::{ModuleT, VarStore};
use tch::{Kind, Tensor};

model! {
    /// Two convolutions make one sum.
    #[derive(Debug)]
    struct Net {
        conv1 = conv2d(3 => 8, kernel = 3, padding = 1, bias = false);
        bn1 = batch_norm(8);
        a = relu;
        conv2 = conv2d(8 => 12, kernel = 3, padding = 1, bias = false);
        bn2 = batch_norm(12);
        relu;
        conv3 = conv2d(12 => 8, kernel = 3, padding = 1, bias = false);
        bn3 = batch_norm(8);
        bn3 + a;
        relu;
        adaptive_avg_pool(1);
        flatten;
        fc = linear(8 => 4);
    }
}

model! {
    /// SiLU passes gradients at 0.
    #[derive(Debug)]
    struct Smooth {
        conv = conv2d(3 => 16, kernel = 3, padding = 1, bias = false);
        bn = batch_norm(16);
        silu;
        adaptive_avg_pool(1);
        flatten;
        fc = linear(16 => 4);
    }
}

/// A network in training, with all that a checkpoint would have.
struct Training<N> {
    net: N,
    vs: VarStore,
    velocities: BTreeMap<String, Tensor>,
    momentum: f64,
}

impl<N: ModuleT + Prunable> Training<N> {
    fn new(build: impl Fn(&VarStore) -> N, momentum: f64) -> Self {
        let mut vs = VarStore::new(device());
        let net = build(&vs);
        fill(&vs);
        vs.double();
        Self { net, vs, velocities: BTreeMap::new(), momentum }
    }

    /// Another network in the same state.
    fn copy(&self, build: impl Fn(&VarStore) -> N) -> Self {
        let mut other = Self::new(build, self.momentum);
        other.vs.copy(&self.vs).unwrap();
        let velocities = self.velocities.iter();
        other.velocities = velocities.map(|(name, it)| (name.clone(), it.copy())).collect();
        other
    }

    /// A step of SGD with momentum on batch `number`.
    fn step(&mut self, number: u64) {
        let all = images(&[96, 3, 6, 6]).to_kind(Kind::Double).to_device(device());
        let xs = all.narrow(0, (number as i64 % 12) * 8, 8);
        let labels =
            (xs.mean_dim(&[1i64, 2, 3][..], false, Kind::Double) * 40.).to_kind(Kind::Int64);
        let labels = labels.remainder(4);
        let trained: BTreeMap<String, Tensor> = self.vs.variables().into_iter().collect();
        let mut trained: Vec<_> =
            trained.into_iter().filter(|(_, variable)| variable.requires_grad()).collect();
        trained.iter_mut().for_each(|(_, variable)| variable.zero_grad());
        self.net.forward_t(&xs, true).cross_entropy_for_logits(&labels).backward();
        tch::no_grad(|| {
            // The same speed with and without momentum.
            let rate = if self.momentum == 0. { 1. } else { 0.1 };
            for (name, variable) in &mut trained {
                let gradient = variable.grad();
                let velocity = match self.velocities.get(name) {
                    Some(velocity) => velocity * self.momentum + gradient,
                    None => gradient.copy(),
                };
                let _ = variable.g_sub_(&(&velocity * rate));
                self.velocities.insert(name.clone(), velocity);
            }
        });
    }

    fn values(&self) -> BTreeMap<String, Vec<u64>> {
        let bits = |tensor: Tensor| -> Vec<u64> {
            let values = Vec::<f64>::try_from(tensor.flatten(0, -1)).unwrap();
            values.into_iter().map(f64::to_bits).collect()
        };
        self.vs.variables().into_iter().map(|(name, tensor)| (name, bits(tensor))).collect()
    }
}

fn net(momentum: f64) -> Training<Net> {
    Training::new(|vs| Net::new(vs.root()), momentum)
}

/// The positions that a plan removes of a layer's channels.
fn removed(plan: &Plan, layer: &str) -> Vec<usize> {
    let axis = plan.layer(layer).unwrap().axis("channels").unwrap();
    let kept: Vec<usize> = axis.keep.iter().collect();
    (0..axis.width).filter(|position| !kept.contains(position)).collect()
}

fn entry(vs: &VarStore, name: &str, position: usize) -> f64 {
    vs.variables()[name].double_value(&[position as i64])
}

#[test]
fn a_schedule_is_zero_then_grows_then_stays_one() {
    let linear = Schedule::constant().warm_up(3).ramp(4);
    let values: Vec<f64> = (0..9).map(|step| linear.at(step)).collect();
    assert_eq!(values, [0., 0., 0., 0., 0.25, 0.5, 0.75, 1., 1.]);
    let cubic = Schedule::constant().cubic_ramp(10).warm_up(2);
    for step in 0..20 {
        let share = f64::clamp((step as f64 - 2.) / 10., 0., 1.);
        let expected = share * (share * share - 3. * share + 3.);
        assert!((cubic.at(step) - expected).abs() < 1e-15, "{step}");
    }
    assert_eq!([0, 7, u64::MAX].map(|step| Schedule::constant().at(step)), [1.; 3]);
    let most = Schedule::constant().warm_up(u64::MAX).ramp(u64::MAX);
    assert_eq!([0, u64::MAX].map(|step| most.at(step)), [0.; 2]);
    for schedule in [linear, cubic, Schedule::constant()] {
        let text = serde_json::to_string(&schedule).unwrap();
        assert_eq!(serde_json::from_str::<Schedule>(&text).unwrap(), schedule);
    }
}

#[test]
fn masks_are_those_of_an_independent_plan_at_the_ratio_of_the_schedule() {
    for by_weights in [false, true] {
        let slimming = |share: f64| {
            let slimming = Slimming::ratio(0.6 * share).layers("conv2", Target::Ratio(0.5 * share));
            if by_weights { slimming.criterion(criterion::L2) } else { slimming }
        };
        let schedule = Schedule::constant().warm_up(3).cubic_ramp(10);
        let gradual = GradualPruning::new(slimming(1.), schedule, 3).unwrap();
        let mut training = net(0.9);
        let mut masked = Vec::new();
        for step in 1..=21_u64 {
            training.step(step);
            let before = training.values();
            let done = f64::clamp((step as f64 - 3.) / 10., 0., 1.);
            let share = 1. - (1. - done).powi(3);
            let mut other = training.copy(|vs| Net::new(vs.root()));
            let found = gradual.step(&mut training.net, step).unwrap();
            if step % 3 != 0 || step <= 3 {
                assert_eq!(found, None, "step {step}");
                assert!(training.values() == before);
                continue;
            }
            let found = found.unwrap();
            let expected = other.net.plan(&slimming(share)).unwrap();
            assert_eq!(found, expected, "step {step}");
            other.net.mask(&expected).unwrap();
            assert!(training.values() == other.values(), "step {step}");
            for layer in ["bn1", "bn2", "bn3"] {
                for position in removed(&found, layer) {
                    for tensor in ["weight", "bias"] {
                        assert_eq!(entry(&training.vs, &format!("{layer}.{tensor}"), position), 0.);
                    }
                }
            }
            assert_eq!(removed(&found, "bn1"), removed(&found, "bn3"));
            masked.push(removed(&found, "bn2").len() + removed(&found, "bn1").len());
        }
        assert!(masked.is_sorted() && masked[0] < masked[masked.len() - 1], "{masked:?}");
    }
}

/// Whether some channel that a plan removed stays by a later plan. The scales begin small, so that
/// few steps change their order.
fn comes_back<N: ModuleT + Prunable>(mut training: Training<N>, layer: &str, gamma: &str) -> bool {
    let gradual = GradualPruning::new(Slimming::ratio(0.4), Schedule::constant(), 10).unwrap();
    let _ = tch::no_grad(|| training.vs.variables()[gamma].shallow_clone().g_mul_scalar_(0.02));
    let mut before: Vec<usize> = Vec::new();
    for step in 1..=100 {
        training.step(step);
        if let Some(plan) = gradual.step(&mut training.net, step).unwrap() {
            let now = removed(&plan, layer);
            if before.iter().any(|position| !now.contains(position)) {
                return true;
            }
            before = now;
        } else {
            // One step after a mask, momentum and gradients have moved the scales.
            let moved = before.iter().any(|&position| entry(&training.vs, gamma, position) != 0.);
            assert!(before.is_empty() || moved || training.momentum == 0., "step {step}");
        }
    }
    false
}

#[test]
fn masked_channels_grow_back() {
    assert!(comes_back(net(0.9), "bn2", "bn2.weight"));
    assert!(comes_back(Training::new(|vs| Smooth::new(vs.root()), 0.), "bn", "bn.weight"));
    // The documented limit: at 0, ReLU passes no gradient.
    assert!(!comes_back(net(0.), "bn2", "bn2.weight"));
}

#[test]
fn the_end_removes_what_a_plan_at_the_full_ratio_masks() {
    let schedule = Schedule::constant().cubic_ramp(8);
    let gradual = GradualPruning::new(Slimming::ratio(0.5), schedule, 3).unwrap();
    let mut training = net(0.9);
    for step in 1..=11 {
        training.step(step);
        gradual.step(&mut training.net, step).unwrap();
    }
    let xs = images(&[4, 3, 6, 6]).to_kind(Kind::Double).to_device(device());
    let plan = training.net.plan(&Slimming::ratio(0.5)).unwrap();
    let mut masked = training.copy(|vs| Net::new(vs.root()));
    masked.net.mask(&plan).unwrap();
    let expected = tch::no_grad(|| masked.net.forward_t(&xs, false));

    let slimmed = gradual.finish(&mut training.net).unwrap();
    assert_eq!(*slimmed.plan(), plan);
    assert!(plan.channels().removed() > 0.4);
    let found = tch::no_grad(|| training.net.forward_t(&xs, false));
    assert!(found.allclose(&expected, 1e-12, 1e-12, false));
    assert_eq!(
        training.vs.variables()["conv2.weight"].size()[0] as usize,
        12 - removed(&plan, "bn2").len()
    );
}

#[test]
fn resumed_training_ends_with_the_same_bits() {
    let schedule = Schedule::constant().warm_up(2).cubic_ramp(9);
    let gradual = |schedule| GradualPruning::new(Slimming::ratio(0.5), schedule, 4).unwrap();
    let go_on = |training: &mut Training<Net>, gradual: &GradualPruning, steps: &[u64]| {
        for &step in steps {
            training.step(step);
            gradual.step(&mut training.net, step).unwrap();
        }
    };
    let steps: Vec<u64> = (1..=14).collect();
    let mut through = net(0.9);
    go_on(&mut through, &gradual(schedule), &steps);
    let uncut = through.values();
    let whole = gradual(schedule).finish(&mut through.net).unwrap();
    for stop in [3, 4, 9] {
        let mut stopped = net(0.9);
        go_on(&mut stopped, &gradual(schedule), &steps[..stop]);
        let saved = serde_json::to_string(&schedule).unwrap();
        let mut resumed = stopped.copy(|vs| Net::new(vs.root()));
        drop(stopped);
        let gradual = gradual(serde_json::from_str(&saved).unwrap());
        go_on(&mut resumed, &gradual, &steps[stop..]);
        assert!(resumed.values() == uncut, "stopped after step {stop}");
        assert_eq!(gradual.finish(&mut resumed.net).unwrap(), whole);
        assert!(resumed.values() == through.values());
    }
}

#[test]
fn equal_scales_are_not_masked_and_not_cut() {
    let gradual = GradualPruning::new(Slimming::ratio(0.5), Schedule::constant(), 1).unwrap();
    let mut training = net(0.9);
    tch::no_grad(|| {
        for layer in ["bn1", "bn2", "bn3"] {
            let _ = training.vs.variables()[&format!("{layer}.weight")].shallow_clone().fill_(0.5);
        }
    });
    let before = training.values();
    assert_eq!(gradual.step(&mut training.net, 1).unwrap(), None);
    let error = gradual.finish(&mut training.net).unwrap_err();
    assert!(matches!(error, Error::Selection(SelectionError::NoRanking { .. })), "{error}");
    assert!(training.values() == before);
}

#[test]
fn nothing_goes_while_the_schedule_is_at_zero_whatever_the_bounds() {
    // Rounding down removes channels at every ratio.
    let slimming = Slimming::ratio(0.5).round_down_to(5);
    let schedule = Schedule::constant().warm_up(4).ramp(4);
    let gradual = GradualPruning::new(slimming, schedule, 1).unwrap();
    let mut training = net(0.9);
    let plans = [1, 4, 5].map(|step| gradual.step(&mut training.net, step).unwrap());
    let removed = plans.map(|plan| plan.map(|plan| plan.channels().after));
    assert_eq!(removed, [None, None, Some(20)]);
}

#[test]
fn a_mask_is_written_into_the_memory_of_the_variables() {
    // What hangs on a variable, such as averaging of its gradient over processes, stays.
    let mut training = net(0.9);
    let at = |training: &Training<Net>| -> BTreeMap<String, usize> {
        let variables = training.vs.variables().into_iter();
        variables.map(|(name, variable)| (name, variable.data_ptr() as usize)).collect()
    };
    let before = at(&training);
    training.net.mask(&training.net.plan(&Slimming::ratio(0.5)).unwrap()).unwrap();
    assert_eq!(at(&training), before);
}

#[test]
fn what_no_schedule_can_multiply_is_refused() {
    let refused = |slimming: Slimming, every| {
        GradualPruning::new(slimming, Schedule::constant(), every).unwrap_err().to_string()
    };
    let texts = [
        refused(Slimming::top_k(3), 10),
        refused(Slimming::ratio(0.5).layers("conv2", Target::TopK(3)), 10),
        refused(Slimming::ratio(1.), 10),
        refused(Slimming::ratio(0.5), 0),
    ];
    insta::assert_snapshot!(texts.join("\n"));
}
