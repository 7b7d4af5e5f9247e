//! What a member of a chain has for itself of a session that it shares with others.

use std::sync::{Arc, OnceLock};

use milter_core::{Agreement, Modification, Recipient};

use super::{Facts, Session};
use crate::extensions::Shared;

/// A member's own part; everything else it reads through to the session around.
#[derive(Clone, Debug, Default)]
pub(super) struct Own {
    /// The own part of a chain that is itself a member of one.
    around: Option<Arc<Own>>,
    agreement: Option<Arc<Agreement>>,
    connection_data: OnceLock<Shared>,
    message_data: OnceLock<Shared>,
    /// None while they are those of the session around.
    recipients: Option<Vec<Recipient>>,
    /// What members before it change of the envelope.
    envelope_edits: Vec<Modification>,
}

impl Own {
    pub(super) fn agreement(&self) -> Option<&Arc<Agreement>> {
        self.agreement.as_ref()
    }

    pub(super) fn recipients(&self) -> Option<&[Recipient]> {
        match &self.recipients {
            Some(recipients) => Some(recipients),
            None => self.around.as_ref()?.recipients(),
        }
    }

    /// Those of members before the chain that it is in come first.
    pub(super) fn envelope_edits(&self) -> impl Iterator<Item = &Modification> {
        let mut own = Some(self);
        let owns = std::iter::from_fn(move || {
            let here = own?;
            own = here.around.as_deref();
            Some(here)
        });
        let outermost_first: Vec<&Self> = owns.collect();
        let edits = outermost_first.into_iter().rev();
        edits.flat_map(|own| &own.envelope_edits)
    }

    pub(super) fn connection_data(&self, facts: &Facts) -> &Shared {
        self.connection_data.get_or_init(|| {
            Shared::within(match &self.around {
                Some(around) => around.connection_data(facts),
                None => &facts.connection_data,
            })
        })
    }

    pub(super) fn message_data(&self, facts: &Facts) -> &Shared {
        self.message_data.get_or_init(|| {
            Shared::within(match &self.around {
                Some(around) => around.message_data(facts),
                None => &facts.message_data,
            })
        })
    }
}

/// A member's view of the sessions that its chain is shown.
#[derive(Debug, Default)]
pub(crate) struct Apart(Arc<Own>);

impl Apart {
    /// The session as the member sees it.
    pub(crate) fn of(&mut self, around: &Session) -> Session {
        let follows = match (&self.0.around, &around.own) {
            (None, None) => true,
            (Some(mine), Some(theirs)) => Arc::ptr_eq(mine, theirs),
            _ => false,
        };
        if !follows {
            self.change(around).around.clone_from(&around.own);
        }
        Session {
            facts: Arc::clone(&around.facts),
            own: Some(Arc::clone(&self.0)),
        }
    }

    pub(crate) fn agree(&mut self, around: &Session, agreement: Arc<Agreement>) {
        self.change(around).agreement = Some(agreement);
    }

    /// Whether the recipients are not those of the session around.
    pub(crate) fn has_recipients(&self) -> bool {
        self.0.recipients.is_some()
    }

    /// Keeps a recipient that the session around does not have, or will not have alone.
    pub(crate) fn add_recipient(&mut self, around: &Session, recipient: Recipient) {
        let recipients = &mut self.change(around).recipients;
        recipients
            .get_or_insert_with(|| around.recipients().to_vec())
            .push(recipient);
    }

    /// Tells it what a member before it changes of the envelope.
    pub(crate) fn tell_envelope(&mut self, around: &Session, edits: &[Modification]) {
        self.change(around).envelope_edits.extend_from_slice(edits);
    }

    /// Forgets the message.
    pub(crate) fn end_message(&mut self, around: &Session) {
        let own = &self.0;
        let is_changed = own.recipients.is_some() || !own.envelope_edits.is_empty();
        if is_changed || own.message_data.get().is_some() {
            let own = self.change(around);
            own.recipients = None;
            own.envelope_edits = Vec::new();
            own.message_data = OnceLock::new();
        }
    }

    /// Forgets what belonged to the connection.
    pub(crate) fn end_connection(&mut self) {
        self.0 = Arc::default();
    }

    fn change(&mut self, around: &Session) -> &mut Own {
        if Arc::get_mut(&mut self.0).is_none() {
            // A snapshot that is kept shares the values, also those that come later.
            self.0.connection_data(&around.facts);
            self.0.message_data(&around.facts);
        }
        Arc::make_mut(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Peer, PeerAddr};

    fn recipient(address: &'static str) -> Recipient {
        Recipient::new(address, [""; 0])
    }

    #[test]
    fn a_member_reads_through_and_writes_its_own() {
        let mut around = Session::new(Peer::new(1, PeerAddr::Other), None);
        let (mut first, mut second) = (Apart::default(), Apart::default());
        around.message_data().insert(1_u8);
        assert_eq!(first.of(&around).message_data().get::<u8>(), Some(1));
        first.of(&around).message_data().insert(2_u8);
        assert_eq!(first.of(&around).message_data().get::<u8>(), Some(2));
        assert_eq!(second.of(&around).message_data().get::<u8>(), Some(1));
        assert_eq!(around.message_data().get::<u8>(), Some(1));
        first.of(&around).message_data().outer().insert("told");
        assert_eq!(second.of(&around).message_data().get(), Some("told"));
        first.end_message(&around);
        around.end_message();
        assert_eq!(first.of(&around).message_data().get::<u8>(), None);
    }

    #[test]
    fn recipients_are_shared_until_they_differ() {
        let mut around = Session::new(Peer::new(1, PeerAddr::Other), None);
        let mut first = Apart::default();
        around.add_recipient(recipient("<a@b>"));
        assert_eq!(first.of(&around).recipients().len(), 1);
        let kept = first.of(&around);
        first.add_recipient(&around, recipient("<refused@later>"));
        assert!(first.has_recipients());
        assert_eq!(first.of(&around).recipients().len(), 2);
        assert_eq!((kept.recipients().len(), around.recipients().len()), (1, 1));
        // What the snapshot leaves belongs to the message all the same.
        kept.message_data().insert(7_u8);
        assert_eq!(first.of(&around).message_data().get::<u8>(), Some(7));
        first.end_message(&around);
        assert_eq!(first.of(&around).recipients().len(), 1);
    }

    #[test]
    fn a_chain_in_a_chain_reads_through_both() {
        let mut around = Session::new(Peer::new(1, PeerAddr::Other), None);
        let (mut outer, mut inner) = (Apart::default(), Apart::default());
        around.connection_data().insert(1_u8);
        let seen = inner.of(&outer.of(&around));
        assert_eq!(seen.connection_data().get::<u8>(), Some(1));
        drop(seen);
        outer.add_recipient(&around, recipient("<a@b>"));
        around.add_recipient(recipient("<a@b>"));
        outer.add_recipient(&around, recipient("<c@d>"));
        let seen = inner.of(&outer.of(&around));
        assert_eq!(seen.recipients().len(), 2, "those of the chain around");
    }
}
