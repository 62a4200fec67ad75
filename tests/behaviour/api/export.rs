//! Exported networks compute the same when libtorch loads them.

#[cfg(feature = "onnx")]
mod int8;
mod layers;
#[cfg(feature = "onnx")]
mod onnx;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;

use slim_runtime::export::{Batch, TorchScript, torch_script, torch_script_of_several};
use slim_runtime::{Error, Flow, Prunable, Result, Tracer, benchmark, deploy, nn};
use slim_tests::networks::{Chain, Network, Residual, Shuffled, Tied, built};
use tch::nn::{ModuleT, RNN, VarStore};
use tch::{CModule, Device, Kind, Tensor};

use crate::common::{Net, assert_same, images, values};

fn export(file: &Path, net: &Net, sample: &Tensor) -> Result<TorchScript> {
    torch_script(file, net, sample, |net, xs| net.forward_t(xs, false))
}

fn served(file: &Path, xs: &Tensor) -> Tensor {
    CModule::load(file).unwrap().forward_ts(&[xs]).unwrap()
}

fn close(a: &Tensor, b: &Tensor, tolerance: f64) -> bool {
    a.size() == b.size()
        && (a - b).abs().max().double_value(&[]) <= tolerance * b.abs().max().double_value(&[])
}

fn export_and_serve<N: Network>() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("net.pt");
    let (mut net, _vs) = built::<N>();
    for ratio in [0., 0.4] {
        net.slim(ratio).unwrap();
        let exported =
            torch_script(&file, &net, &images(2), |net, xs| net.forward_t(xs, false)).unwrap();
        assert_eq!(exported.batch, Batch::Any);
        assert_eq!(exported.bytes, fs::metadata(&file).unwrap().len());
        for batch in [1, 2, 5] {
            let xs = images(batch);
            assert!(
                close(&served(&file, &xs), &tch::no_grad(|| net.forward_t(&xs, false)), 1e-5),
                "ratio {ratio}, batch {batch}"
            );
        }
    }
}

#[test]
fn slimmed_networks_are_served() {
    export_and_serve::<Chain>();
    export_and_serve::<Residual>();
    export_and_serve::<Shuffled>();
    export_and_serve::<Tied>();
}

#[test]
fn a_deployed_network_is_measured_and_served() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("net.pt");
    let (mut net, _vs) = built::<Residual>();
    net.slim(0.4).unwrap();
    let deployed = deploy(&mut net, &images(2), |net, xs| net.forward_t(xs, false)).unwrap();
    assert!(deployed.folded() > 0);
    torch_script(&file, &net, &images(2), |net, xs| net.forward_t(xs, false)).unwrap();
    let xs = images(3);
    assert!(close(&served(&file, &xs), &net.forward_t(&xs, false), 1e-5));
    assert_eq!(benchmark(&net, images(2).size()).unwrap().batch, Some(2));
}

#[test]
fn doubles_stay_doubles() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("net.pt");
    let mut vs = VarStore::new(Device::Cpu);
    let net = Net::new(&vs.root());
    vs.double();
    let xs = images(3).to_kind(Kind::Double);
    let exported = export(&file, &net, &xs).unwrap();
    assert!(exported.difference <= 1e-12 * exported.magnitude);
    let found = served(&file, &xs);
    assert_eq!(found.kind(), Kind::Double);
    assert!(close(&found, &tch::no_grad(|| net.forward_t(&xs, false)), 1e-12));
}

#[test]
fn the_network_is_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let vs = VarStore::new(Device::Cpu);
    let net = Net::new(&vs.root());
    let _ = net.fc.ws.set_requires_grad(false);
    let before = values(&vs);
    let wanted = || {
        vs.variables()
            .into_iter()
            .map(|(name, tensor)| (name, tensor.requires_grad()))
            .collect::<BTreeMap<_, _>>()
    };
    let gradients = wanted();
    assert!(gradients.values().any(|wanted| *wanted) && !gradients["fc.weight"]);

    export(&folder.path().join("net.pt"), &net, &images(2)).unwrap();
    assert_eq!(wanted(), gradients);
    let failed = torch_script(folder.path().join("net.pt"), &net, &images(2), |_, _| panic!("no"));
    assert!(failed.is_err());
    assert_eq!(wanted(), gradients);
    assert_same(&values(&vs), &before);

    // The network can still be trained.
    let loss = net.forward_t(&images(2), true).square().sum(Kind::Float);
    loss.backward();
    assert!(net.conv1.ws.grad().defined());
}

#[test]
fn several_inputs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("net.pt");
    let net = Net::new(&VarStore::new(Device::Cpu).root());
    let pass = |net: &Net, inputs: &[Tensor]| net.forward_t(&(&inputs[0] * &inputs[1]), false);
    let inputs = [images(2), images(2)];
    let exported = torch_script_of_several(&file, &net, &inputs, pass).unwrap();
    assert_eq!(exported.batch, Batch::Any);
    let inputs = [images(3), images(3)];
    let found = CModule::load(&file).unwrap().forward_ts(&inputs).unwrap();
    assert!(close(&found, &tch::no_grad(|| pass(&net, &inputs)), 1e-5));

    // The inputs have different batch sizes, so the batch is unknown.
    let broadcast = [images(2), images(1)];
    assert_eq!(
        torch_script_of_several(&file, &net, &broadcast, pass).unwrap().batch,
        Batch::Unknown
    );
}

#[test]
fn whole_numbers_come_in_and_go_out() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("net.pt");
    let net = Net::new(&VarStore::new(Device::Cpu).root());
    let classes =
        |net: &Net, xs: &Tensor| net.forward_t(&xs.to_kind(Kind::Float), false).argmax(1, false);
    let pixels = (images(4) * 50.).to_kind(Kind::Int64);
    let exported = torch_script(&file, &net, &pixels, classes).unwrap();
    assert_eq!((exported.batch, exported.difference), (Batch::Any, 0.));
    assert_eq!(served(&file, &pixels), tch::no_grad(|| classes(&net, &pixels)));
}

#[test]
fn a_size_that_forward_reads_is_fixed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("net.pt");
    let vs = VarStore::new(Device::Cpu);
    let net = Net::new(&vs.root());
    let exported = torch_script(&file, &net, &images(2), |net, xs| {
        net.forward_t(xs, false).view([xs.size()[0], 5, 1])
    })
    .unwrap();
    let Batch::Only { size: 2, why } = &exported.batch else { panic!("{:?}", exported.batch) };
    insta::assert_snapshot!(why, @"the trace is another one: `forward` may read the size of the batch, as by `xs.size()[0]`, or do something else in each run");
    assert_eq!(served(&file, &images(2)).size(), [2, 5, 1]);
}

#[test]
fn what_a_trace_cannot_hold_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("net.pt");
    fs::write(&file, "before").unwrap();
    let vs = VarStore::new(Device::Cpu);
    let net = Net::new(&vs.root());
    let sample = images(2);
    let refused = |forward: &dyn Fn(&Net, &Tensor) -> Tensor| {
        let error = torch_script(&file, &net, &sample, forward).unwrap_err();
        assert_eq!(fs::read_to_string(&file).unwrap(), "before");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
        // The numbers differ from run to run.
        let said = error.to_string().replace(&file.display().to_string(), "net.pt");
        match said.split_once("outputs of up to") {
            Some((before, after)) => {
                format!("{before}…{}", after.find(';').map_or("", |hint| &after[hint..]))
            }
            None => said,
        }
    };
    let outside = Tensor::ones([5], tch::kind::FLOAT_CPU).set_requires_grad(true);

    insta::assert_snapshot!(refused(&|_, _| panic!("not today")), @"net.pt: cannot export: its forward pass panics: not today");
    insta::assert_snapshot!(refused(&|net, xs| net.forward_t(xs, true)), @"the closure changed `bn1.running_mean`, so it runs the network in training mode; call its forward pass with `train = false`");
    insta::assert_snapshot!(refused(&|net, xs| net.forward_t(xs, false) * xs.double_value(&[0, 0, 0, 0])), @"net.pt: cannot export: its forward pass depends on the values of its input through Rust code (a branch, a number that is read from a tensor), which a trace does not record; use tensor operations instead: on the sample with its values in reversed order, …");
    insta::assert_snapshot!(refused(&|net, xs| net.forward_t(xs, false) + Tensor::from_slice(&[1_f32, 2., 3., 4., 5.])), @"net.pt: cannot export: what was written is another network: …; the trace does not record some tensor, such as one that the forward pass makes from Rust numbers (`Tensor::from_slice`: make it beforehand) or draws at random");
    insta::assert_snapshot!(refused(&|net, _| net.fc.ws.shallow_clone()), @"net.pt: cannot export: its forward pass cannot be traced: no operation of libtorch's gives its output, which is a tensor that was there before");
    insta::assert_snapshot!(refused(&|net, xs| net.forward_t(xs, false) / 0.), @"net.pt: cannot export: its output is not finite on this sample; use another");
    insta::assert_snapshot!(refused(&|net, xs| net.forward_t(xs, false) + &outside), @"net.pt: cannot export: its forward pass cannot be traced: a tensor that is not in the network's fields requires a gradient, which a trace cannot hold; freeze it first, with `VarStore::freeze` or `set_requires_grad(false)`");

    // A refusal does not affect the next trace of this thread.
    let exported = export(&file, &net, &sample).unwrap();
    assert_eq!(exported.batch, Batch::Any);
}

/// tch's LSTM, whose states are made for the batch that `forward` reads.
#[derive(Debug)]
struct Stateful(tch::nn::LSTM);

impl Prunable for Stateful {
    fn trace(&self, _: &mut Tracer, input: Flow) -> Result<Flow> {
        Ok(input)
    }
}

/// libtorch's LSTM trusts the states of a trace to be of the batch's size. It would write beyond
/// their memory on another batch, so such a module is not run on one.
#[test]
fn states_for_one_batch_are_not_tried_on_another() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("net.pt");
    let mut vs = VarStore::new(Device::Cpu);
    let net = Stateful(tch::nn::lstm(vs.root(), 16, 64, Default::default()));
    vs.freeze();
    let xs = |batch| Tensor::randn([batch, 7, 16], (Kind::Float, Device::Cpu));
    let forward = |net: &Stateful, xs: &Tensor| net.0.seq(xs).0;
    let exported = torch_script(&file, &net, &xs(3), forward).unwrap();
    let Batch::Only { size: 3, why } = &exported.batch else { panic!("{:?}", exported.batch) };
    assert!(why.contains("the size of the batch"), "{why}");
    let xs = xs(3);
    assert!(close(&served(&file, &xs), &forward(&net, &xs), 1e-5));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
}

/// Converters to ONNX require one dilation for each dimension.
#[test]
fn pools_are_written_with_a_dilation_for_each_dimension() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("net.pt");
    let net = Net::new(&VarStore::new(Device::Cpu).root());
    let pool = nn::max_pool2d(3, 2);
    torch_script(&file, &net, &images(1), |net, xs| net.forward_t(&xs.apply(&pool), false))
        .unwrap();
    let mut archive = zip::ZipArchive::new(fs::File::open(&file).unwrap()).unwrap();
    let name = archive
        .file_names()
        .map(|name| name.unwrap().into_owned())
        .find(|name| name.ends_with("code/__torch__.py"))
        .unwrap();
    let mut code = String::new();
    archive.by_name(&name).unwrap().read_to_string(&mut code).unwrap();
    assert!(code.contains(", [3, 3], [2, 2], [0, 0], [1, 1])"), "{code}");
}

#[test]
fn dropout_that_is_on_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let vs = VarStore::new(Device::Cpu);
    let net = Net::new(&vs.root());
    let error = torch_script(folder.path().join("net.pt"), &net, &images(2), |net, xs| {
        net.forward_t(xs, false).dropout(0.5, true)
    });
    let error = error.unwrap_err().to_string();
    assert!(error.contains("what was written is another network"), "{error}");
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let net = Net::new(&VarStore::new(Device::Cpu).root());
    for file in [folder.path().join("missing").join("net.pt"), folder.path().to_owned()] {
        let error = export(&file, &net, &images(1)).unwrap_err();
        assert!(matches!(&error, Error::Io { file: named, .. } if *named == file), "{error}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// A network with weights in oneDNN's blocked layout.
#[derive(Debug)]
struct Blocked(Tensor);

impl Prunable for Blocked {
    fn trace(&self, _: &mut Tracer, input: Flow) -> Result<Flow> {
        Ok(input)
    }
}

#[test]
fn blocked_weights_are_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let net = Blocked(Tensor::randn([4, 3, 3, 3], tch::kind::FLOAT_CPU).to_mkldnn());
    let forward = |net: &Blocked, xs: &Tensor| {
        xs.to_mkldnn()
            .mkldnn_convolution(&net.0, None::<Tensor>, [1, 1], [1, 1], [1, 1], 1)
            .to_dense(Kind::Float, false)
    };
    let error = torch_script(folder.path().join("net.pt"), &net, &images(1), forward)
        .unwrap_err()
        .to_string();
    assert!(error.contains("oneDNN's blocked layout"), "{error}");
}

#[test]
fn a_report_says_what_was_written() {
    let exported = |batch, difference| {
        let folder = tempfile::tempdir().unwrap();
        let net = Net::new(&VarStore::new(Device::Cpu).root());
        let real = export(&folder.path().join("net.pt"), &net, &images(1)).unwrap();
        let mut exported = real;
        exported.file = "net.pt".into();
        (exported.bytes, exported.batch, exported.difference, exported.magnitude) =
            (4_321_000, batch, difference, 10.26);
        exported.to_string()
    };
    insta::assert_snapshot!(exported(Batch::Any, 0.), @"wrote net.pt (4.3 MB), for batches of any size; its outputs (up to 10.3) are the network's, to the bit");
    insta::assert_snapshot!(exported(Batch::Only { size: 2, why: "shape '[2, 5]' is invalid".to_owned() }, 1.2e-7), @"wrote net.pt (4.3 MB), for batches of 2 alone (of twice as many: shape '[2, 5]' is invalid); its outputs (up to 10.3) differ from the network's by 1.2e-7 at most");
    insta::assert_snapshot!(exported(Batch::Unknown, 0.), @"wrote net.pt (4.3 MB), for batches of the sample's size, others were not tried; its outputs (up to 10.3) are the network's, to the bit");
}
