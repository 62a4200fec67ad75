//! Every network by its name, slimmed, as an ONNX file that ONNX Runtime runs.

use clap::ValueEnum;
use slim_cli::model::Model;
use slim_cli::network::{Arch, Spec};
use slim_runtime::criterion::L2;
use slim_runtime::{Prunable, Slimming, export};
use slim_tests::fill;
use slim_tests::onnx::assert_computes;
use tch::Device;
use tch::nn::ModuleT;

/// Single precision, for the deepest networks.
const TOLERANCE: f64 = 1e-4;

/// Draws what a fresh network has as zeros and ones. Writing each weight would take minutes.
fn draw(model: &Model) {
    model.draw_scales();
    let _no_grad = tch::no_grad_guard();
    for (name, mut variable) in model.vs.variables() {
        let _ = match name.rsplit('.').next() {
            Some("running_var") => variable.uniform_(0.5, 1.5),
            Some("running_mean" | "bias") => variable.normal_(0., 0.1),
            // The classifier of a ViT starts with zeros.
            _ if name.starts_with("heads") => variable.normal_(0., 0.1),
            _ => continue,
        };
    }
}

#[test]
fn every_slimmed_network_computes_the_same_in_onnx_runtime() {
    tch::set_num_threads(1);
    tch::manual_seed(1);
    let folder = tempfile::tempdir().unwrap();
    let mut written = String::new();
    for &arch in Arch::value_variants() {
        let depth = match arch {
            Arch::Vgg | Arch::Preresnet => Some(11),
            Arch::Densenet => Some(10),
            _ => None,
        };
        let spec = Spec::new(arch, depth, None, 10).unwrap();
        let mut model = Model::new(spec.clone(), Device::Cpu).unwrap();
        draw(&model);
        let slimming = match arch.has_batch_norms() {
            true => Slimming::ratio(0.5),
            false => Slimming::ratio(0.5).criterion(L2).local(),
        };
        model.net.apply(&model.net.plan(&slimming).unwrap()).unwrap();

        let image = spec.image();
        let file = folder.path().join(format!("{arch}.onnx"));
        let report = export::onnx(&file, &model.net, &[&image]).unwrap();
        for batch in [1, 2] {
            let xs = fill::images(&[batch, image[0], image[1], image[2]]);
            let expected = tch::no_grad(|| model.net.forward_t(&xs, false));
            println!("{arch}, {batch}");
            assert_computes(&file, &[("input", &xs)], &[expected], TOLERANCE);
        }
        std::fs::remove_file(&file).unwrap();
        let report = report.to_string();
        let (_, ports) = report.split_once("): ").unwrap();
        written += &format!("{arch}: {ports}\n");
    }
    insta::assert_snapshot!(written);
}
