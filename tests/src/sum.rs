//! A message in one number: the filter under attack sums up what it was shown, the client what it
//! sent, and a message was filtered rightly when both are the same.

/// The sum of a message so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sum(u64);

impl Default for Sum {
    fn default() -> Self {
        Self(0xCBF2_9CE4_8422_2325)
    }
}

impl Sum {
    /// Adds a sender, a recipient, or the name and the value of a header: `kind` is the command's
    /// letter.
    pub fn add(&mut self, kind: u8, fields: &[&[u8]]) {
        self.step(&[kind]);
        for field in fields {
            self.step(field);
            // No field has a NUL.
            self.step(b"\0");
        }
    }

    /// Adds a piece of the body. It does not matter how the body was cut.
    pub fn add_body(&mut self, piece: &[u8]) {
        self.step(piece);
    }

    /// As it stands in the header that the filter adds.
    pub fn text(self) -> String {
        format!("{:016x}", self.0)
    }

    /// FNV-1a.
    fn step(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cuts_of_a_body_do_not_matter_and_everything_else_does() {
        let sum = |header: [&[u8]; 2], body: &[&[u8]]| {
            let mut sum = Sum::default();
            sum.add(b'L', &header);
            for piece in body {
                sum.add_body(piece);
            }
            sum.text()
        };
        let whole = sum([b"a", b"b"], &[b"xyz"]);
        assert_eq!(sum([b"a", b"b"], &[b"x", b"", b"yz"]), whole);
        for other in [
            sum([b"ab", b""], &[b"xyz"]),
            sum([b"a", b"b"], &[b"xy"]),
            sum([b"A", b"b"], &[b"xyz"]),
        ] {
            assert_ne!(other, whole);
        }
    }
}
