//! What was recorded, as questions and answers.

use std::collections::VecDeque;

use bytes::BytesMut;
use milter_core::client::{Config, Session};
use milter_core::{
    Agreement, Command, FilterCodec, MAX_PAYLOAD, MtaCodec, OfferReply, Reply, ReplyMode, Stage,
};
use tokio_util::codec::Decoder;

use super::Connection;
use super::entry::{Said, Side};

/// Something that the MTA said, and what the milter answered to it.
#[derive(Debug)]
pub(super) struct Exchange<'r> {
    pub(super) said: &'r Said,
    /// Its line in the file.
    pub(super) line: usize,
    /// What it means; none for what cannot be read, and for the end.
    pub(super) command: Option<Command>,
    /// All but progress, which is a matter of time.
    pub(super) replies: Vec<Answered>,
    /// Whether the recording does not end before the last of them.
    pub(super) is_whole: bool,
    /// Whether the milter that was recorded wanted to be told of the stage.
    pub(super) was_wanted: bool,
    /// Whether values of headers had their leading space, in both directions.
    pub(super) had_space: bool,
}

/// Something that the milter said.
#[derive(Debug)]
pub(super) enum Answered {
    Reply(Reply),
    /// What cannot be read.
    Unreadable(Said),
}

impl Answered {
    fn read(said: &Said) -> Self {
        let mut codec = MtaCodec::new();
        codec.set_max_read(MAX_PAYLOAD);
        let read = codec.decode(&mut BytesMut::from(said.wire()));
        read.ok()
            .flatten()
            .map_or_else(|| Self::Unreadable(said.clone()), Self::Reply)
    }

    fn is_final(&self) -> bool {
        match self {
            Self::Reply(reply) => reply.is_final(),
            Self::Unreadable(_) => true,
        }
    }
}

fn command(said: &Said) -> Option<Command> {
    let Said::Frame { .. } = said else {
        return None;
    };
    let mut codec = FilterCodec::new();
    codec.set_max_read(MAX_PAYLOAD);
    codec.decode(&mut BytesMut::from(said.wire())).ok()?
}

/// What was agreed on, as far as one side has heard of it.
#[derive(Debug, Default)]
pub(super) struct Agreed(Option<Agreement>);

impl Agreed {
    /// Takes the milter's answer to an offer. One that no MTA would take agrees to nothing.
    pub(super) fn hear(&mut self, command: &Command, answer: &OfferReply) {
        let Command::Negotiate(offer) = command else {
            return;
        };
        let mut session = Session::new(Config::new().offer(*offer));
        let heard =
            session.offer().is_ok() && session.receive(Reply::Negotiate(answer.clone())).is_ok();
        self.0 = heard.then(|| session.agreement().clone());
    }

    /// Whether the command is due a reply.
    pub(super) fn is_due(&self, command: &Command) -> bool {
        match (command.stage(), &self.0) {
            (Some(stage), Some(agreed)) => agreed.reply_mode(stage) != ReplyMode::Silent,
            (Some(_), None) => true,
            (None, _) => matches!(command, Command::Negotiate(_)),
        }
    }

    /// Whether the milter wants to be told of a stage.
    pub(super) fn wants(&self, stage: Stage) -> bool {
        self.0.as_ref().is_none_or(|agreed| agreed.delivers(stage))
    }

    /// Whether values of headers have their leading space, in both directions.
    pub(super) fn leading_space(&self) -> bool {
        self.0.as_ref().is_some_and(Agreement::leading_space)
    }
}

/// The MTA's side of a connection, each piece with the answers to it.
pub(super) fn exchanges(connection: &Connection) -> Vec<Exchange<'_>> {
    let mut all: Vec<Exchange<'_>> = Vec::new();
    let mut agreed = Agreed::default();
    // Those that are due a reply: they get theirs in order.
    let mut due = VecDeque::new();
    for (entry, line) in connection.numbered() {
        if entry.from == Side::Mta {
            let command = command(&entry.said);
            let is_due = command.as_ref().is_some_and(|said| agreed.is_due(said));
            if is_due {
                due.push_back(all.len());
            }
            let stage = command.as_ref().and_then(Command::stage);
            all.push(Exchange {
                said: &entry.said,
                line,
                was_wanted: stage.is_none_or(|stage| agreed.wants(stage)),
                had_space: agreed.leading_space(),
                command,
                replies: Vec::new(),
                is_whole: !is_due,
            });
            continue;
        }
        if entry.said == Said::End {
            continue;
        }
        let answered = Answered::read(&entry.said);
        // One that nobody asked for is kept with what came last.
        let asked = due.front().copied();
        let at = asked.or(all.len().checked_sub(1));
        let Some(exchange) = at.and_then(|at| all.get_mut(at)) else {
            continue;
        };
        if let (Answered::Reply(Reply::Negotiate(answer)), Some(command)) =
            (&answered, &exchange.command)
        {
            agreed.hear(command, answer);
        }
        if answered.is_final() {
            exchange.is_whole = true;
            due.pop_front();
        }
        if !matches!(answered, Answered::Reply(Reply::Progress)) {
            exchange.replies.push(answered);
        }
    }
    all
}
