//! Tracing: records the operations of `forward`.

use tch::{CModule, TchError, Tensor};

use crate::error::LibtorchError;
use crate::panics::caught;

/// Traces `run`. Afterwards, also after an error, no trace is in progress.
///
/// # Errors
/// When `run` panics or cannot be traced, in words.
pub(super) fn trace(
    inputs: &[Tensor],
    run: &impl Fn(&[Tensor]) -> Tensor,
) -> Result<CModule, String> {
    let mut panic = None;
    let traced = CModule::create_by_tracing("Network", "forward", inputs, &mut |inputs| {
        // A panic must not leave the thread in the middle of a trace, so the trace ends without
        // outputs.
        match caught(|| run(inputs)) {
            Ok(output) => vec![output],
            Err(message) => {
                panic = Some(message);
                Vec::new()
            }
        }
    });
    match (panic, traced) {
        (Some(message), _) => Err(untraceable(&message)),
        (None, Ok(module)) => Ok(module),
        (None, Err(error)) => {
            abandon();
            Err(untraceable(&words(error)))
        }
    }
}

/// Takes the thread out of a trace that could not be ended: libtorch refuses to begin a second
/// trace, and gives up the first one.
fn abandon() {
    let _ = CModule::create_by_tracing("Nothing", "forward", &[], &mut |_| Vec::new());
}

/// Why a pass that runs cannot be traced. Rephrases messages in which libtorch would print whole
/// tensors.
fn untraceable(words: &str) -> String {
    let reason = if words.contains("did not have observable data dependence") {
        "no operation of libtorch's gives its output, which is a tensor that was there before"
    } else if words.contains("requires grad") {
        "a tensor that is not in the network's fields requires a gradient, which a trace cannot hold; freeze it first, with `VarStore::freeze` or `set_requires_grad(false)`"
    } else if words.contains("Unsupported value kind: Tensor") {
        "no trace holds a tensor in oneDNN's blocked layout, or a sparse one; export the network before its weights are laid out so"
    } else {
        words
    };
    format!("its forward pass cannot be traced: {reason}")
}

/// The message of libtorch, without the position in its own code.
pub(super) fn words(error: TchError) -> String {
    LibtorchError(error).to_string().trim().to_owned()
}
