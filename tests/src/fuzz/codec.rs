//! Bytes from a peer, in pieces.
//!
//! The input is three lines: the largest payload, the sizes of the pieces, and the bytes. Where
//! the first line has an `f`, the bytes are frames without their lengths: a code, how many bytes
//! follow, and those.

use std::fmt::Debug;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use milter_core::{
    ClientAddr, CodecError, Command, Connect, DEFAULT_MAX_PAYLOAD, EsmtpArgs, FilterCodec,
    MAX_PAYLOAD, Modification, MtaCodec, Reply, decode_xtext,
};
use tokio_util::codec::{Decoder, Encoder};

use super::input::Choices;
use super::smtp_reply::is_legal;

/// What a codec may reserve beyond twice the most bytes that it had to keep.
const SLACK: usize = 64 * 1024;
/// Bytes of a frame's length.
const LEN: usize = 4;

/// Bytes from an MTA. What is read of them can be written again, to the same bytes where there is
/// but one way to write it.
///
/// # Panics
///
/// If something is wrong.
pub fn filter_codec(data: &[u8]) {
    let input = Input::new(data);
    let mut writer = MtaCodec::new();
    writer.set_max_write(MAX_PAYLOAD);
    for (frame, command) in input.read(|max| {
        let mut codec = FilterCodec::new();
        codec.set_max_read(max);
        codec
    }) {
        look_at(&command);
        let mut written = BytesMut::new();
        writer.encode(&command, &mut written).expect("it was read");
        let payload = &frame[LEN + 1..];
        if is_canonical(&command, payload) {
            assert_eq!(frame, &written[..], "{command:?}");
        }
        let again = FilterCodec::new().with_max(MAX_PAYLOAD).one(written);
        assert_eq!(again, command);
    }
}

/// Bytes from a filter, as an MTA reads them; likewise.
///
/// # Panics
///
/// If something is wrong.
pub fn mta_codec(data: &[u8]) {
    let input = Input::new(data);
    let mut writer = FilterCodec::new();
    writer.set_max_write(MAX_PAYLOAD);
    let mut edits = Vec::new();
    for (frame, reply) in input.read(|max| {
        let mut codec = MtaCodec::new();
        codec.set_max_read(max);
        codec
    }) {
        let mut written = BytesMut::new();
        writer.encode(&reply, &mut written).expect("it was read");
        match &reply {
            Reply::Smtp(smtp) => {
                // Filters write these in many ways, of which one is left.
                is_legal(&smtp.to_wire());
                let _ = format!("{smtp} {smtp:?}");
            }
            _ => assert_eq!(frame, &written[..], "{reply:?}"),
        }
        match &reply {
            Reply::Modify(edit) => {
                assert_eq!(edit.code(), frame[LEN]);
                assert_eq!(edit.payload_len(), frame.len() - LEN - 1);
                let _ = format!("{edit:?}");
                edits.push(edit.clone());
            }
            Reply::Negotiate(answer) => {
                for (_, names) in answer.macros.iter() {
                    names.for_each(|name| assert!(!name.is_empty()));
                }
            }
            _ => {}
        }
        let again = MtaCodec::new().with_max(MAX_PAYLOAD).one(written);
        assert_eq!(again, reply);
    }
    in_order(&edits);
}

/// Either codec.
trait Side: Decoder<Item: Debug + PartialEq, Error = CodecError> + Sized {
    fn with_max(self, max: usize) -> Self;
    fn has_frame(&self, bytes: &[u8]) -> bool;

    fn one(mut self, mut frame: BytesMut) -> Self::Item {
        let read = self.decode(&mut frame).expect("readable");
        assert!(frame.is_empty(), "{} bytes are left", frame.len());
        read.expect("whole")
    }
}

impl Side for FilterCodec {
    fn with_max(mut self, max: usize) -> Self {
        self.set_max_read(max);
        self
    }

    fn has_frame(&self, bytes: &[u8]) -> bool {
        self.has_frame(bytes)
    }
}

impl Side for MtaCodec {
    fn with_max(mut self, max: usize) -> Self {
        self.set_max_read(max);
        self
    }

    fn has_frame(&self, bytes: &[u8]) -> bool {
        self.has_frame(bytes)
    }
}

/// What comes from the peer, and how.
struct Input<'a> {
    max: usize,
    sizes: &'a [u8],
    wire: Vec<u8>,
}

impl<'a> Input<'a> {
    fn new(data: &'a [u8]) -> Self {
        let mut input = Choices::new(data);
        let head = input.line();
        let sizes = input.line();
        let max = match Choices::new(head).letter(b"dml") {
            b'd' => DEFAULT_MAX_PAYLOAD,
            b'm' => MAX_PAYLOAD,
            _ => head.len() * 8,
        };
        let mut wire = Vec::new();
        if head.contains(&b'f') {
            while !input.is_empty() {
                let code = input.byte();
                let payload = input.text();
                let length = u32::try_from(payload.len() + 1).expect("small");
                wire.extend_from_slice(&length.to_be_bytes());
                wire.push(code);
                wire.extend_from_slice(payload);
            }
        } else {
            wire.extend_from_slice(input.rest());
        }
        Self { max, sizes, wire }
    }

    /// Reads in one piece and in several, and returns what came of both: frames and what they mean.
    fn read<D: Side>(&self, codec: impl Fn(usize) -> D) -> Vec<(&[u8], D::Item)> {
        let whole = read(codec(self.max), self.max, &self.wire, &[]);
        let parts = read(codec(self.max), self.max, &self.wire, self.sizes);
        assert_eq!(whole, parts, "pieces of {:?}", self.sizes);
        let good = whole.into_iter().filter_map(|(at, read)| {
            let item = read.ok()?;
            Some((&self.wire[at], item))
        });
        good.collect()
    }
}

/// Whether the connection is of no use after this.
fn is_fatal(error: &CodecError) -> bool {
    !matches!(
        error,
        CodecError::UnknownCode { .. } | CodecError::Malformed(_)
    )
}

/// What is read from where, or the error's text, up to the end.
type Frames<T> = Vec<(Range<usize>, Result<T, String>)>;

/// Reads bytes in pieces of these sizes, again and again, or in one piece.
fn read<D: Side>(mut codec: D, max: usize, wire: &[u8], sizes: &[u8]) -> Frames<D::Item> {
    let mut sizes = sizes.iter().map(|size| usize::from(*size).max(1)).cycle();
    let mut input = BytesMut::new();
    let mut out = Vec::new();
    let (mut at, mut come, mut largest) = (0, 0, 0);
    while come < wire.len() {
        let size = sizes.next().unwrap_or(wire.len()).min(wire.len() - come);
        input.extend_from_slice(&wire[come..come + size]);
        come += size;
        loop {
            largest = largest.max(input.len());
            let had = input.len();
            let is_whole = codec.has_frame(&input);
            let read = codec.decode(&mut input);
            let taken = had - input.len();
            let most = 2 * largest + SLACK;
            assert!(input.capacity() <= most, "{} > {most}", input.capacity());
            match read {
                Ok(None) => {
                    assert!(!is_whole && taken == 0, "a whole frame is not read");
                    break;
                }
                Ok(Some(item)) => {
                    assert!(is_whole && taken > LEN, "{item:?}");
                    out.push((at..at + taken, Ok(item)));
                }
                Err(error) => {
                    let fatal = is_fatal(&error);
                    assert_eq!(fatal, taken == 0, "{error:?}");
                    assert!(fatal || is_whole, "{error:?}");
                    out.push((at..at + taken, Err(format!("{error:?} {error}"))));
                    if fatal {
                        return out;
                    }
                }
            }
            at += taken;
        }
        assert!(input.len() <= LEN + max, "{} bytes are kept", input.len());
    }
    match codec.decode_eof(&mut input) {
        Ok(None) => assert!(input.is_empty()),
        Ok(Some(item)) => panic!("{item:?} came with the end"),
        Err(error) => out.push((at..at, Err(format!("{error:?}")))),
    }
    out
}

/// Whether there is no other way to write the command.
fn is_canonical(command: &Command, payload: &[u8]) -> bool {
    // Ends with its only NUL.
    let is_string = |text: &[u8]| text.iter().position(|&byte| byte == 0) == Some(text.len() - 1);
    match command {
        Command::Negotiate(_) => payload.len() == 12,
        Command::Connect(connect) => is_canonical_connect(connect, payload),
        Command::Helo(_) | Command::Unknown(_) => is_string(payload),
        Command::Mail(_) | Command::Rcpt(_) => payload.ends_with(&[0]),
        Command::Header(_) => {
            let value = payload.iter().position(|&byte| byte == 0);
            value.is_some_and(|at| is_string(&payload[at + 1..]))
        }
        Command::Macros(_) | Command::Body(_) | Command::EndOfMessage(_) => true,
        _ => payload.is_empty(),
    }
}

fn is_canonical_connect(connect: &Connect, payload: &[u8]) -> bool {
    let host = connect.host().len();
    let rest = &payload[host + 1..];
    match connect.client() {
        ClientAddr::Unknown => rest == b"U",
        ClientAddr::Inet(at) => {
            let text = at.ip().to_string();
            // The letter tells nothing that the address does not.
            let letter = if at.is_ipv4() { b'4' } else { b'6' };
            rest[0] == letter && rest[3..] == [text.as_bytes(), &[0]].concat()
        }
        ClientAddr::Unix(path) => rest[1..3] == [0, 0] && rest.len() == path.len() + 4,
        ClientAddr::Unreadable { address, .. } => rest.len() == address.len() + 4,
        _ => false,
    }
}

/// Asks a command for everything that it can tell.
fn look_at(command: &Command) {
    let _ = format!("{command:?}");
    match command {
        Command::Negotiate(offer) => {
            let _ = offer.to_string();
            assert_eq!(offer.normalized().normalized(), offer.normalized());
        }
        Command::Macros(set) => {
            let told: usize = set.iter().map(|(n, v)| n.len() + v.len() + 2).sum();
            assert!(told <= set.raw().len());
        }
        Command::Connect(connect) => {
            assert_eq!(connect.to_owned_copy(), *connect);
            let client = connect.client();
            let _ = client.to_string();
            assert!(client.port().is_none() || client.ip().is_some());
        }
        Command::Helo(helo) => assert_eq!(helo.to_owned_copy(), *helo),
        Command::Mail(sender) => {
            assert_eq!(sender.to_owned_copy(), *sender);
            assert_eq!(sender.is_null(), sender.mailbox().is_empty());
            look_at_path(
                &sender.address(),
                &sender.mailbox(),
                sender.domain().as_deref(),
            );
            look_at_args(sender.args());
        }
        Command::Rcpt(recipient) => {
            assert_eq!(recipient.to_owned_copy(), *recipient);
            look_at_path(
                &recipient.address(),
                &recipient.mailbox(),
                recipient.domain().as_deref(),
            );
            look_at_args(recipient.args());
        }
        Command::Unknown(line) => assert!(!line.line().contains([0])),
        Command::Header(header) => {
            assert_eq!(header.name_bytes(), header.name().as_bytes());
            assert_eq!(header.value_bytes(), header.value().as_bytes());
            assert!(!header.value().contains([0]) && !header.name().contains([0]));
            let _ = header.value().to_string();
        }
        _ => {}
    }
}

fn look_at_path(address: &[u8], mailbox: &[u8], domain: Option<&[u8]>) {
    assert!(address.len() <= mailbox.len() + 2);
    if let Some(domain) = domain {
        assert!(mailbox.ends_with(domain) && !domain.contains(&b'@'));
    }
}

fn look_at_args(args: EsmtpArgs<'_>) {
    assert_eq!(args.iter().count(), args.len());
    for arg in args {
        assert!(!arg.raw().contains([0]));
        if let Some(value) = arg.value() {
            assert_eq!(arg.keyword().len() + 1 + value.len(), arg.raw().len());
            if let Some(decoded) = decode_xtext(&value) {
                assert!(decoded.len() <= value.len());
            }
        }
    }
    let _ = (args.size(), args.body(), args.is_smtputf8(), args.ret());
    let _ = (args.requires_tls(), args.auth(), args.envid());
    if let Some(notify) = args.notify() {
        let told = notify.on_success() || notify.on_failure() || notify.on_delay();
        assert!(!(notify.is_never() && told));
    }
    if let Some(orcpt) = args.orcpt() {
        let _ = (orcpt.address_type(), orcpt.address());
    }
}

/// The order of edits drops nothing and keeps the pieces of a body together and as they were.
fn in_order(edits: &[Modification]) {
    let ordered = Modification::order(edits.to_vec());
    let mut left = edits.to_vec();
    for edit in &ordered {
        let at = left.iter().position(|other| other == edit);
        left.remove(at.expect("an edit that was given"));
    }
    assert!(left.is_empty(), "lost: {left:?}");
    let body = |edits: &[Modification]| -> Vec<Bytes> {
        let pieces = edits.iter().filter(|edit| edit.code() == b'b');
        pieces
            .map(|edit| {
                let mut piece = BytesMut::new();
                edit.encode_payload(&mut piece);
                piece.freeze()
            })
            .collect()
    };
    assert_eq!(body(&ordered), body(edits));
    let runs = ordered.chunk_by(|one, other| one.code() == other.code());
    let bodies = runs.filter(|run| run[0].code() == b'b').count();
    assert!(bodies <= 1, "the body comes in {bodies} runs");
}
