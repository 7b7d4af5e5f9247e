//! What became of a mail.

use std::fmt;

use bytes::Bytes;
use milter_core::{Modification, Recipient, Sender, SmtpReply, Stage, Text, Verdict, edit};

use super::ClientError;
use crate::Headers;
use crate::show;

/// What became of a mail: what the filter answered, what it changed, and the message as the MTA
/// would deliver it.
///
/// `{}` and `{:?}` show all of it, in a form that is the same for the same delivery and fits into
/// a snapshot: bytes that cannot be printed are escapes, long lines and bodies are cut.
///
/// ```
/// use milter_core::edit::{Mail, Profile};
/// use milter_tower::client::{Delivery, Fate, StageAnswer};
/// use milter_tower::{Stage, SmtpReply};
///
/// let mut done = Delivery::new(Mail::new(Profile::postfix()));
/// let reply = SmtpReply::reject("Not today");
/// done.answers.push(StageAnswer::new(Stage::Mail, reply.clone()));
/// done.refuse(Stage::Mail, reply);
/// assert!(done.is_refused());
/// assert_eq!(done.reply().unwrap().code(), 550);
/// assert!(done.to_string().starts_with("refused at mail: 550 5.7.1 Not today\n"));
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct Delivery {
    /// Whether it was accepted, refused or dropped.
    pub fate: Fate,
    /// The stage at which that was decided; none if it was not a filter's answer.
    pub ended_at: Option<Stage>,
    /// What the filter answered, in order. Of its answers to single headers and pieces of the body
    /// only those that do not just go on.
    pub answers: Vec<StageAnswer>,
    /// Each step that the MTA took, in order, with how the filter met it and how long that took.
    /// Kept by the test kit only.
    #[cfg(feature = "testing")]
    #[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
    pub steps: Vec<crate::testing::Step>,
    /// How the filter failed for the MTA, if it did. What became of the mail is then as the
    /// [default action](super::DefaultAction) has it. Not set by the test kit.
    pub failure: Option<ClientError>,
    /// How a filter under test failed, if it did: at which event, and what its server would log of
    /// it. The MTA got the failure verdict then, unless no answer was due.
    pub failures: Vec<String>,
    /// The modifications that the filter asked for, in the order in which they were sent.
    pub edits: Vec<Modification>,
    /// The message as it was without the filter's modifications.
    pub before: Delivered,
    /// The message: as it would be delivered, or if it is not, as it was when that was decided.
    pub message: Delivered,
}

impl Delivery {
    /// A mail that was accepted as the MTA holds it, with nothing answered.
    pub fn new(message: edit::Mail) -> Self {
        Self {
            fate: Fate::Accepted,
            ended_at: None,
            answers: Vec::new(),
            #[cfg(feature = "testing")]
            steps: Vec::new(),
            failure: None,
            failures: Vec::new(),
            edits: Vec::new(),
            before: message.clone().into(),
            message: message.into(),
        }
    }

    /// Takes down that the mail was refused.
    pub fn refuse(&mut self, at: Stage, reply: SmtpReply) {
        self.end(at, Fate::Refused(reply));
    }

    /// Takes down how the mail ended, and at which stage.
    pub fn end(&mut self, at: Stage, fate: Fate) {
        self.ended_at = Some(at);
        self.fate = fate;
    }

    /// Whether the MTA took the mail, maybe for its [quarantine](Self::quarantine).
    pub fn is_accepted(&self) -> bool {
        matches!(self.fate, Fate::Accepted)
    }

    /// Whether the mail was refused, for good or for now: itself, or all of its recipients.
    pub fn is_refused(&self) -> bool {
        matches!(self.fate, Fate::Refused(_) | Fate::NoRecipients)
    }

    /// Whether the client was told that the mail was taken, and nobody gets it.
    pub fn is_discarded(&self) -> bool {
        matches!(self.fate, Fate::Discarded)
    }

    /// The SMTP reply by which the mail was refused; where each recipient was, that to the last
    /// one.
    pub fn reply(&self) -> Option<&SmtpReply> {
        match &self.fate {
            Fate::Refused(reply) => Some(reply),
            Fate::NoRecipients => {
                let mut answers = self.answers.iter().rev();
                answers.find_map(|answer| answer.recipient.as_ref().and(answer.reply.as_ref()))
            }
            _ => None,
        }
    }

    /// Why the mail is held back, if it is.
    pub fn quarantine(&self) -> Option<Text<'_>> {
        self.message.mail.quarantine()
    }

    /// The filter's last answer at a stage.
    pub fn answer_at(&self, stage: Stage) -> Option<&StageAnswer> {
        let mut answers = self.answers.iter().rev();
        answers.find(|answer| answer.stage == stage)
    }

    /// The filter's answer to a recipient, whose address is given with or without `<>`.
    pub fn answer_to(&self, recipient: impl AsRef<[u8]>) -> Option<&StageAnswer> {
        let wanted = Recipient::new(Bytes::copy_from_slice(recipient.as_ref()), [""; 0]);
        let is_meant = |to: &Recipient| to.mailbox().eq_ignore_ascii_case(wanted.mailbox());
        let mut answers = self.answers.iter();
        answers.find(|answer| answer.recipient.as_ref().is_some_and(is_meant))
    }

    /// The recipients that the filter refused.
    pub fn refused_recipients(&self) -> impl Iterator<Item = &Recipient> {
        let answers = self.answers.iter();
        answers
            .filter(|answer| answer.verdict.is_refusal())
            .filter_map(|answer| answer.recipient.as_ref())
    }
}

impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.fate.name())?;
        if let Some(stage) = self.ended_at {
            write!(f, " at {stage}")?;
        }
        match &self.fate {
            Fate::Refused(reply) => writeln!(f, ": {}", show::Line(reply.to_string().as_bytes()))?,
            Fate::Failed(why) => writeln!(f, ": {why}")?,
            _ => writeln!(f)?,
        }
        if let Some(reason) = self.quarantine() {
            writeln!(f, "held back: {}", show::Line(&reason))?;
        }
        if !self.answers.is_empty() {
            writeln!(f, "answers:")?;
        }
        for answer in &self.answers {
            writeln!(f, "  {answer}")?;
        }
        if self.failure.is_some() || !self.failures.is_empty() {
            writeln!(f, "the filter failed:")?;
        }
        if let Some(failure) = &self.failure {
            writeln!(f, "  {}", show::Line(failure.to_string().as_bytes()))?;
        }
        for failure in &self.failures {
            writeln!(f, "  {}", show::Line(failure.as_bytes()))?;
        }
        if !self.edits.is_empty() {
            writeln!(f, "edits:")?;
        }
        for edit in &self.edits {
            writeln!(f, "  {}", show::Edit(edit))?;
        }
        writeln!(f, "message:")?;
        write!(f, "{}", self.message)
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How a mail ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fate {
    /// The MTA took it, to deliver it or to hold it back.
    Accepted,
    /// The MTA told the client that it took it, and dropped it.
    Discarded,
    /// The client got this reply: 5xx for good, or 4xx to try again later.
    Refused(SmtpReply),
    /// Each of its recipients was refused, and so the client gave up.
    NoRecipients,
    /// The client gave up, or went away.
    Aborted,
    /// The filter did what no MTA takes, or went away, and the MTA would do what it is configured
    /// to do without the filter. It says what happened.
    Failed(String),
}

impl Fate {
    /// In a word or two.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Discarded => "discarded",
            Self::Refused(_) => "refused",
            Self::NoRecipients => "no recipients",
            Self::Aborted => "aborted",
            Self::Failed(_) => "failed",
        }
    }
}

/// What a filter answered to one event.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StageAnswer {
    /// At which stage.
    pub stage: Stage,
    /// Concerning which recipient, at RCPT.
    pub recipient: Option<Recipient>,
    /// What the filter said.
    pub verdict: Verdict,
    /// What the MTA told the client for it, if that was a refusal: the filter's own words, or the
    /// MTA's.
    pub reply: Option<SmtpReply>,
}

impl StageAnswer {
    /// An answer; one in words of its own is told to the client in these.
    pub fn new(stage: Stage, verdict: impl Into<Verdict>) -> Self {
        let verdict = verdict.into();
        let reply = match &verdict {
            Verdict::Reply(reply) => Some(reply.clone()),
            _ => None,
        };
        Self {
            stage,
            recipient: None,
            verdict,
            reply,
        }
    }

    /// Sets the recipient that it concerns.
    #[must_use]
    pub fn with_recipient(mut self, recipient: Recipient) -> Self {
        self.recipient = Some(recipient);
        self
    }

    /// Sets what the client was told.
    #[must_use]
    pub fn with_reply(mut self, reply: SmtpReply) -> Self {
        self.reply = Some(reply);
        self
    }
}

impl fmt::Display for StageAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.stage)?;
        if let Some(to) = &self.recipient {
            write!(f, " {}", show::Line(&to.address()))?;
        }
        write!(f, ": {}", self.verdict.name())?;
        match &self.reply {
            Some(reply) => write!(f, " ({})", show::Line(reply.to_string().as_bytes())),
            None => Ok(()),
        }
    }
}

/// A message as an MTA would deliver it, its own `Received` among the headers.
#[derive(Clone)]
pub struct Delivered {
    mail: edit::Mail,
    headers: Headers,
}

impl Delivered {
    /// The sender.
    pub fn sender(&self) -> &Sender {
        self.mail.sender()
    }

    /// The recipients, without those that were refused.
    pub fn recipients(&self) -> &[Recipient] {
        self.mail.recipients()
    }

    /// The headers in order.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// The body.
    pub fn body(&self) -> &Bytes {
        self.mail.body()
    }
}

impl From<edit::Mail> for Delivered {
    fn from(mail: edit::Mail) -> Self {
        Self {
            headers: mail.headers().cloned().collect(),
            mail,
        }
    }
}

impl fmt::Display for Delivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sender = self.sender();
        writeln!(f, "  from {}", show::Path(sender.address(), sender.args()))?;
        for to in self.recipients() {
            writeln!(f, "  to {}", show::Path(to.address(), to.args()))?;
        }
        show::message(f, &self.headers, self.body(), "  | ")
    }
}

impl fmt::Debug for Delivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
