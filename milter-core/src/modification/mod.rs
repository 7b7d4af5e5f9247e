//! Changes to a message that a filter asks for.

pub(crate) mod checks;
mod order;
mod wire;

use std::fmt;

use bytes::Bytes;
use thiserror::Error;

use crate::Text;

pub use checks::AddressProblem;
pub(crate) use checks::{header_name, header_value};
pub use wire::ModificationDecodeError;

/// A change to a message that a filter asks for at the end of it.
///
/// The constructors check what the MTAs do not: a change that they make does the same on Postfix
/// and Sendmail as far as that can be had, and the docs say where it cannot. What came from
/// another filter ([`decode`](Self::decode)) is kept as it came. [`kind`](Self::kind) shows what
/// the change is.
///
/// ```
/// use milter_core::{Modification, ModificationKind};
///
/// let edit = Modification::add_header("X-Spam-Flag", "YES")?;
/// match edit.kind() {
///     ModificationKind::AddHeader { name, value } => {
///         assert_eq!(name, "X-Spam-Flag");
///         assert_eq!(value, "YES");
///     }
///     other => panic!("not an added header: {other:?}"),
/// }
/// assert!(Modification::add_header("Not a name", "x").is_err());
/// # Ok::<(), milter_core::ModificationError>(())
/// ```
///
/// # Header names and values
///
/// A name is printable ASCII without a colon, and not empty (RFC 5322 3.6.8).
///
/// A value is bytes without NUL, and may have several lines. They go out as both MTAs want them
/// (`sendmail/headers.c` `put_vanilla_header`, Postfix `cleanup_out.c` `cleanup_out_header`): CRLF
/// and CR become LF, an empty line after the first is dropped, and a line after the first that
/// does not begin with a space or a tab gets one tab. So no value can begin a header of its own or
/// end the headers. The MTA puts a space before the value unless leading spaces were negotiated.
/// Lines should have at most 998 octets (RFC 5322 2.1.1); this is not checked.
///
/// # Header indices
///
/// An index says which of several headers of the same name (ASCII case does not count) is meant;
/// the first one is 1. See [`order`](Self::order) for several edits of one name.
///
/// # Addresses
///
/// An address may be given with or without `<>`, and is sent with them. It is one address
/// without source route, comment or display name; a local part that needs quotes must have them:
/// `"two words"@example.org`. Bytes that are not ASCII are allowed (RFC 6531).
///
/// # Arguments
///
/// ESMTP arguments are one text, separated by spaces, without NUL, CR and LF. A recipient's
/// `NOTIFY` and `ORCPT`, and a sender's `RET`, `ENVID`, `SIZE`, `BODY`, `AUTH` and `BY`, must have a
/// value, and that of `ORCPT` a `;`: without these Sendmail's process for the SMTP session ends on
/// a null pointer (`sendmail/srvrsmtp.c` `rcpt_esmtp_args`, `mail_esmtp_args`). More of the values
/// is not checked.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Modification(Edit);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Edit {
    AddHeader {
        name: Bytes,
        value: Bytes,
    },
    InsertHeader {
        index: u32,
        name: Bytes,
        value: Bytes,
    },
    /// With an empty value: delete the header.
    ChangeHeader {
        name: Bytes,
        index: u32,
        value: Bytes,
    },
    ReplaceBody(Bytes),
    ChangeSender {
        address: Bytes,
        args: Option<Bytes>,
    },
    AddRecipient(Bytes),
    AddRecipientWithArgs {
        address: Bytes,
        args: Option<Bytes>,
    },
    DeleteRecipient(Bytes),
    Quarantine(Bytes),
}

impl Modification {
    /// Adds a header: at the end with Postfix; with Sendmail before the first one of that name,
    /// else at the end (`sendmail/headers.c` `addheader`).
    ///
    /// Use [`insert_header`](Self::insert_header) where the place matters.
    ///
    /// # Errors
    ///
    /// If the name or the value is not allowed (see [above](Self#header-names-and-values)).
    pub fn add_header(
        name: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<Self, ModificationError> {
        Ok(Self(Edit::AddHeader {
            name: header_name(name.as_ref())?,
            value: header_value(value.as_ref())?,
        }))
    }

    /// Inserts a header at a place among all headers.
    ///
    /// 0 is the top and 1 the place below the MTA's own `Received`, on both MTAs. Above 1 they
    /// count differently, and each insertion moves those after it; too large an index means the
    /// end (`sendmail/headers.c` `insheader`, Postfix `cleanup_milter.c` `cleanup_ins_header`).
    ///
    /// # Errors
    ///
    /// If the index is above [`i32::MAX`], which libmilter holds it in (`libmilter/smfi.c`
    /// `smfi_insheader`), or the name or the value is not allowed (see
    /// [above](Self#header-names-and-values)).
    pub fn insert_header(
        index: u32,
        name: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<Self, ModificationError> {
        Ok(Self(Edit::InsertHeader {
            index: checks::position(index)?,
            name: header_name(name.as_ref())?,
            value: header_value(value.as_ref())?,
        }))
    }

    /// Gives the header of that name and [index](Self#header-indices) another value.
    ///
    /// An empty value (also one of line breaks only) deletes the header: the wire has no other way
    /// to say so, and [`kind`](Self::kind) shows it as
    /// [`DeleteHeader`](ModificationKind::DeleteHeader). If there are fewer such headers, one is
    /// added.
    ///
    /// # Errors
    ///
    /// If the index is 0 or above [`i32::MAX`] (`libmilter/smfi.c` `smfi_chgheader`), or the name
    /// or the value is not allowed (see [above](Self#header-names-and-values)).
    pub fn change_header(
        name: impl AsRef<[u8]>,
        index: u32,
        value: impl AsRef<[u8]>,
    ) -> Result<Self, ModificationError> {
        Ok(Self(Edit::ChangeHeader {
            name: header_name(name.as_ref())?,
            index: checks::header_index(index)?,
            value: header_value(value.as_ref())?,
        }))
    }

    /// Deletes the header of that name and [index](Self#header-indices), if there is one: on the
    /// wire, a change to the empty value.
    ///
    /// # Errors
    ///
    /// If the index is 0 or above [`i32::MAX`], or the name is not allowed (see
    /// [above](Self#header-names-and-values)).
    pub fn delete_header(name: impl AsRef<[u8]>, index: u32) -> Result<Self, ModificationError> {
        Self::change_header(name, index, b"")
    }

    /// Replaces the whole body: lines end with CRLF, no dots are doubled; empty is an empty body.
    ///
    /// It may be larger than a frame: see [`body_chunks`](Self::body_chunks).
    pub fn replace_body(body: impl Into<Bytes>) -> Self {
        Self(Edit::ReplaceBody(body.into()))
    }

    /// Gives the message another envelope sender; `<>` is the null sender.
    ///
    /// ```
    /// use milter_core::{Modification, ModificationKind};
    ///
    /// let edit = Modification::change_sender("bounces@example.org")?;
    /// let ModificationKind::ChangeSender { address, args } = edit.kind() else {
    ///     panic!("not a sender");
    /// };
    /// assert_eq!(address, "<bounces@example.org>");
    /// assert_eq!(args, None);
    /// # Ok::<(), milter_core::ModificationError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If it is not one [address](Self#addresses) or `<>`.
    pub fn change_sender(address: impl AsRef<[u8]>) -> Result<Self, ModificationError> {
        Self::change_sender_with_args(address, b"")
    }

    /// Gives the message another envelope sender with ESMTP arguments, separated by spaces.
    ///
    /// Postfix knows `RET` and `ENVID` and warns of others (`cleanup_milter.c`
    /// `cleanup_chg_from`). There an argument takes the place of the one of that name, and the
    /// others stay; with Sendmail all arguments that the mail had go, and what stands behind one
    /// that it does not know is not read (`sendmail/milter.c` `milter_chgfrom`). Blank arguments
    /// are none: then those that the mail had stay with both.
    ///
    /// # Errors
    ///
    /// If it is not one [address](Self#addresses) or `<>`, or the [arguments](Self#arguments) are
    /// not allowed.
    pub fn change_sender_with_args(
        address: impl AsRef<[u8]>,
        args: impl AsRef<[u8]>,
    ) -> Result<Self, ModificationError> {
        Ok(Self(Edit::ChangeSender {
            address: checks::sender(address.as_ref())?,
            args: checks::esmtp_args(args.as_ref(), checks::OF_SENDERS)?,
        }))
    }

    /// Adds an envelope recipient.
    ///
    /// Add nobody who is there: Postfix does not take the client's recipient for the same, and
    /// delivers to both (`cleanup_out_recipient.c` compares `ORCPT` too, which `cleanup_addr.c`
    /// makes up for the client's alone).
    ///
    /// # Errors
    ///
    /// If it is not one [address](Self#addresses): Sendmail would add each of a list, Postfix the
    /// first (`sendmail/milter.c` `milter_addrcpt`, Postfix `cleanup_milter.c`
    /// `cleanup_add_rcpt_par`).
    pub fn add_recipient(address: impl AsRef<[u8]>) -> Result<Self, ModificationError> {
        let address = checks::recipient(address.as_ref())?;
        Ok(Self(Edit::AddRecipient(address)))
    }

    /// Adds an envelope recipient with ESMTP arguments, separated by spaces.
    ///
    /// This is an action of its own in the negotiation, also with blank arguments, which are none.
    /// Give `NOTIFY` and `ORCPT` at most, with a value that RFC 3461 allows. Of others Postfix warns
    /// (`cleanup_milter.c` `cleanup_add_rcpt_par`). Sendmail then does not add the recipient, and
    /// sends the client a line that is no reply (`sendmail/milter.c` `milter_addrcpt_par`).
    ///
    /// # Errors
    ///
    /// If it is not one [address](Self#addresses), or the [arguments](Self#arguments) are not
    /// allowed.
    pub fn add_recipient_with_args(
        address: impl AsRef<[u8]>,
        args: impl AsRef<[u8]>,
    ) -> Result<Self, ModificationError> {
        Ok(Self(Edit::AddRecipientWithArgs {
            address: checks::recipient(address.as_ref())?,
            args: checks::esmtp_args(args.as_ref(), checks::OF_RECIPIENTS)?,
        }))
    }

    /// Deletes an envelope recipient, if there is one of that address.
    ///
    /// Give the address as it came in RCPT: Postfix compares it byte for byte with that
    /// (`cleanup_milter.c` `cleanup_del_rcpt`), and so does Sendmail with those of other hosts
    /// (`sendmail/parseaddr.c` `sameaddr`). Sendmail remembers whom it deleted: one that is added
    /// again wants reports of what either wanted them of, and keeps its `ORCPT`
    /// (`sendmail/recipient.c` `recipient`).
    ///
    /// # Errors
    ///
    /// If it is not one [address](Self#addresses).
    pub fn delete_recipient(address: impl AsRef<[u8]>) -> Result<Self, ModificationError> {
        let address = checks::recipient(address.as_ref())?;
        Ok(Self(Edit::DeleteRecipient(address)))
    }

    /// Holds the message back for somebody to look at, with a reason for the log.
    ///
    /// CR, LF and other control characters of the reason become spaces. Postfix keeps its first
    /// 100 bytes. The last of several reasons counts. This is no verdict: one must follow.
    ///
    /// # Errors
    ///
    /// If the reason is blank or holds a NUL (`libmilter/smfi.c` `smfi_quarantine`).
    pub fn quarantine(reason: impl AsRef<[u8]>) -> Result<Self, ModificationError> {
        let reason = checks::quarantine_reason(reason.as_ref())?;
        Ok(Self(Edit::Quarantine(reason)))
    }

    /// What the change is.
    pub fn kind(&self) -> ModificationKind<'_> {
        let text = |bytes| Text::new(bytes);
        match &self.0 {
            Edit::AddHeader { name, value } => ModificationKind::AddHeader {
                name: text(name),
                value: text(value),
            },
            Edit::InsertHeader { index, name, value } => ModificationKind::InsertHeader {
                index: *index,
                name: text(name),
                value: text(value),
            },
            Edit::ChangeHeader { name, index, value } if value.is_empty() => {
                ModificationKind::DeleteHeader {
                    name: text(name),
                    index: *index,
                }
            }
            Edit::ChangeHeader { name, index, value } => ModificationKind::ChangeHeader {
                name: text(name),
                index: *index,
                value: text(value),
            },
            Edit::ReplaceBody(body) => ModificationKind::ReplaceBody { body },
            Edit::ChangeSender { address, args } => ModificationKind::ChangeSender {
                address: text(address),
                args: args.as_deref().map(text),
            },
            Edit::AddRecipient(address) => ModificationKind::AddRecipient {
                address: text(address),
            },
            Edit::AddRecipientWithArgs { address, args } => {
                ModificationKind::AddRecipientWithArgs {
                    address: text(address),
                    args: args.as_deref().map(text),
                }
            }
            Edit::DeleteRecipient(address) => ModificationKind::DeleteRecipient {
                address: text(address),
            },
            Edit::Quarantine(reason) => ModificationKind::Quarantine {
                reason: text(reason),
            },
        }
    }
}

/// Shows the kind with its texts as escapes, and only the length of a body: safe for logs.
impl fmt::Debug for Modification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind() {
            ModificationKind::ReplaceBody { body } => f
                .debug_struct("ReplaceBody")
                .field("len", &body.len())
                .finish(),
            kind => fmt::Debug::fmt(&kind, f),
        }
    }
}

/// What a [`Modification`] is, as a view of it.
///
/// Addresses, indices and values are as the type's constructors leave them, or as a filter sent
/// them: then an address may lack its brackets, and index 0 means 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ModificationKind<'a> {
    /// Adds a header (`SMFIR_ADDHEADER`).
    AddHeader {
        /// The header's name.
        name: Text<'a>,
        /// The header's value, lines separated by LF.
        value: Text<'a>,
    },
    /// Inserts a header (`SMFIR_INSHEADER`).
    InsertHeader {
        /// The place among all headers, 0 at the top.
        index: u32,
        /// The header's name.
        name: Text<'a>,
        /// The header's value, lines separated by LF.
        value: Text<'a>,
    },
    /// Gives a header another value (`SMFIR_CHGHEADER`).
    ChangeHeader {
        /// The header's name.
        name: Text<'a>,
        /// Which header of that name, from 1.
        index: u32,
        /// The new value, not empty, lines separated by LF.
        value: Text<'a>,
    },
    /// Deletes a header (`SMFIR_CHGHEADER` with an empty value).
    DeleteHeader {
        /// The header's name.
        name: Text<'a>,
        /// Which header of that name, from 1.
        index: u32,
    },
    /// Replaces the body, or one piece of that (`SMFIR_REPLBODY`).
    ReplaceBody {
        /// The new body.
        body: &'a Bytes,
    },
    /// Changes the envelope sender (`SMFIR_CHGFROM`).
    ChangeSender {
        /// The new sender.
        address: Text<'a>,
        /// Its ESMTP arguments, separated by spaces.
        args: Option<Text<'a>>,
    },
    /// Adds an envelope recipient (`SMFIR_ADDRCPT`).
    AddRecipient {
        /// The new recipient.
        address: Text<'a>,
    },
    /// Adds an envelope recipient with ESMTP arguments (`SMFIR_ADDRCPT_PAR`).
    AddRecipientWithArgs {
        /// The new recipient.
        address: Text<'a>,
        /// Its ESMTP arguments, separated by spaces.
        args: Option<Text<'a>>,
    },
    /// Deletes an envelope recipient (`SMFIR_DELRCPT`).
    DeleteRecipient {
        /// The recipient.
        address: Text<'a>,
    },
    /// Holds the message back (`SMFIR_QUARANTINE`).
    Quarantine {
        /// The reason for the log.
        reason: Text<'a>,
    },
}

/// Why there is no such [`Modification`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ModificationError {
    /// The header name is empty or has a byte that is not allowed.
    #[error(
        "\"{0}\" is not a header name: it must be printable ASCII without spaces and colons, such \
         as `X-Spam-Flag`"
    )]
    HeaderName(
        /// The name, with escapes for what is not printable.
        String,
    ),
    /// The header value holds a NUL.
    #[error("a header value cannot hold NUL: encode it or leave it out")]
    HeaderValueNul,
    /// The index of a header to change or delete is 0.
    #[error("headers of one name are counted from 1: index 0 is none of them")]
    HeaderIndexZero,
    /// The index is above [`i32::MAX`].
    #[error("header index {0} is too large: the most is {max}", max = i32::MAX)]
    HeaderIndex(u32),
    /// It is not an address.
    #[error("\"{address}\" cannot be sent as an address: {problem}")]
    Address {
        /// What was given, with escapes for what is not printable ASCII.
        address: String,
        /// What is wrong with it.
        problem: AddressProblem,
    },
    /// The ESMTP arguments hold NUL, CR or LF.
    #[error("ESMTP arguments cannot hold NUL, CR or LF: separate them by spaces")]
    EsmtpArgs,
    /// An ESMTP argument lacks its value, or the `;` within that.
    #[error(
        "the ESMTP argument \"{0}\" lacks its value, or the `;` in it: Sendmail would end the SMTP \
         session without a reply"
    )]
    EsmtpArg(
        /// The argument, with escapes for what is not printable ASCII.
        String,
    ),
    /// The reason of a quarantine is blank.
    #[error("a quarantine needs a reason: it is what the log will show")]
    QuarantineReasonBlank,
    /// The reason of a quarantine holds a NUL.
    #[error("the reason of a quarantine cannot hold NUL")]
    QuarantineReasonNul,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_value_is_a_delete() -> Result<(), ModificationError> {
        let delete = Modification::delete_header("Subject", 2)?;
        assert_eq!(Modification::change_header("Subject", 2, "\r\n")?, delete);
        let name = Text::from("Subject");
        assert_eq!(
            delete.kind(),
            ModificationKind::DeleteHeader { name, index: 2 }
        );
        Ok(())
    }

    #[test]
    fn c74_addresses_are_sent_with_brackets() -> Result<(), ModificationError> {
        let address = Text::from("<a@b>");
        for given in ["a@b", "<a@b>"] {
            assert_eq!(
                Modification::add_recipient(given)?.kind(),
                ModificationKind::AddRecipient { address }
            );
            assert_eq!(
                Modification::add_recipient_with_args(given, "NOTIFY=NEVER")?.kind(),
                ModificationKind::AddRecipientWithArgs {
                    address,
                    args: Some("NOTIFY=NEVER".into()),
                }
            );
            assert_eq!(
                Modification::delete_recipient(given)?.kind(),
                ModificationKind::DeleteRecipient { address }
            );
            assert_eq!(
                Modification::change_sender_with_args(given, " ")?.kind(),
                ModificationKind::ChangeSender {
                    address,
                    args: None,
                }
            );
        }
        Ok(())
    }

    #[test]
    fn debug_does_not_show_the_body() -> Result<(), ModificationError> {
        let edit = Modification::replace_body("secret");
        assert_eq!(format!("{edit:?}"), "ReplaceBody { len: 6 }");
        let edit = Modification::add_header("X", "a\nb")?;
        assert_eq!(
            format!("{edit:?}"),
            r#"AddHeader { name: "X", value: "a\n\tb" }"#
        );
        Ok(())
    }

    #[test]
    fn errors_say_what_to_do() {
        let error = Modification::add_header("a\n", "").unwrap_err();
        assert_eq!(
            error.to_string(),
            r#""a\n" is not a header name: it must be printable ASCII without spaces and colons, such as `X-Spam-Flag`"#
        );
        let error = Modification::add_recipient("a@b, c@d").unwrap_err();
        assert_eq!(
            error.to_string(),
            r#""a@b, c@d" cannot be sent as an address: it holds ',' outside quotes: give one bare address at a time"#
        );
    }
}
