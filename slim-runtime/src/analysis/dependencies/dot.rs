//! Dependencies as text for Graphviz.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::joints::{End, lines};
use super::{Dependencies, LayerGroup, palette};

impl Dependencies {
    /// The graph as text in Graphviz's DOT language: `dot -Tsvg net.dot`. The same network gives
    /// the same text.
    ///
    /// Each node is a layer with its widths. Layers in a coupled group, whose channels several
    /// layers make, are coloured and show the [group](Dependencies::groups)'s number. A layer with
    /// a dashed border makes or scales only held channels. Where many layers receive the same
    /// channels, their lines meet in a point.
    pub fn to_dot(&self) -> String {
        let mut text = String::from("digraph dependencies {\n");
        text += "  node [shape=box, style=\"rounded,filled\", fillcolor=\"#ffffff\", fontname=\"sans-serif\", fontsize=11];\n";
        text += "  edge [color=\"#555555\", arrowsize=0.7];\n";
        let colours = self.colours();
        for (index, layer) in self.layers.iter().enumerate() {
            let mut label = format!(
                "{}\\n{} {}",
                escaped(&layer.path),
                escaped(&layer.kind.to_string()),
                layer.widths()
            );
            let mut attributes = String::new();
            if let Some(group) = self.coupled_group_of(index) {
                let _ = write!(label, "\\ngroup {}", group.number);
                let _ = write!(attributes, ", fillcolor=\"{}\"", colours[&group.number]);
            }
            if self.is_held(index) {
                attributes += ", style=\"rounded,filled,dashed\"";
            }
            let _ = writeln!(text, "  n{index} [label=\"{label}\"{attributes}];");
        }
        let (joints, lines) = lines(self.layers.len(), &self.edges);
        for joint in 0..joints {
            let _ = writeln!(text, "  j{joint} [shape=point, width=0.06];");
        }
        for (from, to) in lines {
            // A line into a point has no arrowhead, because it continues behind the point.
            let head = if matches!(to, End::Joint(_)) { " [arrowhead=none]" } else { "" };
            let _ = writeln!(text, "  {} -> {}{head};", from.name(), to.name());
        }
        text + "}\n"
    }

    /// The fill colour of each coupled group, by its number.
    pub(super) fn colours(&self) -> BTreeMap<usize, &'static str> {
        let coupled = self.groups.iter().filter(|group| group.is_coupled());
        coupled.enumerate().map(|(index, group)| (group.number, palette::fill(index))).collect()
    }

    /// Whether all channels that a layer makes or scales are held.
    pub(super) fn is_held(&self, layer: usize) -> bool {
        let own = |group: &&LayerGroup| {
            group.producers().chain(group.scalers()).any(|member| member == layer)
        };
        let mut own = self.groups.iter().filter(own).peekable();
        own.peek().is_some() && own.all(|group| group.held.is_some())
    }
}

impl End {
    pub(super) fn name(self) -> String {
        match self {
            End::Layer(layer) => format!("n{layer}"),
            End::Joint(joint) => format!("j{joint}"),
        }
    }
}

/// Escapes a label in quotes, where Graphviz reads backslash escapes and HTML entities.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('&', "&amp;").replace(['\n', '\r'], " ")
}
