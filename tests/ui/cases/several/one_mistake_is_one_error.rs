use slim_runtime::Prunable;
use tch::nn::Conv2D;

#[derive(Prunable)]
#[prune(sequential)]
#[prune(output = conv +)]
struct Unfinished {
    conv: Conv2D,
    #[prune(form = input)]
    side: Conv2D,
}

#[derive(Prunable)]
#[prune(sequential)]
#[prune(output = chunk(chunk, 2, 0))]
struct Hidden {
    chunk: Conv2D,
}

#[derive(Prunable)]
#[prune(sequential)]
#[prune(output = chunkk(nope, 2, 0))]
struct Twice {
    conv: Conv2D,
}

fn main() {}
