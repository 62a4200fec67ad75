//! How scores are distributed: of all channels together, and layer by layer.

use anyhow::Result;

use super::canvas::{Canvas, Side, WIDTH, svg, width_of};
use super::ink::{AFTER, BEFORE, CUT, GRID, MUTED};
use super::rows::{Row, rows};
use super::scale::Scale;
use crate::numbers::{grouped, score};

/// Scores by layer path.
type Scores = [(String, Vec<f64>)];

/// What is in one bin, which may have scores on both sides of a threshold.
#[derive(Clone, Copy, Default)]
struct Count {
    goes: u64,
    stays: u64,
}

impl Count {
    fn all(self) -> u64 {
        self.goes + self.stays
    }
}

/// By bin, zero first: how many scores are in it. Bins without any are left out.
fn counted(scale: &Scale, scores: impl Iterator<Item = f64>, threshold: Option<f64>) -> Vec<(Option<usize>, Count)> {
    let mut counts = vec![Count::default(); scale.bins + 1];
    for score in scores {
        let count = &mut counts[scale.bin(score).map_or(0, |bin| bin + 1)];
        *(if threshold.is_some_and(|threshold| score <= threshold) { &mut count.goes } else { &mut count.stays }) += 1;
    }
    let bins = counts.into_iter().enumerate().map(|(place, count)| (place.checked_sub(1), count));
    bins.filter(|(_, count)| count.all() > 0).collect()
}

fn magnitudes(scores: &Scores) -> impl Iterator<Item = f64> {
    scores.iter().flat_map(|(_, scores)| scores.iter().map(|score| score.abs()))
}

/// All scores, on a logarithmic axis.
pub(in crate::report) fn histogram(name: &str, scores: &Scores, threshold: Option<f64>) -> Result<String> {
    let scale = Scale::of(magnitudes(scores));
    let counts = counted(&scale, magnitudes(scores), threshold);
    let most = counts.iter().map(|(_, count)| count.all()).max().unwrap_or(1);
    let (left, right, top, bottom) = (width_of(grouped(most as i64).len()) + 6, WIDTH - 12, 24, 190);
    let across = |share: f64| left + (share * f64::from(right - left)).round() as i32;
    let up = |count: u64| bottom - (count as f64 / most as f64 * f64::from(bottom - top)).round() as i32;
    let cut = threshold.map(|threshold| format!(", with the threshold at {}", score(threshold))).unwrap_or_default();
    let label = format!("Histogram of {} values of {name} on a logarithmic axis{cut}.", grouped(magnitudes(scores).count() as i64));
    svg((WIDTH, bottom + 24), &label, |canvas| {
        for count in [0, most.div_ceil(2), most] {
            canvas.line(&[(left, up(count)), (right, up(count))], GRID, 1)?;
            canvas.text(&grouped(count as i64), (left - 6, up(count)), Side::Left, MUTED)?;
        }
        for (bin, count) in counts {
            let (from, to) = scale.ends(bin);
            let (from, to) = (across(from), (across(to) - 1).max(across(from) + 1));
            for (ink, low, high) in [(BEFORE, 0, count.goes), (AFTER, count.goes, count.all())] {
                if high > low {
                    // A channel alone is to be seen, too.
                    canvas.bar((from, up(high).min(up(low) - 1)), (to, up(low)), ink, 1.)?;
                }
            }
        }
        ticks(canvas, &scale, &across, bottom + 12)?;
        let Some(threshold) = threshold else { return Ok(()) };
        let x = across(scale.cut(threshold));
        canvas.line(&[(x, 16), (x, bottom)], CUT, 2)?;
        // On the side where there is room.
        let (at, side) = if x > WIDTH / 2 { (x - 2, Side::Left) } else { (x + 2, Side::Right) };
        canvas.text(&format!("threshold {}", score(threshold)), (at, 8), side, CUT)
    })
}

/// A strip for each layer, the darker the more of its scores are there.
pub(in crate::report) fn strips(name: &str, scores: &Scores, threshold: Option<f64>) -> Result<String> {
    let scale = Scale::of(magnitudes(scores));
    let stays = |scores: &[f64]| match threshold {
        Some(threshold) => format!("{} / {}", scores.iter().filter(|score| score.abs() > threshold).count(), scores.len()),
        None => scores.len().to_string(),
    };
    let numbered: Vec<_> = scores.iter().map(|(path, scores)| Row { name: path.clone(), number: stays(scores) }).collect();
    let label = format!("Where the values of {name} of {} layers are, a strip for each layer.", scores.len());
    rows(&label, &numbered, 20, |canvas, frame| {
        ticks(canvas, &scale, &|share| frame.across(share), 8)?;
        for (index, (_, scores)) in scores.iter().enumerate() {
            let middle = frame.middle(index);
            canvas.line(&[(frame.left, middle), (frame.right, middle)], GRID, 1)?;
            let counts = counted(&scale, scores.iter().map(|score| score.abs()), threshold);
            let most = counts.iter().map(|(_, count)| count.all()).max().unwrap_or(1) as f64;
            for (bin, count) in counts {
                let (from, to) = scale.ends(bin);
                let opacity = 0.25 + 0.75 * count.all() as f64 / most;
                let (from, to) = (frame.across(from), frame.across(to).max(frame.across(from) + 1));
                canvas.bar((from, middle - 6), (to, middle + 6), if count.goes > count.stays { BEFORE } else { AFTER }, opacity)?;
            }
        }
        let Some(threshold) = threshold else { return Ok(()) };
        let x = frame.across(scale.cut(threshold));
        canvas.line(&[(x, frame.head - 4), (x, frame.bottom())], CUT, 2)
    })
}

fn ticks(canvas: &Canvas, scale: &Scale, across: &dyn Fn(f64) -> i32, y: i32) -> Result<()> {
    let most = (across(1.) - across(0.)) / 34;
    scale.ticks(most).into_iter().try_for_each(|(spelled, share)| canvas.text(&spelled, (across(share), y), Side::Middle, MUTED))
}
