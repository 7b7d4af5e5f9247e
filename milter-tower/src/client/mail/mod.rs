//! What a client sends.

mod client;
mod eml;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

use bytes::{BufMut, Bytes, BytesMut};
use milter_core::{ClientAddr, Header, MacroStage, Recipient, Sender, Text, UnknownCommand};

use crate::Headers;
use crate::show;

/// A mail, and the client that sends it.
///
/// A new one can be delivered as it is. What a test does not say is what any client would send:
/// it comes from `client.example` at 192.0.2.1, is from `alice@example.org` to `bob@example.net`,
/// and has the headers and the body of a short letter.
///
/// ```
/// use milter_tower::client::Mail;
///
/// let mail = Mail::new()
///     .client_ip([198, 51, 100, 7])
///     .helo("relay.example")
///     .mail_from("news@example.com", ["SIZE=4000"])
///     .to("bob@example.net")
///     .to("<carol@example.net>")
///     .header("Subject", "This week")
///     .body("Not much.\n");
/// assert_eq!(mail.sender().address(), "<news@example.com>");
/// assert_eq!(mail.recipients().len(), 2);
/// assert_eq!(mail.content(), "Not much.\r\n");
/// ```
///
/// # Addresses
///
/// They may be given with or without `<>` and are sent with them, as clients must (RFC 5321
/// 4.1.2). Some clients do not; for what exactly such a one sends there are
/// [`with_sender`](Self::with_sender) and [`with_recipient`](Self::with_recipient).
#[derive(Clone, PartialEq, Eq)]
#[must_use = "a mail does nothing unless it is delivered"]
pub struct Mail {
    client: ClientAddr,
    client_name: Bytes,
    helo: Option<Bytes>,
    macros: Vec<(MacroStage, Bytes, Bytes)>,
    unknown_commands: Vec<UnknownCommand>,
    /// None for the usual one.
    sender: Option<Sender>,
    /// Empty for the usual one.
    recipients: Vec<Recipient>,
    /// What was given.
    headers: Vec<Header>,
    /// Whether the usual headers go before them.
    usual_headers: bool,
    body: Bytes,
}

impl Mail {
    /// A short letter from `alice@example.org` to `bob@example.net`.
    pub fn new() -> Self {
        Self {
            client: SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), PORT)).into(),
            client_name: Bytes::from_static(b"client.example"),
            helo: Some(Bytes::from_static(b"client.example")),
            macros: Vec::new(),
            unknown_commands: Vec::new(),
            sender: None,
            recipients: Vec::new(),
            headers: Vec::new(),
            usual_headers: true,
            body: Bytes::from_static(b"Hello Bob,\r\nhow are you?\r\n"),
        }
    }

    /// Sets the sender; `<>` or the empty string is the null sender, from which bounces come.
    pub fn from(self, address: impl AsRef<[u8]>) -> Self {
        self.mail_from(address, [""; 0])
    }

    /// Sets the sender with ESMTP arguments: `["SIZE=1000", "BODY=8BITMIME"]`.
    pub fn mail_from<A: AsRef<[u8]>>(
        self,
        address: impl AsRef<[u8]>,
        args: impl IntoIterator<Item = A>,
    ) -> Self {
        self.with_sender(Sender::new(
            in_brackets(address),
            args.into_iter().map(copied),
        ))
    }

    /// Sets the sender as it is, without brackets if it has none.
    pub fn with_sender(mut self, sender: Sender) -> Self {
        self.sender = Some(sender);
        self
    }

    /// Adds a recipient; the first one takes the place of the usual one.
    pub fn to(self, address: impl AsRef<[u8]>) -> Self {
        self.rcpt_to(address, [""; 0])
    }

    /// Adds a recipient with ESMTP arguments: `["NOTIFY=NEVER"]`.
    pub fn rcpt_to<A: AsRef<[u8]>>(
        self,
        address: impl AsRef<[u8]>,
        args: impl IntoIterator<Item = A>,
    ) -> Self {
        self.with_recipient(Recipient::new(
            in_brackets(address),
            args.into_iter().map(copied),
        ))
    }

    /// Adds a recipient as it is, without brackets if it has none.
    pub fn with_recipient(mut self, recipient: Recipient) -> Self {
        self.recipients.push(recipient);
        self
    }

    /// Adds a header at the end, and takes out the usual one of that name.
    ///
    /// The value goes one space behind the colon. It may have several lines; those after the first
    /// that do not begin with a space or a tab get a tab.
    pub fn header(self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        let value = folded(value.as_ref());
        self.raw_header(name, value)
    }

    /// Adds a header at the end as it is, and takes out the usual one of that name.
    ///
    /// The value is everything behind the colon, also the space that it usually begins with; lines
    /// are separated by LF. Nothing is checked or mended, only that NULs cut both, since the
    /// protocol cannot carry them.
    ///
    /// ```
    /// use milter_tower::client::Mail;
    ///
    /// let mail = Mail::new()
    ///     .without_headers()
    ///     .raw_header("Subject", b"\t caf\xe9\n\t\n  folded");
    /// assert_eq!(mail.headers().get("subject").unwrap().raw(), b"\t caf\xe9\n\t\n  folded");
    /// ```
    pub fn raw_header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.headers.push(Header::new(copied(name), copied(value)));
        self
    }

    /// Takes out all headers, also the usual ones.
    pub fn without_headers(mut self) -> Self {
        self.headers.clear();
        self.usual_headers = false;
        self
    }

    /// Sets the body as a client that writes text would send it.
    ///
    /// Lines end in LF or CRLF, and the last one needs no end: both MTAs show CRLF to filters, also
    /// at the end. A bare CR stays.
    // Postfix smtpd.c and rec_streamlf.c make records of lines, milter8.c milter8_body ends each in
    // CRLF; sendmail/milter.c milter_body makes CRLF of a bare LF
    pub fn body(self, text: impl AsRef<[u8]>) -> Self {
        let text = with_line_ends(text.as_ref());
        self.raw_body(text)
    }

    /// Sets the body as it is, also where no MTA would send it so.
    pub fn raw_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Takes out the body: the mail ends with the blank line behind the headers.
    pub fn without_body(self) -> Self {
        self.raw_body(Bytes::new())
    }

    /// The sender.
    pub fn sender(&self) -> Sender {
        let sender = self.sender.clone();
        sender.unwrap_or_else(|| Sender::new("<alice@example.org>", [""; 0]))
    }

    /// The recipients.
    pub fn recipients(&self) -> Vec<Recipient> {
        if self.recipients.is_empty() {
            vec![Recipient::new("<bob@example.net>", [""; 0])]
        } else {
            self.recipients.clone()
        }
    }

    /// The headers in order: the usual ones, but for those of which others were given, and the
    /// given ones.
    ///
    pub fn headers(&self) -> Headers {
        let is_given = |name: Text<'_>| {
            let mut given = self.headers.iter();
            given.any(|header| header.name().eq_ignore_ascii_case(name))
        };
        let usual = self.usual_headers.then(|| self.usual_headers());
        let usual = usual.into_iter().flatten();
        usual
            .filter(|header| !is_given(header.name()))
            .chain(self.headers.iter().cloned())
            .collect()
    }

    /// What a mail program writes by itself. The Date is always the same, for snapshots.
    // RFC 5322 3.6: Date and From must be there, Message-ID should
    fn usual_headers(&self) -> [Header; 5] {
        let sender = self.sender();
        let from = if sender.is_null() {
            b"MAILER-DAEMON@client.example"
        } else {
            sender.mailbox().as_bytes()
        };
        let recipients = self.recipients();
        let to = recipients
            .first()
            .map_or(Text::default(), Recipient::mailbox);
        [
            ("From", from),
            ("To", to.as_bytes()),
            ("Subject", b"A letter"),
            ("Date", b"Thu, 01 Jan 2026 12:00:00 +0000"),
            ("Message-ID", b"<1@client.example>"),
        ]
        .map(|(name, value)| Header::new(name, folded(value)))
    }

    /// The body.
    pub fn content(&self) -> &Bytes {
        &self.body
    }
}

/// The port of clients that come by IP.
const PORT: u16 = 50_025;

impl Default for Mail {
    fn default() -> Self {
        Self::new()
    }
}

/// Shows what there is to say of the client, the envelope and the message, long ones cut; the same
/// for equal mails.
impl fmt::Debug for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = show::Line(&self.client_name);
        writeln!(f, "client {name} [{}]", self.client)?;
        if let Some(helo) = &self.helo {
            writeln!(f, "helo {}", show::Line(helo))?;
        }
        for (stage, name, value) in &self.macros {
            let (name, value) = (show::Line(name), show::Line(value));
            writeln!(f, "macro {name} at {stage}: {value}")?;
        }
        for command in &self.unknown_commands {
            writeln!(f, "unknown {}", show::Line(&command.line()))?;
        }
        let sender = self.sender();
        writeln!(f, "from {}", show::Path(sender.address(), sender.args()))?;
        for recipient in self.recipients() {
            writeln!(
                f,
                "to {}",
                show::Path(recipient.address(), recipient.args())
            )?;
        }
        show::message(f, &self.headers(), &self.body, "| ")
    }
}

pub(crate) fn copied(bytes: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(bytes.as_ref())
}

pub(crate) fn in_brackets(address: impl AsRef<[u8]>) -> Bytes {
    let address = address.as_ref();
    if address.starts_with(b"<") {
        copied(address)
    } else {
        [b"<", address, b">"].concat().into()
    }
}

/// A value behind its colon: a space before it, lines that begin with white space.
pub(crate) fn folded(value: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(value.len() + 1);
    out.put_u8(b' ');
    let lines = value.split(|byte| *byte == b'\n');
    for (n, line) in lines.enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if n > 0 {
            out.put_u8(b'\n');
            if !line.starts_with(b" ") && !line.starts_with(b"\t") {
                out.put_u8(b'\t');
            }
        }
        out.put_slice(line);
    }
    out.freeze()
}

/// Lines that end in CRLF, the last one too.
pub(crate) fn with_line_ends(text: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(text.len() + 2);
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        out.put_slice(line.strip_suffix(b"\r").unwrap_or(line));
        out.put_slice(b"\r\n");
    }
    out.freeze()
}
