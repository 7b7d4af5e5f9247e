//! What counts as a failure of a filter: asked by the layers `trace`, `log` and `metrics`.
//!
//! Needs the feature `trace`, `log` or `metrics`. By default a failure is what the server takes for
//! one: an error, a panic, a call that was not done by its deadline, and a modification that cannot
//! be made. [`Failures`] may count more, and any function can judge in its place:
//!
//! ```
//! use milter_middleware::classify::{Classify, FailureClass, Failures};
//! use milter_tower::{BoxError, Response, Stage};
//!
//! let at_end = Some(Stage::EndOfMessage);
//! let busy: Result<&Response, &BoxError> = Ok(&Response::tempfail());
//! assert_eq!(Failures::new().classify(at_end, busy), None);
//! assert_eq!(Failures::new().tempfails().classify(at_end, busy), Some(FailureClass::TEMPFAIL));
//!
//! // A filter that answers nothing to the end of a message has failed here.
//! const SILENT: FailureClass = FailureClass::new("silent");
//! let own = |stage: Option<Stage>, answer: Result<&Response, &BoxError>| match answer {
//!     Ok(response) if stage == at_end && *response == Response::proceed() => Some(SILENT),
//!     answer => Failures::new().classify(stage, answer),
//! };
//! assert_eq!(own.classify(at_end, Ok(&Response::proceed())), Some(SILENT));
//! ```
//!
//! A call that ends in a panic or is dropped at its deadline has no answer to judge. It is a failure
//! always, [`FailureClass::PANIC`] or [`FailureClass::DEADLINE`]. One that is dropped earlier is
//! none: the mail server went away.

#[cfg(any(feature = "log", feature = "metrics"))]
pub(crate) mod decided;
#[cfg(all(test, any(feature = "log", feature = "trace")))]
pub(crate) mod heard;
pub(crate) mod names;
pub(crate) mod watched;

use std::fmt;

use milter_tower::{Response, Session, Stage, Verdict};

/// A kind of failure: a word for logs and the label of a metric.
///
/// It is a constant, so that there are no more of them than the program has.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FailureClass(&'static str);

impl FailureClass {
    /// The service returned an error.
    pub const ERROR: Self = Self("error");
    /// The call panicked.
    pub const PANIC: Self = Self("panic");
    /// The call was not done by its deadline.
    pub const DEADLINE: Self = Self("deadline");
    /// The response has a modification that cannot be made; see
    /// [`Response::edit_error`](milter_tower::Response::edit_error).
    pub const EDIT: Self = Self("edit");
    /// The service asks for patience, and [that counts](Failures::tempfails).
    pub const TEMPFAIL: Self = Self("tempfail");

    /// A class with a name of your own: a word in lower case.
    pub const fn new(name: &'static str) -> Self {
        Self(name)
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        self.0
    }
}

impl fmt::Debug for FailureClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FailureClass({})", self.0)
    }
}

/// The [name](FailureClass::name).
impl fmt::Display for FailureClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Judges whether the answer to an event is a failure.
///
/// Functions of the right form do, see the [module](self). It is asked after each call that was
/// answered: keep it short.
pub trait Classify<E> {
    /// The class, if it is a failure. Without a stage it is the answer to the negotiation, or to
    /// an end, where only an error means something.
    fn classify(&self, stage: Option<Stage>, answer: Result<&Response, &E>)
    -> Option<FailureClass>;
}

impl<F, E> Classify<E> for F
where
    F: Fn(Option<Stage>, Result<&Response, &E>) -> Option<FailureClass>,
{
    fn classify(
        &self,
        stage: Option<Stage>,
        answer: Result<&Response, &E>,
    ) -> Option<FailureClass> {
        self(stage, answer)
    }
}

/// What counts as a failure unless something else is said; see the [module](self).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    tempfails: bool,
}

impl Failures {
    /// Errors, and modifications that cannot be made.
    pub const fn new() -> Self {
        Self { tempfails: false }
    }

    /// The same, and verdicts that refuse for now: tempfail, or a reply 4xx. For filters that say
    /// so only when something is wrong, unlike greylisting.
    #[must_use]
    pub const fn tempfails(mut self) -> Self {
        self.tempfails = true;
        self
    }
}

impl<E> Classify<E> for Failures {
    fn classify(
        &self,
        stage: Option<Stage>,
        answer: Result<&Response, &E>,
    ) -> Option<FailureClass> {
        let Ok(response) = answer else {
            return Some(FailureClass::ERROR);
        };
        stage?;
        if response.edit_error().is_some() {
            return Some(FailureClass::EDIT);
        }
        let refuses_for_now = match response.verdict() {
            Verdict::TempFail => true,
            Verdict::Reply(reply) => reply.is_transient(),
            _ => false,
        };
        (self.tempfails && refuses_for_now).then_some(FailureClass::TEMPFAIL)
    }
}

/// What failed, for hooks.
#[derive(Debug)]
#[non_exhaustive]
pub struct Failed<'a, E> {
    /// The kind of failure.
    pub class: FailureClass,
    /// The error, if the service returned one.
    pub error: Option<&'a E>,
    /// The stage; none at the negotiation and at ends.
    pub stage: Option<Stage>,
    /// What is known of the session: queue id, client.
    pub session: &'a Session,
}
