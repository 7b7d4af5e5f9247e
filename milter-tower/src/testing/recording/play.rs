//! The MTA's side of a recorded connection, played before a filter.

use std::ops::ControlFlow;
use std::time::Duration;

use futures::StreamExt;
use milter_core::{Command, MAX_PAYLOAD, MtaCodec, Reply};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::time::timeout;
use tokio_util::codec::Framed;

use super::Connection;
use super::compare::{CONTINUE, Ignored, lines, question};
use super::course::Course;
use super::entry::Said;
use super::exchange::{Agreed, Answered, Exchange, exchanges};
use super::replay::Difference;

/// How long the filter may take for a frame: longer than its server does.
const PATIENCE: Duration = Duration::from_secs(400);

/// What a connection's replay came to.
#[derive(Debug, Default)]
pub(super) struct Played {
    pub(super) differences: Vec<Difference>,
    /// How many commands were answered.
    pub(super) answers: usize,
    /// Whether the filter's server did not take part to the end.
    pub(super) is_cut: bool,
}

/// Plays the connection. The filter's server is at the other end of `io`.
pub(super) async fn play(connection: &Connection, io: DuplexStream, ignored: &Ignored) -> Played {
    let mut codec = MtaCodec::new();
    codec.set_max_read(MAX_PAYLOAD);
    let mut player = Player {
        framed: Framed::new(io, codec),
        connection: connection.number(),
        ignored,
        agreed: Agreed::default(),
        course: Course::default(),
        played: Played::default(),
    };
    for exchange in exchanges(connection) {
        if player.step(&exchange).await.is_break() {
            break;
        }
    }
    player.played
}

struct Player<'r> {
    framed: Framed<DuplexStream, MtaCodec>,
    connection: u64,
    ignored: &'r Ignored,
    /// What this filter agreed to.
    agreed: Agreed,
    course: Course,
    played: Played,
}

impl Player<'_> {
    async fn step(&mut self, exchange: &Exchange<'_>) -> ControlFlow<()> {
        let Some(command) = &exchange.command else {
            return match exchange.said {
                Said::End => ControlFlow::Break(()),
                // Whether the server hangs up on it is its own matter.
                said => self
                    .send(said)
                    .await
                    .map_or(ControlFlow::Break(()), |()| ControlFlow::Continue(())),
            };
        };
        if !self.course.takes(command) {
            return ControlFlow::Continue(());
        }
        let is_declined = command
            .stage()
            .is_some_and(|stage| !self.agreed.wants(stage));
        if is_declined && exchange.was_wanted {
            // The MTA would not tell this filter.
            self.compare(exchange, command, &Answers::NotAsked);
            return ControlFlow::Continue(());
        }
        match self.ask(exchange, command).await {
            Ok(answers) => {
                let reply = answers.last().cloned();
                let is_same = self.compare(exchange, command, &Answers::of(answers));
                self.course.follow(command, reply.as_ref(), is_same);
                ControlFlow::Continue(())
            }
            // Nor did the milter that was recorded answer.
            Err(_) if !exchange.is_whole => ControlFlow::Break(()),
            Err(why) => {
                self.played.is_cut = true;
                let recorded = lines(command, &exchange.replies, exchange.had_space, self.ignored);
                self.differ(exchange, command, recorded, vec![format!("({why})")]);
                ControlFlow::Break(())
            }
        }
    }

    /// Tells the filter, and waits for its answer if one is due.
    async fn ask(
        &mut self,
        exchange: &Exchange<'_>,
        command: &Command,
    ) -> Result<Vec<Reply>, &'static str> {
        match self.adapted(exchange, command) {
            Some(said) => self.send(&said).await?,
            None => self.send(exchange.said).await?,
        }
        let mut replies = Vec::new();
        if !self.agreed.is_due(command) {
            return Ok(replies);
        }
        loop {
            let reply = match timeout(PATIENCE, self.framed.next()).await {
                Ok(Some(Ok(reply))) => reply,
                Ok(Some(Err(_)) | None) => return Err("the filter's server closed the connection"),
                Err(_) => return Err("no answer in time"),
            };
            if let Reply::Negotiate(answer) = &reply {
                self.agreed.hear(command, answer);
            }
            let is_final = reply.is_final();
            if reply != Reply::Progress {
                replies.push(reply);
            }
            if is_final {
                self.played.answers += 1;
                return Ok(replies);
            }
        }
    }

    /// A header as the MTA would send it under this agreement, if that is otherwise than recorded.
    // sendmail/milter.c milter_headers, Postfix milter8.c milter8_header: one space
    fn adapted(&self, exchange: &Exchange<'_>, command: &Command) -> Option<Said> {
        let Command::Header(header) = command else {
            return None;
        };
        let value = header.value();
        let value = match (exchange.had_space, self.agreed.leading_space()) {
            (true, false) => value.strip_prefix(b" ")?.to_vec(),
            (false, true) => [b" ", &value[..]].concat(),
            _ => return None,
        };
        let payload = [&header.name(), &b"\0"[..], &value, b"\0"].concat();
        Some(Said::frame(command.code(), payload))
    }

    async fn send(&mut self, said: &Said) -> Result<(), &'static str> {
        let bytes = said.wire();
        match timeout(PATIENCE, self.framed.get_mut().write_all(&bytes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err("the filter's server closed the connection"),
            Err(_) => Err("the filter's server does not read"),
        }
    }

    /// Whether the filter says the same as what was recorded. Silence and `continue` are the same:
    /// which of them it is was negotiated, and is compared there.
    fn compare(&mut self, exchange: &Exchange<'_>, command: &Command, answers: &Answers) -> bool {
        let is_ignored = self.ignored.negotiation && matches!(command, Command::Negotiate(_));
        if !exchange.is_whole || is_ignored {
            return true;
        }
        let recorded = lines(command, &exchange.replies, exchange.had_space, self.ignored);
        let answered = answers.lines(command, self.agreed.leading_space(), self.ignored);
        let says_nothing =
            |lines: &[String]| lines.is_empty() || matches!(lines, [line] if line == CONTINUE);
        if recorded == answered || says_nothing(&recorded) && says_nothing(&answered) {
            return true;
        }
        let answered = if answered.is_empty() {
            vec![answers.silence().to_owned()]
        } else {
            answered
        };
        self.differ(exchange, command, recorded, answered);
        false
    }

    fn differ(
        &mut self,
        exchange: &Exchange<'_>,
        command: &Command,
        recorded: Vec<String>,
        answered: Vec<String>,
    ) {
        self.played.differences.push(Difference {
            connection: self.connection,
            line: exchange.line,
            at: question(command),
            recorded,
            answered,
        });
    }
}

/// What the filter answered to something.
enum Answers {
    /// It does not want to be asked.
    NotAsked,
    Given(Vec<Answered>),
}

impl Answers {
    fn of(replies: Vec<Reply>) -> Self {
        Self::Given(replies.into_iter().map(Answered::Reply).collect())
    }

    fn lines(&self, command: &Command, has_space: bool, ignored: &Ignored) -> Vec<String> {
        match self {
            Self::NotAsked => Vec::new(),
            Self::Given(replies) => lines(command, replies, has_space, ignored),
        }
    }

    const fn silence(&self) -> &'static str {
        match self {
            Self::NotAsked => "(it asks not to be told of this)",
            Self::Given(_) => "(it asks not to answer this)",
        }
    }
}
