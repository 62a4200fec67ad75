use slim_runtime::Prunable;
use tch::nn::Conv2D;

#[derive(Prunable)]
#[prune(sequential)]
struct Net {
    #[prune(skip, keep)]
    conv1: Conv2D,
    #[prune(elementwise)]
    #[prune(skip)]
    conv2: Conv2D,
    #[prune(skip, from = input)]
    conv3: Conv2D,
    #[prune(with = trace_it, per_channel)]
    conv4: Conv2D,
}

fn main() {}
