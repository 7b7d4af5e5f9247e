//! Makes lines of a reply out of any text.

use crate::lines::split_lines;

use super::MAX_LINES;

/// The lines of a text, each at most `limit` octets on the wire, at most [`MAX_LINES`] of them.
///
/// Control characters other than line breaks become spaces; empty lines at the end are dropped.
pub(super) fn fold(text: &[u8], limit: usize) -> Vec<Vec<u8>> {
    let mut lines = Vec::new();
    for line in split_lines(text) {
        let printable: Vec<u8> = line
            .iter()
            .map(|byte| if byte.is_ascii_control() { b' ' } else { *byte })
            .collect();
        wrap(&printable, limit, &mut lines);
        if lines.len() >= MAX_LINES {
            lines.truncate(MAX_LINES);
            break;
        }
    }
    while lines.last().is_some_and(Vec::is_empty) {
        lines.pop();
    }
    lines
}

/// Cuts a line into pieces of at most `limit` octets on the wire, at a space where there is one.
///
/// Stops when `out` holds [`MAX_LINES`] lines.
pub(super) fn wrap(mut line: &[u8], limit: usize, out: &mut Vec<Vec<u8>>) {
    while out.len() < MAX_LINES {
        let fits = fitting_prefix(line, limit);
        if fits == line.len() {
            out.push(line.to_vec());
            return;
        }
        // The space itself may stand just behind the last octet that fits: it is dropped.
        let (end, next) = match memchr::memrchr(b' ', &line[..=fits]) {
            Some(space) if space > 0 => (space, space + 1),
            _ => {
                let end = character_boundary(line, fits);
                (end, end)
            }
        };
        out.push(line[..end].to_vec());
        line = &line[next..];
    }
}

/// How many octets a line takes on the wire: `%` is doubled there.
pub(super) fn wire_len(line: &[u8]) -> usize {
    line.len() + memchr::memchr_iter(b'%', line).count()
}

/// The length of the longest prefix that takes at most `limit` octets on the wire.
fn fitting_prefix(line: &[u8], limit: usize) -> usize {
    let mut width = 0;
    line.iter()
        .position(|&byte| {
            width += if byte == b'%' { 2 } else { 1 };
            width > limit
        })
        .unwrap_or(line.len())
}

/// The last place at or before `at` that does not cut a UTF-8 character; `at` itself where the
/// bytes are not UTF-8.
fn character_boundary(line: &[u8], at: usize) -> usize {
    let is_continuation = |index: usize| line[index] & 0xc0 == 0x80;
    (at.saturating_sub(3).max(1)..=at)
        .rev()
        .find(|&index| !is_continuation(index))
        .unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn c65_line_breaks_become_lines_and_controls_become_spaces() {
        assert_eq!(
            fold(b"a\r\nb\nc\rd\x00e\tf\x7f\r\n\n", 500),
            [&b"a"[..], b"b", b"c", b"d e f "]
        );
        assert_eq!(fold(b"a\r\n\r\nb", 500), [&b"a"[..], b"", b"b"]);
        assert!(fold(b"\r\n", 500).is_empty());
    }

    #[test]
    fn wraps_at_a_space_when_there_is_one() {
        assert_eq!(fold(b"one two three", 7), [&b"one two"[..], b"three"]);
        assert_eq!(fold(b"one two three", 8), [&b"one two"[..], b"three"]);
        assert_eq!(fold(b"abcdefghij", 4), [&b"abcd"[..], b"efgh", b"ij"]);
        assert_eq!(fold(b"%%%%%", 4), [&b"%%"[..], b"%%", b"%"]);
    }

    #[test]
    fn keeps_characters_whole() {
        let lines = fold("ääää".as_bytes(), 5);
        assert_eq!(lines, ["ää".as_bytes(), "ää".as_bytes()]);
        assert_eq!(fold(&[0x80; 6], 5), [&[0x80; 5][..], &[0x80]]);
    }

    #[test]
    fn c65_cuts_after_32_lines() {
        assert_eq!(fold(&b"x\n".repeat(100), 500).len(), 32);
        assert_eq!(fold("x".repeat(100_000).as_bytes(), 500).len(), 32);
    }

    proptest! {
        #[test]
        fn c65_every_line_fits(text in prop::collection::vec(any::<u8>(), 0..600), limit in 8..40_usize) {
            let lines = fold(&text, limit);
            prop_assert!(lines.len() <= MAX_LINES);
            for line in lines {
                prop_assert!(wire_len(&line) <= limit);
                prop_assert!(!line.iter().any(u8::is_ascii_control));
            }
        }
    }
}
