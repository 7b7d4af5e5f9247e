//! Code of the user's runs here: what it throws goes no further.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::Failure;

/// Runs code of the user's; a panic becomes a failure.
pub(crate) fn guard<R>(run: impl FnOnce() -> R) -> Result<R, Failure> {
    // Whatever the panic left behind is dropped and not looked at again.
    catch_unwind(AssertUnwindSafe(run)).map_err(|payload| Failure::Panic(message(payload)))
}

/// What a panic said.
pub(crate) fn message(payload: Box<dyn Any + Send>) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let message = text.unwrap_or("a value that is no text").to_owned();
    // Dropping what was thrown could panic again.
    std::mem::forget(payload);
    message
}
