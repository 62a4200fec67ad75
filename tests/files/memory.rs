//! Files that claim a large network: its memory is not allocated before the tensors are known to be
//! in the file.

use std::fs;

use slim_cli::model::{Model, Wanted};
use slim_cli::network::{Arch, Spec};
use slim_tests::fill::fill;
use tch::Device;

use crate::hostile::{CLASSIFIER, Folder, header, nothing};
use crate::pickle::{floats, number, reference, tiny_vgg};
use crate::{assert_same, read, refused, slim, values};

#[test]
fn a_network_that_is_not_in_the_file_is_not_built() {
    let folder = Folder::new();
    let said = |network: serde_json::Value| {
        let bytes =
            header(&serde_json::json!({ "__metadata__": { "network": network.to_string() } }));
        folder.refused(&bytes, &nothing())
    };
    let before = most_memory();
    insta::assert_snapshot!(said(serde_json::json!({ "arch": "vgg", "cfg": "[5400, 5400]", "classes": 10 })), @"FILE: it does not hold vgg [5400, 5400], 10 classes: that has 262,661,410 parameters, and the file's tensors have 0 values");
    insta::assert_snapshot!(said(serde_json::json!({ "arch": "vgg16_bn", "classes": 1000 })), @"FILE: it does not hold vgg16_bn, 1000 classes: that has 138,365,992 parameters, and the file's tensors have 0 values");
    insta::assert_snapshot!(said(serde_json::json!({ "arch": "resnet18", "classes": 65536 })), @"FILE: it does not hold resnet18, 65536 classes: that has 44,796,480 parameters, and the file's tensors have 0 values");
    insta::assert_snapshot!(said(serde_json::json!({ "arch": "densenet", "depth": 250, "classes": 10 })), @"FILE: it does not hold densenet-250, 10 classes: that has 39,722,362 parameters, and the file's tensors have 0 values");
    let cfg = [b"](".to_vec(), number(5400), number(5400), b"e".to_vec()].concat();
    let bytes = reference(&cfg, &[floats(CLASSIFIER, 20, &[10, 2])]);
    insta::assert_snapshot!(folder.refused(&bytes, &nothing()), @"FILE: it does not hold vgg [5400, 5400], 10 classes: that has 262,661,410 parameters, and the file's tensors have 20 values; say the --arch, --depth or --cfg that it was trained with");
    let tiny = tiny_vgg("", "Float", |dict| dict);
    insta::assert_snapshot!(folder.refused(&tiny, &Wanted { arch: Some(Arch::Vgg16Bn), ..nothing() }), @"FILE: it does not hold vgg16_bn, 10 classes: that has 134,309,962 parameters, and the file's tensors have 92 values; say the --arch, --depth or --cfg that it was trained with");
    assert!(most_memory() < before + (400 << 20), "{before} bytes became {}", most_memory());
}

#[test]
fn a_plan_of_a_large_network_takes_no_memory() {
    let folder = Folder::new();
    let mut model = Model::new(
        Spec::new(Arch::Vgg, None, Some("[9, 9]".parse().unwrap()), 10).unwrap(),
        Device::Cpu,
    )
    .unwrap();
    fill(&model.vs);
    slim(&mut model, 0.5);
    model.writer().unwrap().write(folder.path()).unwrap();
    let small = values(&model.vs);
    // The same channels, of a network that was larger.
    let with = |plan: &dyn Fn(String) -> String, network: &str| {
        model.writer().unwrap().write(folder.path()).unwrap();
        let bytes = fs::read(folder.path()).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let mut entries = header.metadata().clone().unwrap();
        let planned = plan(entries["plan"].clone());
        entries.insert("plan".to_owned(), planned);
        entries.insert("network".to_owned(), network.to_owned());
        safetensors::serialize_to_file(tensors.tensors(), Some(entries), &folder.path()).unwrap();
    };
    let widened = |plan: String| {
        plan.replace("\"width\":9", "\"width\":5400")
            .replace("\"removable\":9", "\"removable\":5400")
    };
    let large = r#"{"arch":"vgg","cfg":"[5400, 5400]","classes":10}"#;
    let before = most_memory();
    with(&widened, large);
    let again = read(&folder.path(), &nothing());
    assert_same(&values(&again.vs), &small);
    assert_eq!(again.spec.to_string(), "vgg [5400, 5400], 10 classes");
    assert_eq!(again.slimmed.unwrap().plan().channels().before, 10_800);
    // The plan and the `network` entry contradict each other, so the file is refused.
    with(&|plan| plan, large);
    insta::assert_snapshot!(refused(&folder.path(), &nothing()), @"FILE: it was slimmed from vgg [9, 9], and vgg [5400, 5400], 10 classes is [5400, 5400]; say the --depth or --cfg that it was trained with");
    with(&widened, r#"{"arch":"vgg16_bn","classes":1000}"#);
    insta::assert_snapshot!(refused(&folder.path(), &nothing()), @"FILE: it does not hold a slimmed vgg16_bn, 1000 classes, of 138,365,992 parameters: its plan leaves 318 of 262,661,410, and the file's tensors have 334 values");
    assert!(most_memory() < before + (400 << 20), "{before} bytes became {}", most_memory());
}

/// The peak memory of this process, in bytes; zero if the system does not report it.
fn most_memory() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<usize>().ok()).unwrap_or(0)
        << 10
}
