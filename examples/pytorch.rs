//! Reads weights of PyTorch into a network of one's own, slims it, and writes them back under the
//! names of the file, for `torch.load(…, weights_only=True)`.
//!
//! Without an argument, it first makes a file as a trainer of PyTorch would, with `DataParallel`'s
//! prefix and other names than the network here.

use std::env;
use std::path::PathBuf;

use slim_runtime::weights::{self, Loader};
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

impl Net {
    fn new(p: &nn::Path, classifier: &str) -> Self {
        Self {
            conv1: nn::conv2d(p / "conv1", 3, 32, 3, Default::default()),
            bn1: nn::batch_norm2d(p / "bn1", 32, Default::default()),
            conv2: nn::conv2d(p / "conv2", 32, 64, 3, Default::default()),
            bn2: nn::batch_norm2d(p / "bn2", 64, Default::default()),
            fc: nn::linear(p / classifier, 64, 10, Default::default()),
        }
    }
}

#[forward]
impl nn::ModuleT for Net {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let xs = xs.apply(&self.conv1).apply_t(&self.bn1, train).relu();
        let xs = xs.apply(&self.conv2).apply_t(&self.bn2, train).relu();
        xs.adaptive_avg_pool2d([1, 1]).flatten(1, -1).apply(&self.fc)
    }
}

fn main() -> anyhow::Result<()> {
    let folder = env::temp_dir().join("slim-pytorch-example");
    std::fs::create_dir_all(&folder)?;
    let dense = match env::args_os().nth(1) {
        Some(file) => PathBuf::from(file),
        None => {
            // The classifier is `head` there, and every name begins with `module.`.
            let vs = nn::VarStore::new(Device::Cpu);
            Net::new(&(vs.root() / "module"), "head");
            let file = folder.join("dense.pth");
            weights::save(&file, &vs)?;
            file
        }
    };

    let mut vs = nn::VarStore::new(Device::Cpu);
    let mut net = Net::new(&vs.root(), "fc");
    let loaded = Loader::new()
        .strip("module.")
        .rename(|name| name.replace("head.", "fc."))
        .strict(false)
        .load(&dense, &mut vs)?;
    println!("read {} tensors; left out {:?}", loaded.names.len(), loaded.left_out);

    println!("{}", net.slim(0.5)?);
    let slimmed = folder.join("slimmed.pth");
    loaded.save(&slimmed, &vs)?;
    for (name, shape) in weights::names(&slimmed)? {
        println!("{name:<28} {shape:?}");
    }
    println!("wrote {}", slimmed.display());
    Ok(())
}
