use std::sync::Arc;

use milter_tower::gate::Turn;
use milter_tower::{Response, Verdict};

use super::{Edits, End};
use crate::asked::{Then, response_future};

response_future! {
    /// The future of this layer's service.
    After
}

/// What becomes of the answer of the service within.
#[derive(Debug)]
pub(super) enum After {
    /// What the layer needs is added to it.
    Widens(Arc<dyn Edits>),
    /// It is to an event of a message, or to its end.
    Of(Turn, Option<End>),
}

impl<E> Then<E> for After {
    fn then(self, answer: Result<Response, E>) -> Result<Response, E> {
        answer.map(|response| match self {
            Self::Widens(edits) => response.widen(edits.needs()),
            Self::Of(turn, end) => answered(response, &turn, end.as_ref()),
        })
    }
}

/// What becomes of the answer of the service within.
fn answered(response: Response, turn: &Turn, end: Option<&End>) -> Response {
    match (response.verdict(), end) {
        (Verdict::Continue | Verdict::Accept, Some(end)) if !response.is_refused() => {
            end.edit(response)
        }
        // The headers and the end are still to come. Of the body nobody here wants more.
        (Verdict::Accept, None) => turn.go_on(response),
        _ => response,
    }
}
