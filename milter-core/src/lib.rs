//! The milter protocol without I/O.
#![forbid(unsafe_code)]

mod esmtp;
mod lines;
mod modification;
mod smtp_reply;
mod text;

pub use esmtp::{
    BodyType, DsnNotify, DsnReturn, EsmtpArg, EsmtpArgs, EsmtpArgsIter, OriginalRecipient,
    decode_xtext,
};
pub use modification::{
    AddressProblem, Modification, ModificationDecodeError, ModificationError, ModificationKind,
};
pub use smtp_reply::{
    EnhancedCode, EnhancedCodeError, SmtpReply, SmtpReplyBuilder, SmtpReplyError,
};
pub use text::Text;
