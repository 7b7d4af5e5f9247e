//! What a handler returns.

use std::convert::Infallible;

use milter_core::{Modification, Needs, SmtpReply, Verdict};

use crate::at;
use crate::error::BoxError;
use crate::response::Response;

/// What a handler may return at an event: `S` is the event's [marker](crate::at).
///
/// | type | what it says |
/// | --- | --- |
/// | `()` | go on |
/// | [`Response`], [`Verdict`] | what is in it; illegal at the event, it becomes the failure verdict |
/// | [`SmtpReply`] | refuse, in these words |
/// | [`Message`](crate::Message) | in [`message`](mod@crate::message): accept it, as it is then |
/// | [`Accept`](crate::verdict::Accept), [`Skip`](crate::verdict::Skip) … | the verdict, at the events that know it |
/// | [`Modification`], `Vec<Modification>` | at the end of the message: accept it, changed |
/// | `Option<T>` | the answer, or go on |
/// | `Result<T, E>` | the answer, or an error |
/// | [`Needs`] | at the negotiation: what to ask of the MTA |
///
/// An error that is an [`SmtpReply`] is that answer, also in a [`BoxError`], so that `?` refuses.
/// Any other error is the filter's failure: logged, and answered with the failure verdict. One that
/// wraps an `SmtpReply`, as `anyhow::Error` does, is such a failure too: what is wrapped cannot be
/// told from what went wrong.
///
/// ```
/// use milter_tower::{BoxError, IntoResponse, SmtpReply, at};
///
/// fn check(size: u64) -> Result<(), SmtpReply> {
///     if size > 10_000_000 {
///         return Err(SmtpReply::reject("Too large for us"));
///     }
///     Ok(())
/// }
///
/// fn handle(size: &str) -> Result<(), BoxError> {
///     check(size.parse()?)?;
///     Ok(())
/// }
///
/// let refused = IntoResponse::<at::Mail>::into_response(handle("20000000"))?;
/// assert!(refused.verdict().is_refusal());
/// assert!(IntoResponse::<at::Mail>::into_response(handle("what?")).is_err());
/// # Ok::<(), BoxError>(())
/// ```
///
/// # Types of your own
///
/// ```
/// use milter_tower::{BoxError, IntoResponse, Response, SmtpReply, at};
///
/// enum Answer {
///     Known,
///     Unknown,
/// }
///
/// impl IntoResponse<at::Rcpt> for Answer {
///     fn into_response(self) -> Result<Response, BoxError> {
///         Ok(match self {
///             Answer::Known => Response::proceed(),
///             Answer::Unknown => SmtpReply::reject("No such mailbox").into(),
///         })
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no answer at `{S}`",
    label = "a handler of `{S}` cannot return this",
    note = "return `()`, `Response`, `SmtpReply`, or an `Option` or `Result` of them; in `message` also the `Message`",
    note = "verdicts of their own type fit only where the MTA takes them: `Discard` and `Accept` not everywhere, `Skip` in the body only",
    note = "where something ended nobody waits for an answer: return `()` or `Result<(), E>`"
)]
pub trait IntoResponse<S> {
    /// Every value says go on, and none fails: the MTA need not wait for the answer, and what is
    /// asked of it says so.
    const SILENT: bool = false;

    /// What has to be asked of the MTA so that it takes such an answer.
    fn needs() -> Needs {
        Needs::none()
    }

    /// The answer.
    ///
    /// # Errors
    ///
    /// The handler failed.
    fn into_response(self) -> Result<Response, BoxError>;
}

impl<S: at::Marker> IntoResponse<S> for () {
    const SILENT: bool = true;

    fn into_response(self) -> Result<Response, BoxError> {
        Ok(Response::proceed())
    }
}

impl<S: at::Marker> IntoResponse<S> for Infallible {
    const SILENT: bool = true;

    fn into_response(self) -> Result<Response, BoxError> {
        match self {}
    }
}

impl<S: at::Judged> IntoResponse<S> for Response {
    fn into_response(self) -> Result<Response, BoxError> {
        Ok(self)
    }
}

/// To [refuse](Response::refuse) to work at all, or [needs](Response::needs).
impl IntoResponse<at::Negotiate> for Response {
    fn into_response(self) -> Result<Response, BoxError> {
        Ok(self)
    }
}

impl IntoResponse<at::Negotiate> for Needs {
    fn into_response(self) -> Result<Response, BoxError> {
        Ok(self.into())
    }
}

impl<S: at::Judged> IntoResponse<S> for Verdict {
    fn into_response(self) -> Result<Response, BoxError> {
        Ok(self.into())
    }
}

impl<S: at::Judged> IntoResponse<S> for SmtpReply {
    fn into_response(self) -> Result<Response, BoxError> {
        Ok(self.into())
    }
}

impl IntoResponse<at::EndOfMessage> for Modification {
    fn into_response(self) -> Result<Response, BoxError> {
        Ok(Response::accept().edit(self))
    }
}

impl IntoResponse<at::EndOfMessage> for Vec<Modification> {
    fn into_response(self) -> Result<Response, BoxError> {
        Ok(Response::accept().edit_all(self))
    }
}

/// None is to go on.
impl<S: at::Marker, T: IntoResponse<S>> IntoResponse<S> for Option<T> {
    const SILENT: bool = T::SILENT;

    fn needs() -> Needs {
        T::needs()
    }

    fn into_response(self) -> Result<Response, BoxError> {
        self.map_or_else(|| Ok(Response::proceed()), T::into_response)
    }
}

/// Keeps its reply, also if there is nothing to say but go on: the error may be one.
impl<S: at::Marker, T: IntoResponse<S>, E: Into<BoxError>> IntoResponse<S> for Result<T, E> {
    fn needs() -> Needs {
        T::needs()
    }

    fn into_response(self) -> Result<Response, BoxError> {
        match self {
            Ok(answer) => answer.into_response(),
            Err(error) if S::STAGE.is_some() => answer_of(error.into()),
            Err(error) => Err(error.into()),
        }
    }
}

/// What an error says where an answer is waited for: an [`SmtpReply`] is that answer.
pub(crate) fn answer_of(error: BoxError) -> Result<Response, BoxError> {
    error
        .downcast::<SmtpReply>()
        .map(|reply| Response::reply(*reply))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_rcpt(answer: impl IntoResponse<at::Rcpt>) -> Result<Response, BoxError> {
        answer.into_response()
    }

    #[test]
    fn an_smtp_reply_is_an_answer_wherever_it_comes_from() {
        let reply = SmtpReply::tempfail("later");
        let expected = Response::from(reply.clone());
        assert_eq!(at_rcpt(reply.clone()).unwrap(), expected);
        assert_eq!(at_rcpt(Some(reply.clone())).unwrap(), expected);
        assert_eq!(at_rcpt(Err::<(), _>(reply.clone())).unwrap(), expected);
        let boxed: BoxError = reply.into();
        assert_eq!(at_rcpt(Err::<(), _>(boxed)).unwrap(), expected);
        let failure = at_rcpt(Err::<(), _>("broken")).unwrap_err();
        assert_eq!(failure.to_string(), "broken");
    }

    #[test]
    fn where_nobody_waits_an_smtp_reply_is_an_error() {
        let refused = || Err::<(), _>(SmtpReply::reject("no"));
        assert!(IntoResponse::<at::End>::into_response(refused()).is_err());
        assert!(IntoResponse::<at::Negotiate>::into_response(refused()).is_err());
    }

    #[test]
    fn only_what_can_say_nothing_is_silent() {
        fn is_silent<T: IntoResponse<at::Header>>() -> bool {
            T::SILENT
        }
        assert!(is_silent::<()>() && is_silent::<Option<()>>() && is_silent::<Infallible>());
        assert!(is_silent::<crate::verdict::Proceed>());
        assert!(!is_silent::<Result<(), BoxError>>() && !is_silent::<Result<(), SmtpReply>>());
        assert!(!is_silent::<Response>() && !is_silent::<Option<SmtpReply>>());
    }

    #[test]
    fn edits_accept() {
        let added = || Modification::add_header("X-A", "b");
        let response = IntoResponse::<at::EndOfMessage>::into_response(added()).unwrap();
        assert_eq!(response, Response::accept().edit(added().unwrap()));
        let several = vec![added().unwrap(), added().unwrap()];
        let response = IntoResponse::<at::EndOfMessage>::into_response(several).unwrap();
        assert_eq!(response.edits().len(), 2);
    }

    #[test]
    fn what_a_type_needs_is_seen_through_options_and_results() {
        type Skips = Result<Option<crate::verdict::Skip>, BoxError>;
        let needs = <Skips as IntoResponse<at::Body>>::needs();
        assert_eq!(needs, Needs::none().skip());
    }
}
