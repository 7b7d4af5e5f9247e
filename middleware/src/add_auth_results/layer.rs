use std::sync::Arc;

use milter_tower::{Actions, Agreement, Header, Modification, Needs, Response, Session, Stage};
use tower_layer::Layer;

use super::write::{self, is_id};
use super::{AddAuthResults, AuthResultError, AuthResults};
use crate::outgoing::{Edits, Ours, Seen};

/// The layer that makes [`AddAuthResults`]; see the [module](super).
#[derive(Clone, Debug)]
pub struct AddAuthResultsLayer {
    add: Arc<Add>,
}

#[derive(Clone, Debug)]
struct Add {
    id: String,
    none: bool,
    /// Those of others that go.
    forged: Option<Ours>,
    needs: Needs,
}

impl AddAuthResultsLayer {
    /// Writes results in the name of this authserv-id: that of the host, or one for all of its kind.
    ///
    /// # Errors
    ///
    /// The id is empty, longer than 253 bytes as no domain is, or has something in it that is not
    /// printable ASCII. Write a domain of other letters as its A-labels.
    pub fn new(authserv_id: impl Into<String>) -> Result<Self, AuthResultError> {
        let id = authserv_id.into();
        if !is_id(&id) {
            return Err(AuthResultError::AuthservId(id));
        }
        let add = Add {
            id,
            none: false,
            forged: None,
            needs: Needs::none().action(Actions::ADD_HEADERS),
        };
        Ok(Self { add: Arc::new(add) })
    }

    /// Writes `none` where no filter said anything: that nothing was checked. Without this there is
    /// no header then.
    #[must_use]
    pub fn or_none(self) -> Self {
        self.with(|add| add.none = true)
    }

    /// Removes what others wrote in the name of this id, as
    /// [`strip_auth_results`](crate::strip_auth_results) does.
    #[must_use]
    pub fn strip(self) -> Self {
        self.with(|add| {
            add.forged = Some(Ours::new(add.id.as_bytes()));
            let needs = std::mem::take(&mut add.needs);
            add.needs = needs.action(Actions::CHANGE_HEADERS).record(Stage::Header);
        })
    }

    fn with(mut self, change: impl FnOnce(&mut Add)) -> Self {
        change(Arc::make_mut(&mut self.add));
        self
    }
}

impl<S> Layer<S> for AddAuthResultsLayer {
    type Service = AddAuthResults<S>;

    fn layer(&self, inner: S) -> AddAuthResults<S> {
        let edits: Arc<Add> = Arc::clone(&self.add);
        AddAuthResults::new(inner, edits)
    }
}

impl Edits for Add {
    fn needs(&self) -> &Needs {
        &self.needs
    }

    fn note(&self, header: &Header, seen: &mut Seen) {
        if let Some(forged) = &self.forged {
            forged.note(header, seen);
        }
    }

    fn edit(&self, response: Response, session: &Session, seen: &Seen) -> Response {
        let response = seen.take_out(response);
        let data = session.message_data();
        let written = data.with_mut(|results: &mut AuthResults| self.value(results));
        let Some(value) = written.unwrap_or_else(|| self.value(&AuthResults::default())) else {
            return response;
        };
        let is_spaced = session.agreement().is_some_and(Agreement::leading_space);
        let value = if is_spaced {
            format!(" {value}")
        } else {
            value
        };
        // On top, above the MTA's own Received (RFC 8601 4.1): a trace field
        response.try_edit(Modification::insert_header(0, Ours::NAME, value))
    }
}

impl Add {
    fn value(&self, results: &AuthResults) -> Option<String> {
        (self.none || !results.is_empty()).then(|| write::value(&self.id, results))
    }
}
