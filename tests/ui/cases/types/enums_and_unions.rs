use slim_runtime::Prunable;
use tch::nn::Conv2D;

#[derive(Prunable)]
enum Layer {
    Conv(Conv2D),
}

#[derive(Prunable)]
union Either {
    a: u32,
    b: f32,
}

fn main() {}
