//! The network of the README's code.

use slim_runtime::model;
use tch::nn::VarStore;
use tch::{Device, Tensor};

model! {
    /// One convolution and a linear layer.
    #[derive(Debug)]
    pub struct Net {
        conv = conv2d(3 => 8, kernel = 3);
        bn = batch_norm(8);
        relu;
        adaptive_avg_pool(1);
        flatten;
        fc = linear(8 => 10);
    }
}

/// The network with random weights, which rank its channels.
pub fn net() -> (Net, VarStore) {
    let vs = VarStore::new(Device::Cpu);
    let net = Net::new(vs.root());
    crate::fill::fill(&vs);
    (net, vs)
}

/// Four images.
pub fn images() -> Tensor {
    Tensor::randn([4, 3, 16, 16], tch::kind::FLOAT_CPU)
}

/// A path where no other test writes.
pub fn file() -> std::path::PathBuf {
    std::env::temp_dir().join(format!(
        "slim-readme-{}-{:?}.safetensors",
        std::process::id(),
        std::thread::current().id()
    ))
}
