//! Comparison with the reference: `tests/fixtures/checkpoints.py` has done what the reference's own
//! scripts do.

use slim_cli::model::{Model, Wanted};
use slim_cli::network::Arch;
use slim_runtime::checkpoint;
use tch::Device;

use super::{CFG, FILES, Folder, bits};

const FORMS: [&str; 4] = ["vgg11.pth", "vgg11.pth.tar", "vgg11_legacy.pth", "vgg11.safetensors"];

fn read(folder: &Folder, name: &str, wanted: &Wanted) -> Model {
    Model::read(&folder.path(name), wanted, Device::Cpu).unwrap()
}

#[test]
fn every_form_of_a_network_is_pruned_as_by_the_reference() {
    let folder = Folder::with(&[&FORMS[..], &["vgg11_pruned.pth.tar", "prune.txt"]].concat());
    for form in FORMS {
        folder.prune(&format!("{CFG} --model {form} --percent 0.5 --no-test --save {form}.pruned"));
    }
    let written = folder.written("vgg11.pth.pruned");
    for form in FORMS {
        let save = format!("{form}.pruned");
        assert_eq!(folder.names(&save), FILES);
        let (found, first) = (folder.written(&save), &written);
        assert!(found[..3] == first[..3], "{form} is pruned otherwise than {}", FORMS[0]);
        assert_eq!(
            folder.text(&format!("{save}/prune.txt")),
            folder.text("prune.txt") + "not tested"
        );
    }

    // The output has the names of the input. This includes PyTorch's counts, which the reference
    // loses. All other tensors are bit-identical to the reference's.
    let (input, output) = (
        bits(&folder.path("vgg11.safetensors")),
        bits(&folder.path("vgg11.pth.pruned/pruned.safetensors")),
    );
    assert!(output.keys().eq(input.keys()), "{:?}", output.keys());
    let counts: Vec<_> =
        output.iter().filter(|(name, _)| name.ends_with("num_batches_tracked")).collect();
    assert!(
        counts.len() == 8
            && counts.iter().all(|(name, count)| input[*name] == **count
                && **count == (vec![], vec![3_f64.to_bits()]))
    );
    read(&folder, "vgg11_pruned.pth.tar", &Wanted::default())
        .vs
        .save(folder.path("reference.safetensors"))
        .unwrap();
    let reference = bits(&folder.path("reference.safetensors"));
    assert_eq!(reference.len() + counts.len(), output.len());
    for (name, values) in &reference {
        assert!(output[name] == *values, "{name}");
    }

    // The file has the plan too, and both have the reference's cfg.
    let plan = folder.plan("vgg11.pth.pruned/plan.json");
    assert_eq!(checkpoint::plan(folder.path("vgg11.pth.pruned/pruned.safetensors")).unwrap(), plan);
    assert_eq!(plan.cfg().to_string(), folder.text("prune.txt").lines().nth(1).unwrap());
}

#[test]
fn a_file_of_tch_is_pruned_the_same_but_has_no_counts() {
    let folder = Folder::with(&["vgg11.pth"]);
    let cfg = CFG.rsplit_once(' ').unwrap().1.parse().unwrap();
    read(&folder, "vgg11.pth", &Wanted { cfg: Some(cfg), ..Wanted::default() })
        .vs
        .save(folder.path("vgg11.ot"))
        .unwrap();
    for form in ["vgg11.pth", "vgg11.ot"] {
        folder.prune(&format!("{CFG} --model {form} --no-test --save {form}.pruned"));
    }
    let mut pytorch = bits(&folder.path("vgg11.pth.pruned/pruned.safetensors"));
    pytorch.retain(|name, _| !name.ends_with("num_batches_tracked"));
    assert!(pytorch == bits(&folder.path("vgg11.ot.pruned/pruned.safetensors")));
    for name in ["plan.json", "prune.txt"] {
        assert_eq!(
            folder.text(&format!("vgg11.pth.pruned/{name}")),
            folder.text(&format!("vgg11.ot.pruned/{name}"))
        );
    }
}

#[test]
fn what_the_reference_has_pruned_says_its_widths_itself() {
    let folder = Folder::with(&[
        "vgg11_pruned.pth.tar",
        "preresnet11_pruned.pth.tar",
        "densenet7_pruned.pth.tar",
        "prune.txt",
    ]);
    // With nothing removed, `prune.txt` is the reference's.
    folder.prune("--model vgg11_pruned.pth.tar --percent 0 --no-test --save vgg");
    assert_eq!(folder.text("vgg/prune.txt"), folder.text("prune.txt") + "not tested");
    for (arch, model) in [
        (Arch::Preresnet, "preresnet11_pruned.pth.tar"),
        (Arch::Densenet, "densenet7_pruned.pth.tar"),
    ] {
        folder
            .prune(&format!("--arch {arch} --model {model} --percent 0.2 --no-test --save {arch}"));
        let before = read(&folder, model, &Wanted { arch: Some(arch), ..Wanted::default() });
        let after = read(&folder, &format!("{arch}/pruned.safetensors"), &Wanted::default());
        assert_eq!(after.spec, before.spec);
        let plan = folder.plan(&format!("{arch}/plan.json"));
        assert_eq!(after.slimmed.unwrap().plan(), &plan);
        assert!(plan.channels().after < plan.channels().before);
        // The reference's selections are carried through.
        assert!(
            after.beside.keys().eq(before.beside.keys())
                && after.beside.keys().any(|name| name.ends_with("select.indexes"))
        );
    }
}
