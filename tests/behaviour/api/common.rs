//! A small network, and checks for any network.

use std::collections::BTreeMap;

use slim_runtime::{Plan, Prunable};
use slim_tests::device;
use tch::nn::{self, VarStore};
use tch::{Kind, Tensor};

/// Two convolutions and a linear layer over 2×2 positions.
#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(input = 3)]
pub struct Net {
    pub conv1: nn::Conv2D,
    pub bn1: nn::BatchNorm,
    pub conv2: nn::Conv2D,
    pub bn2: nn::BatchNorm,
    pub fc: nn::Linear,
}

impl Net {
    /// The network with 8 and 6 channels and random γ, β and statistics.
    pub fn new(p: &nn::Path) -> Self {
        let net = Net {
            conv1: nn::conv2d(
                p / "conv1",
                3,
                8,
                3,
                nn::ConvConfig { padding: 1, ..Default::default() },
            ),
            bn1: nn::batch_norm2d(p / "bn1", 8, Default::default()),
            conv2: nn::conv2d(
                p / "conv2",
                8,
                6,
                3,
                nn::ConvConfig { padding: 1, ..Default::default() },
            ),
            bn2: nn::batch_norm2d(p / "bn2", 6, Default::default()),
            fc: nn::linear(p / "fc", 6 * 4, 5, Default::default()),
        };
        randomise(&[&net.bn1, &net.bn2]);
        net
    }

    /// The network with γ = 0.01, 0.02, … over both batch norms and alternating signs, so that the
    /// channels that stay are known.
    pub fn with_known_scores(p: &nn::Path) -> Self {
        let net = Net::new(p);
        set(&net.bn1, &[0.01, -0.02, 0.03, -0.04, 0.05, -0.06, 0.07, -0.08]);
        set(&net.bn2, &[0.09, -0.10, 0.11, -0.12, 0.13, -0.14]);
        net
    }
}

impl nn::ModuleT for Net {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let xs = xs.apply(&self.conv1).apply_t(&self.bn1, train).relu();
        let xs = xs.apply(&self.conv2).apply_t(&self.bn2, train).relu();
        xs.adaptive_avg_pool2d([2, 2]).flatten(1, -1).apply(&self.fc)
    }
}

pub fn set(bn: &nn::BatchNorm, gamma: &[f64]) {
    let _no_grad = tch::no_grad_guard();
    bn.ws.as_ref().unwrap().shallow_clone().copy_(&Tensor::from_slice(gamma));
}

/// Draws scales, shifts and statistics as after training.
pub fn randomise(norms: &[&nn::BatchNorm]) {
    let _no_grad = tch::no_grad_guard();
    for bn in norms {
        for tensor in [&bn.ws, &bn.bs].into_iter().flatten().chain([&bn.running_mean]) {
            let _ = tensor.shallow_clone().normal_(0., 1.);
        }
        let _ = bn.running_var.shallow_clone().uniform_(0.5, 1.5);
    }
}

pub fn images(n: i64) -> Tensor {
    Tensor::randn([n, 3, 6, 6], (Kind::Float, device()))
}

/// Values of all variables, by name.
pub fn values(vs: &VarStore) -> BTreeMap<String, Tensor> {
    vs.variables().into_iter().map(|(name, tensor)| (name, tensor.detach().copy())).collect()
}

/// Asserts that names, shapes, kinds and values are equal, bit for bit.
pub fn assert_same(a: &BTreeMap<String, Tensor>, b: &BTreeMap<String, Tensor>) {
    assert!(a.keys().eq(b.keys()));
    for (name, a) in a {
        let b = &b[name];
        assert_eq!((a.size(), a.kind()), (b.size(), b.kind()), "{name}");
        assert!(bytes(a) == bytes(b), "{name} differs");
    }
}

fn bytes(tensor: &Tensor) -> Vec<u8> {
    let tensor = tensor.contiguous();
    let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor.copy_data_u8(&mut bytes, tensor.numel());
    bytes
}

/// Zeroes γ and β of the removed channels by the names of their variables, which must be the field
/// paths. The library's masking is not used.
pub fn mask_by_name(vs: &VarStore, plan: &Plan) {
    zero_by_name(vs, plan, &["weight", "bias"]);
}

/// Zeroes these variables of each scored layer at the positions of the removed channels.
pub fn zero_by_name(vs: &VarStore, plan: &Plan, variables_of_a_norm: &[&str]) {
    let _no_grad = tch::no_grad_guard();
    let variables = vs.variables();
    for layer in plan.layers() {
        let Some(scored) = &layer.scored else { continue };
        let axis = layer.axis(&scored.axis).unwrap();
        let kept: Vec<_> = axis.keep.iter().collect();
        for position in (0..axis.width).filter(|position| !kept.contains(position)) {
            for name in variables_of_a_norm {
                let _ = variables[&format!("{}.{name}", layer.path)].get(position as i64).fill_(0.);
            }
        }
    }
}

/// Asserts that every tensor of the plan has the planned shape, in the fields and in the store.
pub fn assert_fields_and_store_agree<M: Prunable>(model: &M, vs: &VarStore, plan: &Plan) {
    let now =
        model.plan(&slim_runtime::Slimming::ratio(0.)).expect("the slimmed model can be planned");
    let variables = vs.variables();
    for (before, after) in plan.layers().iter().zip(now.layers()) {
        for (tensor, slim) in before.tensors.iter().zip(&after.tensors) {
            let name = format!("{}.{}", before.path, tensor.name);
            assert_eq!(before.shape_after(tensor), after.shape_before(slim), "field {name}");
            // The variable of a tied tensor has the name of the first layer with that tensor.
            let variable = &variables[tensor.tied.as_ref().unwrap_or(&name)];
            assert_eq!(variable.size(), after.shape_before(slim), "variable {name}");
        }
    }
}
