//! What is meant, checked: the fields as nodes of a data flow.

use crate::ast::{Field, Model};
use crate::ctxt::Ctxt;

/// The data flow of a struct.
pub(crate) struct Wiring<'a> {
    /// In the order of the data flow: a source is the input or an earlier node.
    pub(crate) nodes: Vec<Node<'a>>,
    pub(crate) output: Source,
}

/// A field that data flows through.
pub(crate) struct Node<'a> {
    pub(crate) field: &'a Field<'a>,
    pub(crate) op: Op,
    pub(crate) from: Source,
    /// Whether its output channels are never removed.
    pub(crate) keep: bool,
}

/// What a field does to channels.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    /// What its type's `Prunable` says.
    Layer,
    /// Nothing.
    Elementwise,
}

/// Where channels come from.
#[derive(Clone, Copy)]
pub(crate) enum Source {
    Input,
    Node(usize),
}

/// Each field reads the one before it.
pub(crate) fn resolve<'a>(cx: &Ctxt, model: &'a Model<'a>) -> Wiring<'a> {
    let mut wiring = Wiring { nodes: Vec::new(), output: Source::Input };
    for field in &model.fields {
        check_field(cx, field);
        if field.attrs.skip.is_some() {
            continue;
        }
        let op = if field.attrs.elementwise.is_some() { Op::Elementwise } else { Op::Layer };
        wiring.nodes.push(Node { field, op, from: wiring.output, keep: field.attrs.keep.is_some() });
        wiring.output = Source::Node(wiring.nodes.len() - 1);
    }
    wiring
}

fn check_field(cx: &Ctxt, field: &Field) {
    let attrs = &field.attrs;
    if attrs.skip.is_some() {
        for (other, key) in [(&attrs.keep, "keep"), (&attrs.elementwise, "elementwise")] {
            if let Some(other) = other {
                cx.error(other, format!("`{key}` contradicts `skip`, which takes the field out of the data flow; remove one of the two"));
            }
        }
    }
}
