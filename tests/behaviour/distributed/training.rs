//! The weights of several processes, against those of one.

use std::collections::HashMap;
use std::path::Path;

use slim_distributed::Distributed;
use slim_tests::parallel::{Way, simulated, train};
use slim_tests::place;
use tch::nn::VarStore;
use tch::{Kind, Tensor};

use crate::launch::Workers;

type Named = HashMap<String, Tensor>;

fn read(path: &Path) -> Named {
    Tensor::read_safetensors(path).unwrap().into_iter().collect()
}

/// The weights that rank 0 has at the end of a scenario.
fn weights(scenario: &str, world_size: usize, said: &str) -> Named {
    let mut workers = Workers::start(scenario, world_size);
    let words = workers.words();
    assert!(words.iter().all(|words| words.as_deref() == Some(said)), "{words:#?}");
    read(&workers.folder().join("weights.safetensors"))
}

#[track_caller]
fn assert_same(found: &Named, expected: &Named, tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (name, expected) in expected {
        let found = &found[name];
        assert_eq!(found.size(), expected.size(), "{name}");
        let largest = |tensor: &Tensor| tensor.abs().max().double_value(&[]);
        let difference = largest(&(found - expected).to_kind(Kind::Double));
        // A comparison that is false for NaN, too.
        assert!(difference <= tolerance * largest(expected).max(1.), "{name}: {difference:e}");
    }
}

fn named(vs: &VarStore) -> Named {
    vs.variables()
}

#[test]
fn several_processes_train_and_slim_as_one_does() {
    tch::set_num_threads(1);
    let alone = named(&train(&Distributed::from_env().unwrap(), Way::Reducer).unwrap());
    // Half of the channels went in the middle of the training.
    assert!(alone["conv2.weight"].size()[0] < 12 || alone["conv1.weight"].size()[0] < 8);
    for (scenario, world_size) in [
        ("plain", 1),
        ("reducer", 1),
        ("plain", 2),
        ("reducer", 2),
        ("plain", 3),
        ("reducer", 3),
        ("reducer", 4),
    ] {
        assert_same(&weights(scenario, world_size, "trained"), &alone, 1e-12);
    }
}

#[test]
fn statistics_of_parts_are_averaged() {
    tch::set_num_threads(1);
    for world_size in [2, 3] {
        assert_same(
            &weights("local", world_size, "trained"),
            &named(&simulated(world_size)),
            1e-12,
        );
    }
}

#[test]
fn gradients_that_are_accumulated_are_averaged_once() {
    let [one, three] = [1, 3].map(|world_size| weights("accumulated", world_size, "accumulated"));
    assert_same(&three, &one, 1e-12);
}

#[test]
fn gradients_of_gradients_go_through_synchronised_batch_norms() {
    let [one, three] = [1, 3].map(|world_size| weights("second order", world_size, "derived"));
    assert!(one["second"].abs().max().double_value(&[]) > 0.1);
    assert_same(&three, &one, 1e-12);
}

#[test]
fn a_batch_of_fewer_samples_than_processes_counts_each_once() {
    let [one, three] = [1, 3].map(|world_size| weights("few", world_size, "few"));
    assert_same(&three, &one, 1e-12);
}

#[test]
fn parameters_that_are_not_used_count_as_zero() {
    let words = |scenario, world_size| -> Vec<_> {
        Workers::start(scenario, world_size).words().into_iter().map(Option::unwrap).collect()
    };
    // Of two processes, each has used one layer twice; its gradient is the half of two ones.
    let expected = "Some([1.0, 1.0]) Some([1.0, 1.0]) None";
    assert_eq!(words("unused", 2), [expected; 2]);
    // What is not announced is an error, not a gradient that is wrong.
    for words in words("unused unsaid", 2) {
        assert!(words.contains("find_unused"), "{words}");
    }
}

#[test]
fn processes_stay_alike_in_mixed_precision() {
    let words = Workers::start("autocast", 2).words();
    assert_eq!(words, [Some("finite: true".to_owned()), Some("finite: true".to_owned())]);
}

#[test]
fn weights_are_those_of_pytorchs_distributed_data_parallel() {
    let fixture = read(&place::path("fixtures/distributed.safetensors"));
    let expected: Named = fixture
        .into_iter()
        .filter_map(|(name, tensor)| Some((name.strip_prefix("after.")?.to_owned(), tensor)))
        .collect();
    assert_eq!(expected.len(), 12);
    assert_same(&weights("pytorch", 2, "trained"), &expected, 1e-12);
}
