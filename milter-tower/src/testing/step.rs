//! What passed between the MTA and the filter, and how long that took.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use milter_core::{Command, Offer, OfferReply, Stage, Text, Verdict};

use crate::show;

/// One step of an SMTP session: what the MTA had to tell, and how the filter met it.
///
/// A [`Delivery`](super::Delivery) has those of its mail in order, each header and each piece of
/// the body among them.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// # use std::time::Duration;
/// # use milter_tower::{BoxError, Event, Request, Response};
/// # use tower::service_fn;
/// use milter_tower::testing::{Mail, MockMta, Reaction};
/// use milter_tower::Stage;
///
/// # let filter = service_fn(async |request: Request| {
/// #     if let Event::Rcpt(_) = request.event() {
/// #         tokio::time::sleep(Duration::from_millis(300)).await;
/// #     }
/// #     Ok::<_, BoxError>(Response::proceed())
/// # });
/// let done = MockMta::postfix(filter).deliver(Mail::new().to("bob@example.net")).await;
/// let rcpt = done.steps.iter().find(|step| step.stage == Stage::Rcpt).unwrap();
/// assert_eq!(rcpt.about(), "<bob@example.net>");
/// assert!(matches!(rcpt.reaction, Reaction::Answered(_)));
/// assert_eq!(rcpt.took.as_millis(), 300);
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Step {
    /// At which stage.
    pub stage: Stage,
    /// How the filter met it.
    pub reaction: Reaction,
    /// How often it said meanwhile that it is still at work.
    pub progress: u32,
    /// From the moment at which the MTA began to tell it to the last byte of the answer; where
    /// none is due, until it was written.
    pub took: Duration,
    about: Bytes,
    size: usize,
}

impl Step {
    pub(super) fn new(stage: Stage, command: &Command) -> Self {
        let (about, size) = match command {
            Command::Connect(client) => (client.host(), 0),
            Command::Helo(helo) => (helo.name(), 0),
            Command::Mail(sender) => (sender.address(), 0),
            Command::Rcpt(recipient) => (recipient.address(), 0),
            Command::Unknown(command) => (command.line(), 0),
            Command::Header(header) => (header.name(), header.value().len()),
            Command::Body(piece) => (Text::default(), piece.len()),
            _ => (Text::default(), 0),
        };
        Self {
            stage,
            reaction: Reaction::NotTold,
            progress: 0,
            took: Duration::ZERO,
            about: Bytes::copy_from_slice(&about),
            size,
        }
    }

    /// What it was about: the client's host name, the name in HELO, the address of the sender or of
    /// a recipient, the line of an unknown command, the name of a header. Empty at the other
    /// stages.
    pub fn about(&self) -> Text<'_> {
        Text::new(&self.about)
    }

    /// How many bytes the value of a header or the piece of the body has; 0 at the other stages.
    pub fn size(&self) -> usize {
        self.size
    }
}

/// The stage, what it was about, and how the filter met it. Not the time, for snapshots.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.stage)?;
        if !self.about.is_empty() {
            write!(f, " {}", show::Line(&self.about))?;
        }
        write!(f, ": {}", self.reaction)
    }
}

/// How a filter met a step.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reaction {
    /// It was not told: it declined such events, has decided already, or is gone.
    NotTold,
    /// It was told, and answers no such event.
    NoReplyDue,
    /// It answered.
    Answered(Verdict),
    /// It failed here: was too slow, went away, or broke the protocol.
    Failed,
}

impl fmt::Display for Reaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotTold => "not told",
            Self::NoReplyDue => "no reply due",
            Self::Answered(verdict) => verdict.name(),
            Self::Failed => "failed",
        })
    }
}

/// How a session began: the MTA's offer, and what the filter said to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Negotiation {
    /// What the MTA offered; none if there was no filter to offer it to.
    pub offer: Option<Offer>,
    /// The answer as it came. What holds is the
    /// [agreement](super::SmtpSession::agreement), which leaves out what was not offered.
    pub answer: Option<OfferReply>,
    /// How long the filter took to answer.
    pub took: Duration,
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::sleep;
    use tower::service_fn;

    use super::*;
    use crate::testing::{Failure, Fate, Mail, MockMta, MtaProfile};
    use crate::{BoxError, Event, Needs, Request, Response, Settings};

    /// A filter that is slow at RCPT and at the end, and sees no headers.
    async fn slow(request: Request) -> Result<Response, BoxError> {
        Ok(match request.event() {
            Event::Negotiate(_) => {
                let needs = Needs::none().event(Stage::Rcpt).record(Stage::Mail);
                Response::needs(needs.action(crate::Actions::ADD_HEADERS))
            }
            Event::Rcpt(_) => {
                sleep(Duration::from_millis(70)).await;
                Response::proceed()
            }
            Event::EndOfMessage(_) => {
                sleep(Duration::from_millis(2500)).await;
                Response::accept().add_header("X-Slow", "yes")
            }
            _ => Response::proceed(),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn each_step_is_told_with_its_time() {
        let settings = Settings::new().progress_interval(Duration::from_secs(1));
        let mut mta = MockMta::postfix(service_fn(slow)).settings(settings);
        let done = mta.deliver(Mail::new().to("a@b").to("c@d")).await;
        let steps: Vec<_> = done.steps.iter().map(ToString::to_string).collect();
        assert_eq!(
            steps,
            [
                "connect client.example: not told",
                "helo client.example: not told",
                "mail <alice@example.org>: no reply due",
                "rcpt <a@b>: continue",
                "rcpt <c@d>: continue",
                "data: not told",
                "header From: not told",
                "header To: not told",
                "header Subject: not told",
                "header Date: not told",
                "header Message-ID: not told",
                "end of headers: not told",
                "body: not told",
                "end of message: accept",
            ]
        );
        let took: Vec<_> = done
            .steps
            .iter()
            .map(|step| step.took.as_millis())
            .collect();
        assert_eq!(took, [0, 0, 0, 70, 70, 0, 0, 0, 0, 0, 0, 0, 0, 2500]);
        assert_eq!(done.steps.last().unwrap().progress, 2);
        assert_eq!(done.steps[12].size(), Mail::new().content().len());
    }

    #[tokio::test]
    async fn the_message_before_is_that_of_the_client() {
        let done = MockMta::sendmail(service_fn(slow))
            .deliver(Mail::new())
            .await;
        assert!(!done.before.headers().contains("X-Slow"));
        assert!(done.message.headers().contains("X-Slow"));
        assert_eq!(
            done.before.headers().len() + 1,
            done.message.headers().len()
        );
    }

    #[tokio::test]
    async fn the_negotiation_is_told_as_it_came() {
        let client = MockMta::postfix(service_fn(slow)).open().await;
        let Negotiation { offer, answer, .. } = client.negotiation().clone();
        assert_eq!(offer, Some(Offer::V6));
        let answer = answer.unwrap();
        assert_eq!(answer.version, 6);
        assert_eq!(answer.actions, crate::Actions::ADD_HEADERS);
        assert_eq!(client.protocol_failure(), None);
        client.quit().await;
    }

    #[tokio::test]
    async fn what_is_no_filter_fails_as_the_protocol_has_it() {
        let (io, mut peer) = duplex(1024);
        peer.write_all(b"220 mail.example ESMTP\r\n").await.unwrap();
        let client = MockMta::over(MtaProfile::postfix(), io).open().await;
        assert!(
            matches!(client.protocol_failure(), Some(Failure::Unreadable(_))),
            "{client:?}"
        );
        assert_eq!(client.negotiation().answer, None);
        client.lose().await;
    }

    #[tokio::test]
    async fn the_step_at_which_a_filter_goes_away_is_told() {
        let (io, mut peer) = duplex(1024);
        let mut mta = MockMta::over(MtaProfile::version_2(), io);
        let filter = tokio::spawn(async move {
            let mut offer = [0; 17];
            peer.read_exact(&mut offer).await.unwrap();
            // Version 2, nothing but MAIL and the end.
            let answer = b"\0\0\0\x0dO\0\0\0\x02\0\0\0\0\0\0\0\x7b";
            peer.write_all(answer).await.unwrap();
            let mut frames = Vec::new();
            while !frames.windows(6).any(|bytes| bytes == b"M<alic") {
                peer.read_buf(&mut frames).await.unwrap();
            }
        });
        let done = mta.deliver(Mail::new()).await;
        filter.await.unwrap();
        assert!(matches!(done.fate, Fate::Failed(_)), "{done}");
        let mail = done.steps.iter().find(|step| step.stage == Stage::Mail);
        assert_eq!(mail.unwrap().reaction, Reaction::Failed);
        let failed = |step: &&Step| step.reaction == Reaction::Failed;
        assert_eq!(
            done.steps.iter().filter(failed).count(),
            1,
            "{:?}",
            done.steps
        );
    }
}
