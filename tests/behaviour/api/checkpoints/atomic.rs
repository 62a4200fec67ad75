//! A file is written completely or not at all: killed writers, full disks, links and permissions.
#![cfg(unix)]

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use slim_runtime::Error;
use slim_tests::versioned::{version, write};

/// The writer program, started by a shell that sets `limits`.
fn start(file: &Path, elements: i64, times: u32, limits: &str) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!(r#"{limits} exec "$0" "$@""#)])
        .arg(slim_tests::place::program("writer", env!("CARGO_BIN_EXE_writer")));
    command.arg(file).args([elements.to_string(), times.to_string()]);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

/// Names of the temporary files in the folder.
fn left(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != "slim.safetensors").collect()
}

#[test]
fn a_writer_that_is_killed_leaves_a_whole_file() {
    let (folder, elements, kills) = (tempfile::tempdir().unwrap(), 1 << 20, 16);
    let file = folder.path().join("slim.safetensors");
    write(&file, elements, 0.).unwrap();
    let (mut random, mut interrupted) = (fastrand::Rng::new(), 0);
    for kill in 0..kills {
        let strays = left(folder.path()).len();
        let mut child = start(&file, elements, u32::MAX, "").spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        lines.find(|line| line.as_ref().unwrap().contains("written 2")).unwrap().unwrap();
        if kill % 2 == 0 {
            std::thread::sleep(Duration::from_micros(random.u64(0..20_000)));
        } else {
            // Kills in the middle of a write, which may take a small part of the time.
            while left(folder.path()).len() == strays {
                assert!(child.try_wait().unwrap().is_none(), "the writer has ended by itself");
            }
            std::thread::sleep(Duration::from_micros(random.u64(0..1_000)));
        }
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        assert!(version(&file, elements) >= 2.);
        let strays_now = left(folder.path()).len();
        assert!(strays_now <= strays + 1, "no more than the one that it was writing");
        interrupted += strays_now - strays;
    }
    assert!(interrupted > 0, "no kill met a writer in the middle of a file");
    assert!(
        left(folder.path()).iter().all(|name| name.starts_with(".slim-") && name.ends_with(".tmp"))
    );
    write(&file, elements, 0.5).unwrap();
    assert_eq!(version(&file, elements), 0.5);
}

#[test]
fn a_crash_at_any_length_leaves_the_old_file() {
    let (folder, elements) = (tempfile::tempdir().unwrap(), 4_000);
    let file = folder.path().join("slim.safetensors");
    write(&file, elements, 7.).unwrap();
    let (mut killed, mut written) = (0, 0);
    // The shell counts blocks of 512 or 1024 bytes; the file has 16 KiB. The system kills a process
    // that exceeds the limit.
    for blocks in [0, 1, 2, 5, 9, 14, 15, 16, 17, 30, 40] {
        let limits = format!("ulimit -c 0; ulimit -f {blocks};");
        let status = start(&file, elements, 1, &limits).status().unwrap();
        match status.signal() {
            Some(_) => {
                assert_eq!(version(&file, elements), 7.);
                killed += 1;
            }
            None => {
                assert!(status.success());
                assert_eq!(version(&file, elements), 1.);
                write(&file, elements, 7.).unwrap();
                written += 1;
            }
        }
    }
    assert!(killed > 4 && written > 0, "{killed} killed, {written} written");
}

#[test]
fn a_full_disk_is_an_error_and_leaves_the_old_file_alone() {
    let (folder, elements) = (tempfile::tempdir().unwrap(), 100_000);
    let file = folder.path().join("slim.safetensors");
    write(&file, elements, 7.).unwrap();
    let output = start(&file, elements, 3, "trap '' XFSZ; ulimit -f 20;").output().unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.matches("slim.safetensors: cannot write: ").count(), 3, "{output}");
    assert_eq!(version(&file, elements), 7.);
    assert!(left(folder.path()).is_empty());
}

#[test]
fn a_folder_that_is_not_there_or_may_not_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for file in [
        folder.path().join("none/slim.safetensors"),
        PathBuf::from("/proc/slim.safetensors"),
        folder.path().to_owned(),
    ] {
        let error = write(&file, 1, 0.).unwrap_err();
        assert!(
            matches!(&error, Error::Io { file: named, action: "write", .. } if *named == file),
            "{error}"
        );
    }
    assert!(left(folder.path()).is_empty());
}

#[test]
fn permissions_are_those_of_any_file_and_stay() {
    let folder = tempfile::tempdir().unwrap();
    let (file, other) = (folder.path().join("slim.safetensors"), folder.path().join("other"));
    let mode = |file: &Path| fs::metadata(file).unwrap().permissions().mode() & 0o777;
    fs::write(&other, "").unwrap();
    write(&file, 1, 1.).unwrap();
    assert_eq!(mode(&file), mode(&other));
    fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
    write(&file, 1, 2.).unwrap();
    assert_eq!((mode(&file), version(&file, 1)), (0o640, 2.));
    fs::set_permissions(&file, Permissions::from_mode(0o440)).unwrap();
    let error = write(&file, 1, 3.).unwrap_err();
    // The cause is the source, and `Debug` has both.
    assert!(error.to_string().ends_with("cannot write"), "{error}");
    assert!(format!("{error:?}").ends_with("cannot write: it is read-only"), "{error:?}");
    let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref());
    let kind = source.map(std::io::Error::kind);
    assert_eq!(kind, Some(std::io::ErrorKind::PermissionDenied));
    assert_eq!((mode(&file), version(&file, 1)), (0o440, 2.));
}

#[test]
fn the_longest_name_that_there_is_can_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("n".repeat(255));
    write(&file, 1, 1.).unwrap();
    assert_eq!(version(&file, 1), 1.);
}

#[test]
fn links_are_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (versions, link) = (folder.path().join("versions"), folder.path().join("slim.safetensors"));
    fs::create_dir(&versions).unwrap();
    symlink("versions/latest", &link).unwrap();
    symlink("1.safetensors", versions.join("latest")).unwrap();
    // The first write creates the file, the second replaces it.
    for number in [1., 2.] {
        write(&link, 1, number).unwrap();
        assert_eq!(version(&versions.join("1.safetensors"), 1), number);
        assert!(link.is_symlink() && versions.join("latest").is_symlink());
    }
    assert_eq!(fs::read_dir(&versions).unwrap().count(), 2);
    let circle = folder.path().join("circle");
    symlink("circle", &circle).unwrap();
    assert!(matches!(write(&circle, 1, 0.), Err(Error::Io { .. })));
}

#[test]
fn a_bare_name_is_in_the_current_folder() {
    // The current folder belongs to the whole process, so the test starts one.
    let folder = tempfile::tempdir().unwrap();
    let status =
        start(Path::new("slim.safetensors"), 1, 1, "").current_dir(folder.path()).status().unwrap();
    assert!(status.success());
    assert_eq!(version(&folder.path().join("slim.safetensors"), 1), 1.);
}

#[test]
fn what_is_written_while_another_thread_reads_is_whole() {
    let (folder, elements) = (tempfile::tempdir().unwrap(), 50_000);
    let file = folder.path().join("slim.safetensors");
    write(&file, elements, 0.).unwrap();
    std::thread::scope(|scope| {
        let writers: Vec<_> = (1..=2)
            .map(|writer| {
                scope.spawn({
                    let file = &file;
                    move || (0..10).for_each(|_| write(file, elements, f64::from(writer)).unwrap())
                })
            })
            .collect();
        while !writers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            version(&file, elements);
        }
    });
    assert!(left(folder.path()).is_empty());
}
