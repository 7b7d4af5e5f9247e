//! Mails from files, and into them.

use std::path::Path;
use std::{fs, io};

use bytes::{BufMut, Bytes, BytesMut};

use super::Mail;

/// From and to files.
impl Mail {
    /// A mail with the headers and the body of a file, as mail programs save them (`.eml`): with
    /// CRLF or LF, also mixed. Envelope and client are the usual ones.
    ///
    /// It is cut as the MTAs cut what a client sends. A field is a name of printable ASCII, maybe
    /// white space, and a colon; a line that begins with a space or a tab belongs to the field
    /// before it. The headers end at the empty line, which is dropped, or at the first line that
    /// is nothing of this, which is the body's first one. The body has its lines ended in CRLF.
    /// A `From ` line at the top, as it stands in mailboxes, is dropped.
    ///
    /// Where the two disagree this is Postfix's way: a NUL cuts a line of the headers, where
    /// Sendmail drops only the NUL, and a name may begin with `--`, where for Sendmail the headers
    /// end.
    ///
    /// ```
    /// use milter_tower::client::Mail;
    ///
    /// let mail = Mail::from_eml("Subject: a long\n one\n\nHello\n").to("carol@example.net");
    /// assert_eq!(mail.headers().len(), 1);
    /// assert_eq!(mail.headers().get("Subject").unwrap().raw(), " a long\n one");
    /// assert_eq!(mail.content(), "Hello\r\n");
    /// ```
    pub fn from_eml(eml: impl AsRef<[u8]>) -> Self {
        let mut rest = eml.as_ref();
        // sendmail/collect.c collect (MS_UFROM); Postfix smtpd.c makes X-Mailbox-Line of it
        if rest.starts_with(b"From ") {
            rest = line(rest).1;
        }
        let mut mail = Self::new().without_headers();
        while let Some((name, first)) = field(line(rest).0) {
            let mut value = BytesMut::from(first);
            rest = line(rest).1;
            // Postfix mime_state.c mime_state_update, sendmail/collect.c collect: also a line of
            // nothing but white space goes on
            while rest.starts_with(b" ") || rest.starts_with(b"\t") {
                let (more, after) = line(rest);
                value.put_u8(b'\n');
                value.put_slice(to_nul(more));
                rest = after;
            }
            mail = mail.raw_header(name, value);
        }
        // Without it the body begins here (both as above).
        if let (b"", after) = line(rest) {
            rest = after;
        }
        mail.body(rest)
    }

    /// Reads a mail from a [file](Self::from_eml).
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn read(path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self::from_eml(fs::read(path)?))
    }

    /// The headers and the body as a file, lines of headers ended in CRLF. The body is as it is.
    ///
    /// [Reading](Self::from_eml) gives back the same headers and body, unless the mail has what no
    /// client can send: [raw](Self::raw_header) headers whose name is none or whose lines do not
    /// begin with white space, or a [raw](Self::raw_body) body whose lines do not end in CRLF.
    pub fn to_eml(&self) -> Bytes {
        let mut eml = BytesMut::with_capacity(self.content().len() + 1024);
        for field in &self.headers() {
            eml.put_slice(&field.name());
            eml.put_u8(b':');
            for (n, line) in field.raw().split(|byte| *byte == b'\n').enumerate() {
                if n > 0 {
                    eml.put_slice(b"\r\n");
                }
                eml.put_slice(line);
            }
            eml.put_slice(b"\r\n");
        }
        eml.put_slice(b"\r\n");
        eml.put_slice(self.content());
        eml.freeze()
    }
}

/// The first line without its end, and what follows.
fn line(text: &[u8]) -> (&[u8], &[u8]) {
    let Some(end) = position(b'\n', text) else {
        return (text, b"");
    };
    let (line, rest) = text.split_at(end);
    let rest = rest.get(1..).unwrap_or_default();
    (line.strip_suffix(b"\r").unwrap_or(line), rest)
}

/// The name and the value of a line that begins a field.
// Postfix is_header.c is_header_buf: white space may stand before the colon, which
// mime_state.c takes out; sendmail/headers.c isheader and chompheader do the same
fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, value) = line.split_at(position(b':', line)?);
    let name = name.trim_ascii_end();
    let is_name = !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
    is_name.then_some((name, to_nul(value.get(1..)?)))
}

fn position(byte: u8, text: &[u8]) -> Option<usize> {
    text.iter().position(|other| *other == byte)
}

/// What stands before the first NUL: Postfix keeps headers in C strings.
fn to_nul(line: &[u8]) -> &[u8] {
    line.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(mail: &Mail) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
        let headers = mail.headers();
        headers
            .iter()
            .map(|field| (text(&field.name()), text(&field.raw())))
            .collect()
    }

    fn read(eml: &str) -> (Vec<(String, String)>, String) {
        let mail = Mail::from_eml(eml);
        let body = mail.content().escape_ascii().to_string();
        (headers(&mail), body)
    }

    fn expected(headers: &[(&str, &str)], body: &str) -> (Vec<(String, String)>, String) {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        (headers.iter().map(owned).collect(), body.to_owned())
    }

    #[test]
    fn line_ends_of_either_kind_are_cut_alike() {
        let cut = expected(&[("A", " 1\\n\\t2"), ("B", "3\\n ")], "x\\r\\ny\\r\\n");
        assert_eq!(read("A: 1\n\t2\nB:3\n \n\nx\ny"), cut);
        assert_eq!(read("A: 1\r\n\t2\r\nB:3\r\n \r\n\r\nx\r\ny\r\n"), cut);
    }

    #[test]
    fn headers_end_where_mtas_end_them() {
        for (eml, headers, body) in [
            ("", &[][..], ""),
            ("\n", &[], ""),
            ("\n\n", &[], "\\r\\n"),
            ("\r\nA: 1", &[], "A: 1\\r\\n"),
            ("A: 1", &[("A", " 1")], ""),
            ("A: 1\n\n", &[("A", " 1")], ""),
            // A line that is no field is the body's, with or without a colon.
            (
                "A: 1\nno field\nB: 2\n",
                &[("A", " 1")],
                "no field\\r\\nB: 2\\r\\n",
            ),
            ("A: 1\ntwo words: 2\n", &[("A", " 1")], "two words: 2\\r\\n"),
            ("A: 1\n: 2\n", &[("A", " 1")], ": 2\\r\\n"),
            (
                "A: 1\ncaf\u{e9}: 2\n",
                &[("A", " 1")],
                "caf\\xc3\\xa9: 2\\r\\n",
            ),
            (" A: 1\n\nx\n", &[], " A: 1\\r\\n\\r\\nx\\r\\n"),
            // White space before the colon is not part of the name.
            ("A \t: 1\nB:\n", &[("A", " 1"), ("B", "")], ""),
            ("A: 1\0 2\n 3\0 4\n 5\n", &[("A", " 1\\n 3\\n 5")], ""),
            ("A: 1\r2\n\n3\r4\n", &[("A", " 1\\r2")], "3\\r4\\r\\n"),
            ("From a@b Thu Jan  1\nA: 1\n", &[("A", " 1")], ""),
        ] {
            assert_eq!(read(eml), expected(headers, body), "{eml:?}");
        }
    }

    #[test]
    fn files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("letter.eml");
        fs::write(&path, Mail::new().to_eml()).unwrap();
        let mail = Mail::read(&path).unwrap();
        assert_eq!(mail.headers(), Mail::new().headers());
        assert_eq!(mail.content(), Mail::new().content());
        assert!(Mail::read(dir.path().join("none.eml")).is_err());
    }

    fn pieces(of: &'static [&'static [u8]]) -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop::sample::select(of), 0..30).prop_map(|pieces| pieces.concat())
    }

    /// A name and a value as a client can send them.
    fn a_field() -> impl Strategy<Value = (&'static str, Vec<u8>)> {
        let name = prop::sample::select(&["A", "X-Long-Name", "From", "--", "a!%|~"][..]);
        let value = pieces(&[
            b"x",
            b" ",
            b"\t",
            b"\n ",
            b"\n\t",
            b"\r",
            b":",
            b"\x01",
            b"\x7f",
            b"\xc3\xa9",
            b"\xff",
        ]);
        (name, value)
    }

    proptest! {
        #[test]
        fn what_a_client_can_send_survives(
            fields in prop::collection::vec(a_field(), 0..6),
            body in pieces(&[b"x", b"A: b", b"\r", b"\n", b"\r\n", b"\0", b"\xff", b"."]),
        ) {
            let mail = Mail::new().without_headers().body(body);
            let mail = fields.into_iter().fold(mail, |mail, (name, value)| mail.raw_header(name, value));
            prop_assert_eq!(Mail::from_eml(mail.to_eml()), mail);
        }

        #[test]
        fn what_was_read_once_is_read_again(
            eml in pieces(&[
                b"A", b":", b"From ", b" ", b"\t", b"\r", b"\n", b"\r\n", b"\0", b"\xff", b"-",
            ]),
        ) {
            let mail = Mail::from_eml(eml);
            prop_assert_eq!(Mail::from_eml(mail.to_eml()), mail);
        }
    }
}
