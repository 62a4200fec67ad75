//! Checks that the two sides have done the same work, since otherwise their times cannot be
//! compared.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};
use tch::{Kind, Tensor};

use crate::network::Network;

/// The largest number of differences that an error names.
const NAMED: usize = 8;

/// Checks that both sides left the same tensors: the same layers, with the same widths and the same
/// channels of the dense network.
///
/// # Errors
/// The layers that differ, by name.
pub fn same_weights(
    network: Network,
    ours: &BTreeMap<String, Tensor>,
    theirs: &BTreeMap<String, Tensor>,
) -> Result<()> {
    let mut differences: Vec<_> =
        ours.iter().filter_map(|(name, ours)| difference(name, ours, theirs.get(name))).collect();
    differences.extend(
        theirs
            .keys()
            .filter(|name| !ours.contains_key(*name))
            .map(|name| format!("`{name}`: only Torch-Pruning has it")),
    );
    if differences.is_empty() {
        return Ok(());
    }
    let more = differences.len().saturating_sub(NAMED);
    differences.truncate(NAMED);
    let more = if more > 0 { format!("\n  and {more} more") } else { String::new() };
    bail!(
        "{network}: the two sides do not leave the same channels, so their times cannot be compared\n  {}{more}",
        differences.join("\n  ")
    )
}

fn difference(name: &str, ours: &Tensor, theirs: Option<&Tensor>) -> Option<String> {
    let Some(theirs) = theirs else { return Some(format!("`{name}`: only slim has it")) };
    if ours.size() != theirs.size() {
        return Some(format!(
            "`{name}`: slim leaves {}, Torch-Pruning {}",
            widths(ours),
            widths(theirs)
        ));
    }
    // Surgery copies values, so tensors that are not equal to the bit have other channels.
    (!ours.equal(theirs))
        .then(|| format!("`{name}`: {} on both sides, but of other channels", widths(ours)))
}

/// The channels of a layer, by the shape of its tensor.
fn widths(tensor: &Tensor) -> String {
    match tensor.size().as_slice() {
        [channels] => format!("{channels} channels"),
        [outputs, inputs, ..] => format!("{inputs} → {outputs} channels"),
        [] => "a number".to_owned(),
    }
}

/// Checks that two outputs differ by no more than rounding: at most `tolerance` times the largest
/// absolute value of `expected`.
///
/// # Errors
/// The shapes differ, or the values are further apart. The error names `what` made `actual`, and
/// the difference.
pub fn same_output(what: &str, expected: &Tensor, actual: &Tensor, tolerance: f64) -> Result<()> {
    ensure!(
        expected.size() == actual.size(),
        "{what}: an output of shape {:?}, {:?} was expected",
        actual.size(),
        expected.size()
    );
    let actual = actual.to_device(expected.device());
    let largest = expected.abs().max().to_kind(Kind::Double).double_value(&[]);
    let apart = (expected - actual).abs().max().to_kind(Kind::Double).double_value(&[]);
    // Not `apart > …`, which would accept NaN.
    ensure!(
        apart <= tolerance * largest,
        "{what}: its output (up to {largest:.3e}) is {apart:.3e} away from PyTorch's"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    fn weights(tensors: &[(&str, &[i64])]) -> BTreeMap<String, Tensor> {
        tensors
            .iter()
            .map(|&(name, shape)| {
                (name.to_owned(), Tensor::ones(shape, (Kind::Float, Device::Cpu)))
            })
            .collect()
    }

    #[test]
    fn the_layer_that_differs_is_named() -> Result<()> {
        let ours = weights(&[
            ("conv1.weight", &[32, 3, 7, 7]),
            ("bn1.weight", &[32]),
            ("fc.weight", &[10, 32]),
            ("fc.bias", &[10]),
        ]);
        assert!(same_weights(Network::Resnet50, &ours, &ours).is_ok());

        let mut theirs = weights(&[
            ("conv1.weight", &[31, 3, 7, 7]),
            ("bn1.weight", &[31]),
            ("fc.bias", &[10]),
            ("head.weight", &[1]),
        ]);
        let _ = theirs.get_mut("fc.bias").unwrap().zero_();
        let error = same_weights(Network::Resnet50, &ours, &theirs).unwrap_err();
        insta::assert_snapshot!(error, @r"
        resnet50: the two sides do not leave the same channels, so their times cannot be compared
          `bn1.weight`: slim leaves 32 channels, Torch-Pruning 31 channels
          `conv1.weight`: slim leaves 3 → 32 channels, Torch-Pruning 3 → 31 channels
          `fc.bias`: 10 channels on both sides, but of other channels
          `fc.weight`: only slim has it
          `head.weight`: only Torch-Pruning has it
        ");
        Ok(())
    }

    #[test]
    fn one_channel_instead_of_another_is_seen() {
        let channels = Tensor::from_slice(&[0.5_f32, 0.25, 1.]);
        let side = |kept: &[i64]| {
            BTreeMap::from([(
                "bn.weight".to_owned(),
                channels.index_select(0, &Tensor::from_slice(kept)),
            )])
        };
        assert!(same_weights(Network::Vgg19, &side(&[0, 2]), &side(&[0, 2])).is_ok());
        assert!(same_weights(Network::Vgg19, &side(&[0, 2]), &side(&[1, 2])).is_err());
    }

    #[test]
    fn outputs_agree_to_a_share_of_the_largest() {
        let output = Tensor::from_slice(&[1000_f32, -1.]);
        assert!(same_output("ours", &output, &(&output + 0.05), 1e-4).is_ok());
        let error = same_output("ours", &output, &(&output + 0.5), 1e-4).unwrap_err();
        assert_eq!(
            error.to_string(),
            "ours: its output (up to 1.000e3) is 5.000e-1 away from PyTorch's"
        );
        assert!(same_output("ours", &output, &(&output * f64::NAN), 1e-4).is_err());
        assert!(same_output("ours", &output, &output.reshape([1, 2]), 1e-4).is_err());
    }
}
