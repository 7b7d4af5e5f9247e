//! The two files of the program `control`: orders for it, and what it saw.
//!
//! Both are lines of words with single spaces between them. In a word `%XX` stands for a byte, and
//! a word that is just `%` for the empty string.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::wait;

/// A word as it stands in the files.
pub fn encode(word: &[u8]) -> String {
    if word.is_empty() {
        return "%".to_owned();
    }
    let mut out = String::with_capacity(word.len());
    for &byte in word {
        if byte <= b' ' || byte >= 0x7F || byte == b'%' {
            let _ = write!(out, "%{byte:02X}");
        } else {
            out.push(char::from(byte));
        }
    }
    out
}

/// The bytes that a word stands for. What is no valid escape stands for itself.
pub fn decode(word: &str) -> Vec<u8> {
    if word == "%" {
        return Vec::new();
    }
    let bytes = word.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        if let Some(byte) = digits.and_then(hex_byte) {
            out.push(byte);
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    out
}

/// The byte that two hexadecimal digits stand for.
fn hex_byte(digits: &[u8]) -> Option<u8> {
    digits.iter().try_fold(0, |byte, digit| {
        let value = char::from(*digit).to_digit(16)?;
        Some(byte << 4 | u8::try_from(value).ok()?)
    })
}

/// A line of the control file, without its end.
pub fn line(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| encode(word.as_bytes())).collect();
    words.join(" ")
}

/// A control file of these lines.
///
/// # Errors
///
/// Those of the file.
pub fn write(path: &Path, lines: &[&[&str]]) -> io::Result<()> {
    let text: String = lines.iter().map(|words| line(words) + "\n").collect();
    fs::write(path, text)
}

/// A line of the trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    words: Vec<Vec<u8>>,
}

impl Event {
    fn parse(line: &str) -> Self {
        Self {
            words: line.split(' ').map(decode).collect(),
        }
    }

    /// What happened: the first word.
    pub fn name(&self) -> String {
        self.text(0)
    }

    /// The bytes of the n-th word; the name is word 0. Empty when there is none.
    pub fn word(&self, n: usize) -> &[u8] {
        self.words.get(n).map_or(&[], Vec::as_slice)
    }

    /// The same as text.
    pub fn text(&self, n: usize) -> String {
        String::from_utf8_lossy(self.word(n)).into_owned()
    }

    /// The words after the name, as text.
    pub fn args(&self) -> Vec<String> {
        (1..self.words.len()).map(|n| self.text(n)).collect()
    }
}

/// A trace file.
#[derive(Debug, Clone)]
pub struct Trace {
    path: PathBuf,
}

impl Trace {
    /// The trace in this file, which need not be there yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Empties it.
    ///
    /// # Errors
    ///
    /// Those of the file.
    pub fn clear(&self) -> io::Result<()> {
        fs::write(&self.path, "")
    }

    /// All whole lines so far.
    pub fn events(&self) -> Vec<Event> {
        let text = fs::read_to_string(&self.path).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(Event::parse).collect()
    }

    /// Waits until the events are as `enough` wants them.
    ///
    /// # Errors
    ///
    /// Says what was waited for, and what is there instead.
    pub fn wait(
        &self,
        what: &str,
        limit: Duration,
        enough: impl Fn(&[Event]) -> bool,
    ) -> Result<Vec<Event>, String> {
        wait::until(what, limit, || {
            Some(self.events()).filter(|events| enough(events))
        })
        .map_err(|error| format!("{error}; the trace is: {}", summary(&self.events())))
    }

    /// Waits until there is an event of this name.
    ///
    /// # Errors
    ///
    /// As [`Trace::wait`].
    pub fn wait_for(&self, name: &str, limit: Duration) -> Result<Vec<Event>, String> {
        self.wait(name, limit, |events| {
            events.iter().any(|event| event.name() == name)
        })
    }

    /// Waits until each connection that negotiated has closed, and there was at least one.
    ///
    /// # Errors
    ///
    /// As [`Trace::wait`].
    pub fn wait_closed(&self, limit: Duration) -> Result<Vec<Event>, String> {
        self.wait("all connections to close", limit, |events| {
            let begun = count(events, "negotiate");
            begun > 0 && begun == count(events, "close")
        })
    }
}

/// How many events have this name.
pub fn count(events: &[Event], name: &str) -> usize {
    events.iter().filter(|event| event.name() == name).count()
}

/// The names of the events in order; of the same one several times in a row only the first.
pub fn summary(events: &[Event]) -> String {
    let mut names: Vec<String> = events.iter().map(Event::name).collect();
    names.dedup();
    names.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_as_they_went() {
        let all: Vec<u8> = (0..=255).collect();
        for word in [&b""[..], b"%", b"a b", b"100%41", &all] {
            let text = encode(word);
            assert!(!text.contains([' ', '\n']) && text.is_ascii(), "{text}");
            assert_eq!(decode(&text), word);
        }
        assert_eq!(encode(b"a %\r"), "a%20%25%0D");
        assert_eq!(decode("%4g%+5%4"), b"%4g%+5%4");
        assert_eq!(
            line(&["eom", "addheader", "X-A", ""]),
            "eom addheader X-A %"
        );
    }

    #[test]
    fn half_a_line_is_not_read_yet() {
        let dir = tempfile::tempdir().unwrap();
        let trace = Trace::new(dir.path().join("trace"));
        assert!(trace.events().is_empty());
        fs::write(trace.path(), "header X-A %\nheader X-B b%20c\neo").unwrap();
        let events = trace.events();
        assert_eq!(summary(&events), "header");
        assert_eq!(events[1].args(), ["X-B", "b c"]);
        assert!(
            trace
                .wait_for("eom", Duration::ZERO)
                .unwrap_err()
                .contains("header")
        );
    }
}
