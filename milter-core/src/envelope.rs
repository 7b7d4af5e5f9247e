//! The addresses of the envelope.

use bytes::{BufMut, Bytes, BytesMut};
use memchr::{memchr, memrchr};

use crate::esmtp::EsmtpArgs;
use crate::mailbox::{bare, same_mailbox};
use crate::strings::without_nul;
use crate::{Text, same_domain};

/// An address of the envelope and its ESMTP arguments, in one piece of memory.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Path {
    /// Address and arguments, each ended by a NUL.
    raw: Bytes,
    address_len: u32,
}

impl Path {
    fn new<A: Into<Bytes>>(address: impl Into<Bytes>, args: impl IntoIterator<Item = A>) -> Self {
        let address = without_nul(address);
        let mut raw = BytesMut::from(&address[..]);
        raw.put_u8(0);
        for arg in args {
            raw.put_slice(&without_nul(arg));
            raw.put_u8(0);
        }
        Self {
            raw: raw.freeze(),
            address_len: u32::try_from(address.len()).unwrap_or(u32::MAX),
        }
    }

    // libmilter/engine.c dec_argv: split at NULs, an unterminated end is dropped, without any
    // NUL it is an error (C38, C39)
    fn parse(mut raw: Bytes) -> Result<Self, &'static str> {
        let end = memchr(0, &raw).ok_or("an address has no NUL at its end")?;
        raw.truncate(memrchr(0, &raw).unwrap_or(end) + 1);
        Ok(Self {
            raw,
            address_len: u32::try_from(end).map_err(|_| "an address is too long")?,
        })
    }

    fn address(&self) -> Text<'_> {
        Text::new(&self.raw[..self.address_len as usize])
    }

    fn mailbox(&self) -> Text<'_> {
        Text::new(bare(self.address().as_bytes()))
    }

    fn args(&self) -> EsmtpArgs<'_> {
        EsmtpArgs::new(&self.raw[self.address_len as usize + 1..])
    }
}

macro_rules! envelope_address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name(Path);

        impl $name {
            /// An address, as a client would write it, and ESMTP arguments. NULs cut them.
            pub fn new<A: Into<Bytes>>(address: impl Into<Bytes>, args: impl IntoIterator<Item = A>) -> Self {
                Self(Path::new(address, args))
            }

            /// The address exactly as it came: usually with `<>`, but not if the client left
            /// them out or the mail did not come by SMTP (Q7).
            pub fn address(&self) -> Text<'_> {
                self.0.address()
            }

            /// The address without `<>`.
            pub fn mailbox(&self) -> Text<'_> {
                self.0.mailbox()
            }

            /// What follows the last `@` of the address; none for the null sender and for
            /// addresses of this host.
            pub fn domain(&self) -> Option<Text<'_>> {
                let mailbox = self.mailbox().as_bytes();
                memrchr(b'@', mailbox).map(|at| Text::new(&mailbox[at + 1..]))
            }

            /// Whether this is that mailbox; `<>` may be left out.
            ///
            /// Domains are compared as [`same_domain`] does. What stands before the `@` is the
            /// business of the host there: its case counts (RFC 5321 2.4), quotes that change
            /// nothing do not. See [`is_ignoring_case`](Self::is_ignoring_case).
            ///
            /// ```
            #[doc = concat!("let address = milter_core::", stringify!($name), "::new(\"<bob@bücher.example>\", [\"\"; 0]);")]
            /// assert!(address.is("bob@xn--bcher-kva.example"));
            /// assert!(!address.is("Bob@xn--bcher-kva.example"));
            /// assert!(address.is_ignoring_case("Bob@xn--bcher-kva.example"));
            /// assert!(address.is_at("BÜCHER.example"));
            /// ```
            pub fn is(&self, address: impl AsRef<[u8]>) -> bool {
                same_mailbox(self.address().as_bytes(), address.as_ref(), false)
            }

            /// Whether this is that mailbox, if the case of letters before the `@` does not count
            /// either, as is so on most hosts.
            pub fn is_ignoring_case(&self, address: impl AsRef<[u8]>) -> bool {
                same_mailbox(self.address().as_bytes(), address.as_ref(), true)
            }

            /// Whether this is an address at that domain itself, compared as [`same_domain`] does.
            pub fn is_at(&self, domain: impl AsRef<[u8]>) -> bool {
                self.domain().is_some_and(|own| same_domain(own, domain))
            }

            /// The ESMTP arguments.
            pub fn args(&self) -> EsmtpArgs<'_> {
                self.0.args()
            }

            /// The same in memory of its own, which holds no other part of a connection's
            /// buffer.
            #[must_use]
            pub fn to_owned_copy(&self) -> Self {
                let Path { raw, address_len } = &self.0;
                Self(Path { raw: Bytes::copy_from_slice(raw), address_len: *address_len })
            }

            pub(crate) fn parse(payload: Bytes) -> Result<Self, &'static str> {
                Path::parse(payload).map(Self)
            }

            /// Address and arguments as they are sent.
            pub(crate) fn raw(&self) -> &[u8] {
                &self.0.raw
            }

            /// The bytes held.
            pub fn held_bytes(&self) -> usize {
                self.0.raw.len()
            }
        }
    };
}

envelope_address! {
    /// The sender of a message, from MAIL.
    Sender
}

envelope_address! {
    /// A recipient of a message, from RCPT.
    Recipient
}

impl Sender {
    /// Whether this is the null sender, `<>`, of bounces and the like. Mail that did not come by
    /// SMTP has the empty string there.
    pub fn is_null(&self) -> bool {
        self.mailbox().is_empty()
    }
}
