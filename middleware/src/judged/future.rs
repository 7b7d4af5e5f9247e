use std::sync::Arc;

use milter_tower::gate::Turn;
use milter_tower::{Needs, Response};

use crate::asked::{Then, response_future};

response_future! {
    /// The future of this layer's service.
    After
}

/// What becomes of the answer of the service within.
#[derive(Debug)]
pub(super) enum After {
    /// What the layer needs is added to it.
    Widens(Arc<Needs>),
    /// The layer sees the message to its end, though the service within wants no more.
    GoesOn(Turn),
}

impl<E> Then<E> for After {
    fn then(self, answer: Result<Response, E>) -> Result<Response, E> {
        answer.map(|response| match self {
            Self::Widens(needs) => response.widen(&needs),
            Self::GoesOn(turn) => turn.go_on(response),
        })
    }
}
