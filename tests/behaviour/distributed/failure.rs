//! A process that dies, or does not answer.

use std::fs;
use std::process::Command;
use std::time::Instant;

use tempfile::TempDir;

use crate::launch::Workers;

/// The others get an error long before the timeout of five minutes.
#[test]
fn a_killed_process_is_an_error_in_the_others() {
    for victim in [0, 1] {
        let mut workers = Workers::start("killed", 3);
        workers.wait_until_begun();
        workers.processes[victim].kill().unwrap();
        let killed = Instant::now();
        let words = workers.words();
        println!("rank {victim} was killed; the others ended after {:?}", killed.elapsed());
        for (rank, words) in words.into_iter().enumerate() {
            match words {
                None => assert_eq!(rank, victim),
                Some(words) => assert!(
                    words.starts_with(&format!("error: rank {rank} cannot average gradients: ")),
                    "{words}"
                ),
            }
        }
    }
}

#[test]
fn a_process_that_does_not_answer_is_an_error_after_the_timeout() {
    for victim in [0, 1] {
        let mut workers = Workers::start("stopped", 2);
        workers.wait_until_begun();
        let stopped = workers.processes[victim].id().to_string();
        assert!(Command::new("kill").args(["-STOP", &stopped]).status().unwrap().success());
        let rank = 1 - victim;
        workers.processes[rank].wait().unwrap();
        workers.processes[victim].kill().unwrap();
        let words = workers.words().swap_remove(rank).unwrap();
        let expected = format!("error: rank {rank} cannot average gradients: ");
        assert!(words.starts_with(&expected), "{words}");
        assert!(words.to_lowercase().contains("timed out"), "{words}");
    }
}

/// The store outlives the processes, and holds what the dead ones wrote, as that of `torchrun`'s
/// agent does.
#[test]
fn processes_that_are_started_again_go_on_from_the_checkpoint() {
    let weights = |folder: &TempDir| fs::read(folder.path().join("weights.safetensors")).unwrap();
    let folder = || tempfile::tempdir().unwrap();
    let agent = Workers::start("store", 1);
    agent.wait_until_begun();

    let mut whole = agent.start_others("restarted", 2, folder());
    assert_eq!(whole.words(), ["from step 0"; 2].map(|words| Some(words.to_owned())));
    let whole = weights(&whole.into_folder());

    for victim in [0, 1] {
        let folder = folder();
        fs::write(folder.path().join("dies"), victim.to_string()).unwrap();
        let mut died = agent.start_others("restarted", 2, folder);
        let words = died.words();
        assert_eq!(words[victim], None);
        let other = words[1 - victim].as_ref().unwrap();
        assert!(other.starts_with(&format!("error: rank {} cannot ", 1 - victim)), "{other}");

        let mut again = agent.start_others("restarted", 2, died.into_folder());
        let said: Vec<_> = again.words().into_iter().map(Option::unwrap).collect();
        assert_eq!(said, ["from step 3"; 2]);
        assert_eq!(weights(&again.into_folder()), whole);
    }
}
