//! Runners of the zoo's networks.

use clap::ValueEnum;
use slim_cli::model::Model;
use slim_cli::network::{Arch, Net, Spec};
use slim_runtime::{Prunable, recalibrate};
use slim_serve::Form;
use slim_tests::fill::images;
use tch::Device;
use tch::nn::ModuleT;

use crate::common::{config, forward, off};

/// Images as small as the network takes, so that all networks are compiled in little time.
fn image(arch: Arch) -> [i64; 3] {
    match arch {
        Arch::VitB16 => [3, 224, 224],
        Arch::InceptionV3 => [3, 96, 96],
        _ => arch.image().map(|size| size.min(64)),
    }
}

fn is_served(arch: Arch) {
    tch::manual_seed(0);
    let mut model = Model::new(Spec::new(arch, None, None, 10).unwrap(), Device::Cpu).unwrap();
    model.draw_scales();
    let shape = |batch: i64| [&[batch][..], &image(arch)].concat();
    for dense in [true, false] {
        if !dense {
            model.net.slim(0.5).unwrap();
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
            // `Packed` lacks operations, such as adaptive pooling to sides that do not divide.
            assert!(trial.out.is_none() || trial.form == Form::Packed, "{arch}: {trial:?}");
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

#[test]
fn every_network_of_the_zoo_is_served_dense_and_slimmed() {
    let named = std::env::var("SLIM_ARCH").ok();
    for &arch in Arch::value_variants() {
        if named.as_ref().is_none_or(|named| *named == arch.to_string()) {
            is_served(arch);
        }
    }
}
