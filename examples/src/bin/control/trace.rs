//! The trace file.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::words;

/// Where it is written down what the filter saw.
///
/// Each line is one write to a file that is opened anew, so that connections do not mix, and the
/// file may be emptied or removed at any time.
#[derive(Clone, Debug)]
pub(crate) struct Trace(Arc<Path>);

impl Trace {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(path.into())
    }

    /// Appends a line.
    pub(crate) fn line<W: AsRef<[u8]>>(&self, words: impl IntoIterator<Item = W>) {
        let mut line = Vec::new();
        for word in words {
            words::push(&mut line, word.as_ref());
        }
        line.push(b'\n');
        if let Err(error) = self.append(&line) {
            tracing::error!(path = %self.0.display(), %error, "cannot write the trace");
        }
    }

    fn append(&self, line: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().append(true).create(true).open(&self.0)?;
        file.write_all(line)
    }
}
