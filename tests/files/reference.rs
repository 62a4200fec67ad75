//! Files that the reference implementation's pruning scripts write: `{'cfg', 'state_dict'}`.

use std::collections::BTreeMap;

use slim_cli::model::{Model, Wanted};
use slim_cli::network::Arch;
use slim_runtime::{Prunable, Slimming, checkpoint};
use slim_tests::check::{assert_close, rounding};
use slim_tests::fill::images;
use slim_tests::fixture::Fixture;
use tch::{Device, Kind, Tensor};

use crate::{assert_comes_back, assert_same, fixture, names, output, read, refused, slim, values};

fn of(arch: Arch) -> Wanted {
    Wanted { arch: Some(arch), ..Wanted::default() }
}

fn cases() -> [(&'static str, Arch, u32); 2] {
    [("preresnet11_pruned", Arch::Preresnet, 11), ("densenet7_pruned", Arch::Densenet, 7)]
}

#[test]
fn slimmed_networks_are_the_references() {
    let (outputs, input) = (Fixture::read("checkpoints/outputs"), images(&[2, 3, 32, 32]));
    for (case, arch, depth) in cases() {
        let model =
            read(&fixture(&format!("{case}.pth.tar")), &Wanted { depth: Some(depth), ..of(arch) });
        assert_close(
            &output(&model, &input),
            outputs.tensor(&format!("{case}.output")),
            rounding(&model.vs),
        );
        assert_close(
            &output(&model, &input),
            outputs.tensor(&format!("{}_masked.output", case.trim_end_matches("_pruned"))),
            rounding(&model.vs),
        );
        // The widths are the file's, and plans count from this network.
        let plan = model.net.plan(&Slimming::ratio(0.)).unwrap();
        assert_eq!(Some(plan.cfg()), model.spec.cfg);
        assert_eq!((model.spec.depth(), model.slimmed.is_none()), (Some(depth), true));
        assert_comes_back(&model, &input);
    }
}

#[test]
fn slimmed_networks_are_slimmed_again_and_again() {
    let input = images(&[2, 3, 32, 32]);
    for (case, arch, _) in cases() {
        let file = fixture(&format!("{case}.pth.tar"));
        let (mut masked, mut model) = (read(&file, &of(arch)), read(&file, &of(arch)));
        for ratio in [0.3, 0.2] {
            let plan = model.net.plan(&Slimming::ratio(ratio)).unwrap();
            masked.net.mask(&plan).unwrap();
            slim(&mut model, ratio);
            assert_close(&output(&model, &input), &output(&masked, &input), rounding(&model.vs));
            model = assert_comes_back(&model, &input);
            slim(&mut masked, ratio);
        }
        assert_eq!(model.slimmed.as_ref().unwrap().plan().passes().len(), 1);
    }
}

#[test]
fn indexes_say_what_is_picked_now() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.safetensors");
    for (case, arch, _) in cases() {
        let mut model = read(&fixture(&format!("{case}.pth.tar")), &of(arch));
        let before = picked(&model.beside);
        model.writer().unwrap().write(&file).unwrap();
        assert_eq!(picked(&checkpoint::tensors(&file).unwrap()), before);
        let all = names(&file);
        slim(&mut model, 0.4);
        model.writer().unwrap().write(&file).unwrap();
        assert_eq!(names(&file), all);
        let tensors = checkpoint::tensors(&file).unwrap();
        let after = picked(&tensors);
        assert_ne!(after, before);
        for (name, positions) in after {
            // The new positions are among the old ones, one for each channel of the norm behind.
            assert!(positions.iter().all(|position| before[&name].contains(position)), "{name}");
            let norm = name.replace(
                "select.indexes",
                if name.contains('.') && name != "select.indexes" {
                    "bn1.weight"
                } else {
                    "bn.weight"
                },
            );
            assert_eq!(positions.len() as i64, tensors[&norm].size()[0]);
            assert_eq!(tensors[&name].size(), model.beside[&name].size());
        }
    }
}

fn picked(tensors: &BTreeMap<String, Tensor>) -> BTreeMap<String, Vec<usize>> {
    let indexes = tensors.iter().filter(|(name, _)| name.ends_with("select.indexes"));
    let positions = |tensor: &Tensor| {
        let ones: Vec<f64> = Vec::try_from(tensor.to_kind(Kind::Double)).unwrap();
        ones.iter()
            .enumerate()
            .filter(|(_, one)| **one == 1.)
            .map(|(position, _)| position)
            .collect()
    };
    indexes.map(|(name, tensor)| (name.clone(), positions(tensor))).collect()
}

#[test]
fn a_dense_one_is_a_plain_network() {
    let (outputs, input) = (Fixture::read("checkpoints/outputs"), images(&[2, 3, 32, 32]));
    let wanted = Wanted { depth: Some(7), ..of(Arch::Densenet) };
    let mut model = read(&fixture("densenet7.pth.tar"), &wanted);
    assert_eq!((&model.spec.cfg, model.spec.selections.len()), (&None, 0));
    assert_close(&output(&model, &input), outputs.tensor("densenet7.output"), rounding(&model.vs));
    // The library slims as the reference implementation does.
    let theirs = read(&fixture("densenet7_pruned.pth.tar"), &of(Arch::Densenet));
    slim(&mut model, 0.4);
    assert_eq!(model.slimmed.as_ref().map(slim_runtime::Slimmed::cfg), theirs.spec.cfg);
    assert_same(&values(&model.vs), &values(&theirs.vs));
    let again = assert_comes_back(&model, &input);
    assert_eq!(picked(&again.beside), picked(&theirs.beside));
}

#[test]
fn a_dense_resnet_with_indexes_is_a_plain_network() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("resnet.safetensors");
    let wanted = Wanted { depth: Some(11), ..of(Arch::Preresnet) };
    let model = Model::new(
        slim_cli::network::Spec::new(Arch::Preresnet, Some(11), None, 10).unwrap(),
        Device::Cpu,
    )
    .unwrap();
    let widths = [("layer1.0.", 16), ("layer2.0.", 64), ("layer3.0.", 128), ("", 256)];
    let indexes = |ones: i64| {
        widths.map(|(block, width)| {
            (
                format!("{block}select.indexes"),
                Tensor::from_slice(&vec![1_f32; width]).slice(0, 0, ones, 1),
            )
        })
    };
    let write = |indexes: Vec<(String, Tensor)>| {
        let tensors: Vec<_> = values(&model.vs).into_iter().chain(indexes).collect();
        Tensor::write_safetensors(&tensors, &file).unwrap();
    };
    write(indexes(i64::MAX).into());
    let again = read(&file, &wanted);
    assert_eq!((&again.spec, again.beside.len()), (&model.spec, 4));
    assert_same(&values(&again.vs), &values(&model.vs));

    let mut some = indexes(i64::MAX);
    let _ = some[1].1.fill_(0.).index_fill_(0, &Tensor::from_slice(&[3_i64]), 1.);
    write(some.into());
    assert_eq!(
        refused(&file, &wanted),
        "FILE: `layer2.0.select` picks 1 of 64 channels, so the network is slimmed, and the file has no cfg: say --cfg"
    );
    let mut none = indexes(i64::MAX);
    let _ = none[3].1.fill_(0.);
    write(none.into());
    assert_eq!(refused(&file, &wanted), "FILE: `select` picks none of 256 channels");
}
