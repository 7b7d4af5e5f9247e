//! The structure of a mail: which of its parts a footer belongs into.
//!
//! Header fields are read by `mail-parser`. Where a part begins and ends is found here, line by
//! line: a parser that only reads may take `--` and a boundary within a line for the end of a
//! part, and a footer must not go where other programs see something else.

use std::ops::Range;

use mail_parser::{ContentType, HeaderName, MessageParser, MimeHeaders};

use crate::add::LeftAlone;

/// Parts within parts, at most: deeper mail is left alone.
const MAX_DEPTH: usize = 20;

/// Parts of a mail, at most.
const MAX_PARTS: usize = 1000;

/// A part that takes a footer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    /// Where its header fields are in the mail's body, without the empty line; none if they are
    /// the mail's own.
    pub(crate) head: Option<Range<usize>>,
    /// Where its content is in the mail's body.
    pub(crate) content: Range<usize>,
    pub(crate) format: Format,
    /// The name of its character set, lower case.
    pub(crate) charset: String,
    /// Its transfer encoding, lower case; `7bit` if it does not say.
    pub(crate) encoding: String,
    /// Type and parameters, to be written anew with another charset.
    pub(crate) parameters: Vec<(String, String)>,
    /// The boundaries around it: no line of it may begin with one.
    pub(crate) boundaries: Vec<Vec<u8>>,
}

/// What a footer is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Plain,
    /// `text/plain; format=flowed` (RFC 3676).
    Flowed,
    Html,
}

/// The parts of a mail with these header fields (as lines, `Content-` fields suffice) that take a
/// footer.
pub(crate) fn leaves(head: &[u8], body: &[u8]) -> Result<Vec<Leaf>, LeftAlone> {
    let mut reader = Reader { body, parts: 0 };
    let mail = reader.part(Fields::read(head)?, None, 0..body.len(), &[])?;
    if mail.is_protected() {
        return Err(LeftAlone::Signed);
    }
    let mut found = Vec::new();
    mail.choose(&mut found);
    if found.is_empty() {
        return Err(LeftAlone::NoText);
    }
    Ok(found)
}

struct Part {
    id: Option<String>,
    kind: Kind,
}

enum Kind {
    Leaf(Box<Leaf>),
    /// Signed or encrypted: a change would break it.
    Protected,
    Alternative(Vec<Part>),
    /// A page, the part of that number, and what belongs to it.
    Related(Option<usize>, Vec<Part>),
    Mixed(Vec<Part>),
    /// What has no footer: attachments, mails within the mail, what is not understood.
    Other,
}

impl Part {
    fn is_protected(&self) -> bool {
        match &self.kind {
            Kind::Protected => true,
            Kind::Alternative(parts) | Kind::Related(_, parts) | Kind::Mixed(parts) => {
                parts.iter().any(Self::is_protected)
            }
            Kind::Leaf(_) | Kind::Other => false,
        }
    }

    /// Takes the leaves that are shown first. Whether there are any.
    fn choose(self, found: &mut Vec<Leaf>) -> bool {
        match self.kind {
            Kind::Leaf(leaf) => {
                found.push(*leaf);
                true
            }
            // The reader shows one of them: each has to have it.
            Kind::Alternative(parts) => parts
                .into_iter()
                .fold(false, |any, part| part.choose(found) | any),
            Kind::Related(root, parts) => root
                .and_then(|root| parts.into_iter().nth(root))
                .is_some_and(|part| part.choose(found)),
            Kind::Mixed(parts) => parts.into_iter().any(|part| part.choose(found)),
            Kind::Protected | Kind::Other => false,
        }
    }
}

struct Reader<'a> {
    body: &'a [u8],
    parts: usize,
}

impl Reader<'_> {
    fn part(
        &mut self,
        fields: Fields,
        head: Option<Range<usize>>,
        content: Range<usize>,
        around: &[Vec<u8>],
    ) -> Result<Part, LeftAlone> {
        self.parts += 1;
        if self.parts > MAX_PARTS || around.len() > MAX_DEPTH {
            return Err(LeftAlone::Malformed("it has too many parts"));
        }
        let id = fields.id.clone();
        let kind = match (&*fields.kind, &*fields.subtype) {
            ("multipart", "signed" | "encrypted")
            | ("application", "pkcs7-mime" | "x-pkcs7-mime" | "pgp-encrypted") => Kind::Protected,
            // RFC 2046 5.1.5: what a digest holds is mail. A report is read by programs.
            ("multipart", "digest" | "report") => Kind::Other,
            ("multipart", kind) => {
                let Some(boundary) = fields.parameter("boundary") else {
                    return Err(LeftAlone::Malformed("a multipart has no boundary"));
                };
                let parts = self.children(boundary.as_bytes(), content, around)?;
                match kind {
                    "alternative" => Kind::Alternative(parts),
                    "related" => Kind::Related(fields.root_of(&parts), parts),
                    _ => Kind::Mixed(parts),
                }
            }
            ("text", "plain" | "html") if !fields.attached => {
                Kind::Leaf(Box::new(fields.into_leaf(head, content, around)))
            }
            _ => Kind::Other,
        };
        Ok(Part { id, kind })
    }

    fn children(
        &mut self,
        boundary: &[u8],
        content: Range<usize>,
        around: &[Vec<u8>],
    ) -> Result<Vec<Part>, LeftAlone> {
        let inside = [around, &[boundary.to_vec()]].concat();
        let body = self.body;
        let ranges = between(body, boundary, content)?;
        let read = ranges.into_iter().map(|range| {
            let (head, content) = split_head(body, range)
                .ok_or(LeftAlone::Malformed("a part's headers have no end"))?;
            let fields = Fields::read(&body[head.clone()])?;
            self.part(fields, Some(head), content, &inside)
        });
        read.collect()
    }
}

/// Where the parts are: from behind one delimiter line to before the line break that belongs to
/// the next (RFC 2046 5.1.1).
fn between(
    body: &[u8],
    boundary: &[u8],
    content: Range<usize>,
) -> Result<Vec<Range<usize>>, LeftAlone> {
    let mut ranges = Vec::new();
    let mut open = None;
    let mut at = content.start;
    for line in body[content].split_inclusive(|&byte| byte == b'\n') {
        let start = at;
        at += line.len();
        let Some(delimiter) = Delimiter::read(line, boundary) else {
            continue;
        };
        if let Some(open) = open {
            ranges.push(open..before_line_break(body, open, start));
        }
        match delimiter {
            Delimiter::Next => open = Some(at),
            Delimiter::Last => return Ok(ranges),
            Delimiter::Unclear => {
                return Err(LeftAlone::Malformed("a line only begins like a delimiter"));
            }
        }
    }
    Err(LeftAlone::Malformed("a multipart has no end"))
}

enum Delimiter {
    Next,
    Last,
    /// RFC 2046 5.1.1 has a delimiter in every line that begins like one; many programs do not.
    Unclear,
}

impl Delimiter {
    fn read(line: &[u8], boundary: &[u8]) -> Option<Self> {
        let rest = line.strip_prefix(b"--")?.strip_prefix(boundary)?;
        let (last, rest) = match rest.strip_prefix(b"--") {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        Some(match rest.trim_ascii() {
            b"" if last => Self::Last,
            b"" => Self::Next,
            _ => Self::Unclear,
        })
    }
}

/// The end of what stands between `from` and a delimiter line at `line`.
fn before_line_break(body: &[u8], from: usize, line: usize) -> usize {
    let before = &body[from..line];
    let without = before
        .strip_suffix(b"\r\n")
        .or_else(|| before.strip_suffix(b"\n"))
        .unwrap_or(before);
    from + without.len()
}

/// The header fields (their last line break included) and the content of a part.
fn split_head(body: &[u8], part: Range<usize>) -> Option<(Range<usize>, Range<usize>)> {
    let mut at = part.start;
    for line in body[part.clone()].split_inclusive(|&byte| byte == b'\n') {
        if line == b"\r\n" || line == b"\n" {
            return Some((part.start..at, at + line.len()..part.end));
        }
        at += line.len();
    }
    None
}

fn bare_id(id: &str) -> &str {
    let id = id.trim();
    id.strip_prefix('<')
        .and_then(|id| id.strip_suffix('>'))
        .unwrap_or(id)
}

/// The MIME fields of a part.
struct Fields {
    /// Type and subtype, lower case.
    kind: String,
    subtype: String,
    /// The type's parameters, names in lower case.
    parameters: Vec<(String, String)>,
    encoding: String,
    id: Option<String>,
    /// Whether it is shown apart from the mail's text, if at all.
    attached: bool,
}

impl Default for Fields {
    // RFC 2045 5.2, 6.1
    fn default() -> Self {
        Self {
            kind: "text".to_owned(),
            subtype: "plain".to_owned(),
            parameters: Vec::new(),
            encoding: "7bit".to_owned(),
            id: None,
            attached: false,
        }
    }
}

impl Fields {
    fn read(head: &[u8]) -> Result<Self, LeftAlone> {
        let mut fields = Self::default();
        // The parser finds the end of the fields by an empty line.
        let head = [head, b"\r\n"].concat();
        let Some(message) = MessageParser::new().parse_headers(&head[..]) else {
            return Ok(fields);
        };
        let count = |name: HeaderName<'_>| {
            let named = message.headers().iter().filter(|field| field.name == name);
            named.count()
        };
        let is_there = |name| match count(name) {
            0 => Ok(false),
            1 => Ok(true),
            // Which one counts, programs do not agree upon.
            _ => Err(LeftAlone::Malformed("a MIME field is there twice")),
        };
        if is_there(HeaderName::ContentType)? {
            let Some(kind) = message.content_type() else {
                return Err(LeftAlone::Malformed("a Content-Type cannot be read"));
            };
            fields.set_type(kind)?;
        }
        if is_there(HeaderName::ContentTransferEncoding)? {
            let encoding = message.content_transfer_encoding().unwrap_or_default();
            fields.encoding = encoding.trim().to_ascii_lowercase();
        }
        if is_there(HeaderName::ContentDisposition)? {
            let shown = message.content_disposition();
            let shown = shown.filter(|d| d.is_inline() && !d.has_attribute("filename"));
            fields.attached = shown.is_none();
        }
        // Clients show a text with a name as an attachment. One with a sum over its content (RFC
        // 1864) must not change.
        let mut names = message.headers().iter().map(|field| field.name.as_str());
        let is_summed = names.any(|name| name.eq_ignore_ascii_case("Content-MD5"));
        fields.attached |= fields.parameter("name").is_some() || is_summed;
        fields.id = message.content_id().map(|id| bare_id(id).to_owned());
        Ok(fields)
    }

    fn set_type(&mut self, kind: &ContentType<'_>) -> Result<(), LeftAlone> {
        kind.ctype().clone_into(&mut self.kind);
        kind.subtype()
            .unwrap_or_default()
            .clone_into(&mut self.subtype);
        for parameter in kind.attributes().unwrap_or_default() {
            if self.parameter(&parameter.name).is_some() {
                return Err(LeftAlone::Malformed("a parameter is there twice"));
            }
            let (name, value) = (parameter.name.to_string(), parameter.value.to_string());
            self.parameters.push((name, value));
        }
        Ok(())
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        let mut all = self.parameters.iter();
        all.find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    // RFC 2387 3.2: the first part, unless `start` names another.
    fn root_of(&self, parts: &[Part]) -> Option<usize> {
        let Some(start) = self.parameter("start").map(bare_id) else {
            return Some(0);
        };
        let is_start = |part: &Part| part.id.as_deref() == Some(start);
        parts.iter().position(is_start)
    }

    fn into_leaf(
        self,
        head: Option<Range<usize>>,
        content: Range<usize>,
        boundaries: &[Vec<u8>],
    ) -> Leaf {
        let flowed = |value: &str| value.eq_ignore_ascii_case("flowed");
        let format = match &*self.subtype {
            "html" => Format::Html,
            _ if self.parameter("format").is_some_and(flowed) => Format::Flowed,
            _ => Format::Plain,
        };
        let charset = self.parameter("charset").unwrap_or("us-ascii").trim();
        Leaf {
            head,
            content,
            format,
            charset: charset.to_ascii_lowercase(),
            encoding: self.encoding,
            parameters: self.parameters,
            boundaries: boundaries.to_vec(),
        }
    }
}
