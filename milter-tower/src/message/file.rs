//! The file of a body.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use tokio::runtime::Handle;

/// A file without a name.
#[derive(Debug)]
pub(super) struct TempFile(
    /// Until it is dropped.
    Option<File>,
);

impl TempFile {
    /// Makes one in this directory, or in the system's for such files.
    pub(super) fn new(directory: Option<&Path>) -> io::Result<Self> {
        let file = match directory {
            Some(directory) => tempfile::tempfile_in(directory),
            None => tempfile::tempfile(),
        };
        file.map(Self::from)
    }

    /// Writes all of this at its end.
    pub(super) fn append(&self, bytes: &[u8]) -> io::Result<()> {
        self.get()?.write_all(bytes)
    }

    /// Reads as much as there is room for.
    pub(super) fn read_at(&self, into: &mut [u8], position: u64) -> io::Result<()> {
        self.get()?.read_exact_at(into, position)
    }

    fn get(&self) -> io::Result<&File> {
        self.0
            .as_ref()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl From<File> for TempFile {
    fn from(file: File) -> Self {
        Self(Some(file))
    }
}

/// Gives its space back on a thread that may block: for a large file that takes a while.
impl Drop for TempFile {
    fn drop(&mut self) {
        let file = self.0.take();
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn_blocking(move || drop(file));
        }
    }
}
