//! A cfg and a keep list: short texts that people write.

use proptest::prelude::*;
use proptest::sample::select;
use slim_runtime::{Cfg, KeepList};
use slim_tests::networks::{Chain, Network, Residual, Shuffled, Tied, built};

use crate::guard::{corpus, fuzz};
use crate::mutation::{mutated, mutations, pieces};

const CFGS: [&str; 8] = [
    "[]",
    "[8, 6]",
    "[4, 3]",
    "[8, 8]",
    "[4, 4]",
    "[8, 4, 6]",
    "[8, 8, 8]",
    "[49, 64, 'M', 128, \"M\"]",
];
const KEEP_LISTS: [&str; 6] = ["", "0", "0-7", "0-3,7,9-12", "1,3,5,7", "0-999999999999"];

fn dictionary() -> Vec<Vec<u8>> {
    let long = ["8, ".repeat(1000), "[".repeat(1000), "9".repeat(1000), "0-1,".repeat(1000)];
    let mut dictionary = pieces(&long.each_ref().map(String::as_str));
    dictionary.extend(pieces(&[
        "0",
        "1",
        "2",
        "7",
        "-1",
        "+1",
        "1_000",
        "0x8",
        "1e3",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "9223372036854775806",
        "'M'",
        "\"M\"",
        "M",
        "[",
        "]",
        ",",
        ",,",
        "-",
        " ",
        "\t",
        "\0",
        "\u{a0}",
        "\u{1f980}",
        "\u{0660}",
    ]));
    dictionary
}

fn narrow<N: Network>(cfg: &Cfg) {
    let (net, _vs) = built::<N>();
    if let Ok(net) = cfg.narrowed(net) {
        assert_eq!(
            net.plan(&slim_runtime::Slimming::ratio(0.))
                .unwrap()
                .cfg()
                .widths()
                .collect::<Vec<_>>(),
            cfg.widths().collect::<Vec<_>>()
        );
    }
}

fn check_cfg(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let json = serde_json::to_string(text).unwrap();
    let Ok(cfg) = text.parse::<Cfg>() else {
        assert!(serde_json::from_str::<Cfg>(&json).is_err());
        return false;
    };
    assert_eq!(cfg.to_string().parse::<Cfg>().unwrap(), cfg);
    assert_eq!(serde_json::from_str::<Cfg>(&json).unwrap(), cfg);
    assert!(cfg.widths().all(|width| width > 0));
    narrow::<Chain>(&cfg);
    narrow::<Residual>(&cfg);
    narrow::<Shuffled>(&cfg);
    narrow::<Tied>(&cfg);
    true
}

fn check_keep(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let json = serde_json::to_string(text).unwrap();
    let Ok(keep) = text.parse::<KeepList>() else {
        assert!(serde_json::from_str::<KeepList>(&json).is_err());
        return false;
    };
    assert_eq!(keep.to_string().parse::<KeepList>().unwrap(), keep);
    assert_eq!(serde_json::from_str::<KeepList>(&json).unwrap(), keep);
    assert_eq!(keep.is_empty(), keep.iter().next().is_none());
    assert_eq!(keep.last().is_none(), keep.is_empty());
    if keep.len() < 10_000 {
        assert_eq!(keep.iter().count(), keep.len());
        assert_eq!(keep.iter().collect::<KeepList>(), keep);
    }
    true
}

fn inputs(sound: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    (select(sound), mutations(dictionary()))
        .prop_map(|(text, mutations)| mutated(text.as_bytes(), &mutations))
}

#[test]
fn cfgs() {
    fuzz(1500, inputs(&CFGS), |text| check_cfg(text));
    corpus("cfgs", check_cfg);
}

#[test]
fn keep_lists() {
    fuzz(3000, inputs(&KEEP_LISTS), |text| check_keep(text));
    corpus("keep_lists", check_keep);
}
