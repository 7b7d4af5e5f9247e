//! What a filter answers.

use bytes::Bytes;
use milter_core::{Modification, ModificationError, ModificationKind, Needs, SmtpReply, Verdict};

/// A filter's answer to a [`Request`](crate::Request): a verdict, and at the end of the message
/// the changes to it.
///
/// What the stage or the negotiation does not allow is not sent: it becomes the failure verdict
/// (tempfail, unless configured otherwise) and a log line that says what was wrong.
///
/// ```
/// use milter_tower::{Response, SmtpReply};
///
/// let refused = Response::from(SmtpReply::reject("You are on our block list"));
/// let marked = Response::accept().add_header("X-Spam-Flag", "YES").quarantine("looks like spam");
/// assert_eq!(marked.edits().len(), 2);
/// # let _ = refused;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "a response does nothing unless it is returned"]
pub struct Response {
    verdict: Verdict,
    extra: Option<Box<Extra>>,
}

/// What few responses have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Extra {
    edits: Vec<Modification>,
    /// The first edit that could not be made.
    error: Option<ModificationError>,
    needs: Option<Needs>,
    refused: bool,
    /// The edits are sent in this order: that in which another filter sent them.
    is_in_order: bool,
}

impl Response {
    /// Go on. At the end of the message the same as [`accept`](Self::accept).
    pub const fn proceed() -> Self {
        Self {
            verdict: Verdict::Continue,
            extra: None,
        }
    }

    /// Nothing against it, and no more of it wanted: of the message, or at connect and HELO of
    /// the connection. Filters behind this one are asked nevertheless.
    pub const fn accept() -> Self {
        Self {
            verdict: Verdict::Accept,
            extra: None,
        }
    }

    /// Refuse for good, in the MTA's words. For words of your own see [`SmtpReply`].
    pub const fn reject() -> Self {
        Self {
            verdict: Verdict::Reject,
            extra: None,
        }
    }

    /// Refuse for now, in the MTA's words.
    pub const fn tempfail() -> Self {
        Self {
            verdict: Verdict::TempFail,
            extra: None,
        }
    }

    /// Refuse in these words: for good or for now, as the reply's code says.
    pub const fn reply(reply: SmtpReply) -> Self {
        Self {
            verdict: Verdict::Reply(reply),
            extra: None,
        }
    }

    /// Tell the client that the message was accepted, and drop it. From MAIL on.
    pub const fn discard() -> Self {
        Self {
            verdict: Verdict::Discard,
            extra: None,
        }
    }

    /// No more of this body is wanted; the end of the message still comes. In the body only, and
    /// only if [`Agreement::skip`](milter_core::Agreement::skip) says so.
    pub const fn skip() -> Self {
        Self {
            verdict: Verdict::Skip,
            extra: None,
        }
    }

    /// What a filter elsewhere sent: its edits are sent in the order in which they came.
    pub(crate) fn sent(verdict: Verdict, edits: Vec<Modification>) -> Self {
        if edits.is_empty() {
            return verdict.into();
        }
        Self::from(verdict).with(|extra| {
            extra.edits = edits;
            extra.is_in_order = true;
        })
    }

    /// The answer to [`Event::Negotiate`](crate::Event::Negotiate): what the filter needs.
    ///
    /// A filter that just proceeds or accepts there gets [`Needs::all`]. At other events needs mean nothing.
    pub fn needs(needs: Needs) -> Self {
        Self::proceed().with(|extra| extra.needs = Some(needs))
    }

    /// Close the connection, at the negotiation or later. The MTA then does what it is
    /// configured to do without the filter (Postfix's `milter_default_action`, Sendmail's `F=`),
    /// which may be to let the mail pass.
    pub fn refuse() -> Self {
        Self::proceed().with(|extra| extra.refused = true)
    }

    /// Adds a header: at the end, or on Sendmail before the first one of that name.
    ///
    /// Where [leading space](Needs::leading_space) was negotiated the value begins right behind
    /// the colon.
    pub fn add_header(self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.try_edit(Modification::add_header(name, value))
    }

    /// Inserts a header at a position; 0 is the top of the message.
    pub fn insert_header(
        self,
        index: u32,
        name: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Self {
        self.try_edit(Modification::insert_header(index, name, value))
    }

    /// Changes the value of a header: the `index`-th of that name, from 1.
    pub fn change_header(
        self,
        name: impl AsRef<[u8]>,
        index: u32,
        value: impl AsRef<[u8]>,
    ) -> Self {
        self.try_edit(Modification::change_header(name, index, value))
    }

    /// Deletes a header: the `index`-th of that name, from 1, as the filter saw them.
    pub fn delete_header(self, name: impl AsRef<[u8]>, index: u32) -> Self {
        self.try_edit(Modification::delete_header(name, index))
    }

    /// Replaces the body, also one that was given before. Lines end in CRLF; any length will do.
    ///
    /// Several [`Modification::replace_body`] given to [`edit`](Self::edit) are pieces of one
    /// new body.
    pub fn replace_body(self, body: impl Into<Bytes>) -> Self {
        let kept =
            self.retain_edits(|edit| !matches!(edit.kind(), ModificationKind::ReplaceBody { .. }));
        kept.edit(Modification::replace_body(body))
    }

    /// Changes the envelope's sender; `<>` is the null sender.
    pub fn change_sender(self, address: impl AsRef<[u8]>) -> Self {
        self.try_edit(Modification::change_sender(address))
    }

    /// Adds a recipient to the envelope.
    pub fn add_recipient(self, address: impl AsRef<[u8]>) -> Self {
        self.try_edit(Modification::add_recipient(address))
    }

    /// Takes a recipient out of the envelope.
    pub fn delete_recipient(self, address: impl AsRef<[u8]>) -> Self {
        self.try_edit(Modification::delete_recipient(address))
    }

    /// Holds the message in the MTA's quarantine. The verdict is given all the same: an accepted
    /// message is held, a refused one refused.
    pub fn quarantine(self, reason: impl AsRef<[u8]>) -> Self {
        self.try_edit(Modification::quarantine(reason))
    }

    /// Adds a modification.
    pub fn edit(self, edit: Modification) -> Self {
        self.with(|extra| extra.edits.push(edit))
    }

    /// Adds modifications.
    pub fn edit_all(self, edits: impl IntoIterator<Item = Modification>) -> Self {
        let mut edits = edits.into_iter().peekable();
        if edits.peek().is_none() {
            return self;
        }
        self.with(|extra| extra.edits.extend(edits))
    }

    /// Adds a modification, or keeps why it cannot be made: the message is then not changed but
    /// given the failure verdict.
    pub fn try_edit(self, edit: Result<Modification, ModificationError>) -> Self {
        self.with(|extra| match edit {
            Ok(edit) => extra.edits.push(edit),
            Err(error) => {
                extra.error.get_or_insert(error);
            }
        })
    }

    /// For layers: keeps only the modifications that the function says yes to.
    pub fn retain_edits(mut self, keep: impl FnMut(&Modification) -> bool) -> Self {
        if let Some(extra) = &mut self.extra {
            extra.edits.retain(keep);
        }
        self
    }

    /// The same with other edits in the places of its own.
    pub(crate) fn map_edits(
        mut self,
        mut map: impl FnMut(&Modification) -> Result<Modification, ModificationError>,
    ) -> Self {
        if let Some(extra) = &mut self.extra {
            for edit in &mut extra.edits {
                match map(edit) {
                    Ok(mapped) => *edit = mapped,
                    Err(error) => {
                        extra.error.get_or_insert(error);
                    }
                }
            }
        }
        self
    }

    /// The same with another verdict.
    pub fn with_verdict(mut self, verdict: impl Into<Verdict>) -> Self {
        self.verdict = verdict.into();
        self
    }

    /// The same with needs.
    pub fn with_needs(self, needs: Needs) -> Self {
        self.with(|extra| extra.needs = Some(needs))
    }

    /// The verdict.
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// The modifications.
    pub fn edits(&self) -> &[Modification] {
        self.extra.as_ref().map_or(&[], |extra| &extra.edits)
    }

    /// Why an edit could not be made.
    pub fn edit_error(&self) -> Option<&ModificationError> {
        self.extra.as_ref()?.error.as_ref()
    }

    /// What was asked for, if anything was: a service that says nothing needs [`Needs::all`].
    pub fn needs_asked(&self) -> Option<&Needs> {
        self.extra.as_ref()?.needs.as_ref()
    }

    /// Whether the connection is to be closed.
    pub fn is_refused(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| extra.refused)
    }

    /// Whether it says to go on, and nothing else.
    pub(crate) const fn is_bare_proceed(&self) -> bool {
        matches!(self.verdict, Verdict::Continue) && self.extra.is_none()
    }

    /// For layers: widens the needs that an answer to the negotiation carries. An answer
    /// without needs has them all and stays as it is, as does one that refuses.
    ///
    /// ```
    /// use milter_tower::{Actions, Needs, Response};
    ///
    /// let inner = Response::needs(Needs::none());
    /// let outer = inner.widen(&Needs::none().action(Actions::ADD_HEADERS));
    /// assert_eq!(outer.needs_asked().unwrap().required_actions(), Actions::ADD_HEADERS);
    /// ```
    pub fn widen(mut self, needs: &Needs) -> Self {
        if self.is_refused() {
            return self;
        }
        let inner = self
            .extra
            .as_mut()
            .and_then(|extra| extra.needs.take())
            .unwrap_or_default();
        self.with_needs(inner.join(needs))
    }

    /// An answer to the negotiation that says nothing of needs gets these.
    pub(crate) fn or_needs(self, needs: Needs) -> Self {
        if self.is_refused() || self.needs_asked().is_some() {
            self
        } else {
            self.with_needs(needs)
        }
    }

    /// The verdict and the modifications in the order in which they are sent, or why there are
    /// none.
    pub(crate) fn into_parts(self) -> Result<(Verdict, Vec<Modification>), ModificationError> {
        let Some(extra) = self.extra else {
            return Ok((self.verdict, Vec::new()));
        };
        match extra.error {
            Some(error) => Err(error),
            None if extra.is_in_order || extra.edits.len() < 2 => Ok((self.verdict, extra.edits)),
            None => Ok((self.verdict, Modification::order(extra.edits))),
        }
    }

    fn with(mut self, change: impl FnOnce(&mut Extra)) -> Self {
        change(self.extra.get_or_insert_default());
        self
    }
}

impl From<SmtpReply> for Response {
    fn from(reply: SmtpReply) -> Self {
        Verdict::Reply(reply).into()
    }
}

impl From<Verdict> for Response {
    fn from(verdict: Verdict) -> Self {
        Self {
            verdict,
            extra: None,
        }
    }
}

/// The answer to the negotiation.
impl From<Needs> for Response {
    fn from(needs: Needs) -> Self {
        Self::needs(needs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use milter_core::Actions;

    #[test]
    fn small_and_cheap() {
        assert!(size_of::<Response>() <= 64, "{}", size_of::<Response>());
        assert!(Response::proceed().edit_all([]).extra.is_none());
    }

    #[test]
    fn an_edit_that_cannot_be_made_spoils_the_response() {
        let response = Response::accept()
            .add_header("X-A", "b")
            .add_header("no name", "b")
            .add_header("", "c");
        assert!(response.edit_error().is_some());
        assert!(response.into_parts().is_err());
        let (verdict, edits) = Response::accept()
            .add_header("X-A", "b")
            .into_parts()
            .unwrap();
        assert_eq!((verdict, edits.len()), (Verdict::Accept, 1));
    }

    #[test]
    fn what_was_sent_stays_in_its_order() {
        let delete = |index| Modification::delete_header("X", index).unwrap();
        let edits = vec![delete(1), delete(2)];
        let sent = Response::sent(Verdict::Accept, edits.clone());
        assert_eq!(sent.into_parts().unwrap().1, edits);
        let safe = Response::accept().edit_all(edits).into_parts().unwrap().1;
        assert_eq!(safe, [delete(2), delete(1)]);
    }

    #[test]
    fn widening_leaves_the_top_and_refusals_alone() {
        let more = Needs::none().action(Actions::ADD_HEADERS);
        let all = Response::proceed().widen(&more);
        assert_eq!(all.needs_asked().unwrap().wanted(), Needs::all().wanted());
        assert!(Response::refuse().widen(&more).needs_asked().is_none());
    }
}
