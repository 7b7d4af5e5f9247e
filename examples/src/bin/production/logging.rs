//! What is logged besides messages.

use std::io::{self, IsTerminal};
use std::panic;

use milter_tower::BoxError;
use tracing::error;
use tracing_subscriber::EnvFilter;

use crate::args::{LogFormat, Told};

/// Logs to standard error, panics too.
pub(crate) fn init(args: &Told) -> Result<(), BoxError> {
    let filter = EnvFilter::try_new(&args.log).map_err(|error| format!("--log: {error}"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    match args.log_format {
        LogFormat::Json => builder
            .json()
            .flatten_event(true)
            .with_span_list(true)
            .with_current_span(false)
            .init(),
        LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).init(),
    }
    // A backtrace in many lines would be no JSON.
    panic::set_hook(Box::new(|panic| {
        let at = panic.location().map(ToString::to_string);
        let said = panic.payload();
        let text = said.downcast_ref::<String>().map(String::as_str);
        let said = text.or_else(|| said.downcast_ref::<&str>().copied());
        let said = said.unwrap_or("no text");
        error!(at, "panic: {said}");
    }));
    Ok(())
}
