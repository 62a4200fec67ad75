//! The runner.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use slim_runtime::Prunable;
use tch::{Device, Kind, Tensor, nn};

use crate::RunnerConfig;
use crate::compiled::Compiled;
use crate::maker::Maker;
use crate::report::Report;
use crate::{Error, Result};

/// A network that is compiled for serving, for every shape of input by itself.
///
/// For each shape, the network exists in several [forms](crate::Form), which are compared with the
/// network and measured in turn; the fastest that computes the same runs. A shape that was not
/// asked for is compiled when it is first seen, in the form of the sample's shape, unmeasured:
/// that call takes longer by [`ShapeReport::compiling`](crate::ShapeReport::compiling) and two runs
/// of the network as it was traced.
///
/// A runner is a snapshot. It holds copies of the weights, folded and laid out anew, and does not
/// follow later changes of the network.
///
/// # Threads
///
/// A runner is `Send` and `Sync`: share it by reference or in an [`Arc`], and call
/// [`run`](Self::run) from any number of threads, which run side by side. Each of them computes on
/// `tch::get_num_threads()` threads of its own, so with `n` serving threads on `c` cores, call
/// `tch::set_num_threads(c / n)` before the runner is made. While one thread compiles a new shape,
/// others go on with shapes that are compiled.
///
/// ```
/// use slim_runtime::{Prunable, model, nn};
/// use slim_serve::Runner;
/// use tch::{Device, Tensor, nn::ModuleT};
///
/// model! {
///     #[derive(Debug)]
///     struct Net {
///         conv = conv2d(3 => 16, kernel = 3, padding = 1, bias = false);
///         bn = batch_norm(16);
///         relu;
///         adaptive_avg_pool(1);
///         flatten;
///         fc = linear(16 => 10);
///     }
/// }
///
/// let mut net = Net::new(nn::VarStore::new(Device::Cpu).root());
/// net.slim(0.5)?;
/// let image = Tensor::randn([1, 3, 32, 32], tch::kind::FLOAT_CPU);
/// let runner = Runner::new(&net, &image, |net, images| net.forward_t(images, false))?;
/// println!("{}", runner.report());
/// std::thread::scope(|scope| {
///     for _ in 0..2 {
///         let image = image.copy();
///         scope.spawn(|| assert_eq!(runner.run(&{ image }).unwrap().size(), [1, 10]));
///     }
/// });
/// # Ok::<(), slim_serve::Error>(())
/// ```
#[derive(Debug)]
pub struct Runner {
    kind: Kind,
    device: Device,
    most: usize,
    cache: Mutex<Cache>,
    /// Locked while a shape is compiled, so that there is one compilation at a time.
    maker: Mutex<Maker>,
}

#[derive(Debug)]
struct Cache {
    /// The one that was run last is at the end.
    shapes: Vec<Arc<Compiled>>,
    compiled: u64,
}

impl Runner {
    /// Compiles a network for inputs of the sample's shape, and of other batches as they come.
    ///
    /// `forward` runs the network in evaluation mode and returns floats: logits, say. It is traced
    /// on the sample, as [`export::torch_script`](slim_runtime::export::torch_script) does, and the
    /// same limits apply: see [what a trace holds](slim_runtime::export#what-a-trace-holds).
    ///
    /// # Errors
    /// [`Error::Network`] when the network does not run on the sample, cannot be traced, or gives
    /// an output that cannot be compared; [`Error::Compile`] when no form of it computes the same;
    /// [`Error::File`] for a temporary file.
    pub fn new<M: Prunable + ?Sized>(
        net: &M,
        sample: &Tensor,
        forward: impl Fn(&M, &Tensor) -> Tensor,
    ) -> Result<Self> {
        RunnerConfig::new().runner(net, sample, forward)
    }

    /// Compiles a TorchScript file: one that
    /// [`export::torch_script`](slim_runtime::export::torch_script) has written, or another that
    /// takes one tensor and returns one. It runs on the device on which it was saved.
    ///
    /// The runner computes what the file computes, on inputs of any shape that the file takes. What
    /// sizes a trace has fixed cannot be seen in it, so export it for the inputs that are served.
    ///
    /// # Errors
    /// [`Error::File`] when the file cannot be read, or is not such a network; [`Error::Compile`]
    /// when it does not run on the sample, or no form of it computes the same.
    pub fn load(file: impl AsRef<Path>, sample: &Tensor) -> Result<Self> {
        RunnerConfig::new().load(file, sample)
    }

    pub(crate) fn of(maker: Maker, compiled: Vec<Compiled>, most: usize) -> Self {
        let (kind, device) = maker.place();
        let shapes: Vec<_> = compiled.into_iter().map(Arc::new).collect();
        let cache = Cache { compiled: shapes.len() as u64, shapes };
        Self { kind, device, most, cache: Mutex::new(cache), maker: Mutex::new(maker) }
    }

    /// The output of the network, without gradients.
    ///
    /// An input that is not contiguous is copied first.
    ///
    /// # Errors
    /// [`Error::Input`] for another kind or device than the sample's; [`Error::Compile`] for a
    /// shape that the network does not take; [`Error::Run`] when libtorch fails.
    pub fn run(&self, xs: &Tensor) -> Result<Tensor> {
        self.of_shape(xs)?.run(xs)
    }

    /// The shapes of inputs that are compiled now, the one that was run last at the end.
    pub fn shapes(&self) -> Vec<Vec<i64>> {
        locked(&self.cache).shapes.iter().map(|compiled| compiled.shape().to_owned()).collect()
    }

    /// Every compiled shape with the form that was chosen, latencies, differences and the time to
    /// compile.
    pub fn report(&self) -> Report {
        let cache = locked(&self.cache);
        Report {
            shapes: cache.shapes.iter().map(|compiled| compiled.report()).collect(),
            compiled: cache.compiled,
            most: self.most,
            threads: tch::get_num_threads(),
        }
    }

    fn of_shape(&self, xs: &Tensor) -> Result<Arc<Compiled>> {
        let shape = xs.size();
        self.check(xs, &shape)?;
        if let Some(compiled) = locked(&self.cache).get(&shape) {
            return Ok(compiled);
        }
        let maker = locked(&self.maker);
        // Another thread may have compiled it meanwhile.
        if let Some(compiled) = locked(&self.cache).get(&shape) {
            return Ok(compiled);
        }
        let compiled = Arc::new(maker.unmeasured(&shape)?);
        let gone = locked(&self.cache).put(Arc::clone(&compiled), self.most);
        // Dropped here, when the cache is no longer locked.
        drop(gone);
        Ok(compiled)
    }

    fn check(&self, xs: &Tensor, shape: &[i64]) -> Result<()> {
        let kind = xs.f_kind().unwrap_or(Kind::Float);
        let device = xs.device();
        let reason = if (kind, device) != (self.kind, self.device) {
            format!("the sample was of {:?} on {:?}; convert the input", self.kind, self.device)
        } else if shape.contains(&0) {
            "it is empty".to_owned()
        } else {
            return Ok(());
        };
        Err(Error::Input { found: format!("{shape:?} of {kind:?} on {device:?}"), reason })
    }
}

impl Cache {
    fn get(&mut self, shape: &[i64]) -> Option<Arc<Compiled>> {
        let index = self.shapes.iter().rposition(|compiled| compiled.shape() == shape)?;
        self.shapes[index..].rotate_left(1);
        self.shapes.last().cloned()
    }

    /// Adds a shape, and returns those that are more than may be kept.
    fn put(&mut self, compiled: Arc<Compiled>, most: usize) -> Vec<Arc<Compiled>> {
        self.shapes.push(compiled);
        self.compiled += 1;
        let too_many = self.shapes.len().saturating_sub(most);
        self.shapes.drain(..too_many).collect()
    }
}

impl nn::Module for Runner {
    /// Like [`run`](Runner::run).
    ///
    /// # Panics
    /// With the error of `run`, since tch's trait has no other way to report it.
    #[allow(clippy::panic)]
    fn forward(&self, xs: &Tensor) -> Tensor {
        self.run(xs).unwrap_or_else(|error| panic!("{error}"))
    }
}

/// The value is whole even if a thread has panicked with the lock.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
