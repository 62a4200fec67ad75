//! Prints plans: a table of the layers and summary lines.

use std::fmt;

use comfy_table::{CellAlignment, Table};

use super::{AxisPlan, Change, LayerPlan, Plan, Slimmed, Unscored, Warning};
use crate::Absorbed;
use crate::analysis::Masking;
use crate::graph::{KeepReason, LayerKind};
use crate::slimming::criterion::{BatchNormScale, Criterion, Normalisation};
use crate::slimming::{Coupling, Rule, Scope, Target};
use crate::table::{MOST_LINES, STYLE, grouped, number, percent};

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.table().trim_fmt())?;
        writeln!(
            f,
            "channels    {} ({} removed)",
            self.channels(),
            percent(self.channels().removed())
        )?;
        writeln!(
            f,
            "parameters  {} ({} removed)",
            self.parameters(),
            percent(self.parameters().removed())
        )?;
        for (label, line) in self.choice_lines() {
            writeln!(f, "{label:<12}{line}")?;
        }
        let cfg = self.cfg();
        // The table also has the widths of layers without a batch norm, the cfg does not.
        let cfg = if cfg.widths().next().is_none() {
            "none: there is no batch norm".to_owned()
        } else {
            cfg.to_string()
        };
        write!(f, "cfg         {cfg}")?;
        let bounded = self.bounded().map(|(path, bounded)| {
            let kept = self
                .layer(path)
                .and_then(|layer| layer.axis(&layer.scored.as_ref()?.axis))
                .map_or(0, |axis| axis.keep.len());
            let by: Vec<_> = bounded.by.iter().map(Rule::to_string).collect();
            let channels = if kept == 1 { "channel" } else { "channels" };
            format!(
                "`{path}` keeps {kept} {channels}, and not {}: {}",
                bounded.wanted,
                by.join(", ")
            )
        });
        let warnings = self.warnings.iter().map(Warning::to_string);
        let declared = self.declared.iter().map(|name| {
            format!("of `{name}` is declared, not read from `forward`; compare them with `verify`")
        });
        let held = self.layers.iter().filter_map(|layer| layer.held(self.masking()));
        let classes = self.classes().into_iter().map(|(class, layers, threshold)| {
            let layers = match layers {
                1 => format!("`{class}`"),
                2 => format!("`{class}` and 1 layer that is isomorphic to it"),
                _ => format!("`{class}` and {} layers that are isomorphic to it", layers - 1),
            };
            match threshold {
                Some(threshold) => format!("{layers}: above {}", number(threshold)),
                None => format!("{layers}: all stay"),
            }
        });
        for (label, lines) in [
            ("class", classes.collect::<Vec<_>>()),
            ("bound", bounded.collect()),
            ("warning", warnings.collect()),
            ("wiring", declared.collect()),
            ("held", held.collect()),
        ] {
            write_lines(f, label, lines)?;
        }
        Ok(())
    }
}

/// What has a target or a threshold of its own.
fn each(scope: Scope) -> &'static str {
    match scope {
        Scope::Isomorphic => "each class of isomorphic layers",
        Scope::Global | Scope::Local => "each layer",
    }
}

fn write_lines(f: &mut fmt::Formatter<'_>, label: &str, lines: Vec<String>) -> fmt::Result {
    for line in lines.iter().take(MOST_LINES) {
        write!(f, "\n{label:<12}{line}")?;
    }
    if lines.len() > MOST_LINES {
        write!(f, "\n{label:<12}and {} more", lines.len() - MOST_LINES)?;
    }
    Ok(())
}

impl fmt::Display for Slimmed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.plan.fmt(f)?;
        let lines = self.absorbed().iter().map(Absorbed::to_string).collect();
        write_lines(f, "absorbed", lines)
    }
}

impl Plan {
    /// Summary lines: the target, the share that was reached, threshold and criterion. A label and
    /// a text each.
    fn choice_lines(&self) -> Vec<(&'static str, String)> {
        let slimming = &self.slimming;
        if !self.passes.is_empty() {
            let passes = self.passes.iter().map(|pass| &pass.slimming).chain([slimming]);
            let passes: Vec<_> = passes.map(|slimming| slimming.target.to_string()).collect();
            return vec![("passes", format!("{}: {}", passes.len(), passes.join(", then ")))];
        }
        let of_before = |change: Change| percent(change.after as f64 / change.before.max(1) as f64);
        let reached = format!(
            "{} reached, of the {} channels that may go",
            percent(self.reached()),
            grouped(self.removable() as i64)
        );
        let mut lines = vec![match &slimming.target {
            Target::Ratio(ratio) if slimming.scope != Scope::Global => {
                let each = each(slimming.scope);
                ("ratio", format!("{} of {each} asked for, {reached}", percent(*ratio)))
            }
            Target::Ratio(ratio) if !slimming.layers.is_empty() => (
                "ratio",
                format!(
                    "{} asked for of the layers without a target of their own; in all, {reached}",
                    percent(*ratio)
                ),
            ),
            Target::Ratio(ratio) => ("ratio", format!("{} asked for, {reached}", percent(*ratio))),
            Target::Threshold(_) => ("ratio", reached),
            Target::TopK(k) => {
                let k = grouped(i64::try_from(*k).unwrap_or(i64::MAX));
                let of = match slimming.scope {
                    Scope::Local | Scope::Isomorphic => format!(" of {}", each(slimming.scope)),
                    Scope::Global if slimming.layers.is_empty() => String::new(),
                    Scope::Global => " of the layers without a target of their own".to_owned(),
                };
                (
                    "top-k",
                    format!(
                        "at most {k} channels{of} asked for, {} stay in all",
                        grouped(self.channels().after)
                    ),
                )
            }
            Target::Params(share) => (
                "budget",
                format!(
                    "{} of the parameters asked for, {} stay",
                    percent(*share),
                    of_before(self.parameters())
                ),
            ),
            Target::Macs { share, uses } => (
                "budget",
                format!(
                    "{} of the MACs asked for, {} stay",
                    percent(*share),
                    of_before(self.macs(uses))
                ),
            ),
            Target::Latency { share, latencies } => (
                "budget",
                match self.latency(latencies) {
                    Ok(latency) => format!(
                        "{} of the latency asked for, {} predicted",
                        percent(*share),
                        of_before(latency)
                    ),
                    // A plan that was read may have the latencies of another network.
                    Err(_) => format!("{} of the latency asked for", percent(*share)),
                },
            ),
        }];
        let is_gamma = slimming.criterion.name() == BatchNormScale.name();
        let is_single =
            slimming.normalisation == Normalisation::None && slimming.coupling == Coupling::Max;
        let what = if is_gamma && is_single { "|γ|" } else { "score" };
        lines.push((
            "threshold",
            match self.threshold {
                Some(threshold) => {
                    format!("a channel stays when its {what} > {}", number(threshold))
                }
                None if self.channels().removed() > 0. => {
                    format!("{} has its own", each(slimming.scope))
                }
                None => "none: nothing was to be removed".to_owned(),
            },
        ));
        if !is_gamma {
            lines.push(("criterion", slimming.criterion.name()));
        }
        lines.extend(
            slimming
                .layers
                .iter()
                .map(|(pattern, target)| ("layers", format!("`{pattern}`: {target}"))),
        );
        lines
    }

    /// The classes of isomorphic layers that compete, in the order of their first layers: the path
    /// of the first layer, the number of layers, and the threshold.
    pub(crate) fn classes(&self) -> Vec<(&str, usize, Option<f64>)> {
        let mut classes: Vec<(&str, usize, Option<f64>)> = Vec::new();
        for scored in self.layers.iter().filter_map(|layer| layer.scored.as_ref()) {
            let Some(class) = scored.class.as_deref() else { continue };
            match classes.iter_mut().find(|(known, ..)| *known == class) {
                Some((_, layers, _)) => *layers += 1,
                None => classes.push((class, 1, scored.threshold)),
            }
        }
        classes
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(STYLE).set_header(["layer", "kind", "inputs", "channels", "parameters"]);
        for layer in self.layers.iter().filter(|layer| !layer.tensors.is_empty()) {
            let (inputs, channels) = layer.inputs_and_channels();
            let width = |axis: Option<&AxisPlan>| {
                axis.map(|axis| axis.change().to_string()).unwrap_or_default()
            };
            table.add_row([
                layer.path.clone(),
                layer.kind.to_string(),
                width(inputs),
                width(channels),
                layer.parameters().to_string(),
            ]);
        }
        for column in table.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }
}

impl LayerPlan {
    fn inputs_and_channels(&self) -> (Option<&AxisPlan>, Option<&AxisPlan>) {
        let is_input = |axis: &&AxisPlan| axis.name == "in";
        (self.axes.iter().find(is_input), self.axes.iter().find(|axis| !is_input(axis)))
    }

    /// Summary line on the held channels of the layer: how many, and why.
    fn held(&self, masking: Masking) -> Option<String> {
        if let Some(Unscored { axis, channels, held }) = &self.unscored {
            let held = match (held, masking) {
                (KeepReason::Unscored, Masking::Parameters) => "nothing ranks them".to_owned(),
                (held, _) => held.to_string(),
            };
            return Some(format!(
                "`{}`: {channels} of {} channels stay: {held}",
                self.path,
                self.axis(axis)?.width
            ));
        }
        let scored = self.scored.as_ref()?;
        let (width, reason) = (self.axis(&scored.axis)?.width, scored.held.as_ref()?);
        if *reason == KeepReason::Output && self.kind != LayerKind::BatchNorm {
            return None; // the output is held in every model
        }
        Some(format!(
            "`{}`: {} of {width} channels stay: {reason}",
            self.path,
            width - scored.removable
        ))
    }
}

impl AxisPlan {
    fn change(&self) -> Change {
        Change { before: self.width as i64, after: self.keep.len() as i64 }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.before == self.after {
            true => f.write_str(&grouped(self.before)),
            false => write!(f, "{} → {}", grouped(self.before), grouped(self.after)),
        }
    }
}
