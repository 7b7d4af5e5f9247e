//! Verdicts, and where each is allowed.

use crate::negotiate::{Agreement, ReplyMode};
use crate::reply::Reply;
use crate::smtp_reply::SmtpReply;
use crate::stage::Stage;

/// What a filter says to an event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// Go on. At the end of the message the same as [`Accept`](Self::Accept).
    #[default]
    Continue,
    /// This filter wants no more of the message, or at connect and HELO of the connection, and
    /// has nothing against it.
    Accept,
    /// Refuse for good, in the MTA's words.
    Reject,
    /// Refuse for now, in the MTA's words.
    TempFail,
    /// Refuse, in these words: for good with a code 5xx, for now with 4xx.
    Reply(SmtpReply),
    /// Tell the client that the message was accepted, and drop it.
    Discard,
    /// No more of the body is wanted; the end of the message still comes.
    Skip,
}

impl Verdict {
    /// Whether the MTAs can take the verdict at this stage without harm.
    ///
    /// Discard at connect, HELO or an unknown command switches filtering off or swallows the
    /// next message, accept at an unknown command can crash Postfix, and a skip anywhere but in
    /// the body disables the filter (C61).
    // Q9, Q11, Q13. sendmail/milter.c milter_send_command, milter_connect; Postfix milter8.c
    // milter8_unknown_event, milter8_mail_event
    pub fn is_allowed_at(&self, stage: Stage) -> bool {
        match self {
            Self::Continue | Self::Reject | Self::TempFail | Self::Reply(_) => true,
            Self::Accept => stage != Stage::Unknown,
            Self::Discard => stage.is_of_message(),
            Self::Skip => stage == Stage::Body,
        }
    }

    /// Whether the verdict can be sent at this stage under this agreement.
    ///
    /// # Errors
    ///
    /// What is wrong, and what to do.
    pub fn check(&self, stage: Stage, agreement: &Agreement) -> Result<(), NotAllowed> {
        let name = self.name();
        if !self.is_allowed_at(stage) {
            Err(NotAllowed::Stage {
                verdict: name,
                stage,
            })
        } else if *self == Self::Skip && !agreement.skip() {
            Err(NotAllowed::NoSkip)
        } else if *self != Self::Continue && agreement.reply_mode(stage) != ReplyMode::Verdict {
            Err(NotAllowed::NoReply {
                verdict: name,
                stage,
            })
        } else {
            Ok(())
        }
    }

    /// Whether the message is over for the filter after this verdict at this stage.
    // sendmail/milter.c milter_send_command and Postfix milter8.c milter8_event send no more of it;
    // sendmail/srvrsmtp.c smtp_data and Postfix smtpd.c data_cmd keep it open after refused DATA (Q24)
    pub fn ends_message_at(&self, stage: Stage) -> bool {
        match stage {
            Stage::Connect | Stage::Helo | Stage::Unknown => false,
            Stage::EndOfMessage => true,
            // A refused recipient or DATA leaves the message open.
            Stage::Rcpt | Stage::Data => matches!(self, Self::Accept | Self::Discard),
            _ => !matches!(self, Self::Continue | Self::Skip),
        }
    }

    /// Whether this refuses: reject, tempfail or a reply.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Reject | Self::TempFail | Self::Reply(_))
    }

    /// A word for logs: `continue`, `accept`, `reject`, `tempfail`, `discard`, `skip`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Continue => "continue",
            Self::Accept => "accept",
            Self::Reply(reply) if reply.is_transient() => "tempfail",
            Self::Reject | Self::Reply(_) => "reject",
            Self::TempFail => "tempfail",
            Self::Discard => "discard",
            Self::Skip => "skip",
        }
    }

    /// The reply that says so on the wire.
    pub fn to_reply(&self) -> Reply {
        match self {
            Self::Continue => Reply::Continue,
            Self::Accept => Reply::Accept,
            Self::Reject => Reply::Reject,
            Self::TempFail => Reply::TempFail,
            Self::Reply(reply) => Reply::Smtp(reply.clone()),
            Self::Discard => Reply::Discard,
            Self::Skip => Reply::Skip,
        }
    }
}

impl From<SmtpReply> for Verdict {
    fn from(reply: SmtpReply) -> Self {
        Self::Reply(reply)
    }
}

/// Why a verdict cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAllowed {
    /// The stage knows no such verdict.
    #[error("the verdict {verdict} is not possible at {stage}")]
    Stage {
        /// The verdict's name.
        verdict: &'static str,
        /// Where it was given.
        stage: Stage,
    },
    /// SKIP was not negotiated.
    #[error(
        "skip was not negotiated: ask for it in the filter's needs, and expect old MTAs not to offer it"
    )]
    NoSkip,
    /// The stage has no reply.
    #[error("the verdict {verdict} at {stage} is lost: no reply was negotiated there")]
    NoReply {
        /// The verdict's name.
        verdict: &'static str,
        /// Where it was given.
        stage: Stage,
    },
}

#[cfg(test)]
mod tests {
    use Stage::{Body, Data, EndOfHeaders, EndOfMessage, Header, Mail, Rcpt};

    use super::*;
    use crate::flags::Steps;
    use crate::negotiate::{Needs, Offer, negotiate};

    #[test]
    fn c61_verdicts_that_mtas_cannot_bear() {
        let of = |v: Verdict| {
            Stage::ALL
                .into_iter()
                .filter(|s| v.is_allowed_at(*s))
                .count()
        };
        assert_eq!(of(Verdict::Continue), 10);
        assert_eq!(of(Verdict::Reject), 10);
        assert_eq!(of(SmtpReply::reject("no").into()), 10);
        assert_eq!(of(Verdict::Accept), 9);
        assert!(!Verdict::Accept.is_allowed_at(Stage::Unknown));
        assert_eq!(of(Verdict::Discard), 7);
        assert_eq!(of(Verdict::Skip), 1);

        let plain = negotiate(&Offer::V6, &Needs::all()).unwrap();
        assert_eq!(Verdict::Skip.check(Body, &plain), Err(NotAllowed::NoSkip));
        let skips = negotiate(&Offer::V6, &Needs::all().skip()).unwrap();
        assert_eq!(Verdict::Skip.check(Body, &skips), Ok(()));
        assert!(Verdict::Skip.check(Header, &skips).is_err());
        let silent = negotiate(&Offer::V6, &Needs::none().record(Mail)).unwrap();
        assert!(Verdict::Reject.check(Mail, &silent).is_err());
        assert!(Verdict::Continue.check(Mail, &silent).is_ok());
    }

    /// libmilter keeps a text for whatever verdict comes next; here text and class are one.
    #[test]
    fn c69_a_reply_goes_with_its_own_class_only() {
        for (reply, name) in [
            (SmtpReply::reject("no"), "reject"),
            (SmtpReply::tempfail("later"), "tempfail"),
        ] {
            let verdict = Verdict::from(reply.clone());
            assert_eq!(verdict.name(), name);
            assert_eq!(verdict.to_reply(), Reply::Smtp(reply));
        }
        assert_eq!(Verdict::Reject.to_reply(), Reply::Reject);
        assert_eq!(Verdict::TempFail.to_reply(), Reply::TempFail);
    }

    #[test]
    fn c63_a_verdict_without_a_reply_is_an_error() {
        let silent = Needs::none().record(Mail).record(Body).skip();
        let old = Offer {
            steps: Steps::SKIP,
            ..Offer::V6
        };
        // Where the MTA cannot leave the reply out it is `continue`, and as lost.
        for offer in [Offer::V6, old] {
            let agreement = negotiate(&offer, &silent).unwrap();
            for (verdict, stage) in [
                (Verdict::Reject, Mail),
                (SmtpReply::tempfail("later").into(), Mail),
                (Verdict::Discard, Body),
                (Verdict::Skip, Body),
            ] {
                let error = verdict.check(stage, &agreement);
                assert!(
                    matches!(error, Err(NotAllowed::NoReply { .. })),
                    "{verdict:?}"
                );
            }
            assert_eq!(Verdict::Continue.check(Mail, &agreement), Ok(()));
            assert_eq!(Verdict::Reject.check(EndOfMessage, &agreement), Ok(()));
        }
    }

    #[test]
    fn c51_what_ends_a_message() {
        let table = |v: &Verdict| -> Vec<Stage> {
            Stage::ALL
                .into_iter()
                .filter(|s| v.ends_message_at(*s))
                .collect()
        };
        assert_eq!(table(&Verdict::Continue), [EndOfMessage]);
        assert_eq!(table(&Verdict::Skip), [EndOfMessage]);
        for v in [Verdict::Accept, Verdict::Discard] {
            assert_eq!(
                table(&v),
                [Mail, Rcpt, Data, Header, EndOfHeaders, Body, EndOfMessage]
            );
        }
        for v in [
            Verdict::Reject,
            Verdict::TempFail,
            SmtpReply::reject("no").into(),
        ] {
            assert_eq!(table(&v), [Mail, Header, EndOfHeaders, Body, EndOfMessage]);
        }
    }
}
