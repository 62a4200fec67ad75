//! Records what a forward pass does with each weight: how often it is used, or what its layer reads
//! and writes.

use std::cell::RefCell;
use std::rc::Rc;

use tch::{TchError, Tensor};

use super::tch::conv::Sliding;
use crate::numeric::{LayerOperation, LayerShape, Range};

thread_local! {
    /// The reports of this thread's layers; `None` while nothing is recorded.
    static RECORDS: RefCell<Option<Records>> = const { RefCell::new(None) };
}

/// What is recorded.
enum Records {
    Uses(Vec<Record>),
    /// Calls are handed to an observer.
    Calls(Box<dyn FnMut(&LayerCall<'_>)>),
}

/// A call of a layer in a forward pass.
pub(crate) struct LayerCall<'t> {
    /// A handle of the weight; of a batch norm, of the running mean.
    pub(crate) weight: &'t Tensor,
    /// What the layer reads.
    pub(crate) input: &'t Tensor,
    /// What the layer writes, with its bias.
    pub(crate) output: &'t Tensor,
    /// What the layer computes.
    pub(crate) shape: LayerShape,
    /// How the kernel of a convolution moves; `None` for any other layer.
    pub(crate) sliding: Option<Sliding>,
}

/// What one layer call computes.
pub(crate) struct Applied {
    /// A handle of the weight; of a batch norm, of the running mean.
    pub(crate) weight: Tensor,
    pub(crate) shape: LayerShape,
}

/// The ranges of one layer call.
pub(crate) struct Observed {
    /// A handle of the weight; of a batch norm, of the running mean.
    pub(crate) weight: Tensor,
    /// The ranges of the input and of the output.
    pub(crate) ranges: Result<[Range; 2], TchError>,
}

/// The number of multiplications of one layer call.
pub(crate) struct Record {
    /// A handle of the weight, which keeps its memory from being reused during the recording.
    pub(crate) weight: Tensor,
    /// Number of multiplications of each value of one part of the weight.
    pub(crate) times: i64,
    /// The number of equal parts of the weight, of which the call uses one.
    pub(crate) parts: i64,
    /// Batch size, if the layer's input has a batch dimension.
    pub(crate) batch: Option<i64>,
    /// Shape of a convolution's input; empty for other layers.
    pub(crate) given: Vec<i64>,
}

/// Runs `forward` and returns the reports of the layers that ran in this thread. A nested recording
/// keeps its own records.
pub(crate) fn record<T>(forward: impl FnOnce() -> T) -> Vec<Record> {
    match during(Records::Uses(Vec::new()), forward).0 {
        Some(Records::Uses(records)) => records,
        _ => Vec::new(),
    }
}

/// Runs `forward`, and hands each call of a layer in this thread to `observer`, which runs no layer
/// itself.
pub(crate) fn observe<T>(
    observer: impl FnMut(&LayerCall<'_>) + 'static,
    forward: impl FnOnce() -> T,
) -> T {
    during(Records::Calls(Box::new(observer)), forward).1
}

/// Runs `forward` and returns the ranges of the layers that ran in this thread.
pub(crate) fn record_ranges<T>(forward: impl FnOnce() -> T) -> Vec<Observed> {
    let observed = Rc::new(RefCell::new(Vec::new()));
    let list = Rc::clone(&observed);
    let observer = move |call: &LayerCall<'_>| {
        let ranges = Range::of(call.input).and_then(|xs| Ok([xs, Range::of(call.output)?]));
        list.borrow_mut().push(Observed { weight: call.weight.shallow_clone(), ranges });
    };
    drop(observe(observer, forward));
    observed.take()
}

/// Runs `forward` and returns the shapes of the layers that ran in this thread, in order.
pub(crate) fn record_shapes<T>(forward: impl FnOnce() -> T) -> Vec<Applied> {
    let applied = Rc::new(RefCell::new(Vec::new()));
    let list = Rc::clone(&applied);
    let observer = move |call: &LayerCall<'_>| {
        let (weight, shape) = (call.weight.shallow_clone(), call.shape.clone());
        list.borrow_mut().push(Applied { weight, shape });
    };
    drop(observe(observer, forward));
    applied.take()
}

fn during<T>(records: Records, forward: impl FnOnce() -> T) -> (Option<Records>, T) {
    let _recording = Recording { outer: RECORDS.replace(Some(records)) };
    let result = forward();
    (RECORDS.take(), result)
}

/// Ends the recording when dropped, also when `forward` panics.
struct Recording {
    outer: Option<Records>,
}

impl Drop for Recording {
    fn drop(&mut self) {
        RECORDS.set(self.outer.take());
    }
}

/// Reports, in the forward pass of a hand-written layer, that this call multiplies each value of
/// `weight` `times` times. [`Prunable::cost`](crate::Prunable::cost) counts these reports.
///
/// `times` is a number of positions, over all samples of the batch: output positions of a
/// convolution (input positions of a transposed one), rows of a linear layer. It must not depend on
/// the number of channels that may be removed. The MACs of the call are `times · weight.numel()`.
/// Tensors with one value per channel need no report. For any other tensor that costs nothing by
/// the convention of [`Cost`](crate::Cost), such as a positional embedding, report 0. `weight` is
/// the tensor that the layer's `trace` names, even if the layer multiplies by a tensor that is
/// computed from it. Outside of a recording the call has no effect.
///
/// ```
/// use slim_runtime::{Flow, LayerKind, Prunable, Result, Tracer, nn};
/// use tch::{Device, Tensor};
///
/// /// A 1×1 convolution whose weight is ternary.
/// #[derive(Debug)]
/// struct Ternary { weight: Tensor }
///
/// impl Ternary {
///     fn forward(&self, images: &Tensor) -> Tensor {
///         let positions = images.numel() as i64 / images.size()[1];
///         nn::record_macs(&self.weight, positions);
///         images.conv2d::<Tensor>(&self.weight.sign().unsqueeze(-1).unsqueeze(-1), None, 1, 0, 1, 1)
///     }
/// }
///
/// impl Prunable for Ternary {
///     fn trace(&self, cx: &mut Tracer, input: Flow) -> Result<Flow> {
///         let mut layer = cx.layer(LayerKind::other("ternary"));
///         let written = layer.write("out", self.weight.size()[0])?;
///         let read = layer.read("in", &input, self.weight.size()[1])?;
///         layer.parameter("weight", &self.weight, &[(0, written), (1, read)])?;
///         layer.pass(written)
///     }
/// }
///
/// let vs = nn::VarStore::new(Device::Cpu);
/// let layer = Ternary { weight: vs.root().var("weight", &[8, 3], nn::Init::Const(1.)) };
/// let cost = layer.cost(|layer| layer.forward(&Tensor::zeros([1, 3, 4, 4], tch::kind::FLOAT_CPU)))?;
/// assert_eq!(cost.macs()?, 8 * 3 * 4 * 4);
/// # Ok::<(), slim_runtime::Error>(())
/// ```
pub fn record_macs(weight: &Tensor, times: i64) {
    report_uses(weight, 1, || (times, None, Vec::new()));
}

/// Reports a convolution of `xs` to `ys`: each weight value is multiplied once at each position of
/// `images`, `[N, C, …]` or `[C, …]`. `images` is the output, or the input of a transposed
/// convolution, whose kernel does not slide.
pub(super) fn report_positions(
    weight: &Tensor,
    images: &Tensor,
    [xs, ys]: [&Tensor; 2],
    describe: impl FnOnce() -> (LayerShape, Option<Sliding>),
) {
    report_call(weight, [xs, ys], describe);
    report_uses(weight, 1, || {
        let (size, sides) = (images.size(), weight.dim().saturating_sub(2));
        let spatial: i64 = size[size.len().saturating_sub(sides)..].iter().product();
        let batch = (size.len() == sides + 2).then(|| size[0]);
        (spatial * batch.unwrap_or(1), batch, xs.size())
    });
}

/// Reports a linear layer of `xs` to `ys`, as [`report_rows`] and [`report_call`].
pub(super) fn report_linear(weight: &Tensor, bias: Option<&Tensor>, [xs, ys]: [&Tensor; 2]) {
    report_call(weight, [xs, ys], || {
        let size = xs.size();
        let rows = (size.len() > 1).then(|| size[..size.len() - 1].iter().product());
        (LayerShape::plain(LayerOperation::Linear, rows, Vec::new(), bias.is_some()), None)
    });
    report_rows(weight, xs);
}

/// Batch and sides of images `[N, C, …]`, or `[C, …]`, with this number of sides.
pub(super) fn batch_and_sides(images: &Tensor, sides: usize) -> (Option<i64>, Vec<i64>) {
    let size = images.size();
    let behind = size.len().saturating_sub(sides);
    ((behind == 2).then(|| size[0]), size[behind..].to_vec())
}

/// Reports that each weight value is multiplied once for each row of `features`, `[…, C]`.
pub(super) fn report_rows(weight: &Tensor, features: &Tensor) {
    report_rows_of_part(weight, 1, features);
}

/// Reports a linear layer whose weight is one of `parts` equal parts of `weight`.
pub(super) fn report_rows_of_part(weight: &Tensor, parts: i64, features: &Tensor) {
    report_uses(weight, parts, || match &features.size()[..] {
        [rows @ .., _] => (rows.iter().product(), rows.first().copied(), Vec::new()),
        [] => (0, None, Vec::new()),
    });
}

/// Reports what the layer of a weight reads and writes. `describe` returns what it computes, and
/// how its kernel moves.
pub(super) fn report_call(
    weight: &Tensor,
    [input, output]: [&Tensor; 2],
    describe: impl FnOnce() -> (LayerShape, Option<Sliding>),
) {
    RECORDS.with_borrow_mut(|records| {
        let Some(Records::Calls(observer)) = records else { return };
        let (shape, sliding) = describe();
        observer(&LayerCall { weight, input, output, shape, sliding });
    });
}

fn report_uses(weight: &Tensor, parts: i64, uses: impl FnOnce() -> (i64, Option<i64>, Vec<i64>)) {
    RECORDS.with_borrow_mut(|records| {
        let Some(Records::Uses(records)) = records else { return };
        let (times, batch, given) = uses();
        records.push(Record { weight: weight.shallow_clone(), times, parts, batch, given });
    });
}

#[cfg(test)]
mod tests {
    use tch::kind::FLOAT_CPU;

    use super::*;

    fn linear() -> (LayerShape, Option<Sliding>) {
        (LayerShape::plain(LayerOperation::Linear, None, Vec::new(), false), None)
    }

    fn times(records: &[Record]) -> Vec<i64> {
        records.iter().map(|record| record.times).collect()
    }

    #[test]
    fn a_recording_has_what_runs_in_it_and_in_no_other() {
        let weight = Tensor::zeros([2, 3], FLOAT_CPU);
        record_macs(&weight, 1);
        let mut inner = Vec::new();
        let outer = record(|| {
            record_macs(&weight, 2);
            inner = record(|| record_macs(&weight, 3));
            record_macs(&weight, 4);
            std::thread::scope(|scope| {
                _ = scope.spawn(|| record_macs(&Tensor::zeros([1], FLOAT_CPU), 5));
            });
        });
        assert_eq!((times(&outer), times(&inner)), (vec![2, 4], vec![3]));
    }

    #[test]
    fn a_panic_ends_its_recording_alone() {
        let weight = Tensor::zeros([2, 3], FLOAT_CPU);
        let outer = record(|| {
            let inner = std::panic::catch_unwind(|| {
                record(|| -> () { panic!("a shape that does not fit") })
            });
            assert!(inner.is_err());
            record_macs(&weight, 1);
        });
        assert_eq!(times(&outer), [1]);
        assert!(std::panic::catch_unwind(|| record(|| -> () { panic!("again") })).is_err());
        assert!(RECORDS.take().is_none());
    }

    #[test]
    fn a_recording_of_ranges_has_no_uses_and_that_of_uses_no_ranges() {
        let weight = Tensor::zeros([1, 2], FLOAT_CPU);
        let (xs, ys) = (Tensor::from_slice(&[-3_f32, 2.]), Tensor::from_slice(&[0.5_f32]));
        let run = || {
            record_macs(&weight, 7);
            report_call(&weight, [&xs, &ys], linear);
        };
        let observed = record_ranges(run);
        let ranges: Vec<_> = observed.into_iter().map(|seen| seen.ranges.unwrap()).collect();
        assert_eq!(ranges, [[Range { least: -3., most: 2. }, Range { least: 0.5, most: 0.5 }]]);
        assert_eq!(times(&record(run)), [7]);
    }

    #[test]
    fn positions_are_those_of_all_samples() {
        let (image, batch) =
            (Tensor::zeros([3, 4, 5], FLOAT_CPU), Tensor::zeros([2, 3, 4, 5], FLOAT_CPU));
        let weight = Tensor::zeros([6, 3, 1, 1], FLOAT_CPU);
        let records = record(|| {
            [&image, &batch].map(|images| report_positions(&weight, images, [images; 2], linear))
        });
        assert_eq!(
            records.iter().map(|record| (record.times, record.batch)).collect::<Vec<_>>(),
            [(20, None), (40, Some(2))]
        );

        let weight = Tensor::zeros([6, 5], FLOAT_CPU);
        let records = record(|| {
            [&image.get(0).get(0), &image, &batch].map(|features| report_rows(&weight, features))
        });
        assert_eq!(
            records.iter().map(|record| (record.times, record.batch)).collect::<Vec<_>>(),
            [(1, None), (12, Some(3)), (24, Some(2))]
        );
    }
}
