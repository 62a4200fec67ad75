//! The network that the README's code is about.

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

/// With random weights, which rank its channels.
pub fn net() -> (Net, VarStore) {
    let vs = VarStore::new(Device::Cpu);
    let net = Net::new(vs.root());
    crate::fill::fill(&vs);
    (net, vs)
}

/// Four of them.
pub fn images() -> Tensor {
    Tensor::randn([4, 3, 16, 16], tch::kind::FLOAT_CPU)
}

/// Where no other test writes.
pub fn file() -> std::path::PathBuf {
    std::env::temp_dir().join(format!(
        "slim-readme-{}-{:?}.safetensors",
        std::process::id(),
        std::thread::current().id()
    ))
}
