//! Interrupted training of a network with dropout. It has its own process, since tests in the same
//! process would draw from libtorch's only generator.
#![allow(clippy::unwrap_used, missing_docs)]

use slim_cli::data::{DataSet, digits};
use slim_cli::model::{Model, Wanted};
use slim_cli::network::{Arch, Net, Spec};
use slim_cli::train::{Interrupted, Output, Recipe, Resume, train};
use slim_runtime::{Flow, LayerVisitor, Prunable, Tracer, channels, checkpoint};
use slim_zoo::vgg::Vgg;
use tch::nn::{ModuleT, VarStore};
use tch::{Device, Tensor};

/// A VGG with dropout.
#[derive(Debug)]
struct Drawing(Vgg);

impl ModuleT for Drawing {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        self.0.forward_t(&xs.dropout(0.2, train), train)
    }
}

impl Prunable for Drawing {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> slim_runtime::Result<Flow> {
        self.0.trace(cx, input)
    }

    fn layers_mut(&mut self, visit: &mut LayerVisitor) -> slim_runtime::Result<()> {
        self.0.layers_mut(visit)
    }
}

#[test]
fn dropout_draws_what_it_would_have_drawn() {
    let cfg = channels![4, M, 6];
    let data = DataSet::from(digits::load(Device::Cpu).unwrap());
    let recipe = Recipe { epochs: 2, batch_size: 512, ..Recipe::default() };
    let drawing = || {
        tch::manual_seed(0);
        let vs = VarStore::new(Device::Cpu);
        let net = Net::new(Drawing(Vgg::new(vs.root(), &cfg, 10).unwrap()));
        let spec = Spec::new(Arch::Vgg, None, Some(cfg.clone()), 10).unwrap();
        Model { net, vs, ..Model::new(spec, Device::Cpu).unwrap() }
    };
    tch::set_num_threads(1);
    let folder = tempfile::tempdir().unwrap();
    let shown = |name: &str| Output {
        folder: Some(folder.path().join(name)),
        quiet: true,
        ..Output::default()
    };
    train(&mut drawing(), &data, &recipe, &shown("through"), None).unwrap();

    // An interrupt before the first step ends training at once. It resumes from the start.
    let stopped = shown("stopped");
    stopped.interrupt.ask();
    let mut model = drawing();
    let error = train(&mut model, &data, &recipe, &stopped, None).unwrap_err();
    assert_eq!(
        error
            .downcast_ref::<Interrupted>()
            .map(|interrupted| (interrupted.epoch, interrupted.step)),
        Some((0, 0))
    );
    // Another process would have drawn other numbers by now.
    tch::manual_seed(99);
    let file = |name: &str| folder.path().join(name).join("checkpoint.safetensors");
    let (_, resume) = Resume::read(&file("stopped"), &Wanted::default(), Device::Cpu).unwrap();
    train(&mut model, &data, &recipe, &shown("stopped"), Some(resume)).unwrap();
    let [stopped, through] =
        ["stopped", "through"].map(|name| checkpoint::tensors(file(name)).unwrap());
    assert!(stopped.keys().eq(through.keys()));
    assert!(stopped.iter().all(|(name, tensor)| tensor.equal(&through[name])));
}
