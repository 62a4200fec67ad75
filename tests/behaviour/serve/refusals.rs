//! Inputs, settings and networks that are refused, each with the reason and the fix.

use slim_serve::{Runner, RunnerConfig};
use tch::nn::Module;
use tch::{Kind, Tensor};

use crate::common::{config, forward, images, network};

fn sample() -> Tensor {
    images(&[1, 3, 8, 8], 0)
}

#[test]
fn inputs_that_do_not_fit_the_sample() {
    let runner = config().runner(&network(), &sample(), forward).unwrap();
    let said = |input: &Tensor| runner.run(input).unwrap_err().to_string();
    assert_eq!(
        said(&sample().to_kind(Kind::Double)),
        "an input of [1, 3, 8, 8] of Double on Cpu cannot be served: the sample was of Float on Cpu; convert the input"
    );
    assert_eq!(
        said(&images(&[0, 3, 8, 8], 0)),
        "an input of [0, 3, 8, 8] of Float on Cpu cannot be served: it is empty"
    );
    for shape in [&[3, 8, 8][..], &[1, 4, 8, 8], &[8], &[], &[1, 1, 1, 1, 1]] {
        let error = said(&images(shape, 0));
        assert!(error.contains(&format!("inputs of {shape:?} cannot be served")), "{error}");
    }
    assert_eq!(runner.shapes().len(), 1, "what is refused is not kept");
    assert_eq!(runner.run(&sample()).unwrap().size(), [1, 5]);
}

#[test]
fn settings_that_contradict_each_other() {
    let said = |config: RunnerConfig| {
        config.runner(&network(), &sample(), forward).unwrap_err().to_string()
    };
    assert_eq!(
        said(config().batches([1, 2, 4]).shapes(2)),
        "`shapes` is 2: the runner keeps at least the 3 that are asked for, the sample's among them"
    );
    assert!(said(config().shapes(0)).contains("at least the 1"));
    for config in [config().batches([0]), config().batches([-2]), config().input([1, 3, 8])] {
        assert!(said(config).contains("inputs have 4 dimensions, as the sample has"));
    }
}

#[test]
fn networks_that_cannot_be_traced_or_compared() {
    let net = network();
    let said = |forward: &dyn Fn(&Tensor) -> Tensor| {
        config().runner(&net, &sample(), |_, xs| forward(xs)).unwrap_err().to_string()
    };
    assert!(said(&|_| panic!("no batch today")).contains("no batch today"));
    assert!(said(&|xs| xs * f64::NAN).contains("not finite"));
    assert!(said(&|xs| xs.argmax(1, false)).contains("returns Int64"));
    let by_value = |xs: &Tensor| {
        if xs.flatten(0, -1).double_value(&[0]) < -0.99 { xs * 2. } else { xs * 3. }
    };
    assert!(said(&by_value).contains("depends on the values of its input"));
}

#[test]
fn a_refusal_is_a_panic_only_where_tchs_trait_has_no_result() {
    let runner = Runner::new(&network(), &sample(), forward).unwrap();
    let wrong = images(&[1, 4, 8, 8], 0);
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runner.forward(&wrong)));
    let message = panic.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("cannot be served"), "{message}");
}
