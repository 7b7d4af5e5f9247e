//! Lines of fields, in logfmt or JSON. Whatever a field holds, it is one line.

use std::fmt::{Display, Write};

/// The most bytes of a value that are shown: a client may send 64 KiB in some.
const MAX_VALUE: usize = 1000;

/// How a line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Format {
    #[default]
    Logfmt,
    Json,
}

/// A line in the making.
#[derive(Debug)]
pub(super) struct Line {
    out: String,
    format: Format,
}

// Writing to a string does not fail.
impl Line {
    pub(super) fn new(format: Format) -> Self {
        // Most lines fit.
        let mut out = String::with_capacity(512);
        if format == Format::Json {
            out.push('{');
        }
        Self { out, format }
    }

    fn key(&mut self, key: &str) {
        match self.format {
            Format::Logfmt => {
                if !self.out.is_empty() {
                    self.out.push(' ');
                }
                let _ = write!(self.out, "{key}=");
            }
            Format::Json => {
                if self.out.len() > 1 {
                    self.out.push(',');
                }
                let _ = write!(self.out, "\"{key}\":");
            }
        }
    }

    /// A text from anywhere.
    pub(super) fn text(&mut self, key: &str, text: impl AsRef<[u8]>) {
        self.key(key);
        self.value(text.as_ref());
    }

    /// A text from anywhere, if there is one.
    pub(super) fn optional(&mut self, key: &str, text: Option<impl AsRef<[u8]>>) {
        if let Some(text) = text {
            self.text(key, text);
        }
    }

    /// A number.
    pub(super) fn number(&mut self, key: &str, number: impl Display) {
        self.key(key);
        let _ = write!(self.out, "{number}");
    }

    /// Texts from anywhere. In logfmt one text, with commas between them.
    pub(super) fn list<T: AsRef<[u8]>>(&mut self, key: &str, texts: impl Iterator<Item = T>) {
        if self.format == Format::Logfmt {
            let texts: Vec<T> = texts.collect();
            let texts: Vec<&[u8]> = texts.iter().map(AsRef::as_ref).collect();
            // Each is short, or cut; together they are as long as the operator said.
            self.key(key);
            self.quoted(|line| {
                for (index, text) in texts.iter().enumerate() {
                    if index > 0 {
                        line.out.push(',');
                    }
                    line.escaped(text);
                }
            });
            return;
        }
        self.key(key);
        self.out.push('[');
        for (index, text) in texts.enumerate() {
            if index > 0 {
                self.out.push(',');
            }
            self.value(text.as_ref());
        }
        self.out.push(']');
    }

    /// How many there are of each, but for none.
    pub(super) fn counts(&mut self, key: &str, counts: impl Iterator<Item = (&'static str, u32)>) {
        let counts = counts.filter(|(_, count)| *count > 0);
        match self.format {
            Format::Logfmt => {
                let counts: Vec<String> = counts.map(|(name, n)| format!("{name}:{n}")).collect();
                self.text(key, counts.join(","));
            }
            Format::Json => {
                self.key(key);
                for (index, (name, count)) in counts.enumerate() {
                    let before = if index == 0 { '{' } else { ',' };
                    let _ = write!(self.out, "{before}\"{name}\":{count}");
                }
                self.out.push('}');
            }
        }
    }

    pub(super) fn finish(mut self) -> String {
        if self.format == Format::Json {
            self.out.push('}');
        }
        self.out
    }

    fn value(&mut self, text: &[u8]) {
        let is_plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b'=');
        if self.format == Format::Logfmt && !text.is_empty() && text.iter().all(is_plain) {
            self.escaped(text);
        } else {
            self.quoted(|line| line.escaped(text));
        }
    }

    fn quoted(&mut self, inner: impl FnOnce(&mut Self)) {
        self.out.push('"');
        inner(self);
        self.out.push('"');
    }

    /// The escapes are JSON's, which readers of logfmt know too. A byte that is no text is shown
    /// as `\xe9`, its backslash escaped.
    fn escaped(&mut self, text: &[u8]) {
        let cut = text.get(..MAX_VALUE);
        for chunk in cut.unwrap_or(text).utf8_chunks() {
            for c in chunk.valid().chars() {
                self.push(c);
            }
            for byte in chunk.invalid() {
                let _ = write!(self.out, "\\\\x{byte:02x}");
            }
        }
        if cut.is_some_and(|cut| cut.len() < text.len()) {
            self.out.push_str("...");
        }
    }

    fn push(&mut self, c: char) {
        match c {
            '"' | '\\' => {
                self.out.push('\\');
                self.out.push(c);
            }
            '\n' => self.out.push_str("\\n"),
            '\r' => self.out.push_str("\\r"),
            '\t' => self.out.push_str("\\t"),
            c if deceives(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(self.out, "\\u{unit:04x}");
                }
            }
            c => self.out.push(c),
        }
    }
}

/// What would change how a terminal shows the line, or not be seen at all: controls, breaks of
/// lines, marks of direction, what has no width, tags.
const fn deceives(c: char) -> bool {
    matches!(
        c,
        '\u{0}'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}
