//! Checks a declared wiring, and resolves fields to nodes of a data flow, variants to alternatives.

use quote::ToTokens;
use syn::{Expr, ExprPath, LitInt, parse_quote};

use super::flow_expr::{FlowExpr, Name, OUTPUT, Scope};
use crate::activation::Applied;
use crate::ast::{Field, Model, Shape, Variant};
use crate::attr::{self, Attr, FieldAttrs, InputAttr, Role};
use crate::ctxt::Ctxt;

/// The declared wiring of a type.
pub(crate) enum Wiring<'a> {
    Struct(DataFlow<'a>),
    /// The input, which is one tensor, and the alternatives.
    Enum(Inputs<'a>, Vec<Arm<'a>>),
}

/// The data flow of a struct.
pub(crate) struct DataFlow<'a> {
    pub(crate) inputs: Inputs<'a>,
    /// In the order of declaration, which is also an order of the data flow: a node reads only the
    /// input and earlier nodes.
    pub(crate) nodes: Vec<Node<'a>>,
    pub(crate) output: FlowExpr,
}

/// The number, widths or shapes of the inputs, as far as they are declared.
pub(crate) enum Inputs<'a> {
    /// One tensor of any width.
    Any,
    /// One tensor of this width.
    Width(&'a LitInt),
    /// This number of tensors, each of any width.
    Count(usize),
    /// Tensors of these widths.
    Widths(&'a [LitInt]),
    /// A tensor of each of these shapes, without the batch.
    Shapes(&'a [Vec<LitInt>]),
}

/// A field that data flows through.
pub(crate) struct Node<'a> {
    pub(crate) field: &'a Field<'a>,
    pub(crate) op: Op,
    pub(crate) from: FlowExpr,
    /// The activation of `act`, which is applied to the field's output.
    pub(crate) act: Option<Applied>,
    /// Whether its output channels are never removed.
    pub(crate) keep: bool,
}

/// The operation of a field on channels.
pub(crate) enum Op {
    /// The `Prunable` impl of the field's type traces it.
    Layer,
    /// Leaves channels as they are.
    Elementwise,
    /// This function traces it.
    Function(ExprPath),
}

/// An alternative of an enum.
pub(crate) struct Arm<'a> {
    pub(crate) variant: &'a Variant<'a>,
    /// The node of the variant, which reads the input; without a node, the input is the output.
    pub(crate) node: Option<Node<'a>>,
}

pub(crate) fn resolve<'a>(cx: &Ctxt, model: &'a Model<'a>) -> Wiring<'a> {
    match &model.shape {
        Shape::Struct(fields) => Wiring::Struct(data_flow(cx, model, fields)),
        Shape::Enum(variants) => {
            if let Some(output) = &model.attrs.output {
                cx.error(
                    &output.key,
                    "an enum's output is that of its variant; write `output` on a struct",
                );
            }
            let inputs = match &model.attrs.input {
                None => Inputs::Any,
                Some(InputAttr::Width(width)) => Inputs::Width(width),
                Some(InputAttr::Shape(shape)) => Inputs::Shapes(shape),
                Some(several @ (InputAttr::Widths(_) | InputAttr::Shapes(_))) => {
                    cx.error(
                        several.first(),
                        "an enum takes one input, which it gives to its variant; write `#[prune(input = 3)]`",
                    );
                    Inputs::Any
                }
            };
            Wiring::Enum(inputs, variants.iter().map(|variant| arm(cx, variant)).collect())
        }
    }
}

fn data_flow<'a>(cx: &Ctxt, model: &'a Model<'a>, fields: &'a [Field<'a>]) -> DataFlow<'a> {
    let names = names(fields);
    let mut nodes: Vec<Node> = Vec::new();
    for (position, field) in fields.iter().enumerate() {
        let Some(op) = operation(cx, field) else { continue };
        let name = &names[position].name;
        let previous = nodes.len().checked_sub(1).map_or(FlowExpr::Input, FlowExpr::Node);
        let scope = Scope { reader: name, fields: &names, before: position };
        // If the expression is wrong, that has been reported, and its substitute is never expanded.
        let from =
            field.attrs.from.as_ref().and_then(|from| FlowExpr::parse(cx, &scope, &from.value));
        nodes.push(Node {
            field,
            op,
            from: from.unwrap_or(previous),
            act: act(field),
            keep: field.attrs.keep.is_some(),
        });
    }
    let last = nodes.len().checked_sub(1).map_or(FlowExpr::Input, FlowExpr::Node);
    let scope = Scope { reader: OUTPUT, fields: &names, before: fields.len() };
    let output =
        model.attrs.output.as_ref().and_then(|output| FlowExpr::parse(cx, &scope, &output.value));
    let mut flow = DataFlow { inputs: Inputs::Any, nodes, output: output.unwrap_or(last) };
    // After an error, further checks would only report its consequences.
    if cx.len() == 0 {
        flow.inputs = inputs(cx, model, &flow);
        check_reached(cx, model, &flow);
    }
    flow
}

/// The names by which expressions refer to the fields.
fn names(fields: &[Field]) -> Vec<Name> {
    let mut nodes = 0..;
    let name = |field: &Field| {
        let skipped = matches!(role(field), Some(Role::Skip));
        Name { name: field.name(), node: if skipped { None } else { nodes.next() } }
    };
    fields.iter().map(name).collect()
}

fn act(field: &Field) -> Option<Applied> {
    field.attrs.act.as_ref().map(|act| act.value)
}

fn role<'a>(field: &'a Field) -> Option<&'a Role> {
    field.attrs.role.as_ref().map(|role| &role.value)
}

/// The operation of a field; `None` if the field is not part of the data flow.
fn operation(cx: &Ctxt, field: &Field) -> Option<Op> {
    match role(field) {
        None => Some(Op::Layer),
        Some(Role::Elementwise) => Some(Op::Elementwise),
        Some(Role::With(function)) => Some(Op::Function(function.clone())),
        Some(Role::PerChannel { shift: false }) => {
            Some(Op::Function(parse_quote!(_slim::per_channel_scale)))
        }
        Some(Role::PerChannel { shift: true }) => {
            Some(Op::Function(parse_quote!(_slim::per_channel_shift)))
        }
        Some(Role::Skip) => {
            let FieldAttrs { keep, from, act, .. } = &field.attrs;
            let others = [
                keep.as_ref().map(|keep| &keep.key),
                from.as_ref().map(|from| &from.key),
                act.as_ref().map(|act| &act.key),
            ];
            others.into_iter().flatten().for_each(|key| attr::contradicts_skip(cx, key));
            None
        }
    }
}

fn arm<'a>(cx: &Ctxt, variant: &'a Variant<'a>) -> Arm<'a> {
    if variant.fields.len() > 1 {
        cx.error(
            variant.source,
            "a variant has one field, or none and passes channels on; put these fields into a struct of their own",
        );
    }
    let node = variant.fields.first().and_then(|field| {
        if let Some(from) = &field.attrs.from {
            cx.error(&from.key, "a variant reads what the enum is given; `from` has nothing else to refer to, so remove it");
        }
        operation(cx, field).map(|op| Node { field, op, from: FlowExpr::Input, act: act(field), keep: field.attrs.keep.is_some() })
    });
    Arm { variant, node }
}

/// The inputs: as `input = …` declares them, or else as many as the uses of `input.0`, `input.1`, …
/// need.
fn inputs<'a>(cx: &Ctxt, model: &'a Model, flow: &DataFlow<'a>) -> Inputs<'a> {
    let mut used = 0;
    flow.walk(&mut |part| {
        if let FlowExpr::Part(whole, index) = part
            && matches!(**whole, FlowExpr::Input)
        {
            used = used.max(index + 1);
        }
    });
    let inputs = match &model.attrs.input {
        Some(InputAttr::Widths(widths)) => Inputs::Widths(widths),
        Some(InputAttr::Shapes(shapes)) => Inputs::Shapes(shapes),
        Some(InputAttr::Width(width)) if used == 0 => Inputs::Width(width),
        Some(InputAttr::Shape(shape)) if used == 0 => Inputs::Shapes(shape),
        Some(one) => {
            let last = used - 1;
            cx.error(
                one.first(),
                format!("`input.{last}` is used, so there are several inputs; give the width of each, as in `#[prune(input = (3, 1))]`"),
            );
            Inputs::Any
        }
        None if used == 0 => Inputs::Any,
        None => Inputs::Count(used),
    };
    let given = match &inputs {
        Inputs::Widths(widths) => widths.last().map(|last| (widths.len(), last)),
        Inputs::Shapes(shapes) => {
            shapes.last().and_then(|shape| shape.first()).map(|last| (shapes.len(), last))
        }
        Inputs::Any | Inputs::Width(_) | Inputs::Count(_) => None,
    };
    if let Some((count, last)) = given
        && used > count
    {
        let part = used - 1;
        cx.error(
            last,
            format!("`input.{part}` is used, but there are widths for {count} inputs; add one"),
        );
    }
    let several = match &inputs {
        Inputs::Any | Inputs::Width(_) => false,
        Inputs::Count(_) | Inputs::Widths(_) => true,
        Inputs::Shapes(shapes) => shapes.len() > 1,
    };
    if let (true, Some(first)) = (several, flow.nodes.first())
        && first.field.attrs.from.is_none()
    {
        let name = first.field.name();
        cx.error(
            first.field.place(),
            format!("the input is several tensors, so `{name}` must say which it reads; write `#[prune(from = input.0)]`"),
        );
    }
    inputs
}

/// Reports nodes that nothing reads: their channels would not be removed together with the channels
/// that they are joined with. The nodes that such a node reads are not reported.
fn check_reached(cx: &Ctxt, model: &Model, flow: &DataFlow) {
    let mut read = vec![false; flow.nodes.len()];
    flow.walk(&mut |part| {
        if let FlowExpr::Node(node) = part {
            read[*node] = true;
        }
    });
    let mut applied = vec![false; flow.nodes.len()];
    flow.walk(&mut |part| {
        if let FlowExpr::Apply(node, _) = part {
            applied[*node] = true;
        }
    });
    for (i, node) in flow.nodes.iter().enumerate().filter(|(i, _)| !read[*i]) {
        let name = node.field.name();
        let message = if applied[i] {
            format!(
                "nothing reads `{name}` itself, only `{name}(…)`; write `{name}` where it reads its own input (`from`, or the field before it), and `{name}(…)` for the other inputs"
            )
        } else {
            format!(
                "`{name}` never reaches the output, so its channels would not follow what it is joined with; \
                 write for instance `#[prune(output = {})]`, or `#[prune(skip)]` on it if it holds no channels",
                joined(model, flow, &name)
            )
        };
        cx.error(node.field.place(), message);
    }
}

/// An example of an output expression that includes `name`, for an error.
fn joined(model: &Model, flow: &DataFlow, name: &str) -> String {
    match &model.attrs.output {
        Some(Attr { value: Expr::Tuple(tuple), .. }) => {
            let parts = tuple
                .elems
                .iter()
                .map(|part| part.to_token_stream().to_string())
                .collect::<Vec<_>>()
                .join(", ");
            format!("({parts}, {name})")
        }
        Some(output) => format!("{} + {name}", output.value.to_token_stream()),
        None => flow
            .nodes
            .last()
            .map_or_else(String::new, |last| format!("{} + {name}", last.field.name())),
    }
}

impl DataFlow<'_> {
    /// Calls `see` for every part of every expression.
    pub(crate) fn walk(&self, see: &mut impl FnMut(&FlowExpr)) {
        self.nodes.iter().for_each(|node| node.from.walk(see));
        self.output.walk(see);
    }
}
