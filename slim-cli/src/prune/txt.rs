//! The reference's `prune.txt`.

use slim_runtime::Cfg;

/// The text of `prune.txt` in the reference's exact form. `accuracy` is the masked network's,
/// before surgery, as a share of 1.
///
/// ```
/// let cfg = slim_runtime::channels![49, 64, M];
/// assert_eq!(
///     slim_cli::prune::prune_txt(&cfg, 1234, Some(0.5)),
///     "Configuration: \n[49, 64, 'M']\nNumber of parameters: \n1234\nTest accuracy: \n0.5"
/// );
/// // 2 of 50,000.
/// assert!(slim_cli::prune::prune_txt(&cfg, 1234, Some(0.00004)).ends_with("4e-05"));
/// ```
pub fn prune_txt(cfg: &Cfg, parameters: i64, accuracy: Option<f64>) -> String {
    // Format the float as Python does: the exponent has two digits, and is negative if there is
    // one.
    let accuracy = accuracy.map_or_else(
        || "not tested".to_owned(),
        |accuracy| format!("{accuracy:?}").replace("e-", "e-0"),
    );
    format!(
        "Configuration: \n{cfg}\nNumber of parameters: \n{parameters}\nTest accuracy: \n{accuracy}"
    )
}
