//! What an MTA and a milter said to each other, kept in a file, and played again.
//!
//! The program `milter-trace` writes such files, from between the two. Read by a test, a
//! [`Recording`] [replays](Recording::replay) the MTA's side before a filter, and compares what that
//! answers with what was recorded: so what once went wrong in production becomes a test.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! use milter_tower::testing::Recording;
//! use milter_tower::{Recipient, Router, SmtpReply};
//!
//! // Usually: Recording::read("tests/recordings/relay")
//! let recording: Recording = r"milter-recording 1
//! 1 0.000000 > O \0\0\0\x06\0\0\x01\xff\0\x1f\xff\xff
//! 1 0.000310 < O \0\0\0\x06\0\0\0\0\0\0\x03w
//! 1 0.002100 > R <bob@example.net>\0
//! 1 0.002480 < y 550 5.7.1 We do not relay\0
//! 1 0.003900 > Q
//! "
//! .parse()
//! .unwrap();
//!
//! let filter = Router::new().on_rcpt(async |_: Recipient| SmtpReply::reject("We do not relay"));
//! recording.replay(filter).ignore_negotiation().await.assert_same();
//!
//! let changed = Router::new().on_rcpt(async |_: Recipient| SmtpReply::reject("Go away"));
//! let replayed = recording.replay(changed).ignore_negotiation().await;
//! let shown = replayed.to_string();
//! assert!(shown.contains("- 550 5.7.1 We do not relay\n"));
//! assert!(shown.contains("+ 550 5.7.1 Go away\n"));
//! # }
//! ```
//!
//! # The format
//!
//! Lines of ASCII text, each ended by LF. The first is `milter-recording 1`: name and version of the
//! format. Empty lines and those that begin with `#` mean nothing. Each other line is an [`Entry`]:
//! fields separated by one space.
//!
//! ```text
//! CONNECTION SECONDS MARK [LETTER] [BYTES]
//! ```
//!
//! - `CONNECTION`: the number of the connection, from 1. Those of several connections may be mixed.
//! - `SECONDS`: when it was seen, in seconds from the beginning of the recording, with six places.
//! - `MARK`: who said it, `>` the MTA and `<` the milter, and what it was: nothing more for a frame,
//!   `?` for bytes that are none, `.` for the end of what that side had to say.
//! - `LETTER`: a frame's command or reply.
//! - `BYTES`: its payload, or the bytes that are no frame; left out if empty. Printable ASCII stands
//!   for itself; the rest is written `\0`, `\t`, `\n`, `\r`, `\\` or `\xHH`, and so is a space at the
//!   end.
//!
//! Nothing is left out or changed, so that bytes read from a file are those that were sent. A
//! recording so holds all of the mail and its envelope, and what the MTA told of who is logged in:
//! keep it as you would keep the mail. Lengths are not written, so that texts can be changed with an
//! editor.

mod compare;
mod course;
mod cut;
mod entry;
mod error;
mod exchange;
mod play;
mod replay;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::str::FromStr;

pub use self::cut::Cutter;
pub use self::entry::{Entry, Said, Side};
pub use self::error::{LineError, RecordingError};
pub use self::replay::{Difference, Replay, Replayed};

use crate::{BoxError, Request, Response};
use tower_service::Service;

/// The first line of a recording, without its version.
const NAME: &str = "milter-recording";
/// The version of the format.
const VERSION: u32 = 1;

/// What MTAs and a milter said to each other; see the [module](self).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recording {
    connections: Vec<Connection>,
}

/// A connection of a [`Recording`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    number: u64,
    entries: Vec<Entry>,
    /// The line of each entry.
    lines: Vec<usize>,
}

/// A recording that is being put together.
#[derive(Debug, Default)]
struct Reading {
    recording: Recording,
    /// Where the connection of a number is: there may be very many.
    places: HashMap<u64, usize>,
}

impl Reading {
    fn push(&mut self, entry: Entry, line: usize) {
        let Self { recording, places } = self;
        let connections = &mut recording.connections;
        let place = *places.entry(entry.connection).or_insert(connections.len());
        if let Some(known) = connections.get_mut(place) {
            known.entries.push(entry);
            known.lines.push(line);
        } else {
            connections.push(Connection {
                number: entry.connection,
                entries: vec![entry],
                lines: vec![line],
            });
        }
    }
}

impl Recording {
    /// Reads a recording from a file.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or it is no recording; with the number of the first wrong line.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, RecordingError> {
        Self::from_bytes(&fs::read(path)?)
    }

    /// Reads a recording from the bytes of a file.
    ///
    /// # Errors
    ///
    /// It is no recording; with the number of the first wrong line.
    pub fn from_bytes(text: &[u8]) -> Result<Self, RecordingError> {
        let mut lines = text.split_inclusive(|byte| *byte == b'\n').zip(1..);
        check_first(lines.next().map(|(line, _)| line).unwrap_or_default())?;
        let mut reading = Reading::default();
        for (line, at) in lines {
            // Else what is missing of it would be taken for what was never said.
            let line = line.strip_suffix(b"\n");
            let line = line.ok_or(RecordingError::line(at, LineError::NoEnd))?;
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let entry = Entry::from_line(line).map_err(|error| RecordingError::line(at, error))?;
            reading.push(entry, at);
        }
        Ok(reading.recording)
    }

    /// The connections, in the order in which they began.
    pub fn connections(&self) -> &[Connection] {
        &self.connections
    }

    /// Plays the MTAs' side of all connections before a filter, one after the other, and compares
    /// what it answers with what was recorded; see [`Replay`].
    pub fn replay<S>(&self, filter: S) -> Replay<'_, S>
    where
        S: Service<Request, Response = Response, Future: Send> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
    {
        Replay::new(&self.connections, filter)
    }
}

impl Connection {
    /// Its number in the recording.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// What was said, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entries, each with its line in the file.
    fn numbered(&self) -> impl Iterator<Item = (&Entry, usize)> {
        self.entries.iter().zip(self.lines.iter().copied())
    }
}

impl FromStr for Recording {
    type Err = RecordingError;

    fn from_str(text: &str) -> Result<Self, RecordingError> {
        Self::from_bytes(text.as_bytes())
    }
}

/// A recording of these entries. The lines of [differences](Difference::line) are those that a
/// [`Recorder`] gives them.
impl FromIterator<Entry> for Recording {
    fn from_iter<T: IntoIterator<Item = Entry>>(entries: T) -> Self {
        let mut reading = Reading::default();
        for (entry, line) in entries.into_iter().zip(2..) {
            reading.push(entry, line);
        }
        reading.recording
    }
}

/// The recording as a file has it, one connection after the other.
impl fmt::Display for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{NAME} {VERSION}")?;
        let all = self.connections.iter().flat_map(|one| &one.entries);
        all.into_iter().try_for_each(|entry| writeln!(f, "{entry}"))
    }
}

fn check_first(line: &[u8]) -> Result<(), RecordingError> {
    let line = std::str::from_utf8(line).unwrap_or_default().trim_end();
    let (name, version) = line.split_once(' ').unwrap_or_default();
    match version.parse() {
        Ok(VERSION) if name == NAME => Ok(()),
        Ok(version) if name == NAME => Err(RecordingError::Version(version)),
        _ => Err(RecordingError::NoRecording),
    }
}

/// Writes a recording, entry by entry.
///
/// Each entry is one write of a whole line.
///
/// ```
/// use milter_tower::testing::Recording;
/// use milter_tower::testing::recording::{Entry, Recorder, Said, Side};
///
/// let mut recorder = Recorder::new(Vec::new())?;
/// let quit = Said::frame(b'Q', "");
/// recorder.write(&Entry::new(1, std::time::Duration::from_millis(3), Side::Mta, quit))?;
/// let file = recorder.into_inner();
/// assert_eq!(file, b"milter-recording 1\n1 0.003000 > Q\n");
/// assert_eq!(Recording::from_bytes(&file)?.connections().len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Recorder<W> {
    to: W,
    line: String,
}

impl<W: Write> Recorder<W> {
    /// Begins a recording: writes the first line.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn new(mut to: W) -> io::Result<Self> {
        to.write_all(format!("{NAME} {VERSION}\n").as_bytes())?;
        Ok(Self {
            to,
            line: String::new(),
        })
    }

    /// Writes an entry.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn write(&mut self, entry: &Entry) -> io::Result<()> {
        use fmt::Write as _;
        self.line.clear();
        writeln!(self.line, "{entry}").map_err(io::Error::other)?;
        self.to.write_all(self.line.as_bytes())
    }

    /// Flushes what it writes to.
    ///
    /// # Errors
    ///
    /// It cannot be flushed.
    pub fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }

    /// What it writes to.
    pub fn into_inner(self) -> W {
        self.to
    }
}
