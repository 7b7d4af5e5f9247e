//! Messages to send, and reading those that arrived.

/// A message and its envelope, as a client sends it. It begins with a sender, a helo name and the
/// usual headers; recipients are the test's.
#[derive(Debug, Clone)]
pub struct Mail {
    pub(crate) helo: String,
    pub(crate) sender: String,
    pub(crate) sender_args: String,
    pub(crate) recipients: Vec<(String, String)>,
    headers: Vec<String>,
    body: Vec<u8>,
}

/// The sender of a [`Mail`] unless told otherwise.
pub const SENDER: &str = "<alice@example.org>";
/// The recipient of [`Mail::to_bob`].
pub const BOB: &str = "<bob@example.net>";

impl Mail {
    /// A message without recipients.
    pub fn new() -> Self {
        let headers = [
            "From: Alice <alice@example.org>",
            "To: Bob <bob@example.net>",
            "Subject: test message",
            "Date: Mon, 06 Jan 2025 10:00:00 +0000",
            "Message-ID: <1@example.org>",
        ];
        Self {
            helo: "client.example.org".to_owned(),
            sender: SENDER.to_owned(),
            sender_args: String::new(),
            recipients: Vec::new(),
            headers: headers.map(str::to_owned).to_vec(),
            body: b"Hello Bob,\r\nthis is the body.\r\n".to_vec(),
        }
    }

    /// A message to one recipient.
    pub fn to_bob() -> Self {
        Self::new().recipient(BOB)
    }

    /// The sender, with its `<>`.
    pub fn sender_path(&self) -> &str {
        &self.sender
    }

    /// The recipients, with their `<>`.
    pub fn recipient_paths(&self) -> impl Iterator<Item = &str> {
        self.recipients.iter().map(|(path, _)| path.as_str())
    }

    /// The name for EHLO.
    #[must_use]
    pub fn helo(mut self, name: &str) -> Self {
        name.clone_into(&mut self.helo);
        self
    }

    /// The sender, with its `<>`.
    #[must_use]
    pub fn sender(mut self, path: &str) -> Self {
        path.clone_into(&mut self.sender);
        self
    }

    /// ESMTP parameters for MAIL.
    #[must_use]
    pub fn sender_args(mut self, args: &str) -> Self {
        args.clone_into(&mut self.sender_args);
        self
    }

    /// One more recipient, with its `<>`.
    #[must_use]
    pub fn recipient(self, path: &str) -> Self {
        self.recipient_with(path, "")
    }

    /// One more recipient with ESMTP parameters.
    #[must_use]
    pub fn recipient_with(mut self, path: &str, args: &str) -> Self {
        self.recipients.push((path.to_owned(), args.to_owned()));
        self
    }

    /// One more header, `Name: value`, after the usual ones.
    #[must_use]
    pub fn header(mut self, line: &str) -> Self {
        self.headers.push(line.to_owned());
        self
    }

    /// Another value for one of the usual headers.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers
            .retain(|line| !line.starts_with(&format!("{name}:")));
        self.header(&format!("{name}: {value}"))
    }

    /// The body, in CRLF lines.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Headers, blank line and body.
    pub fn content(&self) -> Vec<u8> {
        let mut content = Vec::with_capacity(self.body.len() + 512);
        for line in &self.headers {
            content.extend_from_slice(line.as_bytes());
            content.extend_from_slice(b"\r\n");
        }
        content.extend_from_slice(b"\r\n");
        content.extend_from_slice(&self.body);
        content
    }
}

impl Default for Mail {
    fn default() -> Self {
        Self::new()
    }
}

/// `n` bytes of filler in lines of 64 bytes: a number of 8 digits (from 1), a space, 53 `x`, CRLF.
/// The same that the action `replfill` of the program `control` makes.
pub fn fill(n: usize) -> Vec<u8> {
    let rest = "x".repeat(53);
    let mut body = Vec::with_capacity(n + 64);
    for line in 1.. {
        if body.len() >= n {
            break;
        }
        body.extend_from_slice(format!("{line:08} {rest}\r\n").as_bytes());
    }
    body.truncate(n);
    body
}

/// Where the body begins, and where the headers before it end.
fn split(content: &[u8]) -> (&[u8], &[u8]) {
    if let Some(body) = content.strip_prefix(b"\r\n") {
        return (&[], body);
    }
    match content.windows(4).position(|four| four == b"\r\n\r\n") {
        Some(at) => (&content[..at + 2], &content[at + 4..]),
        None => (content, &[]),
    }
}

/// What follows the blank line.
pub fn body(content: &[u8]) -> &[u8] {
    split(content).1
}

/// The headers in order: the name, and the value without the one space after the colon. A folded
/// value keeps its line ends (CRLF) and white space.
pub fn headers(content: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(split(content).0);
    let mut headers: Vec<(String, String)> = Vec::new();
    for line in text.split_terminator("\r\n") {
        if let (true, Some((_, value))) = (line.starts_with([' ', '\t']), headers.last_mut()) {
            value.push_str("\r\n");
            value.push_str(line);
        } else {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            headers.push((name.to_owned(), value.to_owned()));
        }
    }
    headers
}

/// The values of all headers of this name, in order.
pub fn header(content: &[u8], name: &str) -> Vec<String> {
    let all = headers(content).into_iter();
    all.filter(|(n, _)| n.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_wrote() {
        let content = Mail::to_bob()
            .header("X-A: one\r\n\ttwo")
            .header("x-a:three")
            .body("b\r\n")
            .content();
        assert_eq!(header(&content, "X-A"), ["one\r\n\ttwo", "three"]);
        assert_eq!(header(&content, "subject"), ["test message"]);
        assert_eq!(body(&content), b"b\r\n");
        assert_eq!(headers(&content).len(), 7);
    }

    #[test]
    fn filler_is_cut_to_length() {
        assert_eq!(fill(0), b"");
        assert_eq!(fill(10), b"00000001 x");
        let two = fill(128);
        assert!(two.ends_with(b"x\r\n") && two[64..].starts_with(b"00000002 xx"));
    }
}
