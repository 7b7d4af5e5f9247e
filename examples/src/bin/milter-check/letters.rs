//! The mails that are sent.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use mail_parser::{Address as Addresses, MessageParser};
use milter_tower::testing::Mail;

use crate::args::{Args, Envelope};
use crate::trouble::Trouble;

/// A mail, and what it is called.
#[derive(Debug)]
pub(crate) struct Letter {
    pub(crate) name: String,
    pub(crate) mail: Mail,
}

/// Reads all of them: a file that is missing is told before anything is sent.
pub(crate) fn load(args: &Args) -> Result<Vec<Letter>, Trouble> {
    if args.files.is_empty() {
        let mail = addressed(Mail::new(), &args.envelope);
        return Ok(vec![Letter {
            name: "a short letter".into(),
            mail: args.send(mail),
        }]);
    }
    let read = |path: &std::path::PathBuf| {
        let eml = content(path).map_err(|error| Trouble::Mail(path.clone(), error))?;
        Ok(Letter {
            name: path.to_string_lossy().into_owned(),
            mail: args.send(of_file(&eml, &args.envelope)),
        })
    };
    args.files.iter().map(read).collect()
}

fn content(path: &Path) -> io::Result<Vec<u8>> {
    if path.as_os_str() != "-" {
        return fs::read(path);
    }
    let mut eml = Vec::new();
    io::stdin().read_to_end(&mut eml)?;
    Ok(eml)
}

/// A mail as it stands in a file. Its headers say whom it is from and to unless that was given.
fn of_file(eml: &[u8], envelope: &Envelope) -> Mail {
    let mut mail = Mail::from_eml(eml);
    // What a mailbox has before the headers would hide them.
    let text = mail.to_eml();
    if let Some(head) = MessageParser::new().parse_headers(&text[..]) {
        let from = first(head.from()).or_else(|| first(head.sender()));
        if let (Some(from), None) = (from, &envelope.from) {
            mail = mail.from(from);
        }
        if envelope.to.is_empty() {
            let to = all(head.to()).chain(all(head.cc()));
            mail = to.fold(mail, Mail::to);
        }
    }
    addressed(mail, envelope)
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

fn addressed(mut mail: Mail, envelope: &Envelope) -> Mail {
    if let Some(from) = &envelope.from {
        let (address, args) = with_args(from);
        mail = mail.mail_from(address, args);
    }
    for to in &envelope.to {
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

    fn envelope(from: Option<&str>, to: &[&str]) -> Envelope {
        Envelope {
            from: from.map(Into::into),
            to: to.iter().map(|to| (*to).into()).collect(),
        }
    }

    fn sent(eml: &str, envelope: &Envelope) -> (String, Vec<String>) {
        let mail = of_file(eml.as_bytes(), envelope);
        let to = mail.recipients();
        let to = to.iter().map(|to| to.address().to_string()).collect();
        (mail.sender().address().to_string(), to)
    }

    const EML: &str = "From x@y Thu Jan  1\nFrom: \"A, B\" <a@example.org>\n\
        To: Bob <b@example.net>,\n c@example.net\nCc: staff: d@example.net;\nSubject: s\n\nhi\n";

    #[test]
    fn headers_say_whom_a_mail_is_from_and_to() {
        let (from, to) = sent(EML, &envelope(None, &[]));
        assert_eq!(from, "<a@example.org>");
        assert_eq!(
            to,
            ["<b@example.net>", "<c@example.net>", "<d@example.net>"]
        );
    }

    #[test]
    fn what_is_given_holds() {
        let (from, to) = sent(
            EML,
            &envelope(Some("<>"), &["<x@example.net>", "y@z NOTIFY=NEVER"]),
        );
        assert_eq!(from, "<>");
        assert_eq!(to, ["<x@example.net>", "<y@z>"]);
        let mail = of_file(
            EML.as_bytes(),
            &envelope(Some("a@b SIZE=1 BODY=8BITMIME"), &[]),
        );
        assert_eq!(mail.sender().args().into_iter().count(), 2);
    }

    #[test]
    fn without_any_of_it_there_is_the_usual() {
        let (from, to) = sent("Subject: s\n\nhi\n", &envelope(None, &[]));
        assert_eq!((from.as_str(), to.len()), ("<alice@example.org>", 1));
        let (from, _) = sent("From: undisclosed\nTo:\n\nhi\n", &envelope(None, &[]));
        assert_eq!(from, "<alice@example.org>");
    }
}
