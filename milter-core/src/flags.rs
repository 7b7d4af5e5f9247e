//! The bits of the negotiation.

use bitflags::bitflags;

bitflags! {
    /// What a filter may do to a message (`SMFIF_*`).
    ///
    /// Bits without a name are kept, so `all()` has those too, which no MTA offers: for all that
    /// changes a message there is [`CHANGES`](Self::CHANGES).
    // include/libmilter/mfapi.h SMFIF_*
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Actions: u32 {
        /// Add and insert headers.
        const ADD_HEADERS = 0x01;
        /// Replace the body.
        const CHANGE_BODY = 0x02;
        /// Add recipients.
        const ADD_RECIPIENTS = 0x04;
        /// Delete recipients.
        const DELETE_RECIPIENTS = 0x08;
        /// Change and delete headers.
        const CHANGE_HEADERS = 0x10;
        /// Quarantine the message.
        const QUARANTINE = 0x20;
        /// Change the sender.
        const CHANGE_SENDER = 0x40;
        /// Add recipients with ESMTP arguments.
        const ADD_RECIPIENTS_WITH_ARGS = 0x80;
        /// Ask for macros by name.
        const REQUEST_MACROS = 0x100;
        // Bits that are not known here are kept as they came.
        const _ = !0;
    }
}

impl Actions {
    /// Every action that changes a message.
    pub const CHANGES: Self = Self::from_bits_retain(0xff);
}

bitflags! {
    /// How events are delivered (`SMFIP_*`): events declined, replies left out, abilities.
    ///
    /// [`Needs`](crate::Needs) say the same in words; most users never see these bits.
    // include/libmilter/mfdef.h SMFIP_*
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Steps: u32 {
        /// Connect is not sent.
        const NO_CONNECT = 0x00_0001;
        /// HELO is not sent.
        const NO_HELO = 0x00_0002;
        /// MAIL is not sent.
        const NO_MAIL = 0x00_0004;
        /// RCPT is not sent.
        const NO_RCPT = 0x00_0008;
        /// The body is not sent.
        const NO_BODY = 0x00_0010;
        /// Headers are not sent.
        const NO_HEADERS = 0x00_0020;
        /// The end of the headers is not sent.
        const NO_END_OF_HEADERS = 0x00_0040;
        /// Headers get no reply.
        const NR_HEADER = 0x00_0080;
        /// Unknown commands are not sent.
        const NO_UNKNOWN = 0x00_0100;
        /// DATA is not sent.
        const NO_DATA = 0x00_0200;
        /// The MTA understands the reply "no more of the body".
        const SKIP = 0x00_0400;
        /// Recipients that the MTA refused are sent too.
        const REJECTED_RECIPIENTS = 0x00_0800;
        /// Connect gets no reply.
        const NR_CONNECT = 0x00_1000;
        /// HELO gets no reply.
        const NR_HELO = 0x00_2000;
        /// MAIL gets no reply.
        const NR_MAIL = 0x00_4000;
        /// RCPT gets no reply.
        const NR_RCPT = 0x00_8000;
        /// DATA gets no reply.
        const NR_DATA = 0x01_0000;
        /// Unknown commands get no reply.
        const NR_UNKNOWN = 0x02_0000;
        /// The end of the headers gets no reply.
        const NR_END_OF_HEADERS = 0x04_0000;
        /// The body gets no reply.
        const NR_BODY = 0x08_0000;
        /// Header values keep their leading space, in both directions.
        const LEADING_SPACE = 0x10_0000;
        /// Frames of up to 256 KiB. Only in MTAs and filters built for it.
        const DATA_256K = 0x1000_0000;
        /// Frames of up to 1 MiB. Only in MTAs and filters built for it.
        const DATA_1M = 0x2000_0000;
        // Bits that are not known here are kept as they came.
        const _ = !0;
    }
}

impl Steps {
    /// The abilities that a filter may wish for.
    pub const ABILITIES: Self = Self::SKIP
        .union(Self::REJECTED_RECIPIENTS)
        .union(Self::LEADING_SPACE);
}

/// The largest payload of a frame that the two sides agree on.
///
/// Headers, arguments and macros may become larger; pieces of the body never do, in either
/// direction.
// sendmail/milter.c and libmilter/engine.c under _FFR_MDS_NEGOTIATE
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DataSize {
    /// 65,535 bytes: what every MTA and filter can do.
    #[default]
    Kib64,
    /// 262,143 bytes.
    Kib256,
    /// 1,048,575 bytes.
    Mib1,
}

impl DataSize {
    /// The largest payload in bytes.
    pub const fn max_payload(self) -> usize {
        match self {
            Self::Kib64 => 65_535,
            Self::Kib256 => 262_143,
            Self::Mib1 => 1_048_575,
        }
    }

    /// The bit that offers or accepts the size.
    pub(crate) const fn bit(self) -> Steps {
        match self {
            Self::Kib64 => Steps::empty(),
            Self::Kib256 => Steps::DATA_256K,
            Self::Mib1 => Steps::DATA_1M,
        }
    }

    /// The largest size up to `most` whose bit is set.
    pub(crate) fn offered_in(steps: Steps, most: Self) -> Self {
        [Self::Mib1, Self::Kib256]
            .into_iter()
            .find(|size| *size <= most && steps.contains(size.bit()))
            .unwrap_or_default()
    }
}

/// Names of flags joined by commas, unknown bits as a number, `nothing` for none.
pub(crate) fn flag_names<F: bitflags::Flags<Bits = u32>>(flags: &F) -> String {
    let mut names: Vec<String> = flags
        .iter_names()
        .map(|(name, _)| name.to_owned())
        .collect();
    let known = F::FLAGS
        .iter()
        .filter(|f| f.is_named())
        .fold(0, |bits, f| bits | f.value().bits());
    if flags.bits() & !known != 0 {
        names.push(format!("{:#x}", flags.bits() & !known));
    }
    if names.is_empty() {
        "nothing".to_owned()
    } else {
        names.join(", ")
    }
}
