//! Where it all goes: text for people, or JSON.

use std::fmt::Write as _;
use std::io::{self, Stderr, Stdout, Write as _};

use anstream::AutoStream;
use serde::Serialize;

use crate::args::Show;
use crate::bench::Measured;
use crate::json;
use crate::run::{Checked, Opened};
use crate::show;
use crate::trouble::Trouble;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    People,
    Json,
    Quiet,
}

/// What the program says.
#[derive(Debug)]
pub(crate) struct Output {
    mode: Mode,
    /// Nothing is cut.
    full: bool,
    out: AutoStream<Stdout>,
    err: AutoStream<Stderr>,
    /// The agreement that was shown last: connections that agree on the same say it once.
    shown: Option<String>,
}

impl Output {
    pub(crate) fn new(args: &Show) -> Self {
        Self {
            mode: match args {
                Show { json: true, .. } => Mode::Json,
                Show { quiet: true, .. } => Mode::Quiet,
                _ => Mode::People,
            },
            full: args.full,
            out: args.color.on(io::stdout()),
            err: args.color.on(io::stderr()),
            shown: None,
        }
    }

    /// A connection, and what it begins with.
    pub(crate) fn opened(&mut self, opened: &Opened<'_>) -> Result<(), Trouble> {
        if self.mode != Mode::People {
            return Ok(());
        }
        let agreement = format!("{:?}", opened.agreement);
        if self.shown.as_ref() == Some(&agreement) {
            return self.say("Another connection\n\n");
        }
        self.shown = Some(agreement);
        self.say(&show::opened(opened))
    }

    /// What became of a mail.
    pub(crate) fn checked(&mut self, checked: &Checked<'_>) -> Result<(), Trouble> {
        match self.mode {
            Mode::People => self.say(&show::checked(checked, self.full)),
            Mode::Json => self.object(&json::Checked::from(checked)),
            Mode::Quiet => match &checked.broken {
                Some(broken) => {
                    self.warn(&show::broken(broken));
                    Ok(())
                }
                None => Ok(()),
            },
        }
    }

    /// What a load test measured.
    pub(crate) fn measured(&mut self, measured: &Measured) -> Result<(), Trouble> {
        match self.mode {
            Mode::People => self.say(&measured.text()),
            Mode::Json => self.object(&measured.object()),
            Mode::Quiet => {
                self.warn(&measured.errors());
                Ok(())
            }
        }
    }

    /// Whether progress may be shown on standard error.
    pub(crate) fn shows_progress(&self) -> bool {
        self.mode != Mode::Quiet && self.err.is_terminal()
    }

    /// What keeps the program from its work; in JSON also where the results would be.
    pub(crate) fn complain(&mut self, trouble: &Trouble) {
        if trouble.is_unheard() {
            return;
        }
        if self.mode == Mode::Json {
            // Standard error is told anyhow.
            let _ = self.object(&json::Nothing::from(trouble));
        }
        self.warn(&show::trouble(trouble));
    }

    fn warn(&mut self, text: &str) {
        // There is no other place to say so.
        let _ = self.err.write_all(text.as_bytes());
    }

    fn say(&mut self, text: &str) -> Result<(), Trouble> {
        let said = self.out.write_all(text.as_bytes());
        said.and_then(|()| self.out.flush())
            .map_err(Trouble::Output)
    }

    fn object(&mut self, object: &impl Serialize) -> Result<(), Trouble> {
        let line = serde_json::to_string(object).map_err(|error| Trouble::Output(error.into()))?;
        self.say(&(safe(&line) + "\n"))
    }
}

/// JSON without what a terminal would obey: it may be shown on one, too. All of it but ASCII stands
/// within strings, where it may be escaped.
fn safe(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for char in json.chars() {
        let is_obeyed = char == '\u{7f}' || !char.is_ascii() && char.escape_debug().len() > 1;
        if is_obeyed {
            for unit in char.encode_utf16(&mut [0; 2]) {
                let _ = write!(safe, "\\u{unit:04x}");
            }
        } else {
            safe.push(char);
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_safe_to_show_and_stays_what_it_says() {
        let text = "caf\u{e9} \u{1b}[2J \u{9b}31m \u{7f} \u{202e} \u{e0001} \"\\ \u{1f600}";
        let shown = safe(&serde_json::to_string(text).unwrap());
        assert!(!shown.chars().any(char::is_control), "{shown}");
        assert!(!shown.contains(['\u{202e}', '\u{e0001}']), "{shown}");
        assert!(shown.contains("caf\u{e9}"), "{shown}");
        let read: String = serde_json::from_str(&shown).unwrap();
        assert_eq!(read, text);
    }
}
