//! Replies as lines that can be compared, and read.

use bytes::BytesMut;
use milter_core::{
    Command, MacroStage, Modification, ModificationKind, OfferReply, Reply, Stage, Text,
};

use super::entry::Said;
use super::exchange::Answered;
use crate::show::{Cut, Edit, Line, Path};

/// What is not compared.
#[derive(Clone, Debug, Default)]
pub(super) struct Ignored {
    pub(super) negotiation: bool,
    /// Names of headers whose values may differ.
    pub(super) values: Vec<Vec<u8>>,
}

impl Ignored {
    fn value_of(&self, name: Text<'_>) -> bool {
        self.values
            .iter()
            .any(|ignored| name.eq_ignore_ascii_case(ignored))
    }
}

/// A line for each thing that was answered to a command. Pieces of a new body are one, however they
/// are cut. A value without its leading space means one with it.
pub(super) fn lines(
    command: &Command,
    replies: &[Answered],
    has_space: bool,
    ignored: &Ignored,
) -> Vec<String> {
    let mut lines = Vec::new();
    let mut body: Option<BytesMut> = None;
    for answered in replies {
        if let Answered::Reply(Reply::Modify(edit)) = answered {
            if let ModificationKind::ReplaceBody { body: piece } = edit.kind() {
                body.get_or_insert_default().extend_from_slice(piece);
                continue;
            }
        }
        lines.extend(body.take().map(|body| new_body(&body)));
        match answered {
            Answered::Reply(Reply::Negotiate(answer)) => lines.extend(agreed(answer)),
            // The same there, for both MTAs: sendmail/milter.c milter_data, Postfix milter8.c
            // milter8_event.
            Answered::Reply(Reply::Continue) if command.stage() == Some(Stage::EndOfMessage) => {
                lines.push(line(&Reply::Accept, has_space, ignored));
            }
            Answered::Reply(reply) => lines.push(line(reply, has_space, ignored)),
            Answered::Unreadable(said) => lines.push(unreadable(said)),
        }
    }
    lines.extend(body.map(|body| new_body(&body)));
    lines
}

/// The line of what goes on: it says nothing that silence would not.
pub(super) const CONTINUE: &str = "continue";

fn line(reply: &Reply, has_space: bool, ignored: &Ignored) -> String {
    match reply {
        Reply::Continue => CONTINUE.to_owned(),
        Reply::Accept => "accept".to_owned(),
        Reply::Reject => "reject".to_owned(),
        Reply::TempFail => "tempfail".to_owned(),
        Reply::Discard => "discard".to_owned(),
        Reply::Skip => "skip".to_owned(),
        Reply::Progress => "progress".to_owned(),
        Reply::Shutdown => "shutdown".to_owned(),
        Reply::ConnectionFailed => "connection failed".to_owned(),
        Reply::Smtp(reply) => whole(reply.to_string().as_bytes()),
        Reply::InvalidSmtp(raw) => format!("a reply that no MTA takes: {}", whole(raw)),
        Reply::Modify(edit) => self::edit(edit, has_space, ignored),
        // None that is there today.
        other => format!("{other:?}"),
    }
}

fn edit(edit: &Modification, has_space: bool, ignored: &Ignored) -> String {
    let header = |what, name, value: Text<'_>| {
        let value = if ignored.value_of(name) {
            " …".to_owned()
        } else if has_space {
            whole(&value)
        } else {
            // sendmail/headers.c addheader, Postfix cleanup_milter.c cleanup_add_header
            format!(" {}", whole(&value))
        };
        format!("{what} {}:{value}", Line(name.as_bytes()))
    };
    match edit.kind() {
        ModificationKind::AddHeader { name, value } => header("add header", name, value),
        ModificationKind::InsertHeader { index, name, value } => {
            header(&format!("insert header at {index}"), name, value)
        }
        ModificationKind::ChangeHeader { name, index, value } => {
            header(&format!("change header [{index}]"), name, value)
        }
        _ => Edit(edit).to_string(),
    }
}

/// All of it: what is left out could be what differs.
fn whole(text: &[u8]) -> String {
    Cut(text, usize::MAX).to_string()
}

fn new_body(body: &[u8]) -> String {
    format!("replace body, {} bytes: {}", body.len(), whole(body))
}

fn unreadable(said: &Said) -> String {
    match said {
        Said::Frame { code, payload } => format!(
            "a frame {:?} that cannot be read: {}",
            char::from(*code),
            whole(payload)
        ),
        Said::Broken(bytes) => format!("bytes that are no frame: {}", whole(bytes)),
        Said::End => "the end".to_owned(),
    }
}

/// A line for each thing that the milter asks for.
fn agreed(answer: &OfferReply) -> Vec<String> {
    let mut lines = vec![format!("version {}", answer.version)];
    let actions = answer.actions.iter_names().map(|(name, _)| name);
    lines.extend(actions.map(|name| format!("action {name}")));
    let steps = answer.steps.iter_names().map(|(name, _)| name);
    lines.extend(steps.map(|name| format!("step {name}")));
    for stage in MacroStage::ALL {
        if let Some(names) = answer.macros.get(stage) {
            let mut names: Vec<_> = names.map(|name| whole(&name)).collect();
            // A list is a set to the MTA.
            names.sort_unstable();
            lines.push(format!("macros at {stage}: {}", names.join(" ")));
        }
    }
    lines
}

/// What the MTA asked, in a few words.
pub(super) fn question(command: &Command) -> String {
    match command {
        Command::Negotiate(_) => "the negotiation".to_owned(),
        Command::Mail(sender) => format!("mail {}", Path(sender.address(), sender.args())),
        Command::Rcpt(to) => format!("rcpt {}", Path(to.address(), to.args())),
        Command::Helo(helo) => format!("helo {}", Line(&helo.name())),
        Command::Header(header) => format!("header {}", Line(&header.name())),
        Command::Unknown(unknown) => format!("unknown command {}", Line(&unknown.line())),
        other => other.stage().map_or_else(
            || format!("{:?}", char::from(other.code())),
            |stage| stage.to_string(),
        ),
    }
}
