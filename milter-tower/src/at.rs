//! The events as types: where a handler stands, so that what does not fit there does not compile.
//!
//! [`IntoResponse`](crate::IntoResponse) and the arguments of handlers have one of these as their
//! type parameter. Nobody makes a value of them.
//!
//! The traits say what there is at an event; they cannot be implemented elsewhere.

use milter_core::Stage;

mod sealed {
    use milter_core::Stage;

    pub trait Sealed {
        /// The last stage of which the session may know facts.
        const KNOWN: Stage;
    }
}

/// One of the events.
pub trait Marker: sealed::Sealed + Send + Sync + 'static {
    /// The stage, if the event asks for a verdict.
    const STAGE: Option<Stage>;
}

/// An event that asks for a verdict.
#[diagnostic::on_unimplemented(
    message = "nobody waits for a verdict at `{Self}`",
    note = "at the negotiation a handler returns `Needs` or `()`, where something ends `()`"
)]
pub trait Judged: Marker {}

/// An event at which the client is known.
#[diagnostic::on_unimplemented(message = "no client is known yet at `{Self}`")]
pub trait HasClient: Marker {}

/// An event at which the client may have said HELO.
#[diagnostic::on_unimplemented(message = "no HELO is known yet at `{Self}`")]
pub trait HasHelo: Marker {}

/// An event of a message: its sender is known.
#[diagnostic::on_unimplemented(
    message = "there is no message at `{Self}`, and so no sender",
    note = "an unknown command may come outside of a message: take `Session` there, and look at `session.sender()`"
)]
pub trait HasSender: Marker {}

/// An event of a message at which it may have recipients.
#[diagnostic::on_unimplemented(
    message = "no recipients are known at `{Self}`",
    note = "an unknown command may come outside of a message: take `Session` there, and look at `session.recipients()`"
)]
pub trait HasRecipients: Marker {}

macro_rules! markers {
    ($($(#[$doc:meta])+ $name:ident $stage:expr, knows $known:ident, [$($what:ident)*];)*) => {$(
        $(#[$doc])+
        #[derive(Clone, Copy, Debug)]
        pub enum $name {}

        impl sealed::Sealed for $name {
            const KNOWN: Stage = Stage::$known;
        }

        impl Marker for $name {
            const STAGE: Option<Stage> = $stage;
        }

        $(impl $what for $name {})*
    )*};
}

markers! {
    /// The MTA offers to work together.
    Negotiate None, knows Connect, [];
    /// A client connected.
    Connect Some(Stage::Connect), knows Connect, [Judged HasClient];
    /// HELO or EHLO.
    Helo Some(Stage::Helo), knows Helo, [Judged HasClient HasHelo];
    /// MAIL: a message begins.
    Mail Some(Stage::Mail), knows Mail, [Judged HasClient HasHelo HasSender];
    /// RCPT: one recipient.
    Rcpt Some(Stage::Rcpt), knows Rcpt, [Judged HasClient HasHelo HasSender HasRecipients];
    /// DATA.
    Data Some(Stage::Data), knows Data, [Judged HasClient HasHelo HasSender HasRecipients];
    /// A header field.
    Header Some(Stage::Header), knows Header, [Judged HasClient HasHelo HasSender HasRecipients];
    /// All headers were seen.
    EndOfHeaders Some(Stage::EndOfHeaders), knows EndOfHeaders, [Judged HasClient HasHelo HasSender HasRecipients];
    /// A piece of the body.
    Body Some(Stage::Body), knows Body, [Judged HasClient HasHelo HasSender HasRecipients];
    /// The whole message was seen.
    EndOfMessage Some(Stage::EndOfMessage), knows EndOfMessage, [Judged HasClient HasHelo HasSender HasRecipients];
    /// A command that the MTA does not know, at any time.
    Unknown Some(Stage::Unknown), knows Unknown, [Judged HasClient HasHelo];
    /// A message ended.
    MessageEnd None, knows EndOfMessage, [HasClient HasHelo HasSender HasRecipients];
    /// The connection ended. Its last message is over by then.
    End None, knows Helo, [HasClient HasHelo];
}
