//! Defines a residual network, slims it, and rebuilds it from its checkpoint. The README shows the
//! definition.

use slim_runtime::{Prunable, checkpoint, model};
use tch::{Device, Kind, Tensor, nn};

model! {
    /// A small residual network for images of 32×32.
    #[derive(Debug)]
    pub struct Tiny(classes: i64) {
        conv1 = conv2d(3 => 32, kernel = 3, padding = 1, bias = false);
        bn1 = batch_norm(32);
        a = relu;
        conv2 = conv2d(32 => 32, kernel = 3, padding = 1, bias = false);
        bn2 = batch_norm(32);
        sum = bn2 + a;
        relu;
        adaptive_avg_pool(1);
        flatten;
        fc = linear(32 => classes);
    }
}

fn main() -> slim_runtime::Result<()> {
    let vs = nn::VarStore::new(Device::cuda_if_available());
    let mut net = Tiny::new(vs.root(), 10);
    let slimmed = net.slim(0.5)?;
    println!("{slimmed}");

    let file = std::env::temp_dir().join("tiny.safetensors");
    checkpoint::save(&file, &vs, &slimmed)?;
    let mut other = nn::VarStore::new(vs.device());
    let mut again = Tiny::new(other.root(), 10);
    checkpoint::load(&file, &mut other, &mut again)?;

    let images = Tensor::zeros([1, 3, 32, 32], (Kind::Float, vs.device()));
    println!(
        "built again, it is the same network: {}",
        images.apply_t(&net, false).equal(&images.apply_t(&again, false))
    );
    Ok(())
}
