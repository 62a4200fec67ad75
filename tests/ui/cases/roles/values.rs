use slim_runtime::Prunable;
use tch::nn::Conv2D;

#[derive(Prunable)]
#[prune(sequential)]
struct Net {
    #[prune(with)]
    conv1: Conv2D,
    #[prune(with = "trace_it")]
    conv2: Conv2D,
    #[prune(per_channel = scale)]
    conv3: Conv2D,
    #[prune(per_channel(shift))]
    conv4: Conv2D,
    #[prune(from)]
    conv5: Conv2D,
}

fn main() {}
