//! What a handler can take as an argument.

use std::convert::Infallible;

use milter_core::Needs;

use crate::at;
use crate::error::BoxError;
use crate::request::Request;

/// What a handler can take as an argument at the event `S`, in a router whose state is `T`.
///
/// | type | what it is | where |
/// | --- | --- | --- |
/// | [`Arc<Connect>`](crate::Connect), [`ClientAddr`](crate::ClientAddr), [`ClientIp`](super::ClientIp) | the client | everywhere but at the negotiation |
/// | [`Helo`](crate::Helo) | its greeting | from HELO on |
/// | [`Sender`](crate::Sender) | of MAIL | within a message, and at its end |
/// | [`Recipient`](crate::Recipient) | the one in question | RCPT |
/// | [`Recipients`](super::Recipients) | those that this filter let pass | from RCPT on |
/// | [`Header`](crate::Header), [`Bytes`](bytes::Bytes) | a header, a piece of the body | there |
/// | [`Progress`](crate::Progress) | tells the MTA that work goes on | end of message |
/// | [`UnknownCommand`](crate::UnknownCommand) | the command | there |
/// | [`Outcome`](crate::Outcome) | how a message ended | there |
/// | [`Offer`](crate::Offer), [`Needs`] | the MTA's offer, what the router needs | negotiation |
/// | [`Session`](crate::Session) | all that is known so far | everywhere |
/// | [`Macros`](crate::Macros), [`Mta`](crate::Mta), [`Peer`](crate::Peer), [`Deadline`](crate::Deadline) | a part of it | everywhere |
/// | [`State`], [`Extension`] | what the program, or a layer, put there | everywhere |
/// | [`Request`] | the event as it came | everywhere |
/// | `Option<X>`, `Result<X, X::Error>` | X, where it may be missing | as X |
///
/// An argument that cannot be had fails the call, and so the message gets the failure verdict;
/// unless it is taken as an `Option` or a `Result`. An error that is an
/// [`SmtpReply`](crate::SmtpReply) is the answer, where there is one.
///
/// # Types of your own
///
/// [`needs`](Self::needs) says what has to be asked of the MTA, so that whoever takes the argument
/// need not. An argument that may refuse asks for the event itself, with
/// [`Needs::event`]: a handler that returns nothing would have no reply otherwise, and the refusal
/// would be a failure.
///
/// ```
/// use milter_tower::router::FromRequest;
/// use milter_tower::{Needs, Request, Router, SmtpReply, at};
///
/// /// The user who authenticated; others are refused.
/// struct User(String);
///
/// impl<S: at::Marker, T> FromRequest<S, T> for User {
///     type Error = SmtpReply;
///
///     fn needs() -> Needs {
///         S::STAGE.into_iter().fold(Needs::none(), Needs::event)
///     }
///
///     fn from_request(request: &Request, _: &T) -> Result<Self, SmtpReply> {
///         match request.session().auth().and_then(|auth| auth.user) {
///             Some(user) => Ok(User(user.to_string())),
///             None => Err(SmtpReply::reject("Authentication is required")),
///         }
///     }
/// }
///
/// let filter = Router::new().on_mail(|User(name): User| async move {
///     println!("mail of {name}");
/// });
/// # let _ = filter;
/// ```
#[diagnostic::on_unimplemented(
    message = "a handler of `{S}` cannot take `{Self}`",
    label = "`{Self}` is not there at `{S}`",
    note = "the documentation of `FromRequest` lists what a handler can take, and where",
    note = "arguments are taken by value; of a client and a message known so far there is always `Session`"
)]
pub trait FromRequest<S, T = ()>: Sized {
    /// Why there is no such value.
    type Error: Into<BoxError>;

    /// What has to be asked of the MTA so that the value is there.
    fn needs() -> Needs {
        Needs::none()
    }

    /// Takes the value from a request, or from the router's state.
    ///
    /// # Errors
    ///
    /// There is no such value.
    fn from_request(request: &Request, state: &T) -> Result<Self, Self::Error>;
}

/// None if it cannot be had, for whatever reason.
impl<S, T, X: FromRequest<S, T>> FromRequest<S, T> for Option<X> {
    type Error = Infallible;

    fn needs() -> Needs {
        X::needs()
    }

    fn from_request(request: &Request, state: &T) -> Result<Self, Infallible> {
        Ok(X::from_request(request, state).ok())
    }
}

impl<S, T, X: FromRequest<S, T>> FromRequest<S, T> for Result<X, X::Error> {
    type Error = Infallible;

    fn needs() -> Needs {
        X::needs()
    }

    fn from_request(request: &Request, state: &T) -> Result<Self, Infallible> {
        Ok(X::from_request(request, state))
    }
}

macro_rules! tuples {
    ($($name:ident)*) => {
        /// One after the other.
        impl<S, T, $($name: FromRequest<S, T>),*> FromRequest<S, T> for ($($name,)*) {
            type Error = BoxError;

            fn needs() -> Needs {
                Needs::none()$(.join(&$name::needs()))*
            }

            #[allow(unused_variables, reason = "the empty tuple takes nothing")]
            fn from_request(request: &Request, state: &T) -> Result<Self, BoxError> {
                Ok(($($name::from_request(request, state).map_err(Into::into)?,)*))
            }
        }
    };
}

super::each_arity!(tuples);

/// The router's [state](super::Router::with_state), or a part of it.
///
/// ```
/// use std::collections::HashSet;
/// use std::sync::Arc;
///
/// use milter_tower::router::{FromRef, State};
/// use milter_tower::{Recipient, Router, SmtpReply};
///
/// #[derive(Clone)]
/// struct Config {
///     gone: Gone,
///     hint: &'static str,
/// }
///
/// #[derive(Clone)]
/// struct Gone(Arc<HashSet<String>>);
///
/// // Handlers may take this part alone.
/// impl FromRef<Config> for Gone {
///     fn from_ref(config: &Config) -> Self {
///         config.gone.clone()
///     }
/// }
///
/// async fn rcpt(
///     rcpt: Recipient,
///     State(gone): State<Gone>,
///     State(config): State<Config>,
/// ) -> Option<SmtpReply> {
///     let is_gone = gone.0.contains(&rcpt.mailbox().to_string());
///     is_gone.then(|| SmtpReply::reject(config.hint))
/// }
///
/// let gone = Gone(Arc::new(HashSet::from(["bob@example.org".to_owned()])));
/// let config = Config { gone, hint: "He left us" };
/// let filter = Router::with_state(config).on_rcpt(rcpt);
/// # let _ = filter;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State<U>(pub U);

impl<S: at::Marker, T, U: FromRef<T>> FromRequest<S, T> for State<U> {
    type Error = Infallible;

    fn from_request(_: &Request, state: &T) -> Result<Self, Infallible> {
        Ok(Self(U::from_ref(state)))
    }
}

/// A part of a router's state `T`, as [`State`] takes it.
///
/// The state itself is one, if it can be cloned: put what is large behind an `Arc`.
#[diagnostic::on_unimplemented(
    message = "the router's state `{T}` has no `{Self}`",
    label = "not a part of `{T}`",
    note = "make the router with `Router::with_state`, or implement `FromRef<{T}>` for `{Self}`"
)]
pub trait FromRef<T> {
    /// Takes the part, by cloning it as a rule.
    fn from_ref(state: &T) -> Self;
}

impl<T: Clone> FromRef<T> for T {
    fn from_ref(state: &T) -> Self {
        state.clone()
    }
}

/// A value that a layer put into the request's [extensions](Request::extensions).
///
/// It fails where no layer did: take an `Option<Extension<E>>` if that may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extension<E>(pub E);

impl<S: at::Marker, T, E: Clone + Send + Sync + 'static> FromRequest<S, T> for Extension<E> {
    type Error = NoExtension;

    fn from_request(request: &Request, _: &T) -> Result<Self, NoExtension> {
        let value = request.extensions().get::<E>().cloned();
        value.map(Self).ok_or(NoExtension {
            of: std::any::type_name::<E>(),
        })
    }
}

/// No layer put a value of that type into the request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request has no extension of type {of}: is the layer missing that tells it?")]
pub struct NoExtension {
    of: &'static str,
}
