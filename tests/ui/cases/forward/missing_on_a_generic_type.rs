use slim_runtime::Prunable;
use tch::nn::{Conv2D, VarStore, conv2d};

#[derive(Prunable)]
struct Wrapped<L> {
    layer: L,
}

fn main() {
    let vs = VarStore::new(tch::Device::Cpu);
    let mut net = Wrapped::<Conv2D> { layer: conv2d(vs.root(), 3, 8, 1, Default::default()) };
    let _ = net.slim(0.5);
}
