//! Verdicts as types of their own, for handlers that only ever say one thing.
//!
//! What such a handler says is known when it is compiled: a verdict that the MTA cannot take at
//! an event is refused there, where a [`Response`] would become the failure verdict while mail
//! flows. What a type needs, [`Skip`] its ability, is asked for in the negotiation.
//!
//! ```
//! use milter_tower::Router;
//! use milter_tower::verdict::Discard;
//!
//! let filter = Router::new().on_mail(|| async { Discard });
//! # let _ = filter;
//! ```
//!
//! ```compile_fail,E0277
//! # use milter_tower::{Router, verdict::Discard};
//! // There is no message yet that could be discarded.
//! let filter = Router::new().on_connect(|| async { Discard });
//! ```

use milter_core::{Needs, Verdict};

use crate::at;
use crate::error::BoxError;
use crate::into_response::IntoResponse;
use crate::response::Response;

macro_rules! verdicts {
    ($($(#[$doc:meta])+ $name:ident is $verdict:expr, at [$($marker:ident)+] $extra:tt)*) => {$(
        $(#[$doc])+
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub struct $name;

        impl From<$name> for Verdict {
            fn from(_: $name) -> Self {
                $verdict
            }
        }

        impl From<$name> for Response {
            fn from(verdict: $name) -> Self {
                Verdict::from(verdict).into()
            }
        }

        $(verdicts!(@answer $name, $marker, $extra);)+
    )*};
    (@answer $name:ident, $marker:ident, { $($extra:item)* }) => {
        impl IntoResponse<at::$marker> for $name {
            $($extra)*

            fn into_response(self) -> Result<Response, BoxError> {
                Ok(self.into())
            }
        }
    };
}

verdicts! {
    /// Go on: see [`Response::proceed`]. As it is all that is ever said, the MTA need not wait
    /// for it.
    Proceed is Verdict::Continue,
    at [Connect Helo Mail Rcpt Data Header EndOfHeaders Body EndOfMessage Unknown] {
        const SILENT: bool = true;
    }
    /// Nothing against it, and no more of it wanted: see [`Response::accept`].
    // Q13: accept at an unknown command can crash Postfix.
    Accept is Verdict::Accept,
    at [Connect Helo Mail Rcpt Data Header EndOfHeaders Body EndOfMessage] {}
    /// Refuse for good: see [`Response::reject`].
    Reject is Verdict::Reject,
    at [Connect Helo Mail Rcpt Data Header EndOfHeaders Body EndOfMessage Unknown] {}
    /// Refuse for now: see [`Response::tempfail`].
    TempFail is Verdict::TempFail,
    at [Connect Helo Mail Rcpt Data Header EndOfHeaders Body EndOfMessage Unknown] {}
    /// Tell the client that the message was accepted, and drop it: see [`Response::discard`].
    // Q11: discard outside of a message switches filtering off or swallows the next message.
    Discard is Verdict::Discard,
    at [Mail Rcpt Data Header EndOfHeaders Body EndOfMessage] {}
    /// No more of this body is wanted: see [`Response::skip`]. The ability to skip is asked for;
    /// where the MTA does not have it a [`Router`](crate::Router) takes the rest and shows it to
    /// nobody.
    // C61: anywhere but in the body it disables the filter.
    Skip is Verdict::Skip,
    at [Body] {
        fn needs() -> Needs {
            Needs::none().skip()
        }
    }
}
