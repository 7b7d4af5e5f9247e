//! Domain names that may be internationalized.

/// Whether two domain names are the same.
///
/// The case of letters does not count, nor does a dot at the end, and a label may be written in
/// Unicode or as its A-label: `bücher.example` is `xn--bcher-kva.example` (RFC 5890 2.3.2.1).
///
/// Unicode labels are compared as the protocol has them: valid U-labels, which are normalized
/// (RFC 5890 2.3.2.1, RFC 6531 3.3). No other spelling of one, such as full-width letters, is the
/// same here; nor is an address literal the same as a name.
///
/// ```
/// use milter_core::same_domain;
///
/// assert!(same_domain("Example.ORG", "example.org."));
/// assert!(same_domain("BÜCHER.example", "xn--bcher-kva.example"));
/// assert!(!same_domain("example.org", "mail.example.org"));
/// ```
pub fn same_domain(one: impl AsRef<[u8]>, other: impl AsRef<[u8]>) -> bool {
    same(one.as_ref(), other.as_ref())
}

fn same(one: &[u8], other: &[u8]) -> bool {
    let [one, other] = [one, other].map(|name| name.strip_suffix(b".").unwrap_or(name));
    if one.eq_ignore_ascii_case(other) {
        return true;
    }
    if ![one, other].into_iter().any(has_spellings) {
        return false;
    }
    let [Some(one), Some(other)] = [one, other].map(unicode) else {
        return false;
    };
    one == other
}

/// Whether there may be another spelling than that of the ASCII letters.
fn has_spellings(name: &[u8]) -> bool {
    let mut parts = name.windows(4);
    !name.is_ascii() || parts.any(|part| part.eq_ignore_ascii_case(b"xn--"))
}

/// A domain name as a key of maps and sets: two names have the same key if they are the
/// [same](same_domain).
///
/// For lists that are too long to compare a name with each entry. It is not to be shown, nor sent.
///
/// ```
/// use std::collections::HashSet;
///
/// use milter_core::domain_key;
///
/// let listed = HashSet::from([domain_key("bücher.example")]);
/// assert!(listed.contains(&domain_key("XN--Bcher-KVA.example.")));
/// ```
pub fn domain_key(name: impl AsRef<[u8]>) -> String {
    let name = name.as_ref();
    let name = name.strip_suffix(b".").unwrap_or(name);
    // What is not text has no other spelling but that of its ASCII letters.
    unicode(name).unwrap_or_else(|| escaped_key(name))
}

/// A key of what is not text, which is that of no text: no name or address holds a NUL.
pub(crate) fn escaped_key(name: &[u8]) -> String {
    format!("\0{}", name.escape_ascii()).to_ascii_lowercase()
}

/// The name in Unicode and small letters, if it is text.
fn unicode(name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?;
    // RFC 3490 3.1: other characters that are taken for a dot
    let labels = name.split(['.', '\u{3002}', '\u{ff0e}', '\u{ff61}']);
    let labels: Vec<String> = labels.map(unicode_label).collect();
    Some(labels.join("."))
}

fn unicode_label(label: &str) -> String {
    let prefix = label.get(..4);
    let is_encoded = prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case("xn--"));
    let decoded = is_encoded.then(|| decode_punycode(&label[4..])).flatten();
    // An A-label stands for a U-label, which has no capitals and is not ASCII.
    decoded
        .filter(|label| !label.is_ascii())
        .unwrap_or_else(|| label.to_lowercase())
}

/// Longest label in octets (RFC 1035 2.3.4).
const MAX_LABEL: usize = 63;

/// What the rest of an A-label stands for.
// RFC 3492 6.2, with the parameters of section 5
fn decode_punycode(encoded: &str) -> Option<String> {
    const BASE: u32 = 36;
    const T_MIN: u32 = 1;
    const T_MAX: u32 = 26;

    if !encoded.is_ascii() || encoded.len() > MAX_LABEL {
        return None;
    }
    let (basic, deltas) = encoded.rsplit_once('-').unwrap_or(("", encoded));
    let mut decoded: Vec<char> = basic.to_ascii_lowercase().chars().collect();
    let mut point: u32 = 128;
    let mut bias: u32 = 72;
    let mut state: u32 = 0;
    let mut digits = deltas.bytes().peekable();
    while digits.peek().is_some() {
        let before = state;
        let mut weight: u32 = 1;
        let mut k = BASE;
        loop {
            let digit = digit(digits.next()?)?;
            state = state.checked_add(digit.checked_mul(weight)?)?;
            let threshold = k.saturating_sub(bias).clamp(T_MIN, T_MAX);
            if digit < threshold {
                break;
            }
            weight = weight.checked_mul(BASE - threshold)?;
            k += BASE;
        }
        let count = u32::try_from(decoded.len()).ok()?.checked_add(1)?;
        bias = adapt(state - before, count, before == 0);
        point = point.checked_add(state / count)?;
        state %= count;
        decoded.insert(usize::try_from(state).ok()?, char::from_u32(point)?);
        state += 1;
    }
    Some(decoded.into_iter().collect())
}

fn digit(byte: u8) -> Option<u32> {
    let digit = match byte {
        b'a'..=b'z' => byte - b'a',
        b'A'..=b'Z' => byte - b'A',
        b'0'..=b'9' => byte - b'0' + 26,
        _ => return None,
    };
    Some(digit.into())
}

// RFC 3492 6.1
fn adapt(delta: u32, count: u32, is_first: bool) -> u32 {
    let mut delta = if is_first { delta / 700 } else { delta / 2 };
    delta += delta / count;
    let mut k = 0;
    while delta > ((36 - 1) * 26) / 2 {
        delta /= 36 - 1;
        k += 36;
    }
    k + 36 * delta / (delta + 38)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn punycode_as_rfc_3492_7_1_shows() {
        for (encoded, text) in [
            ("egbpdaj6bu4bxfgehfvwxn", "ليهمابتكلموشعربي؟"),
            ("ihqwcrb4cv8a8dqg056pqjye", "他们为什么不说中文"),
            ("Proprostnemluvesky-uyb24dma41a", "pročprostěnemluvíčesky"),
            (
                "n8jok5ay5dzabd5bym9f0cm5685rrjetr6pdxa",
                "なぜみんな日本語を話してくれないのか",
            ),
            (
                "b1abfaaepdrnnbgefbaDotcwatmq2g4l",
                "почемужеонинеговорятпорусски",
            ),
            (
                "TisaohkhngthchnitingVit-kjcr8268qyxafd2f1b9g",
                "tạisaohọkhôngthểchỉnóitiếngviệt",
            ),
            ("MajiKoi5-783gue6qz075azm5e", "majiでkoiする5秒前"),
            ("2-u9tlzr9756bt3uc0v", "ひとつ屋根の下2"),
            ("bcher-kva", "bücher"),
        ] {
            assert_eq!(decode_punycode(encoded).as_deref(), Some(text), "{encoded}");
        }
        for bad in [
            "b\u{fc}cher",
            "99999999",
            "bcher-kv_",
            "a-9",
            &"a".repeat(64),
        ] {
            assert_eq!(decode_punycode(bad), None, "{bad}");
        }
    }

    #[test]
    fn names_have_several_spellings() {
        for (one, other) in [
            ("", ""),
            ("example.org", "EXAMPLE.org."),
            ("Bücher.Example", "XN--BCHER-KVA.example"),
            ("xn--bcher-kva.example", "xn--BCHER-kva.EXAMPLE"),
            ("a.bücher。example", "A.xn--bcher-kva.example"),
            ("xn--99999999.example", "XN--99999999.example."),
            ("пример.испытание", "xn--e1afmkfd.xn--80akhbyknj4f"),
            ("[IPv6:::1]", "[ipv6:::1]"),
        ] {
            assert!(
                same_domain(one, other) && same_domain(other, one),
                "{one} {other}"
            );
            assert_eq!(domain_key(one), domain_key(other));
        }
        for (one, other) in [
            ("example.org", "example.com"),
            ("example.org", "mail.example.org"),
            ("example.org", "example.org.."),
            ("bücher.example", "bucher.example"),
            ("bücher.example", "xn--bcher-kvb.example"),
            // A-labels of what is ASCII stand for nothing.
            ("xn--example-.org", "example.org"),
            ("xn--.org", ".org"),
            ("xn--bcher-kva", "bcher-kva"),
        ] {
            assert!(
                !same_domain(one, other) && !same_domain(other, one),
                "{one} {other}"
            );
            assert_ne!(domain_key(one), domain_key(other));
        }
        assert!(!same_domain(b"\xff", "\u{fffd}"));
        assert!(same_domain(b"\xffA", b"\xffa"));
        assert_ne!(domain_key(b"\xff"), domain_key("\u{fffd}"));
        assert_ne!(domain_key(b"\xff"), domain_key(r"\xff"));
        assert_eq!(domain_key(b"\xffA"), domain_key(b"\xffa"));
    }

    proptest! {
        #[test]
        fn no_name_makes_it_panic(name in "(xn--)?[a-zA-Z0-9-]{0,70}", other in "\\PC{0,10}") {
            prop_assert!(same_domain(&name, &name));
            _ = same_domain(&name, &other);
            _ = same_domain(name.as_bytes(), b"\xff");
        }
    }
}
