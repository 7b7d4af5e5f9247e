use std::sync::Arc;

use milter_tower::{Actions, Header, Needs, Response, Session, Stage};
use tower_layer::Layer;

use super::StripAuthResults;
use crate::outgoing::{Edits, Ours, Seen};

/// The layer that makes [`StripAuthResults`]; see the [module](super).
#[derive(Clone, Debug)]
pub struct StripAuthResultsLayer {
    strip: Arc<Strip>,
}

#[derive(Clone, Debug)]
struct Strip {
    ours: Ours,
    needs: Needs,
}

impl StripAuthResultsLayer {
    /// Removes the headers that carry this authserv-id: the name in which this host, or all of its
    /// kind, write results.
    pub fn new(authserv_id: impl AsRef<[u8]>) -> Self {
        let needs = Needs::none().action(Actions::CHANGE_HEADERS);
        let strip = Strip {
            ours: Ours::new(authserv_id.as_ref()),
            needs: needs.record(Stage::Header),
        };
        Self {
            strip: Arc::new(strip),
        }
    }

    /// Those of this id, too.
    #[must_use]
    pub fn also(mut self, authserv_id: impl AsRef<[u8]>) -> Self {
        let strip = Arc::make_mut(&mut self.strip);
        strip.ours.push(authserv_id.as_ref());
        self
    }
}

impl<S> Layer<S> for StripAuthResultsLayer {
    type Service = StripAuthResults<S>;

    fn layer(&self, inner: S) -> StripAuthResults<S> {
        let edits: Arc<Strip> = Arc::clone(&self.strip);
        StripAuthResults::new(inner, edits)
    }
}

impl Edits for Strip {
    fn needs(&self) -> &Needs {
        &self.needs
    }

    fn note(&self, header: &Header, seen: &mut Seen) {
        self.ours.note(header, seen);
    }

    fn edit(&self, response: Response, _: &Session, seen: &Seen) -> Response {
        seen.take_out(response)
    }
}
