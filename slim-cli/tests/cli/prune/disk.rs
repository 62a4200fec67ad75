//! All four files are written or none, whatever the disk does.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use slim_cli::model::{Model, Wanted};
use tch::nn::ModuleT;
use tch::{Device, Tensor};

use super::{CFG, FILES, Folder, PRUNE, Said};
use crate::program;

/// A network whose file is far larger than its report, which is written first.
const LARGE: &str = "--arch vgg --depth 11 --no-test --save out";

/// A folder with the files of an earlier run in `out`, and the contents of these files.
fn earlier() -> (Folder, Vec<Vec<u8>>) {
    let folder = Folder::with(&["vgg11.pth"]);
    folder.prune(&format!("{CFG} --model vgg11.pth --no-test --save out"));
    let written = folder.written("out");
    (folder, written)
}

/// Runs the program from a shell that sets limits.
fn limited(folder: &Folder, limits: &str, line: &str) -> Said {
    let mut command = Command::new("sh");
    command
        .current_dir(&folder.0)
        .args(["-c", &format!("{limits} exec \"$0\" prune {line} --no-cuda --threads 1")])
        .arg(program());
    Said::by(&mut command)
}

#[test]
fn a_full_disk_leaves_the_earlier_files_or_none() {
    let (folder, written) = earlier();
    // In blocks of 512 or 1024 bytes, by the shell: the first file exceeds the first limit, the
    // last file the second.
    for (blocks, file) in [(20, "report.html"), (1_000, "pruned.safetensors")] {
        let limits = format!("trap '' XFSZ; ulimit -f {blocks};");
        let said = limited(&folder, &limits, LARGE);
        assert_eq!(said.code, 1, "{}", said.err);
        assert_eq!(
            said.err,
            format!("error: cannot write out/{file}: File too large (os error 27)\n")
        );
        assert!(folder.written("out") == written);
        assert_eq!(folder.names("out"), FILES);
    }
    // Without earlier files, the folder stays empty.
    limited(&folder, "trap '' XFSZ; ulimit -f 1000;", &LARGE.replace("out", "new"));
    assert!(folder.names("new").is_empty());
}

#[test]
fn one_that_is_killed_leaves_the_earlier_files() {
    let (folder, written) = earlier();
    for blocks in [20, 1_000] {
        // The system kills a process that exceeds the limit.
        let said = limited(&folder, &format!("ulimit -c 0; ulimit -f {blocks};"), LARGE);
        assert!(said.code > 128, "{}, {}", said.code, said.err);
        assert!(folder.written("out") == written);
        assert!(
            folder
                .names("out")
                .iter()
                .all(|name| FILES.contains(&name.as_str()) || name.starts_with(".slim-"))
        );
    }
    // Files that killed runs leave do not hinder the next run.
    folder.prune(LARGE);
    assert!(folder.written("out") != written);
}

#[test]
fn what_must_not_be_replaced_is_not_and_neither_are_the_others() {
    let (folder, written) = earlier();
    let set = |name: &str, mode| {
        fs::set_permissions(folder.path("out").join(name), Permissions::from_mode(mode)).unwrap();
    };
    for name in ["report.html", "pruned.safetensors"] {
        set(name, 0o444);
        let said = folder.run(PRUNE, LARGE);
        assert_eq!(
            (said.code, said.err),
            (1, format!("error: cannot write out/{name}: it is read-only\n"))
        );
        assert!(folder.written("out") == written);
        set(name, 0o644);
    }
    for name in ["prune.txt", "pruned.safetensors"] {
        fs::create_dir_all(folder.path("folders").join(name)).unwrap();
        let said = folder.run(PRUNE, &LARGE.replace("out", "folders"));
        assert_eq!(
            (said.code, said.err),
            (
                1,
                format!("error: cannot write folders/{name}: there is something that is no file\n")
            )
        );
        assert_eq!(folder.names("folders"), [name]);
        fs::remove_dir(folder.path("folders").join(name)).unwrap();
    }
    // The files have the permissions of any new file.
    folder.prune(LARGE);
    let mode = |name: &str| fs::metadata(folder.path(name)).unwrap().permissions().mode() & 0o777;
    assert!(FILES.iter().all(|name| mode(&format!("out/{name}")) == mode("vgg11.pth") & 0o666));
}

#[test]
fn a_folder_that_cannot_be_is_said_before_any_work() {
    let folder = Folder::with(&["vgg11.pth"]);
    let said = |save: &str| {
        let said = folder.run(PRUNE, &format!("{CFG} --model vgg11.pth --no-test --save {save}"));
        assert_eq!((said.code, said.out.lines().count()), (1, 1), "{}", said.out);
        said.err
    };
    insta::assert_snapshot!([said("vgg11.pth"), said("vgg11.pth/out"), said("/dev/null/out"), said("/proc/out")].concat(), @r"
    error: cannot make the folder vgg11.pth: File exists (os error 17)
    error: cannot make the folder vgg11.pth/out: Not a directory (os error 20)
    error: cannot make the folder /dev/null/out: Not a directory (os error 20)
    error: cannot make the folder /proc/out: No such file or directory (os error 2)
    ");
    assert_eq!(folder.names("."), ["vgg11.pth"]);
}

#[test]
fn nobody_has_to_listen() {
    let folder = Folder::with(&["vgg11.pth"]);
    let line = format!("{} --model vgg11.pth --no-test --save out", CFG.replace('\'', "\\'"));
    let said = limited(&folder, "", &format!("{line} > /dev/full"));
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert_eq!(folder.names("out"), FILES);
}

#[test]
fn forms_for_serving_are_written_where_they_are_asked_for() {
    let folder = Folder::with(&["vgg11.pth"]);
    let said = folder
        .prune(&format!("{CFG} --model vgg11.pth --no-test --torch-script --onnx --save out"));
    assert!(
        said.contains(
            "wrote prune.txt, plan.json, pruned.safetensors, pruned.pt, pruned.onnx and report.html into out"
        ),
        "{said}"
    );
    assert_eq!(
        folder.names("out"),
        ["plan.json", "prune.txt", "pruned.onnx", "pruned.pt", "pruned.safetensors", "report.html"]
    );

    // The files hold the same network.
    let pruned =
        Model::read(&folder.path("out/pruned.safetensors"), &Wanted::default(), Device::Cpu)
            .unwrap();
    let images = Tensor::rand([3, 3, 32, 32], tch::kind::FLOAT_CPU);
    let served =
        tch::CModule::load(folder.path("out/pruned.pt")).unwrap().forward_ts(&[&images]).unwrap();
    let expected = tch::no_grad(|| pruned.net.forward_t(&images, false));
    assert!(
        (served - &expected).abs().max().double_value(&[])
            <= 1e-5 * expected.abs().max().double_value(&[])
    );

    // The metadata of ONNX says which channels stay.
    let onnx = fs::read(folder.path("out/pruned.onnx")).unwrap();
    let cfg = pruned.slimmed.unwrap().cfg().to_string();
    assert!(onnx.windows(cfg.len()).any(|part| part == cfg.as_bytes()), "{cfg}");

    // The file that is read is not overwritten, whatever it holds.
    fs::copy(folder.path("vgg11.pth"), folder.path("pruned.pt")).unwrap();
    let said = folder.run(PRUNE, &format!("{CFG} --model pruned.pt --no-test --torch-script"));
    assert_eq!(said.code, 2);
    assert!(
        said.err.contains("pruned.pt in --save would replace the file of --model"),
        "{}",
        said.err
    );
}
