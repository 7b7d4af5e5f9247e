//! Lines of text that a program wrote, whatever its line breaks.

/// Splits at CRLF, CR and LF.
pub(crate) fn split_lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest.take()?;
        let Some(end) = memchr::memchr2(b'\r', b'\n', text) else {
            return Some(text);
        };
        let break_len = if text[end..].starts_with(b"\r\n") {
            2
        } else {
            1
        };
        rest = Some(&text[end + break_len..]);
        Some(&text[..end])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_at_each_kind_of_line_break() {
        let lines: Vec<_> = split_lines(b"a\r\nb\rc\nd\n\r\n").collect();
        assert_eq!(lines, [&b"a"[..], b"b", b"c", b"d", b"", b""]);
        assert_eq!(split_lines(b"").count(), 1);
    }
}
