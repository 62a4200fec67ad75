//! Times contenders that run in turn, so that other load on the machine affects all of them.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;
use tch::{Cuda, Device};

/// The pause between turns. OpenMP's threads keep spinning for some milliseconds, on the cores that
/// the next contender needs.
const PAUSE: Duration = Duration::from_millis(50);
/// The duration of a turn to aim at, in seconds. It determines the number of passes in a turn.
const TURN: f64 = 0.25;
const MOST_PASSES: f64 = 30.;

/// Median and quartiles of the rounds' medians, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Times {
    /// The median.
    pub median: f64,
    /// A quarter of the rounds took less.
    pub lower_quartile: f64,
    /// A quarter of the rounds took more.
    pub upper_quartile: f64,
}

impl Times {
    /// The statistics of at least one time.
    pub fn of(seconds: &[f64]) -> Self {
        let quantile = |share| quantile(seconds, share);
        Self {
            median: quantile(0.5),
            lower_quartile: quantile(0.25),
            upper_quartile: quantile(0.75),
        }
    }
}

/// The value below which this share of the values is, interpolated between two values; NaN if there
/// are no values.
fn quantile(values: &[f64], share: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    let Some(last) = values.len().checked_sub(1) else { return f64::NAN };
    let place = share * last as f64;
    let below = values[place as usize];
    below + (values[(place as usize + 1).min(last)] - below) * place.fract()
}

/// The value in the middle; NaN if there are no values.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// A function that runs a number of passes, and returns the seconds of each.
pub type Contender<'c> = Box<dyn FnMut(usize) -> Result<Vec<f64>> + 'c>;

/// A contender that calls `pass`, which runs one pass and returns its seconds.
pub fn passes<'c>(mut pass: impl FnMut() -> Result<f64> + 'c) -> Contender<'c> {
    Box::new(move |passes| (0..passes).map(|_| pass()).collect())
}

/// Runs the contenders in turn. Returns the median of each turn, in seconds, by contender and
/// round.
///
/// Every round gives every contender one turn of several passes, and begins with another contender
/// than the round before. A round before the first warms up, and is not counted.
///
/// # Errors
/// Those of the contenders.
pub fn in_turn(rounds: usize, mut contenders: Vec<Contender>) -> Result<Vec<Vec<f64>>> {
    let mut passes = Vec::new();
    for contender in &mut contenders {
        contender(1)?;
        passes.push((TURN / median(&contender(1)?)).clamp(1., MOST_PASSES).round() as usize);
        sleep(PAUSE);
    }
    let count = contenders.len();
    let mut turns = vec![Vec::new(); count];
    for round in 0..rounds {
        for index in (0..count).map(|turn| (round + turn) % count) {
            let seconds = contenders[index](passes[index])?;
            turns[index].push(median(&seconds));
            sleep(PAUSE);
        }
    }
    Ok(turns)
}

/// The median over rounds of the time of `a`, divided by the time of `b`.
pub fn ratio(a: &[f64], b: &[f64]) -> f64 {
    median(&a.iter().zip(b).map(|(a, b)| a / b).collect::<Vec<_>>())
}

/// Runs `work`. Returns its result, and the seconds that it took on the device.
///
/// # Errors
/// The errors of `work`.
pub fn timed<T>(device: Device, work: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    wait(device);
    let begun = Instant::now();
    let made = work()?;
    wait(device);
    Ok((made, begun.elapsed().as_secs_f64()))
}

fn wait(device: Device) {
    if let Device::Cuda(number) = device {
        Cuda::synchronize(number as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn quartiles_of_few_and_of_many() {
        assert_eq!(Times::of(&[3.]), Times { median: 3., lower_quartile: 3., upper_quartile: 3. });
        assert_eq!(
            Times::of(&[4., 1., 3., 2.]),
            Times { median: 2.5, lower_quartile: 1.75, upper_quartile: 3.25 }
        );
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn everyone_has_its_turn_in_every_round() -> Result<()> {
        let order = RefCell::new(Vec::new());
        let contender = |name, seconds: f64| -> Contender {
            let order = &order;
            Box::new(move |passes| {
                order.borrow_mut().push((name, passes));
                Ok(vec![seconds; passes])
            })
        };
        let turns = in_turn(3, vec![contender('a', 0.05), contender('b', 1.)])?;
        assert_eq!(turns, [[0.05; 3], [1.; 3]]);
        assert_eq!(ratio(&turns[1], &turns[0]), 20.);
        let warm = [('a', 1), ('a', 1), ('b', 1), ('b', 1)];
        let rounds = [('a', 5), ('b', 1), ('b', 1), ('a', 5), ('a', 5), ('b', 1)];
        assert_eq!(*order.borrow(), [warm.as_slice(), &rounds].concat());
        Ok(())
    }

    #[test]
    fn the_ratio_is_that_of_rounds() {
        // A round in which both are slow does not change the ratio.
        assert_eq!(ratio(&[2., 20., 2.2], &[1., 10., 1.]), 2.);
    }
}
