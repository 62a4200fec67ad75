//! Dependencies as text for Mermaid.

use std::fmt::Write;

use super::Dependencies;
use super::joints::{End, lines};

impl Dependencies {
    /// The graph as a Mermaid flowchart, which GitHub draws in a code block marked `mermaid`. It
    /// shows the same as [`to_dot`](Self::to_dot), and the same network gives the same text.
    pub fn to_mermaid(&self) -> String {
        let mut text = String::from("flowchart TB\n");
        for (index, layer) in self.layers.iter().enumerate() {
            let mut label = format!(
                "{}<br/>{} {}",
                escaped(&layer.path),
                escaped(&layer.kind.to_string()),
                layer.widths()
            );
            if let Some(group) = self.coupled_group_of(index) {
                let _ = write!(label, "<br/>group {}", group.number);
            }
            let _ = writeln!(text, "  n{index}[\"{label}\"]");
        }
        let (joints, lines) = lines(self.layers.len(), &self.edges);
        for joint in 0..joints {
            let _ = writeln!(text, "  j{joint}((\" \"))");
        }
        for (from, to) in lines {
            let arrow = if matches!(to, End::Joint(_)) { "---" } else { "-->" };
            let _ = writeln!(text, "  {} {arrow} {}", from.name(), to.name());
        }
        for (number, fill) in self.colours() {
            let members = self.names(|layer| {
                self.coupled_group_of(layer).is_some_and(|group| group.number == number)
            });
            if !members.is_empty() {
                let _ = writeln!(text, "  classDef group{number} fill:{fill},color:#000000");
                let _ = writeln!(text, "  class {members} group{number}");
            }
        }
        let held = self.names(|layer| self.is_held(layer));
        if !held.is_empty() {
            let _ = writeln!(text, "  classDef held stroke-dasharray:4 3");
            let _ = writeln!(text, "  class {held} held");
        }
        text
    }

    fn names(&self, is_one: impl Fn(usize) -> bool) -> String {
        let layers = (0..self.layers.len()).filter(|&layer| is_one(layer));
        layers.map(|layer| format!("n{layer}")).collect::<Vec<_>>().join(",")
    }
}

/// Escapes a label in quotes, where Mermaid reads HTML and its own entities that start with `#`.
fn escaped(text: &str) -> String {
    let escape = |character: char| match character {
        '#' | '&' | '<' | '>' | '"' | '`' | '\\' => format!("#{};", u32::from(character)),
        '\n' | '\r' => " ".to_owned(),
        other => other.to_string(),
    };
    text.chars().map(escape).collect()
}
