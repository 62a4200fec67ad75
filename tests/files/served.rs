//! What `slim export --onnx` writes, in ONNX Runtime.

use slim_cli::files::{Folder, Form};
use slim_cli::model::{Model, Wanted};
use slim_cli::network::{Arch, Spec};
use slim_runtime::Prunable;
use slim_tests::onnx::assert_computes;
use tch::nn::ModuleT;
use tch::{Device, Tensor};

#[test]
fn a_network_of_a_checkpoint_computes_the_same_in_onnx_runtime() {
    let path = tempfile::tempdir().unwrap();
    let folder = Folder::new(path.path()).unwrap();
    tch::manual_seed(0);
    let spec = Spec::new(Arch::Vgg, None, Some("[8, 'M', 16]".parse().unwrap()), 10).unwrap();
    let mut model = Model::new(spec, Device::Cpu).unwrap();
    model.draw_scales();
    model.slimmed = Some(model.net.slim(0.5).unwrap());
    let mut draft = folder.draft().unwrap();
    draft.network("net.safetensors", &model).unwrap();
    draft.publish().unwrap();

    let file = folder.file("net.safetensors");
    let read = Model::read(&file, &Wanted::default(), Device::Cpu).unwrap();
    let mut draft = folder.draft().unwrap();
    draft.export("net.onnx", Form::Onnx, &read).unwrap();
    draft.publish().unwrap();
    for batch in [1, 3] {
        let images = Tensor::rand([batch, 3, 32, 32], tch::kind::FLOAT_CPU);
        let expected = tch::no_grad(|| model.net.forward_t(&images, false));
        assert_computes(&folder.file("net.onnx"), &[("input", &images)], &[expected], 1e-5);
    }
}
