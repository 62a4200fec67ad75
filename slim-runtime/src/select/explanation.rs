//! Why each channel of a layer stays or goes, as a report.

use std::fmt;

use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use crate::graph::KeepReason;
use crate::slimming::Rule;
use crate::table::{STYLE, number};

/// Why each channel of a layer stays or goes. Made by
/// [`Prunable::explain`](crate::Prunable::explain); prints as a table.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Explanation {
    /// Field path of the layer.
    pub path: String,
    /// Where `forward` applies the layer: file, line and column; `None` if the wiring is not read
    /// from `forward`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Name of the axis that the channels are on: the one that the layer makes or scales.
    pub axis: String,
    /// Name of the [`Criterion`](crate::criterion::Criterion) that scores.
    pub criterion: String,
    /// The classes of isomorphic layers in which the channels compete, by the path of the first
    /// layer of each; empty unless the slimming is [isomorphic](crate::Slimming::isomorphic).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// The channels, in order.
    pub channels: Vec<ChannelDecision>,
}

/// The decision on one channel.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ChannelDecision {
    /// The position of the channel in the layer.
    pub position: usize,
    /// The score of the channel, combined with the scores of the channels that stay or go together
    /// with it; `None` if no layer scores it.
    pub score: Option<f64>,
    /// The score above which the channel stays; `None` if the channel is held, or if the target
    /// removes nothing from its ranking group.
    pub threshold: Option<f64>,
    /// Whether the channel stays.
    pub stays: bool,
    /// Why the channel stays or goes.
    pub reason: Reason,
    /// Where `forward` applies the layer that keeps the channel: file, line and column; `None` if
    /// no layer keeps it, or if the wiring is not read from `forward`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_at: Option<String>,
    /// Channels of other layers that stay or go together with the channel: `layer1.0.bn2[3]`.
    pub together: Vec<String>,
}

/// Why a channel stays or goes.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// The score of the channel is above the threshold, or not. If several scores equal the
    /// threshold of a top-k or a budget, the first channels stay.
    Score,
    /// The channel must stay.
    Held(KeepReason),
    /// A bound keeps the channel although the target would remove it, or removes it although the
    /// target would keep it.
    Bound(Rule),
    /// No layer ranks the channel.
    Unranked,
}

/// How many of the channels that stay or go together are named in a row.
const MOST_NAMES: usize = 3;

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (staying, all) =
            (self.channels.iter().filter(|channel| channel.stays).count(), self.channels.len());
        if let Some(at) = &self.at {
            write!(f, "{at}: ")?;
        }
        write!(
            f,
            "`{}`: {staying} of {all} channels stay; scores by {}",
            self.path, self.criterion
        )?;
        for (index, class) in self.classes.iter().enumerate() {
            let lead =
                if index == 0 { ", compared among layers that are isomorphic to" } else { "," };
            write!(f, "{lead} `{class}`")?;
        }
        writeln!(f)?;
        let mut table = Table::new();
        table.load_style(STYLE).set_header(["channel", "score", "fate", "why", "together with"]);
        for channel in &self.channels {
            let score = channel.score.map(number).unwrap_or_default();
            let fate = if channel.stays { "stays" } else { "goes" };
            let mut names =
                channel.together.iter().take(MOST_NAMES).cloned().collect::<Vec<_>>().join(", ");
            if channel.together.len() > MOST_NAMES {
                names += &format!(" and {} more", channel.together.len() - MOST_NAMES);
            }
            table.add_row([
                channel.position.to_string(),
                score,
                fate.to_owned(),
                channel.why(),
                names,
            ]);
        }
        table
            .column_iter_mut()
            .take(2)
            .for_each(|column| column.set_cell_alignment(CellAlignment::Right));
        write!(f, "{}", table.trim_fmt())
    }
}

impl ChannelDecision {
    fn why(&self) -> String {
        match (&self.reason, self.threshold, self.score) {
            (Reason::Held(KeepReason::Unscored) | Reason::Unranked, ..) => {
                "nothing ranks it".to_owned()
            }
            (Reason::Held(reason), ..) => match &self.held_at {
                Some(at) => format!("{reason} ({at})"),
                None => reason.to_string(),
            },
            (Reason::Bound(rule), ..) => format!("bound: {rule}"),
            (Reason::Score, None, _) => "nothing was to be removed".to_owned(),
            (Reason::Score, Some(threshold), Some(score)) if score > threshold => {
                format!("above {}", number(threshold))
            }
            (Reason::Score, Some(threshold), _) if self.stays => {
                format!("the first of those at {}", number(threshold))
            }
            (Reason::Score, Some(threshold), _) => format!("not above {}", number(threshold)),
        }
    }
}
