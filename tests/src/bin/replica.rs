//! Slims a network by a plan from another process, and prints a hash of its weights:
//! `replica FOLDER`, where the folder has `dense.safetensors` and `plan.json`.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::PathBuf;

use slim_runtime::{Plan, Prunable, checkpoint};
use slim_tests::check::hash;
use slim_tests::networks::{Chain, built};

fn main() {
    let folder = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| panic!("replica FOLDER")));
    let (mut net, mut vs) = built::<Chain>();
    checkpoint::load_weights(folder.join("dense.safetensors"), &mut vs).unwrap();
    net.apply(
        &Plan::from_json(&std::fs::read_to_string(folder.join("plan.json")).unwrap()).unwrap(),
    )
    .unwrap();
    println!("{}", hash(&vs));
}
