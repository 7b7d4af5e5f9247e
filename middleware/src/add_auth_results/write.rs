//! The header, as RFC 8601 2.2 has it.

use super::{AuthResult, AuthResults};

/// Where lines are folded (RFC 5322 2.1.1).
const COLUMNS: usize = 78;
/// What stands before the value.
const NAME: &str = "Authentication-Results: ";
/// Most bytes of the value: half of what Sendmail takes for all headers of a mail
/// (`MaxHeadersLength`).
const MOST: usize = 16 * 1024;

/// The value: lines are separated by LF, and each but the first begins with a space.
///
/// Unfolded it is the text without the LFs. Results that no longer fit are left out; one always fits.
pub(super) fn value(id: &str, results: &AuthResults) -> String {
    let mut out = Folded {
        column: NAME.len(),
        text: String::new(),
    };
    out.word(&with_value("", id, Value::Plain));
    out.semicolon();
    let mut is_first = true;
    for result in results {
        let words = words(result);
        let bytes: usize = words.iter().map(|word| word.len() + 2).sum();
        if out.text.len() + bytes > MOST {
            break;
        }
        if !std::mem::take(&mut is_first) {
            out.semicolon();
        }
        for word in &words {
            out.word(word);
        }
    }
    if is_first {
        out.word("none");
    }
    out.text
}

/// The parts of a result between which a line may be broken.
// RFC 8601 2.2: resinfo, without the semicolon
pub(super) fn words(result: &AuthResult) -> Vec<String> {
    let mut words = vec![format!("{}={}", result.method(), result.result())];
    if let Some(reason) = result.reason() {
        let reason = with_value("reason=", reason, Value::Plain);
        // RFC 5322 3.2.4: a quoted string may be folded where it has white space
        words.extend(reason.split(' ').map(str::to_owned));
    }
    let properties = result.properties();
    words.extend(properties.map(|(name, value)| {
        let name = format!("{name}=");
        with_value(&name, value, Value::OfProperty)
    }));
    words
}

/// Text in lines.
struct Folded {
    text: String,
    column: usize,
}

impl Folded {
    /// A word behind a space, on the next line if it does not fit on this one.
    fn word(&mut self, word: &str) {
        let width = word.chars().count();
        if !self.text.is_empty() {
            // A semicolon may follow.
            if self.column + 1 + width + 1 > COLUMNS {
                self.text.push('\n');
                self.column = 0;
            }
            self.text.push(' ');
            self.column += 1;
        }
        self.text.push_str(word);
        self.column += width;
    }

    fn semicolon(&mut self) {
        self.text.push(';');
        self.column += 1;
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Value {
    /// RFC 8601 2.2 value: a token or a quoted string.
    Plain,
    /// RFC 8601 2.2 pvalue: also an address or a domain.
    OfProperty,
}

fn with_value(before: &str, value: &str, kind: Value) -> String {
    let mut out = before.to_owned();
    if is_token(value) || kind == Value::OfProperty && is_address(value) {
        out.push_str(value);
        return out;
    }
    out.push('"');
    for char in value.chars() {
        if matches!(char, '"' | '\\') {
            out.push('\\');
        }
        out.push(char);
    }
    out.push('"');
    out
}

/// RFC 2045 5.1: token.
fn is_token(value: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&byte);
    !value.is_empty() && value.bytes().all(is_inner)
}

/// RFC 8601 2.2: `[local-part] "@" domain-name`, without quotes and folding in either.
fn is_address(value: &str) -> bool {
    let Some((local, domain)) = value.rsplit_once('@') else {
        return false;
    };
    // RFC 5322 3.2.3: dot-atom-text; RFC 6376 3.5: domain-name
    let is_atext =
        |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte);
    let is_atom = |part: &str| !part.is_empty() && part.bytes().all(is_atext);
    let is_label = |label: &str| {
        let is_ldh = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let is_edged = label.starts_with('-') || label.ends_with('-');
        !label.is_empty() && !is_edged && label.bytes().all(is_ldh)
    };
    (local.is_empty() || local.split('.').all(is_atom))
        && domain.contains('.')
        && domain.split('.').all(is_label)
}

/// RFC 8601 2.2, RFC 5321 4.1.2: Keyword.
pub(super) fn is_keyword(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let bytes = text.as_bytes();
    let ends = bytes.last().is_some_and(u8::is_ascii_alphanumeric);
    ends && bytes.len() <= 64 && bytes.iter().copied().all(is_inner)
}

pub(super) fn is_id(id: &str) -> bool {
    let is_inner = |byte: u8| matches!(byte, b' '..=b'~');
    (1..=253).contains(&id.len()) && id.bytes().all(is_inner) && id.trim() == id
}
