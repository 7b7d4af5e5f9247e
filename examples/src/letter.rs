//! A mail from a file, with the envelope that it had, most likely.

use mail_parser::{Address as Addresses, MessageParser};
use milter_tower::testing::Mail;

/// A mail as it stands in a file. Its headers say whom it is from and to unless that is given.
pub fn of_file(eml: &[u8], from: Option<&str>, to: &[String]) -> Mail {
    let mut mail = Mail::from_eml(eml);
    // What a mailbox has before the headers would hide them.
    let text = mail.to_eml();
    if let Some(head) = MessageParser::new().parse_headers(&text[..]) {
        let author = first(head.from()).or_else(|| first(head.sender()));
        if let (Some(author), None) = (author, from) {
            mail = mail.from(author);
        }
        if to.is_empty() {
            let to = all(head.to()).chain(all(head.cc()));
            mail = to.fold(mail, Mail::to);
        }
    }
    addressed(mail, from, to)
}

fn first<'a>(addresses: Option<&'a Addresses<'a>>) -> Option<&'a str> {
    all(addresses).next()
}

/// Only what can be one: a header may have anything.
fn all<'a>(addresses: Option<&'a Addresses<'a>>) -> impl Iterator<Item = &'a str> {
    let addresses = addresses.into_iter().flat_map(Addresses::iter);
    addresses
        .filter_map(|address| address.address.as_deref())
        .filter(|address| address.contains('@') && !address.contains(char::is_whitespace))
}

/// A mail from and to these, as far as they are given; each maybe with ESMTP arguments behind it.
pub fn addressed(mut mail: Mail, from: Option<&str>, to: &[String]) -> Mail {
    if let Some(from) = from {
        let (address, args) = with_args(from);
        mail = mail.mail_from(address, args);
    }
    for to in to {
        let (address, args) = with_args(to);
        mail = mail.rcpt_to(address, args);
    }
    mail
}

/// An address and the ESMTP arguments behind it.
fn with_args(text: &str) -> (&str, impl Iterator<Item = &str>) {
    let mut words = text.split_ascii_whitespace();
    (words.next().unwrap_or_default(), words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(eml: &str, from: Option<&str>, to: &[&str]) -> (String, Vec<String>) {
        let to: Vec<_> = to.iter().map(|to| (*to).to_owned()).collect();
        let mail = of_file(eml.as_bytes(), from, &to);
        let to = mail.recipients();
        let to = to.iter().map(|to| to.address().to_string()).collect();
        (mail.sender().address().to_string(), to)
    }

    const EML: &str = "From x@y Thu Jan  1\nFrom: \"A, B\" <a@example.org>\n\
        To: Bob <b@example.net>,\n c@example.net\nCc: staff: d@example.net;\nSubject: s\n\nhi\n";

    #[test]
    fn headers_say_whom_a_mail_is_from_and_to() {
        let (from, to) = sent(EML, None, &[]);
        assert_eq!(from, "<a@example.org>");
        assert_eq!(
            to,
            ["<b@example.net>", "<c@example.net>", "<d@example.net>"]
        );
    }

    #[test]
    fn what_is_given_holds() {
        let given = ["<x@example.net>", "y@z NOTIFY=NEVER"];
        let (from, to) = sent(EML, Some("<>"), &given);
        assert_eq!(from, "<>");
        assert_eq!(to, ["<x@example.net>", "<y@z>"]);
        let mail = of_file(EML.as_bytes(), Some("a@b SIZE=1 BODY=8BITMIME"), &[]);
        assert_eq!(mail.sender().args().into_iter().count(), 2);
    }

    #[test]
    fn without_any_of_it_there_is_the_usual() {
        let (from, to) = sent("Subject: s\n\nhi\n", None, &[]);
        assert_eq!((from.as_str(), to.len()), ("<alice@example.org>", 1));
        let (from, _) = sent("From: undisclosed\nTo:\n\nhi\n", None, &[]);
        assert_eq!(from, "<alice@example.org>");
    }
}
