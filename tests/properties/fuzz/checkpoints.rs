//! Safetensors files: a damaged file, or one of another store, is refused, and the store does not
//! change.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::select;
use slim_runtime::checkpoint;
use slim_tests::networks::{Chain, Network, Shuffled, built};
use tch::nn::VarStore;
use tch::{Kind, Tensor};

use crate::guard::{corpus, fuzz};
use crate::mutation::{Mutation, mutated, mutations, pieces};

/// A sound file of a network that is slimmed by `ratio` and converted to `kind`.
fn sound<N: Network>(ratio: f64, kind: Kind) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    let (mut net, mut vs) = built::<N>();
    vs.set_kind(kind);
    let slimmed = net.slim(ratio).unwrap();
    checkpoint::save(file.path(), &vs, &slimmed).unwrap();
    std::fs::read(file.path()).unwrap()
}

fn files() -> Vec<Vec<u8>> {
    vec![
        sound::<Chain>(0., Kind::Float),
        sound::<Chain>(0., Kind::BFloat16),
        sound::<Chain>(0.5, Kind::Double),
        sound::<Shuffled>(0., Kind::Half),
        sound::<Shuffled>(0.5, Kind::Float),
    ]
}

fn dictionary() -> Vec<Vec<u8>> {
    let deep = ["[", "{\"a\":"].map(|piece| piece.repeat(10_000));
    let mut dictionary = pieces(&deep.each_ref().map(String::as_str));
    dictionary.extend(pieces(&[
        "0",
        "1",
        "8",
        "-1",
        "1e9",
        "4294967296",
        "9223372036854775807",
        "18446744073709551615",
        "18446744073709551616",
        "\"F16\"",
        "\"F64\"",
        "\"BOOL\"",
        "\"I64\"",
        "\"F8_E4M3\"",
        "\"dtype\":",
        "\"shape\":",
        "\"data_offsets\":",
        "\"__metadata__\":{},",
        "\"cfg\":\"[0]\",",
        "[]",
        "[0,0]",
        "{}",
        "}",
        "]",
        ",",
        "null",
        "\\u0000",
        "\u{1f980}",
        "\\ud800",
        "  ",
    ]));
    dictionary
}

/// Changes to a file. The length of its header may stay true or become wrong.
#[derive(Debug, Clone)]
struct Change {
    header: Vec<Mutation>,
    data: Vec<Mutation>,
    length: Length,
}

#[derive(Debug, Clone)]
enum Length {
    True,
    AsBefore,
    Claimed(u64),
}

fn change() -> impl Strategy<Value = Change> {
    let length = prop_oneof![
        6 => Just(Length::True),
        2 => Just(Length::AsBefore),
        1 => any::<u64>().prop_map(Length::Claimed),
        1 => (0_u64..5000).prop_map(Length::Claimed),
        1 => select(vec![0, 1, 99_999_999, 100_000_000, 100_000_001, u64::from(u32::MAX), i64::MAX as u64, u64::MAX - 7, u64::MAX])
            .prop_map(Length::Claimed),
    ];
    let data = prop::option::weighted(0.3, mutations(pieces(&["\0", "\u{7f}", "abcdefgh"])));
    (mutations(dictionary()), data, length).prop_map(|(header, data, length)| Change {
        header,
        data: data.unwrap_or_default(),
        length,
    })
}

fn changed(file: &[u8], change: &Change) -> Vec<u8> {
    let (length, rest) = file.split_at(8);
    let (header, data) = rest.split_at(u64::from_le_bytes(length.try_into().unwrap()) as usize);
    let (changed, data) = (mutated(header, &change.header), mutated(data, &change.data));
    let length = match change.length {
        Length::True => changed.len() as u64,
        Length::AsBefore => header.len() as u64,
        Length::Claimed(length) => length,
    };
    [&length.to_le_bytes()[..], &changed, &data].concat()
}

fn values(vs: &VarStore) -> BTreeMap<String, Tensor> {
    vs.variables().into_iter().map(|(name, tensor)| (name, tensor.detach().copy())).collect()
}

/// Loads the weights alone, and then the whole file into a dense network. Returns whether either
/// succeeded.
fn load<N: Network>(path: &Path) -> bool {
    let (mut net, mut vs) = built::<N>();
    let loaded = unchanged_if_refused(&mut vs, |vs| checkpoint::load_weights(path, vs).is_ok());
    unchanged_if_refused(&mut vs, |vs| checkpoint::load(path, vs, &mut net).is_ok()) | loaded
}

fn unchanged_if_refused(vs: &mut VarStore, load: impl FnOnce(&mut VarStore) -> bool) -> bool {
    let before = values(vs);
    let loaded = load(vs);
    for (name, variable) in vs.variables() {
        // An earlier load may have set weights to NaN.
        let same = || {
            variable.size() == before[&name].size()
                && variable.allclose(&before[&name], 0., 0., true)
        };
        assert!(loaded || same(), "{name} has changed, and the file was refused");
    }
    loaded
}

fn check(path: &Path, bytes: &[u8]) -> bool {
    std::fs::write(path, bytes).unwrap();
    if let Ok(cfg) = checkpoint::cfg(path) {
        assert!(cfg.widths().all(|width| width > 0));
    }
    let _ = checkpoint::plan(path).map(|plan| plan.to_string());
    load::<Chain>(path) | load::<Shuffled>(path)
}

#[test]
fn checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fuzzed.safetensors");
    fuzz(
        1500,
        (select(files()), change()).prop_map(|(file, change)| changed(&file, &change)),
        |bytes| check(&path, bytes),
    );
}

#[test]
fn truncated_checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("truncated.safetensors");
    let file = sound::<Chain>(0., Kind::Float);
    let lengths = prop_oneof![1 => Just(file.len()), 9 => 0..file.len()];
    let input = lengths.prop_map(|length| file[..length].to_vec());
    fuzz(500, input, |bytes| {
        let accepted = check(&path, bytes);
        assert_eq!(
            (accepted, checkpoint::cfg(&path).is_ok()),
            (bytes.len() == file.len(), bytes.len() == file.len())
        );
        accepted
    });
}

#[test]
fn checkpoints_of_the_corpus() {
    let folder = tempfile::tempdir().unwrap();
    corpus("checkpoints", |bytes| check(&folder.path().join("file.safetensors"), bytes));
}
