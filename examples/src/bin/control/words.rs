//! Lines of words.
//!
//! Words are separated by spaces. In a word `%XX` stands for a byte, and a word that is just `%`
//! for the empty string. Values are bytes and need not be UTF-8.

/// The words of a line, still encoded.
pub(crate) fn split(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|&byte| byte == b' ')
        .filter(|word| !word.is_empty())
}

/// What a word stands for. A `%` without two digits after it stands for itself.
pub(crate) fn decode(word: &[u8]) -> Vec<u8> {
    if word == b"%" {
        return Vec::new();
    }
    let mut decoded = Vec::with_capacity(word.len());
    let mut rest = word;
    while let [first, after @ ..] = rest {
        if let (b'%', Some(byte)) = (first, hex_byte(after)) {
            decoded.push(byte);
            rest = &after[2..];
        } else {
            decoded.push(*first);
            rest = after;
        }
    }
    decoded
}

/// The byte that the first two digits stand for.
fn hex_byte(digits: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*digits.get(at)?).to_digit(16);
    u8::try_from(digit(0)? << 4 | digit(1)?).ok()
}

/// Appends a word to a line.
pub(crate) fn push(line: &mut Vec<u8>, word: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    if !line.is_empty() {
        line.push(b' ');
    }
    if word.is_empty() {
        line.push(b'%');
    }
    for &byte in word {
        match byte {
            0..=b' ' | 0x7f.. | b'%' => {
                line.push(b'%');
                line.push(DIGITS[usize::from(byte >> 4)]);
                line.push(DIGITS[usize::from(byte & 0xf)]);
            }
            _ => line.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_as_they_went() {
        let all: Vec<u8> = (0..=255).collect();
        let given: [&[u8]; 5] = [b"", b"%", b"a b", b"100%41", &all];
        let mut line = Vec::new();
        for word in given {
            push(&mut line, word);
        }
        let words: Vec<_> = split(&line).map(decode).collect();
        assert_eq!(words, given);
        assert!(!line.contains(&b'\n') && line.is_ascii());
    }

    #[test]
    fn what_is_no_escape_stands_for_itself() {
        assert_eq!(decode(b"%4g%+5%4"), b"%4g%+5%4");
        assert_eq!(decode(b"%%41%"), b"%A%");
        assert_eq!(decode(b"%c3%A9"), b"\xc3\xa9");
        assert_eq!(split(b" a  b ").count(), 2);
    }
}
