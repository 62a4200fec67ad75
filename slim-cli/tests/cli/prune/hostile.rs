//! Files that are broken, or made to do harm. tests/files has the messages of the readers; these
//! tests check how the program handles such files.

use std::fs;

use super::{CFG, Folder, PRUNE};

const SOUND: [&str; 4] = ["vgg11.pth", "vgg11.pth.tar", "vgg11_legacy.pth", "vgg11.safetensors"];

/// The first line on standard error, with the number of further lines.
fn refused(folder: &Folder, file: &str) -> String {
    let said = folder.run(PRUNE, &format!("{CFG} --model {file} --no-test --save out"));
    assert_eq!((said.code, said.out.as_str()), (1, ""), "{file}: {}", said.err);
    assert!(said.err.starts_with(&format!("error: {file}")), "{file} is not named: {}", said.err);
    assert!(!said.err.contains("panicked") && !folder.path("out").exists(), "{file}: {}", said.err);
    let mut lines = said.err.lines();
    let first = lines.next().unwrap().to_owned();
    // Further lines are a list of all problems.
    assert!(lines.all(|line| line.starts_with("  `")), "{file}: {}", said.err);
    match said.err.lines().count() {
        1 => first,
        lines => format!("{first} … and {} lines", lines - 1),
    }
}

#[test]
fn files_that_end_early() {
    let folder = Folder::with(&[]);
    for form in SOUND {
        let bytes = fs::read(super::fixture(form)).unwrap();
        for length in [bytes.len() / 3, bytes.len() - 1] {
            fs::write(folder.path("cut"), &bytes[..length]).unwrap();
            refused(&folder, "cut");
        }
    }
}

fn safetensors(header: &str, data: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; data]].concat()
}

/// A file with one tensor, the classifier's.
fn classifier(dtype: &str, shape: &str, bytes: usize) -> Vec<u8> {
    safetensors(
        &format!(
            r#"{{"classifier.weight":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[0,{bytes}]}}}}"#
        ),
        bytes,
    )
}

#[test]
fn files_that_are_something_else() {
    let fixtures =
        ["command", "command_legacy", "complex", "expanded"].map(|name| format!("{name}.hostile"));
    let folder = Folder::with(&fixtures.each_ref().map(String::as_str));
    fs::create_dir(folder.path("folder.pth")).unwrap();
    let twice = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
    let files = [
        ("empty", Vec::new()),
        ("picture.png", b"\x89PNG\r\n\x1a\n".to_vec()),
        ("magic.safetensors", b"no network at all".to_vec()),
        ("header.safetensors", [&u64::MAX.to_le_bytes()[..], b"{}"].concat()),
        ("zip.pth", b"PK\x03\x04".to_vec()),
        ("integers.safetensors", classifier("I64", "[10,12]", 960)),
        ("none.safetensors", classifier("F32", "[0,12]", 0)),
        ("huge.safetensors", classifier("F32", "[4294967296,4294967296]", 8)),
        ("short.safetensors", classifier("F32", "[10,12]", 4)),
        ("twice.safetensors", safetensors(twice, 8)),
    ];
    for (name, bytes) in &files {
        fs::write(folder.path(name), bytes).unwrap();
    }
    let names = files
        .iter()
        .map(|(name, _)| *name)
        .chain(fixtures.iter().map(String::as_str))
        .chain(["folder.pth", "nowhere.pth"]);
    let texts: Vec<_> = names.map(|name| refused(&folder, name)).collect();
    assert!(!folder.path("ran").exists(), "a command in a pickle was run");
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn weights_that_are_no_numbers() {
    let folder = Folder::with(&["vgg11.safetensors"]);
    let mut bytes = fs::read(folder.path("vgg11.safetensors")).unwrap();
    let gamma = slim_runtime::checkpoint::tensors(folder.path("vgg11.safetensors"))
        .unwrap()
        .remove("feature.1.weight")
        .unwrap();
    let value = gamma.double_value(&[0]) as f32;
    let at = bytes.windows(4).position(|window| window == value.to_le_bytes()).unwrap();
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(folder.path("nan.safetensors"), bytes).unwrap();
    let said = folder.run(PRUNE, &format!("{CFG} --model nan.safetensors --no-test --save out"));
    assert_eq!(said.code, 1);
    assert!(
        said.err.starts_with("error: by `feature.0.bn.weight`, channel 0 has the score NaN"),
        "{}",
        said.err
    );
    let name = "\n  in the file, `feature.0.bn.weight` is `feature.1.weight`\n";
    assert!(said.err.ends_with(name), "{}", said.err);
    assert!(!folder.path("out").exists());
}
