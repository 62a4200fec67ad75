//! The report of `deploy`, as a user reads it.

use super::{Dense, Deployed, ModuleT, Tensor, built, common, deploy, nn};

/// Replaces times and the choice, which depend on the machine, and differences, which depend on the
/// order of sums.
fn redacted(deployed: &Deployed) -> String {
    let word = |word: &str| match word.parse::<f64>() {
        Ok(_) if word.contains('.') || word.contains('e') => "#".to_owned(),
        _ if word.starts_with('(') && word.contains('–') => "(#)".to_owned(),
        _ => word.replace("chosen", "").replace("µs", "ms"),
    };
    let line = |line: &str| {
        let words: Vec<_> = line.split_whitespace().map(word).collect();
        let is_time = |at: usize| words.get(at + 1).is_some_and(|next| next == "ms");
        let words = words.iter().enumerate();
        let words = words.map(|(at, word)| if is_time(at) { "#" } else { word.as_str() });
        let line = words.collect::<Vec<_>>().join(" ");
        line.trim_end().trim_end_matches(": within noise").replace("fast:", "fast")
    };
    deployed
        .to_string()
        .lines()
        .filter(|line| !line.starts_with('─'))
        .map(line)
        .collect::<Vec<_>>()
        .join("\n")
}

fn report<M: ModuleT + slim_runtime::Prunable>(
    build: impl Fn(&nn::Path) -> M,
    xs: &Tensor,
) -> Deployed {
    let (mut net, _vs) = built(build);
    deploy(&mut net, xs, |net, xs| net.forward_t(xs, false)).unwrap()
}

#[test]
fn a_report_of_drop_ins_and_of_tchs_layers() {
    let xs = slim_tests::fill::images(&[1, 3, 8, 8]);
    insta::assert_snapshot!(redacted(&report(|p| Dense::new(p), &xs)));
    insta::assert_snapshot!(redacted(&report(common::Net::new, &xs)));
}

#[test]
fn a_report_serialises() {
    let xs = slim_tests::fill::images(&[1, 3, 8, 8]);
    let mut json = serde_json::to_value(report(common::Net::new, &xs)).unwrap();
    for latency in ["before", "after"] {
        assert!(json[latency]["median"].as_f64().unwrap() > 0.);
    }
    json["norms"].as_array_mut().unwrap().truncate(1);
    insta::assert_snapshot!(json["norms"], @r#"[{"fate":{"identity":{"into":"conv1"}},"path":"bn1"}]"#);
    let layouts = json["layouts"].as_array().unwrap();
    assert_eq!(
        layouts.iter().map(|trial| trial["layout"].as_str().unwrap()).collect::<Vec<_>>(),
        ["contiguous", "channels_last", "packed"]
    );
}
