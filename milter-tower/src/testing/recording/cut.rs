//! Frames out of a stream of bytes.

use bytes::{Buf, Bytes, BytesMut};
use milter_core::MAX_PAYLOAD;

use super::entry::Said;

/// Bytes of a frame's length.
const LEN: usize = 4;

/// Cuts what one side sends into frames, whatever they say.
///
/// No byte is lost or changed: what comes out is, as [`wire`](Said::wire) bytes, what went in. A
/// length that no frame has (0, or more than a payload of [`MAX_PAYLOAD`]) puts the side out of step:
/// from there all is [`Said::Broken`]. At most one frame is held.
///
/// ```
/// use milter_tower::testing::recording::{Cutter, Said};
///
/// let mut cutter = Cutter::new();
/// cutter.push(b"\0\0\0\x01T\0\0\0\x07H");
/// assert_eq!(cutter.next(), Some(Said::frame(b'T', "")));
/// assert_eq!(cutter.next(), None, "the next frame is not whole yet");
/// assert_eq!(cutter.rest(), Some(Said::Broken("\0\0\0\x07H".into())));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Cutter {
    held: BytesMut,
    is_out_of_step: bool,
}

impl Cutter {
    /// A cutter at the beginning of a connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes. [`next`](Self::next) is then to be asked until it has nothing more.
    pub fn push(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// The next whole frame, or what is there of bytes that are out of step.
    #[allow(
        clippy::should_implement_trait,
        reason = "more may come after there was nothing: it is no iterator"
    )]
    pub fn next(&mut self) -> Option<Said> {
        if self.is_out_of_step {
            return self.rest();
        }
        let head = self.held.first_chunk::<LEN>()?;
        let length = u32::from_be_bytes(*head) as usize;
        if length == 0 || length > MAX_PAYLOAD + 1 {
            self.is_out_of_step = true;
            return self.rest();
        }
        if self.held.len() < LEN + length {
            return None;
        }
        self.held.advance(LEN);
        let mut payload = self.take(length);
        let code = payload.get_u8();
        Some(Said::Frame { code, payload })
    }

    /// What is left when the connection has ended: nothing, or bytes that are no whole frame.
    pub fn rest(&mut self) -> Option<Said> {
        let rest = self.take(self.held.len());
        (!rest.is_empty()).then_some(Said::Broken(rest))
    }

    /// The first bytes, in memory of their own: who keeps them keeps nothing else.
    fn take(&mut self, bytes: usize) -> Bytes {
        if bytes == self.held.len() {
            return std::mem::take(&mut self.held).freeze();
        }
        let taken = Bytes::copy_from_slice(&self.held[..bytes]);
        self.held.advance(bytes);
        taken
    }
}
