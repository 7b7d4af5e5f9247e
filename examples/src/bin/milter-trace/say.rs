//! Commands and replies in a line of words, those of libmilter.
// include/libmilter/mfdef.h SMFIC_*, SMFIR_*

use std::fmt::Write;

use milter_core::{
    Command, EsmtpArgs, MacroStage, Modification, ModificationKind, Offer, OfferReply, Reply, Text,
};

use crate::style::{Escaped, Kind, Quoted};

/// All of a text.
const ALL: usize = usize::MAX;

fn quoted(text: &[u8]) -> Quoted<'_> {
    Quoted(text, ALL)
}

/// A command's name by its letter.
fn name(code: u8) -> Option<&'static str> {
    Some(match code {
        b'O' => "OPTNEG",
        b'D' => "MACRO",
        b'C' => "CONNECT",
        b'H' => "HELO",
        b'M' => "MAIL",
        b'R' => "RCPT",
        b'T' => "DATA",
        b'U' => "UNKNOWN",
        b'L' => "HEADER",
        b'N' => "EOH",
        b'B' => "BODY",
        b'E' => "EOM",
        b'A' => "ABORT",
        b'Q' => "QUIT",
        b'K' => "QUIT_NC",
        _ => return None,
    })
}

/// What a mail server says.
pub(crate) fn command(command: &Command, max_bytes: usize) -> String {
    let name = name(command.code()).unwrap_or("?");
    match command {
        Command::Negotiate(offer) => format!("{name} {offer}"),
        Command::Macros(set) => {
            let mut text = format!("{name} for {}", code(set.command_code()));
            for (name, value) in set {
                let _ = write!(text, " {}={}", Escaped(&name), quoted(&value));
            }
            text
        }
        Command::Connect(connect) => {
            let mut text = format!("{name} {} {}", Escaped(&connect.host()), connect.client());
            if let Some(port) = connect.client().port() {
                let _ = write!(text, " port {port}");
            }
            text
        }
        Command::Helo(helo) => format!("{name} {}", Escaped(&helo.name())),
        Command::Mail(sender) => path(name, sender.address(), sender.args()),
        Command::Rcpt(to) => path(name, to.address(), to.args()),
        Command::Unknown(unknown) => format!("{name} {}", quoted(&unknown.line())),
        Command::Header(header) => {
            let value = header.value();
            format!("{name} {}: {}", Escaped(&header.name()), quoted(&value))
        }
        Command::Body(piece) => bytes(name, piece, max_bytes),
        Command::EndOfMessage(piece) if !piece.is_empty() => bytes(name, piece, max_bytes),
        _ => name.to_owned(),
    }
}

fn code(code: u8) -> String {
    name(code).map_or_else(|| format!("{:?}", char::from(code)), str::to_owned)
}

fn path(name: &str, address: Text<'_>, args: EsmtpArgs<'_>) -> String {
    let mut text = format!("{name} {}", Escaped(&address));
    for arg in args {
        let _ = write!(text, " {}", Escaped(&arg.raw()));
    }
    text
}

/// How many bytes, and the first of them.
pub(crate) fn bytes(name: &str, bytes: &[u8], max_bytes: usize) -> String {
    let mut text = format!("{name} {} bytes", bytes.len());
    if max_bytes > 0 && !bytes.is_empty() {
        let _ = write!(text, " {}", Quoted(bytes, max_bytes));
    }
    text
}

/// What a milter answers, and what kind of answer that is.
pub(crate) fn reply(reply: &Reply, max_bytes: usize) -> (Kind, String) {
    let (kind, text) = match reply {
        Reply::Negotiate(answer) => return (Kind::Plain, format!("OPTNEG {}", agreed(answer))),
        Reply::Smtp(reply) => {
            let text = reply.to_string();
            let text = format!("REPLYCODE {}", Escaped(text.as_bytes()));
            return (Kind::Refusal, text);
        }
        Reply::InvalidSmtp(raw) => {
            let text = format!("REPLYCODE that no mail server takes: {}", quoted(raw));
            return (Kind::Trouble, text);
        }
        Reply::Modify(edit) => return (Kind::Change, self::edit(edit, max_bytes)),
        Reply::Continue => (Kind::Plain, "CONTINUE"),
        Reply::Accept => (Kind::Good, "ACCEPT"),
        Reply::Reject => (Kind::Refusal, "REJECT"),
        Reply::TempFail => (Kind::Refusal, "TEMPFAIL"),
        Reply::Discard => (Kind::Refusal, "DISCARD"),
        Reply::Skip => (Kind::Plain, "SKIP"),
        Reply::Progress => (Kind::Quiet, "PROGRESS"),
        Reply::Shutdown => (Kind::Refusal, "SHUTDOWN"),
        Reply::ConnectionFailed => (Kind::Refusal, "CONN_FAIL"),
        other => return (Kind::Plain, format!("{other:?}")),
    };
    (kind, text.to_owned())
}

fn agreed(answer: &OfferReply) -> String {
    let words = Offer {
        version: answer.version,
        actions: answer.actions,
        steps: answer.steps,
    };
    let mut text = words.to_string();
    for (number, names) in answer.macros.iter() {
        let stage = MacroStage::from_number(number);
        let stage = stage.map_or_else(|| number.to_string(), |stage| stage.to_string());
        let _ = write!(text, ", macros at {stage}:");
        for name in names {
            let _ = write!(text, " {}", Escaped(&name));
        }
    }
    text
}

fn edit(edit: &Modification, max_bytes: usize) -> String {
    let header = |what: String, name: Text<'_>, value: &[u8]| {
        format!("{what} {}: {}", Escaped(&name), quoted(value))
    };
    let with_args = |what, address: Text<'_>, args: Option<Text<'_>>| {
        let mut text = format!("{what} {}", Escaped(&address));
        if let Some(args) = args {
            let _ = write!(text, " {}", Escaped(&args));
        }
        text
    };
    match edit.kind() {
        ModificationKind::AddHeader { name, value } => header("ADDHEADER".into(), name, &value),
        ModificationKind::InsertHeader { index, name, value } => {
            header(format!("INSHEADER at {index}"), name, &value)
        }
        ModificationKind::ChangeHeader { name, index, value } => {
            header(format!("CHGHEADER [{index}]"), name, &value)
        }
        ModificationKind::DeleteHeader { name, index } => {
            header(format!("CHGHEADER [{index}]"), name, b"")
        }
        ModificationKind::ReplaceBody { body } => bytes("REPLBODY", body, max_bytes),
        ModificationKind::ChangeSender { address, args } => with_args("CHGFROM", address, args),
        ModificationKind::AddRecipient { address } => with_args("ADDRCPT", address, None),
        ModificationKind::AddRecipientWithArgs { address, args } => {
            with_args("ADDRCPT_PAR", address, args)
        }
        ModificationKind::DeleteRecipient { address } => with_args("DELRCPT", address, None),
        ModificationKind::Quarantine { reason } => format!("QUARANTINE {}", quoted(&reason)),
        _ => format!("{edit:?}"),
    }
}
