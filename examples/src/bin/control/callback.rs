//! What the rules do at one callback.

use std::time::Duration;

use milter_tower::{
    Agreement, Modification, Progress, ReplyMode, Request, Response, SmtpReply, Stage, Text,
    Verdict,
};
use tracing::warn;

use crate::rules::Rule;
use crate::trace::Trace;

/// One callback, and what its rules have asked for so far.
pub(crate) struct Callback {
    stage: Stage,
    request: Request,
    trace: Trace,
    reply: Option<SmtpReply>,
    edits: Vec<Modification>,
    body: Option<Vec<u8>>,
}

impl Callback {
    pub(crate) fn new(stage: Stage, request: Request, trace: Trace) -> Self {
        Self {
            stage,
            request,
            trace,
            reply: None,
            edits: Vec::new(),
            body: None,
        }
    }

    /// Runs the rules up to the first verdict.
    pub(crate) async fn run(mut self, rules: Vec<Rule>) -> Response {
        let mut verdict = Verdict::Continue;
        for rule in &rules {
            if let Some(wanted) = named_verdict(rule) {
                if let Some(allowed) = self.decide(wanted, rule) {
                    verdict = allowed;
                    break;
                }
            } else if self.act(rule).await.is_none() {
                self.failed(rule);
            }
        }
        let body = self.body.map(Modification::replace_body);
        Response::from(verdict).edit_all(self.edits.into_iter().chain(body))
    }

    fn agreement(&self) -> Option<&Agreement> {
        self.request.session().agreement()
    }

    fn failed(&self, rule: &Rule) {
        self.trace.line([b"failed", &rule.action[..]]);
    }

    /// The verdict to be given; none if the rules go on because it cannot be given here.
    fn decide(&mut self, wanted: Verdict, rule: &Rule) -> Option<Verdict> {
        let mode = self.agreement()?.reply_mode(self.stage);
        if mode != ReplyMode::Verdict {
            if wanted != Verdict::Continue {
                self.failed(rule);
            }
            return Some(Verdict::Continue);
        }
        if rule.action == b"reply" && self.set_reply(&rule.args).is_none() {
            self.failed(rule);
        }
        if wanted.check(self.stage, self.agreement()?).is_err() {
            self.failed(rule);
            return None;
        }
        Some(match (wanted, self.reply.take()) {
            (Verdict::Reject, Some(reply)) if reply.is_permanent() => reply.into(),
            (Verdict::TempFail, Some(reply)) if reply.is_transient() => reply.into(),
            (wanted, _) => wanted,
        })
    }

    /// Does what is no verdict; none if it cannot be done.
    async fn act(&mut self, rule: &Rule) -> Option<()> {
        match (&rule.action[..], &rule.args[..]) {
            (b"setreply", words) => self.set_reply(words)?,
            (b"macro", names) => {
                for name in names {
                    let value = self.request.session().macros().get(name);
                    let words = [&b"macro"[..], name].into_iter();
                    self.trace.line(words.chain(value.map(Text::as_bytes)));
                }
            }
            (b"sleep", [time]) => tokio::time::sleep(Duration::from_millis(number(time)?)).await,
            (b"progress", []) => self.progress()?.send(),
            (b"replbody", [text]) => self.append(text)?,
            (b"replfill", [size]) => self.append(&fill(number(size)?))?,
            (b"addheader", [name, value]) => self.edit(Modification::add_header(name, value))?,
            (b"insheader", [index, name, value]) => {
                self.edit(Modification::insert_header(number(index)?, name, value))?;
            }
            (b"chgheader", [name, index, value]) => {
                self.edit(Modification::change_header(name, number(index)?, value))?;
            }
            (b"delheader", [name, index]) => {
                self.edit(Modification::delete_header(name, number(index)?))?;
            }
            (b"addrcpt", [address]) => self.edit(Modification::add_recipient(address))?,
            (b"addrcpt", [address, args]) => {
                self.edit(Modification::add_recipient_with_args(address, args))?;
            }
            (b"delrcpt", [address]) => self.edit(Modification::delete_recipient(address))?,
            (b"chgfrom", [address]) => self.edit(Modification::change_sender(address))?,
            (b"chgfrom", [address, args]) => {
                self.edit(Modification::change_sender_with_args(address, args))?;
            }
            (b"quarantine", [reason]) => self.edit(Modification::quarantine(reason))?,
            (action, _) => {
                warn!(action = %action.escape_ascii(), "no such action, or with other words");
                return None;
            }
        }
        Some(())
    }

    fn set_reply(&mut self, words: &[Vec<u8>]) -> Option<()> {
        let [code, enhanced, lines @ ..] = words else {
            return None;
        };
        let mut reply = SmtpReply::builder(number(code)?).lines(lines);
        if !enhanced.is_empty() {
            reply = reply.enhanced_code(text(enhanced)?.parse().ok()?);
        }
        self.reply = Some(logged(reply.build())?);
        Some(())
    }

    fn progress(&self) -> Option<&Progress> {
        match self.request.event() {
            milter_tower::Event::EndOfMessage(progress) => Some(progress),
            _ => None,
        }
    }

    /// Takes the modification if it may be made.
    fn edit<E: std::fmt::Display>(&mut self, edit: Result<Modification, E>) -> Option<()> {
        let edit = logged(edit)?;
        self.permit(&edit)?;
        self.edits.push(edit);
        Some(())
    }

    /// Appends to the new body.
    fn append(&mut self, text: &[u8]) -> Option<()> {
        self.permit(&Modification::replace_body(text.to_vec()))?;
        self.body.get_or_insert_default().extend_from_slice(text);
        Some(())
    }

    fn permit(&self, edit: &Modification) -> Option<()> {
        if self.stage != Stage::EndOfMessage {
            warn!(?edit, stage = %self.stage, "a message can be changed at its end only");
            return None;
        }
        logged(self.agreement()?.permits(edit))
    }
}

/// The verdict that the rule's action is, without a reply's text; none if it is no verdict.
fn named_verdict(rule: &Rule) -> Option<Verdict> {
    Some(match &rule.action[..] {
        b"continue" => Verdict::Continue,
        b"accept" => Verdict::Accept,
        b"reject" => Verdict::Reject,
        b"discard" => Verdict::Discard,
        b"skip" => Verdict::Skip,
        b"reply" if rule.args.first().is_some_and(|code| code.starts_with(b"5")) => Verdict::Reject,
        b"reply" | b"tempfail" => Verdict::TempFail,
        _ => return None,
    })
}

/// The value, or none and a log line.
fn logged<T, E: std::fmt::Display>(result: Result<T, E>) -> Option<T> {
    result
        .inspect_err(|error| warn!(%error, "refused by the library"))
        .ok()
}

fn text(word: &[u8]) -> Option<&str> {
    std::str::from_utf8(word).ok()
}

/// A number of nothing but digits.
fn number<N: std::str::FromStr>(word: &[u8]) -> Option<N> {
    if word.iter().all(u8::is_ascii_digit) {
        text(word)?.parse().ok()
    } else {
        None
    }
}

/// That many bytes of numbered lines.
fn fill(size: usize) -> Vec<u8> {
    let lines = (1..=size.div_ceil(64)).map(|n| format!("{n:08} {:x<53}\r\n", ""));
    let mut bytes = lines.collect::<String>().into_bytes();
    bytes.truncate(size);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filler_is_lines_of_64_bytes() {
        assert_eq!(fill(0), b"");
        assert_eq!(fill(65).len(), 65);
        assert_eq!(fill(130)[..64].len(), 64);
        assert!(fill(130).starts_with(b"00000001 xxx") && fill(130).ends_with(b"x\r\n00"));
        assert_eq!(&fill(128)[64..73], b"00000002 ");
    }

    #[test]
    fn numbers_are_digits_only() {
        assert_eq!(number::<u16>(b"550"), Some(550));
        for bad in [&b""[..], b"+5", b"55 ", b"5xx", b"99999"] {
            assert_eq!(number::<u16>(bad), None);
        }
    }
}
