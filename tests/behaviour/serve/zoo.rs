//! Runners of the zoo's networks.

use slim_cli::model::Model;
use slim_cli::network::{Arch, Net, Spec};
use slim_runtime::criterion::L2;
use slim_runtime::{Prunable, Slimming, recalibrate};
use slim_serve::Form;
use slim_tests::fill::images;
use tch::Device;
use tch::nn::ModuleT;

use crate::common::{config, forward, off};

/// Images as small as the network takes, so that all networks are compiled in little time.
fn image(arch: Arch) -> [i64; 3] {
    arch.image().map(|size| size.min(64))
}

fn is_served(arch: Arch) {
    tch::manual_seed(0);
    let mut model = Model::new(Spec::new(arch, None, None, 10).unwrap(), Device::Cpu).unwrap();
    model.draw_scales();
    model.vs.freeze();
    // Heads that begin with zeros would give zeros, which show nothing.
    for mut tensor in model.vs.variables().into_values() {
        if tch::no_grad(|| tensor.count_nonzero(None).int64_value(&[])) == 0 {
            let _ = tch::no_grad(|| tensor.uniform_(-0.1, 0.1));
        }
    }
    let shape = |batch: i64| [&[batch][..], &image(arch)].concat();
    for dense in [true, false] {
        if !dense {
            let slimming = if arch.has_batch_norms() {
                Slimming::ratio(0.5)
            } else {
                Slimming::ratio(0.5).criterion(L2)
            };
            let plan = model.net.plan(&slimming).unwrap();
            model.net.apply(&plan).unwrap();
        }
        // So that outputs are of the size of a trained network's.
        let batch = || images(&shape(8));
        if arch.has_batch_norms() {
            let pass = |net: &Net, images| Ok(net.forward_t(&images, true));
            recalibrate(&mut model.net, [batch()], pass).unwrap();
        }
        let sample = images(&shape(1));
        let runner = config().runner(&model.net, &sample, forward::<Net>).unwrap();
        let report = &runner.report().shapes[0];
        println!("{arch}\n{report}");
        for trial in &report.forms {
            let may_be_out = match trial.form {
                // It lacks operations, such as adaptive pooling to sides that do not divide.
                Form::Packed => true,
                // The fuser computes something else, which the comparison finds.
                Form::Fused => arch == Arch::Yolov8n,
                _ => false,
            };
            assert!(trial.out.is_none() || may_be_out, "{arch}: {trial:?}");
        }
        for batch in [1, 2] {
            let images = images(&shape(batch));
            let expected = tch::no_grad(|| model.net.forward_t(&images, false));
            let found = runner.run(&images).unwrap();
            assert!(off(&found, &expected) < 1e-4, "{arch}, {batch}: {}", off(&found, &expected));
        }
        let report = runner.report();
        assert!(report.shapes.iter().all(|shape| shape.fallbacks == 0), "{arch}: {report}");
    }
}

/// Plain, residual, with inverted residuals, gated, shuffled, of few parameters, with several
/// outputs, recurrent.
const SERVED: [Arch; 8] = [
    Arch::Vgg,
    Arch::Resnet18,
    Arch::MobilenetV2,
    Arch::EfficientnetB0,
    Arch::ShufflenetV2,
    Arch::Squeezenet,
    Arch::Yolov8n,
    Arch::Crnn,
];

#[test]
fn networks_of_the_zoo_are_served_dense_and_slimmed() {
    for arch in SERVED {
        is_served(arch);
    }
}
