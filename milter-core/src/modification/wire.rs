//! Modifications as frames.

use std::iter;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;

use super::{Edit, Modification};

// include/libmilter/mfdef.h SMFIR_*
const ADD_HEADER: u8 = b'h';
const INSERT_HEADER: u8 = b'i';
const CHANGE_HEADER: u8 = b'm';
const REPLACE_BODY: u8 = b'b';
const CHANGE_SENDER: u8 = b'e';
const ADD_RECIPIENT: u8 = b'+';
const ADD_RECIPIENT_WITH_ARGS: u8 = b'2';
const DELETE_RECIPIENT: u8 = b'-';
const QUARANTINE: u8 = b'q';

/// The length of an index: a big-endian `u32`.
const INDEX_LEN: usize = 4;

impl Modification {
    /// Most bytes of a body that go into one frame (`include/libmilter/mfdef.h`
    /// `MILTER_CHUNK_SIZE`).
    pub const MAX_BODY_CHUNK: usize = 65_535;

    /// The code of its frame (`include/libmilter/mfdef.h` `SMFIR_*`).
    pub fn code(&self) -> u8 {
        match &self.0 {
            Edit::AddHeader { .. } => ADD_HEADER,
            Edit::InsertHeader { .. } => INSERT_HEADER,
            Edit::ChangeHeader { .. } => CHANGE_HEADER,
            Edit::ReplaceBody(_) => REPLACE_BODY,
            Edit::ChangeSender { .. } => CHANGE_SENDER,
            Edit::AddRecipient(_) => ADD_RECIPIENT,
            Edit::AddRecipientWithArgs { .. } => ADD_RECIPIENT_WITH_ARGS,
            Edit::DeleteRecipient(_) => DELETE_RECIPIENT,
            Edit::Quarantine(_) => QUARANTINE,
        }
    }

    /// How many bytes [`encode_payload`](Self::encode_payload) writes.
    ///
    /// May be more than a frame takes: the one for a body if that was not cut by
    /// [`body_chunks`](Self::body_chunks), any other if its texts are that long.
    pub fn payload_len(&self) -> usize {
        match &self.0 {
            Edit::AddHeader { name, value } => str_len(name) + str_len(value),
            Edit::InsertHeader { name, value, .. } | Edit::ChangeHeader { name, value, .. } => {
                INDEX_LEN + str_len(name) + str_len(value)
            }
            Edit::ReplaceBody(body) => body.len(),
            Edit::ChangeSender { address, args } | Edit::AddRecipientWithArgs { address, args } => {
                str_len(address) + args.as_ref().map_or(0, str_len)
            }
            Edit::AddRecipient(text) | Edit::DeleteRecipient(text) | Edit::Quarantine(text) => {
                str_len(text)
            }
        }
    }

    /// Appends the payload of its frame: numbers big-endian, each string ended by NUL
    /// (`libmilter/smfi.c`).
    ///
    /// ```
    /// use bytes::BytesMut;
    /// use milter_core::Modification;
    ///
    /// let edit = Modification::change_header("Subject", 1, "hi")?;
    /// let mut payload = BytesMut::new();
    /// edit.encode_payload(&mut payload);
    /// assert_eq!(edit.code(), b'm');
    /// assert_eq!(payload.as_ref(), b"\0\0\0\x01Subject\0hi\0");
    /// assert_eq!(Modification::decode(b'm', payload.freeze()), Ok(edit));
    /// # Ok::<(), milter_core::ModificationError>(())
    /// ```
    pub fn encode_payload(&self, payload: &mut BytesMut) {
        payload.reserve(self.payload_len());
        match &self.0 {
            Edit::AddHeader { name, value } => {
                put_str(payload, name);
                put_str(payload, value);
            }
            Edit::InsertHeader { index, name, value }
            | Edit::ChangeHeader { name, index, value } => {
                payload.put_u32(*index);
                put_str(payload, name);
                put_str(payload, value);
            }
            Edit::ReplaceBody(body) => payload.put_slice(body),
            Edit::ChangeSender { address, args } | Edit::AddRecipientWithArgs { address, args } => {
                put_str(payload, address);
                if let Some(args) = args {
                    put_str(payload, args);
                }
            }
            Edit::AddRecipient(text) | Edit::DeleteRecipient(text) | Edit::Quarantine(text) => {
                put_str(payload, text);
            }
        }
    }

    /// Reads a frame that came from a filter.
    ///
    /// Strict about the frame, as Postfix is (`milter8.c` `vmilter8_read_data`): every string
    /// ends with NUL and nothing is left over. Liberal about what it says: names, values,
    /// addresses and indices are kept as they came, also those that the constructors refuse or
    /// change, for the MTAs do not refuse them either.
    ///
    /// The result shares `payload` without copying it.
    ///
    /// # Errors
    ///
    /// If there is no modification with that code, or the payload is not laid out as one.
    pub fn decode(code: u8, payload: Bytes) -> Result<Self, ModificationDecodeError> {
        let mut fields = Fields {
            code,
            rest: payload,
        };
        let edit = match code {
            ADD_HEADER => Edit::AddHeader {
                name: fields.string()?,
                value: fields.string()?,
            },
            INSERT_HEADER => Edit::InsertHeader {
                index: fields.index()?,
                name: fields.string()?,
                value: fields.string()?,
            },
            CHANGE_HEADER => Edit::ChangeHeader {
                index: fields.index()?,
                name: fields.string()?,
                value: fields.string()?,
            },
            REPLACE_BODY => return Ok(Self(Edit::ReplaceBody(fields.rest))),
            CHANGE_SENDER => Edit::ChangeSender {
                address: fields.string()?,
                args: fields.optional_string()?,
            },
            ADD_RECIPIENT => Edit::AddRecipient(fields.string()?),
            ADD_RECIPIENT_WITH_ARGS => Edit::AddRecipientWithArgs {
                address: fields.string()?,
                args: fields.optional_string()?,
            },
            DELETE_RECIPIENT => Edit::DeleteRecipient(fields.string()?),
            QUARANTINE => Edit::Quarantine(fields.string()?),
            _ => return Err(ModificationDecodeError::UnknownCode(code)),
        };
        fields.finish()?;
        Ok(Self(edit))
    }

    /// The pieces that a new body is sent in, of [`MAX_BODY_CHUNK`](Self::MAX_BODY_CHUNK) bytes
    /// and a rest, one frame each.
    ///
    /// An empty body is one empty piece: it is what empties the body. The pieces share `body`
    /// without copying it.
    ///
    /// ```
    /// use milter_core::Modification;
    ///
    /// let body = vec![b'x'; 70_000].into();
    /// let lens: Vec<_> = Modification::body_chunks(&body).map(|piece| piece.len()).collect();
    /// assert_eq!(lens, [65_535, 4_465]);
    /// ```
    pub fn body_chunks(body: &Bytes) -> impl Iterator<Item = Bytes> + use<> {
        let mut rest = Some(body.clone());
        iter::from_fn(move || {
            let mut piece = rest.take()?;
            if piece.len() > Self::MAX_BODY_CHUNK {
                rest = Some(piece.split_off(Self::MAX_BODY_CHUNK));
            }
            Some(piece)
        })
    }
}

fn str_len(text: &Bytes) -> usize {
    text.len() + 1
}

fn put_str(payload: &mut BytesMut, text: &Bytes) {
    payload.put_slice(text);
    payload.put_u8(0);
}

/// The fields of a payload that are still to be read.
struct Fields {
    code: u8,
    rest: Bytes,
}

impl Fields {
    fn index(&mut self) -> Result<u32, ModificationDecodeError> {
        let code = self.code;
        let short = |_| ModificationDecodeError::Short { code };
        self.rest.try_get_u32().map_err(short)
    }

    fn string(&mut self) -> Result<Bytes, ModificationDecodeError> {
        let code = self.code;
        let nul = memchr::memchr(0, &self.rest).ok_or(ModificationDecodeError::Short { code })?;
        let text = self.rest.split_to(nul);
        self.rest.advance(1);
        Ok(text)
    }

    fn optional_string(&mut self) -> Result<Option<Bytes>, ModificationDecodeError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        self.string().map(Some)
    }

    fn finish(self) -> Result<(), ModificationDecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            len => Err(ModificationDecodeError::Trailing {
                code: self.code,
                len,
            }),
        }
    }
}

/// Why a frame from a filter is no [`Modification`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ModificationDecodeError {
    /// No modification has this code.
    #[error("the filter's frame '{code}' is not a modification", code = .0.escape_ascii())]
    UnknownCode(u8),
    /// A number or a string, with its NUL, is missing or not whole.
    #[error("the filter's frame '{code}' ends too early", code = .code.escape_ascii())]
    Short {
        /// The code of the frame.
        code: u8,
    },
    /// Bytes are left over behind the last string.
    #[error("the filter's frame '{code}' has {len} bytes too many", code = .code.escape_ascii())]
    Trailing {
        /// The code of the frame.
        code: u8,
        /// How many bytes are left over.
        len: usize,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ModificationError;

    #[track_caller]
    fn decode(code: u8, payload: &'static [u8]) -> Modification {
        Modification::decode(code, Bytes::from_static(payload)).expect("a modification")
    }

    fn encode(edit: &Modification) -> Bytes {
        let mut payload = BytesMut::new();
        edit.encode_payload(&mut payload);
        payload.freeze()
    }

    #[test]
    fn c64_c74_every_kind_has_its_code_and_payload() -> Result<(), ModificationError> {
        for (edit, code, payload) in [
            (Modification::add_header("A", "b")?, b'h', &b"A\0b\0"[..]),
            (
                Modification::insert_header(258, "A", "")?,
                b'i',
                b"\0\0\x01\x02A\0\0",
            ),
            (
                Modification::change_header("A", 1, "b")?,
                b'm',
                b"\0\0\0\x01A\0b\0",
            ),
            (
                Modification::delete_header("A", 2)?,
                b'm',
                b"\0\0\0\x02A\0\0",
            ),
            (Modification::replace_body("a\0b"), b'b', b"a\0b"),
            (Modification::replace_body(""), b'b', b""),
            (Modification::change_sender("<>")?, b'e', b"<>\0"),
            (
                Modification::change_sender_with_args("a", "RET=FULL")?,
                b'e',
                b"<a>\0RET=FULL\0",
            ),
            (Modification::add_recipient("a")?, b'+', b"<a>\0"),
            (
                Modification::add_recipient_with_args("a", "")?,
                b'2',
                b"<a>\0",
            ),
            (
                Modification::add_recipient_with_args("a", "B=c D")?,
                b'2',
                b"<a>\0B=c D\0",
            ),
            (Modification::delete_recipient("a")?, b'-', b"<a>\0"),
            (Modification::quarantine("why")?, b'q', b"why\0"),
        ] {
            assert_eq!(edit.code(), code, "{edit:?}");
            assert_eq!(encode(&edit), payload, "{edit:?}");
            assert_eq!(edit.payload_len(), payload.len(), "{edit:?}");
            assert_eq!(decode(code, payload), edit);
        }
        Ok(())
    }

    #[test]
    fn c77_frames_are_used_up_exactly() {
        for (code, payload) in [
            (b'h', &b"A\0b"[..]),
            (b'h', b"A\0"),
            (b'h', b""),
            (b'i', b"\0\0\0"),
            (b'm', b"\0\0\0\x01A\0b"),
            (b'e', b"a"),
            (b'e', b"a\0b"),
            (b'+', b""),
            (b'q', b"why"),
        ] {
            let decoded = Modification::decode(code, Bytes::from_static(payload));
            assert_eq!(decoded, Err(ModificationDecodeError::Short { code }));
        }
        for (code, payload) in [
            (b'h', &b"A\0b\0c"[..]),
            (b'm', b"\0\0\0\x01A\0b\0c"),
            (b'e', b"a\0b\0c"),
            (b'2', b"a\0b\0\0"),
            (b'+', b"a\0b"),
            (b'-', b"a\0\0"),
            (b'q', b"why\0\0"),
        ] {
            let decoded = Modification::decode(code, Bytes::from_static(payload));
            assert!(
                matches!(
                    decoded,
                    Err(ModificationDecodeError::Trailing { len: 1, .. })
                ),
                "{decoded:?}"
            );
        }
        let decoded = Modification::decode(b'c', Bytes::new());
        assert_eq!(decoded, Err(ModificationDecodeError::UnknownCode(b'c')));
    }

    #[test]
    fn what_libmilter_filters_send_is_kept_as_it_came() {
        for (code, payload) in [
            (b'h', &b"\0\0"[..]),
            (b'h', b"A b:\0a\r\nb\0"),
            (b'm', b"\0\0\0\0A\0b\0"),
            (b'm', b"\xff\xff\xff\xffA\0b\0"),
            (b'e', b"a@b\0"),
            (b'e', b"\0\0"),
            (b'+', b"a@b, c@d\0"),
            (b'+', b"\0"),
            (b'-', b"A <a@b>\0"),
            (b'q', b"\0"),
        ] {
            assert_eq!(encode(&decode(code, payload)), payload);
        }
    }

    #[test]
    fn c73_a_body_goes_in_pieces_of_65535() {
        let lens = |len: usize| -> Vec<usize> {
            let body = Bytes::from(vec![b'x'; len]);
            Modification::body_chunks(&body)
                .map(|piece| piece.len())
                .collect()
        };
        assert_eq!(lens(0), [0]);
        assert_eq!(lens(1), [1]);
        assert_eq!(lens(65_535), [65_535]);
        assert_eq!(lens(65_536), [65_535, 1]);
        assert_eq!(lens(2 * 65_535), [65_535, 65_535]);
    }

    proptest! {
        #[test]
        fn what_is_decoded_encodes_to_the_same_bytes(
            code in prop::sample::select(&b"himbe+2-qcy"[..]),
            payload in prop::collection::vec(prop_oneof![Just(0), any::<u8>()], 0..40),
        ) {
            let payload = Bytes::from(payload);
            if let Ok(edit) = Modification::decode(code, payload.clone()) {
                prop_assert_eq!(edit.code(), code);
                prop_assert_eq!(edit.payload_len(), payload.len());
                prop_assert_eq!(encode(&edit), payload);
            }
        }
    }
}
