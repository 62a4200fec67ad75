//! Plots of the distribution of scores: of all channels together, and layer by layer.

use anyhow::Result;

use super::canvas::{Canvas, Side, WIDTH, svg, width_of};
use super::ink::{AFTER, BEFORE, CUT, GRID, MUTED};
use super::rows::{Row, rows};
use super::scale::Scale;
use crate::numbers::{grouped, score};
use crate::report::fates::{Fate, Layer};

/// Channels in one bin, that is, with similar scores: how many are removed, and how many stay.
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

/// Counts of channels by bin, zero first. Empty bins are left out.
fn counted<'f>(
    scale: &Scale,
    channels: impl Iterator<Item = &'f Fate>,
) -> Vec<(Option<usize>, Count)> {
    let mut counts = vec![Count::default(); scale.bins + 1];
    for channel in channels {
        let count = &mut counts[scale.bin(channel.score).map_or(0, |bin| bin + 1)];
        *(if channel.stays { &mut count.stays } else { &mut count.goes }) += 1;
    }
    let bins = counts.into_iter().enumerate().map(|(place, count)| (place.checked_sub(1), count));
    bins.filter(|(_, count)| count.all() > 0).collect()
}

fn channels<'f>(layers: &'f [Layer]) -> impl Iterator<Item = &'f Fate> {
    layers.iter().flat_map(|layer| &layer.channels)
}

fn magnitudes(layers: &[Layer]) -> impl Iterator<Item = f64> {
    channels(layers).map(|channel| channel.score)
}

/// Histogram of all scores, on a logarithmic axis.
pub(in crate::report) fn histogram(
    name: &str,
    layers: &[Layer],
    threshold: Option<f64>,
) -> Result<String> {
    let scale = Scale::of(magnitudes(layers));
    let counts = counted(&scale, channels(layers));
    let most = counts.iter().map(|(_, count)| count.all()).max().unwrap_or(1);
    let (left, right, top, bottom) =
        (width_of(grouped(most as i64).len()) + 6, WIDTH - 12, 24, 190);
    let across = |share: f64| left + (share * f64::from(right - left)).round() as i32;
    let up =
        |count: u64| bottom - (count as f64 / most as f64 * f64::from(bottom - top)).round() as i32;
    let cut = threshold
        .map(|threshold| format!(", with the threshold at {}", score(threshold)))
        .unwrap_or_default();
    let label = format!(
        "Histogram of {} values of {name} on a logarithmic axis{cut}.",
        grouped(magnitudes(layers).count() as i64)
    );
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
                    // At least one pixel high, so that a single channel is visible.
                    canvas.bar((from, up(high).min(up(low) - 1)), (to, up(low)), ink, 1.)?;
                }
            }
        }
        ticks(canvas, &scale, &across, bottom + 12)?;
        let Some(threshold) = threshold else { return Ok(()) };
        let x = across(scale.cut(threshold));
        canvas.line(&[(x, 16), (x, bottom)], CUT, 2)?;
        // Draw the label on the side with more room.
        let (at, side) = if x > WIDTH / 2 { (x - 2, Side::Left) } else { (x + 2, Side::Right) };
        canvas.text(&format!("threshold {}", score(threshold)), (at, 8), side, CUT)
    })
}

/// A strip for each layer. The more of the layer's scores a bin has, the darker it is.
pub(in crate::report) fn strips(
    name: &str,
    layers: &[Layer],
    threshold: Option<f64>,
) -> Result<String> {
    let scale = Scale::of(magnitudes(layers));
    let stay = |layer: &Layer| {
        format!(
            "{} / {}",
            layer.channels.iter().filter(|channel| channel.stays).count(),
            layer.channels.len()
        )
    };
    let numbered: Vec<_> = layers
        .iter()
        .map(|layer| Row { name: layer.path.to_owned(), number: stay(layer) })
        .collect();
    let label = format!(
        "Where the values of {name} of {} layers are, a strip for each layer, and how many channels stay.",
        layers.len()
    );
    rows(&label, &numbered, 20, |canvas, frame| {
        ticks(canvas, &scale, &|share| frame.across(share), 8)?;
        for (index, layer) in layers.iter().enumerate() {
            let middle = frame.middle(index);
            canvas.line(&[(frame.left, middle), (frame.right, middle)], GRID, 1)?;
            let counts = counted(&scale, layer.channels.iter());
            let most = counts.iter().map(|(_, count)| count.all()).max().unwrap_or(1) as f64;
            for (bin, count) in counts {
                let (from, to) = scale.ends(bin);
                let opacity = 0.25 + 0.75 * count.all() as f64 / most;
                let (from, to) = (frame.across(from), frame.across(to).max(frame.across(from) + 1));
                canvas.bar(
                    (from, middle - 6),
                    (to, middle + 6),
                    if count.goes > count.stays { BEFORE } else { AFTER },
                    opacity,
                )?;
            }
        }
        let Some(threshold) = threshold else { return Ok(()) };
        let x = frame.across(scale.cut(threshold));
        canvas.line(&[(x, frame.head - 4), (x, frame.bottom())], CUT, 2)
    })
}

fn ticks(canvas: &Canvas, scale: &Scale, across: &dyn Fn(f64) -> i32, y: i32) -> Result<()> {
    let most = (across(1.) - across(0.)) / 34;
    scale.ticks(most).into_iter().try_for_each(|(spelled, share)| {
        canvas.text(&spelled, (across(share), y), Side::Middle, MUTED)
    })
}
