//! Times contenders that run in turn, so that other load on the machine affects all of them.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use slim_runtime::{Benchmark, Error, Quartiles};
use tch::{Cuda, Device};

/// The pause between turns. OpenMP's threads keep spinning for some milliseconds, on the cores that
/// the next contender needs.
const PAUSE: Duration = Duration::from_millis(50);
/// The duration of a turn to aim at, in seconds. It determines the number of passes in a turn.
const TURN: f64 = 0.25;
const MOST_PASSES: f64 = 30.;

/// The median; NaN if there are no values.
pub fn median(values: &[f64]) -> f64 {
    Quartiles::of(values).median
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
/// Every round gives every contender one turn of several passes. Two passes and a turn of each
/// contender warm up before the first round.
///
/// # Errors
/// Those of the contenders.
pub fn in_turn(rounds: usize, contenders: Vec<Contender>) -> Result<Vec<Vec<f64>>> {
    let mut turns = Benchmark::new().runs(rounds).warm_up(Duration::ZERO).in_turn();
    for mut contender in contenders {
        contender(1)?;
        let passes = (TURN / median(&contender(1)?)).clamp(1., MOST_PASSES).round() as usize;
        sleep(PAUSE);
        turns = turns.timed_case("", move || {
            let seconds = contender(passes).map_err(|error| Error::Custom(format!("{error:#}")))?;
            sleep(PAUSE);
            Ok(Duration::from_secs_f64(median(&seconds)))
        });
    }
    Ok(turns.run()?.rounds)
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
        let warm = [('a', 1), ('a', 1), ('b', 1), ('b', 1), ('a', 5), ('b', 1)];
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
