//! Slims a small network: the first code block of the README.

use slim_runtime::{Prunable, forward};
use tch::{Device, Tensor, nn};

#[derive(Debug, Prunable)]
struct Net {
    conv1: nn::Conv2D,
    bn1: nn::BatchNorm,
    conv2: nn::Conv2D,
    bn2: nn::BatchNorm,
    fc: nn::Linear,
}

#[forward] // the wiring is read from here
impl nn::ModuleT for Net {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let xs = xs.apply(&self.conv1).apply_t(&self.bn1, train).relu().max_pool2d_default(2);
        let xs = xs.apply(&self.conv2).apply_t(&self.bn2, train).relu().max_pool2d_default(2);
        xs.flatten(1, -1).apply(&self.fc)
    }
}

fn main() -> slim_runtime::Result<()> {
    let vs = nn::VarStore::new(Device::cuda_if_available());
    let p = &vs.root();
    let mut net = Net {
        conv1: nn::conv2d(p / "conv1", 3, 32, 3, Default::default()),
        bn1: nn::batch_norm2d(p / "bn1", 32, Default::default()),
        conv2: nn::conv2d(p / "conv2", 32, 64, 3, Default::default()),
        bn2: nn::batch_norm2d(p / "bn2", 64, Default::default()),
        fc: nn::linear(p / "fc", 64 * 6 * 6, 10, Default::default()),
    };
    let slimmed = net.slim(0.5)?;
    println!("{slimmed}");
    Ok(())
}
