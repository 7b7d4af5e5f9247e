//! A fuzzer's bytes as choices.

/// Bytes that are taken one by one, a choice each; zeros where there are no more.
///
/// Choices are letters where that is possible, so that inputs can be read and written by hand.
#[derive(Clone, Debug)]
pub(super) struct Choices<'a> {
    rest: &'a [u8],
}

impl<'a> Choices<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.rest.split_first() else {
            return 0;
        };
        self.rest = rest;
        first
    }

    /// Two bytes as a number.
    pub(super) fn pair(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// Four bytes as a number.
    pub(super) fn word(&mut self) -> u32 {
        u32::from(self.pair()) << 16 | u32::from(self.pair())
    }

    /// A number less than `end`; a digit is that number.
    pub(super) fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte().wrapping_sub(b'0')) % end
    }

    /// One of them.
    pub(super) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// One of these letters: the byte itself, if it is one.
    pub(super) fn letter(&mut self, letters: &[u8]) -> u8 {
        let byte = self.byte();
        if letters.contains(&byte) {
            byte
        } else {
            letters[usize::from(byte) % letters.len()]
        }
    }

    /// As many bytes as the first byte says, or as there are.
    pub(super) fn text(&mut self) -> &'a [u8] {
        let len = usize::from(self.byte()).min(self.rest.len());
        let (text, rest) = self.rest.split_at(len);
        self.rest = rest;
        text
    }

    /// The bytes up to a line's end, which is taken too.
    pub(super) fn line(&mut self) -> &'a [u8] {
        let end = self.rest.iter().position(|&byte| byte == b'\n');
        let line = &self.rest[..end.unwrap_or(self.rest.len())];
        self.rest = end.map_or(&[], |end| &self.rest[end + 1..]);
        line
    }

    /// All bytes that are left.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }
}
