//! Reading base64 as it comes in mails.

/// Appends what the text stands for, as far as it is base64, and says how much of it that is.
///
/// Bytes that `is_nothing` names mean nothing. Padding may lack.
// RFC 2045 6.8
pub(crate) fn decode(text: &[u8], is_nothing: fn(u8) -> bool, into: &mut Vec<u8>) -> usize {
    let (mut bits, mut count) = (0_u32, 0);
    for (at, byte) in text.iter().enumerate() {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => {
                count = 0;
                continue;
            }
            byte if is_nothing(*byte) => continue,
            _ => return at,
        };
        bits = bits << 6 | u32::from(digit);
        count += 6;
        if count >= 8 {
            count -= 8;
            into.extend((bits >> count).to_le_bytes().first());
        }
    }
    text.len()
}
