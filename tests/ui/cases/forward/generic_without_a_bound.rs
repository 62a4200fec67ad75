use slim_runtime::{Prunable, forward};
use tch::Tensor;
use tch::nn::ModuleT;

trait Layer: ModuleT {}

#[derive(Debug, Prunable)]
struct Twice<L> {
    layer: L,
}

#[forward]
impl<L: Layer> ModuleT for Twice<L> {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        xs.apply_t(&self.layer, train).apply_t(&self.layer, train)
    }
}

fn main() {}
