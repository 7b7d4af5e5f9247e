//! Colours, and when there are some.

use anstream::stream::RawStream;
use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use clap::ValueEnum;

/// Headings.
pub const BOLD: Style = Style::new().bold();
/// What is of little interest.
pub const DIM: Style = Style::new().dimmed();
/// What is refused, is gone, or failed.
pub const RED: Style = AnsiColor::Red.on_default();
/// What is accepted, or new.
pub const GREEN: Style = AnsiColor::Green.on_default();
/// What is put off, or changed.
pub const YELLOW: Style = AnsiColor::Yellow.on_default();
/// What is thrown away.
pub const MAGENTA: Style = AnsiColor::Magenta.on_default();

/// Whether to write in colours, as an option of a command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless the variable `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Color {
    /// Whether there are some on what is written to.
    pub fn is_on<S: RawStream>(self, stream: &S) -> bool {
        match self {
            // Also CLICOLOR, CLICOLOR_FORCE, and a terminal that knows no colours.
            Self::Auto => AutoStream::choice(stream) != ColorChoice::Never,
            Self::Always => true,
            Self::Never => false,
        }
    }

    /// What drops the colours where there are to be none.
    pub fn on<S: RawStream>(self, stream: S) -> AutoStream<S> {
        let choice = if self.is_on(&stream) {
            ColorChoice::Always
        } else {
            ColorChoice::Never
        };
        AutoStream::new(stream, choice)
    }
}
