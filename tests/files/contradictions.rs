//! Options of a user that contradict the file.

use slim_cli::model::{Model, Wanted};
use slim_cli::network::{Arch, Spec};
use tch::Device;

use crate::{fixture, read, refused, slim, vgg};

#[test]
fn a_file_of_ours_knows_what_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("vgg.safetensors");
    let mut model =
        Model::new(Spec::new(Arch::Vgg, Some(11), None, 10).unwrap(), Device::Cpu).unwrap();
    model.draw_scales();
    slim(&mut model, 0.9);
    model.writer().unwrap().write(&file).unwrap();
    let agreeing = Wanted {
        arch: Some(Arch::Vgg),
        depth: Some(11),
        cfg: Some(model.spec.widths().unwrap().unwrap()),
    };
    for wanted in [Wanted::default(), agreeing] {
        assert_eq!(read(&file, &wanted).spec, model.spec);
    }
    let otherwise = |wanted: Wanted| refused(&file, &wanted);
    insta::assert_snapshot!(otherwise(Wanted { arch: Some(Arch::Resnet50), ..Wanted::default() }), @"FILE: it holds vgg-11, 10 classes, and --arch says resnet50; leave out --arch");
    insta::assert_snapshot!(otherwise(Wanted { depth: Some(19), ..Wanted::default() }), @"FILE: it holds vgg-11, 10 classes, and --depth says 19; leave out --depth");
    insta::assert_snapshot!(otherwise(vgg()), @"FILE: it holds vgg-11, 10 classes, and --cfg says [8, 'M', 8, 'M', 8, 8, 'M', 12, 12, 'M', 12, 12]; leave out --cfg");
}

#[test]
fn files_of_others_say_something_too() {
    let pruned = fixture("vgg11_pruned.pth.tar");
    assert_eq!(
        read(&pruned, &Wanted { depth: Some(11), ..Wanted::default() }).spec.depth(),
        Some(11)
    );
    insta::assert_snapshot!(refused(&pruned, &Wanted { depth: Some(19), ..Wanted::default() }), @"FILE: it holds vgg [7, 'M', 6, 'M', 1, 2, 'M', 5, 9, 'M', 2, 7], 10 classes, and --depth says 19; leave out --depth");
    insta::assert_snapshot!(refused(&pruned, &vgg()), @"FILE: the file says cfg [7, 'M', 6, 'M', 1, 2, 'M', 5, 9, 'M', 2, 7], and --cfg [8, 'M', 8, 'M', 8, 8, 'M', 12, 12, 'M', 12, 12]; leave out --cfg");
    insta::assert_snapshot!(refused(&pruned, &Wanted { arch: Some(Arch::Resnet18), ..Wanted::default() }), @"FILE: the cfg is [7, 'M', 6, 'M', 1, 2, 'M', 5, 9, 'M', 2, 7], and resnet18 is not built from one: say --arch vgg, preresnet or densenet");
    insta::assert_snapshot!(refused(&pruned, &Wanted { arch: Some(Arch::Preresnet), ..Wanted::default() }), @"FILE: no tensor in it says what selections pick, so it is no slimmed preresnet");
    let narrow = fixture("densenet7_pruned.pth.tar");
    insta::assert_snapshot!(refused(&narrow, &Wanted { arch: Some(Arch::Preresnet), ..Wanted::default() }), @"FILE: `select` selects 32 channels, and the cfg says 16");
    insta::assert_snapshot!(refused(&narrow, &Wanted { arch: Some(Arch::Densenet), depth: Some(40), ..Wanted::default() }), @"FILE: it holds densenet [16, 23, 21, 31, 28, 32], 10 classes, and --depth says 40; leave out --depth");
}

#[test]
fn every_tensor_that_does_not_fit_is_named() {
    insta::assert_snapshot!(refused(&fixture("densenet7.pth.tar"), &Wanted { cfg: Some("[8, 'M', 8]".parse().unwrap()), ..Wanted::default() }), @r"
    FILE: it does not hold vgg [8, 'M', 8], 10 classes; say the --arch, --depth or --cfg that it was trained with:
      `classifier.bias` is missing in the file
      `classifier.weight` is missing in the file
      `feature.0.weight` is missing in the file
      `feature.1.bias` is missing in the file
      `feature.1.running_mean` is missing in the file
      `feature.1.running_var` is missing in the file
      `feature.1.weight` is missing in the file
      `feature.4.weight` is missing in the file
      `feature.5.bias` is missing in the file
      `feature.5.running_mean` is missing in the file
      `feature.5.running_var` is missing in the file
      `feature.5.weight` is missing in the file
      `bn.bias` is not in the store
      `bn.running_mean` is not in the store
      `bn.running_var` is not in the store
      `bn.weight` is not in the store
      `conv1.weight` is not in the store
      `dense1.0.bn1.bias` is not in the store
      `dense1.0.bn1.running_mean` is not in the store
      `dense1.0.bn1.running_var` is not in the store
      `dense1.0.bn1.weight` is not in the store
      `dense1.0.conv1.weight` is not in the store
      `dense1.0.select.indexes` is not in the store
      `dense2.0.bn1.bias` is not in the store
      `dense2.0.bn1.running_mean` is not in the store
      `dense2.0.bn1.running_var` is not in the store
      `dense2.0.bn1.weight` is not in the store
      `dense2.0.conv1.weight` is not in the store
      `dense2.0.select.indexes` is not in the store
      `dense3.0.bn1.bias` is not in the store
      `dense3.0.bn1.running_mean` is not in the store
      `dense3.0.bn1.running_var` is not in the store
      `dense3.0.bn1.weight` is not in the store
      `dense3.0.conv1.weight` is not in the store
      `dense3.0.select.indexes` is not in the store
      `fc.bias` is not in the store
      `fc.weight` is not in the store
      `select.indexes` is not in the store
      `trans1.bn1.bias` is not in the store
      `trans1.bn1.running_mean` is not in the store
      `trans1.bn1.running_var` is not in the store
      `trans1.bn1.weight` is not in the store
      `trans1.conv1.weight` is not in the store
      `trans1.select.indexes` is not in the store
      `trans2.bn1.bias` is not in the store
      `trans2.bn1.running_mean` is not in the store
      `trans2.bn1.running_var` is not in the store
      `trans2.bn1.weight` is not in the store
      `trans2.conv1.weight` is not in the store
      `trans2.select.indexes` is not in the store
    ");
}
