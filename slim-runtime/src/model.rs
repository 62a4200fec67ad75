//! Front end of `model!`: passes the runtime's crate path to the derive crate.

/// Defines a network once: generates struct, constructor and forward pass from one definition. The
/// wiring is read from that forward pass, as [`#[forward]`](crate::forward) reads it.
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
/// A statement is `name = value;` or, where no other statement refers to it, `value;`. An operation
/// reads the statement before it, or the value that it is called on: `relu;`, `a = bn1.relu();`,
/// `conv2 = a.conv2d(32 => 32, kernel = 3);`. The last statement is the output; `(a, b);` returns
/// several tensors.
///
/// A layer's variables are named after its field, or as `at` says, so that a file of PyTorch loads
/// whatever its names are: `conv1 = conv2d(3 => 32, kernel = 3) at "features.0.0";`.
///
/// | a value | |
/// | --- | --- |
/// | `name` | the value of an earlier statement |
/// | `input`, or `input.0`, `input.1` | the model's input: one tensor, or several |
/// | `a + b`, `a * b`, `[a, b]` | a sum, a gate, a concatenation of channels |
/// | `a.relu().chunk(2, 0)` | a chain of functions; a layer can only be its last element |
///
/// | a layer, which becomes a field | |
/// | --- | --- |
/// | `conv1d(3 => 32, kernel = 3)`, `conv2d`, `conv3d` | and `stride`, `padding`, `dilation`, `groups`, `bias`, `padding_mode`, `weight_init`, `bias_init`, `whole_groups = true` |
/// | `conv_transpose1d(64 => 32, kernel = 2)`, `…2d`, `…3d` | and `stride`, `padding`, `output_padding`, `dilation`, `groups`, `bias`, `weight_init`, `bias_init` |
/// | `batch_norm(32)` of images, `batch_norm1d`, `batch_norm2d`, `batch_norm3d` | and `eps`, `momentum`, `affine`, `gamma_init`, `beta_init` |
/// | `layer_norm(64)`, `layer_norm([8, 8])` | and `eps`, `affine`, `gamma_init`, `beta_init` |
/// | `group_norm(64, groups = 8)` | and `eps`, `affine`, `gamma_init`, `beta_init` |
/// | `rms_norm(64)`, `instance_norm(64)` | and `eps` (1e-6, 1e-5); `instance_norm` also `affine`, which is `false` |
/// | `prelu(64)`, or `prelu(1)` with one slope for all channels | |
/// | `linear(512 => 10)` | and `bias`, `weight_init`, `bias_init` |
/// | `embedding(1000 => 64)` of an input of indices | and `padding_idx`, `scale_grad_by_freq`, `sparse`, `weight_init` |
/// | `lstm(32 => 64)`, `gru`, `rnn_tanh` or `rnn`, `rnn_relu` over `[N, T, C]` | and `layers`, `bidirectional`, `bias`, `dropout`, `batch_first`, `weight_init`, `bias_init`; `lstm` also `proj` |
/// | `multi_head_attention(64, heads = 8)` over `[N, T, C]`, of a sequence to itself | and `bias`, `removal` |
/// | `grouped_query_attention(64, heads = 8, kv_heads = 2, head_dim = 8)`, likewise | and `bias`, `removal` |
/// | `max_pool(2)`, `avg_pool(2)` and `…1d`, `…3d` | and `stride`, `padding`, `ceil_mode` |
/// | `adaptive_avg_pool(1)` and `…1d`, `…3d` | |
/// | `Block(64)` | your own model, `Prunable` and `ModuleT`, built by `Block::new(path, 64)` |
/// | `repeat(3, Block(64))` | three of them in a row, in a `Vec` |
///
/// | a function | |
/// | --- | --- |
/// | `relu`, `relu6`, `leaky_relu`, `elu`, `silu`, `gelu`, `mish`, `hardswish`, `tanh` | map zero to zero; [absorption](crate::Absorb) supports them |
/// | `sigmoid`, `hardsigmoid` | do not map zero to zero: their channels are kept if a layer reads them, unless they are a gate |
/// | `map(\|xs\| xs.sin())` | any other element-wise function; whether it maps zero to zero is computed, and absorption does not know it |
/// | `dropout(0.5)`, `interpolate(2)` | |
/// | `flatten`, `flatten(49)` | the argument is the number of positions; it is required if a concatenation is in front or behind, or if a reader is not a linear layer, unless the shape of the input determines it |
/// | `chunk(2, 0)`, `shuffle(2)`, `pixel_shuffle(2)` | |
/// | `mean(1)`, `transpose(1, 2)` | over this dimension, and of these two: from `[N, T, C]` to `[N, C]`, from `[N, C, T]` to `[N, T, C]` |
///
/// # Widths
///
/// Widths are literals, constants or parameters. A layer's input width is compared with the width
/// of the value that it reads, and the operands of a sum with each other: literals and constants at
/// compile time, with the error at the wrong number; parameters in `new`, which panics with the
/// same text, as tch's constructors do. All other mismatches, such as those of a product or a
/// split, are found by [`plan`](crate::Prunable::plan).
///
/// # What it makes
///
/// The macro generates the struct with a field for every layer; `new`; `from_plan` and `from_cfg`,
/// whose last argument is a [`Plan`](crate::Plan) or a [`Cfg`](crate::Cfg) and which build a
/// slimmed network again; [`ModuleT`](tch::nn::ModuleT), or for several inputs or outputs a method
/// `forward_t` that takes and returns as many; [`Prunable`](trait@crate::Prunable). The struct
/// needs `#[derive(Debug)]`, since tch requires it of a module. Attributes and documentation are
/// passed on.
///
/// `#[prune(input = [3, 224, 224])]` above the struct gives the shape of an input without the
/// batch, and `#[prune(input = 3)]` its number of channels, as for the derive.
///
/// One `model!` defines one network; a hand-written struct with `#[derive(Prunable)]` can define a
/// family of networks whose depth is chosen at run time. Lines of code, without comments, of
/// networks with equal outputs and equal plans (`tests/parity/models` and `slim-zoo/src`):
///
/// | | `model!` | struct, constructor and `forward` by hand |
/// | --- | --- | --- |
/// | U-Net | 38 | 102 |
/// | VGG-16 | 51 | 76, of any depth |
/// | ResNet-18 | 45 | 158, of every ResNet and ResNeXt |
/// | MobileNetV2 | 57 | 64, plus part of 137 lines shared with MobileNetV3 |
///
/// # Compile time
///
/// Times of a cold `cargo check` of a crate with one struct of 100 fields, one run on 2 cores
/// (`cargo xtask compile-time --runs 1`). The same layers and `forward` without the attributes take
/// 0.40 s, and 0.58 s with `#[derive(Prunable)]` and `#[forward]`; the struct alone takes 0.34 s,
/// and 0.73 s with `#[prune(sequential)]`; a `model!` of 100 layers, which also generates the
/// constructor and the forward pass, takes 0.56 s. A plain struct with serde's `Serialize` takes
/// 0.28 s, and 0.19 s without. The time grows with the number of statements: for 1,000 layers the
/// attributes take 2.3 s, 13 times as long as for 100.
#[macro_export]
macro_rules! model {
    ($($definition:tt)*) => {
        $crate::__private::model! { $crate; $($definition)* }
    };
}
