//! The milter protocol without I/O: bytes in, values out.
//!
//! A milter is a mail filter that Postfix and Sendmail ask, command by command, what to do with
//! a mail. This crate holds everything that both sides of that conversation share and knows no
//! socket, no runtime and no clock:
//!
//! * frames: [`FilterCodec`] and [`MtaCodec`], for [`tokio_util::codec::Framed`];
//! * what an MTA says ([`Command`]) and what a filter answers ([`Reply`], [`Verdict`],
//!   [`SmtpReply`], [`Modification`]);
//! * the negotiation: [`negotiate`] makes an [`Agreement`] of an [`Offer`] and of [`Needs`];
//! * [`Macros`], with the names that MTAs know in [`macros`];
//! * the order of things: [`state::StateMachine`];
//! * what an MTA makes of modifications: [`edit`];
//! * the MTA's side of a connection: [`client::Session`].
//!
//! Filters are written with the crate `milter-tower`, which stands on this one.
//!
//! Rules of the wire carry a comment that says where they come from: `libmilter/…`,
//! `include/libmilter/…` and `sendmail/…` are files of Sendmail, those after the word Postfix are
//! files of Postfix; C and Q numbers are those of the
//! conformance checks and quirks listed in `tests/CONFORMANCE.md`.
#![forbid(unsafe_code)]

pub use crate::codec::{
    CodecError, DEFAULT_MAX_PAYLOAD, FilterCodec, Foreign, MAX_PAYLOAD, MalformedFrame, MtaCodec,
};
pub use crate::command::{Command, Helo, UnknownCommand};
pub use crate::connect::{ClientAddr, Connect};
pub use crate::domain::{domain_key, same_domain};
pub use crate::envelope::{Recipient, Sender};
pub use crate::esmtp::{
    BodyType, DsnNotify, DsnReturn, EsmtpArg, EsmtpArgs, EsmtpArgsIter, OriginalRecipient,
    decode_xtext,
};
pub use crate::flags::{Actions, DataSize, Steps};
pub use crate::header::Header;
pub use crate::macros::{MacroPairs, MacroSet, MacroStage, Macros};
pub use crate::mailbox::mailbox_key;
pub use crate::modification::{
    AddressProblem, Modification, ModificationDecodeError, ModificationError, ModificationKind,
};
pub use crate::negotiate::{
    Agreement, MacroLists, MacroRequestError, Needs, NegotiationError, NotAgreed, Offer,
    OfferReply, ReplyMode, negotiate,
};
pub use crate::reply::Reply;
pub use crate::smtp_reply::{
    EnhancedCode, EnhancedCodeError, SmtpReply, SmtpReplyBuilder, SmtpReplyError,
};
pub use crate::stage::{Stage, Stages, StagesIter};
pub use crate::text::Text;
pub use crate::verdict::{NotAllowed, Verdict};

pub mod client;
mod codec;
mod command;
mod connect;
mod domain;
pub mod edit;
mod envelope;
mod esmtp;
mod flags;
mod header;
mod lines;
pub mod macros;
mod mailbox;
mod modification;
mod negotiate;
mod reply;
mod smtp_reply;
mod stage;
pub mod state;
mod strings;
mod text;
mod verdict;
