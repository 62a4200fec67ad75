//! Catches panics and turns them into messages.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// Whether a panic of this thread is expected. An expected panic is not printed, since
    /// libtorch's backtrace would fill the screen.
    static EXPECTED: Cell<bool> = const { Cell::new(false) };

    /// Location of the last expected panic: file, line and column.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `body`. A panic is not printed; its message is returned.
pub fn caught<T>(body: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let print = take_hook();
        set_hook(Box::new(move |info| {
            if !EXPECTED.get() {
                return print(info);
            }
            PLACE.set(info.location().map(ToString::to_string));
        }));
    });
    let before = EXPECTED.replace(true);
    let done = catch_unwind(AssertUnwindSafe(body));
    EXPECTED.set(before);
    done.map_err(|panic| message(&*panic))
}

/// Like [`caught`]. Also returns the location of the panic, if that is in a user's code and not in
/// a library or in Rust's own.
pub(crate) fn caught_at<T>(body: impl FnOnce() -> T) -> Result<T, (String, Option<String>)> {
    PLACE.set(None);
    caught(body).map_err(|message| {
        let is_theirs = |place: &String| {
            !["/rustc/", "/registry/", "/git/checkouts/"]
                .iter()
                .any(|library| place.contains(library))
        };
        (message, PLACE.take().filter(is_theirs))
    })
}

/// The message of a panic. For a panic of tch it is libtorch's message without the location in
/// libtorch's code.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let text = text.unwrap_or("a value that is no text");
    // tch unwraps, so its errors arrive in their `Debug` form, with escaped line breaks.
    let words = text.strip_prefix("called `Result::unwrap()` on an `Err` value: ").unwrap_or(text);
    let words = words.strip_prefix("Torch(\"").unwrap_or(words);
    let end = ["\\nException raised from", "\nException raised from"]
        .iter()
        .filter_map(|mark| words.find(mark))
        .min();
    words[..end.unwrap_or(words.len())].to_owned()
}

#[cfg(test)]
mod tests {
    use tch::Tensor;

    use super::*;

    #[test]
    fn tchs_panics_are_libtorchs_words() {
        let sum = caught(|| Tensor::from_slice(&[1., 2.]) + Tensor::from_slice(&[1., 2., 3.]));
        assert_eq!(
            sum.unwrap_err(),
            "The size of tensor a (2) must match the size of tensor b (3) at non-singleton dimension 0"
        );
    }

    #[test]
    fn other_panics_are_their_text() {
        let number = 3;
        assert_eq!(caught(|| panic!("{number} is odd")), Err::<(), _>("3 is odd".to_owned()));
        assert_eq!(
            caught(|| std::panic::panic_any(3)),
            Err::<(), _>("a value that is no text".to_owned())
        );
        assert_eq!(caught(|| number), Ok(3));
        assert!(!EXPECTED.get());
    }
}
