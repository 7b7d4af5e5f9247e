//! Why a file is no recording.

use std::io;

/// Why a [recording](super::Recording) cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordingError {
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The first line is not that of a recording.
    #[error("line 1: this is no recording: it does not begin with \"milter-recording 1\"")]
    NoRecording,
    /// It has a version of the format that is not known.
    #[error("line 1: version {0} of the format is not known, only 1 is")]
    Version(u32),
    /// A line cannot be read.
    #[error("line {line}: {error}")]
    #[non_exhaustive]
    Line {
        /// Which, from 1.
        line: usize,
        /// What is wrong with it.
        error: LineError,
    },
}

impl RecordingError {
    pub(super) const fn line(line: usize, error: LineError) -> Self {
        Self::Line { line, error }
    }
}

/// What is wrong with a line of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LineError {
    /// It does not begin with the number of a connection.
    #[error("it does not begin with the number of a connection")]
    Connection,
    /// The time is none.
    #[error("the time is not written as seconds with six places, such as 0.001200")]
    Time,
    /// It does not say who said what.
    #[error("behind the time stands none of > < >? <? >. <.")]
    Mark,
    /// A frame has no letter, or several.
    #[error("a frame has exactly one letter, separated from its payload by a space")]
    Letter,
    /// An escape is none.
    #[error(r"a backslash begins none of \0 \t \n \r \\ \xHH")]
    Escape,
    /// A byte is not printable ASCII.
    #[error("the byte {0:#04x} must be written as an escape")]
    Byte(
        /// The byte.
        u8,
    ),
    /// The file ends within it.
    #[error("the file ends within it, before its LF: part of the recording is missing")]
    NoEnd,
    /// Something stands behind the end.
    #[error("something stands behind the end of what a side said")]
    Left,
}
