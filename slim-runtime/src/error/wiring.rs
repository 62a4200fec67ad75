//! Data flows that cannot be, and layers that cannot be slimmed.

/// The layers do not fit the data flow between them, or a layer cannot be slimmed.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum WiringError {
    /// A layer takes another number of channels than the flow in front of it has.
    #[error("`{path}` takes {expected} {unit}{}, but {source_name} gives {found}{hint}", if *.expected == 1 { "" } else { "s" })]
    Width {
        /// Field path of the layer.
        path: String,
        /// Width of the layer's weight.
        expected: i64,
        /// What the width counts: `channel`, or `feature` of a flattened flow.
        unit: &'static str,
        /// What gives the flow.
        source_name: String,
        /// Width of the flow.
        found: i64,
        /// What else it may be, and the fix; empty where nothing more is known.
        hint: String,
    },

    /// A tuple of flows reached a layer that takes one.
    #[error(
        "`{path}` takes one flow of channels, but gets a tuple of {found}; name one of its parts, `.0` for the first"
    )]
    Tuple {
        /// Field path of the layer.
        path: String,
        /// How many flows the tuple has.
        found: usize,
    },

    /// Two flows that must have the same width have not.
    #[error("`{path}`: {} ({} channels) {operator} {} ({} channels): widths differ", .left.0, .left.1, .right.0, .right.1)]
    Union {
        /// Field path of the struct that joins them.
        path: String,
        /// `+` or `*`.
        operator: &'static str,
        /// What gives the first flow, and its width.
        left: (String, usize),
        /// What gives the second flow, and its width.
        right: (String, usize),
    },

    /// A flow's width is no multiple of the number of equal parts that it is cut into.
    #[error(
        "`{path}`: {operation} cuts {source_name} ({width} channels) into {parts} equal parts, but {width} is not a multiple of {parts}; choose a width that is"
    )]
    Parts {
        /// Field path of the struct or layer that cuts.
        path: String,
        /// `chunk`, `shuffle`, `pixel_shuffle`, or the groups of a convolution.
        operation: &'static str,
        /// What gives the flow.
        source_name: String,
        /// Its width.
        width: usize,
        /// How many parts there are to be.
        parts: usize,
    },

    /// A flow is not made of whole blocks.
    #[error(
        "`{path}`: {operation} makes one channel of every {block}, but {source_name} has {width}, which is not a multiple of {block}; choose a width that is"
    )]
    Blocks {
        /// Field path of the struct that cuts.
        path: String,
        /// `pixel_shuffle` or `unflatten`.
        operation: &'static str,
        /// What gives the flow.
        source_name: String,
        /// Its width.
        width: usize,
        /// How many channels become one.
        block: usize,
    },

    /// A tensor of several is asked for that is not there.
    #[error("`{path}`: part {index} is asked for, but there {}", if *.found == 1 { "is one tensor".to_owned() } else { format!("are {} tensors", .found) })]
    Part {
        /// Field path of the struct that asks.
        path: String,
        /// Which tensor.
        index: usize,
        /// How many there are.
        found: usize,
    },

    /// The flow is still open: nothing has fixed how many channels the model's input has.
    #[error(
        "`{path}`: the number of input channels is not known here; write `#[prune(input = 3)]` on the struct"
    )]
    OpenInput {
        /// Field path of the struct that asked.
        path: String,
    },

    /// A hand-written `trace` describes a layer that cannot be.
    #[error("`{path}`: {reason}")]
    Layer {
        /// Field path of the layer.
        path: String,
        /// What is wrong, and the fix.
        reason: String,
    },

    /// State stored in a layer does not fit the flow that it was declared to describe.
    #[error("`{path}`: `{name}` should be {expected}, as the flow is, but is {found}")]
    State {
        /// Field path of the layer.
        path: String,
        /// Name of the state.
        name: String,
        /// What the flow asks for.
        expected: String,
        /// What the layer stores.
        found: String,
    },

    /// `trace` declared state that `layers_mut` does not reach, or the other way round.
    #[error(
        "`{path}`: `{name}` is declared in `{declared}` but not in `{missing}`; a hand-written `Prunable` must name its state in both"
    )]
    UnreachedState {
        /// Field path of the layer.
        path: String,
        /// Name of the state.
        name: String,
        /// The method that names it.
        declared: &'static str,
        /// The method that does not.
        missing: &'static str,
    },

    /// A plain tch depthwise convolution: its number of groups is private and would be wrong
    /// afterwards.
    #[error(
        "`{path}` is a depthwise convolution, and tch keeps its number of groups to itself; build it with the function of the same name in `slim_runtime::nn`, such as `conv2d` (same signature), whose groups follow the weight"
    )]
    PrivateGroups {
        /// Field path of the layer.
        path: String,
    },

    /// A tensor that a layer binds has a shape that the layer cannot have.
    #[error("`{path}.{tensor}` has shape {shape:?}, which {rule}")]
    Shape {
        /// Field path of the layer.
        path: String,
        /// Name of the tensor in it.
        tensor: String,
        /// Its shape.
        shape: Vec<i64>,
        /// What the shape should be.
        rule: String,
    },

    /// A bound tensor is computed from others, so that replacing its data would not reach the
    /// variable behind it.
    #[error(
        "`{path}.{tensor}` is computed from another tensor, so slimming it would not reach the variable in the store; keep the variable itself in the field"
    )]
    NotALeaf {
        /// Field path of the layer.
        path: String,
        /// Name of the tensor in it.
        tensor: String,
    },

    /// Two fields share memory but not the tensor: one would be slimmed and the other not.
    #[error(
        "`{path}.{tensor}` shares the memory of `{owner}` but is another tensor (a `detach` or a view), so only one of the two would be slimmed; share it with `shallow_clone`"
    )]
    NotShared {
        /// Field path of the layer.
        path: String,
        /// Name of the tensor in it.
        tensor: String,
        /// Path of the tensor that it shares memory with.
        owner: String,
    },
}
