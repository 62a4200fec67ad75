//! The front of `model!`: tells the derive crate where the runtime is.

/// Defines a network once: struct, constructor and forward pass from one text. Its wiring is read
/// from that forward pass, as [`#[forward]`](crate::forward) reads it.
///
/// ```
/// use slim_runtime::{Prunable, model, nn};
/// use tch::{Device, Tensor};
///
/// model! {
///     /// A small residual network for 32×32 images.
///     #[derive(Debug)]
///     pub struct Tiny(classes: i64) {
///         conv1 = conv2d(3 => 32, kernel = 3, padding = 1, bias = false);
///         bn1 = batch_norm(32);
///         a = relu;
///         conv2 = conv2d(32 => 32, kernel = 3, padding = 1, bias = false);
///         bn2 = batch_norm(32);
///         sum = bn2 + a;
///         relu;
///         pool = adaptive_avg_pool(1);
///         flatten;
///         fc = linear(32 => classes);
///     }
/// }
///
/// let vs = nn::VarStore::new(Device::Cpu);
/// let mut net = Tiny::new(vs.root(), 10); // variables `conv1.weight`, `bn1.weight`, `bn1.bias`, …
/// let slimmed = net.slim(0.5)?;
/// assert_eq!(net.conv1.ws.size()[0], net.fc.ws.size()[1]); // one residual stream
/// assert_eq!(Tensor::zeros([1, 3, 32, 32], tch::kind::FLOAT_CPU).apply_t(&net, false).size(), [1, 10]);
/// # Ok::<(), slim_runtime::Error>(())
/// ```
///
/// # Statements
///
/// A statement is `name = value;` or, where nothing has to refer to it, `value;`. An operation
/// reads the statement before it, or what it is called on: `relu;`, `a = bn1.relu();`,
/// `conv2 = a.conv2d(32 => 32, kernel = 3);`. The last statement is the output; `(a, b);` gives
/// several tensors.
///
/// | a value | |
/// | --- | --- |
/// | `name` | of an earlier statement |
/// | `input`, or `input.0`, `input.1` | what the model is given: one tensor, or several |
/// | `a + b`, `a * b`, `[a, b]` | a sum, a gate, a concatenation of channels |
/// | `a.relu().chunk(2, 0)` | functions one after the other; a layer is the last of them |
///
/// | layers, which are fields | |
/// | --- | --- |
/// | `conv1d(3 => 32, kernel = 3)`, `conv2d`, `conv3d` | and `stride`, `padding`, `dilation`, `groups`, `bias`, `padding_mode`, `weight_init`, `bias_init`, `whole_groups = true` |
/// | `conv_transpose1d(64 => 32, kernel = 2)`, `…2d`, `…3d` | and `stride`, `padding`, `output_padding`, `dilation`, `groups`, `bias`, `weight_init`, `bias_init` |
/// | `batch_norm(32)` of images, `batch_norm1d`, `batch_norm2d`, `batch_norm3d` | and `eps`, `momentum`, `affine`, `gamma_init`, `beta_init` |
/// | `linear(512 => 10)` | and `bias`, `weight_init`, `bias_init` |
/// | `max_pool(2)`, `avg_pool(2)` and `…1d`, `…3d` | and `stride`, `padding`, `ceil_mode` |
/// | `adaptive_avg_pool(1)` and `…1d`, `…3d` | |
/// | `Block(64)` | a model of your own, `Prunable` and `ModuleT`, made by `Block::new(path, 64)` |
/// | `repeat(3, Block(64))` | several of them in a row, in a `Vec` |
///
/// | functions | |
/// | --- | --- |
/// | `relu`, `relu6`, `leaky_relu`, `elu`, `silu`, `gelu`, `mish`, `hardswish`, `tanh` | map zero to zero; [absorption](crate::Absorb) knows them |
/// | `sigmoid`, `hardsigmoid` | do not, which the wiring knows: who reads them keeps their channels, unless they are a gate |
/// | `map(\|xs\| xs.sin())` | any other function of each element, that absorption does not know; whether it maps zero to zero is computed |
/// | `dropout(0.5)`, `interpolate(2)` | |
/// | `flatten`, `flatten(49)` | of so many positions, which has to be said if a concatenation is in front or behind, or anything but a linear layer reads it, unless the shape of the input says it |
/// | `chunk(2, 0)`, `shuffle(2)`, `pixel_shuffle(2)` | |
///
/// # Widths
///
/// Widths are literals, constants or parameters. What a layer takes is compared with what it is
/// given: literals and constants while compiling, with the error at the number that is wrong,
/// parameters in `new`, which panics with the same words, as tch's constructors do. So are the
/// sides of a sum. The rest, such as a product or a cut, is found by
/// [`plan`](crate::Prunable::plan).
///
/// # What it makes
///
/// The struct, which has to say `#[derive(Debug)]`, since tch asks that of a module, with a field
/// for every layer; `new`; `from_plan` and `from_cfg`, which take a [`Plan`](crate::Plan) or a
/// [`Cfg`](crate::Cfg) last and make a slimmed network again; [`ModuleT`](tch::nn::ModuleT), or
/// where there are several inputs or outputs a method `forward_t` that takes and returns as many;
/// [`Prunable`](trait@crate::Prunable). Attributes and documentation are passed on.
///
/// `#[prune(input = [3, 224, 224])]` above the struct says the shape of an input without the batch,
/// and `#[prune(input = 3)]` its channels, as for the derive.
///
/// It serves one network; a struct of your own with `#[derive(Prunable)]` serves a family whose
/// depth is known when the program runs. Lines of code of networks that give equal outputs and
/// equal plans, without comments (`tests/tests/models` and `examples/src/zoo`):
///
/// | | `model!` | struct, constructor and `forward` by hand |
/// | --- | --- | --- |
/// | U-Net | 38 | 102 |
/// | VGG-16 | 51 | 76, of any depth |
/// | ResNet-18 | 45 | 158, of every ResNet and ResNeXt |
/// | MobileNetV2 | 57 | 64, and a share of 137 that MobileNetV3 has too |
///
/// # Compile time
///
/// `cargo check` of a crate with one struct of 100 fields, cold, one run on 2 cores
/// (`cargo xtask compile-time --runs 1`). The same layers and `forward` without the attributes take
/// 0.40 s, and 0.58 s with `#[derive(Prunable)]` and `#[forward]`; the struct alone takes 0.34 s,
/// and 0.73 s with `#[prune(sequential)]`; a `model!` of 100 layers, which has the constructor and
/// the forward pass too, takes 0.56 s. A plain struct with serde's `Serialize` takes 0.28 s, and
/// 0.19 s without. It grows with the number of statements: the attributes take 2.3 s of 1,000
/// layers, 13 times as long as of 100.
#[macro_export]
macro_rules! model {
    ($($definition:tt)*) => {
        $crate::__private::model! { $crate; $($definition)* }
    };
}
