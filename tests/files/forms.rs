//! The same network in every form that it can be saved in.

use slim_cli::model::{Model, Wanted};
use slim_cli::network::{Arch, Spec};
use slim_tests::check::{assert_close, rounding};
use slim_tests::fill::images;
use slim_tests::fixture::Fixture;
use tch::{Device, Kind, Tensor};

use crate::pickle::{number, text, tiny_vgg};
use crate::{
    assert_comes_back, assert_same, fixture, names, output, read, refused, slim, values, vgg,
};

const FORMS: [&str; 4] = ["vgg11.pth", "vgg11.pth.tar", "vgg11_legacy.pth", "vgg11.safetensors"];

#[test]
fn all_forms_are_one_network_and_are_slimmed_as_by_the_reference() {
    let (outputs, input) = (Fixture::read("checkpoints/outputs"), images(&[2, 3, 32, 32]));
    let expected = read(&fixture("vgg11_pruned.pth.tar"), &Wanted::default());
    assert_close(
        &output(&expected, &input),
        outputs.tensor("vgg11_pruned.output"),
        rounding(&expected.vs),
    );
    let first = read(&fixture(FORMS[0]), &vgg());
    let tch = tempfile::tempdir().unwrap();
    let ot = tch.path().join("vgg11.ot");
    first.vs.save(&ot).unwrap();
    let mut plans = Vec::new();
    for file in FORMS.map(fixture).into_iter().chain([ot]) {
        let mut model = read(&file, &vgg());
        assert_same(&values(&model.vs), &values(&first.vs));
        assert_close(&output(&model, &input), outputs.tensor("vgg11.output"), rounding(&model.vs));
        assert_eq!(model.spec, first.spec);
        slim(&mut model, 0.5);
        assert_same(&values(&model.vs), &values(&expected.vs));
        plans.push(model.slimmed.as_ref().unwrap().plan().clone());
        assert_eq!(Some(plans[0].cfg()), expected.spec.cfg);
        assert_comes_back(&model, &input);
    }
    assert!(plans.iter().all(|plan| *plan == plans[0]));
}

#[test]
fn halves_become_floats_as_in_pytorch() {
    let dense = values(&read(&fixture("vgg11.pth"), &vgg()).vs);
    for (file, kind) in [("vgg11_f16.pth", Kind::Half), ("vgg11_bf16.pth", Kind::BFloat16)] {
        let rounded = dense
            .iter()
            .map(|(name, tensor)| (name.clone(), tensor.to_kind(kind).to_kind(Kind::Float)))
            .collect();
        assert_same(&values(&read(&fixture(file), &vgg()).vs), &rounded);
    }
}

#[test]
fn what_is_beside_the_variables_is_carried_and_the_rest_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("slim.safetensors");
    let input = names(&fixture("vgg11.safetensors"));
    for form in FORMS {
        let mut model = read(&fixture(form), &vgg());
        slim(&mut model, 0.5);
        model.writer().unwrap().write(&file).unwrap();
        // The trainer's file also has an optimizer.
        assert_eq!(names(&file), input, "{form}");
        let count = slim_runtime::checkpoint::tensors(&file)
            .unwrap()
            .remove("feature.1.num_batches_tracked")
            .unwrap();
        assert_eq!((count.kind(), count.int64_value(&[]), count.dim()), (Kind::Int64, 3, 0));
        // Tensors that a trainer adds do not belong to the network.
        model.writer().unwrap().tensors([("momentum", Tensor::from(1.))]).write(&file).unwrap();
        assert_eq!(read(&file, &Wanted::default()).beside.len(), 8);
    }
}

#[test]
fn what_a_trainer_says_is_told() {
    assert_eq!(
        read(&fixture("vgg11.pth.tar"), &vgg()).note.as_deref(),
        Some("epoch 160, accuracy 93.77")
    );
    let densenet = Wanted { arch: Some(Arch::Densenet), depth: Some(7), ..Wanted::default() };
    assert_eq!(
        read(&fixture("densenet7.pth.tar"), &densenet).note.as_deref(),
        Some("epoch 40, accuracy 94.11")
    );
    assert_eq!(read(&fixture("vgg11.pth"), &vgg()).note, None);
}

#[test]
fn names_of_files_do_not_matter() {
    let folder = tempfile::tempdir().unwrap();
    let first = values(&read(&fixture(FORMS[0]), &vgg()).vs);
    let ot = folder.path().join("a.ot");
    read(&fixture(FORMS[0]), &vgg()).vs.save(&ot).unwrap();
    for form in FORMS.map(fixture).into_iter().chain([ot]) {
        for name in ["model", "model.safetensors", "model.ot", "model.pth", "model.bin"] {
            let file = folder.path().join(name);
            std::fs::copy(&form, &file).unwrap();
            assert_same(&values(&read(&file, &vgg()).vs), &first);
        }
    }
}

#[test]
fn classes_are_those_of_the_classifier() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.safetensors");
    let archs = [
        (Arch::Preresnet, Some(11)),
        (Arch::Densenet, Some(7)),
        (Arch::MobilenetV2, None),
        (Arch::ShufflenetV2, None),
    ];
    for (arch, depth) in archs {
        let model = Model::new(Spec::new(arch, depth, None, 7).unwrap(), Device::Cpu).unwrap();
        slim_runtime::checkpoint::save_weights(&file, &model.vs).unwrap();
        let again = read(&file, &Wanted { arch: Some(arch), depth, ..Wanted::default() });
        assert_eq!(again.spec, model.spec);
        assert_same(&values(&again.vs), &values(&model.vs));
    }
}

#[test]
fn heads_that_only_training_uses_are_left_out_and_said() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("googlenet.safetensors");
    let wanted = Wanted { arch: Some(Arch::Googlenet), ..Wanted::default() };
    let model =
        Model::new(Spec::new(Arch::Googlenet, None, None, 5).unwrap(), Device::Cpu).unwrap();
    let head = ("aux1.fc2.weight", Tensor::zeros([5, 4], (Kind::Float, Device::Cpu)));
    let tensors: Vec<_> =
        values(&model.vs).into_iter().chain([(head.0.to_owned(), head.1)]).collect();
    Tensor::write_safetensors(&tensors, &file).unwrap();
    let again = read(&file, &wanted);
    assert_same(&values(&again.vs), &values(&model.vs));
    assert_eq!(
        (again.note.as_deref(), again.beside.len()),
        (Some("left out: the auxiliary heads of training"), 0)
    );
}

#[test]
fn a_state_dict_is_found_where_trainers_put_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.pt");
    let wanted = Wanted { cfg: Some("[2]".parse().unwrap()), ..Wanted::default() };
    let beside = || {
        [
            text("epoch"),
            number(3),
            text("best_acc1"),
            b"G\x40\x52\xc0\0\0\0\0\0".to_vec(),
            text("arch"),
            text("vgg"),
        ]
        .concat()
    };
    for prefix in ["", "module.", "module.module."] {
        std::fs::write(&file, tiny_vgg(prefix, "Float", |dict| dict)).unwrap();
        let plain = read(&file, &wanted);
        for key in ["state_dict", "model", "model_state_dict", "net"] {
            let root = |dict| [b"}(".to_vec(), text(key), dict, beside(), b"u".to_vec()].concat();
            std::fs::write(&file, tiny_vgg(prefix, "Float", root)).unwrap();
            let model = read(&file, &wanted);
            assert_same(&values(&model.vs), &values(&plain.vs));
            assert_eq!(model.note.as_deref(), Some("epoch 3, accuracy 75.00"));
        }
    }
    let root = |dict| {
        [b"}(".to_vec(), text("weights"), dict, text("arch"), text("resnet18"), b"u".to_vec()]
            .concat()
    };
    std::fs::write(&file, tiny_vgg("", "Float", root)).unwrap();
    let said = refused(&file, &Wanted::default());
    assert!(
        said.starts_with("FILE: it does not hold resnet18, 10 classes")
            && said.contains("`weights.feature.0.weight` is not in the store"),
        "{said}"
    );
    assert!(
        refused(&file, &Wanted { arch: Some(Arch::Vgg), ..wanted })
            .starts_with("FILE: the file says arch resnet18, and --arch vgg")
    );
}

#[test]
fn a_file_of_tch_with_many_tensors_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("resnet.ot");
    let model =
        Model::new(Spec::new(Arch::Preresnet, Some(29), None, 10).unwrap(), Device::Cpu).unwrap();
    model.draw_scales();
    model.vs.save(&file).unwrap();
    let again =
        read(&file, &Wanted { arch: Some(Arch::Preresnet), depth: Some(29), ..Wanted::default() });
    assert_same(&values(&again.vs), &values(&model.vs));
}
