//! What differs between MTAs.

use bytes::{BufMut, Bytes, BytesMut};

use crate::Text;

/// Sendmail's default headers in the stock configuration, in the order of its list
/// (`cf/m4/proto.m4`, the lines that begin with `H`). The MTA's own `Received` stands second.
const STOCK: [&str; 9] = [
    "Return-Path",
    "Received",
    "Resent-Date",
    "Date",
    "Resent-From",
    "From",
    "Full-Name",
    "Resent-Message-Id",
    "Message-Id",
];

/// Whether Sendmail's stock configuration has a header of that name.
pub(super) fn is_stock(name: Text<'_>) -> bool {
    STOCK.iter().any(|stock| name.eq_ignore_ascii_case(stock))
}

/// How an MTA applies modifications: Postfix's way or Sendmail's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Postfix,
    Sendmail {
        /// The headers that the configuration defines, the own `Received` among them.
        defaults: Vec<Bytes>,
    },
}

impl Profile {
    /// Postfix.
    pub const fn postfix() -> Self {
        Self(Kind::Postfix)
    }

    /// Sendmail in the stock configuration.
    pub fn sendmail() -> Self {
        Self::sendmail_with(STOCK)
    }

    /// Sendmail with other header lines (`H`) in its configuration: their names in order,
    /// `Received` among them. They hold places in the list in which Sendmail counts
    /// [inserted](crate::Modification::insert_header) headers.
    pub fn sendmail_with(defaults: impl IntoIterator<Item = impl Into<Bytes>>) -> Self {
        Self(Kind::Sendmail {
            defaults: defaults.into_iter().map(Into::into).collect(),
        })
    }

    /// Whether this is Postfix's way.
    pub const fn is_postfix(&self) -> bool {
        matches!(self.0, Kind::Postfix)
    }

    /// The headers that are in the list from the beginning.
    pub(super) fn defaults(&self) -> &[Bytes] {
        match &self.0 {
            Kind::Postfix => &[],
            Kind::Sendmail { defaults } => defaults,
        }
    }

    /// A value as it stands behind the colon.
    // sendmail/headers.c addheader and put_vanilla_header, Postfix cleanup_milter.c
    // cleanup_add_header and cleanup_out.c cleanup_out_header: a space before it unless leading
    // space was negotiated, and lines that do not begin with white space are mended
    pub(super) fn value(&self, value: Text<'_>, leading_space: bool) -> Bytes {
        let mut out = BytesMut::with_capacity(value.len() + 1);
        if !leading_space {
            out.put_u8(b' ');
        }
        for (n, line) in value.as_bytes().split(|byte| *byte == b'\n').enumerate() {
            if n > 0 {
                out.put_u8(b'\n');
                if !line.starts_with(b" ") && !line.starts_with(b"\t") {
                    out.put_u8(if self.is_postfix() { b'\t' } else { b' ' });
                }
            }
            out.put_slice(line);
        }
        out.freeze()
    }

    /// The addresses in the text of one recipient that is added or deleted.
    // Q33: sendmail/recipient.c sendtolist and removefromlist, Postfix cleanup_milter.c
    // cleanup_add_rcpt_par and cleanup_del_rcpt
    pub(super) fn split_recipients<'t>(&self, text: Text<'t>) -> impl Iterator<Item = Text<'t>> {
        let mut quoted = false;
        let most = if self.is_postfix() { 1 } else { usize::MAX };
        text.as_bytes()
            .split(move |byte| {
                quoted ^= *byte == b'"';
                *byte == b',' && !quoted
            })
            .map(Text::new)
            .take(most)
    }

    /// What is kept of a reason for quarantine.
    // Postfix milter8.c milter8_event: 100 bytes since 3.10, none before
    pub(super) fn quarantine_reason(&self, reason: Text<'_>) -> Bytes {
        let most = if self.is_postfix() { 100 } else { usize::MAX };
        let reason = reason.as_bytes();
        Bytes::copy_from_slice(&reason[..reason.len().min(most)])
    }
}
