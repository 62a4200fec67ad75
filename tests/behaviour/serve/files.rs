//! Runners of exported files.

use slim_runtime::{export, model};
use slim_serve::Runner;
use slim_tests::fill::fill;
use tch::nn::{ModuleT, VarStore};
use tch::{Device, Kind, Tensor};

use crate::common::{config, forward, images, network, off};

#[test]
fn a_file_is_served_as_the_network_is() {
    let net = network();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("net.pt");
    let sample = images(&[1, 3, 8, 8], 0);
    export::torch_script(&file, &net, &sample, forward).unwrap();
    let runner = config().batches([4]).load(&file, &sample).unwrap();
    // The file is read once.
    std::fs::remove_file(&file).unwrap();
    // Other sides, too: a file is served on whatever it takes.
    for shape in [[1, 3, 8, 8], [4, 3, 8, 8], [2, 3, 8, 8], [1, 3, 16, 12]] {
        let input = images(&shape, 1);
        let expected = tch::no_grad(|| net.forward_t(&input, false));
        assert!(off(&runner.run(&input).unwrap(), &expected) < 1e-5, "{shape:?}");
    }
    let report = runner.report();
    assert!(report.shapes.iter().all(|shape| shape.network.is_none()), "only a file is there");
}

#[test]
fn what_is_no_such_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let sample = images(&[1, 3, 8, 8], 0);
    let refused = |name: &str, bytes: Option<&[u8]>| {
        let file = folder.path().join(name);
        bytes.into_iter().for_each(|bytes| std::fs::write(&file, bytes).unwrap());
        Runner::load(&file, &sample).unwrap_err().to_string()
    };
    assert!(refused("absent.pt", None).contains("No such file"));
    for (name, bytes) in
        [("empty.pt", &b""[..]), ("text.pt", b"weights"), ("zip.pt", b"PK\x05\x06")]
    {
        let error = refused(name, Some(bytes));
        assert!(error.contains(name) && error.contains("cannot be served"), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn a_file_of_several_inputs_is_refused() {
    let net = network();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("two.pt");
    let sample = images(&[1, 3, 8, 8], 0);
    let two = [sample.shallow_clone(), images(&[1, 3, 8, 8], 1)];
    export::torch_script_of_several(&file, &net, &two, |net, images| {
        net.forward_t(&(&images[0] + &images[1]), false)
    })
    .unwrap();
    let error = Runner::load(&file, &sample).unwrap_err().to_string();
    assert!(error.contains("it has 2 inputs"), "{error}");
}

model! {
    #[derive(Debug)]
    struct Recurrent {
        lstm = lstm(6 => 8);
        fc = linear(8 => 3);
    }
}

#[test]
fn states_that_follow_the_input_are_served_and_fixed_ones_are_refused() {
    let vs = VarStore::new(Device::Cpu);
    let net = Recurrent::new(vs.root());
    fill(&vs);
    let folder = tempfile::tempdir().unwrap();
    let sample = images(&[1, 5, 6], 0);
    let file = folder.path().join("free.pt");
    export::torch_script(&file, &net, &sample, forward).unwrap();
    let runner = config().load(&file, &sample).unwrap();
    let input = images(&[3, 5, 6], 2);
    let expected = tch::no_grad(|| net.forward_t(&input, false));
    assert!(off(&runner.run(&input).unwrap(), &expected) < 1e-5);

    let vs = VarStore::new(Device::Cpu);
    let lstm = tch::nn::lstm(vs.root(), 6, 8, Default::default());
    let fixed = |_: &Recurrent, xs: &Tensor| {
        use tch::nn::RNN;
        let batch = xs.size()[0];
        let zeros = || Tensor::zeros([1, batch, 8], (Kind::Float, Device::Cpu));
        lstm.seq_init(xs, &tch::nn::LSTMState((zeros(), zeros()))).0
    };
    let file = folder.path().join("fixed.pt");
    vs.variables().into_values().for_each(|tensor| drop(tensor.set_requires_grad(false)));
    export::torch_script(&file, &net, &sample, fixed).unwrap();
    let error = Runner::load(&file, &sample).unwrap_err().to_string();
    assert!(error.contains("`aten::lstm` starts from states of one batch"), "{error}");
    // From the network itself, each batch that is asked for has a trace of its own.
    let runner = config().batches([2]).runner(&net, &sample, fixed).unwrap();
    let input = images(&[2, 5, 6], 2);
    let expected = tch::no_grad(|| fixed(&net, &input));
    assert!(off(&runner.run(&input).unwrap(), &expected) < 1e-5);
    assert!(runner.run(&images(&[3, 5, 6], 2)).is_err());
}
