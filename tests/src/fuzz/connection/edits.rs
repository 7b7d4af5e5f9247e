//! Modifications, legal or not.

use milter_core::Modification;
use milter_tower::Response;

use super::super::input::Choices;

/// Adds edits, a letter each and one for its text, up to a `;`.
pub(in crate::fuzz) fn add(mut response: Response, input: &mut Choices<'_>) -> Response {
    while !input.is_empty() {
        let letter = input.letter(b";hixdbe+2-qBH");
        if letter == b';' {
            break;
        }
        let text = text(input.below(8));
        let name: &[u8] = if input.below(8) == 7 {
            b"no name"
        } else {
            b"X-A"
        };
        let index = u32::try_from(input.below(4)).expect("small");
        response = match letter {
            b'h' => response.add_header(name, text),
            b'i' => response.insert_header(index, name, text),
            b'x' => response.change_header(name, index, text),
            b'd' => response.delete_header(name, index),
            b'b' => response.edit(Modification::replace_body(text)),
            b'e' => response.change_sender(text),
            b'+' => response.add_recipient(text),
            b'2' => response.try_edit(Modification::add_recipient_with_args(text, name)),
            b'-' => response.delete_recipient(text),
            b'q' => response.quarantine(text),
            // More than one piece, and more than a frame holds.
            b'B' => response.replace_body(vec![b'x'; 70_000]),
            _ => response.add_header("X-Long", vec![b'x'; 66_000]),
        };
    }
    response
}

fn text(number: usize) -> &'static [u8] {
    [
        &b"<a@example.org>"[..],
        b"",
        b"a@example.org",
        b"two\r\nBcc: lines",
        b"<>",
        b" \xff%s",
        b"nul\0",
        b"a@b, c@d",
    ][number]
}
